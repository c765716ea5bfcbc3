//! Which headers a route may set for its upstream, and which it may let through.

use std::path::Path;

use edgeward_wire::hop;
use http::{HeaderName, HeaderValue};
use toml::Value;

use super::node::{Node, kind};
use crate::finding::quoted;
use crate::sources::{Files, secret_text};
use crate::{Finding, SecretText};

/// `set_headers`: names and values, each `{ file = "…" }` or `{ value = "…" }`.
pub(super) fn set_headers(
    route: &Node<'_>,
    mints_token: bool,
    files: &dyn Files,
    findings: &mut Vec<Finding>,
) -> Vec<(HeaderName, SecretText)> {
    let Some(node) = route.open_child("set_headers", findings) else {
        return Vec::new();
    };
    let mut headers: Vec<(HeaderName, SecretText)> = Vec::new();
    for (text, source) in node.table {
        let at = node.path_of(text);
        let name = header_name(text, &at, findings);
        let value = header_value(&node, text, source, files, findings);
        let Some(name) = name else { continue };
        if headers.iter().any(|(seen, _)| *seen == name) {
            findings.push(Finding::error(
                at,
                "the same header twice",
                "each header once",
                "Remove one.",
            ));
        } else if mints_token && name == http::header::AUTHORIZATION {
            findings.push(Finding::error(
                at,
                "Authorization together with identity = \"jwt\", which writes it",
                "one of the two",
                "Remove one.",
            ));
        } else if let Some(value) = value {
            headers.push((name, value));
        }
    }
    headers
}

/// `pass_headers`: the only headers that get through.
pub(super) fn pass_headers(
    route: &Node<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for (at, text) in route.strings("pass_headers", findings)? {
        let Some(name) = header_name(text, &at, findings) else { continue };
        if !hop::may_pass(name.as_str(), true) {
            findings.push(Finding::error(
                at,
                quoted(text),
                "headers that are not the agent's credentials",
                "Remove it; use set_headers for what the upstream needs.",
            ));
        } else {
            names.push(name);
        }
    }
    Some(names)
}

fn header_name(text: &str, at: &str, findings: &mut Vec<Finding>) -> Option<HeaderName> {
    let usable = !text.contains('_');
    let Some(name) = text.parse::<HeaderName>().ok().filter(|_| usable) else {
        findings.push(Finding::error(
            at,
            quoted(text),
            "a header name (RFC 9110, section 5.1) without underscores",
            "Correct it.",
        ));
        return None;
    };
    if !hop::may_be_set(name.as_str()) {
        findings.push(Finding::error(
            at,
            quoted(text),
            "a header that the edge does not write or remove by itself",
            "Remove it.",
        ));
        return None;
    }
    Some(name)
}

/// The value, which no finding shows.
fn header_value(
    node: &Node<'_>,
    name: &str,
    source: &Value,
    files: &dyn Files,
    findings: &mut Vec<Finding>,
) -> Option<SecretText> {
    let at = node.path_of(name);
    if !source.is_table() {
        findings.push(Finding::error(
            at,
            kind(source),
            "`{ file = \"…\" }` or `{ value = \"…\" }`",
            "Put the value into a file and name that.",
        ));
        return None;
    }
    let source = node.child(name, &["file", "value"], findings)?;
    let text = match (source.string("file", findings), source.string("value", findings)) {
        (Some(path), None) => match secret_text(Path::new(path), files) {
            Ok(text) => SecretText::from(text),
            Err(why) => {
                findings.push(Finding::error(
                    source.path_of("file"),
                    format!("{}: {why}", quoted(path)),
                    "a file of text that can be read",
                    "Mount the secret there, or correct the path.",
                ));
                return None;
            }
        },
        (None, Some(value)) => SecretText::new(value.to_owned()),
        (Some(_), Some(_)) | (None, None) => {
            if source.has("file") == source.has("value") {
                findings.push(Finding::error(
                    at,
                    "not exactly one of `file` and `value`",
                    "exactly one of them",
                    "Put the value into a file and name that.",
                ));
            }
            return None;
        }
    };
    let usable = !text.expose().is_empty() && HeaderValue::from_str(text.expose()).is_ok();
    if !usable {
        findings.push(Finding::error(
            at,
            "a value that is not shown",
            "visible characters without line breaks, at least one",
            "Correct what the file or the value holds.",
        ));
    }
    usable.then_some(text)
}
