//! Making a decision count: one guarded transaction, then orders, routes and whoever waits.

use std::time::Instant;

use windlass_core::{
    Error,
    id::{InstanceId, MemberId},
};
use windlass_db::{
    Guard,
    events::event_add_tx,
    ha::{cluster_swap_tx, member_roles_tx},
    instances::instance_lock_tx,
};

use super::{
    events::Teller,
    handle::{Ha, write},
    table::{Job, hosts_of},
};
use crate::sagas::observe;

impl Ha {
    /// Stores a decision and tells everybody it concerns.
    ///
    /// # Errors
    /// `FENCED` when the lease is lost, `CONFLICT` when the row was changed by somebody else; those of the database.
    pub(super) async fn store(&self, guard: &Guard, job: Job) -> Result<(), Error> {
        let Job { instance, owner, before, next, happened, cause } = job;
        let (old, new) = (write(instance, &before)?, write(instance, &next)?);
        let sent = Instant::now();
        let mut tx = self.shared.db.guarded(guard).await?;
        let roles_changed = before.primary() != next.primary();
        if roles_changed {
            member_roles_tx(&mut tx, instance, next.primary()).await?;
        }
        if !cluster_swap_tx(&mut tx, (old.epoch, old.rev), &new).await? {
            tx.rollback().await?;
            return Err(Error::new(
                windlass_core::ErrorKind::Aborted,
                windlass_core::Reason::Conflict,
                "the cluster was changed by somebody else",
            ));
        }
        let teller = Teller { owner: &owner, instance, before: &before, next: &next, cause: &cause };
        for event in teller.events(&happened) {
            event_add_tx(&mut tx, event).await?;
        }
        tx.commit().await?;
        let now = self.now();
        let hosts = hosts_of(&before).union(&hosts_of(&next)).copied().collect();
        let elsewhere = {
            let mut table = self.table();
            table.round_trip = sent.elapsed();
            table.put(now, instance, next, owner);
            table.elsewhere(&hosts)
        };
        self.shared.due.notify_one();
        self.shared.routes.changed(instance);
        self.hint(elsewhere).await;
        if roles_changed && let Err(error) = self.refresh(instance).await {
            tracing::debug!(%instance, error = error.chain(), "its health is worked out at the next report");
        }
        self.tell_operation(instance).await;
        Ok(())
    }

    /// Stores that servers run, and what follows for the health of their instances, without waiting for a heartbeat.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn note_running(&self, members: &[MemberId]) -> Result<(), Error> {
        for instance in self.shared.db.members_run(members).await? {
            self.refresh(instance).await?;
            self.tell_operation(instance).await;
        }
        Ok(())
    }

    /// Works the instance's health out anew, because its roles changed.
    async fn refresh(&self, instance: InstanceId) -> Result<(), Error> {
        let mut tx = self.shared.db.begin().await?;
        if instance_lock_tx(&mut tx, instance).await?.is_some() {
            observe::refresh_tx(&mut tx, &[instance]).await?;
        }
        tx.commit().await
    }

    /// Makes the operation that works on the instance look whether what it waits for has come.
    async fn tell_operation(&self, instance: InstanceId) {
        match self.shared.db.saga_of_instance_wake(instance).await {
            Ok(()) => self.shared.sagas.wake(),
            Err(error) => tracing::debug!(%instance, error = error.chain(), "its operation looks a little later"),
        }
    }
}
