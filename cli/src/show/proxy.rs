//! Proxies.

use jiff::Timestamp;
use windlass_proto::api::v1::Proxy;

use super::text::{exact, when, word};
use crate::{names, output::Show};

impl Show for Proxy {
    const COLUMNS: &'static [&'static str] = &["NAME", "STATE", "ADDRESS", "DOMAIN", "VERSION", "SEEN"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            names::short(&self.name).to_owned(),
            word(self.state().as_str_name()),
            address(self),
            self.domain.clone(),
            self.proxy_version.clone(),
            when(self.last_seen_time.as_ref(), now),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        vec![
            ("Name", names::short(&self.name).to_owned()),
            ("UID", self.uid.clone()),
            ("State", word(self.state().as_str_name())),
            ("Address", address(self)),
            ("Domain", self.domain.clone()),
            ("Version", self.proxy_version.clone()),
            ("Certificate ends", exact(self.certificate_expire_time.as_ref(), now)),
            ("Seen", exact(self.last_seen_time.as_ref(), now)),
            ("Enrolled", exact(self.create_time.as_ref(), now)),
        ]
    }
}

fn address(proxy: &Proxy) -> String {
    if proxy.address.is_empty() { String::new() } else { format!("{}:{}", proxy.address, proxy.port) }
}
