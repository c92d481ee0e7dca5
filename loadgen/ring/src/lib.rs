//! The io_uring edge of the load generator and of the floor tool.
//!
//! A [`Ring`] owns up to a table full of TCP sockets as *direct descriptors* (entries of the ring's own file
//! table, so that they cost no process descriptor), receives with one multishot request per socket into
//! buffers that the kernel borrows from a common pool, and keeps at most one send per socket in flight. It
//! knows nothing of MQTT, of time or of scenarios, and it shares no code with the broker, so that the judge
//! does not inherit the faults of the judged.
//!
//! Reading order: [`Ring`] and [`Completion`] (`ring.rs`), `buffers.rs` (the pool on loan), `slot.rs` (what is
//! pending on a socket), `poll.rs` (sleeping on several rings at once), `affinity.rs` (one thread, one core).
//!
//! Unsafe code lives in `ring.rs`, `buffers.rs`, `poll.rs` and `affinity.rs` and nowhere else.

mod address;
mod affinity;
mod buffers;
mod poll;
mod ring;
mod slot;

pub use affinity::{pin_to_core, pin_to_cores};
pub use buffers::Loan;
pub use poll::wait_any;
pub use ring::{Completion, Counters, Errno, OpenOptions, Ring, RingConfig};
pub use slot::{Bytes, SlotId};
