//! The same client id arrives again (§3.1.4): the old connection ends, the session goes on or is discarded.

use crate::action::Actions;
use crate::connection::{Ending, Refusal};
use crate::core::ShardCore;
use crate::ids::{ConnId, SessionId};
use crate::metrics::Counter;
use crate::session::Session;

impl ShardCore {
    /// The session for a client that was accepted: the kept one, or a new one. Also tells whether it was kept.
    ///
    /// Ends another connection of the same client first. Its Will goes out unless the session goes on and a delay
    /// remains (§MQTT5 3.1.4).
    pub(crate) fn claim_session(
        &mut self,
        client_id: &str,
        clean_start: bool,
        actions: &mut Actions,
    ) -> (SessionId, bool) {
        if let Some(conn) = self.sessions.find(client_id).and_then(|id| self.conn_attached_to(id)) {
            self.metrics.count(Counter::SessionTakenover);
            // [MQTT5-3.1.4-3] [MQTT311-3.1.4-2]
            self.refuse(conn, Refusal::TakenOver, actions);
        }
        // The old connection, or one that was already on its way out, lets go of the session now.
        self.finish_all_closing(actions);
        let found = self.sessions.find(client_id);
        match found {
            // Overdue, as after a restart: its end is only not done yet.
            Some(id) if self.is_over(id) => {
                self.metrics.count(Counter::SessionExpired);
                self.end_session(id, actions);
                (self.create_session(client_id), false)
            }
            // [MQTT5-3.1.2-5] [MQTT311-3.1.2-4]
            Some(id) if !clean_start => {
                self.disarm_session(id);
                if self.has_due_will(id) {
                    // After a restart the client may be back before the first deadline is looked at. [MQTT5-3.1.2-8]
                    self.release_will(id);
                } else if self.sessions.get_mut(id).and_then(Session::take_will).is_some() {
                    // [MQTT5-3.1.3-9]: the client is back before the delay was over.
                    self.metrics.count(Counter::WillRemoved);
                }
                self.metrics.count(Counter::SessionResumed);
                (id, true)
            }
            // [MQTT5-3.1.2-4] [MQTT5-3.1.4-4] [MQTT311-3.1.2-6] [MQTT311-3.1.4-3]
            Some(id) => {
                self.metrics.count(Counter::SessionDiscarded);
                self.end_session(id, actions);
                (self.create_session(client_id), false)
            }
            // [MQTT5-3.1.2-6]
            None => (self.create_session(client_id), false),
        }
    }

    /// Whether a CONNECT now would find a session to go on with.
    pub(crate) fn would_resume(&self, client_id: &str, clean_start: bool) -> bool {
        !clean_start
            && self.sessions.find(client_id).is_some_and(|id| {
                // With an expiry of 0 it ends with the connection that it has.
                self.sessions.get(id).is_some_and(|session| session.expiry_seconds > 0) && !self.is_over(id)
            })
    }

    /// Whether the time of a session without a connection has run out.
    fn is_over(&self, id: SessionId) -> bool {
        let is_due = |session: &Session| session.expires_at().is_some_and(|at| at <= self.now.mono);
        self.sessions.get(id).is_some_and(|session| session.conn().is_none() && is_due(session))
    }

    fn create_session(&mut self, client_id: &str) -> SessionId {
        self.metrics.count(Counter::SessionCreated);
        self.sessions.insert(Session::new(client_id))
    }

    /// The live connection of a session.
    fn conn_attached_to(&self, id: SessionId) -> Option<ConnId> {
        self.sessions.conn_of(id)
    }

    /// Forgets all connections that are closing, now.
    fn finish_all_closing(&mut self, actions: &mut Actions) {
        while let Some((conn, ending)) = self.closing.pop_front() {
            self.finish_closing(conn, ending, actions);
        }
    }

    /// Ends the connection of a client and discards its session because the control plane wants it. A session whose client is
    /// away ends too; its Will, if one waits, goes out.
    pub(crate) fn kick(&mut self, client_id: &str, actions: &mut Actions) {
        let Some(id) = self.sessions.find(client_id) else { return };
        self.metrics.count(Counter::SessionDiscarded);
        let Some(conn) = self.conn_attached_to(id) else {
            self.end_session(id, actions);
            return;
        };
        if let Some(session) = self.sessions.get_mut(id) {
            // It ends with the connection that it has.
            session.expiry_seconds = 0;
        }
        self.refuse(conn, Refusal::Kicked, actions);
    }
}

/// An ending is decided once.
const _: () = assert!(size_of::<Ending>() <= 16, "endings are passed by value");

#[cfg(test)]
mod tests {
    use dunlin_wire::packet::{Connect, Packet, Will, WillProperties};
    use dunlin_wire::reason::ReasonCode;
    use dunlin_wire::types::Version;

    use super::*;
    use crate::control::Control;
    use crate::testing::{World, connect};

    fn leaving(expiry_seconds: u32, delay_seconds: u32) -> Connect<'static> {
        let properties =
            WillProperties { will_delay_interval: Some(delay_seconds), ..WillProperties::default() };
        let will = Will { topic: "w", payload: b"gone", properties, ..Will::default() };
        let mut connect = Connect { will: Some(will), ..connect(Version::V5, "c") };
        connect.properties.session_expiry_interval = Some(expiry_seconds);
        connect
    }

    #[test]
    fn the_older_connection_of_a_client_ends() {
        // [MQTT5-3.1.4-3] [MQTT311-3.1.4-2] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2] [MQTT5-4.13.2-1]
        for version in Version::ALL {
            let mut world = World::new();
            let old = world.join(version, "c");
            let new = world.join(Version::V5, "c");
            assert!(world.is_closed(old) && !world.is_closed(new));
            let heard = world.heard(old);
            if version.is_v5() {
                assert!(
                    matches!(heard.only(), Packet::Disconnect(d) if d.code == ReasonCode::SessionTakenOver)
                );
            } else {
                assert!(heard.is_empty());
            }
            world.send(new, &Packet::PingReq);
            assert_eq!(world.heard(new).only(), Packet::PingResp);
            assert_eq!(world.core().gauges().live_connections, 1);
        }
    }

    #[test]
    fn the_will_of_the_older_connection_goes_out_unless_its_session_goes_on_and_it_is_delayed() {
        // [MQTT5-3.1.2-8] [MQTT5-3.1.2-10] [MQTT5-3.1.3-9] [MQTT311-3.1.2-8]
        for (expiry, delay, clean_start, published) in [
            (100, 0, false, 1),
            (100, 0, true, 1),
            (100, 50, false, 0),
            (100, 50, true, 1),
            (0, 0, false, 1),
            (0, 50, false, 1),
            (0, 50, true, 1),
        ] {
            let mut world = World::new();
            let (_old, _) = world.connect(&leaving(expiry, delay));
            let mut again = connect(Version::V5, "c");
            again.clean_start = clean_start;
            let (_new, heard) = world.connect(&again);
            let is_resumed = expiry > 0 && !clean_start;
            assert_eq!(heard.connack().session_present, is_resumed);
            world.advance(200);
            let count = world.core().metrics().get(Counter::WillPublished);
            assert_eq!(count, published, "expiry {expiry}, delay {delay}, clean start {clean_start}");
        }
    }

    #[test]
    fn a_storm_on_one_client_id_leaves_one_connection() {
        let mut world = World::new();
        let clients: Vec<_> = (0..500).map(|_| world.connect(&leaving(60, 0)).0).collect();
        assert_eq!(clients.iter().filter(|client| !world.is_closed(**client)).count(), 1);
        let gauges = world.core().gauges();
        assert_eq!((gauges.connections, gauges.sessions, gauges.live_connections), (1, 1, 1));
        assert_eq!(world.core().metrics().get(Counter::SessionTakenover), 499);
        assert_eq!(world.core().metrics().get(Counter::WillPublished), 499);
    }

    #[test]
    fn a_kicked_client_hears_that_somebody_wanted_it() {
        let mut world = World::new();
        let client = world.join(Version::V5, "c");
        world.control(Control::Kick { client_id: "nobody".into() });
        assert!(!world.is_closed(client));
        world.control(Control::Kick { client_id: "c".into() });
        assert!(world.is_closed(client));
        assert!(
            matches!(world.heard(client).only(), Packet::Disconnect(d) if d.code == ReasonCode::AdministrativeAction)
        );
        assert_eq!(world.core().metrics().ended(ReasonCode::AdministrativeAction), 1);
    }

    #[test]
    fn a_kick_discards_the_session_whether_its_client_is_there_or_not() {
        for is_away in [false, true] {
            let mut world = World::new();
            let (client, _) = world.connect(&leaving(100, 50));
            if is_away {
                world.drop_client(client);
            }
            assert_eq!(world.core().metrics().get(Counter::WillPublished), 0, "it is delayed");
            world.control(Control::Kick { client_id: "c".into() });
            assert!(world.is_closed(client));
            assert_eq!(world.core().gauges().sessions, 0);
            let metrics = world.core().metrics();
            // [MQTT5-3.1.2-8]: the end of the session ends the wait of its Will.
            assert_eq!(metrics.get(Counter::WillPublished), 1);
            assert_eq!(metrics.get(Counter::SessionDiscarded), 1);
            assert_eq!(metrics.get(Counter::EndedKicked), u64::from(!is_away));
            let mut again = connect(Version::V5, "c");
            again.clean_start = false;
            assert!(!world.connect(&again).1.connack().session_present);
        }
    }

    #[test]
    fn a_client_that_is_already_on_its_way_out_is_no_obstacle() {
        let mut world = World::new();
        let old = world.join(Version::V5, "c");
        let conn = world.conn(old);
        let mut actions = Actions::default();
        world.core().refuse(conn, Refusal::Kicked, &mut actions);
        // Not settled yet: the old connection still holds the session when the new one claims it.
        let (session, is_resumed) = world.core().claim_session("c", false, &mut actions);
        assert!(!is_resumed);
        assert!(world.core().sessions.conn_of(session).is_none());
        assert_eq!(world.core().gauges().connections, 0);
    }
}
