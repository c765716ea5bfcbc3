//! A table in the file with its place, and the readers of its values. A reader that cannot use a value leaves a finding and
//! gives what the caller names as default, so that one fault never hides another.

use std::path::Path;

use toml::{Table, Value};

use crate::file::unknown_key;
use crate::finding::quoted;
use crate::nearest::nearest;
use crate::{Finding, form};

/// A table of the file and where it stands.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    /// For example `routes[2].timeouts`.
    pub(crate) at: String,
    pub(crate) table: &'a Table,
    pub(crate) file: &'a Path,
}

impl<'a> Node<'a> {
    /// The table below `key`, if there is one.
    pub(crate) fn child(
        &self,
        key: &str,
        known: &[&str],
        findings: &mut Vec<Finding>,
    ) -> Option<Node<'a>> {
        let child = self.open_child(key, findings)?;
        child.refuse_unknown(known, findings);
        Some(child)
    }

    /// The same for a table whose keys are free.
    pub(crate) fn open_child(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Node<'a>> {
        let table = self.typed(key, "a table", Value::as_table, findings)?;
        Some(Node { at: self.path_of(key), table, file: self.file })
    }

    pub(crate) fn refuse_unknown(&self, known: &[&str], findings: &mut Vec<Finding>) {
        for key in self.table.keys().filter(|key| !known.contains(&key.as_str())) {
            let near = nearest(key, known.iter().copied());
            findings.push(unknown_key(&self.path_of(key), self.file, near));
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// `false` unless it says otherwise.
    pub(crate) fn truth(&self, key: &str, findings: &mut Vec<Finding>) -> bool {
        self.typed(key, "`true` or `false`", Value::as_bool, findings).unwrap_or(false)
    }

    pub(crate) fn string(&self, key: &str, findings: &mut Vec<Finding>) -> Option<&'a str> {
        self.typed(key, "a string", Value::as_str, findings)
    }

    /// A list of strings, each with its place.
    pub(crate) fn strings(
        &self,
        key: &str,
        findings: &mut Vec<Finding>,
    ) -> Option<Vec<(String, &'a str)>> {
        let items = self.typed(key, "a list of strings", Value::as_array, findings)?;
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let at = format!("{}[{index}]", self.path_of(key));
            match item.as_str() {
                Some(text) => strings.push((at, text)),
                None => findings.push(Finding::error(at, kind(item), "a string", "Correct it.")),
            }
        }
        Some(strings)
    }

    /// Milliseconds, at least 1.
    pub(crate) fn millis(&self, key: &str, default: u64, findings: &mut Vec<Finding>) -> u64 {
        let read = |value: &Value| {
            quantity(value, form::millis).filter(|ms| (1..=86_400_000).contains(ms))
        };
        self.quantity(key, "milliseconds from 1 to a day, such as 2000 or \"2s\"", read, findings)
            .unwrap_or(default)
    }

    /// Bytes.
    pub(crate) fn bytes(&self, key: &str, default: u64, findings: &mut Vec<Finding>) -> u64 {
        let read = |value: &Value| quantity(value, form::bytes).filter(|size| *size <= 1 << 40);
        self.quantity(key, "bytes, such as 65536, \"64KiB\" or \"1MiB\"", read, findings)
            .unwrap_or(default)
    }

    /// A whole number from 1 on that must be there.
    pub(crate) fn count(&self, key: &str, findings: &mut Vec<Finding>) -> Option<u32> {
        let read =
            |value: &Value| value.as_integer().filter(|count| (1..=1_000_000_000).contains(count));
        let expected = "a whole number from 1 on";
        if !self.has(key) {
            findings.push(Finding::error(self.path_of(key), "nothing", expected, "Set it."));
        }
        u32::try_from(self.quantity(key, expected, read, findings)?).ok()
    }

    /// A finding about the value of `key`, which is shown.
    pub(crate) fn refuse(
        &self,
        key: &str,
        expected: impl Into<String>,
        what_to_do: impl Into<String>,
        findings: &mut Vec<Finding>,
    ) {
        let found = match self.table.get(key) {
            Some(value) => value.as_str().map_or_else(|| value.to_string(), quoted),
            None => "nothing".to_owned(),
        };
        findings.push(Finding::error(self.path_of(key), found, expected, what_to_do));
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        format!("{}.{}", self.at, key.escape_debug())
    }

    fn quantity<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
        findings: &mut Vec<Finding>,
    ) -> Option<T> {
        let read = read(self.table.get(key)?);
        if read.is_none() {
            self.refuse(key, expected, "Correct it.", findings);
        }
        read
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        findings: &mut Vec<Finding>,
    ) -> Option<T> {
        let value = self.table.get(key)?;
        let read = read(value);
        if read.is_none() {
            findings.push(Finding::error(self.path_of(key), kind(value), expected, "Correct it."));
        }
        read
    }
}

/// The type of a value, without the value.
pub(crate) fn kind(value: &Value) -> String {
    format!("a value of type {}", value.type_str())
}

fn quantity(value: &Value, read: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    match value.as_integer() {
        Some(number) => u64::try_from(number).ok(),
        None => read(value.as_str()?),
    }
}
