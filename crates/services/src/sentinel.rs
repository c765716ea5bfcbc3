//! Redis with Sentinel: a primary, a replica, and three that watch over them.

use std::net::SocketAddr;

use crate::redis::Kind;
use crate::wait::until;
use crate::{REDIS_SUPERUSER, Redis, RedisOptions, Reply, ServiceError};

/// What the sentinels call the primary.
const NAME: &str = "edgeward";
const SENTINELS: usize = 3;
/// How long a server may be silent until a sentinel thinks that it is down.
const DOWN_AFTER_MS: u32 = 500;
const FAILOVER_TIMEOUT_MS: u32 = 3000;

/// A primary and a replica, watched by three sentinels of which two must agree.
///
/// A primary that is silent for 500 ms is replaced, which takes a second or two in all. A replica
/// that has been without its primary for 5 s more than that is down takes no one's place.
#[derive(Debug)]
pub struct RedisWithSentinel {
    servers: [Redis; 2],
    sentinels: Vec<Redis>,
}

impl RedisWithSentinel {
    /// Starts all five, and waits until the sentinels know each other and both servers. The options
    /// are those of both servers; [`RedisOptions::replica_of`] is not heeded.
    ///
    /// # Errors
    ///
    /// When Redis is missing or a server does not start.
    pub fn start(options: RedisOptions) -> Result<Self, ServiceError> {
        let primary = Redis::start(RedisOptions { replica_of: None, ..options.clone() })?;
        let replica_of = Some(primary.address());
        let replica = Redis::start(RedisOptions { replica_of, ..options.clone() })?;
        replica.wait_for("master_link_status", "up")?;
        let settings = sentinel_settings(primary.address(), !options.users.is_empty());
        let sentinels = (0..SENTINELS)
            .map(|_| {
                let options = RedisOptions { config: settings.clone(), ..Default::default() };
                Redis::start_as(options, Kind::Sentinel)
            })
            .collect::<Result<_, _>>()?;
        let all = Self { servers: [primary, replica], sentinels };
        all.settle()?;
        Ok(all)
    }

    /// Waits until every sentinel knows the others, and the primary and its replica as what they are:
    /// one that has not seen a change of roles yet would undo the next. All five must run.
    ///
    /// # Errors
    ///
    /// When it is not so after 30 s.
    pub fn settle(&self) -> Result<(), ServiceError> {
        for sentinel in &self.sentinels {
            until("the sentinels know each other and the servers", || self.knows_all(sentinel))?;
        }
        Ok(())
    }

    /// What the sentinels call the primary.
    #[must_use]
    pub fn master_name(&self) -> &'static str {
        NAME
    }

    /// Where the sentinels listen.
    #[must_use]
    pub fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Redis::address).collect()
    }

    /// The sentinels, which answer commands as a Redis does.
    #[must_use]
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// Both servers, the one first that was the primary at the start.
    #[must_use]
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// Where the primary is now, as the first sentinel says that answers.
    ///
    /// # Errors
    ///
    /// When none answers.
    pub fn current_primary(&self) -> Result<SocketAddr, ServiceError> {
        self.sentinels.iter().find_map(primary_by).ok_or_else(|| ServiceError::Refused {
            what: "ask for the primary".to_owned(),
            message: "no sentinel answers".to_owned(),
        })
    }

    /// The primary now, as a sentinel says.
    ///
    /// # Errors
    ///
    /// As [`current_primary`](Self::current_primary).
    pub fn primary(&self) -> Result<&Redis, ServiceError> {
        let [first, second] = &self.servers;
        Ok(if self.current_primary()? == second.address() { second } else { first })
    }

    /// The server that is not the primary now.
    ///
    /// # Errors
    ///
    /// As [`current_primary`](Self::current_primary).
    pub fn replica(&self) -> Result<&Redis, ServiceError> {
        let [first, second] = &self.servers;
        Ok(if self.current_primary()? == second.address() { first } else { second })
    }

    /// Has the sentinels swap the two servers, both of which must run, and waits until it is done and all know it.
    ///
    /// # Errors
    ///
    /// When it is not done after 30 s.
    pub fn failover(&self) -> Result<(), ServiceError> {
        self.settle()?;
        let old = self.current_primary()?;
        until("a sentinel begins a failover", || {
            // it refuses while it finds no good replica
            let begun = self
                .sentinels
                .iter()
                .any(|sentinel| sentinel.command(&["SENTINEL", "FAILOVER", NAME]).is_ok());
            Ok(begun.then_some(()))
        })?;
        self.next_primary(old)?;
        self.settle()
    }

    /// Waits until every sentinel that answers names another primary than this one, and that one takes
    /// writes; for after the old one was killed.
    ///
    /// # Errors
    ///
    /// When it is not so after 30 s.
    pub fn next_primary(&self, old: SocketAddr) -> Result<&Redis, ServiceError> {
        until("the sentinels have made another server the primary", || {
            let named: Vec<SocketAddr> = self.sentinels.iter().filter_map(primary_by).collect();
            if named.is_empty() || named.contains(&old) {
                return Ok(None);
            }
            let primary = self.primary()?;
            Ok(primary.info("role").is_ok_and(|role| role == "master").then_some(primary))
        })
    }

    /// Parts the replica from the primary: what is written from now on does not reach it, until it is
    /// [joined](Self::join_replica) again. Both must run.
    ///
    /// # Errors
    ///
    /// When one of them does not answer.
    pub fn part_replica(&self) -> Result<(), ServiceError> {
        let replica = self.replica()?;
        // the primary refuses a replica that cannot say who it is
        set_login(replica, "nobody", "wrong")?;
        self.primary()?.command(&["CLIENT", "KILL", "TYPE", "replica"])?;
        replica.wait_for("master_link_status", "down")
    }

    /// Joins the replica to the primary again and waits until it has caught up. Both must run.
    ///
    /// # Errors
    ///
    /// When it has not after 30 s.
    pub fn join_replica(&self) -> Result<(), ServiceError> {
        for server in &self.servers {
            let (user, password) = if server.has_users() { REDIS_SUPERUSER } else { ("", "") };
            set_login(server, user, password)?;
        }
        self.replica()?.wait_for("master_link_status", "up")
    }

    fn knows_all(&self, sentinel: &Redis) -> Result<Option<()>, ServiceError> {
        let primary = sentinel.command(&["SENTINEL", "MASTER", NAME])?.texts();
        let others = (SENTINELS - 1).to_string();
        let knows = has(&primary, "flags", "master")
            && has(&primary, "role-reported", "master")
            && has(&primary, "num-slaves", "1")
            && has(&primary, "num-other-sentinels", &others);
        let Reply::Array(replicas) = sentinel.command(&["SENTINEL", "REPLICAS", NAME])? else {
            return Ok(None);
        };
        let good = |replica: &Reply| {
            let fields = replica.texts();
            has(&fields, "flags", "slave")
                && has(&fields, "role-reported", "slave")
                && has(&fields, "master-link-status", "ok")
        };
        Ok((knows && replicas.iter().all(good)).then_some(()))
    }
}

/// What one sentinel says, if it answers.
fn primary_by(sentinel: &Redis) -> Option<SocketAddr> {
    let answer = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).ok()?;
    answer.texts().join(":").parse().ok()
}

/// A field in a list of names and values by turns.
fn has(fields: &[String], name: &str, value: &str) -> bool {
    fields.chunks(2).any(|pair| matches!(pair, [field, found] if field == name && found == value))
}

fn set_login(replica: &Redis, user: &str, password: &str) -> Result<(), ServiceError> {
    replica.command(&["CONFIG", "SET", "masteruser", user, "masterauth", password]).map(drop)
}

fn sentinel_settings(primary: SocketAddr, with_users: bool) -> Vec<String> {
    let mut lines = vec![
        format!("sentinel monitor {NAME} {} {} 2", primary.ip(), primary.port()),
        format!("sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}"),
        format!("sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}"),
        format!("sentinel parallel-syncs {NAME} 1"),
    ];
    if with_users {
        let (user, password) = REDIS_SUPERUSER;
        lines.push(format!("sentinel auth-user {NAME} {user}"));
        lines.push(format!("sentinel auth-pass {NAME} {password}"));
    }
    lines
}
