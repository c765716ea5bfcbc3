//! Whether agents may act: `agent_devices.status` and `epoch`.

use async_trait::async_trait;
use edgeward_core::record::Standing;
use edgeward_store::durable::{Standings, Stands};
use edgeward_store::fleet::Changed;
use edgeward_store::{Event, StoreError};
use edgeward_wire::AgentId;

use crate::PostgresStore;
use crate::column;
use crate::error::failed;

#[async_trait]
impl Standings for PostgresStore {
    async fn set_standing(
        &self,
        id: AgentId,
        standing: Standing,
        event: Event,
    ) -> Result<Option<Stands>, StoreError> {
        self.within(async {
            let mut tx = self.write_urgently().await?;
            // Nobody changes the row from here to the end.
            let row = self
                .query("SELECT status, epoch FROM @.agent_devices WHERE id = $1 FOR UPDATE")
                .bind(column::uuid(id))
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            let Some(row) = row else {
                tx.rollback().await.map_err(failed)?;
                return Ok(None);
            };
            let unchanged = match column::text(&row, "status", column::standing)? {
                stands if stands == standing => {
                    Some(Stands::Already { epoch: column::number(&row, "epoch")? })
                }
                Standing::Retired => Some(Stands::Retired),
                Standing::Active | Standing::Blocked => None,
            };
            if unchanged.is_some() {
                tx.rollback().await.map_err(failed)?;
                return Ok(unchanged);
            }
            let row = self
                .query(
                    "UPDATE @.agent_devices SET status = $1, epoch = epoch + 1 WHERE id = $2
                     RETURNING epoch",
                )
                .bind(column::standing_name(standing))
                .bind(column::uuid(id))
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
            let epoch = column::number(&row, "epoch")?;
            self.tell(&mut tx, &event).await?;
            self.note(&mut tx, Changed::Agent(id)).await?;
            tx.commit().await.map_err(failed)?;
            Ok(Some(Stands::Now { epoch }))
        })
        .await
    }
}
