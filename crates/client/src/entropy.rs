//! Random bytes of the system, for nonces, and jitter.

use std::time::Duration;

use crate::{Error, Result};

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0u8; N];
    aws_lc_rs::rand::fill(&mut out).map_err(|_| Error::Entropy)?;
    Ok(out)
}

/// At least `wait`, at most half as much again, so that many agents do not come back at once.
pub(crate) fn jittered(wait: Duration) -> Result<Duration> {
    let random = u32::from_be_bytes(bytes()?);
    Ok(wait.saturating_add(wait / 2 * (random >> 16) / (1 << 16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_never_shortens_and_adds_at_most_half() {
        let wait = Duration::from_millis(1000);
        let all: Vec<Duration> = (0..200).map(|_| jittered(wait).unwrap()).collect();
        assert!(all.iter().all(|got| *got >= wait && *got <= wait * 3 / 2));
        assert!(all.iter().any(|got| *got != all[0]));
    }
}
