//! The plan of a run: the seed first draws which features and faults are on (swarm testing), then all else follows.

use dunlin_shard::config::{Config, Durability, Mqtt, SharedStrategy};

use crate::rng::Rng;
use crate::storage_plan::StoragePlan;

/// What one run exercises.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Shards of the broker.
    pub shard_count: u16,
    /// Clients that subscribe and publish.
    pub client_count: usize,
    /// Things that each client does before the network heals.
    pub step_count: u32,
    /// Levels of topics: small universes collide more.
    pub topic_width: u64,
    /// Highest QoS in use.
    pub qos_max: u8,
    /// Percent of clients that speak 5.0; the rest 3.1.1 and a few 3.1.
    pub v5_percent: u64,
    /// Percent of clients with sessions that outlive their connections.
    pub persistent_percent: u64,
    /// Features in use.
    pub features: Features,
    /// Queues of a few messages, so that they overflow: what must arrive is then not judged.
    pub small_queues: bool,
    /// Faults in use.
    pub faults: Faults,
    /// The process's disk, and what befalls it; `None`: nothing outlives the process, and it does not end.
    pub storage: Option<StoragePlan>,
    /// The broker's settings.
    pub config: Config,
}

/// Features that clients use in a run.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches drawn by the seed")]
pub struct Features {
    /// RETAIN publishes.
    pub retained: bool,
    /// Wills.
    pub wills: bool,
    /// `$share` subscriptions.
    pub shared: bool,
    /// Wildcards in filters.
    pub wildcards: bool,
    /// Topic aliases, both ways.
    pub aliases: bool,
    /// Receive Maximum of a few packets.
    pub small_windows: bool,
    /// UNSUBSCRIBE.
    pub unsubscribe: bool,
    /// No Local, Retain As Published, Retain Handling.
    pub options: bool,
    /// The operator ends connections.
    pub kicks: bool,
    /// A second connection with the same client id while the first stands.
    pub takeover: bool,
}

/// Faults of the network in a run.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Percent of steps that cut the connection.
    pub cut_percent: u64,
    /// Percent of steps that make the client vanish without a word (half-open).
    pub vanish_percent: u64,
    /// Percent of writes that are cut into small chunks.
    pub chunk_percent: u64,
    /// Bytes that a socket takes before the peer reads; small = slow readers.
    pub window_bytes: usize,
    /// Percent of reads that wait for long.
    pub stall_percent: u64,
    /// Most latency of a network hop, milliseconds.
    pub latency_ms_max: u64,
    /// Most latency of a mesh lane, milliseconds.
    pub lane_ms_max: u64,
}

impl Plan {
    /// Draws the plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed, "plan");
        let small_queues = rng.chance(15);
        let mut plan = Self::draw_from(rng, small_queues);
        // A step takes a client a fifth of a second.
        plan.storage = StoragePlan::draw(seed, u64::from(plan.step_count) * 220 + 1_000);
        plan.config.durability = plan.storage.as_ref().map_or(Durability::Memory, |storage| storage.level);
        plan
    }

    /// Whether a publisher hears when its message could not be stored. At level `interval` it does not hear of other shards.
    #[must_use]
    pub fn tells_all(&self) -> bool {
        self.config.durability == Durability::Commit
            || !self.storage.as_ref().is_some_and(StoragePlan::refuses)
    }

    fn draw_from(rng: &mut Rng, small_queues: bool) -> Self {
        Self {
            small_queues,
            storage: None,
            shard_count: [1, 1, 2, 2, 3, 4][rng.index(6)],
            client_count: rng.count(3, 12) as usize,
            step_count: rng.count(20, 60),
            topic_width: rng.between(1, 3),
            qos_max: [0, 1, 1, 2, 2, 2][rng.index(6)],
            v5_percent: [0, 50, 70, 100][rng.index(4)],
            persistent_percent: [0, 50, 80, 100][rng.index(4)],
            features: Features {
                retained: rng.chance(50),
                wills: rng.chance(40),
                shared: rng.chance(40),
                wildcards: rng.chance(70),
                aliases: rng.chance(40),
                small_windows: rng.chance(40),
                unsubscribe: rng.chance(40),
                options: rng.chance(50),
                kicks: rng.chance(20),
                takeover: rng.chance(30),
            },
            faults: Self::draw_faults(rng),
            config: Self::draw_config(rng, small_queues),
        }
    }

    fn draw_faults(rng: &mut Rng) -> Faults {
        let broken = rng.chance(70);
        Faults {
            cut_percent: if broken { rng.between(0, 12) } else { 0 },
            vanish_percent: if broken { rng.between(0, 4) } else { 0 },
            chunk_percent: [0, 30, 100][rng.index(3)],
            window_bytes: [1 << 20, 4_096, 600, 64][rng.index(4)],
            stall_percent: [0, 0, 10, 30][rng.index(4)],
            latency_ms_max: [1, 5, 40, 200][rng.index(4)],
            lane_ms_max: [0, 1, 5, 50][rng.index(4)],
        }
    }

    fn draw_config(rng: &mut Rng, small_queues: bool) -> Config {
        let strategies = [
            SharedStrategy::Random,
            SharedStrategy::RoundRobin,
            SharedStrategy::RoundRobinPerGroup,
            SharedStrategy::Sticky,
            SharedStrategy::Local,
            SharedStrategy::HashClientId,
            SharedStrategy::HashTopic,
        ];
        let mqtt = Mqtt {
            max_inflight: [1, 2, 8, 32][rng.index(4)],
            max_mqueue_len: small_queues.then_some(3),
            max_mqueue_bytes: None,
            mqueue_store_qos0: rng.chance(50),
            receive_maximum: [1, 3, 100][rng.index(3)],
            outbound_bytes_high: [200, 4_096, 1 << 20][rng.index(3)],
            shared_subscription_strategy: strategies[rng.index(strategies.len())],
            max_topic_alias: [0, 3, 65_535][rng.index(3)],
            ..Mqtt::default()
        };
        Config { mqtt, ..Config::default() }
    }
}
