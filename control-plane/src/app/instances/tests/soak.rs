//! A long random life of a few instances with hosts that fail, vanish and come back; then everything is deleted and
//! nothing may be left. The same seed gives the same life.

use windlass_core::{Error, Reason, command::CommandKind, host::HostState, id::OperationId};

use crate::{
    app::instances::{self, UpdateInstance},
    sagas::{instance_delete::Disposal, instance_update::RestartPolicy},
    testbed::{Bed, ask, name},
};

/// Names in play.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A small generator (Knuth's MMIX constants), enough to vary a test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn act(bed: &Bed, dice: &mut Dice) -> Result<OperationId, Error> {
    let which = NAMES[usize::try_from(dice.roll(4)).expect("small")];
    let pg = name(which);
    let mut tx = bed.tx().await;
    let operation = match dice.roll(9) {
        0 | 1 => instances::create(&bed.cx, &mut tx, &bed.caller, ask(which)).await,
        2 => instances::start(&mut tx, &bed.caller, &pg, "").await,
        3 => instances::stop(&mut tx, &bed.caller, &pg, "").await,
        4 => instances::restart(&mut tx, &bed.caller, &pg, "").await,
        5 | 6 => {
            let memory_bytes = Some((1 + dice.roll(24)) << 28);
            let ask = UpdateInstance { memory_bytes, ..UpdateInstance::default() };
            instances::update(&mut tx, &bed.caller, &pg, "", ask, RestartPolicy::IfNeeded).await
        }
        7 => {
            let disposal = if dice.roll(2) == 0 { Disposal::Retain } else { Disposal::Purge };
            instances::delete(&bed.cx, &mut tx, &bed.caller, &pg, "", disposal).await
        }
        _ => instances::undelete(&mut tx, &bed.caller, &pg).await,
    }?;
    tx.commit().await?;
    Ok(operation)
}

async fn trouble(bed: &mut Bed, dice: &mut Dice) {
    match dice.roll(12) {
        0 => bed.agents.fail(CommandKind::ApplyMember, Reason::StartFailed),
        1 => bed.agents.fail(CommandKind::RemoveMember, Reason::StopFailed),
        2 => bed.agents.fail(CommandKind::PurgeMember, Reason::Internal),
        3 => bed.set_host(0, HostState::Offline).await,
        4..=6 => bed.set_host(0, HostState::Online).await,
        7 => {
            let port = u32::try_from(20_000 + dice.roll(8)).expect("small");
            bed.agents.taken_ports = [port].into();
        }
        8 => bed.agents.taken_ports.clear(),
        9 => bed.test.execute("update instance set purge_time = now() where purge_time is not null").await,
        _ => {}
    }
}

async fn live(seed: u64) {
    let mut bed = Bed::new(2).await;
    let mut dice = Dice(seed);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..120 {
        trouble(&mut bed, &mut dice).await;
        match act(&bed, &mut dice).await {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert!(error.reason != Reason::Internal, "seed {seed}: {}", error.chain());
                refused += 1;
            }
        }
        for _ in 0..dice.roll(6) {
            bed.round().await;
        }
        bed.reconcile().await;
        bed.check().await;
    }
    assert!(accepted > 20 && refused > 5, "seed {seed}: {accepted} accepted, {refused} refused");
    clean_up(&mut bed).await;
    for table in ["instance", "member", "database_object"] {
        assert_eq!(bed.count(&format!("select count(*) from {table}")).await, 0, "seed {seed}: {table}");
    }
    assert_eq!(bed.agents.count(), 0, "seed {seed}: {:?}", bed.agents.members);
    bed.check().await;
}

/// All hosts are well; everything is deleted with its data.
async fn clean_up(bed: &mut Bed) {
    bed.set_host(0, HostState::Online).await;
    bed.agents.be_well();
    for _ in 0..40 {
        for which in NAMES {
            let mut tx = bed.tx().await;
            let purge = Disposal::Purge;
            if instances::delete(&bed.cx, &mut tx, &bed.caller, &name(which), "", purge).await.is_ok() {
                tx.commit().await.expect("commit");
            }
        }
        bed.test.execute("update instance set purge_time = now() where purge_time is not null").await;
        bed.test
            .execute("update command set end_time = end_time - interval '1 minute' where end_time is not null")
            .await;
        bed.reconcile().await;
        for _ in 0..6 {
            bed.round().await;
        }
        if bed.count("select count(*) from instance").await == 0 && bed.agents.work(&bed.cx.db).await == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn a_random_life_leaves_nothing_1() {
    live(1).await;
}

#[tokio::test]
async fn a_random_life_leaves_nothing_2() {
    live(20_261_120).await;
}
