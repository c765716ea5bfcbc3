//! The body, hashed as it arrives.

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use edgeward_wire::signature::BodyDigest;

use crate::rejection::Rejection;

/// A body and the digest of exactly these bytes. They travel together.
#[derive(Clone)]
pub struct HashedBody {
    bytes: Bytes,
    digest: BodyDigest,
}

// No `Debug` by derive: it would show what an agent sends.
impl std::fmt::Debug for HashedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HashedBody({} bytes, {})", self.bytes.len(), self.digest)
    }
}

impl HashedBody {
    /// The body.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn digest(&self) -> BodyDigest {
        self.digest
    }

    /// Gives the body up.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Takes a body chunk by chunk, up to a limit.
pub struct BodyHasher {
    context: digest::Context,
    first: Bytes,
    rest: BytesMut,
    left: u64,
}

impl BodyHasher {
    /// For a body of at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            context: digest::Context::new(&digest::SHA256),
            first: Bytes::new(),
            rest: BytesMut::new(),
            left: limit,
        }
    }

    /// Takes a chunk.
    ///
    /// # Errors
    /// [`Rejection::BodyTooLarge`] once the limit is passed.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), Rejection> {
        self.left = self.left.checked_sub(chunk.len() as u64).ok_or(Rejection::BodyTooLarge)?;
        self.context.update(&chunk);
        // One chunk is the usual case and is not copied.
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = chunk;
            return Ok(());
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.rest.extend_from_slice(&chunk);
        Ok(())
    }

    /// The whole body.
    pub fn finish(self) -> HashedBody {
        let tag = self.context.finish();
        let mut out = [0u8; 32];
        for (to, from) in out.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        let bytes = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        HashedBody { bytes, digest: BodyDigest::from_bytes(out) }
    }
}

impl std::fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyHasher({} bytes)", self.first.len() + self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_do_not_matter(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let whole: Vec<u8> = chunks.concat();
            let mut hasher = BodyHasher::new(whole.len() as u64);
            for chunk in chunks {
                hasher.push(chunk.into()).unwrap();
            }
            let body = hasher.finish();
            prop_assert_eq!(body.digest(), BodyDigest::of(&whole));
            prop_assert_eq!(&body.bytes()[..], &whole[..]);
        }
    }

    #[test]
    fn one_byte_past_the_limit_is_refused() {
        let mut hasher = BodyHasher::new(4);
        assert!(hasher.push(Bytes::from_static(b"1234")).is_ok());
        assert_eq!(hasher.push(Bytes::from_static(b"5")), Err(Rejection::BodyTooLarge));
    }
}
