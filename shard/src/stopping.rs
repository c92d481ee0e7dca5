//! Graceful stop: Wills first, while there is somebody to hear them, then DISCONNECT to everybody, in bounded steps.

use crate::action::{Action, Actions};
use crate::connection::Refusal;
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::limits::{STOP_STEP_COUNT, STOP_WILL_LINGER_MS};
use crate::time::Mono;

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// Wills of sessions from this index on are still to be published.
    Wills {
        /// Index into the session table.
        next_session: u32,
    },
    /// Connections from this slot on are still to be closed.
    Connections {
        /// Slot in the connection table.
        next_slot: u32,
    },
    /// All are closed and the edge was told so.
    Done,
}

impl ShardCore {
    /// No new connections from now on; the existing ones end step by step, each step with a later event, so that what other
    /// shards send is handled in between.
    pub(crate) fn begin_stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(Stopping::Wills { next_session: 0 });
            self.arm_stop(self.now.mono);
        }
    }

    /// One step: at most [`STOP_STEP_COUNT`] sessions or connections.
    pub(crate) fn on_stop_due(&mut self, actions: &mut Actions) {
        match self.stopping {
            Some(Stopping::Wills { next_session }) => self.stop_wills(next_session),
            Some(Stopping::Connections { next_slot }) => self.stop_connections(next_slot, actions),
            Some(Stopping::Done) | None => {}
        }
    }

    /// A session does not outlive the process, so its Will is due whatever its delay (§MQTT5 3.1.3.2.2).
    fn stop_wills(&mut self, next_session: u32) {
        let end = self.sessions.index_end();
        let step_end = end.min(next_session.saturating_add(STOP_STEP_COUNT));
        for index in next_session..step_end {
            if let Some(session) = self.sessions.id_at(index) {
                self.release_will(session);
            }
        }
        if step_end < end {
            self.stopping = Some(Stopping::Wills { next_session: step_end });
            self.arm_stop(self.now.mono);
        } else {
            self.stopping = Some(Stopping::Connections { next_slot: 0 });
            // With other shards, their Wills are still on the way.
            let linger_ms = if self.shard_count > 1 { STOP_WILL_LINGER_MS } else { 0 };
            self.arm_stop(self.now.mono.plus_ms(linger_ms));
        }
    }

    fn stop_connections(&mut self, next_slot: u32, actions: &mut Actions) {
        let conns: Vec<_> = self.connections.ids_from(next_slot).take(STOP_STEP_COUNT as usize).collect();
        for conn in &conns {
            self.refuse(*conn, Refusal::Stopping, actions);
        }
        if let Some(last) = conns.last() {
            self.stopping = Some(Stopping::Connections { next_slot: last.slot + 1 });
            self.arm_stop(self.now.mono);
        } else {
            self.stopping = Some(Stopping::Done);
            actions.list.push(Action::Stopped);
        }
    }

    fn arm_stop(&mut self, at: Mono) {
        self.deadlines.arm(Mono(at.0 + 1), Due::Stop);
    }
}
