//! What agents say, into memory and, where it is news, into the database.

use std::time::Instant;

use jiff::SignedDuration;
use serde_json::Value;
use windlass_core::{
    Error,
    host::HostState,
    id::{HostId, InstanceId, MemberId},
};
use windlass_db::{
    Tx,
    agents::{AgentHello, host_happenings_tx, host_hello_tx, host_orphans_tx, hosts_move_tx, instances_on_hosts_tx},
    events::{NewEvent, event_add_tx},
    members::{MemberObservation, members_missing_tx, members_observed_tx},
};
use windlass_proto::agent::v1 as pb;

use super::{Health, liveness::MemberKey};
use crate::sagas::observe;

/// A heartbeat may be older than a result that was stored so lately.
const HEARTBEAT_IN_FLIGHT: SignedDuration = SignedDuration::from_secs(5);

impl Health {
    /// An agent has connected and said who it is: the host is ONLINE.
    ///
    /// # Errors
    /// `NOT_FOUND` when the host is gone; those of the database.
    pub async fn hello(&self, host: HostId, hello: &AgentHello) -> Result<(), Error> {
        let mut tx = self.shared.db.begin().await?;
        self.online_tx(&mut tx, host).await?;
        host_hello_tx(&mut tx, host, hello).await?;
        tx.commit().await?;
        self.learn(host).await?;
        let mut table = self.table();
        table.new_session(host);
        table.stored(host, HostState::Online);
        table.heard(host, Instant::now());
        Ok(())
    }

    /// A host has given a sign of life.
    ///
    /// # Errors
    /// Those of the database, if it had been OFFLINE.
    pub async fn heard(&self, host: HostId) -> Result<(), Error> {
        if !self.table().knows(host) {
            self.learn(host).await?;
        }
        if !self.table().heard(host, Instant::now()) {
            return Ok(());
        }
        let mut tx = self.shared.db.begin().await?;
        self.online_tx(&mut tx, host).await?;
        tx.commit().await?;
        self.table().stored(host, HostState::Online);
        Ok(())
    }

    /// Takes a heartbeat in. Gives the last happening that is stored.
    ///
    /// # Errors
    /// Those of the database; then the agent says it again.
    pub async fn heartbeat(&self, host: HostId, beat: &pb::HeartbeatRequest) -> Result<u64, Error> {
        self.heard(host).await?;
        if let Some(facts) = &beat.host {
            self.table().load(host, load(facts));
        }
        let news = self.news(host, &beat.members);
        let orphans = self.table().orphans_differ(host, &beat.orphans);
        if news.is_empty() && !orphans && beat.happenings.is_empty() {
            return Ok(0);
        }
        let mut tx = self.shared.db.begin().await?;
        // Instances before hosts: the order in which everybody locks.
        self.facts_tx(&mut tx, host, &news).await?;
        if self.table().first_of_session(host) {
            missing_tx(&mut tx, host, &beat.members).await?;
        }
        if orphans {
            host_orphans_tx(&mut tx, host, &beat.orphans).await?;
        }
        let stored = self.happenings_tx(&mut tx, host, beat).await?;
        tx.commit().await?;
        let mut table = self.table();
        for (member, key, _) in news {
            table.remember(host, member, key);
        }
        if orphans {
            table.remember_orphans(host, &beat.orphans);
        }
        Ok(stored)
    }

    async fn learn(&self, host: HostId) -> Result<(), Error> {
        if self.table().knows(host) {
            return Ok(());
        }
        if let Some(life) = self.shared.db.host_alive(host).await? {
            self.table().learn(life.id, &life.name, life.state, Instant::now());
        }
        Ok(())
    }

    async fn online_tx(&self, tx: &mut Tx, host: HostId) -> Result<(), Error> {
        let instances = instances_on_hosts_tx(tx, &[host]).await?;
        for life in hosts_move_tx(tx, &[host], HostState::Online).await? {
            let event = NewEvent {
                actor: life.name.clone(),
                host: Some(host),
                ..NewEvent::info("host.online", format!("hosts/{}", life.name), format!("host {} is online", life.name))
            };
            event_add_tx(tx, event).await?;
            observe::refresh_tx(tx, &instances).await?;
        }
        Ok(())
    }

    /// The members whose facts differ from those stored last.
    fn news<'a>(
        &self,
        host: HostId,
        members: &'a [pb::MemberFacts],
    ) -> Vec<(MemberId, MemberKey, &'a pb::MemberFacts)> {
        let table = self.table();
        members
            .iter()
            .filter_map(|facts| Some((facts.member_id.parse().ok()?, key(facts), facts)))
            .filter(|(member, key, _)| table.differs(host, *member, key))
            .collect()
    }

    async fn facts_tx(
        &self,
        tx: &mut Tx,
        host: HostId,
        news: &[(MemberId, MemberKey, &pb::MemberFacts)],
    ) -> Result<(), Error> {
        if news.is_empty() {
            return Ok(());
        }
        let seen: Vec<_> = news
            .iter()
            .map(|(member, key, facts)| MemberObservation {
                member_id: *member,
                process: key.process,
                generation: i64::try_from(key.generation).unwrap_or(i64::MAX),
                facts: serde_json::to_value(facts).unwrap_or(Value::Null),
            })
            .collect();
        members_observed_tx(tx, host, &seen).await?;
        let mut instances: Vec<InstanceId> =
            news.iter().filter_map(|(_, _, facts)| facts.instance_id.parse().ok()).collect();
        instances.sort_unstable();
        instances.dedup();
        observe::refresh_tx(tx, &instances).await
    }

    /// Makes each happening an event, once; gives the last one stored.
    async fn happenings_tx(&self, tx: &mut Tx, host: HostId, beat: &pb::HeartbeatRequest) -> Result<u64, Error> {
        let Some(last) = beat.happenings.iter().map(|happening| happening.sequence).max() else { return Ok(0) };
        let signed = i64::try_from(last).unwrap_or(i64::MAX);
        let Some(before) = host_happenings_tx(tx, host, &beat.session_id, signed).await? else { return Ok(0) };
        let name = self.table().name(host).unwrap_or_else(|| host.to_string());
        let mut fresh: Vec<_> =
            beat.happenings.iter().filter(|happening| happening.sequence > before.unsigned_abs()).collect();
        fresh.sort_by_key(|happening| happening.sequence);
        for happening in fresh {
            let member = beat.members.iter().find(|facts| facts.member_id == happening.member_id);
            let instance = member.and_then(|facts| facts.instance_id.parse().ok());
            let event = NewEvent {
                actor: name.clone(),
                host: Some(host),
                instance,
                ..NewEvent::warning(&happening.kind, format!("hosts/{name}"), happening.message.clone())
            };
            event_add_tx(tx, event).await?;
        }
        Ok(last.max(before.unsigned_abs()))
    }
}

/// A fresh agent names every member it has: what it does not name any more is not there.
async fn missing_tx(tx: &mut Tx, host: HostId, members: &[pb::MemberFacts]) -> Result<(), Error> {
    let named: Vec<MemberId> = members.iter().filter_map(|facts| facts.member_id.parse().ok()).collect();
    let instances = members_missing_tx(tx, host, &named, HEARTBEAT_IN_FLIGHT).await?;
    observe::refresh_tx(tx, &instances).await
}

fn key(facts: &pb::MemberFacts) -> MemberKey {
    MemberKey {
        process: observe::process(facts),
        generation: facts.generation,
        pid: facts.pid,
        problem: facts.problem.clone(),
        pending_restart: facts.pending_restart.clone(),
        restarts: facts.restarts,
        in_recovery: facts.in_recovery,
    }
}

fn load(facts: &pb::HostFacts) -> Value {
    // By hand: the wire's own JSON has large numbers as text, which the database's readers do not take.
    serde_json::json!({
        "cpu_percent": facts.cpu_percent,
        "memory_used_bytes": facts.memory_used_bytes,
        "disk_free_bytes": facts.disk_free_bytes,
        "psi_cpu": facts.psi_cpu,
        "psi_memory": facts.psi_memory,
        "psi_io": facts.psi_io,
    })
}
