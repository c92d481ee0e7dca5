//! Graceful stop: Wills first, while there is somebody to hear them, then DISCONNECT to everybody, in bounded steps.

use crate::action::{Action, Actions};
use crate::connection::{Ending, Refusal, State};
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::limits::{STOP_STEP_COUNT, STOP_WILL_LINGER_MS};
use crate::session::will::Will;
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

    /// A session that does not outlive the process has its Will published whatever its delay (§MQTT5 3.1.3.2.2). One that is on the
    /// disk keeps a delayed Will, whose time goes on counting, and one that finds no room.
    fn stop_wills(&mut self, next_session: u32) {
        let end = self.sessions.index_end();
        let step_end = end.min(next_session.saturating_add(STOP_STEP_COUNT));
        for index in next_session..step_end {
            let Some(session) = self.sessions.id_at(index) else { continue };
            let is_kept = self.sessions.get(session).is_some_and(|session| {
                let waits = |will: &Will| will.delay_seconds > 0 || self.finds_no_room(will);
                session.number().is_some() && session.will().is_some_and(waits)
            });
            if !is_kept {
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
            if self.connections.get(*conn).is_some_and(|connection| connection.state == State::Greeting) {
                // Its CONNECT is not complete, so nobody knows in which version to answer.
                self.metrics.count(Refusal::Stopping.counter());
                self.begin_closing(*conn, Ending::Refused(Refusal::Stopping));
            } else {
                self.refuse(*conn, Refusal::Stopping, actions);
            }
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

#[cfg(test)]
mod tests {
    use dunlin_wire::packet::{Connect, Packet, Will, WillProperties};
    use dunlin_wire::reason::ReasonCode;
    use dunlin_wire::types::Version;

    use super::*;
    use crate::config::Mqtt;
    use crate::control::Control;
    use crate::ids::ShardId;
    use crate::metrics::Counter;
    use crate::testing::{World, connect};

    #[test]
    fn everybody_hears_that_the_server_stops() {
        // [MQTT5-3.1.2-8] [MQTT5-3.14.4-2] [MQTT5-3.1.4-6]
        let mut world = World::new();
        let properties = WillProperties { will_delay_interval: Some(500), ..WillProperties::default() };
        let will = Some(Will { topic: "w", properties, ..Will::default() });
        let clients: Vec<_> = (0..2_500)
            .map(|n| {
                let client_id = format!("c{n}");
                let version = if n % 2 == 0 { Version::V5 } else { Version::V311 };
                let mut keeping = Connect { will: will.filter(|_| n == 0), ..connect(version, &client_id) };
                keeping.clean_start = false;
                world.connect(&keeping).0
            })
            .collect();
        let greeting = world.open();
        world.control(Control::Stop);
        world.control(Control::Stop);
        let late = world.open();
        assert!(world.is_closed(late));
        world.send(greeting, &Packet::Connect(connect(Version::V5, "late")));
        assert_eq!(world.heard(greeting).connack().code, ReasonCode::ServerUnavailable);
        world.advance_ms(200);
        assert_eq!(world.stopped, [ShardId(0)]);
        for (n, client) in clients.iter().enumerate() {
            assert!(world.is_closed(*client));
            let heard = world.heard(*client);
            if n % 2 == 0 {
                assert!(
                    matches!(heard.only(), Packet::Disconnect(d) if d.code == ReasonCode::ServerShuttingDown)
                );
            } else {
                assert!(heard.is_empty());
            }
        }
        assert_eq!(world.core().metrics().get(Counter::WillPublished), 1, "its delay ends with the process");
        assert_eq!(world.core().gauges().connections, 0);
    }

    #[test]
    fn who_has_not_said_its_version_is_told_nothing() {
        // [MQTT5-3.2.0-1] [MQTT311-3.2.0-1]: CONNACK answers a CONNECT.
        let mut world = World::new();
        let half = world.open();
        world.raw(half, &[0x10, 0x21, 0x00, 0x06]);
        world.control(Control::Stop);
        world.advance_ms(200);
        assert!(world.is_closed(half));
        assert!(world.heard(half).is_empty());
    }

    #[test]
    fn all_shards_stop_within_the_linger() {
        let mut world = World::of_cores(Mqtt::default(), vec![Default::default(), Default::default()]);
        world.join(Version::V5, "c");
        for shard in [ShardId(0), ShardId(1)] {
            world.handle(shard, crate::Event::Control(Control::Stop));
        }
        world.advance_ms(STOP_WILL_LINGER_MS / 2);
        assert!(world.stopped.is_empty());
        world.advance_ms(STOP_WILL_LINGER_MS);
        assert_eq!(world.stopped.len(), 2);
    }
}
