//! One round as its fault sees it: the installation, the instance, and how to tell what became of them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt;
use rand::rngs::StdRng;
use windlass_core::id::MemberId;
use windlass_proto::api::v1::{Instance, ReplicationStatus, instance};

use crate::api::{Api, instance_name};
use crate::database::start_time;
use crate::lab::Node;
use crate::processes;
use crate::site::{Machine, PROJECT, Site};
use crate::wait::wait_until;
use crate::workload::{Target, Workload};

/// One round.
pub struct Round<'s> {
    /// The installation.
    pub site: &'s mut Site,
    /// The instance's id.
    pub id: &'s str,
    /// Decides choices.
    pub random: StdRng,
    /// Who works meanwhile.
    pub workload: &'s Workload,
    /// How the workload reaches the instance.
    pub target: Target,
    /// An API that answers also while the first control plane does not.
    pub api: Api,
    /// When the fault came.
    pub(super) fault_at: Option<Duration>,
    /// The epoch before the fault.
    pub(super) epoch: u64,
}

impl Round<'_> {
    /// The fault comes now; what was before does not count for gaps.
    pub fn mark(&mut self) {
        self.fault_at = Some(self.workload.now());
    }

    /// The instance's full name.
    pub fn name(&self) -> String {
        instance_name(PROJECT, self.id)
    }

    /// The instance as the control plane sees it.
    ///
    /// # Errors
    /// The control plane does not answer.
    pub async fn instance(&self) -> Result<Instance> {
        self.api.instance(&self.name()).await
    }

    /// How replication stands.
    ///
    /// # Errors
    /// The control plane does not answer, or the instance is not replicated.
    pub async fn status(&self) -> Result<ReplicationStatus> {
        self.instance().await?.replication_status.context("the instance is not replicated")
    }

    /// The machine of the primary.
    ///
    /// # Errors
    /// There is none.
    pub async fn primary(&self) -> Result<usize> {
        let instance = self.instance().await?;
        let uid = instance.replication_status.unwrap_or_default().primary;
        let member = instance.members.iter().find(|member| member.uid == uid).context("nobody leads")?;
        self.site.host_of(member)
    }

    /// The member on a machine.
    ///
    /// # Errors
    /// There is none.
    pub async fn member(&self, number: usize) -> Result<MemberId> {
        let instance = self.instance().await?;
        let member = instance.members.iter().find(|member| self.site.host_of(member).is_ok_and(|host| host == number));
        Ok(member.context("nobody lives there")?.uid.parse()?)
    }

    /// The machines of the other members, in any order.
    ///
    /// # Errors
    /// There is no primary.
    pub async fn standbys(&mut self) -> Result<Vec<usize>> {
        let instance = self.instance().await?;
        let uid = instance.replication_status.unwrap_or_default().primary;
        let others = instance.members.iter().filter(|member| member.uid != uid);
        let mut others: Vec<usize> = others.map(|member| self.site.host_of(member)).collect::<Result<_>>()?;
        ensure!(!others.is_empty(), "no standby");
        let shift = self.random.random_range(0..others.len());
        others.rotate_left(shift);
        Ok(others)
    }

    /// A machine.
    pub fn host(&mut self, number: usize) -> &mut Machine {
        &mut self.site.hosts[number]
    }

    /// A machine's host.
    pub fn node(&self, number: usize) -> Node {
        self.site.hosts[number].node().clone()
    }

    /// The postmaster of the instance's member on a machine.
    ///
    /// # Errors
    /// There is none.
    pub fn postmaster(&self, number: usize) -> Result<i32> {
        self.site.postmaster(number)
    }

    /// The postmaster and its children.
    ///
    /// # Errors
    /// There is none.
    pub fn server(&self, number: usize) -> Result<Vec<i32>> {
        Ok(processes::Scope::Family(self.postmaster(number)?).pids())
    }

    /// Kills the server of the member on a machine, if it runs, and waits until nothing is left of it.
    ///
    /// # Errors
    /// Something is left.
    pub async fn end_server(&self, number: usize) -> Result<()> {
        let pids = self.server(number).unwrap_or_default();
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        wait_until("the end of a server", Duration::from_secs(10), async || {
            let left = pids.iter().filter(|pid| start_time(**pid).is_some()).count();
            ensure!(left == 0, "{left} processes are left");
            Ok(())
        })
        .await
    }

    /// The directory of the one member on a machine.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn member_directory(&self, number: usize) -> Result<PathBuf> {
        self.site.member_directory(number)
    }

    /// Lets time pass while a fault lasts. The fault is the level; there is nothing else to wait for.
    pub async fn lasts(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    /// Waits until writes that begin from now on are acknowledged.
    ///
    /// # Errors
    /// They are not within the limit.
    pub async fn writes_go_on(&self, seconds: u64) -> Result<()> {
        let from = self.workload.now() + Duration::from_millis(50);
        let limit = Duration::from_secs(seconds);
        let waited = wait_until("an acknowledged write", limit, async || {
            let last = self.workload.last_ack();
            if last > from { Ok(()) } else { bail!("the last was {:?} before", from.saturating_sub(last)) }
        })
        .await;
        match waited {
            Ok(()) => Ok(()),
            Err(error) => {
                let seen = self.instance().await.map(|instance| describe(&instance));
                Err(error.context(seen.unwrap_or_else(|error| format!("{error:#}"))))
            }
        }
    }

    /// Lets time pass in which nothing may be acknowledged, but for what was under way.
    ///
    /// # Errors
    /// Something was.
    pub async fn nothing_acknowledged(&self, seconds: f64) -> Result<()> {
        let from = self.workload.now() + Duration::from_millis(200);
        self.lasts(seconds).await;
        let last = self.workload.last_ack();
        ensure!(last <= from, "a write was acknowledged {:?} after nobody could", last.saturating_sub(from));
        Ok(())
    }

    /// Waits until another epoch begins than there was before the fault.
    ///
    /// # Errors
    /// None does within the limit.
    pub async fn fails_over(&self, seconds: u64) -> Result<u64> {
        let before = self.epoch;
        wait_until("another epoch", Duration::from_secs(seconds), async || {
            let instance = self.instance().await?;
            let status = instance.replication_status.clone().unwrap_or_default();
            if status.epoch > before && !status.primary.is_empty() {
                Ok(status.epoch)
            } else {
                bail!("{}", describe(&instance))
            }
        })
        .await
    }

    /// Waits until every member is whole: it runs, and every synchronous replica acknowledges.
    ///
    /// # Errors
    /// They are not within the limit.
    pub async fn whole(&self, limit: Duration) -> Result<()> {
        whole(&self.api, &self.name(), limit).await
    }
}

/// As [`Round::whole`], of any instance.
///
/// # Errors
/// They are not within the limit.
pub async fn whole(api: &Api, name: &str, limit: Duration) -> Result<()> {
    wait_until("every member whole", limit, async || {
        let instance = api.instance(name).await?;
        if is_whole(&instance) { Ok(()) } else { bail!("{}", describe(&instance)) }
    })
    .await
}

/// Whether every member is as it should be.
fn is_whole(instance: &Instance) -> bool {
    let status = instance.replication_status.clone().unwrap_or_default();
    let synchronous = instance.members.iter().filter(|member| !member.asynchronous).count();
    instance.state() == instance::State::Running
        && instance.health() == instance::Health::Healthy
        && status.phase == "STEADY"
        && status.acknowledging.len() + 1 == synchronous
        && status.candidates.len() + 1 == synchronous
        && instance.members.iter().all(|member| member.process == "RUNNING")
}

/// What matters of an instance in a line.
fn describe(instance: &Instance) -> String {
    let status = instance.replication_status.clone().unwrap_or_default();
    let members = instance.members.iter().map(|member| {
        let mark = if member.uid == status.primary { "*" } else { "" };
        format!("{}{mark} {} {}", member.host, member.process, member.replica_state)
    });
    let members: Vec<_> = members.collect();
    format!(
        "{:?} {:?} {:?}, epoch {} rev {} {} {}, {} acknowledge, {} candidates, waits {:?}; {}",
        instance.state(),
        instance.health(),
        instance.health_reasons,
        status.epoch,
        status.rev,
        status.phase,
        status.mode,
        status.acknowledging.len(),
        status.candidates.len(),
        status.waits,
        members.join(", ")
    )
}
