//! Values of columns, both ways. What cannot be read is [`StoreError::Corrupt`] and names its column.

use edgeward_core::record::Standing;
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use edgeward_store::durable::{DataKeyUse, KeyPurpose, KeyStatus, SecretStatus};
use edgeward_wire::AgentId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type};

use crate::error::{corrupt, failed};

/// A column as SQLite has it.
pub(crate) fn plain<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(failed)
}

/// A column of text, read by `parse`.
pub(crate) fn text<T>(
    row: &SqliteRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parse(plain(row, column)?).ok_or_else(|| unreadable(column))
}

/// A column of text that may be null.
pub(crate) fn text_or_none<T>(
    row: &SqliteRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = plain(row, column)?;
    text.map(|text| parse(text).ok_or_else(|| unreadable(column))).transpose()
}

/// A column of JSON.
pub(crate) fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// JSON for a column.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(format!("no JSON: {error}")))
}

/// A count, a version, an epoch.
pub(crate) fn number<T: TryFrom<i64>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    T::try_from(plain(row, column)?).map_err(|_| unreadable(column))
}

/// A moment.
pub(crate) fn moment(row: &SqliteRow, column: &'static str) -> Result<WallMs, StoreError> {
    number(row, column).map(WallMs)
}

/// A moment that may be null.
pub(crate) fn moment_or_none(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<WallMs>, StoreError> {
    let ms: Option<i64> = plain(row, column)?;
    ms.map(|ms| u64::try_from(ms).map(WallMs).map_err(|_| unreadable(column))).transpose()
}

/// A moment for a column; one past the year 292,277,026 is that year.
pub(crate) fn to_ms(at: WallMs) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// A column of exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<[u8; N], StoreError> {
    plain::<&[u8]>(row, column)?.try_into().map_err(|_| unreadable(column))
}

/// An agent's id.
pub(crate) fn agent_id(text: &str) -> Option<AgentId> {
    AgentId::parse(text).ok()
}

pub(crate) fn unreadable(column: &'static str) -> StoreError {
    corrupt(format!("column {column} holds what it cannot hold"))
}

/// Names of an enum's values, written once for both ways.
macro_rules! names {
    ($($enum:ident, $write:ident, $read:ident { $($value:ident $text:literal)* })*) => {$(
        pub(crate) fn $write(value: $enum) -> &'static str {
            match value { $($enum::$value => $text,)* }
        }

        pub(crate) fn $read(text: &str) -> Option<$enum> {
            match text { $($text => Some($enum::$value),)* _ => None }
        }
    )*};
}

names! {
    SecretStatus, secret_status_name, secret_status {
        Prepared "prepared" Active "active" Grace "grace" Retired "retired"
        Compromised "compromised"
    }
    Standing, standing_name, standing { Active "active" Blocked "blocked" Retired "retired" }
    DataKeyUse, data_key_use_name, data_key_use { AtRest "at_rest" Fleet "fleet" }
    KeyPurpose, purpose_name, purpose { Agent "agent" Identity "identity" }
    KeyStatus, key_status_name, key_status {
        Next "next" Active "active" Retiring "retiring" Retired "retired"
        Compromised "compromised"
    }
}
