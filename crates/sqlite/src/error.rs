//! What the database says, as [`StoreError`].

use std::path::Path;

use edgeward_store::StoreError;

/// `SQLITE_CORRUPT` and `SQLITE_NOTADB`, without their extensions.
const DAMAGED: [u32; 2] = [11, 26];

/// Damage is told apart from what may pass.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's list of errors is open")]
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            StoreError::Corrupt(error.to_string())
        }
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<u32>().ok());
            if code.is_some_and(|code| DAMAGED.contains(&(code & 0xff))) {
                StoreError::Corrupt(error.to_string())
            } else {
                StoreError::Unavailable(error.to_string())
            }
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// A row that does not hold what it should.
pub(crate) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}

pub(crate) trait Context<T> {
    /// Names the file.
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for Result<T, StoreError> {
    fn at(self, path: &Path) -> Self {
        let path = path.display();
        self.map_err(|error| match error {
            StoreError::Unavailable(text) => StoreError::Unavailable(format!("{path}: {text}")),
            StoreError::Corrupt(text) => StoreError::Corrupt(format!("{path}: {text}")),
            StoreError::MarkLapsed => StoreError::MarkLapsed,
        })
    }
}
