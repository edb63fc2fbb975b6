//! Who dies when. Everybody who was killed is started again after a moment; databases by their agents.

use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Plan, Report};
use crate::Stack;
use crate::database;

enum Victim {
    ControlPlane,
    Agent(usize),
    Database(usize),
}

/// Kills until the plan is fulfilled.
pub(super) async fn kill_at_random(stack: &mut Stack, plan: Plan, report: &mut Report) -> Result<()> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut done = 0;
    let mut idle = 0;
    while done < plan.kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
        let victim = match random.random_range(0..10) {
            0..3 => Victim::ControlPlane,
            3..6 => Victim::Agent(random.random_range(0..plan.hosts)),
            _ => Victim::Database(random.random_range(0..plan.hosts)),
        };
        let pause = Duration::from_millis(random.random_range(0..600));
        match victim {
            Victim::ControlPlane => {
                stack.control_plane.check()?;
                stack.control_plane.kill()?;
                tokio::time::sleep(pause).await;
                stack.control_plane.start(&[])?;
                // Long enough to do something before it may die again.
                stack.answers().await?;
                *report.kills.entry("control plane").or_default() += 1;
            }
            Victim::Agent(host) => {
                stack.hosts[host].agent.check()?;
                stack.hosts[host].agent.kill()?;
                tokio::time::sleep(pause).await;
                stack.hosts[host].agent.start(&[])?;
                *report.kills.entry("agent").or_default() += 1;
            }
            Victim::Database(host) => {
                // Of members, as opposed to the warm pool's.
                let servers = database::processes_below(&stack.hosts[host].directory.join("state/members"));
                if servers.is_empty() {
                    idle += 1;
                    if idle > 50 * (done + 1) {
                        bail!("nothing to kill: no host runs a database");
                    }
                    continue;
                }
                let unlucky = &servers[random.random_range(0..servers.len())];
                // Gone by itself in between is as good.
                let _ = kill(Pid::from_raw(unlucky.pid), Signal::SIGKILL);
                *report.kills.entry("database").or_default() += 1;
            }
        }
        done += 1;
    }
    Ok(())
}
