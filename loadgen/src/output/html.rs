//! The report as one page: style, script and plots are in it, and it loads nothing.

use std::fmt;

use super::{charts, markdown, sections};
use crate::record::Outcome;

/// The page of one outcome, or of several side by side.
pub(crate) fn page(outcomes: &[Outcome]) -> String {
    let names: Vec<String> = (0..outcomes.len()).map(|number| markdown::name(outcomes, number)).collect();
    let title = names.join(" · ");
    let mut body = format!("<header>{}</header>\n", sections::head(outcomes));
    match outcomes {
        [outcome] => body.push_str(&sections::tiles(outcome)),
        _ => body.push_str(&sections::comparison(outcomes)),
    }
    let plots: String = charts::over_time(outcomes).iter().map(|plot| plot.figure()).collect();
    let curves: String = charts::curves(outcomes).iter().map(|plot| plot.figure()).collect();
    let trials = charts::trials(outcomes).map(|plot| plot.figure()).unwrap_or_default();
    for (heading, figures) in [("Found by searching", trials), ("Percentiles", curves), ("Over time", plots)]
    {
        if !figures.is_empty() {
            body.push_str(&format!(
                "<section><h2>{heading}</h2><div class=\"plots\">{figures}</div></section>\n"
            ));
        }
    }
    match outcomes {
        [outcome] => body.push_str(&sections::details(outcome)),
        _ => {
            for (outcome, name) in outcomes.iter().zip(&names) {
                let (name, details) = (Escaped(name), sections::details(outcome));
                body.push_str(&format!(
                    "<details class=\"more\"><summary>{name}</summary>{details}</details>\n"
                ));
            }
        }
    }
    let title = Escaped(&title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body><main>{body}</main><script>{SCRIPT}</script></body></html>\n"
    )
}

/// Text in which nothing is markup.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                // Control characters are not text in HTML; a line end and a tab are.
                c if c.is_control() && c != '\n' && c != '\t' => formatter.write_str("\u{fffd}")?,
                c => fmt::Write::write_char(formatter, c)?,
            }
        }
        Ok(())
    }
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::{Nanos, SECOND_NS};
    use crate::record::{
        Blind, Leg, PerConnection, Recorder, ResourcePoint, Search, Standard, Trial, Violation,
    };

    /// A short run with something of everything in it.
    pub(crate) fn sample(name: &str) -> Outcome {
        let mut recorder = Recorder::new(Nanos(0));
        recorder.begin_stage(Nanos(0), "connect & subscribe", false);
        for _ in 0..20 {
            recorder.connected();
            recorder.time(Leg::ConnAck, Nanos(0), Nanos(5), Nanos(90_000));
        }
        recorder.begin_stage(Nanos(SECOND_NS), "steady", true);
        for step in 0..800_u64 {
            let now = Nanos(SECOND_NS + step * SECOND_NS / 100);
            recorder.turn(now, &mut Blind);
            recorder.sent(step % 200 == 0);
            recorder.delivered();
            let took = 100_000 + (step * 7_919 % 800) * 1_000;
            let began = Nanos(now.0.saturating_sub(took));
            recorder.time(Leg::Deliver, Nanos(began.0.saturating_sub(20_000)), began, now);
            if step % 100 == 0 {
                recorder.observe(ResourcePoint {
                    at_ms: now.0 / 1_000_000,
                    broker_cores: Some(0.5),
                    broker_rss_bytes: Some(50_000_000 + step * 1_000),
                    kernel_bytes: Some(9_000_000),
                    generator_cores: Some(0.25),
                    generator_rss_bytes: Some(30_000_000),
                });
            }
        }
        recorder.violations().add(Violation::Lost, 2);
        recorder.violations().check(Violation::Duplicated);
        recorder.violations().leave_out(Violation::Reordered, "several publishers <per> topic");
        recorder.fail("connection refused: NotAuthorized", "connection 7 refused");
        let mut outcome = recorder.into_outcome(Nanos(9 * SECOND_NS));
        outcome.plan.name = name.to_owned();
        outcome.plan.about = "Pairs of clients, each on its own topic.".to_owned();
        outcome.plan.parameters.insert("qos".to_owned(), "1".to_owned());
        outcome.plan.text = Some("version = 1\nname = \"x\" # <b>\n".to_owned());
        outcome.environment.started_unix_ms = 1_772_366_400_000;
        outcome.environment.command = "dunlin-loadgen p2p --rate '10 0'".to_owned();
        outcome.notes.push("a note".to_owned());
        outcome.resources.per_connection =
            Some(PerConnection { connections: 20, ..PerConnection::default() });
        let deliver = outcome.legs.of(Leg::Deliver).and_then(|times| times.corrected.summary());
        let trial = |rate| Trial { sent_per_second: rate, deliver, ..Trial::default() };
        outcome.search = Some(Search { trials: vec![trial(10.0), trial(20.0)], ..Search::default() });
        outcome.judge(&Standard::default());
        outcome
    }

    /// Checks that every element is ended in its place and every attribute is quoted; returns the names of attributes.
    fn check_well_formed(page: &str) -> Vec<String> {
        let mut open = Vec::new();
        let mut attributes = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a page begins with its type");
        while let Some(at) = rest.find('<') {
            assert!(!rest[..at].contains('>'), "a stray > before {:?}", &rest[at..rest.len().min(at + 80)]);
            rest = &rest[at + 1..];
            let end = tag_end(rest);
            let tag = &rest[..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.to_owned()), "before {:?}", &rest[..rest.len().min(80)]);
                continue;
            }
            let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            attributes.extend(attribute_names(&tag[name.len()..]));
            if name == "style" || name == "script" {
                let close = format!("</{name}>");
                rest = &rest[rest.find(&close).expect("it ends") + close.len()..];
            } else if name != "meta" {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "not ended: {open:?}");
        attributes
    }

    fn tag_end(rest: &str) -> usize {
        let mut quoted = false;
        rest.char_indices()
            .find(|(_, c)| {
                quoted ^= *c == '"';
                *c == '>' && !quoted
            })
            .expect("a tag ends")
            .0
    }

    fn attribute_names(mut text: &str) -> Vec<String> {
        let mut names = Vec::new();
        while let Some((name, rest)) = text.split_once("=\"") {
            let name = name.trim();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name:?}");
            names.push(name.to_owned());
            text = rest.split_once('"').expect("a value ends").1;
        }
        assert!(text.trim().is_empty(), "{text:?} is not a quoted attribute");
        names
    }

    #[test]
    fn the_page_is_well_formed_and_loads_nothing() {
        for page in
            [page(&[sample("one")]), page(&[sample("one"), sample("two")]), page(&[Outcome::default()])]
        {
            let attributes = check_well_formed(&page);
            for loads in ["src", "href", "srcset", "action", "data", "onload", "xlink"] {
                assert!(!attributes.iter().any(|name| name == loads), "{loads}");
            }
            for loads in ["http:", "https:", "url(", "@import", "fetch(", "import("] {
                assert!(!page.contains(loads), "{loads}");
            }
        }
    }

    #[test]
    fn hostile_names_stay_text() {
        let hostile = "</title><script>alert('1')</script>\"onload=\"x\" & \u{1b}[31m";
        let mut outcome = sample(hostile);
        outcome.plan.about = hostile.to_owned();
        outcome.plan.parameters.insert(hostile.to_owned(), hostile.to_owned());
        outcome.plan.text = Some(hostile.to_owned());
        outcome.environment.command = hostile.to_owned();
        outcome.environment.broker = hostile.to_owned();
        outcome.stages[0].name = hostile.to_owned();
        outcome.failures.note(hostile, hostile);
        outcome.notes.push(hostile.to_owned());
        outcome.judge(&Standard::default());
        for page in [page(&[outcome.clone()]), page(&[outcome.clone(), outcome])] {
            let attributes = check_well_formed(&page);
            assert!(!attributes.iter().any(|name| name == "onload"));
            assert!(!page.contains("<script>alert") && !page.contains('\u{1b}'));
        }
    }

    #[test]
    fn everything_is_on_the_page() {
        let text = page(&[sample("pairs")]);
        for part in [
            "pairs",
            "FAILED",
            "2 messages that never came",
            "Percentiles",
            "p99.9",
            "Throughput",
            "Times of each second",
            "Connections",
            "Processor",
            "Memory",
            "not looked for",
            "Where and how",
            "--rate &#39;10 0&#39;",
            "Delivery against rate",
        ] {
            assert!(text.contains(part), "{part} is missing");
        }
        let two = page(&[sample("one"), sample("two")]);
        assert!(two.contains("Side by side") && two.contains("1: one") && two.contains("2: two p99"));
    }
}
