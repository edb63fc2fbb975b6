//! The command line: the flags that every command has, and those that several share.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::{Args, Parser, ValueEnum};
use uuid::Uuid;
use windlass_proto::api::v1 as pb;

use crate::{commands::Command, output::Format, units};

/// Databases as a service on your own hosts.
#[derive(Parser)]
#[command(name = "windlass", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok · 1 failure · 2 usage · 3 not found · 4 key or permission · 5 conflict or \
precondition · 6 operation failed · 7 quota or capacity · 124 wait timed out · 130 interrupted";

/// Where to, as whom, and how to print. A flag wins over the environment, the environment over the profile's file.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Profile of the configuration file
    #[arg(long, global = true, env = "WINDLASS_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Address of the control plane, for example https://windlass.example.com:7400
    #[arg(long, global = true, env = "WINDLASS_ENDPOINT", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// API key; prefer the environment variable or a profile, which other users cannot see
    #[arg(long, global = true, env = "WINDLASS_TOKEN", value_name = "KEY", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File with the certificate (PEM) of the CA that signed the control plane's
    #[arg(long, global = true, env = "WINDLASS_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Project to work in; if there is only one that the key may see, it is found by itself
    #[arg(long, short, global = true, env = "WINDLASS_PROJECT", value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// How to print: table for people, json and yaml as the API says it, name for scripts
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT", hide_default_value = true)]
    pub(crate) output: Format,
    /// Print no progress and no notes
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// Flags of every command that changes something.
#[derive(Args)]
pub(crate) struct Mutation {
    /// Makes a repeat of the command have one effect; generated if not given
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Mutation {
    /// The id under which the server knows repeats of this call.
    pub(crate) fn request_id(&self) -> String {
        self.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string())
    }
}

/// Whether to wait for an operation. On a terminal the default is to wait.
#[derive(Args)]
pub(crate) struct Waiting {
    /// Wait for the end of the operation; the default on a terminal
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Print the operation's name and return; the default elsewhere
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Give up waiting after this time; the operation goes on
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "30m")]
    pub(crate) timeout: Duration,
}

impl Waiting {
    /// Whether to wait, given whether a person looks on.
    pub(crate) fn wanted(&self, terminal: bool) -> bool {
        !self.no_wait && (self.wait || terminal)
    }
}

/// Flags of every command that starts an operation.
#[derive(Args)]
pub(crate) struct Changing {
    #[command(flatten)]
    pub(crate) mutation: Mutation,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// The size of a member.
#[derive(Args)]
pub(crate) struct SizeArgs {
    /// Processor share: cores as in 2 or 0.5, or thousandths as in 500m
    #[arg(long, value_name = "CORES", value_parser = units::cpu)]
    pub(crate) cpu: Option<u64>,
    /// Memory, for example 512MiB
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub(crate) memory: Option<u64>,
    /// Disk, for example 20GiB
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub(crate) disk: Option<u64>,
}

/// New labels on something that is being made.
#[derive(Args)]
pub(crate) struct LabelArgs {
    /// A label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = units::pair)]
    labels: Vec<(String, String)>,
}

impl LabelArgs {
    pub(crate) fn map(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }
}

/// Changes of labels on something that exists.
#[derive(Args)]
pub(crate) struct LabelChanges {
    /// Set a label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = units::pair)]
    labels: Vec<(String, String)>,
    /// Remove a label; may be repeated
    #[arg(long = "remove-label", value_name = "KEY")]
    remove_labels: Vec<String>,
}

impl LabelChanges {
    pub(crate) fn any(&self) -> bool {
        !self.labels.is_empty() || !self.remove_labels.is_empty()
    }

    pub(crate) fn apply(&self, labels: &mut BTreeMap<String, String>) {
        labels.extend(self.labels.iter().cloned());
        labels.retain(|key, _| !self.remove_labels.contains(key));
    }
}

/// Which labelled things to list.
#[derive(Args)]
pub(crate) struct FilterArgs {
    /// Only those that carry this label; may be repeated
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = units::pair)]
    labels: Vec<(String, String)>,
    /// A filter as the API has it: terms such as state=RUNNING joined by " AND "
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
}

impl FilterArgs {
    /// The filter of the API, with some more terms.
    pub(crate) fn text(&self, more: impl IntoIterator<Item = (&'static str, Option<String>)>) -> String {
        let labels = self.labels.iter().map(|(key, value)| format!("label.{key}={value}"));
        let more = more.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        self.filter.iter().cloned().chain(labels).chain(more).collect::<Vec<_>>().join(" AND ")
    }
}

/// Flags of every command that deletes something.
#[derive(Args)]
pub(crate) struct Deleting {
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Succeed if there is nothing to delete
    #[arg(long)]
    pub(crate) if_exists: bool,
}

/// Members beside the primary.
#[derive(Args)]
pub(crate) struct ReplicationArgs {
    /// Members beside the primary, 0 to 4, each on a host of its own
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u32>,
    /// How many of the replicas never acknowledge commits and are never promoted by themselves
    #[arg(long, value_name = "N")]
    async_replicas: Option<u32>,
    /// When no synchronous replica is left: availability (the primary goes on alone) or durability (commits wait)
    #[arg(long, value_name = "POLICY", value_enum)]
    durability: Option<DurabilityArg>,
    /// Synchronous replicas that must have a commit before it counts; 1 for up to 3 members and 2 above if not given
    #[arg(long, value_name = "N")]
    acknowledgements: Option<u32>,
    /// Silence after which a host may be held for dead, 1s to 60s
    #[arg(long, value_name = "TIME", value_parser = units::span)]
    detect_after: Option<Duration>,
    /// How long a synchronous replica may be away before commits no longer wait for it, 1s to 5m
    #[arg(long, value_name = "TIME", value_parser = units::span)]
    shrink_after: Option<Duration>,
    /// Isolation after which a primary shuts itself, 3s to 5m
    #[arg(long, value_name = "TIME", value_parser = units::span)]
    fence_after: Option<Duration>,
    /// Longest pause of a switchover, 500ms to 1m
    #[arg(long, value_name = "TIME", value_parser = units::span)]
    switchover_pause: Option<Duration>,
}

/// What happens to commits when no synchronous replica is left.
#[derive(Clone, Copy, ValueEnum)]
enum DurabilityArg {
    /// The primary goes on alone
    Availability,
    /// Commits wait until one is back
    Durability,
}

impl ReplicationArgs {
    /// What is asked for; None if nothing is.
    pub(crate) fn wanted(&self) -> Option<pb::Replication> {
        let millis =
            |time: Option<Duration>| time.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        let timings = pb::ReplicationTimings {
            detect_ms: millis(self.detect_after),
            shrink_ms: millis(self.shrink_after),
            fence_ms: millis(self.fence_after),
            switchover_ms: millis(self.switchover_pause),
        };
        let durability = match self.durability {
            None => pb::replication::Durability::Unspecified,
            Some(DurabilityArg::Availability) => pb::replication::Durability::Availability,
            Some(DurabilityArg::Durability) => pb::replication::Durability::Durability,
        };
        let wanted = pb::Replication {
            replicas: self.replicas.unwrap_or_default(),
            asynchronous: self.async_replicas.unwrap_or_default(),
            durability: durability.into(),
            acknowledgements: self.acknowledgements.unwrap_or_default(),
            timings: (timings != pb::ReplicationTimings::default()).then_some(timings),
        };
        (!self.paths().is_empty()).then_some(wanted)
    }

    /// The paths of an update mask for what is given.
    pub(crate) fn paths(&self) -> Vec<&'static str> {
        let given = [
            ("replication.replicas", self.replicas.is_some()),
            ("replication.asynchronous", self.async_replicas.is_some()),
            ("replication.durability", self.durability.is_some()),
            ("replication.acknowledgements", self.acknowledgements.is_some()),
            ("replication.timings.detect_ms", self.detect_after.is_some()),
            ("replication.timings.shrink_ms", self.shrink_after.is_some()),
            ("replication.timings.fence_ms", self.fence_after.is_some()),
            ("replication.timings.switchover_ms", self.switchover_pause.is_some()),
        ];
        given.into_iter().filter_map(|(path, given)| given.then_some(path)).collect()
    }
}
