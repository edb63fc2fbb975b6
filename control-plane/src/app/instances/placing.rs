//! Finding and reserving a place for a member: the snapshot, the scheduler, and the proof on the locked row.
//!
//! The scheduler decides on a snapshot that nobody holds still. So the chosen host is locked, read again and asked
//! again; if it filled up meanwhile, the scheduler runs on a new snapshot. Lock order: project, then host.

use windlass_core::{
    Error, Reason,
    host::HostState,
    id::{HostId, MemberId, ProjectId},
    member::MemberRole,
};
use windlass_db::{
    PgConnection,
    reservations::{self, NewMember},
    supply::{self, SupplyRow},
};
use windlass_logic::placement::{self, HostView, Load, Overcommit, Placement, PlacementRequest, Ports, Rule, filter};

/// Snapshots tried before giving up: each loss means that another placement won, so there is progress.
const TRIES: usize = 8;

/// Chooses a host for a first member, reserves room and a port there, and stores the member. Gives what the
/// scheduler said of the hosts.
///
/// # Errors
/// `NO_HOST_FITS`, saying why for each host.
pub(super) async fn place_tx(
    tx: &mut PgConnection,
    project: ProjectId,
    request: &PlacementRequest,
    role: MemberRole,
) -> Result<Placement, Error> {
    for _ in 0..TRIES {
        let placement = placement::place(request, &views(tx, project, request, None).await?);
        let host = placement.host()?;
        reservations::host_lock_tx(tx, host).await?;
        let still = views(tx, project, request, Some(host)).await?;
        if !still.first().is_some_and(|view| filter::passes(request, view)) {
            continue;
        }
        let new = NewMember {
            id: MemberId::new(),
            instance_id: request.instance,
            host_id: host,
            role,
            asynchronous: false,
            resources: request.resources,
        };
        if reservations::member_reserve_tx(tx, &new).await?.is_some() {
            return Ok(placement);
        }
        // The range counted a free port that is blocked by now: forget the member and look again.
        reservations::member_delete_tx(tx, new.id).await?;
    }
    Err(Error::new(
        windlass_core::ErrorKind::Aborted,
        Reason::Conflict,
        "every host that fitted was filled by other placements meanwhile; try again",
    ))
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
