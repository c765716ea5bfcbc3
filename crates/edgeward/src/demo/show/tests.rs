use edgeward_wire::Code;

use super::*;
use crate::demo::verdict::{Answer, Expected};

fn refusal(code: Option<&str>) -> Refusal {
    Refusal {
        sent: "replay",
        answer: Answer::Http {
            status: if code.is_some() { 401 } else { 200 },
            code: code.map(str::to_owned),
        },
        expected: Expected::Refused(Code::NonceReplayed),
        why: "Because.",
        passed_on: code.is_none(),
    }
}

fn show(reader: Reader, refusals: Vec<Refusal>) -> Show {
    let authentication = Some(Authentication { admitted: 9, p50_us: 80, p95_us: 160 });
    Show { reader, steps: Vec::new(), refusals, authentication }
}

#[test]
fn one_wrong_line_is_enough_to_be_wrong() {
    let right = refusal(Some("nonce_replayed"));
    assert!(show(Reader::Pipe, vec![right.clone()]).is_all_right());
    let wrong = show(Reader::Pipe, vec![right, refusal(None)]);
    assert!(!wrong.is_all_right());
    assert_eq!(wrong.as_json()["ok"], false);
    assert_eq!(wrong.as_json()["refusals"][1]["ok"], false);
}

#[test]
fn a_demo_that_stopped_half_way_is_not_all_right() {
    assert!(!show(Reader::Pipe, Vec::new()).is_all_right());
    let mut unmeasured = show(Reader::Pipe, vec![refusal(Some("nonce_replayed"))]);
    unmeasured.authentication = None;
    assert!(!unmeasured.is_all_right());
}

#[tokio::test]
async fn a_step_that_fails_counts() {
    let mut show = show(Reader::Program, vec![refusal(Some("nonce_replayed"))]);
    assert_eq!(show.step("one", async { Ok((7, "well".to_owned())) }).await, Some(7));
    assert!(show.is_all_right());
    let failed: Option<()> = show.step("two", async { anyhow::bail!("no") }).await;
    assert_eq!(failed, None);
    assert!(!show.is_all_right());
    assert_eq!(show.as_json()["steps"][1]["found"], "no");
}

#[test]
fn a_table_into_a_pipe_is_plain_and_has_one_line_to_a_refusal() {
    let table = show(Reader::Pipe, vec![refusal(Some("nonce_replayed")), refusal(None)]).table();
    assert!(table.is_ascii(), "{table}");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].trim_start().starts_with("ok "), "{table}");
    assert!(lines[1].contains("401 nonce_replayed"), "{table}");
    assert!(lines[2].trim_start().starts_with("FAILED "), "{table}");
    assert!(lines[2].contains("200, and the upstream was reached"), "{table}");
}

#[test]
fn without_colours_a_terminal_gets_marks_and_no_escapes() {
    let table = show(Reader::Person { colour: false, columns: 80 }, vec![refusal(None)]).table();
    assert!(table.contains('\u{2717}') && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn with_colours_the_widths_stay_the_same() {
    let refusals = vec![refusal(Some("nonce_replayed")), refusal(None)];
    let plain = show(Reader::Person { colour: false, columns: 80 }, refusals.clone()).table();
    let coloured = show(Reader::Person { colour: true, columns: 80 }, refusals).table();
    assert!(coloured.contains('\u{1b}'));
    assert_eq!(console::strip_ansi_codes(&coloured), plain);
}

#[test]
fn on_a_terminal_what_was_expected_stands_where_it_did_not_come() {
    let reader = Reader::Person { colour: false, columns: 80 };
    let right = show(reader, vec![refusal(Some("nonce_replayed"))]).table();
    assert!(!right.contains("expected"), "{right}");
    let wrong = show(reader, vec![refusal(None)]).table();
    assert!(wrong.contains("expected: 401 nonce_replayed"), "{wrong}");
}

#[test]
fn on_a_terminal_the_reason_stands_beside_the_line_if_there_is_room() {
    let refusals = vec![refusal(Some("nonce_replayed"))];
    let table = |columns| show(Reader::Person { colour: false, columns }, refusals.clone()).table();
    assert_eq!(table(80).lines().count(), 3);
    assert!(table(80).ends_with("\n   Because."), "{}", table(80));
    assert_eq!(table(200).lines().count(), 2);
    assert!(table(200).ends_with("  Because."), "{}", table(200));
}

#[test]
fn times_are_told_as_people_do() {
    for (us, text) in [(700, "0.7 ms"), (41_300, "41 ms"), (1_520_000, "1.52 s")] {
        assert_eq!(span(Duration::from_micros(us)), text);
    }
}
