//! Values of columns, both ways. What cannot be read is [`StoreError::Corrupt`] and names its column.

use edgeward_core::record::Standing;
use edgeward_core::time::WallMs;
use edgeward_store::StoreError;
use edgeward_store::durable::{DataKeyUse, KeyPurpose, KeyStatus, SecretStatus};
use edgeward_wire::{AgentId, OwnerId, Scope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::types::Json;
use sqlx::{Decode, Encode, Postgres, Row as _, Type};
use uuid::Uuid;

use crate::error::{corrupt, failed};

/// A `timestamptz`, to the millisecond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(pub(crate) WallMs);

/// 2000-01-01, from where Postgres counts microseconds.
const EPOCH_US: i64 = 946_684_800_000_000;

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // A moment past the year 294,246 is in that year.
        let us = i64::try_from(self.0.0).unwrap_or(i64::MAX).saturating_mul(1000);
        Encode::<Postgres>::encode_by_ref(&(us - EPOCH_US), buffer)
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a moment in text".into());
        }
        let us: i64 = Decode::<Postgres>::decode(value)?;
        let ms = us.checked_add(EPOCH_US).ok_or("infinity")?.div_euclid(1000);
        Ok(Self(WallMs(u64::try_from(ms).map_err(|_| "before 1970")?)))
    }
}

/// A moment for a column that may be null.
pub(crate) fn moment_or_null(at: Option<WallMs>) -> Option<Moment> {
    at.map(Moment)
}

/// An agent's id for a column.
pub(crate) fn uuid(id: AgentId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A column as Postgres has it.
pub(crate) fn plain<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(failed)
}

/// A column of text, read by `parse`.
pub(crate) fn text<T>(
    row: &PgRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parse(plain(row, column)?).ok_or_else(|| unreadable(column))
}

/// A column of text that may be null.
pub(crate) fn text_or_none<T>(
    row: &PgRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = plain(row, column)?;
    text.map(|text| parse(text).ok_or_else(|| unreadable(column))).transpose()
}

/// A count, a version, an epoch.
pub(crate) fn number<T: TryFrom<i64>>(row: &PgRow, column: &'static str) -> Result<T, StoreError> {
    T::try_from(plain(row, column)?).map_err(|_| unreadable(column))
}

/// A moment.
pub(crate) fn moment(row: &PgRow, column: &'static str) -> Result<WallMs, StoreError> {
    plain::<Moment>(row, column).map(|Moment(at)| at)
}

/// A moment that may be null.
pub(crate) fn moment_or_none(
    row: &PgRow,
    column: &'static str,
) -> Result<Option<WallMs>, StoreError> {
    Ok(plain::<Option<Moment>>(row, column)?.map(|Moment(at)| at))
}

/// An agent's id.
pub(crate) fn agent_id(row: &PgRow, column: &'static str) -> Result<AgentId, StoreError> {
    plain::<Uuid>(row, column).map(|id| AgentId::from_bytes(id.into_bytes()))
}

/// An agent's id that may be null.
pub(crate) fn agent_id_or_none(
    row: &PgRow,
    column: &'static str,
) -> Result<Option<AgentId>, StoreError> {
    let id: Option<Uuid> = plain(row, column)?;
    Ok(id.map(|id| AgentId::from_bytes(id.into_bytes())))
}

/// A column of exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(
    row: &PgRow,
    column: &'static str,
) -> Result<[u8; N], StoreError> {
    plain::<&[u8]>(row, column)?.try_into().map_err(|_| unreadable(column))
}

/// An owner.
pub(crate) fn owner(text: &str) -> Option<OwnerId> {
    OwnerId::parse(text).ok()
}

/// Scopes.
pub(crate) fn scopes(row: &PgRow, column: &'static str) -> Result<Vec<Scope>, StoreError> {
    let scopes = plain::<Vec<String>>(row, column)?;
    let scopes = scopes.iter().map(|scope| Scope::parse(scope).ok()).collect::<Option<_>>();
    scopes.ok_or_else(|| unreadable(column))
}

/// Scopes for a column.
pub(crate) fn scope_names(scopes: &[Scope]) -> Vec<String> {
    scopes.iter().map(|scope| scope.as_str().to_owned()).collect()
}

/// A column of JSON.
pub(crate) fn json<T: DeserializeOwned>(
    row: &PgRow,
    column: &'static str,
) -> Result<T, StoreError> {
    read_json(plain::<Json<Value>>(row, column)?, column)
}

/// A column of JSON that may be null.
pub(crate) fn json_or_none<T: DeserializeOwned>(
    row: &PgRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let value: Option<Json<Value>> = plain(row, column)?;
    value.map(|value| read_json(value, column)).transpose()
}

fn read_json<T: DeserializeOwned>(
    Json(value): Json<Value>,
    column: &'static str,
) -> Result<T, StoreError> {
    let value = each_text(value, &restored);
    serde_json::from_value(value).map_err(|_| unreadable(column))
}

/// JSON for a column.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Json<Value>, StoreError> {
    let value =
        serde_json::to_value(value).map_err(|error| corrupt(format!("no JSON: {error}")))?;
    Ok(Json(each_text(value, &storable)))
}

/// `jsonb` holds every character but U+0000. That one is written as U+001A and `0`, and U+001A itself,
/// so that it can be told apart, as U+001A and `1`.
fn storable(text: String) -> String {
    if text.contains(['\0', '\u{1a}']) {
        text.replace('\u{1a}', "\u{1a}1").replace('\0', "\u{1a}0")
    } else {
        text
    }
}

fn restored(text: String) -> String {
    if text.contains('\u{1a}') {
        text.replace("\u{1a}0", "\0").replace("\u{1a}1", "\u{1a}")
    } else {
        text
    }
}

/// Changes every string of a JSON value, names of members too.
fn each_text(value: Value, change: &impl Fn(String) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(list) => list.into_iter().map(|value| each_text(value, change)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (change(name), each_text(value, change)))
            .collect(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
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
    Standing, standing_name, standing { Active "active" Blocked "blocked" Retired "retired" }
    SecretStatus, secret_status_name, secret_status {
        Prepared "prepared" Active "active" Grace "grace" Retired "retired"
        Compromised "compromised"
    }
    KeyPurpose, purpose_name, purpose { Agent "agent" Identity "identity" }
    KeyStatus, key_status_name, key_status {
        Next "next" Active "active" Retiring "retiring" Retired "retired"
        Compromised "compromised"
    }
    DataKeyUse, data_key_use_name, data_key_use { AtRest "at_rest" Fleet "fleet" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        for text in ["", "plain", "\0", "\u{1a}", "\u{1a}0", "\u{1a}1", "\0\u{1a}\0", "ä\0\"'"] {
            let value = json!({text: [text, {"deep": text}], "n": 1.5});
            let Json(stored) = to_json(&value).unwrap();
            assert!(!stored.to_string().contains("\\u0000"), "{stored}");
            assert_eq!(read_json::<Value>(Json(stored), "x"), Ok(value), "{text:?}");
        }
    }
}
