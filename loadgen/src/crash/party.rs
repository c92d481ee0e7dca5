//! A client across all its connections: what it must remember as the standard asks, and where it stands.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use dunlin_wire::packet::{Connect, ConnectProperties, Will, WillProperties};
use dunlin_wire::{PacketId, QoS, Version};

use super::absence::Absence;
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
    pub(crate) absence: Absence,
    /// When its last CONNECT was sent.
    pub(crate) greeted_at: Nanos,
    /// The number of the Will that the broker has for certain and must publish, unless the client says goodbye or is back in time.
    pub(crate) will: Option<u32>,
    /// The number of the Will that a goodbye has just taken back.
    pub(crate) parting_will: Option<u32>,
    /// The number of the Will in a CONNECT that has no answer yet.
    pub(crate) next_will: Option<u32>,
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
    /// It has said goodbye and waits for the broker to close, which shows that the broker has heard it.
    Parting,
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
    /// The subscription was acknowledged before.
    pub(crate) stood: bool,
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
    /// Is there when the broker is killed, and stays away for some cycles.
    Outlast,
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
            absence: Absence::None,
            greeted_at: Nanos::default(),
            will: None,
            parting_will: None,
            next_will: None,
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

    /// Appends its CONNECT, with this topic, payload and QoS in its Will if it has one.
    pub(crate) fn greet(&mut self, will: Option<(&str, &[u8], QoS)>, out: &mut Vec<u8>) {
        let is_new = self.role.version == Version::V5;
        let delay = self.role.will.map(|plan| plan.delay_seconds).filter(|delay| is_new && *delay > 0);
        let properties = WillProperties { will_delay_interval: delay, ..WillProperties::default() };
        let connect = Connect {
            version: self.role.version,
            bridge: false,
            clean_start: self.renews,
            keep_alive_seconds: 0,
            client_id: &self.role.client_id,
            will: will.map(|(topic, payload, qos)| Will { qos, retain: false, topic, payload, properties }),
            user_name: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: is_new.then_some(self.role.expiry_seconds),
                receive_maximum: self.role.receive_maximum.filter(|_| is_new).and_then(NonZeroU16::new),
                ..ConnectProperties::default()
            },
        };
        self.client.greet(&connect, out).expect("no password is sent, and Wills are small");
    }

    /// Whether its session ends while the run lasts.
    pub(crate) const fn is_mortal(&self) -> bool {
        matches!(self.role.version, Version::V5) && self.role.expiry_seconds < RUN_SECONDS
    }

    /// A ticket for a message that goes out now.
    pub(crate) fn take_ticket(&mut self, route: RouteId, number: u32) -> u32 {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.under_way.insert(ticket, (route, number));
        ticket
    }

    /// The connection that it spoke on is gone, or is no longer listened to; it ended at the `earliest` then, and the broker
    /// knows at the `latest` then.
    pub(crate) fn detach(&mut self, earliest: Nanos, latest: Option<Nanos>) {
        match self.phase {
            Phase::Present => self.absence = Absence::Since { earliest, latest },
            Phase::Greeting => {
                // Whatever the broker made of that CONNECT: what became of either Will is open.
                self.absence = Absence::Unclear;
                self.next_will = None;
                self.will = None;
            }
            Phase::Absent | Phase::Opening => {}
        }
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
        let FilterState { wanted, standing } = self.filters[filter];
        Some(Asking { filter, subscribes: wanted, stood: standing == Known::Yes })
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

/// Sessions that are to live for longer never end by their expiry.
const RUN_SECONDS: u32 = 3_600;
