//! The gate: answers that wait until what they promise is on the disk, here and on the shards that were asked.
//!
//! One line per shard. An answer leaves when all before it have left, so acknowledgements keep the order of what they
//! acknowledge [MQTT5-4.6.0-2] [MQTT5-4.6.0-3] [MQTT311-4.6.0-2] [MQTT311-4.6.0-3]. One that need not wait goes at once, unless its own connection has one in
//! the line.

use std::collections::VecDeque;

use dunlin_persist::Record;
use dunlin_wire::packet::{Ack, Packet, ReasonCodes, ReasonProperties, UnsubAck};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::PacketId;

use super::Postponed;
use super::confirm::Ask;
use crate::action::{Action, Actions};
use crate::connection::{Hold, Refusal, State};
use crate::core::ShardCore;
use crate::ids::{ConnId, SessionId};
use crate::metrics::Counter;
use crate::publish::Subscribing;
use crate::session::will::DueWill;
use dunlin_wire::types::PacketType;

/// What has to be safe before an answer may be given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    /// The last record of this shard that it needs; 0: none.
    pub(super) seq: u64,
    /// What other shards were sent.
    pub(super) asks: Vec<Ask>,
    /// Part of it could not be stored.
    pub(super) is_refused: bool,
}

impl Promise {
    /// What needs this record of this shard.
    pub(crate) const fn of(seq: u64) -> Self {
        Self { seq, asks: Vec::new(), is_refused: false }
    }

    /// Only what other shards have to store.
    pub(crate) fn of_other_shards(mut self) -> Self {
        self.seq = 0;
        self
    }

    /// What needs nothing.
    pub(crate) const NONE: Self = Self::of(0);
}

/// Which of the four small packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    Ack,
    Rec,
    Rel,
    Comp,
}

/// Something that is said or done when it may be.
#[derive(Debug)]
pub(crate) enum Owed {
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        /// To whom.
        conn: ConnId,
        /// Whose exchange.
        session: SessionId,
        /// Which.
        kind: AckKind,
        /// Of what.
        packet_id: PacketId,
        /// With which reason.
        code: ReasonCode,
    },
    /// SUBACK, and retained messages after it.
    SubAck(Box<Subscribing>),
    /// UNSUBACK.
    UnsubAck {
        /// To whom.
        conn: ConnId,
        /// Of what.
        packet_id: PacketId,
        /// One per filter; none before 5.0.
        codes: Box<[ReasonCode]>,
    },
    /// CONNACK, and all that follows it.
    ConnAck {
        /// To whom.
        conn: ConnId,
        /// The session that was begun or resumed.
        session: SessionId,
        /// Whether it was resumed.
        is_resumed: bool,
        /// The packet.
        bytes: Box<[u8]>,
    },
    /// A QoS 2 PUBLISH goes to a client for the first time: its identifier is on the disk, so that it is the same after a
    /// restart.
    Transfer {
        /// To whom.
        conn: ConnId,
        /// Index of the session.
        session: u32,
        /// Under which identifier it is in the window.
        packet_id: PacketId,
    },
    /// Other shards have forgotten a QoS 2 message: its identifier is free, then PUBCOMP.
    Release {
        /// To whom.
        conn: ConnId,
        /// Whose.
        session: SessionId,
        /// Which.
        packet_id: PacketId,
    },
    /// A record that undoes what other shards now have.
    Record(Box<Record>),
    /// Other shards have a Will that was published: it is not to be published again.
    WillGone(Box<DueWill>),
    /// A client's QoS 2 message whose other takers have it: it is handed out here.
    Postponed(Box<Postponed>),
}

impl Owed {
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Ack { conn, .. }
            | Self::UnsubAck { conn, .. }
            | Self::ConnAck { conn, .. }
            | Self::Transfer { conn, .. }
            | Self::Release { conn, .. } => Some(*conn),
            Self::SubAck(work) => Some(work.conn()),
            Self::Postponed(postponed) => Some(postponed.conn()),
            Self::Record(_) | Self::WillGone(_) => None,
        }
    }
}

/// What waits in the line.
#[derive(Debug)]
pub(super) struct Gated {
    answer: Owed,
    promise: Promise,
}

/// The line. About 64 B per answer that waits; bounded by [`GATE_HIGH`] and what clients had sent when they were paused.
#[derive(Debug, Default)]
pub(super) struct Gate {
    line: VecDeque<Gated>,
    /// How many of them are for the connection in a slot. An older use of the slot counts too, which costs order nothing.
    counts: Vec<u32>,
    /// Publishers that are paused because the line is long.
    paused: Vec<ConnId>,
}

impl Gate {
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether something waits for a connection.
    fn has(&self, conn: ConnId) -> bool {
        self.counts.get(conn.slot as usize).is_some_and(|count| *count > 0)
    }

    fn push(&mut self, gated: Gated) {
        if let Some(conn) = gated.answer.conn() {
            let slot = conn.slot as usize;
            if self.counts.len() <= slot {
                self.counts.resize(slot + 1, 0);
            }
            self.counts[slot] += 1;
        }
        self.line.push_back(gated);
    }

    fn pop(&mut self) -> Option<Gated> {
        let gated = self.line.pop_front()?;
        if let Some(conn) = gated.answer.conn()
            && let Some(count) = self.counts.get_mut(conn.slot as usize)
        {
            *count = count.saturating_sub(1);
        }
        Some(gated)
    }

    /// Whether a message that came under an identifier waits for its other takers. Rare; O(what waits).
    pub(super) fn has_postponed(&self, conn: ConnId, packet_id: PacketId) -> bool {
        let is_it =
            |answer: &Owed| matches!(answer, Owed::Postponed(postponed) if postponed.is(conn, packet_id));
        self.line.iter().any(|gated| is_it(&gated.answer))
    }

    pub(super) fn promises_mut(&mut self) -> impl Iterator<Item = &mut Promise> {
        self.line.iter_mut().map(|gated| &mut gated.promise)
    }
}

/// Why an answer is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A shard that was asked had no room.
    Full,
    /// The disk has failed.
    Failed,
}

impl Failure {
    const fn code(self) -> ReasonCode {
        match self {
            Self::Full => ReasonCode::QuotaExceeded,
            Self::Failed => ReasonCode::ImplementationSpecificError,
        }
    }

    const fn refusal(self) -> Refusal {
        match self {
            Self::Full => Refusal::StoreFull,
            Self::Failed => Refusal::StoreFailed,
        }
    }
}

impl ShardCore {
    /// Begins to note what an answer will have to wait for.
    pub(crate) fn begin_promise(&mut self) {
        self.durable.promise = Promise::default();
    }

    /// What was recorded, and asked of other shards, since [`Self::begin_promise`].
    pub(crate) fn take_promise(&mut self) -> Promise {
        std::mem::take(&mut self.durable.promise)
    }

    /// Says it now, or when what it promises is safe.
    pub(crate) fn answer(&mut self, answer: Owed, promise: Promise, actions: &mut Actions) {
        let must_wait = !self.is_promise_kept(&promise);
        if must_wait && self.durable.has_failed() {
            self.answer_badly(answer, Failure::Failed, actions);
            return;
        }
        if must_wait || answer.conn().is_some_and(|conn| self.durable.gate.has(conn)) {
            self.durable.await_record(promise.seq);
            self.durable.gate.push(Gated { answer, promise });
            return;
        }
        self.settle_answer(answer, promise.is_refused, actions);
    }

    /// Whether something waits for this connection.
    pub(crate) fn has_gated(&self, conn: ConnId) -> bool {
        self.durable.gate.has(conn)
    }

    /// Says what may be said by now, to clients and to other shards.
    pub(super) fn open_gate(&mut self, actions: &mut Actions) {
        while let Some(first) = self.durable.gate.line.front() {
            if !self.is_promise_kept(&first.promise) {
                break;
            }
            if let Some(Gated { answer, promise }) = self.durable.gate.pop() {
                self.settle_answer(answer, promise.is_refused, actions);
            }
        }
        self.confirm_what_is_kept(actions);
        if self.durable.gate.len() <= GATE_LOW {
            for conn in std::mem::take(&mut self.durable.gate.paused) {
                self.release(conn, Hold::Store);
            }
        }
    }

    /// Nothing that waits for the disk will ever be true: it is denied. [MQTT5-4.3.2-4] is kept with an error.
    pub(super) fn fail_gate(&mut self, actions: &mut Actions) {
        while let Some(Gated { answer, .. }) = self.durable.gate.pop() {
            self.answer_badly(answer, Failure::Failed, actions);
        }
        self.refuse_replies(actions);
        for conn in std::mem::take(&mut self.durable.gate.paused) {
            self.release(conn, Hold::Store);
        }
    }

    /// Pauses a publisher while too many answers wait for the disk.
    pub(crate) fn pause_if_gate_is_high(&mut self, conn: ConnId, actions: &mut Actions) {
        if self.durable.gate.len() >= GATE_HIGH {
            self.durable.gate.paused.push(conn);
            self.hold(conn, Hold::Store, actions);
        }
    }

    pub(super) fn is_promise_kept(&self, promise: &Promise) -> bool {
        promise.seq <= self.durable.stored && promise.asks.iter().all(|ask| self.has_confirmed(*ask))
    }

    fn settle_answer(&mut self, answer: Owed, is_refused: bool, actions: &mut Actions) {
        if is_refused {
            self.answer_badly(answer, Failure::Full, actions);
        } else {
            self.say(answer, actions);
        }
    }

    fn say(&mut self, answer: Owed, actions: &mut Actions) {
        match answer {
            Owed::Ack { conn, kind, packet_id, code, .. } => {
                self.say_ack(conn, kind, Ack::with_code(packet_id, code), actions);
            }
            Owed::SubAck(work) => self.say_suback(*work, actions),
            Owed::UnsubAck { conn, packet_id, codes } => {
                let ack = UnsubAck {
                    packet_id,
                    properties: ReasonProperties::NONE,
                    codes: ReasonCodes::from_slice(&codes),
                };
                if self.is_live(conn) && !self.send_packet(conn, &Packet::UnsubAck(ack), actions) {
                    self.refuse(conn, Refusal::AnswerTooLarge, actions);
                }
            }
            Owed::ConnAck { conn, session, is_resumed, bytes } => {
                self.say_connack(conn, session, is_resumed, &bytes, actions);
            }
            Owed::Transfer { conn, session, packet_id } => {
                self.transfer_first(conn, session, packet_id, actions);
            }
            Owed::Release { conn, session, packet_id } => {
                self.say_released(conn, session, packet_id, actions);
            }
            Owed::Record(record) => self.record(*record, actions),
            Owed::WillGone(due) => self.record_will_gone(&due, actions),
            Owed::Postponed(postponed) => self.route_postponed(*postponed, actions),
        }
    }

    /// Sends one of the four small packets.
    pub(crate) fn say_ack(&mut self, conn: ConnId, kind: AckKind, ack: Ack<'_>, actions: &mut Actions) {
        let packet = match kind {
            AckKind::Ack => Packet::PubAck(ack),
            AckKind::Rec => Packet::PubRec(ack),
            AckKind::Rel => Packet::PubRel(ack),
            AckKind::Comp => Packet::PubComp(ack),
        };
        // [MQTT5-4.3.2-5] [MQTT5-4.3.3-9]: the identifier is free with PUBACK, and with a PUBREC that refuses.
        if kind == AckKind::Ack || (kind == AckKind::Rec && ack.code.is_error()) {
            self.return_quota(conn);
        }
        self.send_packet(conn, &packet, actions);
    }

    fn say_connack(
        &mut self,
        conn: ConnId,
        session: SessionId,
        is_resumed: bool,
        bytes: &[u8],
        actions: &mut Actions,
    ) {
        let is_waiting =
            self.connections.get(conn).is_some_and(|connection| connection.state == State::Authenticating);
        if !is_waiting {
            return;
        }
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.link.is_withheld = false;
        }
        self.begin_connected(conn);
        let start = actions.mark();
        actions.arena.extend_from_slice(bytes);
        let head = start..actions.mark();
        let length = head.end - head.start;
        actions.list.push(Action::Send { conn, head, payload: None });
        self.metrics.count_sent(PacketType::ConnAck);
        self.account_sent(conn, length);
        self.release(conn, Hold::Store);
        if is_resumed {
            self.on_session_resumed(session, actions);
        }
    }

    /// What an answer promises cannot be kept: the client hears that, never success. 3.x has no word for it and is closed.
    pub(super) fn answer_badly(&mut self, answer: Owed, failure: Failure, actions: &mut Actions) {
        match answer {
            Owed::Ack { conn, session, kind: kind @ (AckKind::Ack | AckKind::Rec), packet_id, .. } => {
                self.metrics.count(Counter::MessagesDroppedStoreFull);
                let is_v5 = self.connections.get(conn).is_some_and(|known| known.version.is_v5());
                if kind == AckKind::Rec {
                    // [MQTT5-4.3.3-9]: a refused one is through.
                    self.forget_arrival(session, packet_id, is_v5, actions);
                }
                if is_v5 {
                    self.say_ack(conn, kind, Ack::with_code(packet_id, failure.code()), actions);
                } else {
                    self.refuse(conn, failure.refusal(), actions);
                }
            }
            Owed::Ack { conn, .. } | Owed::UnsubAck { conn, .. } | Owed::Release { conn, .. } => {
                self.refuse(conn, failure.refusal(), actions);
            }
            Owed::ConnAck { conn, session, .. } => {
                // It never was connected.
                if let Some(entry) = self.sessions.get_mut(session) {
                    entry.take_will();
                }
                self.refuse(conn, failure.refusal(), actions);
            }
            Owed::SubAck(work) => self.refuse(work.conn(), failure.refusal(), actions),
            Owed::Postponed(postponed) => {
                self.durable.note_not_postponed(postponed.origin());
                if let Some(ack) = self.answer_to(&postponed) {
                    self.answer_badly(ack, failure, actions);
                }
            }
            // It stays in the window, and is sent when the session is resumed after a restart.
            Owed::Transfer { .. } => {}
            // What it undoes stays: better twice than never.
            Owed::Record(_) => {}
            Owed::WillGone(due) if failure == Failure::Full => self.on_will_refused(*due),
            // It is in the log, if its session is, and is published after the restart.
            Owed::WillGone(_) => {}
        }
    }
}

/// Answers that wait before publishers are paused: a few milliseconds of a busy shard between two syncs.
const GATE_HIGH: usize = 65_536;
/// Paused publishers go on at this length.
const GATE_LOW: usize = GATE_HIGH / 4;
