//! The parameters that a PostgreSQL server knows, from `pg_settings`.

use tokio_postgres::{Client, Row};
use windlass_core::{
    Error,
    parameter::{Apply, Catalogue, Domain, Parameter},
};

use super::run::refused;

/// What can stand in a configuration file: everything but what is compiled in or computed.
const SETTINGS: &str = "select name, vartype, coalesce(unit, ''), coalesce(min_val, ''), coalesce(max_val, ''), \
    coalesce(enumvals, '{}'), context, coalesce(boot_val, ''), short_desc \
    from pg_settings where context <> 'internal'";

pub(super) async fn read(client: &Client) -> Result<Catalogue, Error> {
    let rows = client.query(SETTINGS, &[]).await.map_err(refused)?;
    Ok(Catalogue(rows.iter().map(parameter).map(|parameter| (parameter.name.clone(), parameter)).collect()))
}

fn parameter(row: &Row) -> Parameter {
    let (kind, unit): (&str, String) = (row.get(1), row.get(2));
    let (min, max): (&str, &str) = (row.get(3), row.get(4));
    let domain = match kind {
        "bool" => Domain::Bool,
        "integer" => {
            Domain::Integer { min: min.parse().unwrap_or(i128::MIN), max: max.parse().unwrap_or(i128::MAX), unit }
        }
        "real" => Domain::Real { min: min.parse().unwrap_or(f64::MIN), max: max.parse().unwrap_or(f64::MAX), unit },
        "enum" => Domain::Enum { values: row.get(5) },
        _ => Domain::Text,
    };
    let apply = if row.get::<_, &str>(6) == "postmaster" { Apply::Restart } else { Apply::Dynamic };
    Parameter { name: row.get(0), domain, apply, default: row.get(7), description: row.get(8) }
}
