//! What plugins call: one file per interface of `wit/host.wit`.
//!
//! Where a call needs a grant, checking it is the first thing that the file does.

mod clock;
mod config;
mod http;
mod log;
mod messaging;
mod random;
mod secrets;

use crate::bindings::host;
use crate::instance::State;
use wasmtime::component::{HasSelf, Linker};

impl host::types::Host for State {}

/// A linker with everything that the host offers.
///
/// # Errors
/// Two interfaces have the same name; a defect of this package.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    host::types::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::clock::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::config::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::http::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::messaging::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::random::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::secrets::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}
