//! Session Expiry Interval: how long a session outlives its connection (§MQTT5 3.1.2.11.2, §MQTT5 4.1).

use dunlin_wire::packet::Connect;
use dunlin_wire::types::Version;

use super::NEVER_EXPIRES;
use super::will::Will;
use crate::action::Actions;
use crate::config::Mqtt;
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::hooks::SessionEvent;
use crate::ids::SessionId;
use crate::metrics::Counter;

/// Seconds that the session of a CONNECT outlives its connection under these settings. `[MQTT5-3.1.2-23]`
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
        if self.has_due_will(id) {
            self.release_will(id);
        }
        self.arm_session(id);
    }

    /// Whether a session without a connection has a Will that has waited for its delay.
    pub(super) fn has_due_will(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| {
            let is_over = |will: &Will| {
                session.detached_at.plus_seconds(u64::from(will.delay_seconds)) <= self.now.mono
            };
            session.conn().is_none() && session.will().is_some_and(is_over)
        })
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

const _: () = assert!(NEVER_EXPIRES == u32::MAX, "the standard's value for a session that does not expire");

#[cfg(test)]
mod tests {
    use dunlin_wire::packet::{Disconnect, DisconnectProperties, Packet};
    use dunlin_wire::reason::ReasonCode;

    use super::*;
    use crate::testing::mechanism::Script;
    use crate::testing::{Client, World, connect};

    fn keeping(seconds: u32) -> Connect<'static> {
        let mut keeping = connect(Version::V5, "c");
        keeping.clean_start = false;
        keeping.properties.session_expiry_interval = Some(seconds);
        keeping
    }

    fn goodbye(world: &mut World, client: Client, expiry_seconds: u32) {
        let properties = DisconnectProperties {
            session_expiry_interval: Some(expiry_seconds),
            ..DisconnectProperties::default()
        };
        world.send(client, &Packet::Disconnect(Disconnect { code: ReasonCode::Success, properties }));
    }

    fn sessions(world: &mut World) -> u64 {
        world.core().gauges().sessions
    }

    #[test]
    fn a_session_lives_as_long_as_it_was_asked_to() {
        // [MQTT5-4.1.0-1] [MQTT5-4.1.0-2] [MQTT5-3.1.2-23] [MQTT311-4.1.0-1] [MQTT311-4.1.0-2]
        let mut world = World::new();
        let (client, _) = world.connect(&keeping(50));
        world.advance(1_000);
        assert_eq!(sessions(&mut world), 1, "it stays while the connection does");
        world.drop_client(client);
        world.advance(49);
        assert_eq!(sessions(&mut world), 1);
        world.advance(2);
        assert_eq!(sessions(&mut world), 0);
        assert_eq!(world.core().metrics().get(Counter::SessionExpired), 1);
        assert!(!world.connect(&keeping(50)).1.connack().session_present);
    }

    #[test]
    fn without_an_interval_it_ends_with_the_connection() {
        // [MQTT5-4.1.0-2] [MQTT311-3.1.2-6]
        for version in Version::ALL {
            let mut world = World::new();
            let client = world.join(version, "c");
            world.drop_client(client);
            assert_eq!(sessions(&mut world), 0);
        }
    }

    #[test]
    fn the_longest_intervals_are_kept() {
        const DAY: u64 = 86_400;
        let mut world = World::new();
        let (client, _) = world.connect(&keeping(200 * 86_400));
        world.drop_client(client);
        world.advance(199 * DAY);
        assert_eq!(sessions(&mut world), 1, "longer than the wheel turns");
        world.advance(2 * DAY);
        assert_eq!(sessions(&mut world), 0);
        let (client, _) = world.connect(&keeping(NEVER_EXPIRES));
        world.drop_client(client);
        assert_eq!(world.core().next_deadline(), None);
    }

    #[test]
    fn old_versions_have_the_servers_interval_and_new_ones_its_cap() {
        let mqtt =
            Mqtt { session_expiry_interval: 20, max_session_expiry_interval: Some(40), ..Mqtt::default() };
        for (version, lives) in [(Version::V31, 20), (Version::V311, 20), (Version::V5, 40)] {
            let mut world = World::with(mqtt.clone());
            let mut asking = connect(version, "c");
            asking.clean_start = false;
            if version.is_v5() {
                asking.properties.session_expiry_interval = Some(NEVER_EXPIRES);
            }
            let (client, _) = world.connect(&asking);
            world.drop_client(client);
            world.advance(lives - 1);
            assert_eq!(sessions(&mut world), 1);
            world.advance(2);
            assert_eq!(sessions(&mut world), 0);
        }
    }

    #[test]
    fn a_goodbye_may_change_the_interval_but_not_from_zero() {
        // [MQTT5-3.1.2-23] [MQTT5-4.13.1-1]
        let mut world = World::new();
        let (client, _) = world.connect(&keeping(1_000));
        goodbye(&mut world, client, 10);
        world.advance(11);
        assert_eq!(sessions(&mut world), 0);
        let (client, _) = world.connect(&keeping(1_000));
        goodbye(&mut world, client, 0);
        assert_eq!(sessions(&mut world), 0);
        let (client, _) = world.connect(&keeping(0));
        world.heard(client);
        goodbye(&mut world, client, 10);
        assert!(world.is_closed(client));
        assert!(
            matches!(world.heard(client).only(), Packet::Disconnect(d) if d.code == ReasonCode::ProtocolError)
        );
        assert_eq!(sessions(&mut world), 0);
    }

    #[test]
    fn the_session_hook_hears_of_both_ends() {
        let (script, hooks) = Script::new(false);
        let mut world = World::with_hooks(Mqtt::default(), hooks);
        let (client, _) = world.connect(&keeping(5));
        world.drop_client(client);
        world.advance(6);
        let log = script.log();
        assert_eq!(
            log[1..],
            ["connected c clean_start=false keep_alive=0", "disconnected c unspecified_error", "ended c"]
        );
    }
}
