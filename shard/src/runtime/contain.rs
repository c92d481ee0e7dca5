//! Containment: a panic of the core ends one event, and the connection that caused it, and nothing else.
//!
//! What the core asked for in that event is forgotten, but for records: what they say has happened in its tables, and the log
//! takes no gap in their numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::event::Event;
use crate::ids::ConnId;
use crate::time::{Mono, Now};

/// What the edge drives: [`ShardCore`], or a stand-in that tests and measures the edge alone.
pub trait Core {
    /// Takes one event and appends what it wants done.
    fn handle(&mut self, event: Event<'_>, now: Now, actions: &mut Actions);
    /// When [`Event::Timer`] is due next.
    fn next_deadline(&self) -> Option<Mono>;
    /// The number of the last record that must be on the disk soon, because something waits for that.
    fn awaited_record(&self) -> u64 {
        0
    }
    /// Once, before the first event and when others can be spoken to.
    fn begin(&mut self, _now: Now, _actions: &mut Actions) {}
}

impl Core for ShardCore {
    fn handle(&mut self, event: Event<'_>, now: Now, actions: &mut Actions) {
        Self::handle(self, event, now, actions);
    }

    fn next_deadline(&self) -> Option<Mono> {
        Self::next_deadline(self)
    }

    fn awaited_record(&self) -> u64 {
        Self::awaited_record(self)
    }

    fn begin(&mut self, now: Now, actions: &mut Actions) {
        self.finish_restore(now, actions);
    }
}

/// A core behind a wall.
#[derive(Debug)]
pub(super) struct Contained<C> {
    core: C,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Handled {
    /// Handled.
    Whole,
    /// The core panicked; what it had asked for in this call is forgotten, and so is the connection.
    Panicked,
}

impl<C: Core> Contained<C> {
    pub(super) fn new(core: C) -> Self {
        Self { core }
    }

    /// Gives an event to the core. If it panics and the event came from a connection, the core is told that this connection
    /// has closed; the caller closes its socket.
    pub(super) fn handle(&mut self, event: Event<'_>, now: Now, actions: &mut Actions) -> Handled {
        let conn = connection_of(&event);
        if self.attempt(event, now, actions) == Handled::Whole {
            return Handled::Whole;
        }
        if let Some(conn) = conn {
            // A second panic changes nothing: the socket closes all the same.
            let _second = self.attempt(Event::Closed { conn }, now, actions);
        }
        Handled::Panicked
    }

    /// Before the first event.
    pub(super) fn begin(&mut self, now: Now, actions: &mut Actions) {
        self.core.begin(now, actions);
    }

    /// When the core wants [`Event::Timer`].
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.core.next_deadline()
    }

    /// Up to which record somebody waits for the disk.
    pub(super) fn awaited_record(&self) -> u64 {
        self.core.awaited_record()
    }

    fn attempt(&mut self, event: Event<'_>, now: Now, actions: &mut Actions) -> Handled {
        let (bytes, count) = (actions.arena.len(), actions.list.len());
        // A core that panics may be left half-way through a change; its own tables are built to survive that
        // (`ShardCore` forgets the connection), and the alternative is to end every connection of the shard.
        let attempt = catch_unwind(AssertUnwindSafe(|| self.core.handle(event, now, actions)));
        if attempt.is_ok() {
            return Handled::Whole;
        }
        actions.arena.truncate(bytes);
        let asked = actions.list.split_off(count);
        actions.list.extend(asked.into_iter().filter(|action| matches!(action, Action::Append { .. })));
        Handled::Panicked
    }
}

/// The connection that an event is about.
fn connection_of(event: &Event<'_>) -> Option<ConnId> {
    match event {
        Event::Opened { conn, .. }
        | Event::Arrived { conn, .. }
        | Event::Bytes { conn, .. }
        | Event::Sent { conn, .. }
        | Event::Closed { conn } => Some(*conn),
        Event::Mesh { .. }
        | Event::HookDone { .. }
        | Event::Stored { .. }
        | Event::StoreState(_)
        | Event::Fetched { .. }
        | Event::Reclaim(_)
        | Event::Control(_)
        | Event::Timer => None,
    }
}

#[cfg(test)]
mod tests {
    use dunlin_persist::{Record, SessionNo};

    use super::*;

    /// Panics on bytes that begin with `!`, after it has asked for something.
    #[derive(Default)]
    struct Fragile {
        closed: Vec<ConnId>,
    }

    impl Core for Fragile {
        fn handle(&mut self, event: Event<'_>, _: Now, actions: &mut Actions) {
            if let Event::Closed { conn } = event {
                self.closed.push(conn);
            } else if let Event::Bytes { conn, bytes } = event {
                let start = actions.mark();
                actions.arena.extend_from_slice(bytes);
                let record = Box::new(Record::SessionEnded { session: SessionNo(1) });
                actions.list.push(Action::Append { seq: 1, record });
                actions.send_from(conn, start);
                assert!(!bytes.starts_with(b"!"), "a planted panic");
            }
        }

        fn next_deadline(&self) -> Option<Mono> {
            None
        }
    }

    #[test]
    fn a_panic_takes_back_what_the_event_asked_for_and_closes_its_connection() {
        let mut core = Contained::new(Fragile::default());
        let mut actions = Actions::default();
        let now = Now::default();
        let [good, bad] = [1, 2].map(|slot| ConnId { slot, generation: 1 });
        assert_eq!(core.handle(Event::Bytes { conn: good, bytes: b"ok" }, now, &mut actions), Handled::Whole);
        let panicked = core.handle(Event::Bytes { conn: bad, bytes: b"!x" }, now, &mut actions);
        assert_eq!(panicked, Handled::Panicked);
        assert_eq!(actions.arena, b"ok");
        let kept = [true, false, true];
        let appends: Vec<_> =
            actions.list.iter().map(|action| matches!(action, Action::Append { .. })).collect();
        assert_eq!(appends, kept, "records stay, also those of the event that panicked");
        assert_eq!(core.core.closed, [bad]);
    }
}
