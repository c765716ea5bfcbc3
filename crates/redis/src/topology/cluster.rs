//! A cluster: every primary has some of the buckets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Pipeline, Value};
use tokio::time::{sleep, timeout};

use super::{Seat, stopped};
use crate::bucket::Bucket;
use crate::greeting::accepted;
use crate::identity::text;
use crate::line::Dialer;
use crate::link::CallError;
use crate::options::HostPort;
use crate::server::Assignment;
use crate::shared::Shared;
use crate::start::StartError;

/// How often the nodes are asked.
const ROUND: Duration = Duration::from_secs(2);

/// How soon at the earliest they are asked again.
const AT_LEAST: Duration = Duration::from_millis(20);

/// Which buckets lie on which primary.
type Map = BTreeMap<HostPort, Vec<Bucket>>;

pub(super) async fn run(shared: Arc<Shared>, dialer: Arc<Dialer>, seeds: Vec<HostPort>) {
    let mut atlas = Atlas { shared: Arc::clone(&shared), dialer, seeds, seats: BTreeMap::new() };
    let watching = async {
        loop {
            match atlas.map().await {
                Ok(map) => atlas.follow(map).await,
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
    join_all(std::mem::take(&mut atlas.seats).into_values().map(Seat::leave)).await;
}

struct Atlas {
    shared: Arc<Shared>,
    dialer: Arc<Dialer>,
    seeds: Vec<HostPort>,
    seats: BTreeMap<HostPort, Seat>,
}

impl Atlas {
    /// The map that most of the primaries go by that we have links to; without any, the seeds' and that of the
    /// nodes known last.
    async fn map(&self) -> Result<Map, StartError> {
        let links = self.shared.links();
        let answers = join_all(links.iter().map(|link| async {
            let asked = link.call_each(&question(), link.timeout).await?;
            let answers: Vec<Value> = asked.into_iter().collect::<Result<_, _>>()?;
            read(&answers, &link.address)
        }))
        .await;
        let maps: Vec<Map> = answers.into_iter().filter_map(Result::ok).collect();
        if let Some(map) = most_frequent(maps) {
            return Ok(map);
        }
        let nodes = self.seeds.iter().chain(self.seats.keys());
        let answers = join_all(nodes.map(|node| self.ask_stranger(node))).await;
        let mut maps = Vec::new();
        let mut trouble = None;
        for answer in answers {
            match answer {
                Ok(map) => maps.push(map),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        let nobody =
            || trouble.unwrap_or(StartError::NotCovered { missing: Bucket::all().count() });
        most_frequent(maps).ok_or_else(nobody)
    }

    /// Asks a node that there is no link to.
    async fn ask_stranger(&self, node: &HostPort) -> Result<Map, StartError> {
        let line = self.dialer.dial(node, None).await.map_err(|error| error.at(node))?;
        let question = question();
        let answers = line
            .send(&question, self.shared.options.connect_timeout)
            .await
            .map_err(|detail| StartError::Unreachable { address: node.to_string(), detail })?;
        if let [Value::ServerError(error)] = answers.as_slice()
            && error.details().unwrap_or_default().contains("cluster support disabled")
        {
            return Err(StartError::Mode {
                address: node.to_string(),
                mode: "standalone".to_owned(),
                remedy: "name the nodes of a cluster, or do not call it one",
            });
        }
        accepted(&answers, node, &question)?;
        Ok(read(&answers, node)?)
    }

    /// Has a task watch over every primary of the map, and none over others.
    async fn follow(&mut self, map: Map) {
        // nothing goes to a bucket's former server from now on
        self.shared.close_elsewhere(|bucket| {
            map.iter().find(|(_, buckets)| buckets.contains(&bucket)).map(|(node, _)| node.clone())
        });
        let gone: Vec<HostPort> =
            self.seats.keys().filter(|node| !map.contains_key(*node)).cloned().collect();
        for node in gone {
            if let Some(seat) = self.seats.remove(&node) {
                seat.leave().await;
            }
        }
        for (node, buckets) in map {
            let assignment = Assignment { address: Some(node.clone()), buckets };
            match self.seats.get(&node) {
                Some(seat) => seat.assign(assignment),
                None => {
                    let seat = Seat::new(&self.shared, &self.dialer, assignment);
                    self.seats.insert(node, seat);
                }
            }
        }
    }
}

fn question() -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.cmd("CLUSTER").arg("SLOTS");
    pipeline
}

/// The map that is there most often, the first of those.
fn most_frequent(maps: Vec<Map>) -> Option<Map> {
    let count = |map: &Map| maps.iter().filter(|other| *other == map).count();
    // of equals max_by_key takes the last
    maps.iter().rev().max_by_key(|map| count(map)).cloned()
}

/// `CLUSTER SLOTS`: lists of first slot, last slot, primary, replicas. A node without a name is the one that
/// was asked.
fn read(answers: &[Value], asked: &HostPort) -> Result<Map, CallError> {
    let odd = || CallError::Odd { address: asked.clone(), command: "CLUSTER SLOTS" };
    let [Value::Array(ranges)] = answers else { return Err(odd()) };
    let mut map = Map::new();
    for range in ranges {
        let (first, last, node) = range_of(range, asked).ok_or_else(odd)?;
        let buckets: Vec<Bucket> = Bucket::all()
            .filter(|bucket| (first..=last).contains(&i64::from(bucket.slot())))
            .collect();
        if !buckets.is_empty() {
            map.entry(node).or_default().extend(buckets);
        }
    }
    // slots come in no order that means anything
    map.values_mut().for_each(|buckets| buckets.sort_unstable());
    Ok(map)
}

fn range_of(range: &Value, asked: &HostPort) -> Option<(i64, i64, HostPort)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    let host = text(host).filter(|host| !host.is_empty() && host != "?");
    let host = host.unwrap_or_else(|| asked.host.clone());
    Some((*first, *last, HostPort { host, port: u16::try_from(*port).ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: Option<&str>, port: i64) -> Value {
        let host = host.map_or(Value::Nil, |host| Value::BulkString(host.as_bytes().to_vec()));
        let node = Value::Array(vec![host, Value::Int(port), Value::Nil]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn every_bucket_lies_where_its_slot_does() {
        let asked = HostPort::new("asked", 1);
        let answers = [Value::Array(vec![
            range(8192, 16383, Some("b"), 2),
            range(0, 4000, None, 1),
            range(4001, 8191, Some("a"), 1),
        ])];
        let map = read(&answers, &asked).expect("a map");
        assert_eq!(map.values().map(Vec::len).sum::<usize>(), 128);
        for (node, slots) in [("asked", 0..=4000), ("a", 4001..=8191), ("b", 8192..=16383)] {
            let buckets = map
                .iter()
                .find_map(|(at, buckets)| (at.host == node).then_some(buckets))
                .expect("a node");
            assert!(buckets.iter().all(|bucket| slots.contains(&bucket.slot())), "{node}");
        }
        assert!(read(&[Value::Nil], &asked).is_err());
    }

    #[test]
    fn what_most_go_by_counts() {
        let [old, new] = ["old", "new"]
            .map(|host| Map::from([(HostPort::new(host, 1), Bucket::all().collect::<Vec<_>>())]));
        let maps = vec![old.clone(), new.clone(), new.clone()];
        assert_eq!(most_frequent(maps), Some(new));
        assert_eq!(most_frequent(vec![old.clone()]), Some(old));
        assert_eq!(most_frequent(vec![]), None);
    }
}
