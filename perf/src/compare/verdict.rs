//! From runs to rows: the least disturbed figures of each contender, ratios, and whether each bar is met.

use crate::bench::Kind;
use crate::bench::results::{Field, Results, Row, Spread};
use crate::bench::scenario::{Bar, Scenario};

/// A scenario's results.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) scenario: String,
    pub(crate) what: String,
    pub(crate) figures: Vec<Figures>,
    pub(crate) judgements: Vec<Judgement>,
}

/// What a contender has shown in a scenario. The least of each is the least disturbed repetition's.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) runs: usize,
    pub(crate) unclean: usize,
    pub(crate) cpu_us: Option<Spread>,
    pub(crate) per_second: Option<Spread>,
    pub(crate) p50_us: Option<Spread>,
    pub(crate) p99_us: Option<Spread>,
    pub(crate) p99_9_us: Option<Spread>,
    pub(crate) bytes_per_item: Option<Spread>,
    pub(crate) growth_bytes: Option<Spread>,
}

/// A bar and how it went.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The bar in words.
    pub(crate) bar: String,
    /// What was measured, in the bar's terms.
    pub(crate) measured: Option<f64>,
    /// None: one side of the comparison is missing.
    pub(crate) met: Option<bool>,
}

impl Judged {
    /// Whether a bar was missed.
    pub(crate) fn is_missed(&self) -> bool {
        self.judgements.iter().any(|judgement| judgement.met == Some(false))
    }
}

/// One row per scenario.
pub(crate) fn rows(results: &Results) -> Vec<Judged> {
    results.rows.iter().map(|row| judged(row, results)).collect()
}

fn judged(row: &Row, results: &Results) -> Judged {
    let figures = Kind::ALL.into_iter().filter_map(|kind| figures(&row.name, kind, results)).collect();
    let bars = Scenario::named(&row.name).map_or(&[][..], |scenario| scenario.bars);
    let judgements = bars.iter().flat_map(|bar| judge(*bar, &row.name, results)).collect();
    Judged { scenario: row.name.clone(), what: row.what.clone(), figures, judgements }
}

fn figures(scenario: &str, kind: Kind, results: &Results) -> Option<Figures> {
    let outcomes = results.outcomes(scenario, kind);
    let runs = outcomes.clone().count();
    if runs == 0 {
        return None;
    }
    let spread = |field: Field| results.spread(scenario, kind, field);
    Some(Figures {
        kind,
        runs,
        unclean: outcomes.filter(|outcome| !outcome.is_clean()).count(),
        cpu_us: spread(|outcome| outcome.cpu_us),
        per_second: spread(|outcome| outcome.per_second),
        p50_us: spread(|outcome| outcome.p50_us),
        p99_us: spread(|outcome| outcome.p99_us),
        p99_9_us: spread(|outcome| outcome.p99_9_us),
        bytes_per_item: spread(|outcome| outcome.bytes_per_item),
        growth_bytes: spread(|outcome| outcome.growth_bytes),
    })
}

fn judge(bar: Bar, scenario: &str, results: &Results) -> Vec<Judgement> {
    let Some(dunlin) = figures(scenario, Kind::Dunlin, results) else { return Vec::new() };
    let other = |kind| figures(scenario, kind, results);
    let against = |bar: String, limit: f64, mine: Option<Spread>, theirs: Option<Spread>| {
        let measured = mine.zip(theirs).map(|(mine, theirs)| mine.least / theirs.least);
        Judgement { bar, measured, met: measured.map(|measured| measured <= limit) }
    };
    let alone = |bar: String, limit: f64, measured: Option<f64>| {
        vec![Judgement { bar, measured, met: measured.map(|measured| measured <= limit) }]
    };
    match bar {
        Bar::OfMosquitto(limit) => {
            let theirs = other(Kind::Mosquitto).and_then(|figures| figures.cpu_us);
            vec![against(format!("CPU ≤ {limit} × mosquitto"), limit, dunlin.cpu_us, theirs)]
        }
        Bar::OfFloor(limit) => {
            let theirs = other(Kind::Floor).and_then(|figures| figures.cpu_us);
            vec![against(format!("CPU ≤ {limit} × floor"), limit, dunlin.cpu_us, theirs)]
        }
        Bar::OfScenario(control, limit) => {
            let theirs = figures(control, Kind::Dunlin, results).and_then(|figures| figures.cpu_us);
            vec![against(format!("CPU ≤ {limit} × {control}"), limit, dunlin.cpu_us, theirs)]
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
            let mebibytes = dunlin.growth_bytes.map(|bytes| bytes.least / f64::from(1 << 20));
            alone(format!("grows by ≤ {limit} MiB"), limit, mebibytes)
        }
        Bar::BytesPerItem(limit) => {
            let bytes = dunlin.bytes_per_item.map(|bytes| bytes.least);
            alone(format!("≤ {limit} B each"), limit, bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;

    #[test]
    fn bars_are_judged_by_the_least_disturbed_clean_runs() {
        let mut results = results(&[
            (Kind::Dunlin, 9.0),
            (Kind::Dunlin, 6.0),
            (Kind::Dunlin, 1.0),
            (Kind::Mosquitto, 12.0),
            (Kind::Floor, 3.0),
        ]);
        results.runs[2].outcome.clean = false;
        let rows = rows(&results);
        let met: Vec<_> =
            rows[0].judgements.iter().map(|judgement| (judgement.measured, judgement.met)).collect();
        assert_eq!(met, [(Some(0.5), Some(true)), (Some(2.0), Some(false))]);
        assert!(rows[0].is_missed());
        let dunlin = rows[0].figures.iter().find(|figures| figures.kind == Kind::Dunlin).unwrap();
        assert_eq!((dunlin.cpu_us.unwrap().median, dunlin.unclean), (7.5, 1));
    }

    #[test]
    fn a_missing_side_is_neither_met_nor_missed() {
        let rows = rows(&results(&[(Kind::Dunlin, 9.0)]));
        assert!(rows[0].judgements.iter().all(|judgement| judgement.met.is_none()));
    }
}
