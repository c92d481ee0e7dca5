//! From a quick command to the run that it asks for.

use super::traffic::{self, Pacing};
use super::{KEEP_ALIVE_SECONDS, RunError, Settings, connect, cycle, drain, fill, retained, subscribe};
use crate::cli::{Message, PacingArgs, RetainedPhase, Scenario};
use crate::clock::nanoseconds;
use crate::record::Watch;
use crate::report::Report;
use crate::topology::{Shape, Topology};

/// A run that a quick command asks for.
#[derive(Clone, Debug)]
pub(crate) enum Quick {
    /// Messages from senders to receivers.
    Traffic(traffic::Plan),
    /// Connections that come and go.
    Connect(connect::Plan),
    /// Sessions that are left behind.
    Fill(fill::Plan),
    /// Sessions that come back.
    Drain(fill::Stock),
    /// Rounds of connections.
    Cycle(cycle::Plan),
    /// Retained messages.
    Retained(retained::Plan),
    /// Subscriptions.
    Subscribe(subscribe::Plan),
}

impl Quick {
    /// What a command line asks for.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        match *scenario {
            Scenario::Idle { connections, keep_alive, rate, settle, message } => {
                let senders = u32::from(rate > 0);
                let topology = Topology { shape: Shape::Own, senders, receivers: connections };
                let pacing =
                    if rate > 0 { Pacing::Open { per_second: rate, spin: false } } else { Pacing::Silent };
                Self::Traffic(traffic::Plan {
                    keep_alive_seconds: keep_alive,
                    settle_ns: nanoseconds(settle),
                    ..plan("idle", topology, pacing, message)
                })
            }
            Scenario::P2p { pairs, pacing, sessions, message } => {
                let topology = Topology { shape: Shape::Pairs, senders: pairs, receivers: pairs };
                Self::Traffic(plan("p2p", topology, pace(pacing), message).durable(sessions.durable))
            }
            Scenario::Fanin { publishers, pacing, sessions, message } => {
                let topology = Topology { shape: Shape::FanIn, senders: publishers, receivers: 1 };
                Self::Traffic(plan("fanin", topology, pace(pacing), message).durable(sessions.durable))
            }
            Scenario::Fanout { subscribers, pacing, sessions, message } => {
                let topology = Topology { shape: Shape::FanOut, senders: 1, receivers: subscribers };
                Self::Traffic(plan("fanout", topology, pace(pacing), message).durable(sessions.durable))
            }
            Scenario::Shared { publishers, subscribers, pacing, message } => {
                let topology = Topology { shape: Shape::Shared, senders: publishers, receivers: subscribers };
                Self::Traffic(plan("shared", topology, pace(pacing), message))
            }
            Scenario::Wild { clients, filters, publishers, pacing, message } => {
                let topology =
                    Topology { shape: Shape::Wild { filters }, senders: publishers, receivers: clients };
                Self::Traffic(plan("wild", topology, pace(pacing), message))
            }
            Scenario::Lat { pairs, rate, sleep, sessions, message } => {
                let topology = Topology { shape: Shape::Pairs, senders: pairs, receivers: pairs };
                let pacing = Pacing::Open { per_second: rate, spin: !sleep };
                Self::Traffic(plan("lat", topology, pacing, message).durable(sessions.durable))
            }
            Scenario::Connect { rate } => Self::Connect(connect::Plan { per_second: rate }),
            Scenario::Fill { stock, window } => Self::Fill(fill::Plan { stock: stock.of(), window }),
            Scenario::Drain { stock } => Self::Drain(stock.of()),
            Scenario::Cycle { connections, rounds, settle } => {
                Self::Cycle(cycle::Plan { connections, rounds, settle_ns: nanoseconds(settle) })
            }
            Scenario::Retained { publishers, topics, subscribers, window, measure, message } => {
                Self::Retained(retained::Plan {
                    publishers,
                    topics,
                    subscribers,
                    window,
                    qos: message.qos.into(),
                    payload_bytes: message.payload,
                    measures_store: matches!(measure, RetainedPhase::Store),
                })
            }
            Scenario::Subscribe { clients, filters, per_packet, keep, qos } => {
                Self::Subscribe(subscribe::Plan {
                    clients,
                    filters,
                    per_packet: per_packet.max(1),
                    qos: qos.into(),
                    unsubscribe: !keep,
                })
            }
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// When that was not possible; what the broker did wrong is in the report.
    pub(crate) fn run(self, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
        match self {
            Self::Traffic(plan) => traffic::run(plan, settings, watch),
            Self::Connect(plan) => connect::run(plan, settings, watch),
            Self::Fill(plan) => fill::run(plan, settings, watch),
            Self::Drain(stock) => drain::run(stock, settings, watch),
            Self::Cycle(plan) => cycle::run(plan, settings, watch),
            Self::Retained(plan) => retained::run(plan, settings, watch),
            Self::Subscribe(plan) => subscribe::run(plan, settings, watch),
        }
    }
}

fn plan(name: &'static str, topology: Topology, pacing: Pacing, message: Message) -> traffic::Plan {
    traffic::Plan {
        name,
        topology,
        pacing,
        qos: message.qos.into(),
        payload_bytes: message.payload,
        keep_alive_seconds: KEEP_ALIVE_SECONDS,
        durable: false,
        settle_ns: 0,
    }
}

const fn pace(arguments: PacingArgs) -> Pacing {
    match arguments.rate {
        Some(per_second) => Pacing::Open { per_second, spin: arguments.spin },
        None => Pacing::Closed { window: arguments.window, spin: arguments.spin },
    }
}
