//! The highly available instance of the demo: who leads it, how to see it fail over, and the proof of it for `--once`.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::fleet::Fleet;
use super::interrupt::Interrupt;
use super::say;
use crate::workspace;

/// Its name.
pub(super) const INSTANCE: &str = "ha-1";
const LIMIT: Duration = Duration::from_secs(60);

/// Who leads.
struct Leader {
    host: String,
    pid: i32,
}

fn leader(instance: &Value) -> Option<Leader> {
    let uid = instance["replication_status"]["primary"].as_str()?;
    let members = instance["members"].as_array()?;
    let member = members.iter().find(|member| member["uid"].as_str() == Some(uid))?;
    // 64-bit numbers are strings in the JSON of protocol buffers.
    let pid: i32 = member["pid"].as_str()?.parse().ok()?;
    let host = member["host"].as_str()?.trim_start_matches("hosts/").to_owned();
    (pid > 0).then_some(Leader { host, pid })
}

/// What the status line says beside state and health; nothing for an instance of one member.
pub(super) fn status(instance: &Value) -> String {
    let Some(leader) = leader(instance) else { return String::new() };
    let epoch = instance["replication_status"]["epoch"].as_str().unwrap_or("?");
    format!(" (epoch {epoch}, primary on {})", leader.host)
}

/// How the user sees it fail over.
///
/// # Errors
/// Nobody leads it.
pub(super) fn invitation(fleet: &Fleet<'_>) -> Result<String> {
    let now = look(fleet)?;
    let leader = leader(&now).with_context(|| format!("nobody leads {INSTANCE}: {now}"))?;
    Ok(format!(
        "\n{INSTANCE} has a replica on another host; its primary is process {pid} on {host}. See a client work through \
         the proxy in one shell and kill the primary in another:\n\n  \
         while windlass connect {INSTANCE} -- -XAtc \"select now(), 'epoch ' || current_setting('windlass.epoch')\"; do \
         sleep 0.2; done\n  kill -9 {pid}\n  windlass instance explain {INSTANCE}\n  \
         windlass event list --limit 20\n  windlass instance switchover {INSTANCE} --wait\n",
        pid = leader.pid,
        host = leader.host,
    ))
}

/// Kills the primary and waits until the instance answers again.
///
/// # Errors
/// It does not.
pub(super) fn prove(fleet: &Fleet<'_>, interrupt: &Interrupt, ask: impl Fn() -> Result<String>) -> Result<()> {
    let before = leader(&look(fleet)?).with_context(|| format!("nobody leads {INSTANCE}"))?;
    say(&format!("killing the primary of {INSTANCE}, process {} on {}", before.pid, before.host));
    kill(Pid::from_raw(before.pid), Signal::SIGKILL)?;
    let after = interrupt.wait_for("new primary", LIMIT, || {
        let now = look(fleet)?;
        let other = leader(&now).filter(|leader| leader.pid != before.pid);
        Ok(other.ok_or_else(|| now.to_string()))
    })?;
    let answer = ask()?;
    say(&format!("{INSTANCE} says from process {} on {}: {}", after.pid, after.host, answer.trim()));
    Ok(())
}

fn look(fleet: &Fleet<'_>) -> Result<Value> {
    let text = workspace::output(fleet.cli().args(["instance", "get", INSTANCE, "-o", "json"]))?;
    Ok(serde_json::from_str(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_the_member_that_the_status_names() {
        let text = r#"{"replication_status": {"primary": "b", "epoch": "3"}, "members": [
            {"uid": "a", "host": "hosts/host-1", "pid": "11"}, {"uid": "b", "host": "hosts/host-2", "pid": "12"}]}"#;
        let instance: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(leader(&instance).map(|leader| (leader.host, leader.pid)), Some(("host-2".to_owned(), 12)));
        assert_eq!(status(&instance), " (epoch 3, primary on host-2)");
        assert_eq!(status(&serde_json::json!({"members": [{"uid": "a", "pid": "1"}]})), "");
    }
}
