use proptest::prelude::*;

use super::*;

const LIMITS: FrameLimits = FrameLimits { max_frame: 16_384, max_idle_work: 1000 };
const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

/// What hyper gets of some bytes, and why it gets no more.
#[derive(Debug, PartialEq)]
struct Read {
    passed: Vec<u8>,
    fault: Option<Fault>,
    heads: u64,
}

fn read(mut wire: Wire, bytes: &[u8], cuts: &[usize]) -> Read {
    let mut passed = Vec::new();
    let mut fault = None;
    let mut start = 0;
    for end in cuts.iter().copied().filter(|&cut| cut < bytes.len()).chain([bytes.len()]) {
        let mut piece = bytes[start..end].to_vec();
        start = end;
        match wire.inspect(&mut piece, || 0) {
            Verdict::Pass => passed.extend(piece),
            Verdict::Poison(at, why) => {
                passed.extend(&piece[..at]);
                fault = Some(why);
                break;
            }
            Verdict::End(why) => {
                fault = Some(why);
                break;
            }
        }
    }
    Read { passed, fault, heads: wire.heads() }
}

fn read_whole(bytes: &str) -> Read {
    read(Wire::new(LIMITS), bytes.as_bytes(), &[])
}

fn passes(bytes: &str, heads: u64) {
    let read = read_whole(bytes);
    assert_eq!((read.passed.as_slice(), read.fault, read.heads), (bytes.as_bytes(), None, heads));
}

#[test]
fn requests_follow_each_other() {
    let length = "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\n\0\r\n";
    let chunked = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n0\r\nA: b\r\n\r\n";
    passes(&[GET, length, chunked, GET, chunked, length, GET].concat(), 7);
}

#[test]
fn what_follows_a_refused_request_is_gone() {
    let smuggled =
        format!("{GET}POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\nA: b\r\n\r\n{GET}");
    let read = read_whole(&smuggled);
    assert_eq!(read.passed, GET.as_bytes());
    assert_eq!(read.fault, Some(head::Fault::LineEnd.into()));
}

#[test]
fn a_chunked_body_is_cut_at_the_byte() {
    let good = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    let read = read_whole(&format!("{good}5\n\r\n{GET}"));
    assert_eq!(read.passed, format!("{good}5").as_bytes());
    assert_eq!(read.fault, Some(chunked::Fault::Size.into()));
}

#[test]
fn the_end_of_a_refused_head_never_passes() {
    let bad =
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n";
    for cut in 1..bad.len() {
        let read = read(Wire::new(LIMITS), bad, &[cut]);
        assert_eq!(read.fault, Some(head::Fault::FramedTwice.into()), "cut at {cut}");
        assert!(!read.passed.ends_with(b"\r\n\r\n"), "cut at {cut}");
    }
}

#[test]
fn a_fragment_is_spoiled_wherever_it_is_cut() {
    let request = "P#ST /a?b#c%20#d HTTP/1.1\r\nHost: #a\r\n\r\n#";
    let spoiled = "P#ST /a?b%%%%%%% HTTP/1.1\r\nHost: #a\r\n\r\n#";
    for cut in 1..request.len() {
        let read = read(Wire::new(LIMITS), request.as_bytes(), &[cut]);
        assert_eq!(String::from_utf8(read.passed).unwrap(), spoiled, "cut at {cut}");
    }
    let second = read_whole(&format!("{GET}GET /# HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(second.passed, format!("{GET}GET /% HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
}

#[test]
fn http2_is_known_by_its_preface_only() {
    let pings = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(1001);
    let h2 = [PREFACE.as_slice(), &pings].concat();
    for cut in 0..30 {
        let flood = Some(h2_frames::Fault::Flood.into());
        assert_eq!(read(Wire::new(LIMITS), &h2, &[cut]).fault, flood);
        assert_eq!(read(Wire::h2(LIMITS), &h2, &[cut]).fault, flood);
    }
    for cut in 1..24 {
        let near = [&PREFACE[..cut], b"?"].concat();
        let fault = read(Wire::h2(LIMITS), &near, &[]).fault;
        assert_eq!(fault, Some(h2_frames::Fault::Preface.into()), "cut at {cut}");
    }
    let late = read_whole(&format!("{GET}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert_eq!(
        (late.passed.as_slice(), late.fault),
        (GET.as_bytes(), Some(head::Fault::Version.into()))
    );
    let nearly = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r{GET}");
    for cut in 0..24 {
        let fault = read(Wire::new(LIMITS), nearly.as_bytes(), &[cut]).fault;
        assert_eq!(fault, Some(head::Fault::Version.into()), "cut at {cut}");
    }
    passes("PRI * HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    passes("PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
}

#[test]
fn what_is_owed_is_known() {
    let mut wire = Wire::new(LIMITS);
    let pieces = [
        ("", Owes::Head, false),
        ("PR", Owes::Head, true),
        ("OP / HTTP/1.1\r\n", Owes::Head, true),
        ("Host: a\r\nContent-Length: 2\r\n\r\n", Owes::Body, true),
        ("a", Owes::Body, true),
        ("b", Owes::Nothing, false),
        ("G", Owes::Head, true),
        ("ET / HTTP/1.1\r\nHost: a\r\n\r\n", Owes::Nothing, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Owes::Body, true),
        ("0\r\n\r\n", Owes::Nothing, false),
    ];
    for (piece, owes, mid_request) in pieces {
        assert_eq!(wire.inspect(&mut piece.as_bytes().to_vec(), || 0), Verdict::Pass);
        assert_eq!((wire.owes(), wire.is_mid_request()), (owes, mid_request), "{piece:?}");
    }
}

#[test]
fn little_is_held_of_a_long_head() {
    let mut wire = Wire::new(LIMITS);
    for _ in 0..MAX_HEAD - 1 {
        assert_eq!(wire.inspect(&mut [b'a'], || 0), Verdict::Pass);
    }
    assert_eq!(
        wire.inspect(&mut [b'a'; 100_000], || 0),
        Verdict::Poison(0, head::Fault::TooLong.into())
    );
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n",
        "POST /#a HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRI * ",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "A: b\r\n",
        "\r\n",
        "\r",
        "\n",
        " ",
        "#",
        "\0",
        "0\r\n",
    ]);
    let limit = Just("A: b\r\n".repeat(70));
    let parts = prop_oneof![20 => parts.prop_map(String::from), 1 => limit];
    prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        stream in stream(),
        cuts in prop::collection::btree_set(1_usize..400, 0..30),
    ) {
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let whole = read(Wire::new(LIMITS), &stream, &[]);
        let pieces = read(Wire::new(LIMITS), &stream, &cuts);
        prop_assert_eq!(whole.fault, pieces.fault);
        prop_assert_eq!(whole.heads, pieces.heads);
        if whole.fault.is_none() {
            prop_assert_eq!(&whole.passed, &pieces.passed);
        } else if !matches!(whole.fault, Some(Fault::Http2(_))) {
            prop_assert!(pieces.passed.starts_with(&whole.passed));
        }
    }
}
