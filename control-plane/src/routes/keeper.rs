//! Keeps the book true: reads instances anew when hinted, by this node or another, and everything now and then.
//!
//! Hints gather while a reading is under way, so a burst of changes costs few readings and a single one no waiting.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::InstanceId};
use windlass_db::{
    Db, Tx,
    ha::clusters_of_tx,
    instances::{InstanceFilter, InstanceRow, instances_by_ids_tx, instances_list_tx},
    members::{MemberRow, members_of_tx},
};

use super::{
    Route, Routes, Wakes,
    book::{Hint, Origin},
    derive::route,
};

/// The channel of hints between nodes.
const CHANNEL: &str = "windlass_routes";
/// Everything is read this often, whatever was hinted.
const SAFETY: Duration = Duration::from_secs(15);
/// Pause after trouble with the database.
const TROUBLE: Duration = Duration::from_millis(250);
/// Instances read in one statement.
const PAGE: i64 = 500;
/// Ids in one payload, which may have at most 8,000 bytes.
const PAYLOAD: usize = 200;

/// Keeps the book of one node.
#[derive(Debug)]
pub(crate) struct Keeper {
    db: Db,
    routes: Routes,
    wakes: Wakes,
}

impl Keeper {
    pub(crate) fn new(db: Db, routes: Routes, wakes: Wakes) -> Self {
        Self { db, routes, wakes }
    }

    /// Runs until shutdown.
    ///
    /// # Errors
    /// None: trouble is logged, and the next reading tries again.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { db, routes, wakes: Wakes(mut wakes) } = self;
        let (others, outbox) = mpsc::unbounded_channel();
        let keep = keep(&db, &routes, &mut wakes, &others);
        tokio::select! {
            () = keep => {}
            () = follow(&db, &routes) => {}
            () = send(&db, &routes, outbox) => {}
            () = shutdown.cancelled() => {}
        }
        Ok(())
    }
}

async fn keep(
    db: &Db,
    routes: &Routes,
    wakes: &mut mpsc::UnboundedReceiver<Hint>,
    others: &mpsc::UnboundedSender<InstanceId>,
) {
    // What to read, and of that what other nodes are to be told.
    let (mut pending, mut ours) = (BTreeSet::new(), BTreeSet::new());
    let mut everything: Option<Instant> = None;
    loop {
        let due = everything.is_none_or(|last| last.elapsed() >= SAFETY);
        let read = if due {
            read_all(db, routes).await.map(|read| {
                routes.replace(read.routes, &read.unreadable);
                routes.reports().sweep();
                everything = Some(Instant::now());
            })
        } else {
            read_some(db, routes, &pending).await.map(|read| routes.apply(read))
        };
        match read {
            Ok(()) => {
                pending.clear();
                for instance in std::mem::take(&mut ours) {
                    // Fails only when the sender below is gone, at shutdown.
                    let _ = others.send(instance);
                }
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "routes could not be read; trying again");
                tokio::time::sleep(TROUBLE).await;
            }
        }
        let idle = pending.is_empty();
        let left = everything.map_or(Duration::ZERO, |last| SAFETY.saturating_sub(last.elapsed()));
        let mut take = |hint: Hint| match hint {
            Hint::Instance(instance, origin) => {
                pending.insert(instance);
                match origin {
                    Origin::Here => drop(ours.insert(instance)),
                    Origin::Elsewhere => {}
                }
            }
            Hint::Everything => everything = None,
        };
        if idle {
            tokio::select! {
                hint = wakes.recv() => match hint {
                    Some(hint) => take(hint),
                    None => return,
                },
                () = tokio::time::sleep(left) => {}
            }
        }
        while let Ok(hint) = wakes.try_recv() {
            take(hint);
        }
    }
}

async fn read_some(
    db: &Db,
    routes: &Routes,
    ids: &BTreeSet<InstanceId>,
) -> Result<Vec<(InstanceId, Option<Route>)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = ids.iter().copied().collect();
    let mut tx = db.begin().await?;
    let rows = instances_by_ids_tx(&mut tx, &ids).await?;
    let mut read = Read::default();
    derive(&mut tx, routes, &rows, &mut read).await?;
    tx.rollback().await?;
    let mut found: HashMap<_, _> = read.routes.into_iter().map(|route| (route.instance, route)).collect();
    let readable = ids.into_iter().filter(|id| !read.unreadable.contains(id));
    Ok(readable.map(|id| (id, found.remove(&id))).collect())
}

async fn read_all(db: &Db, routes: &Routes) -> Result<Read, Error> {
    let (mut all, mut after) = (Read::default(), None);
    let mut tx = db.begin().await?;
    loop {
        let rows = instances_list_tx(&mut tx, &InstanceFilter::default(), after, PAGE).await?;
        let Some(last) = rows.last().map(|row| row.id) else { break };
        derive(&mut tx, routes, &rows, &mut all).await?;
        after = Some(last);
    }
    tx.rollback().await?;
    Ok(all)
}

/// What was read of some instances.
#[derive(Debug, Default)]
struct Read {
    routes: Vec<Route>,
    /// What is stored of them makes no sense: their routes stay as they were.
    unreadable: HashSet<InstanceId>,
}

async fn derive(tx: &mut Tx, routes: &Routes, rows: &[InstanceRow], read: &mut Read) -> Result<(), Error> {
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut members: HashMap<InstanceId, Vec<MemberRow>> = HashMap::new();
    for member in members_of_tx(tx, &ids).await? {
        members.entry(member.instance_id).or_default().push(member);
    }
    let clusters: HashMap<_, _> = clusters_of_tx(tx, &ids).await?.into_iter().map(|row| (row.instance, row)).collect();
    for row in rows {
        let members = members.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        let followers = |member| routes.behind().get(row.id, member);
        match route(row, members, clusters.get(&row.id), followers) {
            Ok(route) => read.routes.extend(route),
            // One that cannot be read must not keep the others from their proxies.
            Err(error) => {
                tracing::error!(error = error.chain(), "the route of an instance stays as it was");
                read.unreadable.insert(row.id);
            }
        }
    }
    Ok(())
}

/// Tells other nodes, many instances at once, outside every writing transaction.
async fn send(db: &Db, routes: &Routes, mut outbox: mpsc::UnboundedReceiver<InstanceId>) {
    let mut instances = Vec::new();
    while outbox.recv_many(&mut instances, PAYLOAD).await > 0 {
        let payload: Vec<_> = instances.drain(..).map(|id| id.to_string()).collect();
        let payload = format!("{};{}", routes.id(), payload.join(","));
        if let Err(error) = db.notify(CHANNEL, &payload).await {
            tracing::debug!(error = error.chain(), "a hint of routes to other nodes was not sent");
        }
    }
}

/// Follows the hints of other nodes.
async fn follow(db: &Db, routes: &Routes) {
    loop {
        if let Err(error) = hear(db, routes).await {
            tracing::debug!(error = error.chain(), "hints of routes are not heard; trying again");
        }
        tokio::time::sleep(TROUBLE * 4).await;
    }
}

async fn hear(db: &Db, routes: &Routes) -> Result<(), Error> {
    let (mut hints, own) = (db.listen(CHANNEL).await?, routes.id().to_string());
    loop {
        // What was sent while we did not listen, the safety reading finds.
        let Some(payload) = hints.next().await? else { continue };
        let Some((from, ids)) = payload.split_once(';') else { continue };
        if from != own {
            ids.split(',')
                .filter_map(|id| id.parse().ok())
                .for_each(|id| routes.hint(Hint::Instance(id, Origin::Elsewhere)));
        }
    }
}
