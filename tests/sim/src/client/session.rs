//! The session from the client's side: how it begins and ends, and what becomes of its Will.

use dunlin_wire::QoS;

use super::{Client, State};
use crate::log::{Epoch, Log, Publication, WillFate};
use crate::world::Fall;

impl Client {
    /// The connection is gone, for whatever reason.
    pub(crate) fn lost(&mut self, log: &mut Log) {
        if self.state == State::Up {
            self.settle_will(WillFate::Due, log);
        }
        self.will = None;
        self.state = State::Down;
        self.link = None;
        self.buffer.clear();
        self.held.clear();
        self.subscribing.clear();
        self.unsubscribing.clear();
        self.aliases_in.clear();
        self.aliases_out.clear();
        self.inbound.retain(|_, (_, qos)| *qos == QoS::ExactlyOnce);
        let taken = &self.taken;
        self.inbound.retain(|id, _| taken.contains(id));
        if !self.persistent || self.session_is_gone {
            self.give_up_session(log);
        }
    }

    /// The broker's process has ended. What it did not say to this client may have come to pass or not.
    pub(crate) fn broker_fell(&mut self, fall: Fall, log: &mut Log) {
        if fall.forgets_sessions && self.epoch.is_some() {
            self.session_is_gone = true;
            if self.state == State::Down {
                self.give_up_session(log);
            }
        }
        // A CONNACK or an end may be on its way; what the client does from now on reaches nobody.
        let is_known =
            self.state == State::Up && (fall.is_graceful || (self.persistent && !fall.forgets_sessions));
        self.settle_will(if is_known { WillFate::Due } else { WillFate::Unknown }, log);
        for (index, publication) in log.publications.iter_mut().enumerate() {
            if publication.publisher != self.index {
                continue;
            }
            // A Will that waited for room was in memory only, unless it was the last of a session that is kept.
            let is_kept = self.persistent && !fall.forgets_sessions && self.last_will == Some(index);
            let is_open = match publication.will {
                // Whether DISCONNECT came in time and was recorded, nobody has said.
                Some(WillFate::Removed) => true,
                Some(WillFate::Due) => {
                    let forgets = !self.persistent || fall.forgets_sessions;
                    (!fall.is_graceful && forgets) || (fall.was_refusing && !is_kept)
                }
                Some(WillFate::Unknown) | None => false,
            };
            if is_open {
                publication.will = Some(WillFate::Unknown);
            }
        }
    }

    pub(super) fn give_up_session(&mut self, log: &mut Log) {
        self.session_is_gone = false;
        if let Some(epoch) = self.epoch.take() {
            self.end_epoch(epoch, log);
        }
    }

    /// Whether the broker has promised to keep this session.
    pub(super) fn expects_session(&self, log: &Log) -> bool {
        self.persistent && self.epoch.is_some_and(|epoch| log.epochs[epoch].begun_at.is_some())
    }

    /// The operator discards the session and ends the connection, as soon as the broker hears of it: nothing is promised for this
    /// session any more.
    pub(crate) fn be_kicked(&self, log: &mut Log) {
        if let Some(epoch) = self.epoch {
            log.epochs[epoch].ended = true;
        }
    }

    /// Whether the session that the client has is one that the operator discards.
    pub(super) fn was_kicked(&self, log: &Log) -> bool {
        self.epoch.is_some_and(|epoch| log.epochs[epoch].ended)
    }

    pub(super) fn begin_epoch(&mut self, log: &mut Log) {
        if let Some(epoch) = self.epoch.take() {
            self.end_epoch(epoch, log);
        }
        self.epoch = Some(log.epochs.len());
        let asked_at = log.moment();
        log.epochs.push(Epoch {
            client: self.index,
            persistent: self.persistent,
            asked_at,
            begun_at: None,
            is_v5: self.version.is_v5(),
            ended: false,
            packet_bytes_max: self.packet_bytes_max.unwrap_or(u32::MAX) as usize,
        });
    }

    pub(super) fn end_epoch(&mut self, epoch: usize, log: &mut Log) {
        log.epochs[epoch].ended = true;
        self.filters.clear();
        self.out.clear();
        self.inbound.clear();
        self.taken.clear();
        self.held.clear();
        self.subscribing.clear();
        self.unsubscribing.clear();
    }

    pub(super) fn leave_will(&mut self, qos: QoS, log: &mut Log) -> (usize, QoS) {
        let index = log.publications.len();
        let sent_at = log.moment();
        log.publications.push(Publication {
            publisher: self.index,
            topic: format!("will/{}", self.index),
            qos,
            retain: false,
            sent_at,
            is_repeated: false,
            is_repeated_anew: false,
            acked_at: None,
            payload_bytes: index.to_string().len(),
            will: Some(WillFate::Unknown),
        });
        self.will = Some(index);
        (index, qos)
    }

    pub(super) fn settle_will(&mut self, fate: WillFate, log: &mut Log) {
        if let Some(index) = self.will.take() {
            log.publications[index].will = Some(fate);
        }
    }
}
