//! Readers against models: targets against a naive normaliser, JSON against serde_json.

mod json;
mod target;
