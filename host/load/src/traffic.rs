//! Publishers and subscribers of one run, and what they share.
//!
//! In: a plan. Out: counters in `stats`. Everything runs on one thread; the tasks share without
//! locks, and each is woken by a `Notify` of its own.

use crate::dial::{Dialer, Gate};
use crate::error::{Failure, LoadError};
use crate::options::Qos;
use crate::plan;
use crate::sequence::Tracker;
use crate::stats::Stats;
use crate::window::Window;
use crate::{publisher, subscriber};
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// A window that has not moved for so long, and a drain in which nothing has arrived for so long,
/// have lost their messages.
const STALL: Duration = Duration::from_secs(1);

/// Between two looks whether everything has arrived.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// For what is under way at the end, however slowly it comes.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// For all clients to say DISCONNECT.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What one subscriber, or a group of them, has of each publisher.
pub type Trackers = Rc<RefCell<Vec<Tracker>>>;

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Wait for the others.
    Connecting,
    /// Publish.
    Publishing,
    /// Take what is under way.
    Draining,
    /// Disconnect.
    Closing,
}

/// One run.
pub struct Traffic {
    /// Opens connections.
    pub dialer: Dialer,
    /// What is published to whom.
    pub plan: plan::Traffic,
    /// Of each publisher.
    pub windows: Vec<Window>,
    /// Wakes each subscriber.
    pub wakes: Vec<Notify>,
    /// Tells messages of this run from others.
    pub run: u16,
    /// Of a shared subscription.
    pub group: Option<Trackers>,
    state: Cell<State>,
    epoch: Instant,
    publishing_since: Cell<Instant>,
    measured_from: Cell<u64>,
    /// Clients that have connected and subscribed, or failed to.
    settled: Cell<usize>,
    /// Publishers that have more to send.
    publishing: Cell<usize>,
    changed: Notify,
}

impl Traffic {
    /// Nobody is connected yet.
    pub fn new(dialer: Dialer, plan: &plan::Traffic) -> Self {
        let topology = &plan.topology;
        let acknowledged = dialer.plan.qos != Qos::AtMostOnce;
        let window = |receivers: &u32| Window::new(plan.window, *receivers, acknowledged);
        let (publishers, now) = (topology.topics.len(), Instant::now());
        // The hasher's keys are random; no need for a generator of our own.
        let random = RandomState::new().build_hasher().finish();
        Self {
            windows: topology.receivers.iter().map(window).collect(),
            wakes: topology.subscriptions.iter().map(|_| Notify::new()).collect(),
            run: u16::try_from(random & 0xffff).expect("16 bits"),
            group: topology.shared.then(|| trackers(publishers)),
            plan: plan.clone(),
            dialer,
            state: Cell::new(State::Connecting),
            epoch: now,
            publishing_since: Cell::new(now),
            measured_from: Cell::new(u64::MAX),
            settled: Cell::new(0),
            publishing: Cell::new(publishers),
            changed: Notify::new(),
        }
    }

    /// Counters.
    pub fn stats(&self) -> &Rc<Stats> {
        &self.dialer.stats
    }

    /// What the clients are to do.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Microseconds since the run was made.
    pub fn micros(&self, at: Instant) -> u64 {
        let micros = at.saturating_duration_since(self.epoch).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// When publishers began.
    pub fn publishing_since(&self) -> Instant {
        self.publishing_since.get()
    }

    /// Messages that were sent from now on have their latency recorded.
    pub fn begin_measuring(&self) {
        self.measured_from.set(self.micros(Instant::now()));
    }

    /// Records how long a message took that was sent at `micros`.
    pub fn record_latency(&self, micros: u64) {
        if micros >= self.measured_from.get() {
            let now = self.micros(Instant::now());
            self.stats().latency.record(now.saturating_sub(micros));
        }
    }

    /// Starts all clients and waits until each has connected and subscribed, or failed to.
    pub async fn connect(self: &Rc<Self>, tasks: &mut JoinSet<()>) {
        let mut gate = Gate::new(self.dialer.plan.connect_rate);
        for number in 0..self.wakes.len() {
            let permit = gate.pass().await;
            tasks.spawn_local(subscriber::run(self.clone(), number, permit));
        }
        for number in 0..self.windows.len() {
            let permit = gate.pass().await;
            tasks.spawn_local(publisher::run(self.clone(), number, permit));
        }
        while self.settled.get() < self.wakes.len() + self.windows.len() {
            self.changed.notified().await;
        }
    }

    /// One more client has connected and subscribed, or failed to.
    pub fn settle(&self) {
        self.settled.set(self.settled.get() + 1);
        self.changed.notify_one();
    }

    /// A publisher has nothing more to send.
    pub fn publisher_done(&self) {
        self.publishing.set(self.publishing.get().saturating_sub(1));
        self.changed.notify_one();
    }

    /// A connection failed, at once or later.
    pub fn failed(&self, failure: &Failure) {
        self.stats().failed.add(1);
        self.stats().error(&failure.to_string());
    }

    /// Fails when there is nobody to publish or nobody to receive.
    pub fn check_connected(&self) -> Result<(), LoadError> {
        let stats = self.stats();
        let nobody = |role, asked| {
            let why = stats.main_error();
            LoadError::NobodyConnected { role, asked, why }
        };
        let publishers = self.publishing.get();
        if publishers == 0 {
            return Err(nobody("publishers", self.windows.len()));
        }
        if stats.connected.get() == publishers as u64 && !self.wakes.is_empty() {
            return Err(nobody("subscribers", self.wakes.len()));
        }
        Ok(())
    }

    /// Lets all publishers begin.
    pub fn publish(&self) {
        self.publishing_since.set(Instant::now());
        self.become_and_wake(State::Publishing);
    }

    /// Returns when every publisher has sent all its messages, or has failed.
    pub async fn all_sent(&self) {
        while self.publishing.get() > 0 {
            self.changed.notified().await;
        }
    }

    /// Gives stalled publishers their credit back, for as long as it is polled.
    pub async fn forgive_stalls(&self) {
        loop {
            sleep(STALL).await;
            self.windows.iter().for_each(Window::forgive_if_stalled);
        }
    }

    /// Stops publishing and waits for what is under way; returns when the last of it came.
    pub async fn drain(&self) -> Instant {
        self.become_and_wake(State::Draining);
        let (stats, begin) = (self.stats(), Instant::now());
        let under_way = || {
            let acknowledgements = match self.dialer.plan.qos {
                Qos::AtMostOnce => 0,
                _ => stats.sent.get() - stats.acknowledged.get(),
            };
            stats.missing() + acknowledgements
        };
        let (mut last, mut left) = (begin, under_way());
        while left > 0 && last.elapsed() < STALL && begin.elapsed() < DRAIN_MAX {
            sleep(DRAIN_POLL).await;
            let now = under_way();
            if now < left {
                last = Instant::now();
            }
            left = now;
        }
        last
    }

    /// Disconnects everybody.
    pub async fn close(&self, mut tasks: JoinSet<()>) {
        self.become_and_wake(State::Closing);
        let all = async { while tasks.join_next().await.is_some() {} };
        // Whoever takes longer is aborted with the set.
        let _ = timeout(CLOSE_TIMEOUT, all).await;
    }

    fn become_and_wake(&self, state: State) {
        self.state.set(state);
        self.windows.iter().for_each(|window| window.wake.notify_one());
        self.wakes.iter().for_each(Notify::notify_one);
    }
}

/// Nothing has arrived of so many publishers.
pub fn trackers(publishers: usize) -> Trackers {
    Rc::new(RefCell::new(vec![Tracker::default(); publishers]))
}
