//! Histograms as an interval log, the text form that the tools around HdrHistogram read.
//!
//! Tags: `deliver` is the total of the measured stages from the intended time, `deliver.raw` the same from the actual
//! time, and `deliver.each` the run second by second, all stages, from the intended time; likewise for each leg that
//! occurs. Values are nanoseconds; the column of maxima is in milliseconds.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};

use crate::record::{Outcome, Times};

/// A log: intervals by tag and time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Log {
    /// Start of the run, since 1970.
    base: Duration,
    intervals: BTreeMap<Place, Interval>,
}

/// Which interval: totals of a tag have one place, pieces of time have one each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Since 1970, in milliseconds; 0 for totals.
    start_ms: u128,
    tag: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Interval {
    /// Since 1970.
    start: Duration,
    end: Duration,
    times: Times,
}

/// The log of an outcome.
pub(crate) fn log(outcome: &Outcome) -> Vec<u8> {
    Log::of(outcome).bytes()
}

impl Log {
    /// The histograms of an outcome.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let base = Duration::from_millis(outcome.environment.started_unix_ms);
        let mut log = Self { base, ..Self::default() };
        let measured = outcome.stages.iter().filter(|stage| stage.measured);
        let from = measured.clone().map(|stage| stage.start_ns).min().unwrap_or(0);
        let to = measured.map(|stage| stage.end_ns).max().unwrap_or_else(|| outcome.length_ns());
        let window = (base + Duration::from_nanos(from), base + Duration::from_nanos(to));
        for (leg, times) in outcome.legs.iter() {
            log.add(leg.name(), window, &times.corrected);
            log.add(&format!("{}{RAW}", leg.name()), window, &times.raw);
        }
        for point in outcome.series.points() {
            let start = base + Duration::from_secs(point.at_seconds);
            let window = (start, start + Duration::from_secs(point.width_seconds));
            for leg in point.legs() {
                if let Some(times) = point.times(leg) {
                    log.add(&format!("{}{EACH}", leg.name()), window, &times);
                }
            }
        }
        log
    }

    /// Reads a log of this program or of another.
    ///
    /// # Errors
    /// In words, when a line is not what it should be.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut log = Self::default();
        for entry in IntervalLogIterator::new(bytes) {
            let interval = match entry {
                Ok(LogEntry::BaseTime(base)) => {
                    log.base = base;
                    continue;
                }
                Ok(LogEntry::StartTime(_)) => continue,
                Ok(LogEntry::Interval(interval)) => interval,
                Err(error) => return Err(format!("not a line of an interval log: {error:?}")),
            };
            let start = log.base + interval.start_timestamp();
            let times = Times::decode(interval.encoded_histogram()).map_err(|reason| {
                format!("the interval at {:.3} s: {reason}", interval.start_timestamp().as_secs_f64())
            })?;
            let tag = interval.tag().map_or("", |tag| tag.as_str());
            log.add(tag, (start, start + interval.duration()), &times);
        }
        if log.intervals.is_empty() {
            return Err("has no histogram in it; the last line of a log must have an end".to_owned());
        }
        Ok(log)
    }

    /// Adds all samples of another log, exactly. Totals of a tag are added up, pieces of time where they begin together.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.base = self.base.min(other.base);
        for (place, interval) in &other.intervals {
            self.add(&place.tag, (interval.start, interval.end), &interval.times);
        }
    }

    /// Adds samples to the interval that they belong to.
    fn add(&mut self, tag: &str, (start, end): (Duration, Duration), times: &Times) {
        if times.samples() == 0 {
            return;
        }
        let total = !tag.ends_with(EACH) && !tag.is_empty();
        let place = Place { start_ms: if total { 0 } else { start.as_millis() }, tag: tag.to_owned() };
        match self.intervals.get_mut(&place) {
            Some(own) => {
                own.start = own.start.min(start);
                own.end = own.end.max(end);
                own.times.merge(times);
            }
            None => drop(self.intervals.insert(place, Interval { start, end, times: times.clone() })),
        }
    }

    /// All samples of a tag.
    #[cfg(test)]
    fn total(&self, tag: &str) -> Times {
        let mut total = Times::default();
        let of_tag = self.intervals.iter().filter(|(place, _)| place.tag == tag);
        of_tag.for_each(|(_, interval)| total.merge(&interval.times));
        total
    }

    /// The log as a file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        for comment in COMMENTS {
            builder.add_comment(comment);
        }
        builder.with_start_time(UNIX_EPOCH + self.base).with_base_time(UNIX_EPOCH + self.base);
        builder.with_max_value_divisor(NANOSECONDS_PER_MILLISECOND);
        let mut writer =
            builder.begin_log_with(&mut bytes, &mut serializer).expect("writing to memory can't fail");
        for (place, interval) in &self.intervals {
            let start = interval.start.saturating_sub(self.base);
            let duration = interval.end.saturating_sub(interval.start);
            writer
                .write_histogram(interval.times.histogram(), start, duration, Tag::new(&place.tag))
                .expect("a histogram of fixed size is written to memory");
        }
        bytes
    }
}

const COMMENTS: [&str; 3] = [
    "[Histogram log format version 1.3]",
    "dunlin-loadgen: values in nanoseconds, maxima in milliseconds",
    "tags: LEG total from the intended time, LEG.raw total from the actual time, LEG.each second by second",
];
const RAW: &str = ".raw";
const EACH: &str = ".each";
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::html::tests::sample;
    use crate::record::Leg;

    #[test]
    fn a_log_is_read_back_as_it_was() {
        let outcome = sample("p2p");
        let log = Log::of(&outcome);
        let read = Log::parse(&log.bytes()).unwrap();
        assert_eq!(read, log);
        let legs = outcome.legs.of(Leg::Deliver).unwrap();
        assert_eq!(read.total("deliver"), legs.corrected);
        assert_eq!(read.total("deliver.raw"), legs.raw);
        assert!(read.total("deliver.each").samples() >= legs.corrected.samples());
    }

    #[test]
    fn merging_loses_nothing_and_adds_up_what_belongs_together() {
        let (one, mut two) = (Log::of(&sample("a")), sample("a"));
        two.environment.started_unix_ms += 3_000;
        let two = Log::of(&two);
        let mut merged = Log::parse(&one.bytes()).unwrap();
        merged.merge(&Log::parse(&two.bytes()).unwrap());
        let merged = Log::parse(&merged.bytes()).unwrap();
        for tag in ["deliver", "deliver.raw", "deliver.each", "conn_ack"] {
            let mut expected = one.total(tag);
            expected.merge(&two.total(tag));
            assert_eq!(merged.total(tag), expected, "{tag}");
        }
        assert_eq!(merged.intervals.keys().filter(|place| place.tag == "deliver").count(), 1);
        assert_eq!(merged.base, one.base);
    }

    #[test]
    fn what_is_not_a_log_is_refused_in_words() {
        assert!(Log::parse(b"hello\n").unwrap_err().contains("interval log"));
        assert!(Log::parse(b"#comment\n").unwrap_err().contains("no histogram"));
        assert!(Log::parse(b"0.0,1.0,0.1,HISTFAAA\n").unwrap_err().contains("0.000 s"));
    }
}
