//! Who is calling, and what the key allows.
//!
//! Invariant: a key of one project cannot learn whether anything outside it exists: what is out of its scope is
//! refused in the same words whether it exists or not.

use windlass_core::{
    Error,
    id::{ApiKeyId, ProjectId},
    role::{Permission, Role, Scope},
};
use windlass_db::{
    Db, PgConnection,
    projects::{ProjectRow, project_by_name_tx},
};

/// The key a call was made with.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key.
    pub key: ApiKeyId,
    /// Its role.
    pub role: Role,
    /// What it reaches.
    pub scope: Scope<ProjectId>,
}

impl Caller {
    /// How the caller is named in events and operations.
    pub fn actor(&self) -> String {
        self.key.to_string()
    }

    /// The project that the key is limited to.
    pub fn own_project(&self) -> Option<ProjectId> {
        match self.scope {
            Scope::Installation => None,
            Scope::Project(id) => Some(id),
        }
    }

    /// Checks that the key may use `permission`, on `project` if the call is about one.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`.
    pub fn check(&self, permission: Permission, project: Option<ProjectId>) -> Result<(), Error> {
        self.role.check(&self.scope, permission, project.as_ref())
    }

    /// Finds a project by name (or uid) for a use under `permission`.
    ///
    /// # Errors
    /// `PERMISSION_MISSING` when the key may not, also when it is limited to another project and this one does not
    /// exist; `NOT_FOUND` when the key may and the project does not exist.
    pub async fn project_tx(
        &self,
        tx: &mut PgConnection,
        name: &str,
        permission: Permission,
    ) -> Result<ProjectRow, Error> {
        let found = project_by_name_tx(tx, name).await?;
        self.check(permission, found.as_ref().map(|row| row.id))?;
        found.ok_or_else(|| Error::not_found("project", format!("projects/{name}")))
    }

    /// The project that a list is limited to: the one named, or the key's own, or None for all of the installation.
    ///
    /// # Errors
    /// As [`Caller::project_tx`].
    pub async fn reach(
        &self,
        db: &Db,
        named: Option<&str>,
        permission: Permission,
    ) -> Result<Option<ProjectId>, Error> {
        match named {
            Some(name) => {
                let mut tx = db.begin().await?;
                Ok(Some(self.project_tx(&mut tx, name, permission).await?.id))
            }
            None => {
                self.check(permission, self.own_project())?;
                Ok(self.own_project())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_core::Reason;

    #[test]
    fn a_project_key_is_refused_alike_for_a_foreign_and_a_missing_project() {
        let caller = Caller { key: ApiKeyId::new(), role: Role::Admin, scope: Scope::Project(ProjectId::new()) };
        let foreign = caller.check(Permission::ProjectRead, Some(ProjectId::new())).expect_err("foreign");
        let missing = caller.check(Permission::ProjectRead, None).expect_err("missing");
        assert_eq!(foreign, missing);
        assert_eq!(foreign.reason, Reason::PermissionMissing);
    }
}
