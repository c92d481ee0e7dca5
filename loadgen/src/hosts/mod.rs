//! Where connections come from and go to: local addresses and ports, several destinations, what this host
//! allows.
//!
//! Reading order: `source.rs` (local addresses), `port.rs` (who chooses local ports), `walk.rs` (all tuples of
//! one destination in turn), `route.rs` (which tuple each connection gets),
//! `proxy.rs` (whom connections claim to come from),
//! `facts.rs` (what the host says about itself), `preflight.rs` (how many connections it can open).

pub(crate) mod facts;
pub(crate) mod port;
pub(crate) mod preflight;
pub(crate) mod proxy;
pub(crate) mod route;
pub(crate) mod source;
mod walk;
