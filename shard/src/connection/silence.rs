//! Silence: no CONNECT in time, or none of a connected client's packets for too long.

use super::{Connection, Ending, Refusal, State};
use crate::action::{Action, Actions, Arrival};
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::ids::{ConnId, ListenerId};
use crate::metrics::Counter;
use crate::peer::Peer;
use crate::time::{Mono, NS_PER_SECOND};

impl ShardCore {
    /// A socket was accepted here.
    pub(crate) fn on_opened(
        &mut self,
        conn: ConnId,
        peer: Peer,
        listener: ListenerId,
        actions: &mut Actions,
    ) {
        self.metrics.count(Counter::ConnectionsOpened);
        self.begin_connection(conn, peer, listener, self.now.mono, actions);
    }

    /// A connection came home.
    pub(crate) fn on_arrived(&mut self, conn: ConnId, arrival: Arrival, actions: &mut Actions) {
        self.metrics.count(Counter::ConnectionsArrived);
        self.begin_connection(conn, arrival.peer, arrival.listener, arrival.opened_at, actions);
        if !arrival.unread.is_empty() {
            self.on_bytes(conn, &arrival.unread, actions);
        }
    }

    fn begin_connection(
        &mut self,
        conn: ConnId,
        peer: Peer,
        listener: ListenerId,
        opened_at: Mono,
        actions: &mut Actions,
    ) {
        if self.stopping.is_some() {
            self.metrics.count(Counter::EndedStopping);
            actions.list.push(Action::Close { conn, flush: false });
            return;
        }
        let epoch = self.configs.enter();
        let connection = Connection::new(conn, peer, listener, opened_at, epoch);
        if self.connections.insert(conn, connection).is_err() {
            // The edge names a slot that is in use: the old use goes on, the new one is not known.
            self.configs.leave(epoch);
            self.metrics.count(Counter::EventsLate);
            return;
        }
        let due_at = opened_at.plus_ms(self.configs.current().idle_timeout_ms);
        let key = self.deadlines.arm(due_at, Due::Connect(conn));
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.deadline = Some(key);
        }
    }

    /// The peer or the network ended a connection.
    ///
    /// [MQTT5-3.1.2-8]: without a DISCONNECT the Will is published.
    pub(crate) fn on_closed(&mut self, conn: ConnId, actions: &mut Actions) {
        if self.connections.get(conn).is_none() {
            self.metrics.count(Counter::EventsLate);
            return;
        }
        let _ = actions;
        self.begin_closing(conn, Ending::Gone);
    }

    /// A client has had its time to connect.
    pub(crate) fn on_connect_due(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.deadline = None;
        match connection.state {
            State::Greeting | State::Authenticating | State::Exchanging => {
                self.refuse(conn, Refusal::ConnectTimeout, actions);
            }
            State::Connected | State::Closing => {}
        }
    }

    /// Begins to watch the silence of a client that is connected now.
    pub(super) fn watch_silence(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if let Some(key) = connection.deadline.take() {
            self.deadlines.cancel(key);
        }
        self.arm_keep_alive(conn);
    }

    /// A client may have been silent for too long.
    ///
    /// [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]: no packet within one and a half times the Keep Alive closes the connection as
    /// a failure of the network would.
    pub(crate) fn on_keep_alive_due(&mut self, conn: ConnId, actions: &mut Actions) {
        let now = self.now.mono;
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.deadline = None;
        if connection.state != State::Connected {
            return;
        }
        if connection.rare.as_ref().is_some_and(|rare| rare.read_paused) {
            // It may have sent what this side does not read.
            connection.heard_at = now;
        }
        let silence_ns_max = self.silence_ns_max(conn);
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        if now.since(connection.heard_at) >= silence_ns_max {
            self.refuse(conn, Refusal::KeepAlive, actions);
        } else {
            self.arm_keep_alive(conn);
        }
    }

    fn arm_keep_alive(&mut self, conn: ConnId) {
        let silence_ns_max = self.silence_ns_max(conn);
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        // [MQTT311-3.1.2-24]: Keep Alive 0 turns the watch off.
        if connection.keep_alive_seconds > 0 {
            let due_at = Mono(connection.heard_at.0.saturating_add(silence_ns_max));
            connection.deadline = Some(self.deadlines.arm(due_at, Due::KeepAlive(conn)));
        }
    }

    /// The longest silence that is not too long.
    fn silence_ns_max(&self, conn: ConnId) -> u64 {
        self.connections.get(conn).map_or(u64::MAX, |connection| {
            let percent = u64::from(self.configs.mqtt(connection.config_epoch).keepalive_multiplier_percent);
            u64::from(connection.keep_alive_seconds) * percent * (NS_PER_SECOND / 100)
        })
    }
}
