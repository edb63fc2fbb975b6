//! Where clients reach an instance: through proxies, by a name below their domain or by a suffix of the user, and past
//! them. Pure.

use std::collections::BTreeMap;

use windlass_core::member::MemberRole;
use windlass_db::{endpoints::EndpointRow, proxies::ProxyRow};

use super::Route;

/// How an address leads to the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyAddress {
    /// Name or address to connect to.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What is to be put behind the user's name, with its `@`; empty if the host's name says enough.
    pub user_suffix: String,
}

/// The address of an instance at the proxies; None if there is none. Of several domains the one with the most proxies is
/// given, because a name there reaches all of them; without any domain it is the first proxy by name.
pub fn through(proxies: &[ProxyRow], project: &str, name: &str, role: MemberRole) -> Option<ProxyAddress> {
    let name = match role {
        MemberRole::Primary => name.to_owned(),
        MemberRole::Replica => format!("{name}-ro"),
    };
    let mut domains: BTreeMap<(&str, u16), usize> = BTreeMap::new();
    for proxy in proxies.iter().filter(|proxy| !proxy.domain.is_empty()) {
        *domains.entry((&proxy.domain, proxy.port)).or_default() += 1;
    }
    // Of equals the first.
    if let Some(((domain, port), _)) = domains.into_iter().rev().max_by_key(|(_, proxies)| *proxies) {
        return Some(ProxyAddress { host: format!("{name}.{project}.{domain}"), port, user_suffix: String::new() });
    }
    let first = proxies.iter().min_by(|a, b| a.name.cmp(&b.name))?;
    let user_suffix = format!("@{name}.{project}");
    Some(ProxyAddress { host: first.address.clone(), port: first.port, user_suffix })
}

/// Every address of an instance.
pub(super) fn endpoints(route: &Route, proxies: &[ProxyRow]) -> Vec<EndpointRow> {
    let row = |role: MemberRole, via: &str, host: &str, port: u16| EndpointRow {
        instance_id: route.instance,
        role: role.to_string(),
        via: via.to_owned(),
        host: host.to_owned(),
        port,
    };
    let mut rows: Vec<_> = route
        .primary
        .iter()
        .map(|backend| row(MemberRole::Primary, "direct", &backend.address, backend.port))
        .collect();
    rows.extend(
        route.replicas.iter().map(|backend| row(MemberRole::Replica, "direct", &backend.address, backend.port)),
    );
    if route.engine.descriptor().has_proxy {
        for proxy in proxies {
            let one = std::slice::from_ref(proxy);
            let replicas = (!route.replicas.is_empty()).then_some(MemberRole::Replica);
            for role in [Some(MemberRole::Primary), replicas].into_iter().flatten() {
                let address = through(one, &route.project, &route.name, role);
                rows.extend(address.map(|address| row(role, "proxy", &address.host, address.port)));
            }
        }
    }
    rows.sort();
    rows.dedup();
    rows
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use windlass_core::id::ProxyId;

    use super::*;

    fn proxy(name: &str, domain: &str) -> ProxyRow {
        ProxyRow {
            id: ProxyId::new(),
            name: name.to_owned(),
            address: format!("{name}.net"),
            port: 6432,
            domain: domain.to_owned(),
            version: String::new(),
            last_seen_time: None,
            certificate_expire_time: None,
            revoke_time: None,
            create_time: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_domain_that_reaches_most_proxies_is_given_else_a_user_suffix() {
        let of = |proxies: &[ProxyRow], role| {
            through(proxies, "shop", "db", role).map(|a| format!("{}:{}{}", a.host, a.port, a.user_suffix))
        };
        let (a, b, c) = (proxy("a", "x.net"), proxy("b", "y.net"), proxy("c", "y.net"));
        let bare = [proxy("q", ""), proxy("p", "")];
        assert_eq!(of(&[], MemberRole::Primary), None);
        assert_eq!(of(&[a.clone(), b, c], MemberRole::Primary).as_deref(), Some("db.shop.y.net:6432"));
        assert_eq!(of(&[a], MemberRole::Replica).as_deref(), Some("db-ro.shop.x.net:6432"));
        assert_eq!(of(&bare, MemberRole::Replica).as_deref(), Some("p.net:6432@db-ro.shop"));
    }
}
