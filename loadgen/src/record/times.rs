//! How long a leg takes: two histograms, corrected and raw, for each leg that occurs.
//!
//! *Corrected* counts from the moment when the thing should have been done, *raw* from the moment when it was.
//! They differ when the generator or a full window made it wait; only the corrected one can't hide a stall.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2DeflateSerializer};
use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Leg;
use crate::clock::SECOND_NS;

/// The longest time that is told apart: an hour. What takes longer counts as an hour.
pub(crate) const LONGEST_NS: u64 = 3_600 * SECOND_NS;

/// A histogram of nanoseconds with three significant digits, up to an hour. It is as large as the longest time that it has
/// seen makes necessary: 90 KB for a millisecond, 170 KB for a second, 270 KB for an hour.
#[derive(Clone)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("a constant number of digits that the library accepts"))
    }
}

/// The same samples, whatever room there is for others.
impl PartialEq for Times {
    fn eq(&self, other: &Self) -> bool {
        let recorded = |times: &Self| {
            let values = times.0.iter_recorded();
            values.map(|value| (value.value_iterated_to(), value.count_at_value())).collect::<Vec<_>>()
        };
        self.0.len() == other.0.len() && recorded(self) == recorded(other)
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Times({} samples)", self.0.len())
    }
}

impl Times {
    /// Notes one time; costs about 5 ns.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.0.record(nanoseconds.clamp(1, LONGEST_NS)).expect("it grows up to an hour");
    }

    /// Adds the samples of `other`, exactly. Costs about 20 µs.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.0.max() <= LONGEST_NS {
            self.0.add(&other.0).expect("it grows up to an hour");
            return;
        }
        // What was read from a file may reach further; it is then counted as an hour.
        for value in other.0.iter_recorded() {
            let nanoseconds = value.value_iterated_to().min(LONGEST_NS);
            self.0.record_n(nanoseconds, value.count_at_value()).expect("it grows up to an hour");
        }
    }

    /// Forgets all samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// The number of samples.
    pub(crate) fn samples(&self) -> u64 {
        self.0.len()
    }

    /// The histogram itself, in nanoseconds.
    pub(crate) const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// A histogram from elsewhere, in nanoseconds.
    pub(crate) fn from_histogram(histogram: &Histogram<u64>) -> Self {
        let mut times = Self::default();
        times.merge(&Self(histogram.clone()));
        times
    }

    /// The figures of these times; `None` when there are no samples.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let at = |quantile| self.0.value_at_quantile(quantile);
        (!self.0.is_empty()).then(|| Summary {
            samples: self.0.len(),
            min_ns: self.0.min(),
            mean_ns: self.0.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p99_9_ns: at(0.999),
            p99_99_ns: at(0.9999),
            p99_999_ns: at(0.999_99),
            max_ns: self.0.max(),
        })
    }

    /// `HdrHistogram` V2, deflated, as base64: what the standard tools read.
    pub(crate) fn encoded(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .expect("a histogram of fixed size is written to memory");
        STANDARD.encode(bytes)
    }

    /// Reads what [`Self::encoded`] and the standard tools write.
    ///
    /// # Errors
    /// When it is not base64 or not a histogram.
    pub(crate) fn decode(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text.trim()).map_err(|error| format!("not base64: {error}"))?;
        let histogram: Histogram<u64> = HdrDeserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("not an HdrHistogram: {error}"))?;
        Ok(Self::from_histogram(&histogram))
    }
}

/// Significant digits that are told apart.
const DIGITS: u8 = 3;

/// Figures of a distribution, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) samples: u64,
    pub(crate) min_ns: u64,
    pub(crate) mean_ns: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p99_9_ns: u64,
    pub(crate) p99_99_ns: u64,
    pub(crate) p99_999_ns: u64,
    pub(crate) max_ns: u64,
}

/// In files: the figures for people and programs, and the whole histogram beside them.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    summary: Option<Summary>,
    histogram: String,
}

/// What is read of it: the histogram says everything.
#[derive(Deserialize)]
struct Read {
    histogram: String,
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { summary: self.summary(), histogram: self.encoded() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(deserializer)?;
        Self::decode(&read.histogram).map_err(de::Error::custom)
    }
}

/// Both histograms of a leg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LegTimes {
    /// From the intended time.
    pub(crate) corrected: Times,
    /// From the actual time.
    pub(crate) raw: Times,
}

/// The legs that have occurred. A leg that has not costs a word.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Legs([Option<Box<LegTimes>>; Leg::ALL.len()]);

impl Legs {
    /// The times of a leg, if it has occurred.
    pub(crate) fn of(&self, leg: Leg) -> Option<&LegTimes> {
        self.0[leg.index()].as_deref()
    }

    /// The times of a leg, made if it has not occurred yet.
    pub(crate) fn of_mut(&mut self, leg: Leg) -> &mut LegTimes {
        self.0[leg.index()].get_or_insert_default()
    }

    /// The legs that have samples, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Leg, &LegTimes)> {
        Leg::ALL.into_iter().filter_map(|leg| Some((leg, self.of(leg)?))).filter(|(_, times)| {
            // A leg that was cleared for the next interval is there and empty.
            times.corrected.samples() > 0 || times.raw.samples() > 0
        })
    }

    /// Adds the samples of `other`, exactly.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (leg, times) in other.iter() {
            let own = self.of_mut(leg);
            own.corrected.merge(&times.corrected);
            own.raw.merge(&times.raw);
        }
    }

    /// Forgets all samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for times in self.0.iter_mut().flatten() {
            if times.corrected.samples() > 0 || times.raw.samples() > 0 {
                times.corrected.clear();
                times.raw.clear();
            }
        }
    }
}

impl Serialize for Legs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Legs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut legs = Self::default();
        for (leg, times) in super::leg::known(deserializer)? {
            *legs.of_mut(leg) = times;
        }
        Ok(legs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: &[u64]) -> Times {
        let mut times = Times::default();
        for value in values {
            times.record(*value);
        }
        times
    }

    #[test]
    fn three_digits_from_a_nanosecond_to_an_hour() {
        for value in [1, 999, 12_345, 678_901_234, LONGEST_NS] {
            let max = times(&[value]).summary().unwrap().max_ns;
            assert!(max.abs_diff(value) * 1_000 <= value, "{value} became {max}");
        }
        let over = times(&[LONGEST_NS * 7, 0]).summary().unwrap();
        assert_eq!(over.samples, 2, "what is too long or too short counts at the end of the range");
    }

    #[test]
    fn text_and_back_is_the_same_histogram() {
        let original = times(&[1, 5_000, 5_001, 70_000_000, LONGEST_NS]);
        let text = original.encoded();
        assert!(text.starts_with("HISTF"), "the standard tools know it by this: {text}");
        assert_eq!(Times::decode(&text).unwrap(), original);
        assert!(Times::decode("HISTFAAA").is_err() && Times::decode("ü").is_err());
    }

    #[test]
    fn legs_survive_json_and_unknown_ones_are_skipped() {
        let mut legs = Legs::default();
        legs.of_mut(Leg::Deliver).corrected.record(4_000);
        legs.of_mut(Leg::Deliver).raw.record(3_000);
        let mut json = serde_json::to_value(&legs).unwrap();
        assert_eq!(json["deliver"]["corrected"]["samples"], 1);
        json["teleport"] = serde_json::json!({"anything": [1, 2]});
        assert_eq!(serde_json::from_value::<Legs>(json).unwrap(), legs);
    }
}
