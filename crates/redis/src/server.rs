//! The task that watches over one server: connects, makes the link ready, keeps it, and connects anew.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::bucket::Bucket;
use crate::greeting::{have_changes_told, introduce, renewed_here, standing, usable};
use crate::health::Health;
use crate::hub::Push;
use crate::identity::{Around, QUESTIONS, ask};
use crate::line::Dialer;
use crate::link::{CallError, Link};
use crate::options::HostPort;
use crate::push::Inbox;
use crate::shared::Shared;
use crate::start::StartError;

/// How often a server is asked who it is, and told to tell something.
const BEAT: Duration = Duration::from_secs(1);

/// How long until the next try to connect: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// What a task watches over. It ends when the sender of these is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Where the server listens, once that is known.
    pub(crate) address: Option<HostPort>,
    /// The buckets that lie on it.
    pub(crate) buckets: Vec<Bucket>,
}

/// Watches over the server that is assigned, until none is any more.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    dialer: Arc<Dialer>,
    mut assignment: watch::Receiver<Assignment>,
) {
    let mut pause = PAUSE.0;
    loop {
        let now = assignment.borrow_and_update().clone();
        let Some(address) = now.address.filter(|_| !now.buckets.is_empty()) else {
            if assignment.changed().await.is_err() {
                return;
            }
            continue;
        };
        let opening = Server::open(&shared, &dialer, &address, now.buckets);
        let opened = tokio::select! {
            biased;
            changed = assignment.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            opened = opening => opened,
        };
        match opened {
            Ok(server) => {
                pause = PAUSE.0;
                shared.all_well();
                tracing::info!(%address, "Redis is ready");
                if !server.keep(&shared, &mut assignment).await {
                    return;
                }
            }
            Err(trouble) => {
                shared.report(trouble);
                pause = (pause * 2).min(PAUSE.1);
            }
        }
        shared.rediscover.notify_one();
        tokio::select! {
            changed = assignment.changed() => if changed.is_err() { return },
            () = sleep(jittered(pause)) => {}
        }
    }
}

/// A server whose link is open.
struct Server {
    link: Arc<Link>,
    health: Arc<Health>,
    buckets: Vec<Bucket>,
    push: Push,
    canary: String,
    canary_bucket: Bucket,
    flushed: Arc<Notify>,
}

/// Why a link is not kept.
enum End {
    /// For this reason; it is to be opened again.
    Lost(String),
    /// The server is not to be used any more.
    Unusable(StartError),
    /// Nothing is assigned any more.
    Dismissed,
}

impl Server {
    /// Connects, makes sure of the server, renews the epochs of its buckets, has it tell of changes, and
    /// opens the link for use, in this order.
    async fn open(
        shared: &Arc<Shared>,
        dialer: &Dialer,
        address: &HostPort,
        buckets: Vec<Bucket>,
    ) -> Result<Self, StartError> {
        let serial = shared.next_serial();
        // another one each time: a slot that is being moved takes no canary
        let place = usize::try_from(serial).unwrap_or(0) % buckets.len().max(1);
        let none = || StartError::NotCovered { missing: buckets.len() };
        let canary_bucket = *buckets.get(place).ok_or_else(none)?;
        let canary = shared.keys.canary(&shared.options.node, canary_bucket);
        let health = Arc::new(Health::new());
        let flushed = Arc::new(Notify::new());
        let inbox = Inbox {
            shared: Arc::downgrade(shared),
            health: Arc::clone(&health),
            serial,
            canary: canary.clone().into_bytes(),
            flushed: Arc::clone(&flushed),
        };
        let line = dialer
            .dial(address, Some(inbox.into_handler()))
            .await
            .map_err(|error| error.at(address))?;
        let standing = introduce(shared, &line, address).await?;
        shared.clock_read(&buckets, &standing.reading);
        usable(&standing, shared, address)?;
        let link = Arc::new(Link {
            line,
            address: address.clone(),
            serial,
            identity: standing.identity.clone(),
            timeout: shared.options.timeout,
            strict: shared.options.strict,
            rediscover: Arc::clone(&shared.rediscover),
        });
        let here = renewed_here(shared, &buckets, &link).await?;
        if here.is_empty() {
            return Err(none());
        }
        health.measured(standing.clock_ahead_ms, standing.reading);
        shared.measured(&here, standing.reading);
        let push = have_changes_told(shared, &link).await?;
        shared.open(&link, &health, &here, push);
        Ok(Self { link, health, buckets, push, canary, canary_bucket, flushed })
    }

    /// Keeps the link until it ends, then closes it; whether to open it again.
    async fn keep(
        mut self,
        shared: &Arc<Shared>,
        assignment: &mut watch::Receiver<Assignment>,
    ) -> bool {
        let end = self.until_it_ends(shared, assignment).await;
        shared.close(self.link.serial, &self.buckets);
        let address = &self.link.address;
        match end {
            End::Lost(reason) => {
                tracing::warn!(%address, %reason, "the link to Redis has ended");
                self.link.line.end(&reason);
                true
            }
            End::Unusable(trouble) => {
                self.link.line.end(&trouble.to_string());
                shared.report(trouble);
                true
            }
            End::Dismissed => {
                self.link.line.end("it is not needed any more");
                false
            }
        }
    }

    async fn until_it_ends(
        &mut self,
        shared: &Arc<Shared>,
        assignment: &mut watch::Receiver<Assignment>,
    ) -> End {
        let link = Arc::clone(&self.link);
        let mut beats = beats();
        loop {
            let next = tokio::select! {
                biased;
                reason = link.line.ended() => Err(End::Lost(reason)),
                changed = assignment.changed() => match changed {
                    Err(_) => Err(End::Dismissed),
                    Ok(()) => {
                        let now = assignment.borrow_and_update().clone();
                        self.reassign(shared, now).await
                    }
                },
                () = self.flushed.notified() => self.renew(shared, &self.buckets).await.map(drop),
                _ = beats.tick() => self.beat(shared).await,
            };
            if let Err(end) = next {
                return end;
            }
        }
    }

    /// Other buckets lie there now, or it is another server.
    async fn reassign(&mut self, shared: &Arc<Shared>, now: Assignment) -> Result<(), End> {
        if now.address.as_ref() != Some(&self.link.address) {
            return Err(End::Lost("another server has its place".to_owned()));
        }
        let gone: Vec<_> =
            self.buckets.iter().copied().filter(|bucket| !now.buckets.contains(bucket)).collect();
        shared.close(self.link.serial, &gone);
        if gone.contains(&self.canary_bucket) {
            return Err(End::Lost(
                "the bucket that it is watched by lies elsewhere now".to_owned(),
            ));
        }
        self.buckets = now.buckets;
        self.admit(shared).await
    }

    /// Opens those of the buckets that are not open but can be.
    async fn admit(&self, shared: &Shared) -> Result<(), End> {
        let serial = self.link.serial;
        let missing: Vec<_> =
            self.buckets.iter().copied().filter(|it| !shared.is_open(*it, serial)).collect();
        let here = self.renew(shared, &missing).await?;
        shared.measured(&here, self.health.reading());
        shared.open(&self.link, &self.health, &here, self.push);
        Ok(())
    }

    async fn renew(&self, shared: &Shared, buckets: &[Bucket]) -> Result<Vec<Bucket>, End> {
        let renewed = renewed_here(shared, buckets, &self.link).await;
        renewed.map_err(End::Unusable)
    }

    /// Asks the server once more who it is, and has it tell something that must arrive.
    async fn beat(&self, shared: &Shared) -> Result<(), End> {
        let clock = &*shared.options.clock;
        let mut pipeline = Pipeline::with_capacity(QUESTIONS + 1);
        ask(&mut pipeline);
        if self.push != Push::None && !self.health.canary_sent(clock.now().mono) {
            return Err(End::Lost("what it tells does not arrive".to_owned()));
        }
        match self.push {
            Push::Tracking => {
                pipeline.cmd("SET").arg(&self.canary).arg("").arg("PX").arg(5000);
            }
            Push::PubSub => {
                pipeline.cmd("PUBLISH").arg(shared.keys.told()).arg(&self.canary);
            }
            Push::None => {}
        }
        let around = Around::asked(clock);
        let answers = self.link.line.send(&pipeline, self.link.timeout).await.map_err(End::Lost)?;
        let address = &self.link.address;
        let standing = standing(answers.get(..QUESTIONS), &around, address, &pipeline)
            .map_err(|error| End::Lost(error.to_string()))?;
        if let Some((Value::ServerError(error), command)) =
            answers.get(QUESTIONS).zip(pipeline.cmd_iter().nth(QUESTIONS))
        {
            // the next but one is missed, and then this ends
            tracing::warn!("{}", CallError::refused(address, error, command));
        }
        shared.clock_read(&self.buckets, &standing.reading);
        usable(&standing, shared, address).map_err(End::Unusable)?;
        if standing.identity != self.link.identity {
            return Err(End::Lost("it may have forgotten what it knew".to_owned()));
        }
        self.health.measured(standing.clock_ahead_ms, standing.reading);
        self.admit(shared).await?;
        shared.measured(&self.buckets, standing.reading);
        let lost: Vec<_> = self.buckets.iter().copied().filter(|it| shared.is_lost(*it)).collect();
        self.renew(shared, &lost).await.map(drop)
    }
}

/// The first at once.
fn beats() -> Interval {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// As long as this or up to half as long again, so that nodes do not come all at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // without randomness they do, which is harmless
    let _ = aws_lc_rs::rand::fill(&mut random);
    pause + pause * u32::from(random[0]) / 512
}
