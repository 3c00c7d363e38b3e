//! Tables of comma-separated values: [`Table`], read as text, then made into numbers column by column.

use super::text::Vocabulary;
use isograd_core::{Error, Result, format::HostArray};
use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

const FORMAT: &str = "CSV";

/// What a file is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Between the fields of a row (`,`).
    pub delimiter: u8,
    /// Whether the first row has the names of the columns (true). Otherwise they are called `0`, `1`, ...
    pub header: bool,
    /// Fields that say that there is no value (an empty one, `NA`, `NaN`).
    pub missing: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        let missing = ["", "NA", "NaN", "nan"].map(String::from).to_vec();
        CsvOptions { delimiter: b',', header: true, missing }
    }
}

/// Rows of text fields in named columns.
///
/// ```
/// use isograd_nn::data::{CsvOptions, Table};
/// let table = Table::from_reader("rooms,alley,price\n2,NA,100\n,Pave,200\n".as_bytes(), &CsvOptions::default())?;
/// assert_eq!((table.len(), table.columns()), (2, &["rooms".to_string(), "alley".into(), "price".into()][..]));
/// assert_eq!(table.numbers("price")?, [100.0, 200.0]);
/// assert!(table.numbers("rooms")?[1].is_nan());
/// let features = table.select(&["rooms", "alley"])?.features()?;
/// assert_eq!(features.names(), ["rooms", "alley_Pave", "alley_missing"]);
/// assert_eq!(features.array().to_vec::<f32>()?, [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    path: Option<PathBuf>,
    columns: Vec<String>,
    /// By row; `None` for a missing value.
    fields: Vec<Vec<Option<String>>>,
    /// Where each row begins in the file.
    starts: Vec<u64>,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] with path and position for a row with another number of fields, text that is not UTF-8,
    /// or two columns of one name.
    pub fn load(path: impl AsRef<Path>, options: &CsvOptions) -> Result<Table> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| Error::Io { action: "open", path: path.into(), source })?;
        let mut table = Table::from_reader(file, options).map_err(|e| e.with_path(path))?;
        table.path = Some(path.into());
        Ok(table)
    }

    /// [`Table::load`] from a reader.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub fn from_reader(reader: impl Read, options: &CsvOptions) -> Result<Table> {
        let mut reader =
            ::csv::ReaderBuilder::new().delimiter(options.delimiter).has_headers(options.header).from_reader(reader);
        let mut columns = Vec::new();
        if options.header {
            columns = reader.headers().map_err(|e| broken(&e))?.iter().map(str::to_string).collect();
        }
        let (mut fields, mut starts) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(|e| broken(&e))?;
            let field = |f: &str| (!options.missing.iter().any(|m| m == f)).then(|| f.to_string());
            starts.push(record.position().map_or(0, ::csv::Position::byte));
            fields.push(record.iter().map(field).collect::<Vec<_>>());
        }
        if let (false, Some(row)) = (options.header, fields.first()) {
            columns = (0..row.len()).map(|i| i.to_string()).collect();
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = columns.iter().find(|name| !seen.insert(*name)) {
            return Err(Error::file(FORMAT, 0, format!("two columns are called {twice:?}")));
        }
        Ok(Table { path: None, columns, fields, starts })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The fields of a column, `None` where a value is missing.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a column that there is not.
    pub fn texts(&self, column: &str) -> Result<Vec<Option<&str>>> {
        let at = self.position(column)?;
        Ok(self.fields.iter().map(|row| row[at].as_deref()).collect())
    }

    /// A column of numbers, NaN where a value is missing.
    ///
    /// # Errors
    /// [`Error::File`] with the position of the row that has no number; [`Error::InvalidArgument`] for a column that there is not.
    pub fn numbers(&self, column: &str) -> Result<Vec<f64>> {
        let at = self.position(column)?;
        let number = |(row, start): (&Vec<Option<String>>, &u64)| match &row[at] {
            None => Ok(f64::NAN),
            Some(text) => text.trim().parse().map_err(|_| {
                let error = Error::file(FORMAT, *start, format!("column {column:?} has {text:?}, which is no number"));
                self.path.iter().fold(error, |error, path| error.with_path(path))
            }),
        };
        self.fields.iter().zip(&self.starts).map(number).collect()
    }

    /// These columns, in this order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a column that there is not.
    pub fn select(&self, columns: &[&str]) -> Result<Table> {
        let places = columns.iter().map(|column| self.position(column)).collect::<Result<Vec<_>>>()?;
        Ok(self.with_columns(&places))
    }

    /// All columns but these.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a column that there is not.
    pub fn drop(&self, columns: &[&str]) -> Result<Table> {
        let dropped = columns.iter().map(|column| self.position(column)).collect::<Result<Vec<_>>>()?;
        let places: Vec<usize> = (0..self.columns.len()).filter(|place| !dropped.contains(place)).collect();
        Ok(self.with_columns(&places))
    }

    /// The rows of this table, then those of `other`, so that both get the same features.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the columns differ.
    pub fn append(mut self, other: Table) -> Result<Table> {
        if self.columns != other.columns {
            let why = format!("the columns {:?} and {:?} differ", self.columns, other.columns);
            return Err(Error::invalid("Table::append", why));
        }
        self.fields.extend(other.fields);
        self.starts.extend(other.starts);
        Ok(self)
    }

    /// Numbers for a network, as the book prepares house prices. A column whose values are all numbers is standardized to mean
    /// 0 and variance 1, a missing value becoming 0, the mean. Any other column becomes one column of 0 and 1 for each of its
    /// values, and one for missing where one is.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a table without rows or columns.
    pub fn features(&self) -> Result<Features> {
        if self.is_empty() || self.columns.is_empty() {
            return Err(Error::invalid("Table::features", "the table has no rows, or no columns"));
        }
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        for column in &self.columns {
            match self.numbers(column) {
                Ok(numbers) if numbers.iter().any(|n| !n.is_nan()) => {
                    names.push(column.clone());
                    columns.push(standardized(&numbers));
                }
                _ => {
                    let texts = self.texts(column)?;
                    let mut values: Vec<Option<&str>> =
                        texts.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
                    // None comes first in the order, and last in the table.
                    values.sort_by_key(Option::is_none);
                    for value in values {
                        names.push(format!("{column}_{}", value.unwrap_or("missing")));
                        columns.push(texts.iter().map(|text| f32::from(u8::from(*text == value))).collect());
                    }
                }
            }
        }
        let rows: Vec<f32> = (0..self.len()).flat_map(|row| columns.iter().map(move |c: &Vec<f32>| c[row])).collect();
        let array = HostArray::from_slice(&rows, [self.len(), names.len()])?;
        Ok(Features { names, array })
    }

    /// A column of classes as numbers `[rows]` of i64, with the vocabulary that numbers them in alphabetical order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a column that there is not, or where a value is missing.
    pub fn classes(&self, column: &str) -> Result<(HostArray, Vocabulary)> {
        let texts = self.texts(column)?.into_iter().collect::<Option<Vec<&str>>>();
        let texts = texts.ok_or_else(|| Error::invalid("Table::classes", format!("column {column:?} lacks values")))?;
        let names: BTreeSet<&str> = texts.iter().copied().collect();
        let vocabulary = Vocabulary::of_tokens(names)?;
        Ok((HostArray::from_slice(&vocabulary.to_indices(&texts)?, [texts.len()])?, vocabulary))
    }

    fn position(&self, column: &str) -> Result<usize> {
        let found = self.columns.iter().position(|name| name == column);
        found.ok_or_else(|| {
            Error::invalid("Table", format!("there is no column {column:?}; there are {:?}", self.columns))
        })
    }

    fn with_columns(&self, places: &[usize]) -> Table {
        Table {
            path: self.path.clone(),
            columns: places.iter().map(|&i| self.columns[i].clone()).collect(),
            fields: self.fields.iter().map(|row| places.iter().map(|&i| row[i].clone()).collect()).collect(),
            starts: self.starts.clone(),
        }
    }
}

/// What [`Table::features`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    names: Vec<String>,
    array: HostArray,
}

impl Features {
    /// The names of the columns: that of the table's column, for one of 0 and 1 followed by `_` and the value.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The numbers, `[rows, columns]` of f32.
    pub fn array(&self) -> &HostArray {
        &self.array
    }

    /// The numbers alone.
    pub fn into_array(self) -> HostArray {
        self.array
    }
}

fn standardized(numbers: &[f64]) -> Vec<f32> {
    let known = || numbers.iter().filter(|n| !n.is_nan());
    let count = known().count() as f64;
    let mean = known().sum::<f64>() / count;
    let variance = known().map(|n| (n - mean).powi(2)).sum::<f64>() / count;
    let scale = if variance > 0.0 { variance.sqrt().recip() } else { 1.0 };
    numbers.iter().map(|n| if n.is_nan() { 0.0 } else { ((n - mean) * scale) as f32 }).collect()
}

fn broken(error: &::csv::Error) -> Error {
    let at = error.position().map_or(0, ::csv::Position::byte);
    Error::file(FORMAT, at, error.to_string())
}
