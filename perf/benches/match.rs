//! Matching a topic, subscribing, and the bytes per filter: the shard's index against a trie of levels.
//!
//! Expected before it was measured: a literal match at 1 M filters is one hash of 25 B (15 ns) and three cache misses
//! (directory and control bytes, bucket, record), so about 0.3 µs, and the same at 10 M but for misses of the page table.
//! A trie has two misses per level: about 1 µs. A fan-out list costs about 1 ns per subscriber.
//!
//! `cargo bench -p dunlin-perf --bench match -- [all|literal|device|mixed|wild|adversarial|churn|fanout] [filters]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod rivals;

use std::alloc::System;
use std::hint::black_box;
use std::time::Instant;

use dunlin_shard::topics::{FilterId, FilterIndex, InterestTable, ShardSet, Subscriber, Target};
use dunlin_shard::{ShardId, topics::FilterSet};
use dunlin_wire::types::SubscriptionOptions;
use rivals::trie::Trie;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let which = arguments.first().map_or("all", String::as_str);
    let filters = arguments.get(1).and_then(|count| count.parse().ok());
    let counts: Vec<u32> = filters.map_or_else(|| vec![1_000_000, 10_000_000], |count: u32| vec![count]);
    let is_wanted = |name: &str| which == "all" || which == name;
    print_head();
    for count in &counts {
        for load in [literal(), device(), mixed()] {
            if is_wanted(load.name) {
                compare(&load, *count);
            }
        }
    }
    if is_wanted("wild") {
        compare(&thirds(), 300);
        compare(&thirds(), 100_000);
    }
    if is_wanted("adversarial") {
        adversarial();
    }
    if is_wanted("churn") {
        churn(&counts);
    }
    if is_wanted("fanout") {
        fanout();
    }
}

/// A population of filters and of topics that match one of them each.
struct Load {
    name: &'static str,
    filter: fn(u32) -> String,
    topic: fn(u32) -> String,
}

fn literal() -> Load {
    let name = |n: u32| format!("dev/c{n:08}/sensor/value");
    Load { name: "literal", filter: name, topic: name }
}

fn device() -> Load {
    Load {
        name: "device",
        filter: |n| format!("device/{n:08}/#"),
        topic: |n| format!("device/{n:08}/state/power"),
    }
}

/// Twelve shapes of one to three `+` over three to seven levels.
fn mixed() -> Load {
    Load {
        name: "mixed",
        filter: |n| match n % 12 {
            0 => format!("site/{n}/+/temperature"),
            1 => format!("+/line/{n}/#"),
            2 => format!("fleet/+/{n}/state"),
            3 => format!("plant/{n}/+/+/value"),
            4 => format!("plant/+/cell/{n}/#"),
            5 => format!("+/+/meter/{n}"),
            6 => format!("region/{n}/city/+/street/+/lamp"),
            7 => format!("region/+/city/{n}/street/+/+"),
            8 => format!("gw/{n}/+"),
            9 => format!("gw/{n}/up/+/event"),
            10 => format!("+/{n}/status"),
            _ => format!("store/+/shelf/+/item/{n}"),
        },
        topic: |n| match n % 12 {
            0 => format!("site/{n}/roof/temperature"),
            1 => format!("hall/line/{n}/motor/speed"),
            2 => format!("fleet/berlin/{n}/state"),
            3 => format!("plant/{n}/a/b/value"),
            4 => format!("plant/x/cell/{n}/robot"),
            5 => format!("home/flat/meter/{n}"),
            6 => format!("region/{n}/city/c/street/s/lamp"),
            7 => format!("region/r/city/{n}/street/s/light"),
            8 => format!("gw/{n}/down"),
            9 => format!("gw/{n}/up/x/event"),
            10 => format!("boiler/{n}/status"),
            _ => format!("store/s/shelf/f/item/{n}"),
        },
    }
}

/// The three shapes of the side-by-side run with other brokers.
fn thirds() -> Load {
    Load {
        name: "wild",
        filter: |n| match n % 3 {
            0 => format!("site/{n}/+/temp"),
            1 => format!("+/dev/{n}/#"),
            _ => format!("fleet/+/{n}/state"),
        },
        topic: |n| match n % 3 {
            0 => format!("site/{n}/x/temp"),
            1 => format!("a/dev/{n}/y"),
            _ => format!("fleet/b/{n}/state"),
        },
    }
}

fn print_head() {
    println!(
        "| load | filters | structure | ns/match | CPU ns/match | matches | B/filter | CPU ns/subscribe |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

/// Builds each structure with `count` filters and matches random topics of them.
fn compare(load: &Load, count: u32) {
    let topics = Topics::new(load.topic, count);
    let mut index = FilterIndex::new(SEED);
    let built = measure(u64::from(count), || {
        for n in 0..count {
            index.subscribe(&(load.filter)(n), subscriber(n));
        }
    });
    let matched =
        topics.run(|topic, found| index.for_each_match(topic, |_, list| *found += list.len() as u64));
    row(load.name, count, "index", &matched, &built);
    drop(index);

    let mut interest = InterestTable::new(8, SEED);
    let built = measure(u64::from(count), || {
        for n in 0..count {
            interest.add(ShardId(1), &(load.filter)(n));
        }
    });
    let mut shards = ShardSet::new();
    let matched = topics.run(|topic, found| {
        shards.clear();
        interest.wants(topic, &mut shards);
        *found += u64::from(shards.len());
    });
    row(load.name, count, "interest", &matched, &built);
    drop(interest);

    let mut trie = Trie::new(SEED);
    let built = measure(u64::from(count), || {
        for n in 0..count {
            trie.subscribe(&(load.filter)(n), n);
        }
    });
    let matched = topics.run(|topic, found| trie.for_each_match(topic, |_| *found += 1));
    row(load.name, count, "trie", &matched, &built);
}

/// What an attacker can do to the match of one topic.
fn adversarial() {
    // Every mix of a name and `+` over 12 levels, ending in a level that no topic has.
    let mixes: Vec<String> = (0..4_096_u32)
        .map(|mix| (0..12).map(|bit| if mix >> bit & 1 == 1 { "+/" } else { "a/" }).collect::<String>() + "z")
        .collect();
    let deep_topic = "a/".repeat(12) + "b";
    attack("all mixes of a and + over 12 levels", &mixes, &[&deep_topic, "a/a/a/a/a", "dev/1/x"]);

    // 10,000 shapes over 128 levels, half of them ending in #.
    let mut random = Random(1);
    let shapes: Vec<String> = (0..10_000)
        .map(|n| {
            let levels = 1 + random.below(127);
            let body: Vec<&str> = (0..levels).map(|_| if random.below(2) == 0 { "+" } else { "a" }).collect();
            body.join("/") + if n % 2 == 0 { "/#" } else { "/z" }
        })
        .collect();
    let deep_topic = "b/".repeat(127) + "b";
    let named_topic = "a/".repeat(127) + "b";
    let topics = [&*deep_topic, &*named_topic, "a/a/a/a/a", "a/a/a/a/a/a/a/a/a/a"];
    attack("10,000 random shapes over 128 levels", &shapes, &topics);

    // Every shape that a topic of 8 levels can meet, with names that it does not have.
    let short: Vec<String> = (0..8_u32)
        .flat_map(|levels| (0..1 << levels).map(move |mix| (levels, mix)))
        .map(|(levels, mix): (u32, u32)| {
            (0..levels).map(|bit| if mix >> bit & 1 == 1 { "+/" } else { "q/" }).collect::<String>() + "q/#"
        })
        .collect();
    attack("all 255 shapes with # up to 8 levels", &short, &["dev/1/x", "a/b/c/d/e", "a/b/c/d/e/f/g/h"]);
}

fn attack(name: &str, filters: &[String], topics: &[&str]) {
    let mut index = FilterIndex::new(SEED);
    let mut trie = Trie::new(SEED);
    let before = allocated();
    for (filter, n) in filters.iter().zip(0..) {
        index.subscribe(filter, subscriber(n));
    }
    let bytes = (allocated() - before) / filters.len() as u64;
    for (filter, n) in filters.iter().zip(0..) {
        trie.subscribe(filter, n);
    }
    for topic in topics {
        let levels = topic.split('/').count();
        let (of_index, found) =
            for_a_while(|found| index.for_each_match(black_box(topic), |_, _| *found += 1));
        let (of_trie, found_by_trie) =
            for_a_while(|found| trie.for_each_match(black_box(topic), |_| *found += 1));
        assert_eq!(found, found_by_trie, "both find the same");
        let first = topic.split('/').next().unwrap_or_default();
        for (structure, measured) in [("index", of_index), ("trie", of_trie)] {
            println!(
                "| {name} ({bytes} B each), topic {first}/… of {levels} levels | {} | {structure} | {:.0} | {:.0} | {found} | | |",
                filters.len(),
                measured.wall_ns,
                measured.cpu_ns,
            );
        }
    }
}

/// Time per round, over as many rounds as a fifth of a second takes, and what one round finds.
fn for_a_while(mut round: impl FnMut(&mut u64)) -> (Measured, u64) {
    let mut found = 0;
    let first = measure(1, || round(&mut found));
    let once = found;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rounds")]
    let rounds = (2e8 / first.wall_ns.max(50.0)) as u64 + 1;
    let measured = measure(rounds, || (0..rounds).for_each(|_| round(&mut found)));
    (measured, once)
}

/// Subscribing and unsubscribing: the cost per filter must not grow.
fn churn(counts: &[u32]) {
    let most = counts.iter().copied().max().unwrap_or(1_000_000);
    for count in [most / 10, most / 3, most] {
        let mut index = FilterIndex::new(SEED);
        let mut filters = FilterSet::new();
        let built = measure(u64::from(count), || {
            for n in 0..count {
                filters.insert(index.subscribe(&(literal().filter)(n), subscriber(7)).filter);
            }
        });
        let ids: Vec<FilterId> = filters.as_slice().to_vec();
        let torn_down = measure(u64::from(count), || {
            for id in ids {
                index.unsubscribe(id, Target::Session(7));
                filters.remove(id);
            }
        });
        println!(
            "| one session, distinct literal filters, with its own list | {count} | index | | | | {} | {:.0}, unsubscribe {:.0} |",
            built.bytes, built.cpu_ns, torn_down.cpu_ns
        );
        let built = measure(u64::from(count), || {
            for n in 0..count {
                index.subscribe("one/filter", subscriber(n));
            }
        });
        let id = index.lookup("one/filter").expect("it was just subscribed");
        let torn_down = measure(u64::from(count), || {
            for n in 0..count {
                index.unsubscribe(id, Target::Session(n.wrapping_mul(7_919) % count));
            }
        });
        println!(
            "| one filter, many sessions | {count} | index | | | | {} | {:.0}, unsubscribe {:.0} |",
            built.bytes, built.cpu_ns, torn_down.cpu_ns
        );
    }
}

/// One topic, many subscribers.
fn fanout() {
    for count in [10_u32, 1_000, 100_000] {
        let mut index = FilterIndex::new(SEED);
        for n in 0..count {
            index.subscribe("news/today", subscriber(n));
        }
        let rounds = 20_000_000 / u64::from(count);
        let mut sum = 0_u64;
        let matched = measure(rounds * u64::from(count), || {
            for _ in 0..rounds {
                index.for_each_match(black_box("news/today"), |_, list| {
                    for subscriber in list {
                        if let Target::Session(session) = subscriber.target() {
                            sum += u64::from(session) + u64::from(subscriber.options().qos.as_u8());
                        }
                    }
                });
            }
        });
        black_box(sum);
        println!(
            "| fan-out, per subscriber | {count} | index | {:.2} | {:.2} | | | |",
            matched.wall_ns, matched.cpu_ns
        );
    }
}

/// Topics in random order in one buffer, as they would lie in a receive buffer.
struct Topics {
    text: String,
    ends: Vec<usize>,
}

impl Topics {
    fn new(topic: fn(u32) -> String, count: u32) -> Self {
        let (mut text, mut ends, mut random) = (String::new(), Vec::new(), Random(3));
        for _ in 0..1_000_000 {
            text.push_str(&topic(random.below(count)));
            ends.push(text.len());
        }
        Self { text, ends }
    }

    /// Time per topic and matches per topic.
    fn run(&self, mut one: impl FnMut(&str, &mut u64)) -> Measured {
        let mut found = 0;
        let mut all = |found: &mut u64| {
            let mut start = 0;
            for end in &self.ends {
                one(&self.text[start..*end], found);
                start = *end;
            }
        };
        all(&mut found);
        found = 0;
        let measured = measure(self.ends.len() as u64, || all(&mut found));
        assert_eq!(found / self.ends.len() as u64, 1, "each topic matches one filter");
        Measured { found, ..measured }
    }
}

struct Measured {
    wall_ns: f64,
    cpu_ns: f64,
    bytes: u64,
    found: u64,
}

fn row(load: &str, count: u32, structure: &str, matched: &Measured, built: &Measured) {
    println!(
        "| {load} | {count} | {structure} | {:.0} | {:.0} | {} | {} | {:.0} |",
        matched.wall_ns, matched.cpu_ns, matched.found, built.bytes, built.cpu_ns
    );
}

/// Time per operation of `run` and bytes of heap it left behind per operation.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn measure(operations: u64, run: impl FnOnce()) -> Measured {
    let (bytes, cpu, start) = (allocated(), cpu_ns(), Instant::now());
    run();
    let (wall, cpu) = (start.elapsed().as_nanos(), cpu_ns() - cpu);
    let bytes = allocated().saturating_sub(bytes) / operations;
    let per = operations as f64;
    Measured { wall_ns: wall as f64 / per, cpu_ns: cpu as f64 / per, bytes, found: 0 }
}

/// Bytes of heap in use, as asked from the allocator.
fn allocated() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated - stats.bytes_deallocated) as u64
}

/// CPU time of this thread. The kernel brings it up to date at its tick, so only long runs are exact.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the process's own accounts")]
fn cpu_ns() -> u64 {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn subscriber(session: u32) -> Subscriber {
    Subscriber::session(session, SubscriptionOptions::default(), 0)
}

/// A small generator, so that runs repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wide = (self.0 >> 32) * u64::from(bound);
        u32::try_from(wide >> 32).expect("below the bound")
    }
}

const SEED: u64 = 0x5EED;
