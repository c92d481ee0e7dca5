//! User Properties: name-value pairs that travel with a packet, in order.

use core::fmt;

use crate::properties::skip_value;
use crate::reader::Reader;

/// The User Properties of a packet: borrowed from the wire, or from a list of the sender's.
#[derive(Clone, Copy)]
pub struct UserProperties<'a>(Source<'a>);

/// Where the pairs are.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// A validated run of properties in wire form. If `pure` there are only User Properties in it.
    Wire { bytes: &'a [u8], count: u16, pure: bool },
    /// A sender's list.
    Pairs(&'a [(&'a str, &'a str)]),
}

impl<'a> UserProperties<'a> {
    /// No User Property.
    pub const NONE: Self = Self(Source::Pairs(&[]));

    /// The pairs of a list, in its order.
    #[must_use]
    pub const fn from_pairs(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self(Source::Pairs(pairs))
    }

    /// Validated properties in wire form, of which `count` are User Properties.
    pub(crate) const fn from_wire(bytes: &'a [u8], count: u16, pure: bool) -> Self {
        Self(Source::Wire { bytes, count, pure })
    }

    /// How many pairs there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            #[expect(clippy::as_conversions, reason = "u16 to usize never truncates; From is not const")]
            Source::Wire { count, .. } => count as usize,
            Source::Pairs(pairs) => pairs.len(),
        }
    }

    /// Whether there is no pair.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs in order.
    #[must_use]
    pub const fn iter(&self) -> UserPropertiesIter<'a> {
        UserPropertiesIter(match self.0 {
            Source::Wire { bytes, .. } => Cursor::Wire(Reader::new(bytes, false)),
            Source::Pairs(pairs) => Cursor::Pairs(pairs),
        })
    }

    /// The wire form, identifiers included, if these are borrowed from a run of nothing else.
    pub(crate) const fn wire_run(&self) -> Option<&'a [u8]> {
        match self.0 {
            Source::Wire { bytes, pure: true, .. } => Some(bytes),
            Source::Wire { .. } | Source::Pairs(_) => None,
        }
    }
}

/// The pairs of [`UserProperties`], in order.
#[derive(Clone, Debug)]
pub struct UserPropertiesIter<'a>(Cursor<'a>);

/// What is left of the pairs.
#[derive(Clone, Debug)]
enum Cursor<'a> {
    Wire(Reader<'a>),
    Pairs(&'a [(&'a str, &'a str)]),
}

impl<'a> Iterator for UserPropertiesIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Cursor::Wire(reader) => loop {
                let id = reader.u8().ok()?;
                if id == USER_PROPERTY {
                    return Some((reader.known_string()?, reader.known_string()?));
                }
                skip_value(reader, id)?;
            },
            Cursor::Pairs(pairs) => {
                let (first, rest) = pairs.split_first()?;
                *pairs = rest;
                Some(*first)
            }
        }
    }
}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

/// Identifier of a User Property.
pub(crate) const USER_PROPERTY: u8 = 0x26;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sources_give_the_same_pairs() {
        let wire = b"\x26\x00\x01a\x00\x01b\x01\x01\x26\x00\x01a\x00\x00";
        let borrowed = UserProperties::from_wire(wire, 2, false);
        let listed = UserProperties::from_pairs(&[("a", "b"), ("a", "")]);
        assert_eq!(borrowed, listed);
        assert_eq!((borrowed.len(), listed.len()), (2, 2));
        assert_eq!(format!("{borrowed:?}"), r#"[("a", "b"), ("a", "")]"#);
        assert_eq!(borrowed.wire_run(), None);
    }
}
