//! A host for native unit tests: remembers what the plugin did and answers as the test said.
//!
//! The state belongs to the thread, as each test has its own; [`MockHost::new`] clears it.

use crate::{Error, Level, PublishOptions, Request, Response};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// One publication of the plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// QoS, flags and properties.
    pub options: PublishOptions,
}

type Answer = Box<dyn FnMut(&Request) -> Result<Response, Error>>;
type PublishCheck = Box<dyn FnMut(&str) -> Result<(), Error>>;

struct State {
    now_ms: u64,
    config: String,
    secrets: BTreeMap<String, Vec<u8>>,
    answer: Answer,
    publish_check: PublishCheck,
    requests: Vec<Request>,
    published: Vec<Published>,
    logs: Vec<(Level, String)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            now_ms: 0,
            config: "{}".into(),
            secrets: BTreeMap::new(),
            answer: Box::new(|_| Err(Error::Denied("the mock host has no answer".into()))),
            publish_check: Box::new(|_| Ok(())),
            requests: Vec::new(),
            published: Vec::new(),
            logs: Vec::new(),
        }
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(f)
}

/// The thread's mock host.
#[derive(Debug)]
pub struct MockHost(());

impl MockHost {
    /// A host at 1970 that answers no HTTP, takes every publication and has no secrets.
    #[allow(clippy::new_without_default, reason = "clears the thread's state: not a plain value")]
    pub fn new() -> Self {
        with(|state| *state = State::default());
        Self(())
    }

    /// Sets the wall clock.
    pub fn set_now_ms(&self, now_ms: u64) {
        with(|state| state.now_ms = now_ms);
    }

    /// Sets what [`crate::host::config`] returns.
    pub fn set_config(&self, json: &str) {
        with(|state| state.config = json.into());
    }

    /// Grants a secret.
    pub fn set_secret(&self, name: &str, value: &[u8]) {
        with(|state| state.secrets.insert(name.into(), value.into()));
    }

    /// Answers HTTP requests from now on.
    pub fn on_request(&self, answer: impl FnMut(&Request) -> Result<Response, Error> + 'static) {
        with(|state| state.answer = Box::new(answer));
    }

    /// Decides from now on about publications, by topic.
    pub fn on_publish(&self, check: impl FnMut(&str) -> Result<(), Error> + 'static) {
        with(|state| state.publish_check = Box::new(check));
    }

    /// The HTTP requests so far.
    pub fn requests(&self) -> Vec<Request> {
        with(|state| state.requests.clone())
    }

    /// The accepted publications so far.
    pub fn published(&self) -> Vec<Published> {
        with(|state| state.published.clone())
    }

    /// The log lines so far.
    pub fn logs(&self) -> Vec<(Level, String)> {
        with(|state| state.logs.clone())
    }
}

/// The same functions as the generated imports.
pub(crate) mod imports {
    pub mod log {
        use super::super::{Level, with};

        pub fn write(level: Level, message: &str, _fields: &[(String, String)]) {
            with(|state| state.logs.push((level, message.into())));
        }

        pub fn max_level() -> Level {
            Level::Trace
        }
    }

    pub mod config {
        pub fn document() -> String {
            super::super::with(|state| state.config.clone())
        }
    }

    pub mod secrets {
        use super::super::{Error, with};

        pub fn get(name: &str) -> Result<Vec<u8>, Error> {
            with(|state| state.secrets.get(name).cloned())
                .ok_or_else(|| Error::Denied(format!("secret {name}")))
        }
    }

    pub mod clock {
        use super::super::with;

        pub fn now() -> u64 {
            with(|state| state.now_ms)
        }

        pub fn monotonic() -> u64 {
            with(|state| state.now_ms.saturating_mul(1_000_000))
        }
    }

    pub mod random {
        /// Counts: the same bytes in every test.
        pub fn bytes(len: u32) -> Vec<u8> {
            (0..=u8::MAX).cycle().take(len.min(4_096) as usize).collect()
        }
    }

    pub mod messaging {
        use super::super::{Error, PublishOptions, Published, with};

        pub fn publish(topic: &str, payload: &[u8], options: &PublishOptions) -> Result<(), Error> {
            with(|state| {
                (state.publish_check)(topic)?;
                let (topic, payload, options) = (topic.into(), payload.into(), options.clone());
                state.published.push(Published { topic, payload, options });
                Ok(())
            })
        }
    }

    pub mod http {
        use super::super::{Error, Request, Response, with};

        pub fn send(request: &Request) -> Result<Response, Error> {
            with(|state| {
                state.requests.push(request.clone());
                (state.answer)(request)
            })
        }
    }
}
