//! Whom a node is logged in as. The policies bind no superuser, nobody with `BYPASSRLS`, and not for
//! long whoever owns the tables or may make itself a member of what it likes.

use edgeward_store::StoreError;
use sqlx::postgres::PgConnection;

use crate::column;
use crate::error::{failed, unavailable};
use crate::schema::SchemaName;

const LOOK: &str = "
    SELECT current_user::text AS name, rolsuper, rolbypassrls, rolcreaterole,
           rolsuper OR pg_has_role(current_user, relowner, 'MEMBER') AS owns
    FROM pg_catalog.pg_roles, pg_catalog.pg_class
    WHERE rolname = current_user AND pg_class.oid = to_regclass($1)";

/// Refuses such a role, or only warns of it.
pub(crate) async fn verify(
    connection: &mut PgConnection,
    schema: &SchemaName,
    strict: bool,
) -> Result<(), StoreError> {
    let row = sqlx::query(LOOK)
        .persistent(false)
        .bind(format!("{}.migrations", schema.quoted()))
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    let traits = [
        ("rolsuper", "is a superuser"),
        ("rolbypassrls", "may bypass row-level security"),
        ("rolcreaterole", "may make roles"),
        ("owns", "owns the tables"),
    ];
    let mut found = Vec::new();
    for (column, meaning) in traits {
        if column::plain::<bool>(&row, column)? {
            found.push(meaning);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let name: String = column::plain(&row, "name")?;
    let text = format!(
        "the database's role {name} {}: log in as edgeward_edge or a member of it",
        found.join(", ")
    );
    if strict {
        return Err(unavailable(text));
    }
    tracing::warn!(role = name, "{text}");
    Ok(())
}
