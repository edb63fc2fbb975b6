//! The engine's own catalogue with the values that are wanted for an instance.

use windlass_core::{
    Error,
    engine::Engine,
    parameter::{Apply, Domain, Parameter},
    role::Permission,
};

use super::{
    create::catalogue,
    model::{InstanceName, Named, find},
};
use crate::app::{Caller, Context};

windlass_core::words! {
    /// Where a value comes from.
    pub enum Origin {
        /// The user set it.
        User = "user",
        /// Windlass's default for the size.
        Windlass = "windlass",
        /// The engine's own default.
        Engine = "engine",
    }
}

/// A parameter of an instance.
#[derive(Debug, Clone)]
pub struct ParameterView {
    /// Name.
    pub name: String,
    /// The value wanted.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// When a change takes effect.
    pub apply: Apply,
    /// What values it takes, for people.
    pub domain: String,
    /// The engine's own default.
    pub engine_default: String,
    /// One line.
    pub description: String,
    /// Its change waits for a restart.
    pub pending_restart: bool,
}

/// Which parameters are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// All that a user may set.
    All,
    /// Those that the user did set.
    UserOnly,
}

/// The parameters of an instance by name. Those that Windlass sets itself are left out.
///
/// # Errors
/// `NOT_FOUND`, `PERMISSION_MISSING`, `UNAVAILABLE` while no host has sent the catalogue.
pub async fn parameters(
    cx: &Context,
    caller: &Caller,
    name: &InstanceName,
    listed: Listed,
) -> Result<Vec<ParameterView>, Error> {
    let mut tx = cx.db.begin().await?;
    let row = find(&mut tx, caller, name, Permission::ProjectRead, Named::Present).await?;
    let spec = row.spec;
    let catalogue = catalogue(&mut tx, spec.engine, &spec.version).await?;
    let defaults = (spec.engine.descriptor().defaults)(&spec.resources);
    Ok(catalogue
        .0
        .values()
        .filter(|parameter| may_set(spec.engine, parameter))
        .filter(|parameter| listed == Listed::All || spec.parameters.contains_key(&parameter.name))
        .map(|parameter| {
            let (value, origin) = match (spec.parameters.get(&parameter.name), defaults.get(&parameter.name)) {
                (Some(own), _) => (own, Origin::User),
                (None, Some(ours)) => (ours, Origin::Windlass),
                (None, None) => (&parameter.default, Origin::Engine),
            };
            ParameterView {
                name: parameter.name.clone(),
                value: value.clone(),
                origin,
                apply: parameter.apply,
                domain: domain(&parameter.domain),
                engine_default: parameter.default.clone(),
                description: parameter.description.clone(),
                pending_restart: row.pending_restart.contains(&parameter.name),
            }
        })
        .collect())
}

fn may_set(engine: Engine, parameter: &Parameter) -> bool {
    engine.check_not_managed(&parameter.name).is_ok()
}

/// Bounds from here on stand for none.
const UNLIMITED: f64 = 1e300;

fn domain(domain: &Domain) -> String {
    let unit = |unit: &str| if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    match domain {
        Domain::Bool => "on or off".to_owned(),
        Domain::Integer { min, max, unit: u } => format!("{min} to {max}{}", unit(u)),
        // The engines say "no limit" by the ends of the double range.
        Domain::Real { min, max, unit: u } if *max >= UNLIMITED => format!("{min} or more{}", unit(u)),
        Domain::Real { min, max, unit: u } => format!("{min} to {max}{}", unit(u)),
        Domain::Enum { values } => values.join(", "),
        Domain::Set { values } => format!("any of {}", values.join(", ")),
        Domain::Text => "text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_read_as_people_write_them() {
        let integer = Domain::Integer { min: 16, max: 1_073_741_823, unit: "8kB".into() };
        assert_eq!(domain(&integer), "16 to 1073741823 (8kB)");
        assert_eq!(domain(&Domain::Enum { values: vec!["a".into(), "b".into()] }), "a, b");
        assert_eq!(domain(&Domain::Real { min: 0.0, max: 1.0, unit: String::new() }), "0 to 1");
        assert_eq!(domain(&Domain::Real { min: 0.0, max: f64::MAX, unit: String::new() }), "0 or more");
    }
}
