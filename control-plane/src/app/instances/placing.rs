//! Finding and reserving a place for a member: the snapshot, the scheduler, and the proof on the locked row.
//!
//! The scheduler decides on a snapshot that nobody holds still. So the chosen host is locked, read again and asked
//! again; if it filled up meanwhile, the scheduler runs on a new snapshot. Lock order: project, then host.

use windlass_core::{
    Error, Reason,
    host::HostState,
    id::{HostId, MemberId, ProjectId},
    member::MemberRole,
    replication::Replication,
};
use windlass_db::{
    PgConnection,
    reservations::{self, NewMember},
    supply::{self, SupplyRow},
};
use windlass_logic::placement::{self, HostView, Load, Overcommit, PlacementRequest, Ports, Rule, Verdict, filter};

/// Snapshots tried before giving up: each loss means that another placement won, so there is progress.
const TRIES: usize = 8;

/// A member that is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// What it is to its instance.
    pub(super) role: MemberRole,
    /// It never acknowledges commits and is never promoted by itself.
    pub(super) asynchronous: bool,
    /// The host that the user asked for.
    pub(super) host: Option<HostId>,
}

impl Seat {
    /// The members of a new instance: the primary, then the replicas that acknowledge, then the others.
    pub(super) fn of(replication: &Replication) -> Vec<Self> {
        let primary = Self { role: MemberRole::Primary, asynchronous: false, host: None };
        let replica = |n| Self { role: MemberRole::Replica, asynchronous: n >= replication.synchronous(), host: None };
        std::iter::once(primary).chain((0..replication.replicas).map(replica)).collect()
    }
}

/// Chooses a host of its own for each member, reserves room and ports there, and stores the members. Gives their ids
/// and what the scheduler said of the hosts.
///
/// # Errors
/// `NO_HOST_FITS`, saying why for each host.
pub(super) async fn place_tx(
    tx: &mut PgConnection,
    project: ProjectId,
    request: &PlacementRequest,
    seats: &[Seat],
) -> Result<(Vec<MemberId>, Vec<Verdict>), Error> {
    for _ in 0..TRIES {
        let (hosts, verdicts) = choose(request, &views(tx, project, request, None).await?, seats)?;
        if let Some(members) = reserve_tx(tx, project, request, seats, &hosts).await? {
            return Ok((members, verdicts));
        }
    }
    Err(Error::new(
        windlass_core::ErrorKind::Aborted,
        Reason::Conflict,
        "every host that fitted was filled by other placements meanwhile; try again",
    ))
}

/// A host for each seat, by a snapshot.
fn choose(
    request: &PlacementRequest,
    views: &[HostView],
    seats: &[Seat],
) -> Result<(Vec<HostId>, Vec<Verdict>), Error> {
    let spread = match seats {
        [Seat { host: Some(host), .. }] => {
            let only: Vec<_> = views.iter().filter(|view| view.id == *host).cloned().collect();
            placement::place_members(request, &only, 1)
        }
        _ => placement::place_members(request, views, seats.len()),
    };
    let hosts = spread.hosts()?;
    let mut verdicts = spread.placements.into_iter().next().map(|placement| placement.verdicts).unwrap_or_default();
    for verdict in &mut verdicts {
        verdict.chosen = hosts.contains(&verdict.host);
    }
    Ok((hosts, verdicts))
}

/// Proves on the locked rows of the hosts that everything still fits, and reserves it. None when it does not.
async fn reserve_tx(
    tx: &mut PgConnection,
    project: ProjectId,
    request: &PlacementRequest,
    seats: &[Seat],
    hosts: &[HostId],
) -> Result<Option<Vec<MemberId>>, Error> {
    let mut order = hosts.to_vec();
    order.sort_unstable();
    for host in &order {
        reservations::host_lock_tx(tx, *host).await?;
    }
    for host in &order {
        let still = views(tx, project, request, Some(*host)).await?;
        if !still.first().is_some_and(|view| filter::passes(request, view)) {
            return Ok(None);
        }
    }
    let mut members = Vec::new();
    for (seat, host) in seats.iter().zip(hosts) {
        let new = NewMember {
            id: MemberId::new(),
            instance_id: request.instance,
            host_id: *host,
            role: seat.role,
            asynchronous: seat.asynchronous,
            resources: request.resources,
        };
        members.push(new.id);
        if reservations::member_reserve_tx(tx, &new).await?.is_none() {
            // The range counted a free port that is blocked by now: forget the members and look again.
            for member in members {
                reservations::member_delete_tx(tx, member).await?;
            }
            return Ok(None);
        }
    }
    Ok(Some(members))
}

/// Checks that one host has room for `request` beside what it holds, its rows locked until the transaction ends.
/// `request.resources` is what is to be added.
///
/// # Errors
/// `NO_HOST_FITS` with the reasons that speak against the host.
pub(super) async fn fits_on_tx(
    tx: &mut PgConnection,
    project: ProjectId,
    request: &PlacementRequest,
    host: HostId,
) -> Result<(), Error> {
    reservations::host_lock_tx(tx, host).await?;
    let views = views(tx, project, request, Some(host)).await?;
    let Some(view) = views.first() else {
        return Err(Error::not_found("host", host));
    };
    // The member is on the host already: its port and its kinship are not in question, nor is a cordon.
    let view =
        HostView { instance_members: 0, cordoned: false, ports: Ports { taken: 0, ..view.ports }, ..view.clone() };
    // What is not asked for is not in question either, for example after an overcommit was lowered.
    let asked = |rule: Rule| match rule {
        Rule::Memory => request.resources.memory_bytes > 0,
        Rule::Cpu => request.resources.cpu_millis > 0,
        Rule::Disk => request.resources.disk_bytes > 0,
        Rule::Revoked | Rule::Offline | Rule::Cordoned | Rule::Ports | Rule::AntiAffinity => true,
        Rule::Engine | Rule::Region | Rule::Zone | Rule::Labels => true,
    };
    let against: Vec<_> =
        filter::rejections(request, &view).into_iter().filter(|r| asked(r.rule)).map(|r| r.message).collect();
    if against.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        windlass_core::ErrorKind::ResourceExhausted,
        Reason::NoHostFits,
        format!("the instance's host {} does not allow it: {}", view.name, against.join("; ")),
    )
    .with_metadata("host", &view.name))
}

async fn views(
    tx: &mut PgConnection,
    project: ProjectId,
    request: &PlacementRequest,
    only: Option<HostId>,
) -> Result<Vec<HostView>, Error> {
    Ok(supply::supply_tx(tx, project, request.instance, only).await?.into_iter().map(view).collect())
}

fn view(row: SupplyRow) -> HostView {
    HostView {
        id: row.id,
        name: row.name,
        online: row.state == HostState::Online,
        cordoned: row.cordoned,
        revoked: row.state == HostState::Revoked,
        region: row.region,
        zone: row.zone,
        labels: row.labels,
        capacity: row.capacity,
        reserved: row.reserved,
        overcommit: Overcommit { cpu: row.cpu_overcommit, memory: row.memory_overcommit, disk: row.disk_overcommit },
        // Engines that this version does not know cannot be asked for either.
        engines: row.engines.into_iter().filter_map(|e| Some((e.engine.parse().ok()?, e.version))).collect(),
        ports: Ports { low: row.port_low, high: row.port_high, taken: row.ports_taken },
        cost_weight: row.cost_weight,
        load: Load {
            cpu_percent: row.load.cpu_percent,
            psi_cpu: row.load.psi_cpu,
            psi_memory: row.load.psi_memory,
            psi_io: row.load.psi_io,
        },
        instance_members: row.instance_members,
        project_members: row.project_members,
    }
}
