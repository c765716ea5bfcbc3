//! An accepted path says the same to every parser: a naive normaliser, written apart from the
//! check, does as careless servers do and must come back with what went in.

use proptest::prelude::*;

use crate::read::target::{MAX_TARGET, check};

/// One round of percent-decoding; an escape that is none stays as it is, as lenient decoders do.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let digits = path.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits
            .filter(|two| !two.starts_with('+'))
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match (path[at], byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (other, _) => {
                out.push(other);
                at += 1;
            }
        }
    }
    out
}

/// Splits at both slashes, drops empty and dot segments, climbs at `..`, cuts parameters off.
fn segments(path: &[u8]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let segment = segment.split(|byte| *byte == b'\0').next().unwrap();
        match segment {
            b"" | b"." => {}
            b".." => drop(out.pop()),
            other => out.push(other.to_vec()),
        }
    }
    out
}

/// The segments as they stand, each decoded once: what the route is matched on means this.
fn plain(path: &str) -> Vec<Vec<u8>> {
    let inner = path.strip_prefix('/').unwrap();
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return Vec::new();
    }
    inner.split('/').map(|one| decode(one.as_bytes())).collect()
}

#[track_caller]
fn assert_one_reading(path: &str) {
    let once = decode(path.as_bytes());
    assert_eq!(decode(&once), once, "{path}: a second decoding reads on");
    assert_eq!(segments(&once), plain(path), "{path}: decoded, then normalised");
    let raw: Vec<Vec<u8>> = segments(path.as_bytes()).iter().map(|one| decode(one)).collect();
    assert_eq!(raw, plain(path), "{path}: normalised, then decoded");
    let cut = path.split(';').next().unwrap();
    assert_eq!(cut, path, "{path}: parameters cut off");
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec![
            "/", "//", ".", "..", "/.", "/..", "/./", "/../", "\\", ";", "%", "%2", "%2f", "%2F", "%5c", "%5C",
            "%2e", "%2E", "%25", "%252e", "%252f", "%00", "%20", "%C3%A9", "%3b", "%3f", "%23", "%7e", "a", "b", "~",
            "%c0%af", "%e0%80%af", "%u002e", "%+2", "%zz", "%%", "%2%65", "%41", "%0a", "%7f", ":", "@", "&", "=",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{1,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, ..ProptestConfig::default() })]

    #[test]
    fn an_accepted_path_has_one_reading(pieces in prop::collection::vec(piece(), 0..8)) {
        let target = format!("/{}", pieces.concat());
        if check(&target).is_ok() {
            assert_one_reading(target.split('?').next().unwrap());
        }
    }

    #[test]
    fn nothing_panics(target in ".{0,80}") {
        let _ = check(&target);
    }

    #[test]
    fn plain_paths_are_accepted(path in "(/[A-Za-z0-9_~-]{1,8}){1,6}/?", query in "[A-Za-z0-9=&/?.;,+-]{0,20}") {
        prop_assert_eq!(check(&format!("{path}?{query}")), Ok(()));
        assert_one_reading(&path);
    }
}

#[test]
fn the_model_reads_what_careless_servers_read() {
    assert_eq!(segments(&decode(b"/a/%2e%2e/b")), [b"b".to_vec()]);
    assert_eq!(segments(b"/a\\..//./b"), [b"b".to_vec()]);
    assert_eq!(decode(b"/%25%32%65"), b"/%2e");
    for bad in ["/a/%2e%2e/b", "/a%2fb", "/a//b", "/%2541", "/a;b", "/a\\b", "/a%00b"] {
        let refused = std::panic::catch_unwind(|| assert_one_reading(bad));
        assert!(refused.is_err(), "the model takes {bad}");
        assert!(check(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_short_path_over_the_dangerous_alphabet() {
    // All of length up to five, not a sample.
    const ALPHABET: &[u8] = b"/.\\;%2ef5c0a";
    let mut accepted = 0;
    let mut walk = vec![String::from("/")];
    while let Some(path) = walk.pop() {
        if check(&path).is_ok() {
            accepted += 1;
            assert_one_reading(&path);
        }
        if path.len() < 6 {
            walk.extend(ALPHABET.iter().map(|byte| format!("{path}{}", char::from(*byte))));
        }
    }
    assert!(accepted > 10_000, "{accepted}");
    assert!(check(&"/".repeat(MAX_TARGET + 1)).is_err());
}
