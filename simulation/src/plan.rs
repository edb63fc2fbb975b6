//! What one schedule is: the cluster, the weather, and which faults come when. All of it follows from the seed.

use std::time::Duration;

use windlass_core::replication::Durability;

use crate::{network::Weather, random::Random, server::Time};

/// From when on faults come; before, the cluster is founded.
const FIRST_FAULT: u64 = 8_000;
/// Until when faults come; then everything is healed.
const LAST_FAULT: u64 = 40_000;
/// Everything is whole from here on, at the latest.
pub const HEALED: Time = Duration::from_secs(45);
/// By then it must have come to rest.
pub const END: Time = Duration::from_secs(150);

/// One schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Members, 1 to 5.
    pub members: usize,
    /// How many of them never acknowledge.
    pub asynchronous: u32,
    /// What happens when no acker is left.
    pub durability: Durability,
    /// Hosts that only witness.
    pub witnesses: usize,
    /// Nodes of the control plane.
    pub nodes: usize,
    /// How messages fare until [`HEALED`].
    pub weather: Weather,
    /// Faults by their time.
    pub faults: Vec<(Time, Fault)>,
}

/// Something goes wrong, or is ordered. What ends by itself does so after the duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server of a member is killed.
    KillServer(usize),
    /// The server of a member stands still.
    Freeze(usize, Duration),
    /// The agent of a member is killed, and started again.
    KillAgent(usize, Duration),
    /// A host loses power.
    KillHost(usize, Duration),
    /// A host, agent and all, stands still.
    PauseHost(usize, Duration),
    /// A host reaches nobody.
    Isolate(usize, Duration),
    /// A host reaches nobody, or is reached by nobody.
    Deafen(usize, Way, Duration),
    /// Two hosts do not reach each other.
    Cut(usize, usize, Duration),
    /// A host does not reach the control plane.
    CutControl(usize, Duration),
    /// A node of the control plane dies, and starts again.
    KillControl(usize, Duration),
    /// The metadata does not answer.
    StopMetadata(Duration),
    /// The metadata loses its last changes.
    RollBack(usize),
    /// A member's data directory is gone; its agent remembers.
    LoseData(usize),
    /// A member's memory is gone; its data is there.
    LoseMemory(usize),
    /// An operator asks for another leader.
    Switchover,
    /// An operator replaces the leader without it, but not at any price.
    Failover,
    /// The user stops the instance, and starts it again.
    Rest(Duration),
    /// Some of the above for whoever leads at that moment.
    OnLeader(OnLeader, Duration),
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the host to others.
    Out,
    /// From others to the host.
    In,
}

/// What happens to whoever leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLeader {
    /// Its server is killed.
    KillServer,
    /// Its agent is killed, and started again.
    KillAgent,
    /// Its host loses power.
    KillHost,
    /// Its host stands still.
    PauseHost,
    /// Its host reaches nobody.
    Isolate,
    /// Its server stands still.
    Freeze,
}

/// Whether the metadata may lose its last changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// What is stored stays stored.
    Durable,
    /// It may lose changes, as one that fails over asynchronously does.
    Forgetful,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, metadata: Metadata) -> Self {
        let mut random = Random::new(seed);
        let members = [2, 2, 3, 3, 3, 3, 4, 5][usize::try_from(random.below(8)).unwrap_or(0)];
        let asynchronous = if members > 2 && random.chance(200) { 1 } else { 0 };
        let durability = if random.chance(300) { Durability::Durability } else { Durability::Availability };
        let weather = match random.below(4) {
            0 | 1 => Weather::FAIR,
            2 => Weather { latency: (1, 40), lost: 20, doubled: 50, late: 20 },
            _ => Weather { latency: (1, 200), lost: 100, doubled: 100, late: 50 },
        };
        let mut plan = Self {
            members,
            asynchronous,
            durability,
            witnesses: usize::try_from(random.below(4)).unwrap_or(0),
            nodes: if random.chance(400) { 2 } else { 1 },
            weather,
            faults: Vec::new(),
        };
        let mut at = FIRST_FAULT;
        let dense = random.chance(500);
        for _ in 0..=random.below(7) {
            // Faults that follow each other within a failover find more than those that come alone.
            at += if dense { random.below(1_500) } else { random.below(12_000) };
            if at >= LAST_FAULT {
                break;
            }
            let fault = plan.fault(&mut random);
            if metadata == Metadata::Durable && matches!(fault, Fault::RollBack(_)) {
                continue;
            }
            plan.faults.push((Duration::from_millis(at), fault));
        }
        plan
    }

    fn fault(&self, random: &mut Random) -> Fault {
        let member = usize::try_from(random.below(self.members as u64)).unwrap_or(0);
        let other = (member + 1) % self.members;
        let span = match random.below(3) {
            0 => random.millis(50, 1_000),
            1 => random.millis(1_000, 6_000),
            _ => random.millis(6_000, 30_000),
        };
        let on_leader = [
            OnLeader::KillServer,
            OnLeader::KillAgent,
            OnLeader::KillHost,
            OnLeader::PauseHost,
            OnLeader::Isolate,
            OnLeader::Freeze,
        ];
        match random.below(24) {
            0 => Fault::KillServer(member),
            1 => Fault::Freeze(member, span),
            2 => Fault::KillAgent(member, span),
            3 => Fault::KillHost(member, span),
            4 => Fault::PauseHost(member, span),
            5 => Fault::Isolate(member, span),
            6 => Fault::Deafen(member, if random.chance(500) { Way::In } else { Way::Out }, span),
            7 | 8 => Fault::Cut(member, other, span),
            9 => Fault::CutControl(member, span),
            10 => Fault::KillControl(usize::try_from(random.below(self.nodes as u64)).unwrap_or(0), span),
            11 => Fault::StopMetadata(span),
            12 => Fault::RollBack(usize::try_from(random.below(4)).unwrap_or(0) + 1),
            13 => Fault::LoseData(member),
            14 => Fault::LoseMemory(member),
            15 | 16 => Fault::Switchover,
            17 => Fault::Failover,
            18 => Fault::Rest(span),
            _ => Fault::OnLeader(*random.choose(&on_leader).unwrap_or(&OnLeader::KillServer), span),
        }
    }

    /// Whether this schedule may lose what was acknowledged: the last copies of it are destroyed on purpose.
    pub fn destroys(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::LoseData(_) | Fault::LoseMemory(_)))
    }
}
