//! The strict reader against serde_json's own.

use proptest::prelude::*;
use serde_json::{Map, Number, Value};

use crate::read::json::{MAX_DEPTH, MAX_MEMBERS, value};

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter_map("a number", |number| Number::from_f64(number).map(Value::Number)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 200, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn members(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len() + list.iter().map(members).sum::<usize>(),
        Value::Object(map) => map.len() + map.values().map(members).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

proptest! {
    #[test]
    fn within_its_bounds_it_reads_what_serde_json_reads(document in document(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&document).unwrap()
        } else {
            document.to_string()
        };
        // Nesting counts the leaf too: an element stands one deeper than its array.
        let fits = depth(&document) <= MAX_DEPTH && members(&document) <= MAX_MEMBERS;
        match value(text.as_bytes()) {
            Ok(read) => {
                prop_assert!(fits);
                prop_assert_eq!(read, serde_json::from_str::<Value>(&text).unwrap());
            }
            Err(fault) => prop_assert!(!fits, "{}: {}", fault, text),
        }
    }

    #[test]
    fn what_serde_json_refuses_it_refuses(text in "[\\[\\]{}\",:0-9a-z.\\\\ eE+-]{0,30}") {
        if serde_json::from_str::<Value>(&text).is_err() {
            prop_assert!(value(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = value(&bytes);
    }

    #[test]
    fn a_name_twice_is_refused_wherever_it_stands(
        name in "[a-z]{1,4}", before in document(), after in document(), depth in 0usize..6,
    ) {
        let name = Value::from(name);
        let object = format!("{{{name}:{before},{name}:{after}}}");
        let text = format!("{}{object}{}", "[".repeat(depth), "]".repeat(depth));
        prop_assert!(value(text.as_bytes()).is_err());
    }
}

#[test]
fn names_that_are_spelt_apart_and_read_alike_are_one_name() {
    assert!(value(br#"{"a":1,"\u0061":2}"#).is_err());
    assert!(value(br#"{"a":1,"A":2}"#).is_ok());
    let mut one = Map::new();
    one.insert("a".to_owned(), 1.into());
    assert_eq!(value(br#"{"\u0061":1}"#).unwrap(), Value::Object(one));
}
