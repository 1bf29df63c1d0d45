//! The MQTT codec from outside: bytes in, packets out, and back.
//!
//! [`accepted`], [`refused`] and [`written`] are tables of packets in the notation of [`hex`].
//! [`differential`] sends random packets through rumqttc's codec, [`mutated`] damages good ones.
//! [`client`] is the client's side of the wire: what it writes is what the tables' packets are
//! compared with.

#[cfg(test)]
mod accepted;
#[cfg(test)]
mod client;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod hex;
#[cfg(test)]
mod mutated;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod written;
