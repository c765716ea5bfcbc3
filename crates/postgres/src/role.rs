//! Whom a node is logged in as. The policies bind no superuser, nobody with `BYPASSRLS`, and not for
//! long whoever owns the tables or may make itself a member of what it likes. Nor do they bind whoever
//! may become such a role, as every member of it may.

use edgeward_store::StoreError;
use sqlx::postgres::PgConnection;

use crate::column;
use crate::error::{failed, unavailable};
use crate::schema::SchemaName;

/// Over all roles that this one is, or may become; it may have been become already. A superuser counts
/// as a member of all.
const LOOK: &str = "
    SELECT current_user::text AS name,
           bool_or(rolsuper) AS super, bool_or(rolbypassrls) AS bypasses,
           bool_or(rolcreaterole) AS makes,
           bool_or(role.oid = (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = $1)
                   OR role.oid IN (SELECT relowner FROM pg_catalog.pg_class
                                   JOIN pg_catalog.pg_namespace AS space ON space.oid = relnamespace
                                   WHERE nspname = $1)) AS owns
    FROM pg_catalog.pg_roles AS role
    WHERE pg_catalog.pg_has_role(current_user, role.oid, 'MEMBER')
          OR pg_catalog.pg_has_role(session_user, role.oid, 'MEMBER')";

/// Refuses such a role, or only warns of it.
pub(crate) async fn verify(
    connection: &mut PgConnection,
    schema: &SchemaName,
    strict: bool,
) -> Result<(), StoreError> {
    let row = sqlx::query(LOOK)
        .persistent(false)
        .bind(schema.as_str())
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    let traits = [
        ("super", "is a superuser or may become one"),
        ("bypasses", "may bypass row-level security"),
        ("makes", "may make roles"),
        ("owns", "owns the tables or may become their owner"),
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
