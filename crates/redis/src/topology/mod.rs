//! Which servers there are, and which buckets lie on them.

mod cluster;
mod sentinel;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bucket::Bucket;
use crate::line::Dialer;
use crate::options::{HostPort, Servers};
use crate::server::{Assignment, serve};
use crate::shared::Shared;
use crate::start::StartError;

/// What finds servers and has tasks watch over them until the hub stops; all links are closed then.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The task for the servers of the options.
///
/// # Errors
/// When the options cannot be used.
pub(crate) fn run(shared: Arc<Shared>) -> Result<Task, StartError> {
    let dialer = Arc::new(Dialer::to_servers(&shared.options)?);
    Ok(match shared.options.servers.clone() {
        Servers::Single(address) => Box::pin(one(shared, dialer, address)),
        Servers::Sentinel { sentinels, name } => {
            let to_sentinels = Dialer::to_sentinels(&shared.options)?;
            Box::pin(sentinel::run(shared, dialer, to_sentinels, sentinels, name))
        }
        Servers::Cluster(nodes) => Box::pin(cluster::run(shared, dialer, nodes)),
    })
}

/// One server has everything.
async fn one(shared: Arc<Shared>, dialer: Arc<Dialer>, address: HostPort) {
    let seat = Seat::new(&shared, &dialer, everything_at(Some(address)));
    stopped(&shared).await;
    seat.leave().await;
}

fn everything_at(address: Option<HostPort>) -> Assignment {
    Assignment { address, buckets: Bucket::all().collect() }
}

/// Waits until the hub is to stop.
async fn stopped(shared: &Shared) {
    let mut stopping = shared.stopping.subscribe();
    // the sender is in `shared`
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// A task that watches over one server.
struct Seat {
    assignment: watch::Sender<Assignment>,
    task: JoinHandle<()>,
}

impl Seat {
    fn new(shared: &Arc<Shared>, dialer: &Arc<Dialer>, assignment: Assignment) -> Self {
        let (assignment, assigned) = watch::channel(assignment);
        let task = tokio::spawn(serve(Arc::clone(shared), Arc::clone(dialer), assigned));
        Self { assignment, task }
    }

    fn assign(&self, assignment: Assignment) {
        self.assignment.send_if_modified(|now| {
            let changed = *now != assignment;
            *now = assignment;
            changed
        });
    }

    /// Closes the link and waits until it is.
    async fn leave(self) {
        drop(self.assignment);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a task that watches over a Redis server has failed");
        }
    }
}
