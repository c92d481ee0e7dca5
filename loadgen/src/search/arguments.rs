//! The command line of `search`.

use clap::{Args, Subcommand};

use crate::cli::Scenario;
use crate::record::Summary;

/// What is sought.
#[derive(Debug, Subcommand)]
pub(crate) enum SearchCommand {
    /// The highest rate at which a percentile of the latency keeps a bound.
    ///
    /// Doubles the rate from --from until a run misses, then narrows the gap. Each rate is a run of its own: new connections,
    /// --warm-up, --seconds measured on an open schedule, and a drain in which nothing may be missing. A run in which messages
    /// fell behind or were lost misses whatever its latency; one in which the generator was the limit says nothing and is
    /// repeated. Both ends of the last gap are run until one verdict is two ahead, and the answer says how sure that makes it.
    #[command(after_help = RATE_EXAMPLES)]
    Rate(RateArgs),
    /// A curve of rate against latency and processor time, and where it bends.
    ///
    /// Runs --steps rates from --from to --to, each the same factor above the one before, and stops after two that the broker
    /// could not carry. The knee is found by Kneedle on the carried steps; beside it the rate of greatest power (rate divided by
    /// latency).
    Knee(KneeArgs),
    /// One load for a long time: does memory grow, does latency drift?
    ///
    /// Samples the broker's memory once a second (--broker-pid) and the latency of --slices parts of the time, and gives the slope
    /// of both after Theil and Sen with its 95 % interval. Memory counts as growing when the whole interval is above zero
    /// and what it comes to is more than a hundredth of the memory. The first tenth of the time is left out.
    Soak(SoakArgs),
}

const RATE_EXAMPLES: &str = "\
Examples:
  the most that 1,000 pairs can send with 99 of 100 messages delivered within 2 ms:
      dunlin-loadgen search rate --p99 2ms --from 1000 --to 500000 --broker-pid $(pidof mosquitto) p2p -n 1000
  the same at QoS 1 with runs of five minutes, for publication; rate/report.html has the plots:
      dunlin-loadgen search rate --p99 2ms --seconds 300 --out rate p2p -n 1000 --qos 1";

/// Options of `search rate`.
#[derive(Debug, Args)]
pub(crate) struct RateArgs {
    #[command(flatten)]
    pub(crate) bound: BoundArgs,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// The gap between a rate that passes and one that does not that is narrow enough, in percent.
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub(crate) precision: f64,
    /// Runs at most.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) runs: u32,
    #[command(subcommand)]
    pub(crate) load: Scenario,
}

/// Options of `search knee`.
#[derive(Debug, Args)]
pub(crate) struct KneeArgs {
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Rates to run.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(5..=200))]
    pub(crate) steps: u32,
    /// Runs of each rate, of which the one with the middle p99 counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) repeat: u32,
    #[command(subcommand)]
    pub(crate) load: Scenario,
}

/// Options of `search soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// Hours to hold the load; parts are allowed: 0.05 is three minutes.
    #[arg(long, value_parser = hours)]
    pub(crate) hours: f64,
    /// Messages per second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) per_second: u64,
    /// Parts of the time of which the latency is looked at.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=1_000))]
    pub(crate) slices: u32,
    #[command(subcommand)]
    pub(crate) load: Scenario,
}

/// The rates between which is sought.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RangeArgs {
    /// The lowest rate, in messages sent per second over all publishers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) from: u64,
    /// The highest rate.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) to: u64,
}

/// The latency that must be kept: one percentile of the time from when a message should have been sent to its arrival.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct BoundArgs {
    /// Half of all messages arrive within this time, as 500us, 2ms or 1s.
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    pub(crate) p50: Option<u64>,
    /// 90 % arrive within this time.
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    pub(crate) p90: Option<u64>,
    /// 99 % arrive within this time.
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    pub(crate) p99: Option<u64>,
    /// 99.9 % arrive within this time.
    #[arg(long = "p99.9", value_name = "TIME", value_parser = nanoseconds)]
    pub(crate) p99_9: Option<u64>,
    /// 99.99 % arrive within this time.
    #[arg(long = "p99.99", value_name = "TIME", value_parser = nanoseconds)]
    pub(crate) p99_99: Option<u64>,
    /// All arrive within this time.
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    pub(crate) max: Option<u64>,
}

/// A bound on one percentile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Its name.
    pub(crate) name: &'static str,
    /// In nanoseconds.
    pub(crate) bound_ns: u64,
    /// Where it is among the figures.
    pub(crate) of: fn(&Summary) -> u64,
}

impl BoundArgs {
    /// The one that was given.
    pub(crate) fn bound(&self) -> Option<Bound> {
        let bound = |name, given: Option<u64>, of: fn(&Summary) -> u64| {
            given.map(|bound_ns| Bound { name, bound_ns, of })
        };
        bound("p50", self.p50, |summary| summary.p50_ns)
            .or_else(|| bound("p90", self.p90, |summary| summary.p90_ns))
            .or_else(|| bound("p99", self.p99, |summary| summary.p99_ns))
            .or_else(|| bound("p99.9", self.p99_9, |summary| summary.p99_9_ns))
            .or_else(|| bound("p99.99", self.p99_99, |summary| summary.p99_99_ns))
            .or_else(|| bound("max", self.max, |summary| summary.max_ns))
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.1..=100.0).contains(&value) { Ok(value) } else { Err("must lie between 0.1 and 100".to_owned()) }
}

fn hours(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of hours"))?;
    if (0.005..=1_000.0).contains(&value) {
        Ok(value)
    } else {
        Err("must lie between 0.005 (18 seconds) and 1,000".to_owned())
    }
}

/// A time with its unit: 800ns, 500us, 2ms, 1.5s.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic() || letter == 'µ').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(format!("{text:?} needs a unit: 500us, 2ms or 1s")),
    };
    let value: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    let nanoseconds = value * factor;
    if (1.0..=3_600e9).contains(&nanoseconds) {
        Ok(super::rate::whole(nanoseconds))
    } else {
        Err("must lie between 1 ns and an hour".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_ascii_whitespace())
    }

    #[test]
    fn times_have_units() {
        assert_eq!(nanoseconds("2ms"), Ok(2_000_000));
        assert_eq!(nanoseconds("0.5us"), Ok(500));
        assert_eq!(nanoseconds("1.5s"), Ok(1_500_000_000));
        assert!(nanoseconds("2").is_err() && nanoseconds("ms").is_err() && nanoseconds("-1ms").is_err());
        assert!(nanoseconds("2h").is_err());
    }

    #[test]
    fn exactly_one_bound_is_asked_for() {
        assert!(parse("dunlin-loadgen search rate --p99 2ms p2p -n 10 --qos 1").is_ok());
        assert!(parse("dunlin-loadgen search rate --p99.9 2ms --from 5 --to 10 fanout").is_ok());
        assert!(parse("dunlin-loadgen search rate p2p").is_err());
        assert!(parse("dunlin-loadgen search rate --p99 2ms --p50 1ms p2p").is_err());
        assert!(parse("dunlin-loadgen search soak --hours 0.01 --per-second 100 p2p --qos 1").is_ok());
    }
}
