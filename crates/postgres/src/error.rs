//! What the database says, as [`StoreError`]. None of it carries a password: the driver's errors name
//! hosts, users and tables only, and the text of a URL is never repeated.

use edgeward_store::StoreError;

/// `data_corrupted` and `index_corrupted`.
const DAMAGED: [&str; 2] = ["XX001", "XX002"];

/// Damage is told apart from what may pass.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's list of errors is open")]
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_) => corrupt(error.to_string()),
        sqlx::Error::Database(database) => match database.code() {
            Some(code) if DAMAGED.contains(&&*code) => corrupt(error.to_string()),
            Some(code) => unavailable(format!("{} ({code})", database.message())),
            None => unavailable(database.message()),
        },
        _ => unavailable(error.to_string()),
    }
}

/// A row that does not hold what it should.
pub(crate) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}

/// It could not look, or could not do it.
pub(crate) fn unavailable(why: impl Into<String>) -> StoreError {
    StoreError::Unavailable(why.into())
}
