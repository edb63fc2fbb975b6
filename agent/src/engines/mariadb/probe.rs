//! Facts of a running MariaDB server, and changing its settings.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use windlass_core::{Error, ErrorKind, Reason, parameter::Catalogue};

use super::{
    catalogue, init, objects,
    run::{Connection, refused},
};
use crate::{
    engines::{Change, Probe, Session, object::Object},
    host::files,
};

/// What decides how a variable is set.
struct Variable {
    read_only: bool,
    numeric: bool,
}

#[async_trait]
impl Session for Connection {
    async fn probe(&mut self) -> Result<Probe, Error> {
        let query = "select cast(variable_value as unsigned), @@global.gtid_binlog_pos \
            from information_schema.global_status where variable_name = 'THREADS_CONNECTED'";
        let (threads, position) =
            self.conn.query_first::<(u64, String), _>(query).await.map_err(refused)?.unwrap_or_default();
        let identity = files::read_text(&self.server.site.data.join(init::IDENTITY))?.unwrap_or_default();
        // The agent's own connection does not count. Replicas come with failover.
        Ok(Probe { identity, connections: threads.saturating_sub(1), position, in_recovery: false })
    }

    async fn apply(&mut self, object: &Object) -> Result<(), Error> {
        objects::apply(self, object).await
    }

    /// Sets what can be set while the server runs; the rest waits for a restart. Certificates are read again always.
    async fn reload(&mut self, change: &Change<'_>) -> Result<(), Error> {
        let differing = change.differing();
        let variables = self.variables(&differing).await?;
        for (name, value) in differing {
            let Some(variable) = variables.get(name).filter(|variable| !variable.read_only) else { continue };
            let value = match value {
                None => "default".to_owned(),
                Some(value) if variable.numeric => number(name, value)?,
                Some(value) => objects::literal(value),
            };
            self.conn.query_drop(format!("set global {name} = {value}")).await.map_err(|error| {
                let error = refused(error);
                if error.reason == Reason::DatabaseRefused {
                    let message = format!("parameters.{name}: {}", error.message);
                    Error::new(ErrorKind::InvalidArgument, Reason::ParameterInvalid, message)
                } else {
                    error
                }
            })?;
        }
        self.conn.query_drop("flush ssl").await.map_err(refused)
    }

    async fn pending_restart(&mut self, since_start: &Change<'_>) -> Result<Vec<String>, Error> {
        let differing = since_start.differing();
        let variables = self.variables(&differing).await?;
        let waits = |name: &&str| variables.get(*name).is_none_or(|variable| variable.read_only);
        Ok(differing.into_iter().map(|(name, _)| name).filter(waits).map(str::to_owned).collect())
    }

    async fn catalogue(&mut self) -> Result<Catalogue, Error> {
        catalogue::read(&mut self.conn).await
    }
}

impl Connection {
    async fn variables(&mut self, names: &[(&str, Option<&str>)]) -> Result<BTreeMap<String, Variable>, Error> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = names.iter().map(|(name, _)| objects::literal(&name.to_uppercase())).collect::<Vec<_>>().join(", ");
        let query = format!(
            "select variable_name, read_only, variable_type from information_schema.system_variables where variable_name in ({list})"
        );
        let rows = self.conn.query::<(String, String, String), _>(query).await.map_err(refused)?;
        Ok(rows
            .into_iter()
            .map(|(name, read_only, kind)| {
                let numeric = kind.contains("INT") || kind == "DOUBLE";
                (name.to_lowercase(), Variable { read_only: read_only == "YES", numeric })
            })
            .collect())
    }
}

/// Option files take `64M`; statements take numbers only.
fn number(name: &str, value: &str) -> Result<String, Error> {
    let split = value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len());
    let (digits, suffix) = value.trim().split_at(split);
    let factor: i128 = match suffix {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        _ => 0,
    };
    let whole = digits.parse::<i128>().ok().and_then(|number| number.checked_mul(factor)).filter(|_| factor > 0);
    let fraction = || digits.parse::<f64>().ok().filter(|number| number.is_finite() && suffix.is_empty());
    whole.map(|number| number.to_string()).or_else(|| fraction().map(|number| number.to_string())).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            Reason::ParameterInvalid,
            format!("parameters.{name}: {value:?} is not a number"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_become_numbers() {
        for (text, value) in [("64M", "67108864"), ("-1", "-1"), ("7", "7"), ("0.5", "0.5"), ("2g", "2147483648")] {
            assert_eq!(number("x", text).expect(text), value);
        }
        for bad in ["", "x", "1; drop", "0.5M", "1Q"] {
            number("x", bad).expect_err(bad);
        }
    }
}
