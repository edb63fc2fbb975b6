//! P11: the routes that a proxy uses never go back.

use std::collections::BTreeMap;

/// A route as a proxy took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which proxy, and which start of it if it forgets.
    pub proxy: String,
    /// Which instance.
    pub instance: String,
    /// The route's epoch.
    pub epoch: u64,
    /// The route's rev.
    pub rev: u64,
}

/// Holds the routes, in the order of taking, against each other.
pub fn check(taken: &[Taken]) -> Vec<String> {
    let mut last: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    let mut found = Vec::new();
    for route in taken {
        let now = (route.epoch, route.rev);
        let before = last.insert((&route.proxy, &route.instance), now).unwrap_or_default();
        if now < before {
            found.push(format!("{} went back from {before:?} to {now:?} for {}", route.proxy, route.instance));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_goes_back_is_named_and_two_proxies_may_differ() {
        let take = |proxy: &str, epoch, rev| Taken { proxy: proxy.into(), instance: "db".into(), epoch, rev };
        assert_eq!(check(&[take("a", 1, 9), take("a", 2, 1), take("b", 1, 9)]), Vec::<String>::new());
        assert_eq!(check(&[take("a", 2, 1), take("a", 1, 9)]), ["a went back from (2, 1) to (1, 9) for db"]);
    }
}
