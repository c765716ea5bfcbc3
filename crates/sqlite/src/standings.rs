//! Whether agents may act: `agent_devices.status` and `epoch`.

use async_trait::async_trait;
use edgeward_core::record::Standing;
use edgeward_store::durable::{Standings, Stands};
use edgeward_store::{Event, StoreError};
use edgeward_wire::AgentId;

use crate::SqliteStore;
use crate::column;
use crate::error::failed;

#[async_trait]
impl Standings for SqliteStore {
    async fn set_standing(
        &self,
        id: AgentId,
        standing: Standing,
        event: Event,
    ) -> Result<Option<Stands>, StoreError> {
        // Writers take turns, so that nobody changes the row in between.
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT status, epoch FROM agent_devices WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
        let Some(row) = row else {
            return Ok(None);
        };
        match column::text(&row, "status", column::standing)? {
            stands if stands == standing => {
                let epoch = column::number(&row, "epoch")?;
                return Ok(Some(Stands::Already { epoch }));
            }
            Standing::Retired => return Ok(Some(Stands::Retired)),
            Standing::Active | Standing::Blocked => {}
        }
        let epoch: i64 = sqlx::query_scalar(
            "UPDATE agent_devices SET status = ?, epoch = epoch + 1 WHERE id = ? RETURNING epoch",
        )
        .bind(column::standing_name(standing))
        .bind(id.to_string())
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        self.tell(&mut tx, &event).await?;
        tx.commit().await.map_err(failed)?;
        let epoch = u64::try_from(epoch).map_err(|_| column::unreadable("epoch"))?;
        Ok(Some(Stands::Now { epoch }))
    }
}
