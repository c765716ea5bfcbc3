//! Server-sent events (WHATWG HTML, section 9.2), read from pieces that may be split anywhere.

use std::time::Duration;

use crate::{Error, Result};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The last event id that the stream had told by then, or empty.
    pub id: String,
    /// What kind of event; `message` where the stream does not say.
    pub event: String,
    /// The data, lines joined by LF.
    pub data: String,
}

/// The largest event, and the longest line, bytes.
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// Reads a stream piece by piece.
///
/// ```
/// use edgeward_client::sse::Parser;
///
/// let mut parser = Parser::default();
/// assert!(parser.push(b"id: 7\ndata: hel").unwrap().is_empty());
/// let events = parser.push(b"lo\n\n").unwrap();
/// assert_eq!((events[0].id.as_str(), events[0].data.as_str()), ("7", "hello"));
/// ```
#[derive(Debug, Default)]
pub struct Parser {
    /// A line that has no end yet.
    line: Vec<u8>,
    /// The last piece ended in CR: an LF right after it belongs to that line's end.
    after_cr: bool,
    /// The first line is over, and with it the only place of a byte order mark.
    begun: bool,
    event: String,
    data: String,
    id: String,
    last_event_id: String,
    retry: Option<Duration>,
}

impl Parser {
    /// A parser for a stream that goes on after `last_event_id`.
    pub fn resuming(last_event_id: &str) -> Self {
        Self {
            id: last_event_id.to_owned(),
            last_event_id: last_event_id.to_owned(),
            ..Self::default()
        }
    }

    /// Takes the next piece and returns the events that are complete with it.
    ///
    /// # Errors
    /// When a line or an event is over 4 MiB.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if piece.is_empty() {
            return Ok(events);
        }
        let mut rest = piece;
        if std::mem::take(&mut self.after_cr) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            let (line, end) = rest.split_at(at);
            self.extend(line)?;
            self.finish_line(&mut events)?;
            rest = match end {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, after @ ..] => after,
                [] => &[],
            };
        }
        self.extend(rest)?;
        Ok(events)
    }

    /// The id to resume after, or empty: that of the last event that was complete.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// How long the stream asks to wait before coming back, if it does.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn extend(&mut self, part: &[u8]) -> Result<()> {
        if self.line.len() + part.len() > MAX_EVENT {
            return Err(Error::Protocol("a line of a stream over 4 MiB".to_owned()));
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn finish_line(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let mut text = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.is_empty() {
            events.extend(self.dispatch());
        } else {
            let (name, value) = match memchr::memchr(b':', text) {
                Some(at) => {
                    let (name, value) = text.split_at(at);
                    let value = value.strip_prefix(b":").unwrap_or(value);
                    (name, value.strip_prefix(b" ").unwrap_or(value))
                }
                None => (text, &b""[..]),
            };
            self.field(name, value)?;
        }
        // Keeps the allocation for the next line.
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        match name {
            b"data" => {
                if self.data.len() + value.len() > MAX_EVENT {
                    return Err(Error::Protocol("an event over 4 MiB".to_owned()));
                }
                self.data.push_str(&String::from_utf8_lossy(value));
                self.data.push('\n');
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => {
                self.id = String::from_utf8_lossy(value).into_owned();
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let text = String::from_utf8_lossy(value);
                self.retry = text.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            // Comments (an empty name) and fields that nobody knows.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_event_id.clone_from(&self.id);
        let event = std::mem::take(&mut self.event);
        if self.data.is_empty() {
            return None;
        }
        let mut data = std::mem::take(&mut self.data);
        data.pop();
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Event { id: self.last_event_id.clone(), event, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> (Vec<Event>, String, Option<Duration>) {
        let mut parser = Parser::default();
        let events = pieces.iter().flat_map(|piece| parser.push(piece).unwrap()).collect();
        (events, parser.last_event_id().to_owned(), parser.retry())
    }

    fn event(id: &str, event: &str, data: &str) -> Event {
        Event { id: id.to_owned(), event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn the_examples_of_the_standard_read_as_it_says() {
        let (events, ..) = read(&[b"data: YHOO\ndata: +2\ndata: 10\n\n"]);
        assert_eq!(events, [event("", "message", "YHOO\n+2\n10")]);
        let (events, id, _) = read(&[
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        ]);
        assert_eq!(
            events,
            [
                event("1", "message", "first event"),
                event("", "message", "second event"),
                event("", "message", " third event"),
            ]
        );
        assert_eq!(id, "");
        let (events, ..) = read(&[b"data\n\ndata\ndata\n\ndata:"]);
        assert_eq!(events, [event("", "message", ""), event("", "message", "\n")]);
    }

    #[test]
    fn line_ends_mark_and_fields() {
        let (events, id, retry) = read(&[
            b"\xef\xbb\xbfevent: a\rid: 1\r\ndata: x\n\r\nretry: 250\r\rretry: 2s\nid: no\0nul\nnothing: known\nid: 2\n\n",
        ]);
        assert_eq!(events, [event("1", "a", "x")]);
        assert_eq!((id.as_str(), retry), ("2", Some(Duration::from_millis(250))));
    }

    #[test]
    fn an_unfinished_event_is_neither_given_nor_resumed_after() {
        let (events, id, _) = read(&[b"id: 1\ndata: x\n\nid: 2\ndata: y\n"]);
        assert_eq!(events, [event("1", "message", "x")]);
        assert_eq!(id, "1");
    }

    #[test]
    fn an_empty_piece_between_cr_and_lf_changes_nothing() {
        let (events, ..) = read(&[b"data: a\r", b"", b"\ndata: b\r", b"\n\r\n"]);
        assert_eq!(events, [event("", "message", "a\nb")]);
    }

    #[test]
    fn a_stream_that_resumes_keeps_the_id_it_came_with() {
        let mut parser = Parser::resuming("41");
        assert_eq!(parser.push(b"data: x\n\n").unwrap(), [event("41", "message", "x")]);
    }

    #[test]
    fn what_never_ends_is_refused() {
        let piece = vec![b'x'; 1024 * 1024];
        let mut parser = Parser::default();
        assert!((0..5).any(|_| parser.push(&piece).is_err()));
        let mut parser = Parser::default();
        let line = [b"data:".as_slice(), &piece, b"\n"].concat();
        assert!((0..5).any(|_| parser.push(&line).is_err()));
    }

    proptest! {
        /// However a stream is split, the same events come out.
        #[test]
        fn splitting_changes_nothing(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("\n"), Just("\r"), Just("\r\n"), Just("data: x"), Just("data"), Just(":"),
                    Just("id: 7"), Just("event: e"), Just("retry: 9"), Just("é"), Just("\u{feff}"),
                    Just("id"), Just(" "), Just("\0"),
                ],
                0..40,
            ),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let whole = parts.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
            at.extend([0, whole.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
            let bytes: Vec<&[u8]> = whole.chunks(1).collect();
            prop_assert_eq!(read(&pieces), read(&[&whole]));
            prop_assert_eq!(read(&bytes), read(&[&whole]));
        }
    }
}
