//! Shadows under a simulation: devices and applications that disagree, a store that fails, crashes.
//!
//! In: a seed, from which everything follows. Real are the shadow service and the broker; the
//! simulation plays the network, the store's delays and whoever uses the shadows. Out: what the
//! checker objects to. In the end document, delta and everybody's view have to agree.
//!
//! Reading order: this story, `participant` (who uses a shadow), `host` (what is crashed),
//! `checker` (what must not be told), `reference` (merge and delta, written a second time).

mod checker;
mod host;
mod participant;
mod reference;

use crate::dice::{Dice, Trouble};
use checker::Checker;
use gnomon_core::ids::{ShadowName, ThingName};
use gnomon_core::shadow::ShadowId;
use gnomon_core::storage::{FaultyStore, MemoryStore, Storage};
use host::{Host, Slow};
use participant::{Participant, Role};
use serde_json::Value;
use std::sync::Arc;

pub use checker::Checked;
pub use host::forgetful;

/// Steps of a run.
const STEPS: usize = 1_500;

/// Rounds in which everything has to come to rest.
const ROUNDS_MAX: usize = 2_000;

/// Operations that each application wants to have happened, each once.
const OPERATIONS: u32 = 12;

/// Makes the store on the disk.
pub type Disk = fn(MemoryStore) -> Arc<dyn Storage>;

/// The store that keeps its promises.
pub fn honest(store: MemoryStore) -> Arc<dyn Storage> {
    Arc::new(store)
}

/// A shadow of the simulation.
pub struct Shadow {
    pub id: ShadowId,
    /// It is deleted now and then, so that operations may be gone.
    pub is_volatile: bool,
}

fn shadows() -> Vec<Shadow> {
    let of = |thing: &str, name: Option<&str>, is_volatile| {
        let name = name.map(|name| ShadowName::parse(name).unwrap());
        Shadow { id: ShadowId { thing: ThingName::parse(thing).unwrap(), name }, is_volatile }
    };
    vec![of("classic", None, false), of("named", Some("n"), false), of("volatile", None, true)]
}

pub struct World {
    dice: Dice,
    trouble: Arc<Trouble>,
    store: Arc<dyn Storage>,
    host: Host,
    shadows: Vec<Shadow>,
    participants: Vec<Participant>,
    pub checker: Checker,
    pub crashes: usize,
    is_told: bool,
}

/// Runs a seed; what the checker objects to is in the world.
pub fn run(seed: u64, disk: Disk, is_told: bool) -> World {
    let mut world = World::new(seed, disk, is_told);
    let crash_rate = world.dice.pick(&[100, 400, 1_000]);
    for _ in 0..STEPS {
        world.step(crash_rate);
        if !world.checker.objections.is_empty() {
            return world;
        }
    }
    world.finish();
    world
}

impl World {
    fn new(seed: u64, disk: Disk, is_told: bool) -> Self {
        let (dice, trouble) = (Dice::new(seed), Trouble::new(seed ^ 0xfa17));
        let fault_rate = dice.pick(&[0, 16, 80]);
        let disk = disk(MemoryStore::default());
        let faulty = Arc::new(FaultyStore::at_random(disk, trouble.clone(), fault_rate));
        let store = Arc::new(Slow::new(faulty, Dice::new(seed ^ 0x510)));
        let shadows = shadows();
        let mut participants = Vec::new();
        for at in 0..shadows.len() {
            participants.push(Participant::new(at, &format!("device-{at}"), Role::Device));
            for n in 0..2 {
                let role = Role::Application { left: OPERATIONS, operation: None };
                participants.push(Participant::new(at, &format!("app-{at}{n}"), role));
            }
        }
        Self {
            dice,
            trouble,
            host: Host::start(store.clone()),
            store,
            checker: Checker::new(&shadows),
            shadows,
            participants,
            crashes: 0,
            is_told,
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{}", what());
        }
    }

    fn step(&mut self, crash_rate: usize) {
        if self.dice.once_in(crash_rate) {
            return self.crash();
        }
        if self.dice.once_in(20) {
            self.host.clock.advance(std::time::Duration::from_secs(1));
        }
        match self.dice.below(3) {
            0 => {
                let turns = self.dice.below(12);
                self.work(turns);
            }
            1 => {
                let who = self.dice.below(self.participants.len());
                self.act(who, true);
            }
            _ => {
                let who = self.dice.below(self.participants.len());
                self.receive(who, 3);
            }
        }
    }

    /// The host works for some turns; what it told is checked.
    fn work(&mut self, turns: usize) {
        self.host.work(turns);
        self.check();
    }

    fn check(&mut self) {
        for (topic, payload) in self.host.told() {
            self.note(|| format!("host tells {topic}: {payload}"));
            let mut of = self.shadows.iter().enumerate();
            if let Some((at, suffix)) =
                of.find_map(|(at, shadow)| Some((at, host::suffix(&topic, &shadow.id)?)))
            {
                self.checker.told(at, suffix, &payload);
            }
        }
    }

    /// Everything in memory goes; what was told before is a promise.
    fn crash(&mut self) {
        self.crashes += 1;
        self.check();
        self.note(|| "crash".into());
        for participant in &mut self.participants {
            participant.leave();
        }
        self.checker.crashed();
        // One after the other: two hosts never share a store.
        self.host.stop();
        self.host = Host::start(self.store.clone());
    }

    /// One thing that somebody does.
    fn act(&mut self, who: usize, is_restless: bool) {
        let participant = &mut self.participants[who];
        let shadow = &self.shadows[participant.shadow];
        if is_restless && self.dice.once_in(30) {
            participant.leave();
        }
        if !participant.is_online() {
            return participant.come(&self.host.broker, &shadow.id);
        }
        let Some(request) = participant.act(&self.dice, shadow, is_restless) else { return };
        self.checker.asked(participant.shadow, &request);
        let is_lost = is_restless && self.dice.once_in(12);
        if !is_lost {
            self.host.publish(&shadow.id, &request);
        }
        self.note(|| format!("{who} asks {request:?}{}", if is_lost { ", in vain" } else { "" }));
        self.check();
    }

    /// Somebody takes what is on its way to it; some of it is lost.
    fn receive(&mut self, who: usize, max: usize) {
        for _ in 0..max {
            let Some((topic, payload)) = self.participants[who].next() else { return };
            let id = &self.shadows[self.participants[who].shadow].id;
            let Some(suffix) = host::suffix(&topic, id) else { continue };
            if self.dice.once_in(12) && !self.trouble.is_over() {
                self.note(|| format!("{who} misses {suffix}"));
                continue;
            }
            self.note(|| format!("{who} gets {suffix}"));
            self.participants[who].handle(suffix, &payload);
        }
    }

    /// Trouble ends, everybody brings to an end what it has begun, then reads: all have to agree.
    fn finish(&mut self) {
        self.trouble.end();
        self.rest();
        self.participants.iter_mut().for_each(Participant::forget);
        self.rest();
        for (at, shadow) in self.shadows.iter().enumerate() {
            let participants = self.participants.iter().filter(|it| it.shadow == at);
            let document = self.host.document(&shadow.id);
            let mut operations = Vec::new();
            for participant in participants {
                self.checker.agrees(at, &participant.name, &participant.view(), &document);
                operations.extend(participant.operations());
            }
            if !shadow.is_volatile {
                self.checker.happened_once(at, &operations, &document["state"]["desired"]["ops"]);
            }
        }
        self.check();
    }

    /// Goes on until nobody wants anything any more.
    fn rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.work(20);
            for who in 0..self.participants.len() {
                self.receive(who, usize::MAX);
                self.act(who, false);
            }
            if self.participants.iter().all(Participant::is_idle) {
                return;
            }
        }
        let busy: Vec<_> = self.participants.iter().filter(|it| !it.is_idle()).collect();
        let what = format!("no rest after {ROUNDS_MAX} rounds: {busy:?}");
        self.checker.objections.push(what);
    }
}

/// The operations of an application's list, as text.
fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|it| it.as_str().unwrap_or_default().to_owned()).collect()
}
