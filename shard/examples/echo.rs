//! The edge with a core that sends everything back: what the edge itself costs, and nothing else.
//!
//! `cargo run --release -p dunlin-shard --features runtime --example echo -- PORT [key=value …]` with the keys `cores`
//! (a list), `park` (`ring` or `executor`), `quiet_ms`, `seconds`, `table` (slots per ring), `max` (connections).
//! Prints the counters of each shard when it ends.

use std::time::Duration;

use dunlin_shard::runtime::{Core, EdgeConfig, Listener, Park, start_with};
use dunlin_shard::{Actions, Event, ListenerId, Mono, Now};

/// Sends back what comes.
struct Echo;

impl Core for Echo {
    fn handle(&mut self, event: Event<'_>, _: Now, actions: &mut Actions) {
        if let Event::Bytes { conn, bytes } = event {
            let start = actions.mark();
            actions.arena.extend_from_slice(bytes);
            actions.send_from(conn, start);
        }
        if let Event::Control(dunlin_shard::Control::Stop) = event {
            actions.list.push(dunlin_shard::Action::Stopped);
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        None
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, not a shard: it may sleep")]
#[expect(clippy::print_stdout, reason = "a program's output")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("which port?")?.parse()?;
    let listener = Listener { id: ListenerId(0), address: ([127, 0, 0, 1], port).into(), backlog: 65_535 };
    let mut config = EdgeConfig { cores: vec![Some(0)], listeners: vec![listener], ..EdgeConfig::default() };
    let mut seconds = 60;
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or("key=value")?;
        match key {
            "cores" => {
                config.cores =
                    value.split(',').map(|core| core.parse().map(Some)).collect::<Result<_, _>>()?;
            }
            "park" => config.park = if value == "executor" { Park::Executor } else { Park::Ring },
            "quiet_ms" => config.quiet_ms = value.parse()?,
            "seconds" => seconds = value.parse()?,
            "table" => config.rings.table_entries_max = value.parse()?,
            "buffers" => config.rings.buffer_count = value.parse()?,
            "max" => config.connection_count_max = value.parse()?,
            _ => return Err(format!("unknown key {key}").into()),
        }
    }
    let makers = config.cores.iter().map(|_| || Echo).collect();
    let runtime = start_with(config, makers)?;
    println!("listening on {:?}", runtime.listening());
    std::thread::sleep(Duration::from_secs(seconds));
    runtime.stop();
    for metrics in runtime.join()? {
        println!("{metrics:#?}");
    }
    Ok(())
}
