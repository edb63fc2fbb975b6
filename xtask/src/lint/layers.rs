//! Which module may use which inside the control plane, and who may know the engines apart.

use super::source::Source;

const CONTROL_PLANE: &str = "control-plane/src/";

/// For each module at the top of the control plane: the siblings it may use, and whether it may reach the database.
/// A module that is not in the table is a breach, so that a new one is placed with thought.
const LAYERS: &[(&str, &[&str])] = &[
    // Entry points: they put the parts together.
    ("plane", &["*"]),
    ("background", &["*"]),
    ("listener", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
    ("local", &["*"]),
    ("installation", &["pki", "secrets", "windlass_db"]),
    ("state_dir", &[]),
    // Values read by everybody; it uses nobody.
    ("config", &[]),
    // Translates between the wire and `app`; it knows rows and steps, but never queries (see `QUERYING`).
    ("api", &["app", "sagas", "queue", "routes", "ha", "pki", "health", "secrets", "windlass_db"]),
    ("app", &["sagas", "queue", "routes", "ha", "pki", "secrets", "lease", "health", "windlass_db"]),
    // Queue, executor and the driver of replication wake each other.
    ("sagas", &["queue", "routes", "ha", "pki", "secrets", "lease", "windlass_db"]),
    ("reconcile", &["sagas", "queue", "lease", "health", "secrets", "windlass_db"]),
    ("gc", &["lease", "sagas", "windlass_db"]),
    ("health", &["lease", "sagas", "queue", "windlass_db"]),
    ("queue", &["lease", "sagas", "windlass_db"]),
    ("ha", &["lease", "sagas", "routes", "windlass_db"]),
    ("routes", &["lease", "windlass_db"]),
    ("lease", &["windlass_db"]),
    ("pki", &["secrets", "windlass_db"]),
    ("secrets", &["windlass_db"]),
    ("metadata", &["windlass_db"]),
];

/// The places of the API that touch the database themselves: stored answers stand around `app`'s transaction, a key is
/// looked up before there is a caller, and an agent's catalogues are stored as they come.
const QUERYING: &[&str] =
    &["control-plane/src/api/change.rs", "control-plane/src/api/auth.rs", "control-plane/src/api/agent.rs"];

/// Where engines may be told apart.
const ENGINE_FOLDERS: &[&str] = &["crates/core/src/engine/", "agent/src/engines/"];

/// The breaches, one line each.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in sources {
        // Of files of tests there is no code.
        if let Some(inside) = source.path.strip_prefix(CONTROL_PLANE)
            && !source.code.is_empty()
        {
            breaches.extend(layer(inside, source));
        }
        breaches.extend(engines(source));
    }
    breaches
}

fn layer(inside: &str, source: &Source) -> Vec<String> {
    let module = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{}: module {module} has no place in xtask/src/lint/layers.rs", source.path)];
    };
    if allowed.contains(&"*") {
        return Vec::new();
    }
    let mut used: Vec<String> = siblings(&source.code);
    if source.code.contains("windlass_db::") {
        used.push("windlass_db".to_owned());
    }
    used.sort();
    used.dedup();
    used.retain(|name| name != module && name != "config" && !allowed.contains(&name.as_str()));
    if module == "api" && queries(&source.code) && !QUERYING.contains(&source.path.as_str()) {
        return vec![format!("{}: api never queries; put it into a use case of app", source.path)];
    }
    used.iter().map(|name| format!("{}: {module} may not use {name}", source.path)).collect()
}

/// Whether code calls the database: its functions end in `_tx`, its handle is `db`.
fn queries(code: &str) -> bool {
    code.contains("_tx(") || code.contains(".db.") || code.contains(".begin()")
}

/// First parts of the paths that begin with `crate::`, groups included.
fn siblings(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.push(word(rest)),
        }
    }
    // `crate::Error` and the like are types at the root, not modules.
    names.retain(|name| name.starts_with(|first: char| first.is_lowercase()));
    names
}

fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut fresh = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && !character.is_whitespace() => {
                heads.push(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// A `match` on an engine outside the engines' folders: an arm whose pattern is an engine.
fn engines(source: &Source) -> Vec<String> {
    let exempt = ENGINE_FOLDERS.iter().any(|folder| source.path.starts_with(folder)) || !source.path.contains("/src/");
    if exempt {
        return Vec::new();
    }
    let arms = source.code.lines().enumerate().filter(|(_, line)| {
        let pattern = line.split("=>").next().unwrap_or("");
        line.contains("=>") && ["Engine::Postgres", "Engine::Mariadb"].iter().any(|engine| pattern.contains(engine))
    });
    arms.map(|(number, _)| {
        format!("{}:{}: tells engines apart; put the difference into the engine's descriptor", source.path, number + 1)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, code: &str) -> Vec<Source> {
        vec![Source { path: path.to_owned(), lines: 1, code: code.to_owned() }]
    }

    #[test]
    fn the_api_does_not_query_and_nothing_uses_the_api() {
        assert_eq!(check(&source("control-plane/src/api/hosts.rs", "use crate::app::Hosts;")), Vec::<String>::new());
        assert_eq!(check(&source("control-plane/src/api/hosts.rs", "ctx.db.host(id)")).len(), 1);
        assert_eq!(check(&source("control-plane/src/api/hosts.rs", "use windlass_db::HostRow;")), Vec::<String>::new());
        assert_eq!(check(&source("control-plane/src/api/change.rs", "a_tx(b)")), Vec::<String>::new());
        assert_eq!(check(&source("control-plane/src/app/hosts.rs", "use crate::{sagas, api::{x, y}};")).len(), 1);
        assert_eq!(check(&source("control-plane/src/queue/mod.rs", "fn f() { crate::reconcile::g() }")).len(), 1);
    }

    #[test]
    fn a_module_without_a_layer_is_a_breach() {
        assert_eq!(check(&source("control-plane/src/novelty.rs", "fn f() {}")).len(), 1);
    }

    #[test]
    fn engines_are_told_apart_only_in_their_folders() {
        let code = "match e {\n Engine::Postgres => 1,\n Engine::Mariadb => 2 }";
        assert_eq!(check(&source("agent/src/members/a.rs", code)).len(), 2);
        assert_eq!(check(&source("agent/src/engines/mod.rs", code)), Vec::<String>::new());
        assert_eq!(check(&source("cli/src/a.rs", "let e = Engine::Postgres;")), Vec::<String>::new());
    }
}
