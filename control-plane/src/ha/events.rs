//! What a decision did and what agents did by themselves, as events for people and programs. Pure.
//!
//! `failover.finished` and `switchover.finished` carry the timeline: milliseconds from the old leader's last sign of life
//! to when the change was decided, enough members were sealed, the new leader was told and it let applications in.

use jiff::Timestamp;
use windlass_core::{
    id::{InstanceId, MemberId},
    replication::ReplicaState,
};
use windlass_db::{events::NewEvent, ha::ClusterOwner};
use windlass_logic::ha::{Cluster, Facts, Happened, Phase, Promotion, Timeline};

/// What is told of one change.
pub(super) struct Teller<'a> {
    pub(super) owner: &'a ClusterOwner,
    pub(super) instance: InstanceId,
    pub(super) before: &'a Cluster,
    pub(super) next: &'a Cluster,
    /// Why the last leader was given up, as far as this node knows.
    pub(super) cause: &'a str,
}

impl Teller<'_> {
    /// The events of what happened.
    pub(super) fn events(&self, happened: &[Happened]) -> Vec<NewEvent> {
        let told = happened.iter().flat_map(|happened| [self.sealed(happened), Some(self.tell(happened))]);
        told.flatten().map(|event| self.whole(event)).collect()
    }

    /// Enough members were sealed: known only together with who is promoted.
    fn sealed(&self, happened: &Happened) -> Option<NewEvent> {
        let (Happened::Promoted { epoch, .. }, "failover") = (happened, change(&self.next.phase)) else { return None };
        let timeline = self.next.timeline.as_ref()?;
        let took = timeline.sealed?.duration_since(timeline.detected).as_millis();
        let event =
            self.info("failover.sealed", "enough members promised to follow nobody of a lower epoch".to_owned());
        Some(with(event, [("epoch", epoch.to_string()), ("took_ms", took.to_string())]))
    }

    fn whole(&self, event: NewEvent) -> NewEvent {
        NewEvent { project: Some(self.owner.project), instance: Some(self.instance), ..event }
    }

    fn name(&self, member: MemberId) -> String {
        self.next.name(member)
    }

    fn info(&self, kind: &str, message: String) -> NewEvent {
        NewEvent::info(kind, self.owner.target.clone(), message)
    }

    fn warning(&self, kind: &str, message: String) -> NewEvent {
        NewEvent::warning(kind, self.owner.target.clone(), message)
    }

    fn tell(&self, happened: &Happened) -> NewEvent {
        match happened {
            Happened::Detected { epoch, leader, cause } => {
                let message = format!("the primary {} is given up: {cause}", self.name(*leader));
                let event = self.warning("failover.detected", message);
                with(event, [("epoch", epoch.to_string()), ("reason", cause.clone())])
            }
            Happened::DataLossAccepted { epoch, leader, cause } => {
                let message = format!("{} leads without proof that nothing is lost: {cause}", self.name(*leader));
                let event = NewEvent::error("failover.data_loss_accepted", self.owner.target.clone(), message);
                with(event, [("epoch", epoch.to_string()), ("reason", cause.clone())])
            }
            Happened::Promoted { epoch, leader, acks } => {
                let who = if acks.is_empty() { "it starts alone".to_owned() } else { acked(self.next, acks) };
                let kind = format!("{}.promoted", change(&self.next.phase));
                let event = self.info(&kind, format!("{} is promoted; {who}", self.name(*leader)));
                with(event, [("epoch", epoch.to_string()), ("member", leader.to_string())])
            }
            Happened::Opened { epoch, leader, rto_ms, timeline } => {
                self.opened(*epoch, *leader, *rto_ms, timeline.as_ref())
            }
            Happened::SetChanged { rev, acks, needed, cause } => {
                let kind = if acks.is_empty() { "primary.alone" } else { "replica.set_changed" };
                let who = if acks.is_empty() {
                    "the primary shall commit alone".to_owned()
                } else {
                    format!("commits shall wait for {needed} of {}", self.next.names(acks))
                };
                let event = self.info(kind, format!("{who}: {cause}"));
                with(event, [("rev", rev.to_string()), ("needed", needed.to_string()), ("reason", cause.clone())])
            }
            Happened::SetConfirmed { rev, acks, needed } => {
                let who = if acks.is_empty() {
                    "the primary commits alone".to_owned()
                } else {
                    format!("commits wait for {needed} of {}", self.next.names(acks))
                };
                with(
                    self.info("replica.set_confirmed", who),
                    [("rev", rev.to_string()), ("needed", needed.to_string())],
                )
            }
            Happened::SwitchoverStarted { to } => {
                let event = self.info("switchover.started", format!("{} takes over", self.name(*to)));
                with(event, [("member", to.to_string())])
            }
            Happened::SwitchoverGivenUp { cause } => {
                let message = format!("the switchover is given up, the old primary goes on: {cause}");
                with(self.warning("switchover.given_up", message), [("reason", cause.clone())])
            }
            Happened::CloneOrdered { member, cause } => {
                let message = format!("the data of {} is put aside and copied anew: {cause}", self.name(*member));
                let event = self.warning("replica.clone_ordered", message);
                with(event, [("member", member.to_string()), ("reason", cause.clone())])
            }
            Happened::ReconcileStarted { cause } => {
                let message = format!("its record is rebuilt from what its members report: {cause}");
                with(self.warning("replication.reconciling", message), [("reason", cause.clone())])
            }
            Happened::Adopted { epoch, leader } => {
                let message = format!("{} was found leading and is taken over", self.name(*leader));
                let event = self.warning("replication.adopted", message);
                with(event, [("epoch", epoch.to_string()), ("member", leader.to_string())])
            }
            Happened::Rested => self.info("replication.rested", "all members that answer are at rest".to_owned()),
        }
    }

    fn opened(&self, epoch: u64, leader: MemberId, rto_ms: Option<u64>, timeline: Option<&Timeline>) -> NewEvent {
        let kind = match change(&self.before.phase) {
            "founding" => "replication.founded".to_owned(),
            "reopening" => "primary.opened".to_owned(),
            change => format!("{change}.finished"),
        };
        let took = rto_ms.map(|ms| format!(" after {:.2} s", ms as f64 / 1000.0)).unwrap_or_default();
        let event = self.info(&kind, format!("{} takes writes{took}", self.name(leader)));
        let mut data = vec![("epoch", epoch.to_string()), ("member", leader.to_string())];
        if let Some(timeline) = timeline {
            let since = |at: Option<Timestamp>| at.map(|at| at.duration_since(timeline.lost).as_millis().to_string());
            let steps = [
                ("detected_ms", since(Some(timeline.detected))),
                ("sealed_ms", since(timeline.sealed)),
                ("promoted_ms", since(timeline.promoted)),
            ];
            data.extend(steps.into_iter().filter_map(|(step, ms)| Some((step, ms?))));
        }
        if let Some(ms) = rto_ms {
            data.extend([("opened_ms", ms.to_string()), ("rto_ms", ms.to_string())]);
        }
        if kind == "failover.finished" && !self.cause.is_empty() {
            data.push(("reason", self.cause.to_owned()));
        }
        with(event, data)
    }
}

/// What agents did by themselves, if it is worth an event: facts of a member before and now.
pub(super) fn noticed(
    owner: &ClusterOwner,
    instance: InstanceId,
    cluster: &Cluster,
    member: MemberId,
    before: Option<&Facts>,
    now: &Facts,
) -> Option<NewEvent> {
    // What this node never saw otherwise may have been told by the one before.
    let before = before?;
    let name = cluster.name(member);
    let target = owner.target.clone();
    let because = if now.reason.is_empty() { String::new() } else { format!(": {}", now.reason) };
    let became = |state| now.state == state && before.state != state;
    let event = if became(ReplicaState::Fenced) {
        NewEvent::error("primary.fenced", target, format!("{name} shut itself{because}"))
    } else if before.state == ReplicaState::Fenced && now.state == ReplicaState::Open {
        NewEvent::info("primary.unfenced", target, format!("{name} takes writes again"))
    } else if became(ReplicaState::Crashed) {
        NewEvent::warning("member.crashed", target, format!("the server of {name} does not serve{because}"))
    } else if became(ReplicaState::Quarantine) {
        NewEvent::error("replica.quarantined", target, format!("the data of {name} is not trusted{because}"))
    } else if became(ReplicaState::Rejoining) {
        NewEvent::info("replica.rejoining", target, format!("{name} is made one with the primary{because}"))
    } else if !now.lost_writes.is_empty() && now.lost_writes != before.lost_writes {
        let what = "had writes that were never acknowledged and are not in the primary's history";
        let event = NewEvent::warning("replica.lost_writes", target, format!("{name} {what}: {}", now.lost_writes));
        with(event, [("lost_writes", now.lost_writes.clone())])
    } else if became(ReplicaState::Standby) {
        NewEvent::info("replica.streaming", target, format!("{name} streams from the primary"))
    } else {
        return None;
    };
    let event = with(event, [("member", member.to_string())]);
    Some(NewEvent { project: Some(owner.project), instance: Some(instance), ..event })
}

/// The word for the change of the leader that a phase is part of.
fn change(phase: &Phase) -> &'static str {
    match phase {
        Phase::Promoting(Promotion::Founding) => "founding",
        Phase::Promoting(Promotion::Reopening) => "reopening",
        Phase::Promoting(Promotion::Adoption) | Phase::Reconciling => "adoption",
        Phase::Promoting(Promotion::Switchover) | Phase::Switchover(_) => "switchover",
        Phase::Promoting(Promotion::Failover) | Phase::Electing(_) | Phase::Steady | Phase::Resting(_) => "failover",
    }
}

fn acked(cluster: &Cluster, acks: &[MemberId]) -> String {
    format!("{} acknowledges to it", cluster.names(acks))
}

fn with(event: NewEvent, data: impl IntoIterator<Item = (&'static str, String)>) -> NewEvent {
    let mut all = event.data;
    all.extend(data.into_iter().map(|(key, value)| (key.to_owned(), value)));
    NewEvent { data: all, ..event }
}
