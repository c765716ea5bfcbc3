//! The settings file: TOML with `[edge]`, `[agent]`, `[owner]` and `[[routes]]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::Finding;
use crate::nearest::nearest;
use crate::table::{RETIRED, known_names};

const SECTIONS: [&str; 3] = ["edge", "agent", "owner"];

/// What the file says, with its scalars in the form that the environment takes. No `Debug`: it holds secrets.
#[derive(Default)]
pub(crate) struct FileSettings {
    pub(crate) path: PathBuf,
    /// By name in the environment.
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) routes: Vec<Value>,
}

/// Reads the file's text. What it cannot use becomes a finding; the rest is kept.
pub(crate) fn read(path: &Path, text: &str, findings: &mut Vec<Finding>) -> FileSettings {
    let mut settings = FileSettings { path: path.to_owned(), ..FileSettings::default() };
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            findings.push(not_toml(path, text, &error));
            return settings;
        }
    };
    for (key, value) in table {
        match (key.as_str(), value) {
            ("routes", Value::Array(routes)) => settings.routes = routes,
            (section, Value::Table(table)) if SECTIONS.contains(&section) => {
                read_section(section, table, &mut settings, findings);
            }
            (known, other) if known == "routes" || SECTIONS.contains(&known) => {
                let expected = if known == "routes" {
                    "tables, each begun with `[[routes]]`"
                } else {
                    "a table"
                };
                findings.push(Finding::error(
                    known,
                    found(&other, path),
                    expected,
                    "Write it as a table.",
                ));
            }
            (unknown, _) => findings.push(unknown_key(
                unknown,
                path,
                nearest(unknown, SECTIONS.into_iter().chain(["routes"])),
            )),
        }
    }
    settings
}

/// A fault for a key that nobody knows; its value is not shown, for it may be a secret in the wrong place.
pub(crate) fn unknown_key(key: &str, path: &Path, near: Option<&str>) -> Finding {
    let near = near.unwrap_or_default();
    Finding::error(
        key.escape_debug().to_string(),
        format!("an unknown key (file {})", path.display()),
        "a known key",
        format!("Did you mean `{near}`? Otherwise remove it."),
    )
}

fn read_section(
    section: &str,
    table: Table,
    settings: &mut FileSettings,
    findings: &mut Vec<Finding>,
) {
    let prefix = format!("{}_", section.to_ascii_uppercase());
    let known: Vec<String> = known_names()
        .iter()
        .filter(|name| *name != "EDGE_CONFIG")
        .filter_map(|name| Some(name.strip_prefix(&prefix)?.to_ascii_lowercase()))
        .collect();
    for (key, value) in table {
        let name = format!("{prefix}{}", key.to_ascii_uppercase());
        let retired = RETIRED.iter().any(|retired| retired.name == name);
        let usable = known.contains(&key) || (retired && key == key.to_ascii_lowercase());
        if !usable {
            let near = nearest(&key, known.iter().map(String::as_str))
                .map(|near| format!("{section}.{near}"));
            findings.push(unknown_key(
                &format!("{section}.{key}"),
                &settings.path,
                near.as_deref(),
            ));
            continue;
        }
        match scalar(&value) {
            Some(text) => {
                settings.values.insert(name, text);
            }
            None => findings.push(Finding::error(
                name,
                format!("{} of {section}.{key}", found(&value, &settings.path)),
                "one value, or a list of strings without commas",
                "Write it as the reference of settings shows.",
            )),
        }
    }
}

/// A value in the form that the environment takes.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(moment) => Some(moment.to_string()),
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) => {
            let items: Option<Vec<&str>> =
                items.iter().map(|item| item.as_str().filter(|text| !text.contains(','))).collect();
            Some(items?.join(","))
        }
        Value::Float(_) | Value::Table(_) => None,
    }
}

/// The kind of a value and where it stands, without the value.
fn found(value: &Value, path: &Path) -> String {
    format!("a value of type {} (file {})", value.type_str(), path.display())
}

/// Says where, without the line itself: it may hold a secret.
fn not_toml(path: &Path, text: &str, error: &toml::de::Error) -> Finding {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Finding::error(
        "EDGE_CONFIG",
        format!("a syntax error in {}, line {line}, column {column}", path.display()),
        "TOML, each key at most once",
        "Correct that line; nothing of the file was read.",
    )
}
