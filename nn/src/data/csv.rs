//! Tables of comma-separated values: [`Table`], read as text, then made into numbers column by column.

use super::text::Vocabulary;
use isograd_core::{
    Error, Result,
    format::{HostArray, not_of, recognize},
    host,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Cursor, Read},
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
/// use isograd::nn::data::{CsvOptions, Table};
/// let table = Table::from_reader("rooms,alley,price\n2,NA,100\n,Pave,200\n".as_bytes(), &CsvOptions::default())?;
/// assert_eq!((table.len(), table.columns()), (2, &["rooms".to_string(), "alley".into(), "price".into()][..]));
/// assert_eq!(table.numbers("price")?, [100.0, 200.0]);
/// assert!(table.numbers("rooms")?[1].is_nan());
/// let features = table.select(&["rooms", "alley"])?.features()?;
/// assert_eq!(features.names(), ["rooms", "alley_Pave", "alley_missing"]);
/// assert_eq!(features.array().to_vec::<f32>()?, [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), isograd::Error>(())
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
    pub fn from_reader(mut reader: impl Read, options: &CsvOptions) -> Result<Table> {
        let mut start = Vec::new();
        let began = reader.by_ref().take(64).read_to_end(&mut start);
        began.map_err(|e| Error::file(FORMAT, 0, format!("cannot read on: {e}")))?;
        // What is text might pass for a table.
        if recognize(&start).is_some() {
            return Err(Error::file(FORMAT, 0, not_of(FORMAT, &start)));
        }
        let reader = Cursor::new(start).chain(reader);
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
        let number_of = |(row, start): (&Vec<Option<String>>, &u64)| match &row[at] {
            None => Ok(f64::NAN),
            Some(text) => number(text)
                .ok_or_else(|| self.fault(*start, format!("column {column:?} has {text:?}, which is no number"))),
        };
        self.fields.iter().zip(&self.starts).map(number_of).collect()
    }

    fn fault(&self, at: u64, why: String) -> Error {
        self.path.iter().fold(Error::file(FORMAT, at, why), |error, path| error.with_path(path))
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

    /// Numbers for a network, as the book prepares house prices: a [`FeatureEncoder`] of this table, applied to it. For another
    /// table to get the same features, keep the encoder.
    ///
    /// # Errors
    /// As [`FeatureEncoder::new`].
    pub fn features(&self) -> Result<Features> {
        FeatureEncoder::new(self, &FeatureOptions::default())?.apply(self)
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

/// How columns become features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureOptions {
    /// Columns whose values are classes though they look like numbers, such as codes.
    pub categorical: Vec<String>,
    /// How many different values a column may have that is not of numbers (1,000): each becomes a column.
    pub max_values: usize,
    /// Whether a value that the encoder does not know is 0 in all columns, instead of an error.
    pub ignore_unknown: bool,
}

impl Default for FeatureOptions {
    fn default() -> Self {
        FeatureOptions { categorical: Vec::new(), max_values: 1000, ignore_unknown: false }
    }
}

/// How the columns of one table become numbers, to be applied to that and to others: means, deviations and values come from the
/// first, as those of a training set must, whatever is in the table that is predicted.
///
/// A column of numbers is standardized to mean 0 and variance 1, a missing value becoming 0, the mean. Any other column becomes one
/// column of 0 and 1 for each of its values, and one for missing where one is.
///
/// ```
/// use isograd::nn::data::{CsvOptions, FeatureEncoder, FeatureOptions, Table};
/// let table = |text: &str| Table::from_reader(text.as_bytes(), &CsvOptions::default());
/// let train = table("rooms,alley\n2,Grvl\n4,Pave\n")?;
/// let encoder = FeatureEncoder::new(&train, &FeatureOptions::default())?;
/// assert_eq!(encoder.names(), ["rooms", "alley_Grvl", "alley_Pave"]);
/// let test = encoder.apply(&table("rooms,alley\n6,Pave\n")?)?;
/// assert_eq!(test.array().to_vec::<f32>()?, [3.0, 0.0, 1.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureEncoder {
    columns: Vec<(String, Encoding)>,
    names: Vec<String>,
    ignore_unknown: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Encoding {
    Number(Standard),
    /// The values, missing last.
    Values(Vec<Option<String>>),
}

impl FeatureEncoder {
    /// The encoder of `table`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a table without rows or columns, a name in the options that no column has, and a column of
    /// more values than the options allow; [`Error::File`] with the position of the row for a column of numbers that has something
    /// else, or a number that is not finite.
    pub fn new(table: &Table, options: &FeatureOptions) -> Result<FeatureEncoder> {
        const OP: &str = "FeatureEncoder";
        if table.is_empty() || table.columns.is_empty() {
            return Err(Error::invalid(OP, "the table has no rows, or no columns"));
        }
        options.categorical.iter().try_for_each(|name| table.position(name).map(drop))?;
        let (mut columns, mut names) = (Vec::new(), Vec::new());
        for column in &table.columns {
            let numbers = if options.categorical.contains(column) { None } else { table.finite(column)? };
            let encoding = match numbers {
                Some(numbers) => {
                    names.push(column.clone());
                    Encoding::Number(Standard::of(&numbers))
                }
                None => {
                    let mut values = BTreeSet::new();
                    for text in table.texts(column)? {
                        values.insert(text);
                        if values.len() > options.max_values {
                            let most = options.max_values;
                            let why = format!(
                                "column {column:?} has more than {most} different values, each of which would become a column; \
                                 drop it, or allow more by FeatureOptions::max_values"
                            );
                            return Err(Error::invalid(OP, why));
                        }
                    }
                    // None comes first in the order, and last in the table.
                    let missing = values.remove(&None).then_some(None);
                    let values: Vec<Option<&str>> = values.into_iter().chain(missing).collect();
                    names.extend(values.iter().map(|value| format!("{column}_{}", value.unwrap_or("missing"))));
                    Encoding::Values(values.into_iter().map(|value| value.map(String::from)).collect())
                }
            };
            columns.push((column.clone(), encoding));
        }
        Ok(FeatureEncoder { columns, names, ignore_unknown: options.ignore_unknown })
    }

    /// The names of the features: that of the table's column, for one of 0 and 1 followed by `_` and the value.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The features of `table`, which has the columns of the encoder's, and perhaps others, which are left out.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a column that is not there; [`Error::File`] with the position of the row for what is no finite
    /// number in a column of numbers, or a value that the encoder does not know; [`Error::OutOfMemory`].
    pub fn apply(&self, table: &Table) -> Result<Features> {
        let width = self.names.len();
        let mut numbers = host::reserve("FeatureEncoder::apply", width.saturating_mul(table.len()))?;
        numbers.resize(width * table.len(), 0f32);
        let mut first = 0;
        for (column, encoding) in &self.columns {
            let place = |row: usize, feature: usize| row * width + first + feature;
            match encoding {
                Encoding::Number(standard) => {
                    for (row, number) in table.numbers(column)?.into_iter().enumerate() {
                        if number.is_infinite() {
                            return Err(table.not_finite(column, row));
                        }
                        // What is missing stays 0.
                        if !number.is_nan() {
                            numbers[place(row, 0)] = standard.apply(number);
                        }
                    }
                    first += 1;
                }
                Encoding::Values(values) => {
                    let known: BTreeMap<Option<&str>, usize> =
                        values.iter().enumerate().map(|(i, value)| (value.as_deref(), i)).collect();
                    for (row, text) in table.texts(column)?.into_iter().enumerate() {
                        match known.get(&text) {
                            Some(&value) => numbers[place(row, value)] = 1.0,
                            None if self.ignore_unknown => {}
                            None => {
                                let what = text.map_or("no value".to_string(), |text| format!("{text:?}"));
                                let why = format!(
                                    "column {column:?} has {what}, which the encoder does not know; make it of a table that has it, \
                                     or set FeatureOptions::ignore_unknown"
                                );
                                return Err(table.fault(table.starts[row], why));
                            }
                        }
                    }
                    first += values.len();
                }
            }
        }
        let array = HostArray::from_slice(&numbers, [table.len(), width])?;
        Ok(Features { names: self.names.clone(), array })
    }
}

impl Table {
    /// A column of numbers, NaN where one is missing; `None` for a column without numbers.
    fn finite(&self, column: &str) -> Result<Option<Vec<f64>>> {
        let texts = self.texts(column)?;
        if !texts.iter().flatten().any(|text| number(text).is_some_and(f64::is_finite)) {
            return Ok(None);
        }
        let mut numbers = Vec::with_capacity(texts.len());
        for (row, text) in texts.into_iter().enumerate() {
            match text.map(number) {
                None => numbers.push(f64::NAN),
                Some(Some(number)) if !number.is_infinite() => numbers.push(number),
                Some(Some(_)) => return Err(self.not_finite(column, row)),
                Some(None) => {
                    let why = format!(
                        "column {column:?} has numbers and {:?}, which is none; correct it, name it in CsvOptions::missing, or the \
                         column in FeatureOptions::categorical",
                        text.unwrap_or_default()
                    );
                    return Err(self.fault(self.starts[row], why));
                }
            }
        }
        Ok(Some(numbers))
    }

    fn not_finite(&self, column: &str, row: usize) -> Error {
        let text = self.texts(column).ok().and_then(|texts| texts[row]).unwrap_or_default();
        let why = format!(
            "column {column:?} has {text:?}, which is not finite; correct it, or name it in CsvOptions::missing"
        );
        self.fault(self.starts[row], why)
    }
}

/// The number that `text` says.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// What [`FeatureEncoder::apply`] gives.
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

/// Mean and deviation, both in units of a power of two, so that squares of numbers of any size can be added up.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Standard {
    unit: f64,
    mean: f64,
    deviation: f64,
}

impl Standard {
    /// Of the numbers that are not NaN, of which there is one at least, and all are finite.
    fn of(numbers: &[f64]) -> Standard {
        let largest = numbers.iter().filter(|n| !n.is_nan()).fold(0.0f64, |most, n| most.max(n.abs()));
        // The exponent alone; of 0, and of numbers too small to be normal, there is none.
        let power = f64::from_bits(largest.to_bits() >> 52 << 52);
        let unit = if power > 0.0 { power } else { f64::MIN_POSITIVE };
        let known = || numbers.iter().filter(|n| !n.is_nan()).map(|n| n / unit);
        let count = known().count() as f64;
        let (least, most) = known().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), n| (l.min(n), m.max(n)));
        let mean = (known().sum::<f64>() / count).clamp(least, most);
        let variance = known().map(|n| (n - mean).powi(2)).sum::<f64>() / count;
        // What rounding gives is no deviation to divide by.
        let constant = variance <= (16.0 * f64::EPSILON * mean).powi(2);
        Standard { unit, mean, deviation: if constant { unit.recip() } else { variance.sqrt() } }
    }

    fn apply(self, number: f64) -> f32 {
        ((number / self.unit - self.mean) / self.deviation) as f32
    }
}

fn broken(error: &::csv::Error) -> Error {
    let at = error.position().map_or(0, ::csv::Position::byte);
    Error::file(FORMAT, at, error.to_string())
}
