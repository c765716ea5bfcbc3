//! Buckets and the names of keys.
//!
//! Keys read `<prefix>:<letter>:{<bucket>}:…`. The braces are Redis Cluster's hash tag: all keys of a bucket
//! lie in one slot, so one script may touch any of them.

use aws_lc_rs::digest::{SHA256, digest};
use edgeward_wire::{AgentId, Nonce, SessionIdHash};

/// How many buckets there are. Fixed for ever: another number would look for nonces in other places.
pub(crate) const BUCKETS: u16 = 128;

/// Where everything about one agent lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Bucket(u16);

impl Bucket {
    /// The bucket of an agent: the first eight bytes of SHA-256 of its 16 bytes, big-endian, modulo 128.
    pub(crate) fn of(agent: AgentId) -> Self {
        let hash = digest(&SHA256, agent.as_bytes());
        let first =
            hash.as_ref().iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Self(u16::try_from(first % u64::from(BUCKETS)).unwrap_or_default())
    }

    /// All of them, in order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS).map(Self)
    }

    /// Its place among all, from 0.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The one that the store's id lies beside.
    pub(crate) fn of_store_id() -> Self {
        Self(0)
    }

    /// Whether the store's id lies beside it.
    pub(crate) fn has_store_id(self) -> bool {
        self == Self::of_store_id()
    }

    /// The hash tag, such as `{17}`.
    pub(crate) fn tag(self) -> String {
        format!("{{{}}}", self.0)
    }

    /// The slot of Redis Cluster that the tag falls into: CRC-16/XMODEM of what the braces hold, modulo
    /// 16384 (the Redis Cluster specification, "Key distribution model").
    pub(crate) fn slot(self) -> u16 {
        let crc = self.0.to_string().bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            })
        });
        crc % 16384
    }
}

/// The names of keys, all under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The identity of the server that the bucket's nonces are whole on.
    pub(crate) fn epoch(&self, bucket: Bucket) -> String {
        self.of_bucket('e', bucket)
    }

    /// The replay floor, epoch milliseconds; missing for none.
    pub(crate) fn floor(&self, bucket: Bucket) -> String {
        self.of_bucket('f', bucket)
    }

    /// The furthest that Redis's clock was seen at, epoch milliseconds.
    pub(crate) fn seen(&self, bucket: Bucket) -> String {
        self.of_bucket('t', bucket)
    }

    /// The id of the store, in the slot of the first bucket.
    pub(crate) fn store_id(&self) -> String {
        self.of_bucket('i', Bucket(0))
    }

    /// The widest settings that claims were made with, `<window>:<ahead>:<lag>` in milliseconds.
    pub(crate) fn widest(&self, bucket: Bucket) -> String {
        self.of_bucket('w', bucket)
    }

    pub(crate) fn nonce(&self, agent: AgentId, nonce: &Nonce) -> String {
        format!("{}:{}", self.of_agent('n', agent), nonce.as_str())
    }

    /// A rate: the agent's own for no route.
    pub(crate) fn rate(&self, agent: AgentId, route: Option<u32>) -> String {
        match route {
            None => self.of_agent('r', agent),
            Some(route) => format!("{}:{route}", self.of_agent('r', agent)),
        }
    }

    pub(crate) fn session(&self, agent: AgentId, id: &SessionIdHash) -> String {
        format!("{}:{id}", self.of_agent('s', agent))
    }

    /// The set of an agent's sessions.
    pub(crate) fn sessions_of(&self, agent: AgentId) -> String {
        self.of_agent('o', agent)
    }

    /// Written when something about the agent has changed, for those who listen.
    pub(crate) fn agent_signal(&self, agent: AgentId) -> String {
        self.of_agent('a', agent)
    }

    /// What a node writes to hear of it itself.
    pub(crate) fn canary(&self, node: &str, bucket: Bucket) -> String {
        format!("{}{}", self.canaries_of(node), bucket.tag())
    }

    /// What the names of a node's canaries begin with.
    pub(crate) fn canaries_of(&self, node: &str) -> String {
        format!("{}{node}:", self.canaries())
    }

    /// What the names of all canaries begin with.
    pub(crate) fn canaries(&self) -> String {
        format!("{}:p:", self.prefix)
    }

    /// What the names of all sessions begin with.
    pub(crate) fn sessions(&self) -> String {
        format!("{}:s:", self.prefix)
    }

    /// What the names of all signals about agents begin with.
    pub(crate) fn agent_signals(&self) -> String {
        format!("{}:a:", self.prefix)
    }

    /// The channel that changes are told on where Redis does not track what clients have read.
    pub(crate) fn told(&self) -> String {
        format!("{}:told", self.prefix)
    }

    fn of_bucket(&self, letter: char, bucket: Bucket) -> String {
        format!("{}:{letter}:{}", self.prefix, bucket.tag())
    }

    fn of_agent(&self, letter: char, agent: AgentId) -> String {
        format!("{}:{agent}", self.of_bucket(letter, Bucket::of(agent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f";

    #[test]
    fn slots_are_those_of_the_specification() {
        // as CLUSTER KEYSLOT says
        let slots: Vec<u16> = [0, 1, 17, 127].map(|n| Bucket(n).slot()).to_vec();
        assert_eq!(slots, [13907, 9842, 12304, 6102]);
    }

    #[test]
    fn every_key_of_an_agent_has_the_tag_of_its_bucket() {
        let agent = AgentId::parse(AGENT).expect("an agent");
        let keys = Keys::new("edgeward");
        let tag = Bucket::of(agent).tag();
        let nonce = Nonce::parse("0123456789").expect("a nonce");
        let session = SessionIdHash::from_bytes([7; 32]);
        for key in [
            keys.nonce(agent, &nonce),
            keys.rate(agent, None),
            keys.rate(agent, Some(3)),
            keys.session(agent, &session),
            keys.sessions_of(agent),
            keys.agent_signal(agent),
        ] {
            assert!(key.starts_with("edgeward:"), "{key}");
            assert!(key.contains(&format!(":{tag}:{AGENT}")), "{key}");
        }
        assert_eq!(keys.epoch(Bucket(17)), "edgeward:e:{17}");
    }

    #[test]
    fn the_bucket_of_an_agent_never_changes() {
        let agent = AgentId::parse(AGENT).expect("an agent");
        assert_eq!(Bucket::of(agent), Bucket(80));
        assert_eq!(Bucket::all().count(), 128);
    }
}
