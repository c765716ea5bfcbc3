//! Follows what one connection receives, over all its requests: bytes in, verdict out.

use memchr::memchr2;

use super::chunked::{self, Chunks, Step};
use super::h2_frames::{self, Frames};
use super::head::{self, Framing, Head, MAX_HEAD, Scan};

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Takes the place of the first bytes that are refused.
///
/// It makes hyper's parser fail wherever it stands: NUL is no part of a method, a target, a field,
/// a chunk size or a line end; the bare LF ends a chunk extension, in which NUL would pass; and the
/// empty lines end a head or trailers, which are parsed only when they are complete.
pub(super) const POISON: &[u8] = b"\0\n\r\n\r\n";

/// Why bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The head of a request.
    #[error("request head: {0}")]
    Head(#[from] head::Fault),
    /// A chunked body.
    #[error("chunked body: {0}")]
    Chunked(#[from] chunked::Fault),
    /// A connection of HTTP/2.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2_frames::Fault),
}

/// What is to be done with some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They may be read on.
    Pass,
    /// Those from this offset on are to be replaced by [`POISON`], and nothing may follow.
    Poison(usize, Fault),
    /// The connection is to be ended without an answer.
    End(Fault),
}

/// What the peer owes next, which decides the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owes {
    /// The rest of a head that has begun, or anything at all on a new connection.
    Head,
    /// Nothing.
    Nothing,
    /// The rest of a body.
    Body,
}

/// A connection as far as it has been read.
#[derive(Debug)]
pub(super) struct Wire {
    phase: Phase,
    frames: FrameLimits,
    heads: u64,
}

/// The limits of [`Frames::new`].
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLimits {
    pub(super) max_frame: u32,
    pub(super) max_idle_work: u32,
}

#[derive(Debug)]
enum Phase {
    /// So many bytes of the HTTP/2 preface have come; `or_http1` unless HTTP/2 was agreed on.
    Preface {
        matched: usize,
        or_http1: bool,
    },
    Head(Reader),
    Length(u64),
    Chunked(Chunks),
    Http2(Frames),
}

impl Wire {
    /// A connection of either version; the first bytes tell.
    pub(super) fn new(frames: FrameLimits) -> Self {
        Self { phase: Phase::Preface { matched: 0, or_http1: true }, frames, heads: 0 }
    }

    /// A connection on which HTTP/2 was agreed (ALPN).
    pub(super) fn h2(frames: FrameLimits) -> Self {
        Self { phase: Phase::Preface { matched: 0, or_http1: false }, frames, heads: 0 }
    }

    /// Judges the next bytes, which came at `now_ms` (looked at for HTTP/2 only).
    ///
    /// A `#` in a request's target becomes `%`, and so do the target's bytes after it: the HTTP
    /// library would cut a fragment away unseen, whereas an invalid escape reaches the check of the
    /// target and is refused there.
    pub(super) fn inspect(&mut self, bytes: &mut [u8], now_ms: impl FnOnce() -> u64) -> Verdict {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let used = match &mut self.phase {
                Phase::Preface { matched, or_http1 } => {
                    let common = PREFACE
                        .iter()
                        .skip(*matched)
                        .zip(&*rest)
                        .take_while(|(a, b)| a == b)
                        .count();
                    if *matched + common == PREFACE.len() {
                        self.phase = Phase::Http2(Frames::new(
                            self.frames.max_frame,
                            self.frames.max_idle_work,
                        ));
                        Ok(common)
                    } else if common == rest.len() {
                        *matched += common;
                        Ok(common)
                    } else if *or_http1 {
                        Reader::after(PREFACE.get(..*matched).unwrap_or_default()).map(|reader| {
                            self.phase = Phase::Head(reader);
                            0
                        })
                    } else {
                        return Verdict::End(h2_frames::Fault::Preface.into());
                    }
                }
                Phase::Head(reader) => match reader.push(rest) {
                    Ok(Some((used, framing))) => {
                        self.heads += 1;
                        self.phase = body(framing);
                        Ok(used)
                    }
                    Ok(None) => Ok(rest.len()),
                    Err(fault) => Err(fault),
                },
                Phase::Length(left) => {
                    let used =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left = left.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX));
                    if *left == 0 {
                        self.phase = Phase::Head(Reader::default());
                    }
                    Ok(used)
                }
                Phase::Chunked(chunks) => match chunks.feed(rest) {
                    Step::More => Ok(rest.len()),
                    Step::End(used) => {
                        self.phase = Phase::Head(Reader::default());
                        Ok(used)
                    }
                    Step::Refused(offset, fault) => {
                        return Verdict::Poison(at + offset, fault.into());
                    }
                },
                Phase::Http2(frames) => {
                    return frames
                        .feed(rest, now_ms())
                        .map_or_else(|fault| Verdict::End(fault.into()), |()| Verdict::Pass);
                }
            };
            match used {
                Ok(used) => at += used,
                // All that these bytes hold of the head goes: hyper must not see the end of it.
                Err(fault) => return Verdict::Poison(at, fault.into()),
            }
        }
        Verdict::Pass
    }

    /// What the peer owes.
    pub(super) fn owes(&self) -> Owes {
        match &self.phase {
            Phase::Preface { .. } => Owes::Head,
            Phase::Head(reader) if reader.has_begun() => Owes::Head,
            Phase::Http2(frames) if frames.owes_head() => Owes::Head,
            Phase::Head(_) | Phase::Http2(_) => Owes::Nothing,
            Phase::Length(_) | Phase::Chunked(_) => Owes::Body,
        }
    }

    /// Whether a request of HTTP/1 has begun and is not all there.
    pub(super) fn is_mid_request(&self) -> bool {
        match &self.phase {
            Phase::Preface { matched, or_http1 } => *or_http1 && *matched > 0,
            Phase::Head(reader) => reader.has_begun(),
            Phase::Length(_) | Phase::Chunked(_) => true,
            Phase::Http2(_) => false,
        }
    }

    /// Heads of HTTP/1 that have been passed.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }
}

fn body(framing: Framing) -> Phase {
    match framing {
        Framing::Empty | Framing::Length(0) => Phase::Head(Reader::default()),
        Framing::Length(length) => Phase::Length(length),
        Framing::Chunked => Phase::Chunked(Chunks::default()),
    }
}

/// Reads one head, which may come in pieces. One that comes whole is judged where it lies.
#[derive(Debug, Default)]
struct Reader {
    scan: Scan,
    /// The pieces so far, at most [`MAX_HEAD`] bytes.
    held: Vec<u8>,
    place: Place,
}

/// Where in the request line the last byte stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Method,
    Target,
    Fragment,
    Behind,
}

impl Reader {
    /// A head whose first bytes have been passed already.
    fn after(passed: &[u8]) -> Result<Self, head::Fault> {
        let mut reader = Self::default();
        if !passed.is_empty() {
            reader.push(&mut passed.to_vec())?;
        }
        Ok(reader)
    }

    fn has_begun(&self) -> bool {
        !self.held.is_empty()
    }

    /// Judges the next piece; of a whole head, how many bytes of the piece belong to it.
    fn push(&mut self, piece: &mut [u8]) -> Result<Option<(usize, Framing)>, head::Fault> {
        self.spoil_fragment(piece);
        let before = self.held.len();
        let head = if before == 0 {
            let head = self.scan.advance(piece)?;
            if head.is_none() {
                self.held.extend_from_slice(piece);
            }
            head
        } else {
            let room = MAX_HEAD.saturating_sub(before);
            self.held.extend_from_slice(piece.get(..room).unwrap_or(piece));
            self.scan.advance(&self.held)?
        };
        Ok(head.map(|Head { len, framing }| (len.saturating_sub(before), framing)))
    }

    fn spoil_fragment(&mut self, piece: &mut [u8]) {
        let is_usual = self.place == Place::Method
            && memchr2(b'#', b'\n', piece).is_some_and(|found| piece.get(found) == Some(&b'\n'));
        if is_usual {
            self.place = Place::Behind;
        }
        if self.place == Place::Behind {
            return;
        }
        for byte in piece {
            self.place = match (self.place, *byte) {
                (_, b'\n') => Place::Behind,
                (Place::Method, b' ') => Place::Target,
                (Place::Target | Place::Fragment, b' ' | b'\r') => Place::Behind,
                (Place::Target, b'#') => Place::Fragment,
                (place, _) => place,
            };
            match self.place {
                Place::Method | Place::Target => {}
                Place::Fragment => *byte = b'%',
                Place::Behind => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
