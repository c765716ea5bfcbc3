//! JSON of strangers: bounded in depth and members, and no name twice in an object.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 16;
/// How many members and elements a document may have in all.
pub const MAX_MEMBERS: usize = 1000;

/// Reads one JSON document within the bounds.
///
/// # Errors
/// A sentence without any of the document's values.
pub fn value(bytes: &[u8]) -> Result<Value, String> {
    let mut left = MAX_MEMBERS;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: MAX_DEPTH, left: &mut left }
        .deserialize(&mut reader)
        .map_err(|error| describe(&error))?;
    reader.end().map_err(|_| "the JSON goes on after its end".to_owned())?;
    Ok(value)
}

/// Reads a typed body; one that is empty reads as `{}`.
///
/// # Errors
/// A sentence that names the member at fault and shows no value.
pub fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let value = if bytes.is_empty() { Value::Object(Map::new()) } else { value(bytes)? };
    // A derived reader would take an array for a struct, member by member.
    if !value.is_object() {
        return Err("the body must be a JSON object".to_owned());
    }
    serde_json::from_value(value).map_err(|error| describe(&error))
}

/// serde's own message, cut where it would begin to quote a value.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    for quoting in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = text.strip_prefix(quoting) {
            let expected =
                rest.rsplit_once(", expected ").map_or("another type", |(_, expected)| expected);
            return format!("a member has the wrong type; expected {expected}");
        }
    }
    text
}

/// Builds a [`Value`] and counts as it goes, so that a hostile document costs no more than its bound.
struct Strict<'a> {
    depth: usize,
    left: &'a mut usize,
}

impl Strict<'_> {
    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        *self.left =
            self.left.checked_sub(1).ok_or_else(|| E::custom("the JSON has too many members"))?;
        Ok(())
    }

    fn inner<E: serde::de::Error>(&mut self) -> Result<Strict<'_>, E> {
        let depth =
            self.depth.checked_sub(1).ok_or_else(|| E::custom("the JSON nests too deep"))?;
        Ok(Strict { depth, left: self.left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(element) = seq.next_element_seed(self.inner()?)? {
            self.count()?;
            out.push(element);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            self.count()?;
            let member = map.next_value_seed(self.inner()?)?;
            if out.insert(name, member).is_some() {
                return Err(A::Error::custom("the JSON has a member twice"));
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use edgeward_wire::api::{EnrollStart, SessionStart};

    use super::*;

    #[test]
    fn documents_read_as_they_are() {
        let text = br#"{"a":[1,-2,3.5,"x",null,true],"b":{"c":{}}}"#;
        assert_eq!(value(text).unwrap(), serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn bounds_hold() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(value(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(value(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().contains("deep"));
        assert!(value(nested(60_000).as_bytes()).is_err());
        let wide = |members: usize| format!("[{}0]", "0,".repeat(members - 1));
        assert!(value(wide(MAX_MEMBERS).as_bytes()).is_ok());
        assert!(value(wide(MAX_MEMBERS + 1).as_bytes()).unwrap_err().contains("too many"));
        assert!(value(br#"{"a":1,"a":2}"#).unwrap_err().contains("twice"));
        assert!(value(br#"{"a":{"b":1,"b":2}}"#).unwrap_err().contains("twice"));
        assert!(value(b"{} {}").is_err());
        assert!(value(b"").is_err());
    }

    #[test]
    fn unknown_members_are_named_and_values_are_not() {
        let fault = body::<SessionStart>(br#"{"device_prof":"s3cret"}"#).unwrap_err();
        assert!(fault.contains("device_prof") && !fault.contains("s3cret"), "{fault}");
        let fault = body::<SessionStart>(br#"{"device_proof":{"x":"s3cret"}}"#).unwrap_err();
        assert!(!fault.contains("s3cret"), "{fault}");
        let fault = body::<SessionStart>(br#"{"device_proof":12345}"#).unwrap_err();
        assert!(!fault.contains("12345"), "{fault}");
        assert!(body::<SessionStart>(b"").is_ok());
        assert!(body::<SessionStart>(b"[]").is_err());
        assert!(body::<EnrollStart>(br#"{"scopes":["a b"]}"#).is_err());
    }
}
