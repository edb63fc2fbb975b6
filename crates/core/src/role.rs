//! Roles of API keys and what each may do.
//!
//! A key is scoped to one project, or to the whole installation. Invariant: a project key never acts on hosts, keys
//! or other projects, whatever its role.

use crate::{Error, Reason, error::ErrorKind};

crate::words! {
    /// Role of an API key.
    pub enum Role {
        /// Reads.
        Viewer = "viewer",
        /// Reads, and runs instances: create, change, start, stop, delete.
        Operator = "operator",
        /// Everything, also keys, quotas, hosts and secrets.
        Admin = "admin",
    }
}

crate::words! {
    /// What a call needs.
    pub enum Permission {
        /// Read what is in a project.
        ProjectRead = "project.read",
        /// Change instances of a project and read their credentials.
        ProjectWrite = "project.write",
        /// Change a project's keys.
        ProjectAdmin = "project.admin",
        /// Read hosts, all projects and all events.
        FleetRead = "fleet.read",
        /// Change hosts, projects, quotas and installation-wide keys.
        FleetAdmin = "fleet.admin",
        /// Cordon and uncordon hosts.
        FleetOperate = "fleet.operate",
    }
}

/// Whether the key reaches one project or the whole installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<P> {
    /// Everything.
    Installation,
    /// One project.
    Project(P),
}

impl Role {
    /// Checks that a key of this role and scope may use `permission`, on `project` if the call is about one.
    ///
    /// # Errors
    /// `PERMISSION_MISSING` naming what is missing.
    pub fn check<P: PartialEq>(
        self,
        scope: &Scope<P>,
        permission: Permission,
        project: Option<&P>,
    ) -> Result<(), Error> {
        let fleet = match permission {
            Permission::FleetRead | Permission::FleetAdmin | Permission::FleetOperate => true,
            Permission::ProjectRead | Permission::ProjectWrite | Permission::ProjectAdmin => false,
        };
        let in_scope = match scope {
            Scope::Installation => true,
            Scope::Project(own) => !fleet && project == Some(own),
        };
        let enough = match permission {
            Permission::ProjectRead | Permission::FleetRead => true,
            Permission::ProjectWrite | Permission::FleetOperate => self != Self::Viewer,
            Permission::ProjectAdmin | Permission::FleetAdmin => self == Self::Admin,
        };
        if in_scope && enough {
            return Ok(());
        }
        let remedy = if in_scope { "use a key with a higher role" } else { "use a key whose scope covers it" };
        Err(Error::new(
            ErrorKind::PermissionDenied,
            Reason::PermissionMissing,
            format!("this key ({self}) may not {permission} here; {remedy}"),
        )
        .with_metadata("permission", permission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole matrix: role and scope against permission, for project 1.
    #[test]
    fn the_matrix_is_exactly_this() {
        let mut rows = Vec::new();
        for role in Role::ALL {
            for (name, scope) in
                [("all", Scope::Installation), ("own", Scope::Project(1)), ("other", Scope::Project(2))]
            {
                let allowed: Vec<_> = Permission::ALL
                    .iter()
                    .filter(|p| role.check(&scope, **p, Some(&1)).is_ok())
                    .map(|p| p.as_str())
                    .collect();
                rows.push(format!("{role} {name}: {}", allowed.join(" ")));
            }
        }
        assert_eq!(
            rows,
            [
                "viewer all: project.read fleet.read",
                "viewer own: project.read",
                "viewer other: ",
                "operator all: project.read project.write fleet.read fleet.operate",
                "operator own: project.read project.write",
                "operator other: ",
                "admin all: project.read project.write project.admin fleet.read fleet.admin fleet.operate",
                "admin own: project.read project.write project.admin",
                "admin other: ",
            ]
        );
    }
}
