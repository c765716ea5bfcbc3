use proptest::prelude::*;

use super::*;

fn feed(body: &str) -> Step {
    Chunks::default().feed(body.as_bytes())
}

fn fault(body: &str) -> Option<Fault> {
    match feed(body) {
        Step::Refused(_, fault) => Some(fault),
        Step::More | Step::End(_) => None,
    }
}

#[test]
fn good_bodies_end_where_they_end() {
    let bodies = [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "1;name=\"value\"\tx\r\n\0\r\n00;last\r\n\r\n",
        "0\r\nTrailer: value\r\nOther:\r\n\r\n",
        "000000000000001\r\n\n\r\n000000000000000\r\n\r\n",
    ];
    for body in bodies {
        assert_eq!(feed(body), Step::End(body.len()), "{body:?}");
        assert_eq!(feed(&format!("{body}GET /")), Step::End(body.len()), "{body:?}");
        for cut in 0..body.len() {
            assert_eq!(feed(&body[..cut]), Step::More, "{body:?} cut at {cut}");
        }
    }
}

#[test]
fn bad_bodies_are_refused_at_the_byte() {
    let table = [
        ("x", 0, Fault::Size),
        ("\r\n", 0, Fault::Size),
        (";a\r\n", 0, Fault::Size),
        (" 5\r\n", 0, Fault::Size),
        ("5 \r\n", 1, Fault::Size),
        ("5\t;a\r\n", 1, Fault::Size),
        ("+5\r\n", 0, Fault::Size),
        ("-5\r\n", 0, Fault::Size),
        ("0x5\r\n", 1, Fault::Size),
        ("5\n", 1, Fault::Size),
        ("5\0\r\n", 1, Fault::Size),
        ("5_0\r\n", 1, Fault::Size),
        ("0000000000000001\r\n", 15, Fault::Size),
        ("ffffffffffffffff1\r\n", 15, Fault::Size),
        ("5\r5", 2, Fault::LineEnd),
        ("5\r\r\n", 2, Fault::LineEnd),
        ("5;a\n", 3, Fault::Extension),
        ("5;a\0\r\n", 3, Fault::Extension),
        ("5;a\rb", 4, Fault::LineEnd),
        ("1\r\nab", 4, Fault::LineEnd),
        ("1\r\na\n", 4, Fault::LineEnd),
        ("1\r\na\rb", 5, Fault::LineEnd),
        ("0\r\n\n", 3, Fault::Trailer),
        ("0\r\n\rA", 4, Fault::LineEnd),
        ("0\r\n: b\r\n", 3, Fault::Trailer),
        ("0\r\n A: b\r\n", 3, Fault::Trailer),
        ("0\r\nA : b\r\n", 4, Fault::Trailer),
        ("0\r\nA\r\n", 4, Fault::Trailer),
        ("0\r\nA: b\n", 7, Fault::Trailer),
        ("0\r\nA: \0\r\n", 6, Fault::Trailer),
        ("0\r\nA: b\rc", 8, Fault::LineEnd),
        ("0\r\nA: b\r\n c\r\n", 9, Fault::Trailer),
    ];
    for (body, at, fault) in table {
        assert_eq!(feed(body), Step::Refused(at, fault), "{body:?}");
    }
}

#[test]
fn extensions_and_trailers_are_limited() {
    let extension = |len: usize| fault(&format!("0;{}\r\n\r\n", "e".repeat(len - 1)));
    assert_eq!(extension(256), None);
    assert_eq!(extension(257), Some(Fault::Extension));

    let fields = |count: usize| fault(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(count)));
    assert_eq!(fields(64), None);
    assert_eq!(fields(65), Some(Fault::Trailer));

    let trailer = |len: usize| fault(&format!("0\r\nA:{}\r\n\r\n", "b".repeat(len)));
    assert_eq!(trailer(MAX_HEAD - 3), None);
    assert_eq!(trailer(MAX_HEAD - 2), Some(Fault::Trailer));
}

/// A step with offsets into the whole.
fn feed_in_pieces(body: &[u8], cuts: &[usize]) -> Step {
    let mut chunks = Chunks::default();
    let mut start = 0;
    for end in cuts.iter().copied().filter(|&cut| cut < body.len()).chain([body.len()]) {
        match chunks.feed(&body[start..end]) {
            Step::More => start = end,
            Step::End(used) => return Step::End(start + used),
            Step::Refused(at, fault) => return Step::Refused(start + at, fault),
        }
    }
    Step::More
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "1;e=f\r\nx\r\n",
        "0\r\n",
        "A: b\r\n",
        "\r\n",
        "\r",
        "\n",
        "a",
        ";",
        " ",
        "ff",
        "3\r\nabc",
        "\0",
        ":",
        "10\r\n0123456789abcdef\r\n",
    ]);
    prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn cuts_change_nothing(body in body(), cuts in prop::collection::btree_set(1_usize..60, 0..20)) {
        let cuts: Vec<usize> = cuts.into_iter().collect();
        prop_assert_eq!(feed_in_pieces(&body, &cuts), feed_in_pieces(&body, &[]));
    }
}
