//! Codecs: how the value of a key is read from any layer, checked, and printed back.
//!
//! A codec is a small value that names a range or a set of words; `schema.rs` pairs one with each key.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use dunlin_wire::types::QoS;

use super::listen::ListenerUrl;
use super::units;
use super::value::{Raw, quote};
use crate::topology::CoreList;

/// Reads, checks and prints values of one type. What `print` writes, `parse` reads as the same value.
pub(crate) trait Codec<T> {
    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the value.
    fn parse(&self, raw: &Raw) -> Result<T, String>;
    /// The value in TOML.
    fn print(&self, value: &T) -> String;
    /// What is taken, in words.
    fn takes(&self) -> String;
}

/// `true` or `false`.
pub(crate) struct Flag;

impl Codec<bool> for Flag {
    fn parse(&self, raw: &Raw) -> Result<bool, String> {
        match raw.as_scalar() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        }
    }

    fn print(&self, value: &bool) -> String {
        value.to_string()
    }

    fn takes(&self) -> String {
        "true or false".to_owned()
    }
}

/// A whole number.
pub(crate) struct Whole(pub(crate) RangeInclusive<u64>);

impl<T: TryFrom<u64> + Into<u64> + Copy> Codec<T> for Whole {
    fn parse(&self, raw: &Raw) -> Result<T, String> {
        let text = raw.as_scalar().ok_or_else(|| NOT_A_NUMBER.to_owned())?;
        let number: i128 = text.parse().map_err(|_no_digits| NOT_A_NUMBER.to_owned())?;
        let number = u64::try_from(number).map_err(|_negative| "is out of range".to_owned())?;
        within(number, &self.0)
    }

    fn print(&self, value: &T) -> String {
        (*value).into().to_string()
    }

    fn takes(&self) -> String {
        if *self.0.end() >= u64::from(u32::MAX) {
            return format!("a whole number from {}", self.0.start());
        }
        format!("{} to {}", self.0.start(), self.0.end())
    }
}

/// A size in bytes.
pub(crate) struct Bytes(pub(crate) RangeInclusive<u64>);

impl<T: TryFrom<u64> + Into<u64> + Copy> Codec<T> for Bytes {
    fn parse(&self, raw: &Raw) -> Result<T, String> {
        let text = raw.as_scalar().ok_or_else(|| "is not a size".to_owned())?;
        within(units::size_bytes(text)?, &self.0)
    }

    fn print(&self, value: &T) -> String {
        quote(&units::show_size((*value).into()))
    }

    fn takes(&self) -> String {
        format!("a size from {} to {}", units::show_size(*self.0.start()), units::show_size(*self.0.end()))
    }
}

/// A duration, kept in milliseconds.
pub(crate) struct Millis(pub(crate) RangeInclusive<u64>);

impl Codec<u64> for Millis {
    fn parse(&self, raw: &Raw) -> Result<u64, String> {
        within(duration(raw)?, &self.0)
    }

    fn print(&self, value: &u64) -> String {
        quote(&units::show_duration(*value))
    }

    fn takes(&self) -> String {
        format!(
            "a duration from {} to {}",
            units::show_duration(*self.0.start()),
            units::show_duration(*self.0.end())
        )
    }
}

/// An interval, kept in milliseconds; zero means "off".
pub(crate) struct Interval(pub(crate) RangeInclusive<u64>);

impl Codec<u64> for Interval {
    fn parse(&self, raw: &Raw) -> Result<u64, String> {
        match duration(raw)? {
            0 => Ok(0),
            ms => within(ms, &self.0),
        }
    }

    fn print(&self, value: &u64) -> String {
        Millis(self.0.clone()).print(value)
    }

    fn takes(&self) -> String {
        format!("{}, or 0s for off", Millis(self.0.clone()).takes())
    }
}

/// A duration, kept in whole seconds.
pub(crate) struct Seconds(pub(crate) RangeInclusive<u64>);

impl Codec<u32> for Seconds {
    fn parse(&self, raw: &Raw) -> Result<u32, String> {
        let ms = duration(raw)?;
        if ms % 1_000 != 0 {
            return Err("is not a whole number of seconds".to_owned());
        }
        within(ms / 1_000, &self.0)
    }

    fn print(&self, value: &u32) -> String {
        quote(&units::show_duration(u64::from(*value) * 1_000))
    }

    fn takes(&self) -> String {
        let (from, to) = (self.0.start() * 1_000, self.0.end() * 1_000);
        format!("a duration from {} to {}", units::show_duration(from), units::show_duration(to))
    }
}

/// A duration in seconds, or `infinity`, which MQTT writes as 0xFFFFFFFF [MQTT5 §3.1.2.11.2].
pub(crate) struct SecondsOrForever;

impl Codec<u32> for SecondsOrForever {
    fn parse(&self, raw: &Raw) -> Result<u32, String> {
        Or("infinity", SECONDS).parse(raw).map(|seconds| seconds.unwrap_or(u32::MAX))
    }

    fn print(&self, value: &u32) -> String {
        Or("infinity", SECONDS).print(&Some(*value).filter(|seconds| *seconds != u32::MAX))
    }

    fn takes(&self) -> String {
        Or::<Seconds>("infinity", SECONDS).takes()
    }
}

/// A word that means "none" (`infinity`, `disabled`, `auto`), or what the inner codec takes.
pub(crate) struct Or<C>(pub(crate) &'static str, pub(crate) C);

impl<T: Copy, C: Codec<T>> Codec<Option<T>> for Or<C> {
    fn parse(&self, raw: &Raw) -> Result<Option<T>, String> {
        if raw.as_scalar() == Some(self.0) { Ok(None) } else { self.1.parse(raw).map(Some) }
    }

    fn print(&self, value: &Option<T>) -> String {
        value.map_or_else(|| quote(self.0), |value| self.1.print(&value))
    }

    fn takes(&self) -> String {
        format!("{}, or {}", self.1.takes(), self.0)
    }
}

/// One word of a set.
pub(crate) struct Choice<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Codec<T> for Choice<T> {
    fn parse(&self, raw: &Raw) -> Result<T, String> {
        let word = raw.as_scalar().unwrap_or_default();
        let found = self.0.iter().find(|(name, _)| *name == word);
        found.map(|(_, value)| *value).ok_or_else(|| "is not one of the words that it takes".to_owned())
    }

    fn print(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, known)| known == value);
        quote(found.map_or("", |(name, _)| name))
    }

    fn takes(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

/// A decimal number with at most two places, kept in hundredths.
pub(crate) struct Hundredths(pub(crate) RangeInclusive<u64>);

impl Codec<u32> for Hundredths {
    fn parse(&self, raw: &Raw) -> Result<u32, String> {
        let text = raw.as_scalar().ok_or_else(|| NOT_A_NUMBER.to_owned())?;
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        if places.len() > 2 {
            return Err("has more than two decimal places".to_owned());
        }
        let number: u64 =
            format!("{whole}{places:0<2}").parse().map_err(|_no_digits| NOT_A_NUMBER.to_owned())?;
        within(number, &self.0)
    }

    fn print(&self, value: &u32) -> String {
        show_hundredths(u64::from(*value))
    }

    fn takes(&self) -> String {
        format!("{} to {}", show_hundredths(*self.0.start()), show_hundredths(*self.0.end()))
    }
}

/// 0, 1 or 2.
pub(crate) struct QosLevel;

impl Codec<QoS> for QosLevel {
    fn parse(&self, raw: &Raw) -> Result<QoS, String> {
        let number = raw.as_scalar().and_then(|text| text.parse().ok());
        number.and_then(QoS::from_u8).ok_or_else(|| "is not a QoS".to_owned())
    }

    fn print(&self, value: &QoS) -> String {
        value.as_u8().to_string()
    }

    fn takes(&self) -> String {
        "0, 1 or 2".to_owned()
    }
}

/// A text of one line that MQTT can carry.
pub(crate) struct Line {
    /// Longest, bytes.
    pub(crate) bytes_max: usize,
    /// Characters that it may not hold, and why.
    pub(crate) refused: &'static [char],
    /// Whether it may be empty.
    pub(crate) may_be_empty: bool,
}

impl Codec<String> for Line {
    fn parse(&self, raw: &Raw) -> Result<String, String> {
        let text = raw.as_scalar().ok_or_else(|| "is not a text".to_owned())?;
        if text.is_empty() && !self.may_be_empty {
            return Err("is empty".to_owned());
        }
        if text.len() > self.bytes_max {
            return Err(format!("is {} bytes long", text.len()));
        }
        if let Some(c) = text.chars().find(|c| c.is_control() || self.refused.contains(c)) {
            return Err(format!("holds the character {c:?}"));
        }
        Ok(text.to_owned())
    }

    fn print(&self, value: &String) -> String {
        quote(value)
    }

    fn takes(&self) -> String {
        let mut takes = format!("a text of at most {} bytes", self.bytes_max);
        if !self.refused.is_empty() {
            let refused: Vec<String> = self.refused.iter().map(|c| format!("'{c}'")).collect();
            takes = format!("{takes} without {}", refused.join(", "));
        }
        takes
    }
}

/// A folder, or `auto` for the usual one; an empty text is `auto` too.
pub(crate) struct Folder;

impl Codec<Option<PathBuf>> for Folder {
    fn parse(&self, raw: &Raw) -> Result<Option<PathBuf>, String> {
        match raw {
            Raw::Text(text) if text.contains('\0') => Err("holds a zero character".to_owned()),
            Raw::Text(text) => Ok((!text.is_empty() && text != AUTO).then(|| PathBuf::from(text))),
            Raw::Number(_) | Raw::Bool(_) | Raw::List(_) | Raw::Map(_) => Err("is not a path".to_owned()),
        }
    }

    fn print(&self, value: &Option<PathBuf>) -> String {
        quote(&value.as_ref().map_or_else(|| AUTO.to_owned(), |path| path.display().to_string()))
    }

    fn takes(&self) -> String {
        "the path of a folder, or auto".to_owned()
    }
}

/// One or more listener URLs.
pub(crate) struct Listeners;

impl Codec<Vec<ListenerUrl>> for Listeners {
    fn parse(&self, raw: &Raw) -> Result<Vec<ListenerUrl>, String> {
        let mut urls: Vec<ListenerUrl> = Vec::new();
        for text in texts(raw)? {
            let url =
                ListenerUrl::parse(&text).map_err(|problem| format!("cannot be used: '{text}' {problem}"))?;
            if url.address.port() != 0 && urls.contains(&url) {
                return Err(format!("names {url} twice"));
            }
            urls.push(url);
        }
        if urls.is_empty() {
            return Err("names no listener".to_owned());
        }
        if urls.len() > LISTENER_COUNT_MAX {
            return Err(format!("names {} listeners", urls.len()));
        }
        Ok(urls)
    }

    fn print(&self, value: &Vec<ListenerUrl>) -> String {
        let urls: Vec<String> = value.iter().map(|url| quote(&url.to_string())).collect();
        format!("[{}]", urls.join(", "))
    }

    fn takes(&self) -> String {
        format!("a list of 1 to {LISTENER_COUNT_MAX} URLs mqtt://ADDRESS:PORT; port 0 takes a free one")
    }
}

/// CPU numbers, as `0-3,8` or a list, or `auto`.
pub(crate) struct Cores;

impl Codec<Option<CoreList>> for Cores {
    fn parse(&self, raw: &Raw) -> Result<Option<CoreList>, String> {
        if raw.as_scalar() == Some("auto") {
            return Ok(None);
        }
        CoreList::parse(&texts(raw)?.join(",")).map(Some)
    }

    fn print(&self, value: &Option<CoreList>) -> String {
        quote(&value.as_ref().map_or_else(|| "auto".to_owned(), ToString::to_string))
    }

    fn takes(&self) -> String {
        "CPU numbers such as 0-3,8, or auto for all that the process may use".to_owned()
    }
}

/// Topic → priority, or `disabled`.
pub(crate) struct Priorities;

impl Codec<Vec<(String, u8)>> for Priorities {
    fn parse(&self, raw: &Raw) -> Result<Vec<(String, u8)>, String> {
        let entries = match raw {
            Raw::Map(entries) => entries.clone(),
            Raw::Text(word) if word == "disabled" => Vec::new(),
            Raw::Text(text) => match Raw::from_toml_text(text) {
                Ok(Raw::Map(entries)) => entries,
                _ => return Err("is not a table".to_owned()),
            },
            Raw::Number(_) | Raw::Bool(_) | Raw::List(_) => return Err("is not a table".to_owned()),
        };
        let priority = |(topic, raw): &(String, Raw)| {
            if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || topic.contains(['+', '#', '\0']) {
                return Err(format!("names '{topic}', which is not a topic name"));
            }
            let priority = Whole(1..=255)
                .parse(raw)
                .map_err(|problem| format!("gives '{topic}' {raw}, which {problem}"))?;
            Ok((topic.clone(), priority))
        };
        entries.iter().map(priority).collect()
    }

    fn print(&self, value: &Vec<(String, u8)>) -> String {
        if value.is_empty() {
            return quote("disabled");
        }
        let entries: Vec<String> =
            value.iter().map(|(topic, priority)| format!("{} = {priority}", quote(topic))).collect();
        format!("{{ {} }}", entries.join(", "))
    }

    fn takes(&self) -> String {
        "a table such as { \"alarms/fire\" = 255 } with priorities 1 to 255, or disabled".to_owned()
    }
}

/// The texts of a list; a text stands for its comma-separated parts or, with brackets, for a TOML list.
fn texts(raw: &Raw) -> Result<Vec<String>, String> {
    let items = match raw {
        Raw::List(items) => items.clone(),
        Raw::Text(text) if text.trim_start().starts_with('[') && text.trim_end().ends_with(']') => {
            match Raw::from_toml_text(text) {
                Ok(Raw::List(items)) => items,
                _ => return Err("is not a list".to_owned()),
            }
        }
        Raw::Text(text) | Raw::Number(text) => {
            text.split(',').map(|part| Raw::Text(part.trim().to_owned())).collect()
        }
        Raw::Bool(_) | Raw::Map(_) => return Err("is not a list".to_owned()),
    };
    let texts = items.iter().map(|item| item.as_scalar().map(str::to_owned));
    texts.collect::<Option<Vec<String>>>().ok_or_else(|| "is not a list of texts".to_owned())
}

fn duration(raw: &Raw) -> Result<u64, String> {
    let text = raw.as_scalar().ok_or_else(|| "is not a duration".to_owned())?;
    units::duration_ms(text)
}

fn within<T: TryFrom<u64>>(number: u64, range: &RangeInclusive<u64>) -> Result<T, String> {
    if !range.contains(&number) {
        return Err("is out of range".to_owned());
    }
    T::try_from(number).map_err(|_too_large| "is out of range".to_owned())
}

fn show_hundredths(value: u64) -> String {
    let text = format!("{}.{:02}", value / 100, value % 100);
    let short = text.strip_suffix('0').unwrap_or(&text);
    short.to_owned()
}

/// Durations that MQTT carries as four bytes of seconds; the largest value means "for ever".
const SECONDS: Seconds = Seconds(0..=(u32::MAX as u64 - 1));

/// Each listener costs a listening socket per shard.
const LISTENER_COUNT_MAX: usize = 64;

/// A topic's length is two bytes on the wire [MQTT5 §1.5.4].
const TOPIC_BYTES_MAX: usize = 65_535;

/// Stands for what the host or the user suggests.
const AUTO: &str = "auto";

const NOT_A_NUMBER: &str = "is not a number";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    /// Reads `given`, checks what it prints as, and that this reads as the same value.
    fn check<T: PartialEq + std::fmt::Debug>(codec: &impl Codec<T>, given: &str, printed: &str) {
        let value = codec.parse(&text(given)).unwrap_or_else(|problem| panic!("{given}: {problem}"));
        assert_eq!(codec.print(&value), printed, "{given}");
        let again = codec.parse(&Raw::from_toml_text(printed).expect("TOML"));
        assert_eq!(again, Ok(value), "{printed}");
        assert!(!codec.takes().is_empty());
    }

    #[test]
    fn what_is_printed_reads_back() {
        check::<bool>(&Flag, "true", "true");
        check::<u16>(&Whole(1..=65_535), "65535", "65535");
        check::<u32>(&Bytes(1..=256 << 20), "256MB", "\"256MB\"");
        check::<u64>(&Millis(0..=1 << 40), "90s", "\"90s\"");
        check::<u64>(&Interval(1_000..=1 << 40), "0", "\"0s\"");
        check::<u32>(&SecondsOrForever, "2h", "\"2h\"");
        check::<u32>(&SecondsOrForever, "infinity", "\"infinity\"");
        check::<Option<u32>>(&Or("infinity", Whole(1..=9)), "infinity", "\"infinity\"");
        check::<Option<u32>>(&Or("infinity", Whole(1..=9)), "9", "9");
        check::<u8>(&Choice(&[("a", 1), ("b", 2)]), "b", "\"b\"");
        check::<u32>(&Hundredths(100..=1000), "1.5", "1.5");
        check::<u32>(&Hundredths(100..=1000), "2.25", "2.25");
        check::<u32>(&Hundredths(100..=1000), "2", "2.0");
        check::<QoS>(&QosLevel, "1", "1");
        check::<Option<PathBuf>>(&Folder, "/var/lib/dunlin", "\"/var/lib/dunlin\"");
        check::<Option<PathBuf>>(&Folder, "", "\"auto\"");
        check::<Option<PathBuf>>(&Folder, "./auto", "\"./auto\"");
        check::<Vec<ListenerUrl>>(
            &Listeners,
            "mqtt://127.0.0.1:1, mqtt://[::1]:2",
            r#"["mqtt://127.0.0.1:1", "mqtt://[::1]:2"]"#,
        );
        check::<Vec<ListenerUrl>>(&Listeners, r#"["mqtt://127.0.0.1:1"]"#, r#"["mqtt://127.0.0.1:1"]"#);
        check::<Option<CoreList>>(&Cores, "0-2,2,5", "\"0-2,5\"");
        check::<Option<CoreList>>(&Cores, "auto", "\"auto\"");
        check::<Vec<(String, u8)>>(&Priorities, "disabled", "\"disabled\"");
        check::<Vec<(String, u8)>>(&Priorities, "{ 'a/b' = 3 }", r#"{ "a/b" = 3 }"#);
    }

    #[test]
    fn a_wrong_value_says_what_is_wrong() {
        let whole: Result<u16, _> = Whole(1..=65_535).parse(&text("65536"));
        assert_eq!(whole, Err("is out of range".to_owned()));
        let whole: Result<u16, _> = Whole(1..=65_535).parse(&text("-1"));
        assert_eq!(whole, Err("is out of range".to_owned()));
        let whole: Result<u16, _> = Whole(1..=65_535).parse(&text("many"));
        assert_eq!(whole, Err("is not a number".to_owned()));
        assert!(Flag.parse(&text("yes")).is_err());
        assert_eq!(
            Seconds(0..=60).parse(&text("1500ms")),
            Err("is not a whole number of seconds".to_owned())
        );
        assert_eq!(Interval(1_000..=9_000).parse(&text("10ms")), Err("is out of range".to_owned()));
        assert_eq!(
            Hundredths(100..=1000).parse(&text("1.555")),
            Err("has more than two decimal places".to_owned())
        );
        assert!(Hundredths(100..=1000).parse(&text(".")).is_err());
        assert_eq!(QosLevel.parse(&text("3")), Err("is not a QoS".to_owned()));
        assert!(Listeners.parse(&Raw::List(Vec::new())).is_err());
        assert!(Listeners.parse(&text("mqtt://127.0.0.1:1,mqtt://127.0.0.1:1")).is_err());
        assert!(Listeners.parse(&text("mqtt://127.0.0.1:0,mqtt://127.0.0.1:0")).is_ok());
        let priorities = Priorities.parse(&text("{ 'a/#' = 3 }"));
        assert_eq!(priorities, Err("names 'a/#', which is not a topic name".to_owned()));
        let priorities = Priorities.parse(&text("{ 'a' = 256 }"));
        assert_eq!(priorities, Err("gives 'a' \"256\", which is out of range".replace('"', "")));
    }

    #[test]
    fn a_line_keeps_to_its_characters() {
        let line = Line { bytes_max: 4, refused: &['/', '+'], may_be_empty: false };
        assert_eq!(line.parse(&text("abcd")), Ok("abcd".to_owned()));
        assert_eq!(line.parse(&text("abcde")), Err("is 5 bytes long".to_owned()));
        assert_eq!(line.parse(&text("a/b")), Err("holds the character '/'".to_owned()));
        assert_eq!(line.parse(&text("")), Err("is empty".to_owned()));
    }
}
