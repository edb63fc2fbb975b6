//! Who may enter a PostgreSQL server: `pg_hba.conf` and `pg_ident.conf`.
//!
//! Three kinds of doors. The agent comes by the socket as the superuser. Clients come by TCP with TLS and SCRAM, and
//! proxies, which only read verifiers, with a certificate. Members of a replicated instance come to each other with the
//! certificates that their servers show, each known by its subject. The gate is the second door: while it is shut nobody
//! but the agent and the other members enters. The explicit refusals make PostgreSQL say "no encryption" instead of
//! "no entry".

use windlass_core::id::MemberId;

use super::SUPERUSER;
use crate::engines::Server;

/// Role of members that copy and follow each other, by certificate only.
pub const REPLICATION_ROLE: &str = "windlass_replication";
/// Role of proxies, by certificate only.
pub const PROXY_ROLE: &str = "windlass_proxy";
/// The first version that maps a client by the whole subject of its certificate.
const WHOLE_SUBJECT: u32 = 14;

/// Whether application sessions may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nobody but the agent and the other members.
    Shut,
    /// Everybody who can prove who it is.
    Open,
}

/// Whether members enter as each other's followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Followers {
    None,
    Admitted,
}

/// `pg_hba.conf`.
pub(super) fn client_authentication(server: &Server, gate: Gate, followers: Followers) -> String {
    let mut text = super::conf::HEADER.to_owned();
    let mut rule = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let by_certificate =
        |database: &str, role: &str| format!("hostssl   {database}  {role}  all  cert clientname=DN map={role}");
    rule(format!("local     all  {SUPERUSER}       peer map={SUPERUSER}"));
    rule("local     all  all            reject".to_owned());
    if maps_whole_subjects(server) {
        if followers == Followers::Admitted {
            rule(by_certificate("replication", REPLICATION_ROLE));
            rule(by_certificate("postgres", REPLICATION_ROLE));
        }
        if gate == Gate::Open {
            rule(by_certificate("postgres", PROXY_ROLE));
        }
    }
    if gate == Gate::Open {
        rule(format!("hostssl   all  {SUPERUSER},{REPLICATION_ROLE},{PROXY_ROLE}  all  reject"));
        rule("hostssl   all  all       all  scram-sha-256".to_owned());
    } else {
        rule("hostssl   all  all       all  reject".to_owned());
    }
    rule("hostnossl all  all       all  reject".to_owned());
    text
}

/// `pg_ident.conf`: the agent, and the database user, so that a person on the host can use `psql` in an emergency; the
/// proxies; these members.
pub(super) fn identities(server: &Server, members: &[MemberId]) -> String {
    let mut text = super::conf::HEADER.to_owned();
    let mut names = vec![&server.accounts.agent.name, &server.accounts.database.name];
    names.dedup();
    for name in names {
        text.push_str(&format!("{SUPERUSER} \"{name}\" {SUPERUSER}\n"));
    }
    if maps_whole_subjects(server) {
        // Subjects as RFC 2253 writes them: the last part first.
        text.push_str(&format!("{PROXY_ROLE} \"/^OU=windlass-proxy,CN=[0-9a-f-]+$\" {PROXY_ROLE}\n"));
        for member in members {
            text.push_str(&format!("{REPLICATION_ROLE} \"OU=windlass-member,CN={member}\" {REPLICATION_ROLE}\n"));
        }
    }
    text
}

fn maps_whole_subjects(server: &Server) -> bool {
    let installation = &server.installation;
    (installation.engine.descriptor().version_key)(&installation.version).0 >= WHOLE_SUBJECT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::server::sample;

    fn rules(gate: Gate, followers: Followers) -> Vec<Vec<String>> {
        let text = client_authentication(&sample(), gate, followers);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn only_tls_with_scram_or_a_certificate_is_let_in_by_tcp() {
        for rule in rules(Gate::Open, Followers::Admitted) {
            let method = &rule[if rule[0] == "local" { 3 } else { 4 }];
            assert!(
                matches!(
                    (rule[0].as_str(), method.as_str()),
                    ("local", "peer" | "reject")
                        | ("hostssl", "scram-sha-256" | "cert" | "reject")
                        | ("hostnossl", "reject")
                ),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn a_shut_gate_lets_in_the_agent_and_members_only() {
        let admitting = |rule: &&Vec<String>| !rule.contains(&"reject".to_owned());
        let rules = rules(Gate::Shut, Followers::Admitted);
        let roles: Vec<&str> = rules.iter().filter(admitting).map(|rule| rule[2].as_str()).collect();
        assert_eq!(roles, [SUPERUSER, REPLICATION_ROLE, REPLICATION_ROLE]);
    }

    #[test]
    fn members_are_known_one_by_one() {
        let (one, other) = (MemberId::new(), MemberId::new());
        let text = identities(&sample(), &[one]);
        assert!(text.contains(&one.to_string()) && !text.contains(&other.to_string()), "{text}");
    }
}
