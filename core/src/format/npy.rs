//! NumPy's `.npy`: one array.
//!
//! The magic `\x93NUMPY`, the version (two bytes), the length of the header (u16, from version 2.0 on u32), the header: a
//! Python dictionary, padded with spaces and a newline so that the data starts at a multiple of 64; then the data.
//!
//! ```text
//! {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
//! ```
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use super::{
    HostArray,
    io::{Source, write_atomically},
    swap_bytes,
};
use crate::{DType, Error, Layout, Result, Shape};
use std::{
    io::{Read, Write},
    path::Path,
};

const FORMAT: &str = "npy";
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Far above the header of any array without fields; a longer one is a fault or an attack.
const MAX_HEADER: u32 = 1 << 16;
/// NumPy's own limit.
const MAX_RANK: usize = 64;

/// Reads an array: versions 1.0, 2.0 and 3.0, either byte order, row-major or column-major.
///
/// ```
/// use isograd::format::{HostArray, npy};
/// let a = HostArray::from_slice(&[1i64, 2, 3, 4, 5, 6], [2, 3])?;
/// assert_eq!(npy::from_bytes(&npy::to_bytes(&a)?)?, a);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] for anything that is not exactly one array of a dtype that isograd has.
pub fn from_bytes(bytes: &[u8]) -> Result<HostArray> {
    parse(Source::bytes(FORMAT, bytes))
}

/// [`from_bytes`] over a reader, to its end.
///
/// # Errors
/// Those of [`from_bytes`].
pub fn read(reader: impl Read) -> Result<HostArray> {
    parse(Source::new(FORMAT, reader))
}

/// [`from_bytes`] over a file.
///
/// # Errors
/// Those of [`from_bytes`], with the path; [`Error::Io`].
pub fn load(path: impl AsRef<Path>) -> Result<HostArray> {
    parse(Source::open(FORMAT, path.as_ref())?)
}

/// The bytes that `numpy.save` writes for this array (version 1.0).
///
/// # Errors
/// [`Error::UnsupportedDType`] for bfloat16, which NumPy does not have; [`Error::InvalidShape`] for more than 64 axes, or
/// an array that fails [`HostArray::check`].
pub fn to_bytes(array: &HostArray) -> Result<Vec<u8>> {
    let mut bytes = header("npy::to_bytes", array)?;
    bytes.extend_from_slice(&array.bytes);
    Ok(bytes)
}

/// Writes [`to_bytes`] to a file, which is replaced whole or not at all.
///
/// # Errors
/// Those of [`to_bytes`]; [`Error::Io`].
pub fn save(path: impl AsRef<Path>, array: &HostArray) -> Result<()> {
    let header = header("npy::save", array)?;
    write_atomically(path.as_ref(), |w| {
        w.write_all(&header)?;
        w.write_all(&array.bytes)
    })
}

fn descr(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F16 => "<f2",
        DType::BF16 => return None,
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::I8 => "|i1",
        DType::Bool => "|b1",
    })
}

/// Everything before the data.
pub(super) fn header(op: &'static str, array: &HostArray) -> Result<Vec<u8>> {
    array.check()?;
    let Some(descr) = descr(array.dtype) else {
        let why = "NumPy has no such dtype; cast to float32 first".to_string();
        return Err(Error::UnsupportedDType { op, dtype: array.dtype, device: "npy files".to_string(), why });
    };
    if array.shape.rank() > MAX_RANK {
        let why = format!("NumPy has at most {MAX_RANK} axes");
        return Err(Error::InvalidShape { op, shape: array.shape.clone(), why, device: "host".to_string() });
    }
    // A shape prints as Python's tuple.
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {:?}, }}", array.shape);
    // NumPy leaves room to grow the first axis in place to 21 digits.
    if let Some(first) = array.shape.first() {
        text.push_str(&" ".repeat(21usize.saturating_sub(first.to_string().len())));
    }
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.push_str(&" ".repeat(64 - unpadded % 64));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    // 64 axes of 20 digits each are far below 2^16.
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    Ok(bytes)
}

pub(super) fn parse<R: Read>(source: Source<'_, R>) -> Result<HostArray> {
    parse_known(source)?.map_err(|Foreign { error, .. }| error)
}

/// That an array has a dtype which isograd does not have.
pub(super) struct Foreign {
    /// As NumPy writes it.
    pub dtype: String,
    error: Error,
}

/// An array, unless its dtype is a foreign one.
pub(super) fn parse_known<R: Read>(mut source: Source<'_, R>) -> Result<Result<HostArray, Foreign>> {
    let magic = source.magic::<6>()?;
    if magic != *MAGIC {
        return Err(source.other(&magic));
    }
    let version = source.array::<2>("the version")?;
    let length = match version {
        [1, 0] => source.array("the length of the header").map(u16::from_le_bytes)?.into(),
        [2 | 3, 0] => source.u32("the length of the header")?,
        [major, minor] => {
            return Err(source.fail(6, format!("version {major}.{minor} is not known; 1.0, 2.0 and 3.0 are")));
        }
    };
    if length > MAX_HEADER {
        return Err(source.fail(8, format!("a header of {length} bytes; the limit is {MAX_HEADER}")));
    }
    let start = source.at();
    let text = source.take(length.into(), "the header")?;
    let mut parser = Parser { text: &text, at: 0, python2: version[0] < 3, foreign: None };
    let header = match (parser.header(), parser.foreign) {
        (Ok(header), _) => header,
        (Err((at, why)), foreign) => {
            let error = source.fail(start + at as u64, why);
            return match foreign {
                Some(dtype) => Ok(Err(Foreign { dtype, error })),
                None => Err(error),
            };
        }
    };

    let shape: Shape =
        if header.fortran_order { header.shape.iter().rev().copied().collect() } else { header.shape.clone() };
    let mut array = source.elements(header.dtype, shape, start + header.shape_at as u64)?;
    source.end()?;
    if header.big_endian {
        swap_bytes(&mut array.bytes, array.dtype.size());
    }
    if header.fortran_order {
        array.bytes = transpose(&array);
        array.shape = header.shape;
    }
    Ok(Ok(array))
}

/// The elements with the order of the axes reversed.
fn transpose(array: &HostArray) -> Vec<u8> {
    let size = array.dtype.size();
    // Axes of size 1 move nothing, and would be walked at every element.
    let shape: Shape = array.shape.iter().copied().filter(|n| *n != 1).collect();
    let axes: Vec<usize> = (0..shape.rank()).rev().collect();
    let mut bytes = Vec::with_capacity(array.bytes.len());
    for position in Layout::contiguous(shape).permute(&axes).positions() {
        bytes.extend_from_slice(&array.bytes[position * size..][..size]);
    }
    bytes
}

struct Header {
    dtype: DType,
    big_endian: bool,
    fortran_order: bool,
    shape: Shape,
    shape_at: usize,
}

/// A parser of as much Python as NumPy writes. Errors have the offset within the header.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// Python 2 marked its long integers with an L.
    python2: bool,
    /// The dtype, where isograd has no such one.
    foreign: Option<String>,
}

type Parsed<T> = Result<T, (usize, String)>;

impl Parser<'_> {
    fn header(&mut self) -> Parsed<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.accept(b'}') {
            self.space();
            let at = self.at;
            let key = self.string()?;
            self.expect(b':')?;
            self.space();
            let value_at = self.at;
            let again = match &key[..] {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_some(),
                "shape" => shape.replace((self.shape()?, value_at)).is_some(),
                _ => return Err((at, format!("the header has no entry {key:?}"))),
            };
            if again {
                return Err((at, format!("the header has two entries {key:?}")));
            }
            if !self.accept(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.space();
        if self.at < self.text.len() {
            return Err((self.at, "more follows the dictionary of the header".to_string()));
        }
        let missing = |name: &str| (self.at, format!("the header has no entry '{name}'"));
        let (dtype, big_endian) = descr.ok_or_else(|| missing("descr"))?;
        let fortran_order = fortran_order.ok_or_else(|| missing("fortran_order"))?;
        let (shape, shape_at) = shape.ok_or_else(|| missing("shape"))?;
        Ok(Header { dtype, big_endian, fortran_order, shape, shape_at })
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn accept(&mut self, token: u8) -> bool {
        self.space();
        let there = self.text.get(self.at) == Some(&token);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, token: u8) -> Parsed<()> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(&format!("{:?}", char::from(token)))) }
    }

    fn unexpected(&self, wanted: &str) -> (usize, String) {
        let rest = &self.text[self.at..self.text.len().min(self.at + 20)];
        (self.at, format!("the header should have {wanted} here, but has \"{}\"", rest.escape_ascii()))
    }

    fn string(&mut self) -> Parsed<String> {
        let quote = match self.text.get(self.at) {
            Some(q @ (b'\'' | b'"')) => *q,
            _ => return Err(self.unexpected("a string")),
        };
        let rest = &self.text[self.at + 1..];
        let end = rest.iter().take(64).position(|b| *b == quote);
        let Some(text) = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok()).filter(|s| !s.contains('\\'))
        else {
            return Err(self.unexpected("a short, plain string"));
        };
        self.at += text.len() + 2;
        Ok(text.to_string())
    }

    fn boolean(&mut self) -> Parsed<bool> {
        for (word, value) in [("True", true), ("False", false)] {
            if self.text[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.unexpected("True or False"))
    }

    /// The dtype and whether it is big-endian.
    fn descr(&mut self) -> Parsed<(DType, bool)> {
        let at = self.at;
        if self.text.get(at) == Some(&b'[') {
            self.foreign = Some("structured".to_string());
            return Err((
                at,
                "an array with fields (a structured dtype) has no counterpart here; save each field on its own"
                    .to_string(),
            ));
        }
        let text = self.string()?;
        let supported = || {
            (
                at,
                format!(
                    "dtype {text:?} has no counterpart here; convert to one of float16, float32, float64, int32, int64, uint8, int8, bool"
                ),
            )
        };
        let mut characters = text.chars();
        let order = characters.next().ok_or_else(supported)?;
        let dtype = match characters.as_str() {
            "f2" => DType::F16,
            "f4" => DType::F32,
            "f8" => DType::F64,
            "i4" => DType::I32,
            "i8" => DType::I64,
            "u1" => DType::U8,
            "i1" => DType::I8,
            "b1" => DType::Bool,
            kind => {
                let mut rest = kind.chars();
                let size = match rest.next() {
                    Some('i' | 'u' | 'f' | 'c' | 'S' | 'a' | 'U' | 'V') => rest.as_str(),
                    Some('O') if rest.as_str().is_empty() => "8",
                    Some('M' | 'm') => rest.as_str().split('[').next().unwrap_or_default(),
                    _ => "",
                };
                if ['<', '>', '|', '='].contains(&order) && size.parse::<u64>().is_ok() {
                    self.foreign = Some(text.clone());
                }
                return Err(supported());
            }
        };
        match order {
            '<' => Ok((dtype, false)),
            '>' => Ok((dtype, true)),
            '|' if dtype.size() == 1 => Ok((dtype, false)),
            _ => Err(supported()),
        }
    }

    fn shape(&mut self) -> Parsed<Shape> {
        let start = self.at;
        self.expect(b'(')?;
        let mut shape = Shape::default();
        while !self.accept(b')') {
            self.space();
            if self.text.get(self.at) == Some(&b'-') {
                return Err((self.at, "a negative size".to_string()));
            }
            let digits = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return Err(self.unexpected("a size"));
            }
            let text = str::from_utf8(&self.text[self.at..][..digits]).unwrap_or_default();
            let size = text.parse().map_err(|_| (self.at, "a size that no memory can hold".to_string()))?;
            shape.push(size);
            if shape.rank() > MAX_RANK {
                return Err((start, format!("more than {MAX_RANK} axes")));
            }
            self.at += digits;
            if self.python2 && self.text.get(self.at) == Some(&b'L') {
                self.at += 1;
            }
            if !self.accept(b',') {
                // Python reads (3) as a number.
                if shape.rank() == 1 {
                    return Err(self.unexpected("a comma"));
                }
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::assert_fault;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn headers_of_other_writers_are_read() {
        for header in [
            "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2), }",
            "{\"shape\":(1,2,),\"descr\":\"<i4\",\"fortran_order\":True}\n",
            " { 'shape' : ( 1L , 2L ) , 'fortran_order' : False , 'descr' : '<i4' } \n",
        ] {
            let array = from_bytes(&file(header, &[1, 0, 0, 0, 2, 0, 0, 0])).unwrap();
            assert_eq!(
                (array.shape.clone(), array.to_vec::<i32>().unwrap()),
                (Shape::from([1, 2]), vec![1, 2]),
                "{header}"
            );
        }
    }

    #[test]
    fn each_fault_has_its_place() {
        let with = |descr: &str, shape: &str| {
            file(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"), &[0; 8])
        };
        for (bytes, at, why) in [
            (b"\x93NUMPX\x01\x00".to_vec(), 0, "no npy file"),
            (b"\x93NUM".to_vec(), 0, "truncated: the magic"),
            (b"\x93NUMPY\x04\x00".to_vec(), 6, "version 4.0 is not known"),
            (b"\x93NUMPY\x01\x00\xff\x00{".to_vec(), 10, "truncated: the header"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), 8, "the limit"),
            (file("", b""), 10, "should have '{'"),
            (file("{}", b""), 12, "no entry 'descr'"),
            (file("{} x", b""), 13, "more follows"),
            (file("{'extra': 1}", b""), 11, "has no entry \"extra\""),
            (file("{'shape': (), 'shape': ()}", b""), 24, "two entries"),
            (file("{'fortran_order': 1}", b""), 28, "True or False"),
            (with("'<U3'", "(2,)"), 20, "dtype \"<U3\" has no counterpart"),
            (with("'=f4'", "(2,)"), 20, "has no counterpart"),
            (with("[('a', '<f4')]", "(2,)"), 20, "fields"),
            (with("'<f4'", "(-2,)"), 61, "negative"),
            (with("'<f4'", "(2)"), 62, "a comma"),
            (with("'<f4'", "(99999999999999999999999,)"), 61, "no memory"),
            (with("'<f4'", "(1152921504606846976,)"), 83, "truncated: the float32 data"),
            (with("'<f4'", "(4294967296, 4294967296)"), 60, "no memory"),
            (with("'<f4'", "(4294967296, 4294967296, 0)"), 60, "no memory"),
            (with("'<f4'", "(3,)"), 65, "truncated"),
            (with("'<f4'", "(1,)"), 69, "more bytes follow"),
            (file("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", &[1, 2]), 66, "no bool"),
        ] {
            assert_fault(from_bytes(&bytes), at, why);
        }
        let deep = format!("({})", "1,".repeat(65));
        assert_fault(from_bytes(&with("'<f4'", &deep)), 60, "64 axes");
        let array = HostArray::from_slice(&[1u8], vec![1; 65]).unwrap();
        assert!(matches!(to_bytes(&array), Err(Error::InvalidShape { .. })));
    }
}
