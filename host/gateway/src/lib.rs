//! The device-facing side of Gnomon: the only owner of sockets that devices reach.
//!
//! Data flows `listener -> proxy -> tls -> connection | http -> codec -> gnomon_core::session`; WebSocket is
//! a byte stream under `connection`, reached through `http`. Open connections run on `event_loop`.
//! Whoever answers plain HTTP requests is handed in as an `HttpHandler`.

pub mod codec;
pub mod connection;
pub mod event_loop;
pub mod http;
pub mod listener;
mod pace;
pub mod proxy;
pub mod timer;
pub mod tls;
mod websocket;
