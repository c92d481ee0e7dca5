//! End-to-end tests: the shipped program over real sockets, as a stranger sees it.
//!
//! [`Broker`] starts a `dunlin` of its own for a test, on a free port and with its own folder, and ends it with the test.
//! [`Client`] speaks MQTT packet by packet over a blocking socket: it sends exactly what a test says, also what no client
//! library would send, and every wait has a deadline and names what it waits for. [`program`] runs programs that others
//! wrote. The tests are in `tests/`, the scripts for other people's clients in `interop/`.
//!
//! Which program is tested: `DUNLIN_BIN` when it is set, else the `dunlin` beside the test's own build, which is built if
//! it is missing. With `DUNLIN_E2E_BROKER=HOST:PORT` the tests talk to a broker that runs already; those that need a
//! process or settings of their own then fail and say so.

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    reason = "everything here is for tests and panics with what it waited for"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the packet it wants; any other is the same failure"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the harness is the outside world: clock, environment, files and threads"
)]

pub mod broker;
pub mod client;
pub mod folder;
pub mod program;
pub mod received;

pub use broker::{Broker, Start};
pub use client::{Client, login};
pub use received::Received;

use std::time::Duration;

/// How long anything may take before a test fails. Long enough for a loaded machine; nothing waits for it to pass.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The time, for tests that measure how long the broker waited.
#[must_use]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
