//! `signing_keys` and `data_keys`.

use async_trait::async_trait;
use edgeward_store::durable::{DataKeyRow, KeyPurpose, KeyRows, Sealed, SigningKeyRow};
use edgeward_store::fleet::Changed;
use edgeward_store::{Event, StoreError};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresStore;
use crate::column::{self, Moment};
use crate::error::failed;

/// Held by whoever looks for a first key and keeps one.
const TURN: &str = "keys";

#[async_trait]
impl KeyRows for PostgresStore {
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let rows = self
                .query("SELECT * FROM @.data_keys ORDER BY created_at, seq")
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            rows.iter().map(read_data_key).collect()
        })
        .await
    }

    async fn keep_first_data_key(&self, row: DataKeyRow) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            self.take_turn(&mut tx, TURN).await?;
            self.query(
                "INSERT INTO @.data_keys (id, used_for, wrapped, kek, created_at)
                 SELECT $1, $2, $3, $4, $5
                 WHERE NOT EXISTS (SELECT FROM @.data_keys WHERE used_for = $2)",
            )
            .bind(Uuid::from_bytes(row.id))
            .bind(column::data_key_use_name(row.used_for))
            .bind(row.wrapped.0)
            .bind(row.kek)
            .bind(Moment(row.created_at))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)
        })
        .await
    }

    async fn signing_keys(&self, purpose: KeyPurpose) -> Result<Vec<SigningKeyRow>, StoreError> {
        self.within(async {
            let mut tx = self.read().await?;
            let rows = self
                .query(
                    "SELECT * FROM @.signing_keys
                     WHERE purpose = $1 AND status IN ('next', 'active', 'retiring')
                     ORDER BY created_at, seq",
                )
                .bind(column::purpose_name(purpose))
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            rows.iter().map(read_signing_key).collect()
        })
        .await
    }

    async fn keep_first_signing_key(
        &self,
        row: SigningKeyRow,
        events: &[Event],
    ) -> Result<(), StoreError> {
        self.within(async {
            let mut tx = self.write().await?;
            self.take_turn(&mut tx, TURN).await?;
            let kept = self
                .query(
                    "INSERT INTO @.signing_keys
                     (kid, purpose, alg, status, sealed, public_jwk, created_at)
                     SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS (
                         SELECT FROM @.signing_keys
                         WHERE purpose = $2 AND status IN ('next', 'active', 'retiring'))",
                )
                .bind(row.kid)
                .bind(column::purpose_name(row.purpose))
                .bind(row.alg)
                .bind(column::key_status_name(row.status))
                .bind(row.sealed.0)
                .bind(column::to_json(&row.public_jwk)?)
                .bind(Moment(row.created_at))
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            if kept.rows_affected() == 1 {
                for event in events {
                    self.tell(&mut tx, event).await?;
                }
                self.note(&mut tx, Changed::Keys).await?;
            }
            tx.commit().await.map_err(failed)
        })
        .await
    }
}

fn read_data_key(row: &PgRow) -> Result<DataKeyRow, StoreError> {
    Ok(DataKeyRow {
        id: column::plain::<Uuid>(row, "id")?.into_bytes(),
        used_for: column::text(row, "used_for", column::data_key_use)?,
        wrapped: Sealed(column::plain(row, "wrapped")?),
        kek: column::plain(row, "kek")?,
        created_at: column::moment(row, "created_at")?,
    })
}

fn read_signing_key(row: &PgRow) -> Result<SigningKeyRow, StoreError> {
    Ok(SigningKeyRow {
        kid: column::plain(row, "kid")?,
        purpose: column::text(row, "purpose", column::purpose)?,
        alg: column::plain(row, "alg")?,
        status: column::text(row, "status", column::key_status)?,
        sealed: Sealed(column::plain(row, "sealed")?),
        public_jwk: column::json(row, "public_jwk")?,
        created_at: column::moment(row, "created_at")?,
    })
}
