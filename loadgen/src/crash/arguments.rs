//! The command line of `dunlin-loadgen crash`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Options of `crash`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CrashArgs {
    /// How often the broker is killed.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) cycles: u32,
    /// When it is killed, in milliseconds after the first client got through: a moment at random between the two.
    ///
    /// One cycle in ten does not wait for a client: the kill falls into the start or the recovery.
    #[arg(long, default_value = "5-250", value_name = "LEAST-MOST", value_parser = span)]
    pub(crate) kill_after: Span,
    /// How it is ended: with SIGKILL, or asked to end in order (SIGTERM), which every broker should survive.
    #[arg(long, default_value = "kill", value_name = "SIGNAL")]
    pub(crate) signal: Signal,
    /// Clients that publish, every second with MQTT 3.1.1, the others with MQTT 5.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) publishers: u16,
    /// Clients with durable subscriptions, likewise mixed.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) subscribers: u16,
    /// Clients with a Will, of all kinds: at once, with a delay, with a session that ends before the delay.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub(crate) wills: u16,
    /// Clients whose sessions end one second after their connections, also while no broker runs (MQTT 5).
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub(crate) mortals: u16,
    /// Members of each of two shared groups, one at QoS 1 and one at QoS 2; 0: no groups.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub(crate) members: u16,
    /// Numbers that {shards} in the command stands for: about every eighth start takes another one.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) shards: Vec<u32>,
    /// Topics that all publishers write to.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(3..=1_000))]
    pub(crate) topics: u16,
    /// Messages that each publisher keeps under way.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub(crate) window: u32,
    /// Bytes of the largest payload; sizes are mixed, and the smallest has 32.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(32..=1_048_576))]
    pub(crate) payload: u32,
    /// Messages that may wait for one session; more are not published, since brokers throw away what exceeds a queue's limit.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) backlog: u32,
    /// Every so many cycles nobody is killed until everything has arrived, and what is missing then is lost.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) audit_every: u32,
    /// Seconds that the broker may take to start before it counts as failed.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) start_patience: u64,
    /// Seconds after which no further cycle begins; the last audit still follows.
    #[arg(long, default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=864_000))]
    pub(crate) time_limit: u64,
    /// Folder in which the run makes its own, for {dir} and the broker's output [default: the system's for temporary files].
    ///
    /// It is removed after a clean run and kept after any other.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Keep the run's folder in any case.
    #[arg(long)]
    pub(crate) keep: bool,
    /// The command that starts the broker, after `--`: a program and its arguments.
    ///
    /// {dir} stands for an empty folder, the same at each start, and {port} for a free port of 127.0.0.1 that is
    /// then connected to instead of --target. The program must be the broker itself, since it is what gets
    /// killed: in a script start it with `exec`.
    #[arg(last = true, required = true, value_name = "COMMAND", num_args = 1..)]
    pub(crate) command: Vec<String>,
}

/// How the broker is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Signal {
    /// SIGKILL: at once, in the middle of everything.
    Kill,
    /// SIGTERM: it may save what it has.
    Term,
}

/// Two lengths of time, the shorter one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

fn span(text: &str) -> Result<Span, String> {
    let wrong = || format!("{text:?} is not LEAST-MOST in milliseconds, such as 5-250");
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let milliseconds = |part: &str| part.trim().parse::<u32>().map(|ms| Duration::from_millis(u64::from(ms)));
    let (least, most) = (milliseconds(least).map_err(|_| wrong())?, milliseconds(most).map_err(|_| wrong())?);
    if least <= most { Ok(Span { least, most }) } else { Err(wrong()) }
}

const EXAMPLES: &str = "\
What happens:
  Publishers write to all topics at QoS 1 and 2, and retained messages to topics of their own. Subscribers have durable
  sessions: some stay, some are away for several cycles, some subscribe and unsubscribe, some begin anew (clean start), some
  drop their connection or are taken over by a new one. At a random moment the broker gets SIGKILL. It is started again
  with the same command, all clients resume as the standard asks (own packet ids, DUP, PUBREL first), and the books go on.

What must hold, whatever the moment:
  * a message that was acknowledged reaches every session that was subscribed: QoS 1 at least once, QoS 2 exactly once;
  * what one publisher sent to one topic at one QoS comes in order;
  * sessions and subscriptions whose CONNACK, SUBACK or UNSUBACK was seen are as they were acknowledged;
  * a retained message is never older than the last acknowledged one, and an acknowledged removal stays;
  * a shared group gets each message, at QoS 2 once, also what a member leaves behind whose session ends;
  * a Will comes when it is due, by its delay or by the end of its session, and not if its client said goodbye or is back in time;
  * sessions end when they should, also while no broker runs; PUBACKs come in order.

  SIGKILL leaves everything that the broker has written with the kernel. So this proves that nothing is acknowledged before
  it is written; that it is also synced takes a power cut, or a disk that lies (for Dunlin: `cargo sim`).

Exit code: 0 when all of it held, 1 when it did not, 2 when the run could not be carried out.

Examples:
  dunlin-loadgen crash --cycles 1000 -- dunlin --listen mqtt://127.0.0.1:{port} --data-dir {dir}
  dunlin-loadgen crash --seed 7 --json -- dunlin --listen mqtt://127.0.0.1:{port} --memory-only   # must fail
  dunlin-loadgen crash --target 127.0.0.1:1890 -- mosquitto -c persistent.conf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_two_ends_in_order() {
        let ms = Duration::from_millis;
        assert_eq!(span("5-250"), Ok(Span { least: ms(5), most: ms(250) }));
        assert_eq!(span("7"), Ok(Span { least: ms(7), most: ms(7) }));
        assert!(span("9-8").is_err() && span("a-8").is_err() && span("").is_err());
    }
}
