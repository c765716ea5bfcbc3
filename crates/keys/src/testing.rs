//! Doubles for this crate's tests.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use edgeward_core::time::{MonoMs, Now, WallMs};
use edgeward_store::durable::{DataKeyRow, KeyPurpose, KeyRows, KeyStatus, SigningKeyRow};
use edgeward_store::{Clock, Event, StoreError};
use tokio::sync::Barrier;

use crate::entropy::{Entropy, EntropyError, SystemEntropy};
use crate::kek::Kek;
use crate::sealing::Sealer;

pub(crate) const NOW: Now = Now { wall: WallMs(1_764_000_000_000), mono: MonoMs(1_000) };

#[derive(Debug)]
pub(crate) struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Now {
        NOW
    }
}

/// Never gives anything.
pub(crate) struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError)
    }
}

pub(crate) fn system() -> Arc<dyn Entropy> {
    Arc::new(SystemEntropy)
}

/// Rows in memory; with a barrier, every caller's first reading waits for the others'.
#[derive(Default)]
pub(crate) struct MemoryRows {
    pub(crate) data: Mutex<Vec<DataKeyRow>>,
    pub(crate) signing: Mutex<Vec<SigningKeyRow>>,
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) together: Option<Barrier>,
}

impl MemoryRows {
    pub(crate) fn for_two_starts() -> Self {
        Self { together: Some(Barrier::new(2)), ..Self::default() }
    }

    async fn wait_if(&self, empty: bool) {
        if let Some(barrier) = self.together.as_ref().filter(|_| empty) {
            barrier.wait().await;
        }
    }
}

#[async_trait]
impl KeyRows for MemoryRows {
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError> {
        let rows = self.data.lock().unwrap().clone();
        self.wait_if(rows.is_empty()).await;
        Ok(rows)
    }

    async fn keep_first_data_key(&self, row: DataKeyRow) -> Result<(), StoreError> {
        let mut rows = self.data.lock().unwrap();
        if rows.iter().all(|kept| kept.used_for != row.used_for) {
            rows.push(row);
        }
        Ok(())
    }

    async fn signing_keys(&self, purpose: KeyPurpose) -> Result<Vec<SigningKeyRow>, StoreError> {
        let live = |row: &&SigningKeyRow| {
            row.purpose == purpose
                && matches!(row.status, KeyStatus::Next | KeyStatus::Active | KeyStatus::Retiring)
        };
        let rows: Vec<_> = self.signing.lock().unwrap().iter().filter(live).cloned().collect();
        self.wait_if(rows.is_empty()).await;
        Ok(rows)
    }

    async fn keep_first_signing_key(
        &self,
        row: SigningKeyRow,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let mut rows = self.signing.lock().unwrap();
        if !rows.iter().any(|kept| kept.purpose == row.purpose) {
            rows.push(row);
            self.events.lock().unwrap().extend_from_slice(events);
        }
        Ok(())
    }
}

pub(crate) fn kek(byte: u8) -> Kek {
    Kek::from_text(&format!("{byte:02x}{}", "5a".repeat(31))).unwrap()
}

pub(crate) async fn sealer(rows: &MemoryRows) -> Sealer {
    Sealer::load(rows, &kek(1), &FixedClock, system()).await.unwrap()
}
