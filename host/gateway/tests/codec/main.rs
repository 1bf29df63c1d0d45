//! The MQTT codec from outside: bytes in, packets out, and back.
//!
//! [`accepted`] and [`refused`] are tables of packets in hexadecimal; [`hex`] is their notation.

#[cfg(test)]
mod accepted;
#[cfg(test)]
mod hex;
#[cfg(test)]
mod refused;
