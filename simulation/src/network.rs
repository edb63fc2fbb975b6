//! Who reaches whom, and what happens to messages on the way.

use std::{collections::BTreeSet, time::Duration};

use crate::{random::Random, server::Time};

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A host: those of members first, then witnesses.
    Host(usize),
    /// A node of the control plane.
    Control(usize),
    /// The metadata.
    Metadata,
    /// A proxy.
    Proxy(usize),
}

/// How messages fare while nothing is cut.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Shortest and longest time on the way, in milliseconds.
    pub latency: (u64, u64),
    /// Of a thousand messages so many are lost.
    pub lost: u64,
    /// So many come twice.
    pub doubled: u64,
    /// So many come up to [`LATE`] late.
    pub late: u64,
}

/// Longest delay of a message that is late.
const LATE: Duration = Duration::from_secs(10);

impl Weather {
    /// A good network.
    pub const FAIR: Self = Self { latency: (1, 3), lost: 0, doubled: 0, late: 0 };
}

/// The network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// How messages fare.
    pub(crate) weather: Weather,
    cut: BTreeSet<(Place, Place)>,
}

impl Network {
    pub(crate) fn new(weather: Weather) -> Self {
        Self { weather, cut: BTreeSet::new() }
    }

    /// Nothing gets from one to the other; the way back stays.
    pub(crate) fn cut_one_way(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// Nothing gets through either way.
    pub(crate) fn cut(&mut self, one: Place, other: Place) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Both ways are free again.
    pub(crate) fn join(&mut self, one: Place, other: Place) {
        self.cut.remove(&(one, other));
        self.cut.remove(&(other, one));
    }

    /// Everything is whole again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether something gets from one to the other.
    pub(crate) fn passes(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Whether a connection can be.
    pub(crate) fn connects(&self, one: Place, other: Place) -> bool {
        self.passes(one, other) && self.passes(other, one)
    }

    /// Time on the way.
    pub(crate) fn latency(&self, random: &mut Random) -> Time {
        random.millis(self.weather.latency.0, self.weather.latency.1)
    }

    /// When each copy of a message arrives, from now; none if it is lost.
    pub(crate) fn fate(&self, random: &mut Random) -> Vec<Time> {
        if random.chance(self.weather.lost) {
            return Vec::new();
        }
        let mut arrivals = vec![self.latency(random)];
        if random.chance(self.weather.late) {
            arrivals[0] += random.millis(0, u64::try_from(LATE.as_millis()).unwrap_or(0));
        }
        if random.chance(self.weather.doubled) {
            let again = self.latency(random) + random.millis(0, 2000);
            arrivals.push(again);
        }
        arrivals
    }
}
