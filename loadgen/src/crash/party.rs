//! A client across all its connections: what it must remember as the standard asks, and where it stands.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use dunlin_wire::packet::{Connect, ConnectProperties};
use dunlin_wire::{PacketId, Version};

use super::cast::{Role, RouteId};
use crate::client::Client;
use crate::clock::Nanos;

/// One client.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) role: Role,
    /// Packet ids and exchanges: kept while connections and brokers come and go.
    pub(crate) client: Client,
    pub(crate) phase: Phase,
    /// Its two connections; a takeover needs both.
    pub(crate) sides: [Side; 2],
    /// Which of them it speaks on.
    pub(crate) front: usize,
    /// Whether it wants to be connected.
    pub(crate) online: bool,
    /// Whether its next CONNECT ends the session that it has.
    pub(crate) renews: bool,
    /// What the books said when that CONNECT was sent.
    pub(crate) bounds: Vec<u32>,
    pub(crate) session: Known,
    /// By filter.
    pub(crate) filters: Vec<FilterState>,
    /// The SUBSCRIBE or UNSUBSCRIBE that has no answer yet.
    pub(crate) asking: Option<Asking>,
    /// Messages that the broker has not taken over, by ticket.
    pub(crate) under_way: BTreeMap<u32, (RouteId, u32)>,
    next_ticket: u32,
    pub(crate) retry_at: Nanos,
    /// What it does of its own accord in this cycle, and when.
    pub(crate) act: Option<(Nanos, Act)>,
    /// From then on nothing reaches it, until its connection ends: the network fails a moment before the broker.
    pub(crate) deaf_from: Option<Nanos>,
    /// The cycle in which a client that has left comes back.
    pub(crate) back_in: u32,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Absent,
    /// A socket is being opened.
    Opening,
    /// CONNECT is sent.
    Greeting,
    /// CONNACK has come.
    Present,
}

/// What one of its connections is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Free,
    Opening,
    Open,
    /// Taken over by the other one: the broker has to close it.
    Abandoned,
    Closing,
}

/// Whether the broker has a session of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    No,
    /// A CONNECT had no answer.
    Doubtful,
    /// It was acknowledged.
    Yes,
}

/// A subscription as this client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterState {
    pub(crate) wanted: bool,
    pub(crate) standing: Known,
}

/// A packet that awaits its SUBACK or UNSUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    pub(crate) filter: usize,
    pub(crate) subscribes: bool,
}

/// What a client does of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Connects a second time without ending the first connection.
    TakeOver,
    /// Closes its socket and comes back.
    Drop,
    /// Says goodbye, and comes back after some cycles.
    Leave,
    /// Closes its socket, and comes back after some cycles.
    Vanish,
    /// Changes its mind about this filter.
    Toggle(usize),
    /// Closes its socket, and comes back after some cycles with a clean start.
    Renew,
}

impl Party {
    /// A client that has never connected.
    pub(crate) fn new(role: Role) -> Self {
        let filters = role.filters.iter().map(|_| FilterState { wanted: true, standing: Known::No });
        Self {
            client: Client::new(role.version),
            phase: Phase::Absent,
            sides: [Side::Free; 2],
            front: 0,
            online: true,
            renews: false,
            bounds: Vec::new(),
            session: Known::No,
            filters: filters.collect(),
            asking: None,
            under_way: BTreeMap::new(),
            next_ticket: 0,
            retry_at: Nanos::default(),
            act: None,
            deaf_from: None,
            back_in: 0,
            role,
        }
    }

    /// Appends its CONNECT. Sessions outlive connections by a day, in 3.1.1 without an end.
    pub(crate) fn greet(&mut self, out: &mut Vec<u8>) {
        let is_new = self.role.version == Version::V5;
        let connect = Connect {
            version: self.role.version,
            bridge: false,
            clean_start: self.renews,
            keep_alive_seconds: 0,
            client_id: &self.role.client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: is_new.then_some(SESSION_EXPIRY_SECONDS),
                receive_maximum: self.role.receive_maximum.filter(|_| is_new).and_then(NonZeroU16::new),
                ..ConnectProperties::default()
            },
        };
        self.client.greet(&connect, out).expect("neither a will nor a password is sent");
    }

    /// A ticket for a message that goes out now.
    pub(crate) fn take_ticket(&mut self, route: RouteId, number: u32) -> u32 {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.under_way.insert(ticket, (route, number));
        ticket
    }

    /// The connection that it spoke on is gone, or is no longer listened to.
    pub(crate) fn detach(&mut self) {
        self.phase = Phase::Absent;
        if let Some(asking) = self.asking.take() {
            self.filters[asking.filter].standing = Known::Doubtful;
        }
    }

    /// The side that carries nothing at the moment.
    pub(crate) fn free_side(&self) -> Option<usize> {
        self.sides.iter().position(|side| *side == Side::Free)
    }

    /// A filter about which client and broker do not agree yet.
    pub(crate) fn next_question(&self) -> Option<Asking> {
        let undecided = |state: &FilterState| match state.standing {
            Known::Doubtful => true,
            Known::Yes => !state.wanted,
            Known::No => state.wanted,
        };
        let filter = self.filters.iter().position(undecided)?;
        Some(Asking { filter, subscribes: self.filters[filter].wanted })
    }

    /// What has to be sent again after a reconnect: packet id, message or (`None`) only its PUBREL.
    pub(crate) fn unfinished(&self) -> Vec<(PacketId, Option<(RouteId, u32)>)> {
        let messages = self.client.unfinished().into_iter();
        messages
            .map(|one| {
                let message = self.under_way.get(&one.ticket).copied();
                (one.id, message.filter(|_| one.message))
            })
            .collect()
    }

    /// Whether it is there, with nothing open between it and the broker.
    pub(crate) fn is_quiet(&self) -> bool {
        self.phase == Phase::Present
            && self.under_way.is_empty()
            && self.asking.is_none()
            && self.next_question().is_none()
    }
}

/// A day.
const SESSION_EXPIRY_SECONDS: u32 = 86_400;
