//! Session Expiry Interval: how long a session outlives its connection (§MQTT5 3.1.2.11.2, §MQTT5 4.1).

use dunlin_wire::packet::Connect;
use dunlin_wire::types::Version;

use super::NEVER_EXPIRES;
use crate::action::Actions;
use crate::config::Mqtt;
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::hooks::SessionEvent;
use crate::ids::SessionId;
use crate::metrics::Counter;
use crate::time::Mono;

/// Seconds that the session of a CONNECT outlives its connection under these settings.
pub(crate) fn granted_seconds(connect: &Connect<'_>, mqtt: &Mqtt) -> u32 {
    match connect.version {
        Version::V5 => capped(connect.properties.session_expiry_interval.unwrap_or(0), mqtt),
        // [MQTT311-3.1.2-6]: with Clean Session 1 the session lasts as long as the connection.
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => mqtt.session_expiry_interval,
    }
}

/// What is granted of what a 5.0 client asks for.
pub(crate) fn capped(seconds: u32, mqtt: &Mqtt) -> u32 {
    mqtt.max_session_expiry_interval.map_or(seconds, |max| seconds.min(max))
}

impl ShardCore {
    /// Arms the earlier of the Will and the end of a session that has lost its connection.
    pub(crate) fn arm_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let will_at = session
            .rare
            .as_ref()
            .and_then(|rare| rare.will.as_ref())
            .map(|will| session.detached_at.plus_seconds(u64::from(will.delay_seconds)));
        let at = match (will_at, session.expires_at()) {
            (Some(will_at), Some(expires_at)) => Some(will_at.min(expires_at)),
            (one, other) => one.or(other),
        };
        let deadline = at.map(|at| self.deadlines.arm(at, Due::Session(id.index)));
        if let Some(session) = self.sessions.get_mut(id) {
            session.deadline = deadline;
        }
    }

    /// Takes the deadline of a session back: its client is here again, or it ends.
    pub(crate) fn disarm_session(&mut self, id: SessionId) {
        if let Some(key) = self.sessions.get_mut(id).and_then(|session| session.deadline.take()) {
            self.deadlines.cancel(key, Due::Session(id.index));
        }
    }

    /// The Will or the end of a session without connection is due.
    pub(crate) fn on_session_due(&mut self, id: SessionId, actions: &mut Actions) {
        let now = self.now.mono;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.deadline = None;
        if session.conn().is_some() {
            return;
        }
        // [MQTT5-4.1.0-2]
        if session.expires_at().is_some_and(|at| at <= now) {
            self.metrics.count(Counter::SessionExpired);
            self.end_session(id, actions);
            return;
        }
        if will_is_due(session.detached_at, session.rare.as_deref(), now) {
            self.release_will(id);
        }
        self.arm_session(id);
    }

    /// Ends a session: its Will is published, its messages and subscriptions go.
    ///
    /// [MQTT5-3.1.2-8]: the end of the session ends the wait of a delayed Will.
    pub(crate) fn end_session(&mut self, id: SessionId, actions: &mut Actions) {
        if self.sessions.get(id).is_none() {
            return;
        }
        self.release_will(id);
        self.disarm_session(id);
        self.on_session_ended(id, actions);
        if let Some(session) = self.sessions.remove(id) {
            self.metrics.count(Counter::SessionTerminated);
            self.observe(&SessionEvent::Ended { client_id: &session.client_id });
        }
    }
}

/// Whether a Will has waited for its delay.
fn will_is_due(detached_at: Mono, rare: Option<&super::Rare>, now: Mono) -> bool {
    rare.and_then(|rare| rare.will.as_ref())
        .is_some_and(|will| detached_at.plus_seconds(u64::from(will.delay_seconds)) <= now)
}

const _: () = assert!(NEVER_EXPIRES == u32::MAX, "the standard's value for a session that does not expire");
