//! What a server says of itself: who it is, whether it is to be used, what its clock shows.

use edgeward_core::time::WallMs;
use edgeward_store::Clock;
use redis::{Pipeline, Value};

use crate::options::HostPort;
use crate::reading::Reading;
use crate::start::StartError;

/// The server at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// `<run_id>/<master_replid>`: changes when the process does, and when it has been a replica. Once keys
    /// have been evicted their number is appended, since nonces may have been among them.
    pub(crate) identity: String,
    role: String,
    policy: String,
    mode: String,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub(crate) clock_ahead_ms: i64,
    /// The same clock by the monotonic one.
    pub(crate) reading: Reading,
}

/// How many answers [`ask`] brings.
pub(crate) const QUESTIONS: usize = 5;

/// How far the two clocks may be apart for the server to be used at all, in milliseconds. Readiness asks for
/// much less; this keeps a clock that is years off from raising a floor that never comes down.
const APART_MS: u64 = 10_000;

/// Adds what [`Standing::read`] reads the answers of. One `INFO` a section: several at once are newer than
/// Redis 6.
pub(crate) fn ask(pipeline: &mut Pipeline) {
    for section in ["server", "replication", "memory", "stats"] {
        pipeline.cmd("INFO").arg(section);
    }
    pipeline.cmd("TIME");
}

/// The wall clock half-way between two readings around a question, which is when it was answered.
pub(crate) struct Around<'a> {
    clock: &'a dyn Clock,
    asked: edgeward_core::time::Now,
}

impl<'a> Around<'a> {
    pub(crate) fn asked(clock: &'a dyn Clock) -> Self {
        Self { clock, asked: clock.now() }
    }

    /// The reading, and how far the clock is ahead of the wall clock half-way.
    fn answered(&self, shown: WallMs) -> Option<(Reading, i64)> {
        let (asked, answered) = (self.asked.mono, self.clock.now().mono);
        let half_way = self.asked.wall.plus(answered.since(asked) / 2);
        let ahead_ms = signed(shown).checked_sub(signed(half_way))?;
        Some((Reading { shown, asked, answered }, ahead_ms))
    }
}

impl Standing {
    /// Reads the answers to [`ask`]; `None` when they are not what Redis answers.
    pub(crate) fn read(answers: &[Value], around: &Around<'_>) -> Option<Self> {
        let [server, replication, memory, stats, time] = answers else { return None };
        let server = text(server)?;
        let replication = text(replication)?;
        let memory = text(memory)?;
        let run_id = field(&server, "run_id")?;
        let replication_id = field(&replication, "master_replid")?;
        let stats = text(stats)?;
        let evicted: u64 = field(&stats, "evicted_keys")?.parse().ok()?;
        if run_id.is_empty() || replication_id.is_empty() {
            return None;
        }
        let (reading, clock_ahead_ms) = around.answered(time_of(time)?)?;
        Some(Self {
            identity: match evicted {
                0 => format!("{run_id}/{replication_id}"),
                evicted => format!("{run_id}/{replication_id}/{evicted}"),
            },
            role: field(&replication, "role")?.to_owned(),
            policy: field(&memory, "maxmemory_policy")?.to_owned(),
            mode: field(&server, "redis_mode").unwrap_or("standalone").to_owned(),
            clock_ahead_ms,
            reading,
        })
    }

    /// Whether nonces may be kept there.
    pub(crate) fn usable(&self, address: &HostPort, in_cluster: bool) -> Result<(), StartError> {
        let address = address.to_string();
        if (self.mode == "cluster") != in_cluster {
            let remedy = if in_cluster {
                "name the nodes of a cluster, or do not call it one"
            } else {
                "name it as a cluster (redis-cluster://)"
            };
            return Err(StartError::Mode { address, mode: self.mode.clone(), remedy });
        }
        if self.role != "master" {
            return Err(StartError::NotPrimary { address, role: self.role.clone() });
        }
        if self.policy != "noeviction" {
            return Err(StartError::Evicts { address, policy: self.policy.clone() });
        }
        if self.clock_ahead_ms.unsigned_abs() > APART_MS {
            return Err(StartError::Clock { address, ahead_ms: self.clock_ahead_ms });
        }
        Ok(())
    }
}

/// A bulk string, which `INFO` answers as a verbatim one in RESP3.
pub(crate) fn text(value: &Value) -> Option<String> {
    if let Value::BulkString(bytes) = value {
        return String::from_utf8(bytes.clone()).ok();
    }
    if let Value::VerbatimString { text, .. } | Value::SimpleString(text) = value {
        return Some(text.clone());
    }
    None
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_end()))
}

/// `TIME`: seconds and microseconds.
fn time_of(value: &Value) -> Option<WallMs> {
    let Value::Array(parts) = value else { return None };
    let [seconds, micros] = parts.as_slice() else { return None };
    let seconds: u64 = text(seconds)?.parse().ok()?;
    let micros: u64 = text(micros)?.parse().ok()?;
    Some(WallMs(seconds.checked_mul(1000)?.checked_add(micros / 1000)?))
}

fn signed(at: WallMs) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use edgeward_store::clock::ManualClock;

    use super::*;

    fn answers(role: &str, policy: &str) -> Vec<Value> {
        let verbatim =
            |text: String| Value::VerbatimString { format: redis::VerbatimFormat::Text, text };
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        vec![
            verbatim("# Server\r\nredis_mode:standalone\r\nrun_id:abc\r\n".to_owned()),
            verbatim(format!("role:{role}\r\nmaster_replid:def\r\nmaster_replid2:0\r\n")),
            verbatim(format!("maxmemory_policy:{policy}\r\n")),
            verbatim("# Stats\r\nevicted_keys:0\r\n".to_owned()),
            Value::Array(vec![bulk("1700000000"), bulk("250999")]),
        ]
    }

    #[test]
    fn a_server_is_who_it_says_and_its_clock_is_read_half_way() {
        let clock = ManualClock::at(WallMs(1_700_000_000_000));
        let around = Around::asked(&clock);
        clock.advance(100);
        let standing = Standing::read(&answers("master", "noeviction"), &around).expect("answers");
        assert_eq!(standing.identity, "abc/def");
        assert_eq!(standing.clock_ahead_ms, 200);
        let address = HostPort::new("h", 1);
        assert_eq!(standing.usable(&address, false), Ok(()));
        assert!(matches!(standing.usable(&address, true), Err(StartError::Mode { .. })));
    }

    #[test]
    fn a_replica_and_a_server_that_evicts_are_not_usable() {
        let clock = ManualClock::at(WallMs(1_700_000_000_000));
        let usable = |role, policy| {
            Standing::read(&answers(role, policy), &Around::asked(&clock))
                .expect("answers")
                .usable(&HostPort::new("h", 1), false)
        };
        assert!(matches!(usable("slave", "noeviction"), Err(StartError::NotPrimary { .. })));
        assert!(matches!(usable("master", "allkeys-lru"), Err(StartError::Evicts { .. })));
        assert!(matches!(usable("master", "volatile-ttl"), Err(StartError::Evicts { .. })));
    }

    #[test]
    fn a_server_that_has_evicted_is_another() {
        let clock = ManualClock::at(WallMs(0));
        let mut answers = answers("master", "noeviction");
        answers[3] = Value::BulkString(b"evicted_keys:12\r\n".to_vec());
        let standing = Standing::read(&answers, &Around::asked(&clock)).expect("answers");
        assert_eq!(standing.identity, "abc/def/12");
    }

    #[test]
    fn a_clock_that_is_far_off_is_not_usable() {
        for wall in [1_700_000_011_000, 1_699_999_989_000] {
            let clock = ManualClock::at(WallMs(wall));
            let standing = Standing::read(&answers("master", "noeviction"), &Around::asked(&clock))
                .expect("answers");
            let usable = standing.usable(&HostPort::new("h", 1), false);
            assert!(matches!(usable, Err(StartError::Clock { .. })), "{usable:?}");
        }
    }

    #[test]
    fn what_redis_would_not_answer_is_nobody() {
        let clock = ManualClock::at(WallMs(0));
        let mut without_id = answers("master", "noeviction");
        without_id[0] = Value::BulkString(b"run_id:\r\n".to_vec());
        for answers in [vec![], without_id, vec![Value::Nil; QUESTIONS]] {
            assert_eq!(Standing::read(&answers, &Around::asked(&clock)), None);
        }
    }
}
