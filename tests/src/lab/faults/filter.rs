//! DROP: packets of some kind do not get into a host, or out of it.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::lab::Node;

/// Rules at one host.
#[derive(Debug)]
pub struct Filter {
    node: Node,
    table: String,
}

/// What does not get through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Whatever comes from an address.
    From(Ipv4Addr),
    /// Whatever goes to an address.
    To(Ipv4Addr),
    /// Whatever comes in.
    In,
    /// Whatever goes out.
    Out,
    /// TCP to ports of this host, first and last.
    Ports(u16, u16),
    /// TCP to ports of this host, first and last, is answered with a reset.
    Reset(u16, u16),
    /// This share of what comes in, 0 to 1.
    Loss(f64),
    /// Packets longer than this that come in, in bytes.
    Longer(u16),
}

impl Filter {
    /// Lays rules at a host.
    ///
    /// # Errors
    /// `nft` refused.
    pub fn at(node: &Node, rules: &[Rule]) -> Result<Self> {
        let table = format!("fault{}", rand::random::<u32>());
        let filter = Self { node: node.clone(), table: table.clone() };
        let mut script = format!("table inet {table} {{\n");
        for (hook, wanted) in [("input", true), ("output", false)] {
            script +=
                &format!("chain {hook} {{ type filter hook {hook} priority 0; iifname lo accept; oifname lo accept;\n");
            let mine = rules.iter().filter(|rule| rule.inward() == wanted);
            script.extend(mine.map(|rule| format!("{}\n", rule.text())));
            script += "}\n";
        }
        script += "}\n";
        node.run("nft", &[&script])?;
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _ = self.node.run("nft", &["delete", "table", "inet", &self.table]);
    }
}

impl Rule {
    fn inward(self) -> bool {
        match self {
            Self::To(_) | Self::Out => false,
            Self::From(_) | Self::In | Self::Ports(..) | Self::Reset(..) | Self::Loss(_) | Self::Longer(_) => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::From(address) => format!("ip saddr {address} drop"),
            Self::To(address) => format!("ip daddr {address} drop"),
            Self::In | Self::Out => "drop".to_owned(),
            Self::Ports(low, high) => format!("tcp dport {low}-{high} drop"),
            Self::Reset(low, high) => format!("tcp dport {low}-{high} reject with tcp reset"),
            Self::Loss(share) => format!("meta random < {} drop", (share * f64::from(u32::MAX)) as u32),
            Self::Longer(bytes) => format!("meta length > {bytes} drop"),
        }
    }
}
