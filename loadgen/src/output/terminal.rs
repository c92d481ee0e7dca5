//! How a run is going, on the terminal: two lines that are redrawn each second, or, where nobody can redraw (a file, a
//! pipe, a CI log), a line every few seconds.

use std::io::{IsTerminal as _, Write};

use super::figures::{clock, count, rate, time};
use crate::clock::SECOND_NS;
use crate::record::{Leg, Snapshot, Watch};
use crate::report::ratio;

/// Shows a run on the terminal.
pub(crate) struct Terminal {
    out: Box<dyn Write>,
    redraws: bool,
    /// Lines on the screen that the next drawing replaces.
    drawn: usize,
    /// When a line was last written where nothing is redrawn.
    written_at_ns: Option<u64>,
}

impl Terminal {
    /// On standard error, so that standard output has only the result.
    pub(crate) fn stderr() -> Self {
        let stderr = std::io::stderr();
        let redraws = stderr.is_terminal();
        Self::new(Box::new(stderr), redraws)
    }

    fn new(out: Box<dyn Write>, redraws: bool) -> Self {
        Self { out, redraws, drawn: 0, written_at_ns: None }
    }

    fn draw(&mut self, lines: &[String]) {
        let mut text = self.erasure();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        self.put(&text);
    }

    /// Goes back over what was drawn and clears it.
    fn erasure(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}F\x1b[J", self.drawn) }
    }

    /// A terminal that has gone away does not end a run.
    fn put(&mut self, text: &str) {
        drop(self.out.write_all(text.as_bytes()));
        drop(self.out.flush());
    }
}

impl Watch for Terminal {
    fn see(&mut self, now: &Snapshot) {
        if self.redraws {
            self.draw(&[stage_line(now), figures_line(now)].map(|line| fitted(&line)));
        } else if self.written_at_ns.is_none_or(|at| now.at_ns.saturating_sub(at) >= PLAIN_NS) {
            self.written_at_ns = Some(now.at_ns);
            self.put(&format!("{} | {}\n", stage_line(now), figures_line(now).trim_start()));
        }
    }

    fn end(&mut self) {
        let erasure = self.erasure();
        self.drawn = 0;
        self.put(&erasure);
    }
}

/// Where the run is: `0:12 connecting  [#####-----] 1 000 of 2 000`.
fn stage_line(now: &Snapshot) -> String {
    let mut line = format!("{:>5} {}", clock(now.at_ns), now.stage);
    let (done, wanted) = now.progress;
    if wanted > 0 && done < wanted {
        line.push_str(&format!("  [{}] {} of {}", bar(done, wanted), count(done), count(wanted)));
        let per_second = per_second(now, now.delta.connects);
        if per_second > 0.0 && now.delta.connects > 0 {
            line.push_str(&format!(", {}/s", rate(per_second)));
        }
    }
    line
}

/// What it is doing: connections, messages, times, and what is wrong.
fn figures_line(now: &Snapshot) -> String {
    let mut parts = vec![format!("{} open", count(now.open))];
    if now.delta.sent > 0 || now.delta.delivered > 0 {
        let (sent, delivered) = (per_second(now, now.delta.sent), per_second(now, now.delta.delivered));
        parts.push(format!("{}/s sent, {}/s delivered", rate(sent), rate(delivered)));
    }
    let shown =
        [Leg::Deliver, Leg::ConnAck, Leg::TcpConnect].into_iter().find_map(|leg| Some((leg, now.leg(leg)?)));
    if let Some((leg, summary)) = shown {
        parts.push(format!("{} p50 {} p99 {}", leg.name(), time(summary.p50_ns), time(summary.p99_ns)));
    }
    if now.total.late > 0 {
        parts.push(format!("{} late", count(now.total.late)));
    }
    for (name, found) in now.violations.iter().filter(|(_, found)| *found > 0) {
        parts.push(format!("{} {name}", count(*found)));
    }
    if now.total.failures > 0 {
        parts.push(format!("{} failures", count(now.total.failures)));
    }
    format!("      {}", parts.join("  "))
}

fn per_second(now: &Snapshot, counted: u64) -> f64 {
    ratio(counted.saturating_mul(SECOND_NS), now.interval_ns)
}

/// How far it is, in twenty characters.
fn bar(done: u64, wanted: u64) -> String {
    let filled = usize::try_from(done.saturating_mul(BAR) / wanted.max(1)).unwrap_or(0).min(BAR_CHARACTERS);
    format!("{}{}", "#".repeat(filled), "-".repeat(BAR_CHARACTERS - filled))
}

/// A line that does not wrap on a terminal of the usual width: redrawing counts lines.
fn fitted(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(COLUMNS).collect()
}

const BAR: u64 = 20;
const BAR_CHARACTERS: usize = 20;
/// Columns of a line at most.
const COLUMNS: usize = 118;
/// Time between lines where nothing is redrawn.
const PLAIN_NS: u64 = 5 * SECOND_NS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Counters;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Screen(Rc<RefCell<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(redraws: bool, seconds: u64) -> String {
        let screen = Screen::default();
        let mut terminal = Terminal::new(Box::new(screen.clone()), redraws);
        for second in 1..=seconds {
            let delta = Counters { sent: 5, connects: 7, ..Counters::default() };
            terminal.see(&Snapshot {
                at_ns: second * SECOND_NS,
                interval_ns: SECOND_NS / 2,
                stage: "conn\x1bect".to_owned(),
                progress: (500, 2_000),
                open: 500,
                delta,
                violations: vec![("lost", 3), ("reordered", 0)],
                ..Snapshot::default()
            });
        }
        terminal.end();
        String::from_utf8(screen.0.take()).unwrap()
    }

    #[test]
    fn a_terminal_is_redrawn_and_left_clean() {
        let text = shown(true, 2);
        assert_eq!(text.matches("\x1b[2F\x1b[J").count(), 2, "once for the second drawing, once at the end");
        for part in
            ["0:01", "[#####---------------] 500 of 2\u{2009}000, 14/s", "500 open", "10/s sent", "3 lost"]
        {
            assert!(text.contains(part), "{part} is missing in {text:?}");
        }
        assert!(!text.contains("reordered") && !text.contains("n\x1be"));
    }

    #[test]
    fn a_pipe_gets_plain_lines_now_and_then() {
        let text = shown(false, 11);
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains("\x1b["));
    }
}
