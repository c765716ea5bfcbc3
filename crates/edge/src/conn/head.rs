//! Judges the head of one HTTP/1 request: bytes in, verdict out.
//!
//! The rules are narrower than RFC 9112 allows a recipient to be, because whatever two parsers
//! could read differently is how a second request is smuggled past the first parser. Nothing here
//! is repaired: a head is right, not complete yet, or refused.

use memchr::memchr;

/// Longest head in bytes, from the first byte of the request line to the last of the empty line.
pub const MAX_HEAD: usize = 16 * 1024;

/// Most header fields in one head.
pub const MAX_FIELDS: u16 = 64;

/// Most digits of a `Content-Length`: 19 nines still fit into 64 bits.
const MAX_LENGTH_DIGITS: usize = 19;

/// How the body of a request is delimited (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: there is no body.
    Empty,
    /// This many bytes follow.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line that ends in LF without CR.
    #[error("a line does not end in CRLF")]
    LineEnd,
    /// A control character: NUL, a CR on its own, DEL.
    #[error("a control character")]
    Control,
    /// An empty line before the request line.
    #[error("an empty line before the request line")]
    LeadingEmptyLine,
    /// The first line is not `METHOD SP target SP version`.
    #[error("a malformed request line")]
    RequestLine,
    /// The version is neither `HTTP/1.0` nor `HTTP/1.1`.
    #[error("an unknown version")]
    Version,
    /// A field line that begins with a blank (obs-fold, RFC 9112, section 5.2).
    #[error("a folded field line")]
    Folded,
    /// A field line whose name is empty or not a token, or which has no colon.
    #[error("a malformed field name")]
    FieldName,
    /// More than [`MAX_FIELDS`] fields.
    #[error("too many fields")]
    TooManyFields,
    /// More than [`MAX_HEAD`] bytes.
    #[error("the head is too long")]
    TooLong,
    /// A `Content-Length` that is not 1 to 19 digits.
    #[error("a malformed content-length")]
    Length,
    /// A `Transfer-Encoding` other than `chunked`.
    #[error("a transfer-encoding other than chunked")]
    Encoding,
    /// A `Transfer-Encoding` in a request of HTTP/1.0, which has none.
    #[error("a transfer-encoding in HTTP/1.0")]
    EncodingBefore11,
    /// Two fields that delimit the body: both kinds, or one of them twice.
    #[error("the body is delimited twice")]
    FramedTwice,
    /// `Host` twice, or absent in HTTP/1.1 (RFC 9112, section 3.2).
    #[error("not exactly one host")]
    Host,
}

/// A head that may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, its empty line included.
    pub len: usize,
    /// How the body after it is delimited.
    pub framing: Framing,
}

/// Judges a head that is all there; what follows it is not looked at.
///
/// # Errors
///
/// The first rule that the bytes break, or `None` inside `Ok` when the head goes on beyond them.
pub fn judge(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    Scan::default().advance(bytes)
}

/// A head as far as it has been judged, so that one which comes in pieces is not judged from its
/// start again.
#[derive(Debug, Default)]
pub struct Scan {
    line_start: usize,
    searched: usize,
    fields: u16,
    version: Option<Version>,
    framing: Option<Framing>,
    host: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl Scan {
    /// Judges on: `bytes` are all bytes of the head so far, those of earlier calls included.
    ///
    /// `Ok(None)` promises that no line in `bytes` ends in anything but CRLF and that none of them
    /// is empty, so no other parser can take them for a whole head.
    ///
    /// # Errors
    ///
    /// The first rule that the bytes break. The same bytes give the same answer, however they are
    /// cut.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let window = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        while let Some(offset) = memchr(b'\n', window.get(self.searched..).unwrap_or_default()) {
            let line_feed = self.searched + offset;
            let line = window.get(self.line_start..line_feed).unwrap_or_default();
            self.line_start = line_feed + 1;
            self.searched = self.line_start;
            let line = line.strip_suffix(b"\r").ok_or(Fault::LineEnd)?;
            if line.is_empty() {
                let len = self.line_start;
                return self.end().map(|framing| Some(Head { len, framing }));
            }
            if self.version.is_none() {
                self.version = Some(request_line(line)?);
            } else {
                self.field(line)?;
            }
        }
        self.searched = window.len();
        if window.len() == MAX_HEAD { Err(Fault::TooLong) } else { Ok(None) }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Fault::TooManyFields);
        }
        let (name, value) = split_field(line)?;
        // Looked up by length first: nearly all names are told apart by it.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host()?,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.frame(Framing::Length(content_length(value)?))?
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.version == Some(Version::Http10) {
                    return Err(Fault::EncodingBefore11);
                }
                if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Encoding);
                }
                self.frame(Framing::Chunked)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn host(&mut self) -> Result<(), Fault> {
        if std::mem::replace(&mut self.host, true) { Err(Fault::Host) } else { Ok(()) }
    }

    fn frame(&mut self, framing: Framing) -> Result<(), Fault> {
        // Two equal lengths are refused as well: some hop joins them with a comma, the next cannot
        // read that.
        match self.framing.replace(framing) {
            None => Ok(()),
            Some(_) => Err(Fault::FramedTwice),
        }
    }

    fn end(&self) -> Result<Framing, Fault> {
        match self.version {
            None => Err(Fault::LeadingEmptyLine),
            Some(Version::Http11) if !self.host => Err(Fault::Host),
            Some(Version::Http10 | Version::Http11) => Ok(self.framing.unwrap_or(Framing::Empty)),
        }
    }
}

/// Splits a line without its CRLF into name and value (blanks around the value included).
pub(super) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = line.iter().position(|&byte| !is_token(byte)).unwrap_or(line.len());
    match line.split_at_checked(end) {
        Some((name, [b':', value @ ..])) if !name.is_empty() && !has_control(value) => {
            Ok((name, value))
        }
        Some(_) | None => Err(field_fault(line)),
    }
}

fn field_fault(line: &[u8]) -> Fault {
    match line.first() {
        _ if has_control(line) => Fault::Control,
        Some(b' ' | b'\t') => Fault::Folded,
        Some(_) | None => Fault::FieldName,
    }
}

fn request_line(line: &[u8]) -> Result<Version, Fault> {
    if has_control(line) {
        return Err(Fault::Control);
    }
    let (method, rest) = memchr(b' ', line)
        .and_then(|blank| line.split_at_checked(blank))
        .ok_or(Fault::RequestLine)?;
    let rest = rest.get(1..).unwrap_or_default();
    let (target, version) = memchr(b' ', rest)
        .and_then(|blank| rest.split_at_checked(blank))
        .ok_or(Fault::RequestLine)?;
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(Fault::RequestLine);
    }
    // Visible ASCII only (RFC 3986): a raw byte above it has no one meaning.
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Fault::RequestLine);
    }
    match version {
        b" HTTP/1.1" => Ok(Version::Http11),
        b" HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Fault::Version),
    }
}

fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let digits = value.trim_ascii();
    if digits.is_empty() || digits.len() > MAX_LENGTH_DIGITS {
        return Err(Fault::Length);
    }
    digits.iter().try_fold(0_u64, |length, &digit| {
        let digit = char::from(digit).to_digit(10).ok_or(Fault::Length)?;
        length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(digit)))
            .ok_or(Fault::Length)
    })
}

/// Whether a byte may stand in a method or a field name (`tchar`, RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    // A table, because this is asked of every byte of every name.
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

// INVARIANT: `byte` stays below the table's length; this is evaluated by the compiler, so a wrong
// index would not build.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~'
        );
        byte += 1;
    }
    table
};

/// Whether a byte is a control character other than HTAB.
pub(super) const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

fn has_control(line: &[u8]) -> bool {
    // Folded without an early exit, which the compiler turns into vector instructions.
    line.iter().fold(false, |found, &byte| found | is_control(byte))
}

#[cfg(test)]
mod tests;
