//! Projects.

use jiff::Timestamp;
use windlass_proto::api::v1::Project;

use super::text::{exact, map, shares, when};
use crate::{names, output::Show};

impl Show for Project {
    const COLUMNS: &'static [&'static str] = &["NAME", "INSTANCES", "CPU", "MEMORY", "DISK", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let (instances, [cpu, memory, disk]) = usage(self);
        let name = names::short(&self.name).to_owned();
        vec![name, instances, cpu, memory, disk, when(self.create_time.as_ref(), now)]
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let (instances, [cpu, memory, disk]) = usage(self);
        vec![
            ("Name", names::short(&self.name).to_owned()),
            ("UID", self.uid.clone()),
            ("Labels", map(&self.labels)),
            ("Instances", instances),
            ("CPU", cpu),
            ("Memory", memory),
            ("Disk", disk),
            ("Created", exact(self.create_time.as_ref(), now)),
            ("Changed", exact(self.update_time.as_ref(), now)),
        ]
    }
}

/// What is used of what is allowed.
fn usage(project: &Project) -> (String, [String; 3]) {
    let used = project.usage.unwrap_or_default();
    let quota = project.quota.unwrap_or_default();
    let instances = format!("{} / {}", used.instances, quota.instances);
    (instances, shares(used.resources.as_ref(), quota.resources.as_ref()))
}
