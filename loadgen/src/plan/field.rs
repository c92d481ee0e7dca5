//! How values of the standard are written in a scenario file: QoS, Retain Handling, protocol version, factors.

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stage::Factor;

/// QoS as 0, 1 or 2.
pub(crate) mod qos {
    use dunlin_wire::QoS;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<QoS, D::Error> {
        match i64::deserialize(source)? {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            other => Err(de::Error::custom(format!("{other} is not a QoS; it must be 0, 1 or 2"))),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `with` hands in a reference")]
    pub(crate) fn serialize<S: Serializer>(qos: &QoS, sink: S) -> Result<S::Ok, S::Error> {
        sink.serialize_u8(*qos as u8)
    }
}

/// Retain Handling as 0, 1 or 2.
pub(crate) mod retain_handling {
    use dunlin_wire::RetainHandling;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<RetainHandling, D::Error> {
        match i64::deserialize(source)? {
            0 => Ok(RetainHandling::SendAtSubscribe),
            1 => Ok(RetainHandling::SendIfNew),
            2 => Ok(RetainHandling::DoNotSend),
            other => {
                Err(de::Error::custom(format!("{other} is not a Retain Handling; it must be 0, 1 or 2")))
            }
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `with` hands in a reference")]
    pub(crate) fn serialize<S: Serializer>(handling: &RetainHandling, sink: S) -> Result<S::Ok, S::Error> {
        sink.serialize_u8(*handling as u8)
    }
}

/// An MQTT version as `"3.1"`, `"3.1.1"` or `"5.0"`.
pub(crate) mod version {
    use dunlin_wire::Version;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Version, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(source)?;
        match &*text {
            "3.1" => Ok(Version::V31),
            "3.1.1" => Ok(Version::V311),
            "5" | "5.0" => Ok(Version::V5),
            other => {
                Err(de::Error::custom(format!("{other:?} is not one of \"3.1\", \"3.1.1\" and \"5.0\"")))
            }
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `with` hands in a reference")]
    pub(crate) fn serialize<S: Serializer>(version: &Version, sink: S) -> Result<S::Ok, S::Error> {
        sink.serialize_str(match version {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        })
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(FactorVisitor)
    }
}

struct FactorVisitor;

impl FactorVisitor {
    fn checked<E: de::Error>(factor: f64) -> Result<f64, E> {
        if (0.0..=FACTOR_MAX).contains(&factor) {
            Ok(factor)
        } else {
            Err(E::custom(format!("a factor must lie between 0 and {FACTOR_MAX:.0}, and not be {factor}")))
        }
    }
}

/// The highest factor of a rate.
const FACTOR_MAX: f64 = 1e6;

impl<'de> Visitor<'de> for FactorVisitor {
    type Value = Factor;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a factor such as 1.0, or { from = 0.1, to = 2.0 }")
    }

    fn visit_f64<E: de::Error>(self, factor: f64) -> Result<Factor, E> {
        Self::checked(factor).map(Factor::constant)
    }

    fn visit_i64<E: de::Error>(self, factor: i64) -> Result<Factor, E> {
        self.visit_f64(factor as f64)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Factor, A::Error> {
        let (mut from, mut to) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let end = match key.as_str() {
                "from" => &mut from,
                "to" => &mut to,
                _ => return Err(de::Error::unknown_field(&key, &["from", "to"])),
            };
            *end = Some(Self::checked(map.next_value::<f64>()?)?);
        }
        match (from, to) {
            (Some(from), Some(to)) => Ok(Factor { from, to }),
            _ => Err(de::Error::custom("a line needs both its ends: { from = 0.1, to = 2.0 }")),
        }
    }
}

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        if self.from.to_bits() == self.to.to_bits() {
            return sink.serialize_f64(self.from);
        }
        let mut map = sink.serialize_map(Some(2))?;
        map.serialize_entry("from", &self.from)?;
        map.serialize_entry("to", &self.to)?;
        map.end()
    }
}
