//! Graceful stop: Wills first, while there is somebody to hear them, then DISCONNECT to everybody, in bounded steps.

use crate::action::{Action, Actions};
use crate::connection::Refusal;
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::limits::STOP_STEP_COUNT;
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
    /// No new connections from now on; the existing ones end step by step.
    pub(crate) fn begin_stop(&mut self, actions: &mut Actions) {
        if self.stopping.is_none() {
            self.stopping = Some(Stopping::Wills { next_session: 0 });
            self.on_stop_due(actions);
        }
    }

    /// One step: at most [`STOP_STEP_COUNT`] Wills or connections.
    pub(crate) fn on_stop_due(&mut self, actions: &mut Actions) {
        match self.stopping {
            Some(Stopping::Wills { next_session }) => {
                let sessions: Vec<_> = self.sessions.ids_from(next_session, STOP_STEP_COUNT);
                // A session does not outlive the process, so its Will is due whatever its delay (§MQTT5 3.1.3.2.2).
                for session in &sessions {
                    self.release_will(*session);
                }
                self.stopping = Some(match sessions.last() {
                    Some(last) => Stopping::Wills { next_session: last.index + 1 },
                    None => Stopping::Connections { next_slot: 0 },
                });
                self.arm_next_step();
            }
            Some(Stopping::Connections { next_slot }) => {
                let conns: Vec<_> = self.connections.ids_from(next_slot).take(STOP_STEP_COUNT).collect();
                for conn in &conns {
                    self.refuse(*conn, Refusal::Stopping, actions);
                }
                if let Some(last) = conns.last() {
                    self.stopping = Some(Stopping::Connections { next_slot: last.slot + 1 });
                    self.arm_next_step();
                } else {
                    self.stopping = Some(Stopping::Done);
                    actions.list.push(Action::Stopped);
                }
            }
            Some(Stopping::Done) | None => {}
        }
    }

    /// The next step comes with a later event, so that what other shards sent is handled before it.
    fn arm_next_step(&mut self) {
        self.deadlines.arm(Mono(self.now.mono.0 + 1), Due::Stop);
    }
}
