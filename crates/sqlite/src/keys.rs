//! `signing_keys` and `data_keys`.

use async_trait::async_trait;
use edgeward_store::durable::{DataKeyRow, KeyPurpose, KeyRows, Sealed, SigningKeyRow};
use edgeward_store::{Event, StoreError};
use sqlx::sqlite::SqliteRow;

use crate::SqliteStore;
use crate::column;
use crate::error::failed;

#[async_trait]
impl KeyRows for SqliteStore {
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM data_keys ORDER BY created_at, rowid")
            .fetch_all(&self.readers)
            .await
            .map_err(failed)?;
        rows.iter().map(read_data_key).collect()
    }

    async fn keep_first_data_key(&self, row: DataKeyRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO data_keys (id, used_for, wrapped, kek, created_at)
             SELECT ?1, ?2, ?3, ?4, ?5
             WHERE NOT EXISTS (SELECT 1 FROM data_keys WHERE used_for = ?2)",
        )
        .bind(&row.id[..])
        .bind(column::data_key_use_name(row.used_for))
        .bind(row.wrapped.0)
        .bind(row.kek)
        .bind(column::to_ms(row.created_at))
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn signing_keys(&self, purpose: KeyPurpose) -> Result<Vec<SigningKeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM signing_keys
             WHERE purpose = ? AND status IN ('next', 'active', 'retiring')
             ORDER BY created_at, rowid",
        )
        .bind(column::purpose_name(purpose))
        .fetch_all(&self.readers)
        .await
        .map_err(failed)?;
        rows.iter().map(read_signing_key).collect()
    }

    async fn keep_first_signing_key(
        &self,
        row: SigningKeyRow,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let purpose = column::purpose_name(row.purpose);
        let kept = sqlx::query(
            "INSERT INTO signing_keys (kid, purpose, alg, status, sealed, public_jwk, created_at)
             SELECT ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (
                 SELECT 1 FROM signing_keys
                 WHERE purpose = ? AND status IN ('next', 'active', 'retiring'))",
        )
        .bind(row.kid)
        .bind(purpose)
        .bind(row.alg)
        .bind(column::key_status_name(row.status))
        .bind(row.sealed.0)
        .bind(column::to_json(&row.public_jwk)?)
        .bind(column::to_ms(row.created_at))
        .bind(purpose)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if kept.rows_affected() == 1 {
            for event in events {
                self.tell(&mut tx, event).await?;
            }
        }
        tx.commit().await.map_err(failed)
    }
}

fn read_data_key(row: &SqliteRow) -> Result<DataKeyRow, StoreError> {
    Ok(DataKeyRow {
        id: column::bytes(row, "id")?,
        used_for: column::text(row, "used_for", column::data_key_use)?,
        wrapped: Sealed(column::plain(row, "wrapped")?),
        kek: column::plain(row, "kek")?,
        created_at: column::moment(row, "created_at")?,
    })
}

fn read_signing_key(row: &SqliteRow) -> Result<SigningKeyRow, StoreError> {
    Ok(SigningKeyRow {
        kid: column::plain(row, "kid")?,
        purpose: column::text(row, "purpose", column::purpose)?,
        alg: column::plain(row, "alg")?,
        status: column::text(row, "status", column::key_status)?,
        sealed: Sealed(column::plain(row, "sealed")?),
        public_jwk: column::text(row, "public_jwk", column::json)?,
        created_at: column::moment(row, "created_at")?,
    })
}
