//! What a search has tried, as lines for the terminal and as a table for spreadsheets.

use super::csv::{field, push, run_name};
use super::figures::{digits, rate, time};
use crate::record::{Outcome, Summary, Trial};

/// What stands above the lines.
pub(crate) const TRIALS_HEAD: &str =
    "   offered  delivered       p50       p99     p99.9       max  broker generator\n";

/// One trial as a line.
pub(crate) fn trial_line(trial: &Trial) -> String {
    let [p50, p99, p99_9, max] = trial.deliver.map_or_else(
        || ["-", "-", "-", "-"].map(str::to_owned),
        |times| [times.p50_ns, times.p99_ns, times.p99_9_ns, times.max_ns].map(time),
    );
    let percent =
        |cores: Option<f64>| cores.map_or_else(|| "-".to_owned(), |cores| format!("{:.0} %", cores * 100.0));
    let line = format!(
        "{:>10} {:>10} {p50:>9} {p99:>9} {p99_9:>9} {max:>9} {:>7} {:>9}  {} {}",
        rate(trial.offered_per_second),
        rate(trial.delivered_per_second),
        percent(trial.broker_cores),
        percent(trial.generator_cores),
        if trial.passed { "ok" } else { "--" },
        trial.note
    );
    format!("{}\n", line.trim_end())
}

/// All trials of an outcome below their head; empty when it was no search.
pub(super) fn lines(outcome: &Outcome) -> String {
    let trials = outcome.search.iter().flat_map(|search| &search.trials);
    let lines: String = trials.map(trial_line).collect();
    if lines.is_empty() { lines } else { format!("\n{TRIALS_HEAD}{lines}\n") }
}

/// The columns of a table of trials for people.
pub(super) const HEADS: [&str; 10] = [
    "offered/s",
    "sent/s",
    "delivered/s",
    "p50",
    "p99",
    "p99.9",
    "broker cores",
    "generator cores",
    "kept",
    "note",
];

/// A trial in the columns of [`HEADS`].
pub(super) fn row(trial: &Trial) -> Vec<String> {
    let times = |of: fn(&Summary) -> u64| {
        trial.deliver.as_ref().map_or_else(|| "–".to_owned(), |summary| time(of(summary)))
    };
    let cores = |cores: Option<f64>| cores.map_or_else(|| "–".to_owned(), digits);
    vec![
        rate(trial.offered_per_second),
        rate(trial.sent_per_second),
        rate(trial.delivered_per_second),
        times(|summary| summary.p50_ns),
        times(|summary| summary.p99_ns),
        times(|summary| summary.p99_9_ns),
        cores(trial.broker_cores),
        cores(trial.generator_cores),
        if trial.passed { "yes" } else { "no" }.to_owned(),
        trial.note.clone(),
    ]
}

/// One row per trial of all outcomes that are searches; `None` when none of them is.
pub(super) fn table(outcomes: &[Outcome]) -> Option<String> {
    let mut text = String::from(
        "run,offered_per_second,sent_per_second,delivered_per_second,samples,p50_ns,p90_ns,p99_ns,p99_9_ns,p99_99_ns,max_ns,\
         broker_cores,generator_cores,passed,note\n",
    );
    let is_any = outcomes.iter().any(|outcome| outcome.search.is_some());
    for (number, outcome) in outcomes.iter().enumerate() {
        let run = run_name(outcomes, number);
        for trial in outcome.search.iter().flat_map(|search| &search.trials) {
            let times = trial.deliver.map_or_else(
                || [const { String::new() }; 7],
                |s| {
                    [s.samples, s.p50_ns, s.p90_ns, s.p99_ns, s.p99_9_ns, s.p99_99_ns, s.max_ns]
                        .map(|figure| figure.to_string())
                },
            );
            let cores = |cores: Option<f64>| cores.map_or_else(String::new, |cores| cores.to_string());
            push(
                &mut text,
                format_args!(
                    "{run},{},{},{},{},{},{},{},{}\n",
                    trial.offered_per_second,
                    trial.sent_per_second,
                    trial.delivered_per_second,
                    times.join(","),
                    cores(trial.broker_cores),
                    cores(trial.generator_cores),
                    trial.passed,
                    field(&trial.note)
                ),
            );
        }
    }
    is_any.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::sample;
    use super::*;
    use crate::record::Search;

    #[test]
    fn each_trial_is_a_line_of_the_list_and_of_the_table() {
        let trial = Trial { offered_per_second: 5.0, note: "lost \"1\"".to_owned(), ..Trial::default() };
        let deliver = sample("p2p").search.unwrap().trials[0].deliver;
        let other = Trial { deliver, broker_cores: Some(0.5), ..trial.clone() };
        let search = Search { kind: "rate".to_owned(), trials: vec![trial, other], ..Search::default() };
        let outcome = Outcome { search: Some(search), ..Outcome::default() };
        let text = table(std::slice::from_ref(&outcome)).unwrap();
        assert_eq!(text.lines().count(), 3);
        let columns = text.lines().next().unwrap().split(',').count();
        assert!(text.lines().all(|line| line.split(',').count() == columns), "{text}");
        assert!(text.contains("\"lost \"\"1\"\"\""));
        assert_eq!(lines(&outcome).matches("lost").count(), 2);
        assert_eq!(row(&outcome.search.as_ref().unwrap().trials[1]).len(), HEADS.len());
        assert!(table(&[Outcome::default()]).is_none() && lines(&Outcome::default()).is_empty());
    }
}
