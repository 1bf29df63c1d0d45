//! The `gnomon` binary.
fn main() {}
