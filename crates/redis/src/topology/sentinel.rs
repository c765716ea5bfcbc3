//! A primary that sentinels name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Pipeline, Value};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::{Seat, everything_at, stopped};
use crate::greeting::accepted;
use crate::identity::text;
use crate::line::{Dialer, Line};
use crate::options::HostPort;
use crate::shared::Shared;
use crate::start::StartError;

/// How often the sentinels are asked.
const ROUND: Duration = Duration::from_secs(1);

/// How soon at the earliest they are asked again.
const AT_LEAST: Duration = Duration::from_millis(20);

pub(super) async fn run(
    shared: Arc<Shared>,
    dialer: Arc<Dialer>,
    to_sentinels: Dialer,
    sentinels: Vec<HostPort>,
    name: String,
) {
    let seat = Seat::new(&shared, &dialer, everything_at(None));
    let council = Council::new(&shared, to_sentinels, sentinels, name);
    let watching = async {
        loop {
            match council.primary().await {
                Ok(address) => {
                    // nothing goes to another server from now on
                    shared.close_elsewhere(|_| Some(address.clone()));
                    seat.assign(everything_at(Some(address)));
                }
                Err(trouble) => shared.report(trouble),
            }
            sleep(AT_LEAST).await;
            // somebody asks, or it is time
            let _ = timeout(ROUND, shared.rediscover.notified()).await;
        }
    };
    tokio::select! {
        () = stopped(&shared) => {}
        () = watching => {}
    }
    seat.leave().await;
}

/// The sentinels together.
struct Council {
    dialer: Dialer,
    members: Vec<Member>,
    name: String,
    budget: Duration,
}

struct Member {
    address: HostPort,
    line: Mutex<Option<Line>>,
}

/// What one sentinel says.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    /// Of the configuration that it goes by: the newest is right.
    epoch: u64,
    primary: HostPort,
}

impl Council {
    fn new(shared: &Shared, dialer: Dialer, sentinels: Vec<HostPort>, name: String) -> Self {
        let member = |address| Member { address, line: Mutex::new(None) };
        let budget = shared.options.connect_timeout;
        Self { dialer, members: sentinels.into_iter().map(member).collect(), name, budget }
    }

    /// Where the primary is, as the sentinel of the newest configuration says.
    async fn primary(&self) -> Result<HostPort, StartError> {
        let words = join_all(self.members.iter().map(|member| self.ask(member))).await;
        let mut newest: Option<Word> = None;
        let mut trouble = None;
        for word in words {
            match word {
                Ok(Some(word))
                    if newest.as_ref().is_none_or(|newest| word.epoch > newest.epoch) =>
                {
                    newest = Some(word);
                }
                Ok(Some(_)) => {}
                Ok(None) => trouble = Some(StartError::UnknownName { name: self.name.clone() }),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        let nobody =
            || trouble.unwrap_or_else(|| StartError::UnknownName { name: self.name.clone() });
        newest.map(|word| word.primary).ok_or_else(nobody)
    }

    /// What one says; `None` when it does not know the name.
    async fn ask(&self, member: &Member) -> Result<Option<Word>, StartError> {
        let mut kept = member.line.lock().await;
        let line = match kept.take() {
            Some(line) => line,
            None => self
                .dialer
                .dial(&member.address, None)
                .await
                .map_err(|error| error.at(&member.address))?,
        };
        let mut pipeline = Pipeline::with_capacity(2);
        // the first is the earliest to tell of a failover, the second tells how new that is
        pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        pipeline.cmd("SENTINEL").arg("MASTER").arg(&self.name);
        let answers = line.send(&pipeline, self.budget).await.map_err(|detail| {
            StartError::Unreachable { address: member.address.to_string(), detail }
        })?;
        *kept = Some(line);
        // the second is refused for a name that nobody knows
        accepted(answers.get(..1).unwrap_or_default(), &member.address, &pipeline)?;
        let [address, master] = answers.as_slice() else { return Ok(None) };
        let Some(primary) = place(address) else { return Ok(None) };
        Ok(Some(Word { epoch: epoch(master).unwrap_or(0), primary }))
    }
}

/// A list of host and port.
fn place(value: &Value) -> Option<HostPort> {
    let Value::Array(parts) = value else { return None };
    let [host, port] = parts.as_slice() else { return None };
    Some(HostPort { host: text(host)?, port: text(port)?.parse().ok()? })
}

/// The field `config-epoch` of a list of names and values by turns (RESP2).
fn epoch(value: &Value) -> Option<u64> {
    let Value::Array(fields) = value else { return None };
    let mut pairs = fields.chunks_exact(2);
    pairs.find_map(|pair| {
        let [name, value] = pair else { return None };
        (text(name)? == "config-epoch").then(|| text(value)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulks(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|it| Value::BulkString(it.as_bytes().to_vec())).collect())
    }

    #[test]
    fn what_a_sentinel_says_is_read() {
        assert_eq!(place(&bulks(&["10.0.0.1", "6379"])), Some(HostPort::new("10.0.0.1", 6379)));
        assert_eq!(place(&Value::Nil), None);
        assert_eq!(place(&bulks(&["10.0.0.1", "99999"])), None);
        let master = bulks(&["name", "config-epoch", "config-epoch", "7", "port", "1"]);
        // a value that looks like the name is not a name: fields come in pairs
        assert_eq!(epoch(&master), Some(7));
    }
}
