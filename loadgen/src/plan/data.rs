//! Data files: one row of a CSV file per client.

use serde::{Deserialize, Serialize};

/// Where the values of `{data.column}` come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataFile {
    /// The CSV file, with a header line; its path is relative to the scenario file.
    pub(crate) file: String,
    /// Begin again at the first row when there are more clients than rows. Without it, too few rows are an error.
    #[serde(default)]
    pub(crate) wrap: bool,
    /// The rows, once they are loaded.
    #[serde(skip)]
    pub(crate) rows: Rows,
}

/// The contents of a data file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    columns: Vec<Box<str>>,
    values: Vec<Box<str>>,
}

/// One row of a data file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    columns: &'a [Box<str>],
    values: &'a [Box<str>],
}

impl DataFile {
    /// The row of the client with this number in its group; `None` if there is none for it.
    pub(crate) fn row(&self, index: u32) -> Option<Row<'_>> {
        let count = self.rows.count();
        let index = usize::try_from(index).ok()?;
        let index = if self.wrap { index.checked_rem(count)? } else { index };
        let width = self.rows.columns.len();
        let values = self.rows.values.get(index * width..(index + 1) * width)?;
        Some(Row { columns: &self.rows.columns, values })
    }
}

impl Rows {
    /// Reads CSV: a header line, then one row per client. Fields may be quoted, and lines may end as they like.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(bytes);
        let header = reader.headers().map_err(|error| error.to_string())?;
        let columns: Vec<Box<str>> = header.iter().map(Box::from).collect();
        for (at, name) in columns.iter().enumerate() {
            if name.is_empty() {
                return Err(format!("column {} has no name; the first line must name every column", at + 1));
            }
            if columns[..at].contains(name) {
                return Err(format!("two columns are called {name:?}; rename one"));
            }
        }
        let mut values = Vec::new();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| error.to_string())? {
            values.extend(record.iter().map(Box::<str>::from));
        }
        if values.is_empty() {
            return Err("it has no rows; after the header there must be at least one".to_owned());
        }
        Ok(Self { columns, values })
    }

    /// How many rows there are, the header not among them.
    pub(crate) fn count(&self) -> usize {
        self.values.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// Begins with another row: what stood before it comes last.
    pub(crate) fn begin_at(&mut self, row: usize) {
        let width = self.columns.len();
        let values = self.values.len();
        self.values.rotate_left((row * width).min(values));
    }

    /// The names in the header.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|name| &**name)
    }
}

impl<'a> Row<'a> {
    /// The value in the column with this name.
    pub(crate) fn get(self, column: &str) -> Option<&'a str> {
        let at = self.columns.iter().position(|name| **name == *column)?;
        self.values.get(at).map(|value| &**value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str, wrap: bool) -> DataFile {
        DataFile { file: "x.csv".to_owned(), wrap, rows: Rows::parse(text.as_bytes()).unwrap() }
    }

    #[test]
    fn each_client_has_its_row() {
        let text = "serial, site\r\nA1,north\r\n\"B,2\",\"so\"\"uth\"\r\n";
        let plain = data(text, false);
        assert_eq!(plain.rows.count(), 2);
        assert_eq!(plain.row(1).and_then(|row| row.get("serial")), Some("B,2"));
        assert_eq!(plain.row(1).and_then(|row| row.get("site")), Some("so\"uth"));
        assert!(plain.row(1).unwrap().get("colour").is_none());
        assert!(plain.row(2).is_none());
        assert_eq!(data(text, true).row(2).and_then(|row| row.get("serial")), Some("A1"));
        let mut turned = plain;
        turned.rows.begin_at(1);
        let serials = [0, 1].map(|index| turned.row(index).and_then(|row| row.get("serial")));
        assert_eq!(serials, [Some("B,2"), Some("A1")]);
    }

    #[test]
    fn what_is_no_data_file_is_explained() {
        for (text, part) in [
            ("", "no rows"),
            ("a,b\n", "no rows"),
            ("a,\n1,2\n", "column 2 has no name"),
            ("a,a\n1,2\n", "two columns are called"),
            ("a,b\n1,2\n3\n", "line: 3"),
        ] {
            let error = Rows::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(Rows::parse(b"a\n\xff\n").unwrap_err().contains("UTF-8"));
    }
}
