//! Full resource names of the API from what people type, and back.
//!
//! What is already a full name passes as it is, so that names printed by `-o name` can be given to any command.

/// `projects/{project}`.
pub(crate) fn project(given: &str) -> String {
    in_collection("projects", given)
}

/// `projects/{project}/instances/{instance}`.
pub(crate) fn instance(project: &str, given: &str) -> String {
    if given.starts_with("projects/") {
        given.to_owned()
    } else {
        format!("{}/instances/{given}", self::project(project))
    }
}

/// `{instance}/{databases|users|extensions}/{name}`.
pub(crate) fn object(instance: &str, collection: &str, given: &str) -> String {
    if given.starts_with("projects/") { given.to_owned() } else { format!("{instance}/{collection}/{given}") }
}

/// `{collection}/{given}`.
pub(crate) fn in_collection(collection: &str, given: &str) -> String {
    match given.split_once('/') {
        Some((first, _)) if first == collection => given.to_owned(),
        _ => format!("{collection}/{given}"),
    }
}

/// The last part of a full name.
pub(crate) fn short(full: &str) -> &str {
    full.rsplit('/').next().unwrap_or(full)
}

/// The project of a full name, empty if it has none.
pub(crate) fn project_of(full: &str) -> &str {
    full.strip_prefix("projects/").and_then(|rest| rest.split('/').next()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_names_mean_the_same() {
        for given in ["pg-1", "projects/p/instances/pg-1"] {
            assert_eq!(instance("p", given), "projects/p/instances/pg-1");
        }
        assert_eq!(project("projects/p"), project("p"));
        assert_eq!(in_collection("hosts", "hosts/h"), in_collection("hosts", "h"));
        assert_eq!(short("projects/p/instances/pg-1"), "pg-1");
        assert_eq!((project_of("projects/p/instances/i"), project_of("hosts/h")), ("p", ""));
        assert_eq!(object("projects/p/instances/i", "users", "u"), "projects/p/instances/i/users/u");
    }
}
