//! Follows a chunked body (RFC 9112, section 7.1), stricter than the grammar's lenient readings.
//!
//! Sizes are 1 to 15 hex digits without blanks, every line ends in CRLF, and trailers obey the
//! rules of header fields. A byte is judged when it comes, so it does not matter how the body is
//! cut.

use super::head::{MAX_FIELDS, MAX_HEAD, is_control, is_token};

/// Most hex digits of a chunk size: 60 bits, far from any overflow.
const MAX_SIZE_DIGITS: u8 = 15;

/// Longest chunk extension in bytes, its semicolon included.
const MAX_EXTENSION: u16 = 256;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No digit, something else after the digits, or too many of them.
    #[error("a malformed chunk size")]
    Size,
    /// An extension with a control character, or one that is too long.
    #[error("a malformed chunk extension")]
    Extension,
    /// A line, or the data of a chunk, that does not end in CRLF.
    #[error("a line or a chunk does not end in CRLF")]
    LineEnd,
    /// A trailer that is no field line, or too many or too long ones.
    #[error("a malformed trailer")]
    Trailer,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All belong to the body, which goes on.
    More,
    /// The body ended after this many of them.
    End(usize),
    /// The byte at this offset breaks a rule; all before it were in order.
    Refused(usize, Fault),
}

/// A chunked body as far as it has come.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// Bytes left of the chunk.
    size: u64,
    digits: u8,
    extension: u16,
    trailer_bytes: usize,
    trailer_fields: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

impl Chunks {
    /// Follows the next bytes. After [`Step::End`] or [`Step::Refused`] the machine is of no
    /// further use.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.state == State::Data {
                at += self.skip_data(bytes.len() - at);
                continue;
            }
            match self.next(byte) {
                Ok(State::End) => return Step::End(at + 1),
                Ok(state) => self.state = state,
                Err(fault) => return Step::Refused(at, fault),
            }
            at += 1;
        }
        Step::More
    }

    fn skip_data(&mut self, available: usize) -> usize {
        let skipped = usize::try_from(self.size).map_or(available, |size| size.min(available));
        // A usize is at most 64 bits wide here, and no more than `size` by the line above.
        self.size = self.size.saturating_sub(u64::try_from(skipped).unwrap_or(u64::MAX));
        if self.size == 0 {
            self.state = State::DataCr;
        }
        skipped
    }

    fn next(&mut self, byte: u8) -> Result<State, Fault> {
        match self.state {
            State::Size => self.size_line(byte),
            State::Extension => self.extension(byte),
            State::SizeLf if byte == b'\n' => Ok(self.after_size_line()),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size),
            State::TrailerLf if byte == b'\n' => Ok(State::TrailerStart),
            State::EndLf if byte == b'\n' => Ok(State::End),
            State::TrailerStart if byte == b'\r' => Ok(State::EndLf),
            State::TrailerStart | State::TrailerName | State::TrailerValue => self.trailer(byte),
            State::SizeLf
            | State::Data
            | State::DataCr
            | State::DataLf
            | State::TrailerLf
            | State::EndLf
            | State::End => Err(Fault::LineEnd),
        }
    }

    fn size_line(&mut self, byte: u8) -> Result<State, Fault> {
        match (char::from(byte).to_digit(16), byte) {
            (Some(digit), _) if self.digits < MAX_SIZE_DIGITS => {
                self.digits += 1;
                self.size = (self.size << 4) | u64::from(digit);
                Ok(State::Size)
            }
            (None, b';') if self.digits > 0 => {
                self.extension = 1;
                Ok(State::Extension)
            }
            (None, b'\r') if self.digits > 0 => Ok(State::SizeLf),
            (None | Some(_), _) => Err(Fault::Size),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<State, Fault> {
        if byte == b'\r' {
            return Ok(State::SizeLf);
        }
        self.extension += 1;
        if is_control(byte) || self.extension > MAX_EXTENSION {
            return Err(Fault::Extension);
        }
        Ok(State::Extension)
    }

    fn after_size_line(&mut self) -> State {
        self.digits = 0;
        if self.size == 0 { State::TrailerStart } else { State::Data }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Fault> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_HEAD {
            return Err(Fault::Trailer);
        }
        match (self.state, byte) {
            (State::TrailerStart, _) if is_token(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > MAX_FIELDS {
                    Err(Fault::Trailer)
                } else {
                    Ok(State::TrailerName)
                }
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, _) if is_token(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if !is_control(byte) => Ok(State::TrailerValue),
            _ => Err(Fault::Trailer),
        }
    }
}

#[cfg(test)]
mod tests;
