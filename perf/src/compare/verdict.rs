//! From runs to rows: the least disturbed figures of each contender, ratios, and whether each bar is met.

use serde::Serialize;

use super::contender::Kind;
use super::measure::{Outcome, Run};
use super::scenario::{Bar, Scenario};

/// A scenario's results.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) what: &'static str,
    pub(crate) figures: Vec<Figures>,
    pub(crate) judgements: Vec<Judgement>,
}

/// What a contender has shown in a scenario. "Best" is the least disturbed repetition.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) runs: usize,
    pub(crate) unclean: usize,
    pub(crate) cpu_us_best: Option<f64>,
    pub(crate) cpu_us_median: Option<f64>,
    pub(crate) cpu_us_worst: Option<f64>,
    /// Units per second of the fastest repetition.
    pub(crate) per_second_best: Option<f64>,
    pub(crate) generator_cpu_us_best: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p99_9_us: Option<f64>,
    pub(crate) bytes_per_item: Option<f64>,
    pub(crate) growth_bytes: Option<f64>,
}

/// A bar and how it went.
#[derive(Debug, Serialize)]
pub(crate) struct Judgement {
    /// The bar in words.
    pub(crate) bar: String,
    /// What was measured, in the bar's terms.
    pub(crate) measured: Option<f64>,
    pub(crate) limit: f64,
    /// None: one side of the comparison is missing.
    pub(crate) met: Option<bool>,
}

impl Row {
    /// Whether a bar was missed.
    pub(crate) fn is_missed(&self) -> bool {
        self.judgements.iter().any(|judgement| judgement.met == Some(false))
    }
}

/// One row per scenario.
pub(crate) fn rows(scenarios: &[&'static Scenario], runs: &[Run]) -> Vec<Row> {
    scenarios
        .iter()
        .map(|scenario| {
            let figures: Vec<Figures> = [Kind::Floor, Kind::Dunlin, Kind::Mosquitto]
                .into_iter()
                .filter_map(|kind| figures(scenario.name, kind, runs))
                .collect();
            let judgements = scenario.bars.iter().flat_map(|bar| judge(*bar, scenario.name, runs)).collect();
            Row { scenario: scenario.name, what: scenario.what, figures, judgements }
        })
        .collect()
}

fn figures(scenario: &str, kind: Kind, runs: &[Run]) -> Option<Figures> {
    let outcomes: Vec<&Outcome> = runs
        .iter()
        .filter(|run| run.scenario == scenario && run.kind == kind)
        .map(|run| &run.outcome)
        .collect();
    if outcomes.is_empty() {
        return None;
    }
    let sorted = |field: fn(&Outcome) -> Option<f64>| {
        let mut values: Vec<f64> = outcomes
            .iter()
            .filter(|outcome| outcome.is_clean())
            .filter_map(|outcome| field(outcome))
            .collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let least = |field: fn(&Outcome) -> Option<f64>| sorted(field).first().copied();
    let cpu = sorted(|outcome| outcome.cpu_us);
    Some(Figures {
        kind,
        runs: outcomes.len(),
        unclean: outcomes.iter().filter(|outcome| !outcome.is_clean()).count(),
        cpu_us_best: cpu.first().copied(),
        cpu_us_median: median(&cpu),
        cpu_us_worst: cpu.last().copied(),
        per_second_best: sorted(|outcome| outcome.per_second).last().copied(),
        generator_cpu_us_best: least(|outcome| outcome.generator_cpu_us),
        p50_us: least(|outcome| outcome.p50_us),
        p99_us: least(|outcome| outcome.p99_us),
        p99_9_us: least(|outcome| outcome.p99_9_us),
        bytes_per_item: least(|outcome| outcome.bytes_per_item),
        growth_bytes: least(|outcome| outcome.growth_bytes),
    })
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    sorted.get(sorted.len() / 2 - 1).map(|lower| f64::midpoint(*lower, *upper))
}

fn judge(bar: Bar, scenario: &str, runs: &[Run]) -> Vec<Judgement> {
    let Some(dunlin) = figures(scenario, Kind::Dunlin, runs) else { return Vec::new() };
    let other = |kind| figures(scenario, kind, runs);
    let against = |bar: String, limit: f64, mine: Option<f64>, theirs: Option<f64>| {
        let measured = mine.zip(theirs).map(|(mine, theirs)| mine / theirs);
        Judgement { bar, measured, limit, met: measured.map(|measured| measured <= limit) }
    };
    match bar {
        Bar::OfMosquitto(limit) => {
            let theirs = other(Kind::Mosquitto).and_then(|figures| figures.cpu_us_best);
            vec![against(format!("CPU ≤ {limit} × mosquitto"), limit, dunlin.cpu_us_best, theirs)]
        }
        Bar::OfFloor(limit) => {
            let theirs = other(Kind::Floor).and_then(|figures| figures.cpu_us_best);
            vec![against(format!("CPU ≤ {limit} × floor"), limit, dunlin.cpu_us_best, theirs)]
        }
        Bar::OfScenario(control, limit) => {
            let theirs = figures(control, Kind::Dunlin, runs).and_then(|figures| figures.cpu_us_best);
            vec![against(format!("CPU ≤ {limit} × {control}"), limit, dunlin.cpu_us_best, theirs)]
        }
        Bar::LatencyOfMosquitto => {
            let theirs = other(Kind::Mosquitto);
            let (p50, p99) = theirs.map_or((None, None), |figures| (figures.p50_us, figures.p99_us));
            vec![
                against("p50 ≤ mosquitto".to_owned(), 1.0, dunlin.p50_us, p50),
                against("p99 ≤ mosquitto".to_owned(), 1.0, dunlin.p99_us, p99),
            ]
        }
        Bar::MemoryOfMosquitto => {
            let theirs = other(Kind::Mosquitto).and_then(|figures| figures.bytes_per_item);
            vec![against("memory ≤ mosquitto".to_owned(), 1.0, dunlin.bytes_per_item, theirs)]
        }
        Bar::Growth(limit) => {
            let measured = dunlin.growth_bytes.map(|bytes| bytes / f64::from(1 << 20));
            let met = measured.map(|mebibytes| mebibytes <= limit);
            vec![Judgement { bar: format!("grows by ≤ {limit} MiB"), measured, limit, met }]
        }
        Bar::BytesPerItem(limit) => {
            let measured = dunlin.bytes_per_item;
            let met = measured.map(|bytes| bytes <= limit);
            vec![Judgement { bar: format!("≤ {limit} B each"), measured, limit, met }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn run(scenario: &'static str, kind: Kind, cpu: f64, clean: bool) -> Run {
        let outcome = Outcome {
            cpu_us: Some(cpu),
            cores: None,
            per_second: Some(1.0),
            generator_cpu_us: None,
            p50_us: None,
            p99_us: None,
            p99_9_us: None,
            bytes_per_item: None,
            growth_bytes: None,
            clean,
            error: None,
            report: Value::Null,
        };
        Run { scenario, kind, outcome }
    }

    fn p2p0() -> Vec<&'static Scenario> {
        super::super::scenario::ALL.iter().filter(|scenario| scenario.name == "p2p0").collect()
    }

    #[test]
    fn bars_are_judged_by_the_least_disturbed_clean_runs() {
        let runs = [
            run("p2p0", Kind::Dunlin, 9.0, true),
            run("p2p0", Kind::Dunlin, 6.0, true),
            run("p2p0", Kind::Dunlin, 1.0, false),
            run("p2p0", Kind::Mosquitto, 12.0, true),
            run("p2p0", Kind::Floor, 3.0, true),
        ];
        let rows = rows(&p2p0(), &runs);
        let met: Vec<_> =
            rows[0].judgements.iter().map(|judgement| (judgement.measured, judgement.met)).collect();
        assert_eq!(met, [(Some(0.5), Some(true)), (Some(2.0), Some(false))]);
        assert!(rows[0].is_missed());
        let dunlin = rows[0].figures.iter().find(|figures| figures.kind == Kind::Dunlin).unwrap();
        assert_eq!((dunlin.cpu_us_median, dunlin.unclean), (Some(7.5), 1));
    }

    #[test]
    fn a_missing_side_is_neither_met_nor_missed() {
        let rows = rows(&p2p0(), &[run("p2p0", Kind::Dunlin, 9.0, true)]);
        assert!(rows[0].judgements.iter().all(|judgement| judgement.met.is_none()));
    }
}
