//! The broker under a simulation: many clients, a disk that fails, crashes at any moment; and
//! shadows, in a story of their own (`shadow`).
//!
//! In: a seed, from which everything follows: no thread, no clock of the machine. Real are
//! sessions, clients, broker, log and committer; the simulation plays the gateway (`gateway`),
//! the devices (`device`) and the disk. Out: what the checker objects to, with the seed.
//!
//! Again, and telling what happens: `GNOMON_SIM_SEED=7 cargo test -p gnomon-core --test sim`. Longer:
//! `GNOMON_SIM_SEEDS=10000`, from `GNOMON_SIM_SEED` on if that is set, else from 0.
//!
//! Reading order: `story` (what happens), `world` and `gateway` (how), `checker` (what must not).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod checker;
mod connection;
mod device;
mod dice;
mod gateway;
mod lying;
mod shadow;
mod story;
mod topics;
mod world;

use checker::Checked;
use world::{Disk, Happened};

/// Seeds of a run without wishes.
const SEEDS: u64 = 300;

#[allow(clippy::disallowed_methods, reason = "which seeds to run is the caller's to say")]
fn wish(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a seed is a number"))
}

/// The first seed, and how many.
fn seeds() -> (u64, u64) {
    match (wish("GNOMON_SIM_SEED"), wish("GNOMON_SIM_SEEDS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    }
}

#[test]
fn the_broker_keeps_its_promises() {
    let (first, count) = seeds();
    let (mut happened, mut checked) = (Happened::default(), Checked::default());
    for seed in first..first + count {
        let world = story::run(seed, world::honest, count == 1);
        if let Some(objection) = world.checker.objections.first() {
            panic!(
                "seed {seed}: {objection}\n\
                 again: GNOMON_SIM_SEED={seed} cargo test -p gnomon-core --test sim"
            );
        }
        happened.crashes += world.happened.crashes;
        happened.failed_commits += world.happened.failed_commits;
        happened.takeovers += world.happened.takeovers;
        checked.add(&world.checker.checked);
    }
    println!("{happened:?} {checked:?}");
    if count >= SEEDS {
        // A simulation in which nothing happens finds nothing.
        let Happened { crashes, failed_commits, takeovers } = happened;
        assert!(crashes > 500 && failed_commits > 500 && takeovers > 500, "{happened:?}");
        assert!(checked.least() > 500, "{checked:?}");
    }
}

#[track_caller]
fn assert_objection(disk: Disk, expected: &str) {
    let mut objections = Vec::new();
    for seed in 0..SEEDS {
        objections.extend(story::run(seed, disk, false).checker.objections);
        if objections.iter().any(|it| it.contains(expected)) {
            return;
        }
    }
    panic!("nobody objects with {expected:?} to a disk that lies: {objections:?}");
}

#[test]
fn the_checker_objects_to_a_disk_that_loses_messages() {
    assert_objection(lying::without_records, "was lost");
    assert_objection(lying::without_records, "QoS 2 message");
}

#[test]
fn the_checker_objects_to_a_disk_that_loses_sessions() {
    assert_objection(lying::without_sessions, "a session was lost");
}

#[test]
fn the_checker_objects_to_a_disk_that_loses_subscriptions() {
    assert_objection(lying::without_subscriptions, "was lost");
}

#[test]
fn the_checker_objects_to_a_disk_that_loses_retained_messages() {
    assert_objection(lying::without_retained, "retained on");
}

#[test]
fn shadows_converge_and_lose_nothing_that_was_accepted() {
    let (first, count) = seeds();
    let (mut crashes, mut checked) = (0, shadow::Checked::default());
    for seed in first..first + count {
        let world = shadow::run(seed, shadow::honest, count == 1);
        if let Some(objection) = world.checker.objections.first() {
            panic!(
                "seed {seed}: {objection}\n\
                 again: GNOMON_SIM_SEED={seed} cargo test -p gnomon-core --test sim shadows"
            );
        }
        crashes += world.crashes;
        checked.add(&world.checker.checked);
    }
    println!("{crashes} crashes, {checked:?}");
    if count >= SEEDS {
        assert!(crashes > 500 && checked.least() > 300, "{crashes} crashes, {checked:?}");
    }
}

#[test]
fn the_checker_objects_to_a_store_that_loses_shadows() {
    let mut worlds = (0..SEEDS).map(|seed| shadow::run(seed, shadow::forgetful, false));
    assert!(worlds.any(|world| !world.checker.objections.is_empty()), "nobody objects");
}
