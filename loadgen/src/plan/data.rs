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
    /// How many rows there are, the header not among them.
    pub(crate) fn count(&self) -> usize {
        self.values.len().checked_div(self.columns.len()).unwrap_or(0)
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
