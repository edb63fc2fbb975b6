//! Which crate may depend on which. Cargo allows any acyclic graph; the architecture allows this one.

use anyhow::Result;
use serde::Deserialize;

use crate::workspace;

/// Crates of ours that each may use. Dependencies point down.
const ALLOWED: &[(&str, &[&str])] = &[
    ("windlass-core", &[]),
    ("windlass-proto", &[]),
    ("windlass-kit", &["windlass-core"]),
    ("windlass-wire-pg", &["windlass-core"]),
    ("windlass-logic", &["windlass-core"]),
    ("windlass-db", &["windlass-core"]),
    ("windlass-control-plane", &["windlass-core", "windlass-db", "windlass-kit", "windlass-logic", "windlass-proto"]),
    ("windlass-agent", &["windlass-core", "windlass-kit", "windlass-proto"]),
    ("windlass-proxy", &["windlass-core", "windlass-kit", "windlass-proto", "windlass-wire-pg"]),
    ("windlass-cli", &["windlass-core", "windlass-kit", "windlass-proto"]),
    ("windlass-simulation", &["windlass-agent", "windlass-core", "windlass-logic", "windlass-proto"]),
    (
        "windlass-tests",
        &[
            "windlass-agent",
            "windlass-control-plane",
            "windlass-core",
            "windlass-db",
            "windlass-kit",
            "windlass-logic",
            "windlass-proto",
        ],
    ),
    ("xtask", &[]),
];

/// Crates of others that only some of ours may use.
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("sqlx", &["windlass-db", "windlass-core"], "SQL lives in windlass-db; core only maps its words to columns"),
    (
        "tonic",
        &[
            "windlass-proto",
            "windlass-kit",
            "windlass-control-plane",
            "windlass-agent",
            "windlass-proxy",
            "windlass-cli",
            "windlass-tests",
        ],
        "only programs speak gRPC",
    ),
    (
        "tokio",
        &[
            "windlass-kit",
            "windlass-db",
            "windlass-control-plane",
            "windlass-agent",
            "windlass-proxy",
            "windlass-cli",
            "windlass-tests",
        ],
        "core, proto and logic never wait; xtask builds in seconds",
    ),
    (
        "anyhow",
        &[
            "windlass-control-plane",
            "windlass-agent",
            "windlass-proxy",
            "windlass-cli",
            "windlass-simulation",
            "windlass-tests",
            "xtask",
        ],
        "libraries give windlass_core::Error",
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// The breaches, one line each.
///
/// # Errors
/// Cargo cannot read the workspace.
pub(crate) fn check() -> Result<Vec<String>> {
    let text = workspace::output(&mut workspace::cargo(&["metadata", "--format-version=1", "--no-deps"]))?;
    Ok(breaches(&serde_json::from_str(&text)?))
}

fn breaches(metadata: &Metadata) -> Vec<String> {
    let mut breaches = Vec::new();
    for package in &metadata.packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            breaches.push(format!("{}: a new crate; say in xtask/src/lint/crates.rs what it may use", package.name));
            continue;
        };
        // Tests of a crate may use what they like of others, but not turn our own layers around.
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            if !allowed.contains(&dependency.name.as_str()) {
                breaches.push(format!("{} depends on {}: dependencies point down", package.name, dependency.name));
            }
        }
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
            for (name, users, why) in RESERVED {
                if dependency.name == *name && !users.contains(&package.name.as_str()) {
                    breaches.push(format!("{} depends on {name}: {why}", package.name));
                }
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(package: &str, dependency: &str, ours: &str) -> Vec<String> {
        let text = format!(
            r#"{{"packages":[{{"name":"{package}","dependencies":[{{"name":"{dependency}","kind":null,"path":{ours}}}]}}]}}"#
        );
        breaches(&serde_json::from_str(&text).expect(&text))
    }

    #[test]
    fn a_dependency_that_points_up_or_across_is_a_breach() {
        assert_eq!(of("windlass-agent", "windlass-kit", r#""/x""#), Vec::<String>::new());
        assert_eq!(of("windlass-agent", "windlass-control-plane", r#""/x""#).len(), 1);
        assert_eq!(of("windlass-core", "windlass-kit", r#""/x""#).len(), 1);
    }

    #[test]
    fn sql_and_waiting_stay_where_they_belong() {
        assert_eq!(of("windlass-control-plane", "sqlx", "null").len(), 1);
        assert_eq!(of("windlass-logic", "tokio", "null").len(), 1);
        assert_eq!(of("windlass-db", "sqlx", "null"), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_a_breach() {
        assert_eq!(of("windlass-surprise", "serde", "null").len(), 1);
    }
}
