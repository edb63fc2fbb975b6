//! Engine catalogues: the parameters that an engine version knows, as a host's engine reported them.
//!
//! Kept by full version and found by digest, so that a fleet of equal hosts sends each one once.

use serde_json::Value;
use windlass_core::Error;

use crate::{Db, error::DbResult as _};

/// A catalogue to store.
#[derive(Debug, Clone)]
pub struct CatalogueReport {
    /// Word of the engine.
    pub engine: String,
    /// Major version.
    pub version: String,
    /// Full version.
    pub full_version: String,
    /// Hex SHA-256 of the catalogue's text.
    pub digest: String,
    /// The catalogue, as JSON of `windlass_core::parameter::Catalogue`.
    pub catalogue: Value,
}

impl Db {
    /// Stores a catalogue in place of an older one of the same full version.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn catalogue_put(&self, report: &CatalogueReport) -> Result<(), Error> {
        sqlx::query!(
            "insert into engine_catalogue (engine, version, full_version, digest, catalogue)
             values ($1, $2, $3, $4, $5)
             on conflict (engine, version, full_version) do update
                set digest = excluded.digest, catalogue = excluded.catalogue, update_time = now()",
            report.engine,
            report.version,
            report.full_version,
            report.digest,
            report.catalogue
        )
        .execute(self.pool())
        .await
        .db()
        .map(drop)
    }

    /// Of these digests, those whose catalogue is not stored.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn catalogues_missing(&self, digests: &[String]) -> Result<Vec<String>, Error> {
        sqlx::query_scalar!(
            r#"select distinct d as "digest!" from unnest($1::text[]) as d
                where d <> '' and not exists (select from engine_catalogue c where c.digest = d)"#,
            digests
        )
        .fetch_all(self.pool())
        .await
        .db()
    }
}
