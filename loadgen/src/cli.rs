//! The command line.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dunlin_wire::{QoS, Version};

use crate::crash::CrashArgs;
use crate::hosts::port::PortChoice;
use crate::hosts::proxy::{ProxyHeader, ProxyVersion};
use crate::hosts::route::RoutePlan;
use crate::hosts::source::Block;
use crate::lab::{LossPolicy, Share};
use crate::output::{MergeArgs, OutputArgs, ReportArgs};
use crate::plan::PlanArgs;
use crate::scenario::fill::Stock;
use crate::search::arguments::SearchCommand;
use crate::transport::{Endpoint, Transport};

/// An MQTT load generator that checks what it receives.
///
/// Each scenario connects, warms up, measures for a while, and then waits for what is still under way. Every
/// payload carries its run, sender, sequence and intended sending time with a checksum, so losses, duplicates,
/// changes of order, wrong recipients and damage are counted; any of them makes the exit code 1. An exit code
/// of 2 means that the run could not be carried out.
#[derive(Debug, Parser)]
#[command(name = "dunlin-loadgen", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) settings: RunArgs,
}

const EXAMPLES: &str = "\
Examples:
  1,000 pairs, one QoS 1 message under way in each, against a broker whose processor time is read:
      dunlin-loadgen p2p --qos 1 --broker-pid $(pidof mosquitto) --core 1
  the same pairs at a fixed 20,000 messages per second, latency from the intended time:
      dunlin-loadgen p2p --rate 20000
  50,000 idle MQTT 5 connections from many local addresses, for a minute:
      dunlin-loadgen idle --connections 50000 --mqtt 5 --source 127.1.0.0/16 --seconds 60";

/// Options of all scenarios.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) way: WayArgs,
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// MQTT version of all clients.
    #[arg(long, global = true, default_value = "3.1.1", value_name = "VERSION")]
    pub(crate) mqtt: MqttVersion,
    /// Talk to the floor tool (`dunlin-perf floor`) instead of a broker.
    #[arg(long, global = true)]
    pub(crate) floor: bool,
    /// Seconds measured.
    #[arg(long, global = true, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Seconds before measuring begins.
    #[arg(long, global = true, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Core to run on.
    #[arg(long, global = true)]
    pub(crate) core: Option<usize>,
    /// Process id of the broker: its processor time and memory are read from /proc.
    #[arg(long, global = true, value_name = "PID")]
    pub(crate) broker_pid: Option<u32>,
    /// Connections per io_uring at most; a ring's table holds no more than RLIMIT_NOFILE.
    #[arg(long, global = true, default_value_t = crate::engine::PER_RING)]
    pub(crate) per_ring: u32,
    /// Connections under way at the same time while connecting.
    #[arg(long, global = true, default_value_t = 64)]
    pub(crate) concurrency: u32,
    /// Seconds without progress after which set-up is given up.
    #[arg(long, global = true, default_value_t = 10)]
    pub(crate) patience: u64,
    /// Seed of everything that is left to chance.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Print one JSON object instead of the table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Several hosts as one generator.
#[derive(Clone, Debug, Args)]
pub(crate) struct LabArgs {
    /// Run on these agents (`dunlin-loadgen agent`) instead of here, with an equal share of clients and rate on each.
    ///
    /// For `run` and the quick commands. The clients of an agent are a world for themselves, so each latency is measured
    /// with one clock.
    #[arg(long, global = true, value_name = "HOST:PORT", value_delimiter = ',', value_parser = agent)]
    pub(crate) agents: Vec<SocketAddr>,
    /// File with the token that coordinator and agents share; needed beyond the loopback device.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,
    /// What becomes of the run when an agent is lost.
    #[arg(long, global = true, default_value = "end", value_name = "POLICY")]
    pub(crate) on_agent_loss: LossPolicy,
    /// Run one of several equal parts, such as 2/4, with its topics below a level of their own.
    #[arg(long, global = true, value_name = "PART")]
    pub(crate) share: Option<Share>,
}

/// Where connections go to and come from.
#[derive(Clone, Debug, Args)]
pub(crate) struct WayArgs {
    /// Where the broker listens: mqtt://host:port, host:port, host, or host:first-last for several ports.
    ///
    /// Given several times or as a list, connections are spread evenly over all addresses.
    #[arg(long, global = true, default_value = "127.0.0.1:1883", value_name = "ENDPOINT", value_delimiter = ',', value_parser = Endpoint::parse)]
    pub(crate) target: Vec<Endpoint>,
    /// Local addresses to connect from: 10.0.0.5, 10.0.0.5-10.0.0.80, 127.1.0.0/16, 2001:db8::/64, or a list.
    ///
    /// One local address gives at most 28,000 connections to one port with the kernel's default settings, and
    /// 64,511 with --ports 1024-65535. All of 127.0.0.0/8 can be used on the loopback device.
    #[arg(long, global = true, value_name = "ADDRESSES", value_delimiter = ',')]
    pub(crate) source: Vec<Block>,
    /// Who chooses local ports: `kernel`, or the generator from `ephemeral` (the kernel's range) or a range.
    ///
    /// The kernel searches longer the fuller its range is. The generator walks through all combinations of
    /// source and port in turn, passes over those in use, and uses every one. The kernel does not hand out ports that
    /// are bound so to other programs of this host; 1024-32767 leaves it its own range.
    #[arg(long, global = true, default_value = "kernel", value_name = "PORTS")]
    pub(crate) ports: PortChoice,
    /// Connections per local address and destination at most [default: 3500 where the kernel chooses ports].
    #[arg(long, global = true)]
    pub(crate) per_source: Option<u32>,
    /// Bind local addresses that no interface has (IP_FREEBIND); answers must be routed to this host.
    #[arg(long, global = true)]
    pub(crate) free_bind: bool,
    /// Do not ask before a run of 1,000 connections or more whether this host can open them (see `preflight`).
    #[arg(long, global = true)]
    pub(crate) no_preflight: bool,
    /// Begin each connection with a PROXY header, as from a load balancer, that names a made-up client.
    #[arg(long, global = true, value_name = "VERSION")]
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// Addresses of the made-up clients, as for --source [default: 198.18.0.0/15, 2001:2::/48].
    #[arg(long, global = true, value_name = "ADDRESSES", value_delimiter = ',', requires = "proxy_protocol")]
    pub(crate) proxy_clients: Vec<Block>,
}

impl WayArgs {
    /// The ways that are asked for.
    pub(crate) fn route(&self) -> RoutePlan {
        RoutePlan {
            targets: self.target.iter().flat_map(|endpoint| endpoint.addresses.iter().copied()).collect(),
            sources: self.source.clone(),
            ports: self.ports,
            per_source: self.per_source,
            free_bind: self.free_bind,
            unchecked: self.no_preflight,
        }
    }

    /// What carries the clients' bytes.
    pub(crate) fn transport(&self) -> Transport {
        match self.proxy_protocol {
            None => Transport::Tcp,
            Some(version) => Transport::ProxiedTcp(ProxyHeader::new(version, &self.proxy_clients)),
        }
    }
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the scenarios that the program brings along, or print the file of one.
    Scenarios {
        /// Print the file of this one: a good beginning for one of your own.
        name: Option<String>,
    },
    /// Check a scenario file and say in plain words what it will do. Nothing is sent.
    ///
    /// Prints the groups and what they send and receive, messages per second in and out at each stage, the deliveries
    /// that are expected, and the connections, addresses, memory and time that it needs.
    Explain(PlanArgs),
    #[command(flatten)]
    Quick(Scenario),
    /// Run a scenario file, or a scenario of the library.
    ///
    /// The file says which clients there are, what they do, and what is verified. The exit code is 0 when everything
    /// was accounted for, 1 when something went wrong, 2 when the run could not be carried out, and 3 when nothing
    /// went wrong but the generator itself was the limit.
    Run(PlanArgs),
    /// Watch a broker (--broker-pid) for --seconds without any load: what the kernel knows of it and of the host.
    ///
    /// Processor time of all threads, memory, switches, faults, open files; its cgroup, if it has one of its own; sockets
    /// and the memory of the kernel for them; drops, retransmits and overflows; each core; energy, where it can be read.
    Observe,
    /// Wait for coordinators (a run with --agents) and run what they ask for, until killed.
    ///
    /// One coordinator at a time. Its run is ended when it falls silent. Coordinator and agents must be of the same
    /// version, and have the same --token FILE unless all of it happens on the loopback device. With --prometheus each
    /// run serves its figures there while it is under way.
    Agent {
        /// Where to listen; port 0 takes a free one, which is printed.
        #[arg(long, default_value = "127.0.0.1:7883", value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
    /// Tell how many connections this host can open, what stops it first, and what to change.
    ///
    /// Reads the limits of this host and process from /proc and opens nothing. The exit code is 0 if the
    /// connections can be opened and 1 if not. Give it the same --source, --ports and --target as the run.
    Preflight {
        /// Connections at the same time.
        #[arg(long, short = 'n', default_value_t = 100_000)]
        connections: u32,
    },
    /// Hold very many MQTT 5 clients with sessions of their own, then let some of them fall and come back.
    ///
    /// Connects all, holds them for --seconds with keep-alives and a stream of QoS 0 and QoS 1 messages to clients at random,
    /// closes the sockets of --storm of them at once and waits until they are back. Every message, keep-alive and session
    /// is accounted for. Needs some 120 bytes of the generator's memory and 7 KB of the kernel's per connection (both
    /// ends). Prints its report, as JSON, before the connections are closed: with millions of them that takes minutes.
    Hold(HoldArgs),
    /// Start a broker, kill it (SIGKILL) under load again and again, and account for every acknowledged message.
    ///
    /// Works with every broker of MQTT 3.1.1 and 5.0: it is told the command that starts it. Clients of both versions
    /// publish at QoS 1 and 2 to durable subscribers that stay, leave, return, are taken over, unsubscribe and begin anew; after
    /// each restart they resume with packet ids of their own and DUP, as the standard asks. Ends only the process that it started.
    Crash(CrashArgs),
    /// Search over several runs: the highest rate that keeps a latency, the knee of a curve, a long soak.
    #[command(subcommand)]
    Search(SearchCommand),
    /// Make reports of runs that are over: a table, a page with plots, CSV, Markdown; several runs side by side.
    Report(ReportArgs),
    /// Join the parts of a run, from several generators or hosts, without losing a sample.
    Merge(MergeArgs),
}

/// Options of `hold`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct HoldArgs {
    /// Connections.
    #[arg(long, short = 'n', default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=16_000_000))]
    pub(crate) connections: u32,
    /// Keep Alive in seconds; 0 turns it off.
    #[arg(long, default_value_t = 300)]
    pub(crate) keep_alive: u16,
    /// Messages per second, half of them QoS 0 and half QoS 1.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rate: u64,
    /// Bytes of payload, at least 32.
    #[arg(long, default_value_t = 128, value_parser = payload_bytes)]
    pub(crate) payload: usize,
    /// Clients that fall at the end; fewer than there are.
    #[arg(long, default_value_t = 0)]
    pub(crate) storm: u32,
    /// Seconds to wait before memory is read.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) settle: f64,
}

/// What the connections do, in the quick commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Connect many clients, each with a subscription of its own, and hold them.
    ///
    /// Keep-alives are sent; with --rate messages go to clients at random. Memory of the broker and of the
    /// kernel per connection is printed (with --broker-pid).
    Idle {
        /// Connections.
        #[arg(long, short = 'n', default_value_t = 10_000)]
        connections: u32,
        /// Keep Alive in seconds; 0 turns it off.
        #[arg(long, default_value_t = 60)]
        keep_alive: u16,
        /// Messages per second to clients at random.
        #[arg(long, default_value_t = 0)]
        rate: u64,
        /// Seconds to wait before memory is read.
        #[arg(long, default_value_t = 2.0, value_parser = seconds)]
        settle: f64,
        #[command(flatten)]
        message: Message,
    },
    /// Pairs of a publisher and a subscriber, each on its own topic.
    P2p {
        /// Pairs.
        #[arg(long, short = 'n', default_value_t = 1_000)]
        pairs: u32,
        #[command(flatten)]
        pacing: PacingArgs,
        #[command(flatten)]
        sessions: SessionArgs,
        #[command(flatten)]
        message: Message,
    },
    /// Many publishers to one subscriber of `fi/#`.
    Fanin {
        /// Publishers.
        #[arg(long, short = 'n', default_value_t = 1_000)]
        publishers: u32,
        #[command(flatten)]
        pacing: PacingArgs,
        #[command(flatten)]
        sessions: SessionArgs,
        #[command(flatten)]
        message: Message,
    },
    /// One publisher to many subscribers; a message is done when all have it.
    Fanout {
        /// Subscribers.
        #[arg(long, short = 'n', default_value_t = 1_000)]
        subscribers: u32,
        #[command(flatten)]
        pacing: PacingArgs,
        #[command(flatten)]
        sessions: SessionArgs,
        #[command(flatten)]
        message: Message,
    },
    /// Many publishers to the members of one shared subscription, `$share/g/sh/#`; each message reaches exactly one.
    Shared {
        /// Publishers.
        #[arg(long, short = 'n', default_value_t = 1_000)]
        publishers: u32,
        /// Members of the group.
        #[arg(long, default_value_t = 50)]
        subscribers: u32,
        #[command(flatten)]
        pacing: PacingArgs,
        #[command(flatten)]
        message: Message,
    },
    /// Store a retained message on each of many topics (QoS 1), twice, then hand them out to new subscribers of `keep/#`.
    ///
    /// They are removed afterwards. --qos is what the subscribers ask for.
    Retained {
        /// Clients that store.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        publishers: u32,
        /// Topics of each.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        topics: u32,
        /// Clients that subscribe to all topics.
        #[arg(long, short = 'n', default_value_t = 50)]
        subscribers: u32,
        /// Messages that each publisher keeps under way.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_535))]
        window: u32,
        /// Which of the two the figures are of.
        #[arg(long, default_value = "replay")]
        measure: RetainedPhase,
        #[command(flatten)]
        message: Message,
    },
    /// Clients with many wildcard filters; each message matches exactly one filter of one client.
    ///
    /// Thirds of the filters look like site/N/+/temp, +/dev/N/# and fleet/+/N/state.
    Wild {
        /// Clients that subscribe.
        #[arg(long, short = 'n', default_value_t = 100)]
        clients: u32,
        /// Filters per client.
        #[arg(long, default_value_t = 1_000)]
        filters: u32,
        /// Clients that publish.
        #[arg(long, default_value_t = 100)]
        publishers: u32,
        #[command(flatten)]
        pacing: PacingArgs,
        #[command(flatten)]
        message: Message,
    },
    /// Connect, wait for CONNACK, close, again and again; --concurrency at a time.
    Connect {
        /// Connections per second; as many as possible when absent.
        #[arg(long)]
        rate: Option<u64>,
    },
    /// Connect many clients with a subscription each, close them all, again and again.
    ///
    /// Prints what the broker keeps after each round (with --broker-pid).
    Cycle {
        /// Connections of a round.
        #[arg(long, short = 'n', default_value_t = 10_000)]
        connections: u32,
        /// Rounds.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// Seconds to wait before memory is read.
        #[arg(long, default_value_t = 2.0, value_parser = seconds)]
        settle: f64,
    },
    /// Leave sessions behind: so many clients connect, subscribe and leave, then messages are published to them.
    ///
    /// Client N subscribes to fill/NAME/G with G = N / --per-topic, at QoS 1, and says goodbye; --concurrency of them at a time, so that
    /// a million sessions need few connections. Then --messages messages are published to each topic at QoS 1. What the broker
    /// has stored in the end is --sessions x --messages deliveries; `drain` takes them.
    Fill {
        #[command(flatten)]
        stock: StockArgs,
        /// Messages that the publisher keeps under way.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_535))]
        window: u32,
    },
    /// Bring the sessions of `fill` back, and check that each gets all its messages once and in order.
    ///
    /// With the options of that `fill`, also after the broker was killed and started again. --concurrency clients are there at
    /// a time; each leaves when it has all. The rate is that of deliveries; with --broker-pid the broker's memory is watched.
    Drain {
        #[command(flatten)]
        stock: StockArgs,
    },
    /// Subscribe each client to its own literal filters dev/C/sensor/T/value, then unsubscribe.
    Subscribe {
        /// Clients.
        #[arg(long, short = 'n', default_value_t = 200)]
        clients: u32,
        /// Filters per client.
        #[arg(long, default_value_t = 1_000)]
        filters: u32,
        /// Filters in one packet; a client has one packet under way at a time.
        #[arg(long, default_value_t = 10)]
        per_packet: u32,
        /// Do not unsubscribe afterwards.
        #[arg(long)]
        keep: bool,
        /// Quality of Service asked for.
        #[arg(long, default_value = "0")]
        qos: QosArg,
    },
    /// Latency: pairs at a fixed total rate, polling instead of sleeping.
    Lat {
        /// Pairs.
        #[arg(long, short = 'n', default_value_t = 500)]
        pairs: u32,
        /// Messages per second in all.
        #[arg(long, default_value_t = 5_000)]
        rate: u64,
        /// Sleep between messages instead of polling; the generator's wake-up is then in the latency.
        #[arg(long)]
        sleep: bool,
        #[command(flatten)]
        sessions: SessionArgs,
        #[command(flatten)]
        message: Message,
    },
}

/// A phase of the retained scenario.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RetainedPhase {
    /// Publishing with RETAIN.
    Store,
    /// Handing out to new subscribers.
    Replay,
}

impl Scenario {
    /// Leaves of the clients and rates what belongs to one part.
    pub(crate) fn cut(&mut self, share: Share) {
        let count = |count: &mut u32| *count = share.clients(*count);
        let rate = |rate: &mut u64| *rate = share.part(*rate).max((*rate).min(1));
        match self {
            Self::Idle { connections, rate: per_second, .. } => {
                count(connections);
                rate(per_second);
            }
            Self::P2p { pairs: clients, pacing, .. }
            | Self::Fanin { publishers: clients, pacing, .. }
            | Self::Fanout { subscribers: clients, pacing, .. } => {
                count(clients);
                pacing.rate.iter_mut().for_each(rate);
            }
            Self::Wild { clients, publishers, pacing, .. } => {
                count(clients);
                count(publishers);
                pacing.rate.iter_mut().for_each(rate);
            }
            Self::Lat { pairs, rate: per_second, .. } => {
                count(pairs);
                rate(per_second);
            }
            Self::Connect { rate: per_second } => per_second.iter_mut().for_each(rate),
            Self::Cycle { connections, .. } => count(connections),
            Self::Fill { stock, .. } | Self::Drain { stock } => count(&mut stock.sessions),
            Self::Subscribe { clients, .. } => count(clients),
            Self::Shared { publishers, subscribers, pacing, .. } => {
                count(publishers);
                count(subscribers);
                pacing.rate.iter_mut().for_each(rate);
            }
            Self::Retained { publishers, subscribers, .. } => {
                count(publishers);
                count(subscribers);
            }
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Message {
    /// Quality of Service of messages and subscriptions.
    #[arg(long, default_value = "0")]
    pub(crate) qos: QosArg,
    /// Bytes of payload, at least 32.
    #[arg(long, default_value_t = 128, value_parser = payload_bytes)]
    pub(crate) payload: usize,
}

/// What is left behind.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct StockArgs {
    /// Sessions.
    #[arg(long, short = 'n', default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) sessions: u32,
    /// Sessions that share a topic.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) per_topic: u32,
    /// Messages to each topic.
    #[arg(long, default_value_t = 10)]
    pub(crate) messages: u32,
    /// Bytes of payload.
    #[arg(long, default_value_t = 128, value_parser = payload_bytes)]
    pub(crate) payload: usize,
    /// Number in client ids, topics and payloads, by which sessions are found again.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) name: u32,
}

impl StockArgs {
    /// As the scenarios see it.
    pub(crate) const fn of(self) -> Stock {
        Stock {
            sessions: self.sessions,
            per_topic: self.per_topic,
            messages: self.messages,
            payload_bytes: self.payload,
            name: self.name,
        }
    }
}

/// How long sessions last.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SessionArgs {
    /// All sessions outlive their connections, so that the broker has to store what it takes over (QoS 1 and 2).
    ///
    /// Clean Session 0 with MQTT 3, a Session Expiry Interval of a day with MQTT 5. The broker keeps them afterwards.
    #[arg(long)]
    pub(crate) durable: bool,
}

/// When it is sent.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PacingArgs {
    /// Messages that each publisher keeps under way (closed loop).
    #[arg(long, default_value_t = 1, conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub(crate) window: u32,
    /// Messages per second over all publishers on an absolute schedule (open loop).
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// Poll instead of sleeping: neither is the generator's wake-up in the latency, nor does the broker's processor time
    /// contain waking it.
    #[arg(long)]
    pub(crate) spin: bool,
}

/// An MQTT version on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MqttVersion {
    #[value(name = "3.1")]
    V31,
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5")]
    V5,
}

impl From<MqttVersion> for Version {
    fn from(version: MqttVersion) -> Self {
        match version {
            MqttVersion::V31 => Self::V31,
            MqttVersion::V311 => Self::V311,
            MqttVersion::V5 => Self::V5,
        }
    }
}

/// A QoS on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum QosArg {
    #[value(name = "0")]
    Zero,
    #[value(name = "1")]
    One,
    #[value(name = "2")]
    Two,
}

impl From<QosArg> for QoS {
    fn from(qos: QosArg) -> Self {
        match qos {
            QosArg::Zero => Self::AtMostOnce,
            QosArg::One => Self::AtLeastOnce,
            QosArg::Two => Self::ExactlyOnce,
        }
    }
}

/// Resolves the address of an agent.
fn agent(text: &str) -> Result<SocketAddr, String> {
    let mut resolved =
        text.to_socket_addrs().map_err(|error| format!("{text:?} (HOST:PORT is asked for): {error}"))?;
    resolved.next().ok_or_else(|| format!("{text:?} has no address"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if (0.0..=1e6).contains(&value) { Ok(value) } else { Err("must lie between 0 and 1,000,000".to_owned()) }
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    let value: usize = text.parse().map_err(|_| format!("{text:?} is not a number of bytes"))?;
    let range = crate::stamp::STAMP_BYTES..=16 << 20;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("must lie between {} and 16 MiB", range.start()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn destinations_and_sources_may_be_repeated_or_listed() {
        let arguments = "dunlin-loadgen lat --target 127.0.0.1:7,[::1] --target 127.0.0.2:8-9 --source 10.0.0.1 --source ::1,10.1.0.0/24";
        let cli = Cli::try_parse_from(arguments.split(' ')).unwrap();
        let route = cli.settings.way.route();
        assert_eq!((route.targets.len(), route.sources.len()), (4, 3));
        assert!(Cli::try_parse_from("dunlin-loadgen lat --proxy-clients ::1".split(' ')).is_err());
    }

    #[test]
    fn a_window_and_a_rate_exclude_each_other() {
        let parse =
            |arguments: &[&str]| Cli::try_parse_from([&["dunlin-loadgen", "p2p"], arguments].concat());
        assert!(parse(&["--window", "8"]).is_ok() && parse(&["--rate", "8"]).is_ok());
        assert!(parse(&["--rate", "8", "--window", "8"]).is_err());
        assert!(parse(&["--payload", "31"]).is_err());
    }
}
