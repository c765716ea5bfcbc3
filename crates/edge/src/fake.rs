//! A durable store of unit tests that knows no row, waits where it is told to, and counts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use edgeward_core::record::Standing;
use edgeward_core::time::WallMs;
use edgeward_store::durable::{
    AgentRow, Agents, Continuity, DataKeyRow, EnrollmentRow, Enrollments, Events, KeyPurpose,
    KeyRows, LastRun, NewAgent, Redeemed, Sealed, SigningKeyRow, Standings, Stands,
};
use edgeward_store::{Event, StoreError};
use edgeward_wire::{AgentId, OwnerId, SessionIdHash};
use tokio::sync::Semaphore;

/// See the fields.
pub(crate) struct FakeDurable {
    /// What [`Agents::agent`] answers.
    pub(crate) agent: Mutex<Option<AgentRow>>,
    /// How often it was asked.
    pub(crate) reads: AtomicUsize,
    /// One permit lets one read answer, once it has looked.
    pub(crate) let_read: Semaphore,
    /// One permit lets one mark come to its end.
    pub(crate) let_mark: Semaphore,
    /// What a mark then answers.
    pub(crate) mark: Mutex<Result<(), StoreError>>,
    /// How many marks were begun.
    pub(crate) marks: AtomicUsize,
    /// Whether reads of agents fail.
    pub(crate) is_down: AtomicBool,
    data_keys: Mutex<Vec<DataKeyRow>>,
}

impl FakeDurable {
    pub(crate) fn new() -> Self {
        Self {
            agent: Mutex::new(None),
            reads: AtomicUsize::new(0),
            let_read: Semaphore::new(0),
            let_mark: Semaphore::new(0),
            mark: Mutex::new(Ok(())),
            marks: AtomicUsize::new(0),
            is_down: AtomicBool::new(false),
            data_keys: Mutex::new(Vec::new()),
        }
    }
}

fn nothing<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("not of this test".to_owned()))
}

#[async_trait]
impl Agents for FakeDurable {
    async fn agent(&self, _: AgentId) -> Result<Option<AgentRow>, StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            return nothing();
        }
        let row = self.agent.lock().unwrap().clone();
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.let_read.acquire().await.unwrap().forget();
        Ok(row)
    }

    async fn count_agents(&self, _: &OwnerId) -> Result<u64, StoreError> {
        nothing()
    }
}

#[async_trait]
impl Enrollments for FakeDurable {
    async fn start_enrollment(&self, _: EnrollmentRow, _: Event) -> Result<(), StoreError> {
        nothing()
    }

    async fn live_enrollment(
        &self,
        _: &[u8; 32],
        _: WallMs,
    ) -> Result<Option<EnrollmentRow>, StoreError> {
        nothing()
    }

    async fn count_wrong_completion(&self, _: &[u8; 32]) -> Result<(), StoreError> {
        nothing()
    }

    async fn next_secret_version(&self, _: AgentId) -> Result<u32, StoreError> {
        nothing()
    }

    async fn redeem_code(
        &self,
        _: &[u8; 32],
        _: NewAgent,
        _: Option<u64>,
        _: Event,
        _: WallMs,
    ) -> Result<Redeemed, StoreError> {
        nothing()
    }
}

#[async_trait]
impl Events for FakeDurable {
    async fn record(&self, _: &[Event]) -> Result<(), StoreError> {
        nothing()
    }

    async fn newest_events(&self, _: u32) -> Result<Vec<Event>, StoreError> {
        nothing()
    }

    async fn sessions_ended_since(
        &self,
        _: WallMs,
    ) -> Result<Vec<(AgentId, SessionIdHash)>, StoreError> {
        nothing()
    }
}

#[async_trait]
impl KeyRows for FakeDurable {
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError> {
        Ok(self.data_keys.lock().unwrap().clone())
    }

    async fn keep_first_data_key(&self, row: DataKeyRow) -> Result<(), StoreError> {
        self.data_keys.lock().unwrap().push(row);
        Ok(())
    }

    async fn signing_keys(&self, _: KeyPurpose) -> Result<Vec<SigningKeyRow>, StoreError> {
        nothing()
    }

    async fn keep_first_signing_key(
        &self,
        _: SigningKeyRow,
        _: &[Event],
    ) -> Result<(), StoreError> {
        nothing()
    }
}

#[async_trait]
impl Continuity for FakeDurable {
    async fn begin_run(&self) -> Result<LastRun, StoreError> {
        Ok(LastRun::None)
    }

    async fn share_run(&self) -> Result<LastRun, StoreError> {
        nothing()
    }

    async fn write_mark(&self, _: WallMs) -> Result<(), StoreError> {
        self.marks.fetch_add(1, Ordering::SeqCst);
        self.let_mark.acquire().await.unwrap().forget();
        self.mark.lock().unwrap().clone()
    }

    async fn end_run(&self, _: Sealed) -> Result<(), StoreError> {
        nothing()
    }
}

#[async_trait]
impl Standings for FakeDurable {
    async fn set_standing(
        &self,
        _: AgentId,
        _: Standing,
        _: Event,
    ) -> Result<Option<Stands>, StoreError> {
        nothing()
    }
}
