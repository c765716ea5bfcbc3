//! How the demo is shown: a line as each step is done, a table of refusals, or one piece of JSON. On a
//! terminal with marks and colours; into a pipe plain text, one line to each thing.

use std::future::Future;
use std::io::{self, Write as _};
use std::time::Duration;

use comfy_table::{Table, presets};
use console::{Style, Term};
use edgeward_edge::clock::SystemClock;
use serde_json::{Value, json};

use super::verdict::Refusal;

/// Columns for what a step is called.
const NAME_WIDTH: usize = 24;
/// A terminal of so many columns has room for a refusal and its reason on one line.
const WIDE: u16 = 120;

/// Who looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Person { colour: bool, columns: u16 },
    Pipe,
    Program,
}

/// One step and how it went.
#[derive(Debug)]
struct Step {
    name: &'static str,
    found: String,
    ok: bool,
    took: Duration,
}

/// How long authentication took, over the requests that were admitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authentication {
    pub(super) admitted: u64,
    pub(super) p50_us: u64,
    pub(super) p95_us: u64,
}

/// Shows what happens and remembers whether it was as it should be.
#[derive(Debug)]
pub(super) struct Show {
    reader: Reader,
    steps: Vec<Step>,
    refusals: Vec<Refusal>,
    authentication: Option<Authentication>,
}

impl Show {
    /// For whoever stdout belongs to.
    pub(super) fn new(as_json: bool) -> Self {
        let reader = match (as_json, Term::stdout().is_term()) {
            (true, _) => Reader::Program,
            (false, true) => {
                let (_, columns) = Term::stdout().size();
                Reader::Person { colour: console::colors_enabled(), columns }
            }
            (false, false) => Reader::Pipe,
        };
        Self { reader, steps: Vec::new(), refusals: Vec::new(), authentication: None }
    }

    /// Does a step and shows how it went. `None` when it failed: nothing after it makes sense then.
    pub(super) async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> Option<T> {
        let started = SystemClock::instant();
        let result = work.await;
        let took = started.elapsed();
        let (value, ok, found) = match result {
            Ok((value, found)) => (Some(value), true, found),
            Err(error) => (None, false, format!("{error:#}")),
        };
        let name_column = format!("{name:NAME_WIDTH$}");
        let took_column = self.dim(&format!("({})", span(took)));
        self.line(&format!("{} {name_column} {found} {took_column}", self.mark(ok)));
        self.steps.push(Step { name, found, ok, took });
        value
    }

    /// Shows the table.
    pub(super) fn refusals(&mut self, refusals: Vec<Refusal>) {
        self.refusals = refusals;
        self.line("");
        self.line(&self.bold("What is refused"));
        self.line(&self.table());
    }

    /// Shows how long authentication took.
    pub(super) fn authentication(&mut self, took: Authentication) {
        self.authentication = Some(took);
        let build = if cfg!(debug_assertions) { ", debug build" } else { "" };
        let Authentication { admitted, p50_us, p95_us } = took;
        self.line("");
        self.line(&format!(
            "Authentication took p50 \u{2264} {p50_us} \u{b5}s, p95 \u{2264} {p95_us} \u{b5}s \
             ({admitted} requests admitted{build})"
        ));
    }

    /// Whether every line was as it should be, and the table was reached.
    pub(super) fn is_all_right(&self) -> bool {
        self.wrong() == 0 && !self.refusals.is_empty() && self.authentication.is_some()
    }

    /// Says how it all went; for programs, everything at once.
    pub(super) fn verdict(&self) {
        if self.reader == Reader::Program {
            return put(&format!("{:#}", self.as_json()));
        }
        let text = match (self.is_all_right(), self.wrong()) {
            (true, _) => {
                format!(
                    "All {} lines were as they should be.",
                    self.steps.len() + self.refusals.len()
                )
            }
            (false, 0) => "The demo did not get to its end.".to_owned(),
            (false, 1) => "One line was not as it should be.".to_owned(),
            (false, wrong) => format!("{wrong} lines were not as they should be."),
        };
        self.line("");
        self.line(&format!("{} {}", self.mark(self.is_all_right()), self.bold(&text)));
    }

    /// A line for people.
    pub(super) fn line(&self, text: &str) {
        match self.reader {
            Reader::Person { .. } | Reader::Pipe => put(text),
            Reader::Program => {}
        }
    }

    /// Makes a heading stand out.
    pub(super) fn bold(&self, text: &str) -> String {
        self.styled(text, &Style::new().bold())
    }

    /// Makes a side remark step back.
    pub(super) fn dim(&self, text: &str) -> String {
        self.styled(text, &Style::new().dim())
    }

    fn wrong(&self) -> usize {
        self.steps.iter().filter(|step| !step.ok).count()
            + self.refusals.iter().filter(|refusal| !refusal.is_as_it_should_be()).count()
    }

    fn mark(&self, ok: bool) -> String {
        let style = if ok { Style::new().green() } else { Style::new().red().bold() };
        self.styled(plain_mark(self.reader, ok), &style)
    }

    fn styled(&self, text: &str, style: &Style) -> String {
        match self.reader {
            Reader::Person { colour: true, .. } => {
                style.apply_to(text).force_styling(true).to_string()
            }
            Reader::Person { colour: false, .. } | Reader::Pipe | Reader::Program => {
                text.to_owned()
            }
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(match layout(self.reader) {
            Layout::Narrow => &["", "what was sent", "what came back"][..],
            Layout::Wide => &["", "what was sent", "what came back", "why"],
            Layout::Full => &["", "what was sent", "what came back", "expected", "why"],
        });
        for refusal in &self.refusals {
            table.add_row(row(self.reader, refusal));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let table = table.trim_fmt();
        // Colours come now that the widths are settled: they have none.
        let mut lines = table.lines();
        let mut text = self.dim(lines.next().unwrap_or_default());
        for (line, refusal) in lines.zip(&self.refusals) {
            let ok = refusal.is_as_it_should_be();
            let rest = line.strip_prefix(plain_mark(self.reader, ok)).unwrap_or(line);
            text.push_str(&format!("\n{}{rest}", self.mark(ok)));
            if layout(self.reader) == Layout::Narrow {
                text.push_str(&format!("\n   {}", self.dim(refusal.why)));
            }
        }
        text
    }

    fn as_json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                let took_us = u64::try_from(step.took.as_micros()).unwrap_or(u64::MAX);
                json!({"step": step.name, "found": step.found, "ok": step.ok, "took_us": took_us})
            })
            .collect();
        let refusals: Vec<Value> = self.refusals.iter().map(Refusal::as_json).collect();
        let authentication = self.authentication.map(
            |took| json!({"admitted": took.admitted, "p50_us": took.p50_us, "p95_us": took.p95_us}),
        );
        json!({
            "ok": self.is_all_right(),
            "steps": steps,
            "refusals": refusals,
            "authentication": authentication,
        })
    }
}

/// How the table is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The reason stands under its line.
    Narrow,
    /// The reason stands beside it.
    Wide,
    /// All columns.
    Full,
}

fn layout(reader: Reader) -> Layout {
    match reader {
        Reader::Person { columns, .. } if columns < WIDE => Layout::Narrow,
        Reader::Person { .. } => Layout::Wide,
        Reader::Pipe | Reader::Program => Layout::Full,
    }
}

fn row(reader: Reader, refusal: &Refusal) -> Vec<String> {
    let ok = refusal.is_as_it_should_be();
    let (mark, sent) = (plain_mark(reader, ok).to_owned(), refusal.sent.to_owned());
    let (found, expected) = (refusal.found(), refusal.expected.to_string());
    let why = refusal.why.to_owned();
    // Room is for people's eyes: what was expected is there where it did not come.
    let told = if ok { found.clone() } else { format!("{found} (expected: {expected})") };
    match layout(reader) {
        Layout::Narrow => vec![mark, sent, told],
        Layout::Wide => vec![mark, sent, told, why],
        Layout::Full => vec![mark, sent, found, expected, why],
    }
}

fn plain_mark(reader: Reader, ok: bool) -> &'static str {
    match (reader, ok) {
        (Reader::Person { .. }, true) => "\u{2713}",
        (Reader::Person { .. }, false) => "\u{2717}",
        (Reader::Pipe | Reader::Program, true) => "ok    ",
        (Reader::Pipe | Reader::Program, false) => "FAILED",
    }
}

/// `1.52 s`, `41 ms`, `0.7 ms`.
fn span(took: Duration) -> String {
    match took.as_millis() {
        0..10 => format!("{:.1} ms", took.as_secs_f64() * 1_000.0),
        ms @ 10..1_000 => format!("{ms} ms"),
        _ => format!("{:.2} s", took.as_secs_f64()),
    }
}

/// A reader that has gone away needs to be told nothing.
fn put(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests;
