//! Redis Cluster.

use std::net::SocketAddr;

use crate::redis::Kind;
use crate::wait::until;
use crate::{Redis, RedisOptions, Reply, ServiceError};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// A Redis Cluster, whose nodes think another one down after a second of silence.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts so many primaries, which share the slots evenly, each with so many replicas, and waits
    /// until every node finds the cluster whole. The options are those of every node;
    /// [`RedisOptions::replica_of`] is not heeded.
    ///
    /// # Errors
    ///
    /// When Redis is missing, a node does not start, or there are fewer than three primaries: the
    /// others could not outvote a failed one.
    pub fn start(
        options: RedisOptions,
        primaries: usize,
        replicas_each: usize,
    ) -> Result<Self, ServiceError> {
        if primaries < 3 {
            return Err(ServiceError::Refused {
                what: "start a cluster".to_owned(),
                message: "it has at least three primaries".to_owned(),
            });
        }
        let options = RedisOptions { replica_of: None, ..options };
        let nodes = (0..primaries * (1 + replicas_each))
            .map(|_| Redis::start_as(options.clone(), Kind::Cluster))
            .collect::<Result<Vec<_>, _>>()?;
        let cluster = Self { nodes };
        cluster.share_slots(primaries)?;
        cluster.introduce()?;
        cluster.replicate(primaries)?;
        cluster.wait_until_whole()?;
        Ok(cluster)
    }

    /// Where the nodes listen, those first that were primaries at the start.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Redis::address).collect()
    }

    /// The nodes, in the order of [`addresses`](Self::addresses). The replicas of the first primary
    /// come first, then those of the second.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The primary that has a slot now, as the first node says that answers.
    ///
    /// # Errors
    ///
    /// When no node answers, or none has the slot.
    pub fn owner(&self, slot: u16) -> Result<&Redis, ServiceError> {
        let owner = self.nodes.iter().find_map(|node| {
            let ranges = node.command(&["CLUSTER", "SLOTS"]).ok()?;
            owner_in(&ranges, i64::from(slot))
        });
        owner.and_then(|owner| self.nodes.iter().find(|node| node.address() == owner)).ok_or_else(
            || ServiceError::Refused {
                what: format!("find who has slot {slot}"),
                message: "no node says".to_owned(),
            },
        )
    }

    /// Waits until every node that answers finds all slots served, and every replica of these is in step.
    ///
    /// # Errors
    ///
    /// When it is not so after 30 s.
    pub fn wait_until_whole(&self) -> Result<(), ServiceError> {
        for node in &self.nodes {
            until(&format!("{} finds the cluster whole", node.address()), || {
                let Ok(info) = node.command(&["CLUSTER", "INFO"]) else { return Ok(Some(())) };
                let info = info.text().unwrap_or_default();
                let line = |line: &str| info.lines().any(|found| found.trim_end() == line);
                let whole = line("cluster_state:ok")
                    && line(&format!("cluster_slots_ok:{SLOTS}"))
                    && line(&format!("cluster_known_nodes:{}", self.nodes.len()));
                let lags = node.info("master_link_status").is_ok_and(|status| status != "up");
                Ok((whole && !lags).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Moves a slot with its keys to another node, step by step as an operator does: clients see
    /// `ASK` meanwhile and `MOVED` afterwards.
    ///
    /// # Errors
    ///
    /// When a node refuses a step.
    pub fn move_slot(&self, slot: u16, to: &Redis) -> Result<(), ServiceError> {
        let from = self.owner(slot)?;
        let (from_id, to_id) = (id(from)?, id(to)?);
        if from_id == to_id {
            return Ok(());
        }
        let slot = slot.to_string();
        let set = |node: &Redis, state: &str, id: &str| {
            node.command(&["CLUSTER", "SETSLOT", &slot, state, id]).map(drop)
        };
        set(to, "IMPORTING", &from_id)?;
        set(from, "MIGRATING", &to_id)?;
        loop {
            let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])?.texts();
            if keys.is_empty() {
                break;
            }
            from.migrate(to.address(), &keys)?;
        }
        for node in [to, from] {
            set(node, "NODE", &to_id)?;
        }
        Ok(())
    }

    fn share_slots(&self, primaries: usize) -> Result<(), ServiceError> {
        for (index, node) in self.nodes.iter().enumerate() {
            // each its own, or they would have to settle that among themselves
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        for (index, node) in self.nodes.iter().take(primaries).enumerate() {
            let first = (SLOTS * index / primaries).to_string();
            let last = (SLOTS * (index + 1) / primaries - 1).to_string();
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
        }
        Ok(())
    }

    /// Makes every node known to every other.
    fn introduce(&self) -> Result<(), ServiceError> {
        for one in &self.nodes {
            for other in self.nodes.iter().filter(|other| other.address() != one.address()) {
                let (ip, port) = (other.address().ip().to_string(), other.address().port());
                let bus = other.bus_port().unwrap_or_default().to_string();
                one.command(&["CLUSTER", "MEET", &ip, &port.to_string(), &bus])?;
            }
        }
        for node in &self.nodes {
            until("the nodes have met", || {
                let nodes = node.command(&["CLUSTER", "NODES"])?.text().unwrap_or_default();
                let met = nodes.lines().count() == self.nodes.len() && !nodes.contains("handshake");
                Ok(met.then_some(()))
            })?;
        }
        Ok(())
    }

    fn replicate(&self, primaries: usize) -> Result<(), ServiceError> {
        let replicas_each = self.nodes.len() / primaries - 1;
        for (index, replica) in self.nodes.iter().skip(primaries).enumerate() {
            let Some(primary) = self.nodes.get(index / replicas_each.max(1)) else { continue };
            replica.command(&["CLUSTER", "REPLICATE", &id(primary)?])?;
        }
        Ok(())
    }
}

/// A node's name within the cluster.
fn id(node: &Redis) -> Result<String, ServiceError> {
    node.command(&["CLUSTER", "MYID"]).map(|id| id.text().unwrap_or_default())
}

/// In what `CLUSTER SLOTS` answers: a list of first, last, primary, replicas; each of these as
/// address, port and more.
fn owner_in(ranges: &Reply, slot: i64) -> Option<SocketAddr> {
    let Reply::Array(ranges) = ranges else { return None };
    ranges.iter().find_map(|range| {
        let Reply::Array(range) = range else { return None };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(primary), ..] =
            range.as_slice()
        else {
            return None;
        };
        let [Reply::Bulk(ip), Reply::Integer(port), ..] = primary.as_slice() else { return None };
        let here = (first..=last).contains(&&slot);
        here.then(|| format!("{ip}:{port}").parse().ok()).flatten()
    })
}
