//! The parameters that a MariaDB server knows, from `SYSTEM_VARIABLES`.

use mysql_async::{Conn, prelude::Queryable};
use windlass_core::{
    Error,
    parameter::{Apply, Catalogue, Domain, Parameter},
};

use super::run::refused;

/// What can stand in a configuration file: variables that the command line knows and that are not of a session only.
const VARIABLES: &str = "select lower(variable_name), variable_type, coalesce(numeric_min_value, ''), \
    coalesce(numeric_max_value, ''), coalesce(enum_value_list, ''), read_only, coalesce(default_value, ''), \
    variable_comment from information_schema.system_variables \
    where command_line_argument is not null and variable_scope <> 'SESSION ONLY'";

type Row = (String, String, String, String, String, String, String, String);

pub(super) async fn read(conn: &mut Conn) -> Result<Catalogue, Error> {
    let rows = conn.query::<Row, _>(VARIABLES).await.map_err(refused)?;
    Ok(Catalogue(rows.into_iter().map(|row| (row.0.clone(), parameter(row))).collect()))
}

fn parameter((name, kind, min, max, words, read_only, default, description): Row) -> Parameter {
    let values = || words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let domain = match kind.as_str() {
        "BOOLEAN" => Domain::Bool,
        "ENUM" => Domain::Enum { values: values() },
        "SET" => Domain::Set { values: values() },
        "DOUBLE" => Domain::Real {
            min: min.parse().unwrap_or(f64::MIN),
            max: max.parse().unwrap_or(f64::MAX),
            unit: String::new(),
        },
        kind if kind.contains("INT") => Domain::Integer {
            min: min.parse().unwrap_or(i128::MIN),
            max: max.parse().unwrap_or(i128::MAX),
            unit: String::new(),
        },
        _ => Domain::Text,
    };
    let apply = if read_only == "YES" { Apply::Restart } else { Apply::Dynamic };
    Parameter { name, domain, apply, default, description }
}
