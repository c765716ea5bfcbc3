//! Walks the frame headers of an HTTP/2 connection (RFC 9113, section 4.1) and counts the frames
//! that make a peer work without asking for anything: the floods of RFC 9113, section 10.5.
//! Payloads are skipped unread.

/// Bytes of a frame header.
const HEADER: usize = 9;

/// The span over which [`Frames`] counts, in slots of one second.
const SLOTS: usize = 10;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// Why an HTTP/2 connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The connection was agreed to be HTTP/2 and does not begin with its preface.
    #[error("not the preface of HTTP/2")]
    Preface,
    /// A frame longer than the limit, which is what the edge's settings allow.
    #[error("a frame is too long")]
    FrameTooLong,
    /// Too many resets, pings, settings, priorities and empty frames in ten seconds.
    #[error("a flood of control frames")]
    Flood,
}

/// The frames of one connection, after the preface.
#[derive(Debug)]
pub struct Frames {
    max_frame: u32,
    header: [u8; HEADER],
    have: usize,
    /// Bytes of payload still to come.
    payload: u32,
    block: Block,
    started: bool,
    flood: Flood,
}

/// Where the connection stands in a header block (RFC 9113, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Outside,
    Open,
    /// In the last frame of the block.
    Closing,
}

impl Frames {
    /// `max_frame`: longest payload in bytes; `max_idle_work`: most counted frames in ten seconds.
    #[must_use]
    pub fn new(max_frame: u32, max_idle_work: u32) -> Self {
        Self {
            max_frame,
            header: [0; HEADER],
            have: 0,
            payload: 0,
            block: Block::Outside,
            started: false,
            flood: Flood { max: max_idle_work, slots: [0; SLOTS], second: 0 },
        }
    }

    /// Walks on over `bytes`, which came at `now_ms` on any clock that only goes forward.
    ///
    /// # Errors
    ///
    /// The limit that the peer has exceeded; the connection is to be ended.
    pub fn feed(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Fault> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skipped =
                    usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload =
                    self.payload.saturating_sub(u32::try_from(skipped).unwrap_or(u32::MAX));
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                if let Some(slot) = self.header.get_mut(self.have) {
                    *slot = byte;
                }
                self.have += 1;
                bytes = rest;
                if self.have == HEADER {
                    self.have = 0;
                    self.begin_frame(now_ms)?;
                }
            }
            if self.payload == 0 && self.block == Block::Closing {
                self.block = Block::Outside;
            }
        }
        Ok(())
    }

    /// Whether the peer owes the rest of a frame header or of a header block, or its first frame.
    #[must_use]
    pub fn owes_head(&self) -> bool {
        !self.started || self.have > 0 || self.block != Block::Outside
    }

    fn begin_frame(&mut self, now_ms: u64) -> Result<(), Fault> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        if length > self.max_frame {
            return Err(Fault::FrameTooLong);
        }
        if is_idle_work(kind, flags, length) {
            self.flood.count(now_ms)?;
        }
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block = if flags & END_HEADERS == 0 { Block::Open } else { Block::Closing };
        }
        self.payload = length;
        self.started = true;
        Ok(())
    }
}

/// Whether a frame costs work and carries nothing. `WINDOW_UPDATE` is left out: a client that reads
/// a long stream sends them by the thousand.
const fn is_idle_work(kind: u8, flags: u8, length: u32) -> bool {
    match kind {
        RST_STREAM | PING | SETTINGS | PRIORITY => true,
        // One byte of padding length and no padding is as empty as no byte.
        DATA => flags & END_STREAM == 0 && (length == 0 || (length == 1 && flags & PADDED != 0)),
        _ => length == 0,
    }
}

/// Counts over a window that slides by the second.
#[derive(Debug)]
struct Flood {
    max: u32,
    slots: [u32; SLOTS],
    second: u64,
}

impl Flood {
    fn count(&mut self, now_ms: u64) -> Result<(), Fault> {
        self.slide(now_ms / 1000);
        if let Some(newest) = self.slots.first_mut() {
            *newest = newest.saturating_add(1);
        }
        let counted = self.slots.iter().fold(0_u32, |sum, &slot| sum.saturating_add(slot));
        if counted > self.max { Err(Fault::Flood) } else { Ok(()) }
    }

    /// Moves the slots on to `second`; the newest is the first.
    fn slide(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second);
        let passed = usize::try_from(passed).map_or(SLOTS, |passed| passed.min(SLOTS));
        self.slots.rotate_right(passed);
        self.slots.iter_mut().take(passed).for_each(|slot| *slot = 0);
        self.second = self.second.max(second);
    }
}

#[cfg(test)]
mod tests;
