//! Connections that are opened one after the other, a few at a time, and what comes over them.

use super::{RunError, Settings, host};
use crate::client::Notice;
use crate::clock::Nanos;
use crate::engine::{ConnId, Engine, EngineConfig, Outbox};
use crate::failures::Failures;
use crate::floor::Hello;
use crate::roster::Roster;

/// How far the connections of a scenario are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    total: u32,
    concurrency: u32,
    next: u32,
    under_way: u32,
    up: u32,
}

impl Opening {
    /// Connections `0..total`, of which no more are under way at the same time than `settings` allow.
    pub(crate) const fn new(total: u32, settings: &Settings) -> Self {
        Self { total, concurrency: settings.concurrency, next: 0, under_way: 0, up: 0 }
    }

    /// Has as many opened as may be opened now.
    pub(crate) fn pump(&mut self, mut open: impl FnMut(ConnId)) {
        while self.under_way < self.concurrency && self.next < self.total {
            open(ConnId(self.next));
            self.next += 1;
            self.under_way += 1;
        }
    }

    /// One has been accepted.
    pub(crate) const fn accepted(&mut self) {
        self.failed();
        self.up += 1;
    }

    /// One could not be opened, or was refused.
    pub(crate) const fn failed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// How many are up and how many there are.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (u64::from(self.up), u64::from(self.total))
    }
}

/// An engine for so many connections.
///
/// # Errors
/// When the host refuses it.
pub(crate) fn engine(connections: u32, settings: &Settings) -> Result<Engine, RunError> {
    Engine::new(EngineConfig {
        route: settings.route.clone(),
        transport: settings.transport.clone(),
        connections,
        per_ring: settings.per_ring,
        one_answer: false,
    })
    .map_err(host("setting up io_uring"))
}

/// How a connection that only receives introduces itself to the floor tool.
pub(crate) const fn listener(conn: ConnId) -> Hello {
    Hello { receives: true, qos: 0, id_offset: 0, frame_bytes: 0, channel: conn.0 }
}

/// A script that is told what comes, a packet at a time.
pub(crate) trait Hears {
    /// The clients, and where their failures go.
    fn clients(&mut self) -> (&mut Roster, &mut Failures);
    /// A packet has come.
    fn hear(&mut self, conn: ConnId, notice: &Notice<'_>, now: Nanos, outbox: &mut Outbox);
}

/// Hands all whole packets in `bytes` to the script; returns how much of it was used. A client that breaks the protocol loses
/// its connection.
pub(crate) fn hear_all(
    script: &mut impl Hears,
    conn: ConnId,
    bytes: &[u8],
    now: Nanos,
    outbox: &mut Outbox,
) -> usize {
    let mut used = 0;
    loop {
        let (roster, failures) = script.clients();
        match roster.take(conn, &bytes[used..], outbox) {
            Ok(Some((notice, length))) => {
                used += length;
                script.hear(conn, &notice, now, outbox);
            }
            Ok(None) => return used,
            Err(fault) => {
                failures.note(fault);
                outbox.close(conn);
                return bytes.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_under_way_than_may_be() {
        let mut opening = Opening { total: 5, concurrency: 2, next: 0, under_way: 0, up: 0 };
        let opened = |opening: &mut Opening| {
            let mut opened = 0;
            opening.pump(|_| opened += 1);
            opened
        };
        assert_eq!(opened(&mut opening), 2);
        opening.accepted();
        assert_eq!(opened(&mut opening), 1);
        opening.accepted();
        opening.failed();
        assert_eq!(opened(&mut opening), 2);
        opening.accepted();
        opening.failed();
        assert_eq!((opened(&mut opening), opening.progress()), (0, (3, 5)));
    }
}
