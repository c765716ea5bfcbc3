use super::*;

const HOST: &str = "Host: edge.example\r\n";

fn framing(head: &str) -> Result<Framing, Fault> {
    judge(head.as_bytes()).map(|head| head.expect("the head is complete").framing)
}

fn with_fields(fields: &str) -> Result<Framing, Fault> {
    framing(&format!("POST /a?b=c HTTP/1.1\r\n{HOST}{fields}\r\n"))
}

#[test]
fn bodies_are_delimited_in_one_way() {
    let table = [
        ("", Ok(Framing::Empty)),
        ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("content-length:12 \t\r\n", Ok(Framing::Length(12))),
        ("Content-Length: 9999999999999999999\r\n", Ok(Framing::Length(9_999_999_999_999_999_999))),
        ("Content-Length: 00000000000000000001\r\n", Err(Fault::Length)),
        ("Content-Length:\r\n", Err(Fault::Length)),
        ("Content-Length: +1\r\n", Err(Fault::Length)),
        ("Content-Length: -1\r\n", Err(Fault::Length)),
        ("Content-Length: 0x1\r\n", Err(Fault::Length)),
        ("Content-Length: 1,1\r\n", Err(Fault::Length)),
        ("Content-Length: 1 1\r\n", Err(Fault::Length)),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("transfer-encoding:\t CHUNKED \r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: ,chunked\r\n", Err(Fault::Encoding)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(Fault::Encoding)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(Fault::Encoding)),
        ("Transfer-Encoding: identity\r\n", Err(Fault::Encoding)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(Fault::Encoding)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(Fault::Encoding)),
        ("Transfer-Encoding:\r\n", Err(Fault::Encoding)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Fault::FramedTwice)),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Err(Fault::FramedTwice)),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Err(Fault::FramedTwice)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Err(Fault::FramedTwice)),
    ];
    for (fields, verdict) in table {
        assert_eq!(with_fields(fields), verdict, "{fields:?}");
    }
}

#[test]
fn lines_and_names_are_strict() {
    let table = [
        ("A: b\tc \u{fc}\r\n", Ok(Framing::Empty)),
        ("A:\r\n", Ok(Framing::Empty)),
        ("X_Y: 1\r\n", Ok(Framing::Empty)),
        ("A: b\n", Err(Fault::LineEnd)),
        ("A: b\n\r\n", Err(Fault::LineEnd)),
        ("A: b\rc\r\n", Err(Fault::Control)),
        ("A: b\r\r\n", Err(Fault::Control)),
        ("A: \0\r\n", Err(Fault::Control)),
        ("A\0: b\r\n", Err(Fault::Control)),
        ("A: \u{1b}\r\n", Err(Fault::Control)),
        ("A: \u{7f}\r\n", Err(Fault::Control)),
        ("A: b\r\n c\r\n", Err(Fault::Folded)),
        ("A: b\r\n\tc: d\r\n", Err(Fault::Folded)),
        ("A : b\r\n", Err(Fault::FieldName)),
        ("A\t: b\r\n", Err(Fault::FieldName)),
        (": b\r\n", Err(Fault::FieldName)),
        ("A\r\n", Err(Fault::FieldName)),
        ("A b: c\r\n", Err(Fault::FieldName)),
        ("A(b): c\r\n", Err(Fault::FieldName)),
        ("\u{fc}: c\r\n", Err(Fault::FieldName)),
        ("Transfer-Encoding : chunked\r\n", Err(Fault::FieldName)),
        ("host: edge.example\r\n", Err(Fault::Host)),
    ];
    for (fields, verdict) in table {
        assert_eq!(with_fields(fields), verdict, "{fields:?}");
    }
}

#[test]
fn the_request_line_has_one_form() {
    let table = [
        ("GET / HTTP/1.1", Ok(Framing::Empty)),
        ("GET / HTTP/1.0", Ok(Framing::Empty)),
        ("M-SEARCH * HTTP/1.1", Ok(Framing::Empty)),
        ("", Err(Fault::LeadingEmptyLine)),
        ("GET", Err(Fault::RequestLine)),
        ("GET /", Err(Fault::RequestLine)),
        ("GET  HTTP/1.1", Err(Fault::RequestLine)),
        (" GET / HTTP/1.1", Err(Fault::RequestLine)),
        ("G(T / HTTP/1.1", Err(Fault::RequestLine)),
        ("GET\t/ HTTP/1.1", Err(Fault::RequestLine)),
        ("GET /\t HTTP/1.1", Err(Fault::RequestLine)),
        ("GET /\u{fc} HTTP/1.1", Err(Fault::RequestLine)),
        ("GET /\0 HTTP/1.1", Err(Fault::Control)),
        ("GET /  HTTP/1.1", Err(Fault::Version)),
        ("GET / HTTP/1.1 ", Err(Fault::Version)),
        ("GET / b HTTP/1.1", Err(Fault::Version)),
        ("GET / HTTP/1.2", Err(Fault::Version)),
        ("GET / HTTP/2.0", Err(Fault::Version)),
        ("GET / HTTP/0.9", Err(Fault::Version)),
        ("GET / http/1.1", Err(Fault::Version)),
        ("GET / HTTP/01.1", Err(Fault::Version)),
        ("PRI * HTTP/2.0", Err(Fault::Version)),
    ];
    for (line, verdict) in table {
        assert_eq!(framing(&format!("{line}\r\n{HOST}\r\n")), verdict, "{line:?}");
    }
}

#[test]
fn old_and_new_versions_differ() {
    assert_eq!(framing("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::Empty));
    assert_eq!(framing("GET / HTTP/1.1\r\n\r\n"), Err(Fault::Host));
    let chunked = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(framing(chunked), Err(Fault::EncodingBefore11));
    assert_eq!(framing("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Err(Fault::Host));
}

#[test]
fn fields_are_counted() {
    let fields = |count: usize| with_fields(&"A: b\r\n".repeat(count - 1));
    assert_eq!(fields(64), Ok(Framing::Empty));
    assert_eq!(fields(65), Err(Fault::TooManyFields));
}

#[test]
fn bytes_are_counted() {
    let head = |len: usize| {
        let frame = format!("GET / HTTP/1.1\r\n{HOST}A: \r\n\r\n").len();
        judge(format!("GET / HTTP/1.1\r\n{HOST}A: {}\r\n\r\n", "b".repeat(len - frame)).as_bytes())
    };
    assert_eq!(head(MAX_HEAD), Ok(Some(Head { len: MAX_HEAD, framing: Framing::Empty })));
    assert_eq!(head(MAX_HEAD + 1), Err(Fault::TooLong));
    assert_eq!(judge(&[b'A'; MAX_HEAD - 1]), Ok(None));
    assert_eq!(judge(&[b'A'; MAX_HEAD]), Err(Fault::TooLong));
}

#[test]
fn what_follows_is_left_alone() {
    let head = format!("GET / HTTP/1.1\r\n{HOST}\r\n");
    let verdict = judge(format!("{head}\0\n\n").as_bytes());
    assert_eq!(verdict, Ok(Some(Head { len: head.len(), framing: Framing::Empty })));
}

#[test]
fn a_bare_line_feed_is_found_before_the_head_ends() {
    assert_eq!(judge(b"GET / HTTP/1.1\r\nA: b\n"), Err(Fault::LineEnd));
    assert_eq!(judge(b"\n"), Err(Fault::LineEnd));
    assert_eq!(judge(b"\r\n"), Err(Fault::LeadingEmptyLine));
}

#[test]
fn token_characters_are_those_of_the_standard() {
    for byte in 0..=u8::MAX {
        let expected = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(is_token(byte), expected, "{byte:#x}");
    }
}
