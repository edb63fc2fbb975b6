//! API keys.

use jiff::Timestamp;
use windlass_proto::api::v1::ApiKey;

use super::text::{exact, when};
use crate::{names, output::Show};

impl Show for ApiKey {
    const COLUMNS: &'static [&'static str] = &["UID", "TITLE", "ROLE", "SCOPE", "PREFIX", "STATE", "USED", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.uid.clone(),
            self.title.clone(),
            self.role.clone(),
            scope(self),
            self.prefix.clone(),
            state(self, now),
            when(self.last_use_time.as_ref(), now),
            when(self.create_time.as_ref(), now),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        vec![
            ("UID", self.uid.clone()),
            ("Title", self.title.clone()),
            ("Role", self.role.clone()),
            ("Scope", scope(self)),
            ("Prefix", self.prefix.clone()),
            ("State", state(self, now)),
            ("Created", exact(self.create_time.as_ref(), now)),
            ("Expires", exact(self.expire_time.as_ref(), now)),
            ("Last used", exact(self.last_use_time.as_ref(), now)),
        ]
    }
}

fn scope(key: &ApiKey) -> String {
    if key.project.is_empty() { "installation".to_owned() } else { format!("project {}", names::short(&key.project)) }
}

fn state(key: &ApiKey, now: Timestamp) -> String {
    let expired = key.expire_time.as_ref().is_some_and(|time| time.seconds <= now.as_second());
    let state = match (key.revoke_time.is_some(), expired) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "valid",
    };
    state.to_owned()
}
