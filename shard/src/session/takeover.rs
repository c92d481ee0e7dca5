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
            // [MQTT5-3.1.2-5] [MQTT311-3.1.2-4]
            Some(id) if !clean_start => {
                self.disarm_session(id);
                // [MQTT5-3.1.3-9]: the client is back before the delay was over.
                if self.sessions.get_mut(id).and_then(Session::take_will).is_some() {
                    self.metrics.count(Counter::WillRemoved);
                }
                self.metrics.count(Counter::SessionResumed);
                (id, true)
            }
            // [MQTT5-3.1.2-4] [MQTT5-3.1.4-4] [MQTT311-3.1.2-6]
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
            && self.sessions.find(client_id).and_then(|id| self.sessions.get(id)).is_some_and(|session| {
                // With an expiry of 0 it ends with the connection that it has.
                session.expiry_seconds > 0
            })
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

    /// Ends the connection of a client because the control plane wants it.
    pub(crate) fn kick(&mut self, client_id: &str, actions: &mut Actions) {
        if let Some(conn) = self.sessions.find(client_id).and_then(|id| self.conn_attached_to(id)) {
            self.refuse(conn, Refusal::Kicked, actions);
        }
    }
}

/// An ending is decided once.
const _: () = assert!(size_of::<Ending>() <= 16, "endings are passed by value");
