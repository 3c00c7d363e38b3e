//! MXNet's `nd.save` format, which `.nd` and Gluon's `.params` files are in: a list of arrays, or arrays with names.
//!
//! All numbers are little-endian:
//!
//! ```text
//! file   u64 0x112, u64 0, u64 number of arrays, the arrays,
//!        u64 number of names (0 for a list), for each name: u64 length, UTF-8 bytes
//! array  u32 magic, i32 storage type (0: dense), i32 rank, i64 size of each axis,
//!        i32 device type (1: CPU), i32 device number, i32 dtype, the elements, row-major
//! dtype  0 float32, 1 float64, 2 float16, 3 uint8, 4 int32, 5 int8, 6 int64, 7 bool
//! ```
//!
//! The magic is 0xF993FAC9, and rank 0 then means "no array": nothing follows the rank. Under `np_shape` it is 0xF993FACA,
//! rank 0 is a scalar, a size may be 0, and "no array" is rank -1. MXNet itself reads such a file only under `np_shape`.
//!
//! Source: MXNet 1.9.1, `NDArray::Save` and `NDArray::Load` in `src/ndarray/ndarray.cc`.

use super::{
    Contents, HostArray, byte_size, duplicate,
    io::{Source, write_atomically},
};
use crate::{DType, Error, Result, Shape};
use std::{
    collections::HashSet,
    io::{self, Read, Write},
    path::Path,
};

const FORMAT: &str = "MXNet";
const LIST_MAGIC: u64 = 0x112;
const MAGIC: u32 = 0xF993_FAC9;
const NP_SHAPE_MAGIC: u32 = 0xF993_FACA;
/// Magic, storage type and rank: the least that an array takes.
const LEAST_ARRAY: u64 = 12;

/// The contents of a file: a list or a dictionary, as it was given to `nd.save`. `None` is MXNet's "no array".
///
/// MXNet does not tell an empty dictionary from an empty list; it is read as a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Saved {
    /// Arrays without names.
    List(Vec<Option<HostArray>>),
    /// Arrays with names, in the order of the file.
    Dict(Vec<(String, Option<HostArray>)>),
}

/// A file.
#[derive(Clone, Debug, PartialEq)]
pub struct NdFile {
    /// The arrays.
    pub saved: Saved,
    /// Whether the file was, or is to be, written under `np_shape`. It is written so in any case when an array has rank 0
    /// or an axis of size 0, which the older flavour cannot say.
    pub np_shape: bool,
}

impl NdFile {
    /// A list of arrays.
    pub fn list(arrays: impl IntoIterator<Item = HostArray>) -> NdFile {
        NdFile { saved: Saved::List(arrays.into_iter().map(Some).collect()), np_shape: false }
    }

    /// Arrays with names.
    pub fn dict<S: Into<String>>(arrays: impl IntoIterator<Item = (S, HostArray)>) -> NdFile {
        NdFile {
            saved: Saved::Dict(arrays.into_iter().map(|(name, a)| (name.into(), Some(a))).collect()),
            np_shape: false,
        }
    }

    /// The named arrays.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a list (unless it is empty), or where a name has no array.
    pub fn into_dict(self) -> Result<Vec<(String, HostArray)>> {
        let op = "NdFile::into_dict";
        match self.saved {
            Saved::List(list) if list.is_empty() => Ok(Vec::new()),
            Saved::List(_) => Err(Error::invalid(op, "the file has a list of arrays, without names")),
            Saved::Dict(entries) => entries
                .into_iter()
                .map(|(name, array)| match array {
                    Some(array) => Ok((name, array)),
                    None => Err(Error::invalid(op, format!("{name:?} has no array"))),
                })
                .collect(),
        }
    }

    fn entries(&self) -> Vec<(Option<&str>, Option<&HostArray>)> {
        match &self.saved {
            Saved::List(list) => list.iter().map(|a| (None, a.as_ref())).collect(),
            Saved::Dict(dict) => dict.iter().map(|(name, a)| (Some(&name[..]), a.as_ref())).collect(),
        }
    }
}

/// Reads a file.
///
/// ```
/// use isograd::format::{HostArray, mxnet::{self, NdFile}};
/// let file = NdFile::dict([("weight", HostArray::from_slice(&[0.5f32; 6], [2, 3])?)]);
/// let read = mxnet::from_bytes(&mxnet::to_bytes(&file)?)?;
/// assert_eq!(read, file);
/// assert_eq!(read.into_dict()?[0].0, "weight");
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] for a damaged file, for sparse arrays, and files of MXNet before 1.0. Arrays of dtypes that isograd does not
/// have are left out of those with names, and are such an error in a list.
pub fn from_bytes(bytes: &[u8]) -> Result<NdFile> {
    all(Source::bytes(FORMAT, bytes))
}

/// [`from_bytes`] over a reader, to its end.
///
/// # Errors
/// Those of [`from_bytes`].
pub fn read(reader: impl Read) -> Result<NdFile> {
    all(Source::new(FORMAT, reader))
}

/// [`from_bytes`] over a file.
///
/// # Errors
/// Those of [`from_bytes`], with the path; [`Error::Io`].
pub fn load(path: impl AsRef<Path>) -> Result<NdFile> {
    all(Source::open(FORMAT, path.as_ref())?)
}

/// The arrays of the names that are `wanted`, without reading the others. A name that has no array is left out.
///
/// # Errors
/// Those of [`load`]; [`Error::File`] for a list, which has no names to go by.
pub fn load_where(path: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> Result<Contents> {
    let path = path.as_ref();
    // The names are at the end.
    let (entries, names, _) = parse(Source::open(FORMAT, path)?, &|_| false)?;
    let Some(names) = names else {
        if entries.is_empty() {
            return Ok(Contents::default());
        }
        return Err(Error::file(FORMAT, 0, "the file has a list of arrays, without names").with_path(path));
    };
    let wanted: Vec<bool> = names.iter().map(|name| wanted(name)).collect();
    let (entries, names, _) = parse(Source::open(FORMAT, path)?, &|i| wanted.get(i).is_some_and(|wanted| *wanted))?;
    let mut contents = Contents::default();
    for ((name, entry), wanted) in names.unwrap_or_default().into_iter().zip(entries).zip(wanted) {
        match entry {
            Entry::Array(array) => contents.arrays.push((name, array)),
            Entry::Foreign { dtype, .. } if wanted => contents.foreign.push((name, dtype)),
            Entry::Foreign { .. } | Entry::None => {}
        }
    }
    Ok(contents)
}

fn all<R: Read>(source: Source<'_, R>) -> Result<NdFile> {
    let (entries, names, np_shape) = parse(source, &|_| true)?;
    let array = |entry| match entry {
        Entry::Array(array) => Ok(Some(array)),
        Entry::None => Ok(None),
        Entry::Foreign { error, .. } => Err(error),
    };
    let saved = match names {
        None => Saved::List(entries.into_iter().map(array).collect::<Result<_>>()?),
        Some(names) => {
            let known = names.into_iter().zip(entries).filter(|(_, entry)| !matches!(entry, Entry::Foreign { .. }));
            let known: Vec<_> = known.map(|(name, entry)| Ok((name, array(entry)?))).collect::<Result<_>>()?;
            if known.is_empty() {
                return Ok(NdFile::list([]));
            }
            Saved::Dict(known)
        }
    };
    Ok(NdFile { saved, np_shape })
}

/// The bytes that MXNet writes for these arrays on a CPU.
///
/// # Errors
/// [`Error::UnsupportedDType`] for bfloat16, [`Error::InvalidArgument`] for a name that stands twice, and those of
/// [`HostArray::check`].
pub fn to_bytes(file: &NdFile) -> Result<Vec<u8>> {
    check("mxnet::to_bytes", file)?;
    let mut bytes = Vec::new();
    encode(&mut bytes, file).map_err(|e| Error::invalid("mxnet::to_bytes", e.to_string()))?;
    Ok(bytes)
}

/// Writes [`to_bytes`] to a file, which is replaced whole or not at all.
///
/// # Errors
/// Those of [`to_bytes`]; [`Error::Io`].
pub fn save(path: impl AsRef<Path>, file: &NdFile) -> Result<()> {
    check("mxnet::save", file)?;
    write_atomically(path.as_ref(), |w| encode(w, file))
}

/// The dtypes, each at the number that MXNet has for it.
const DTYPES: [DType; 8] =
    [DType::F32, DType::F64, DType::F16, DType::U8, DType::I32, DType::I8, DType::I64, DType::Bool];

/// The numbers of dtypes that isograd does not read from these files, with their sizes.
const FOREIGN: [(i32, &str, u64, &str); 5] = [
    (8, "int16", 2, "; save it after astype('int32')"),
    (9, "uint16", 2, "; save it after astype('int32')"),
    (10, "uint32", 4, "; save it after astype('int64')"),
    (11, "uint64", 8, "; save it after astype('int64')"),
    (12, "bfloat16", 2, "; save it after astype('float32')"),
];

/// What stands at a place of a file.
enum Entry {
    /// MXNet's "no array", or one that is passed over.
    None,
    Array(HostArray),
    Foreign {
        dtype: String,
        error: Error,
    },
}

fn check(op: &'static str, file: &NdFile) -> Result<()> {
    let entries = file.entries();
    if let Some(name) = duplicate(entries.iter().filter_map(|(name, _)| *name)) {
        return Err(Error::invalid(op, format!("two arrays have the name {name:?}")));
    }
    for array in entries.into_iter().filter_map(|(_, array)| array) {
        array.check()?;
        if !DTYPES.contains(&array.dtype) {
            let why = "MXNet has no stable number for it; cast to float32 first".to_string();
            return Err(Error::UnsupportedDType { op, dtype: array.dtype, device: "MXNet files".to_string(), why });
        }
    }
    Ok(())
}

fn encode(to: &mut impl Write, file: &NdFile) -> io::Result<()> {
    let entries = file.entries();
    let unsayable = |a: &HostArray| a.shape.rank() == 0 || a.shape.contains(&0);
    let np_shape = file.np_shape || entries.iter().filter_map(|(_, array)| *array).any(unsayable);
    for word in [LIST_MAGIC, 0, entries.len() as u64] {
        to.write_all(&word.to_le_bytes())?;
    }
    for (_, array) in &entries {
        to.write_all(&(if np_shape { NP_SHAPE_MAGIC } else { MAGIC }).to_le_bytes())?;
        to.write_all(&0i32.to_le_bytes())?;
        let Some(array) = array else {
            to.write_all(&(if np_shape { -1i32 } else { 0 }).to_le_bytes())?;
            continue;
        };
        // `check` has bounded the product of the sizes, so they fit; a rank past 2^31 would not be in memory.
        to.write_all(&(array.shape.rank() as i32).to_le_bytes())?;
        for &size in array.shape.iter() {
            to.write_all(&(size as i64).to_le_bytes())?;
        }
        let dtype = DTYPES.iter().position(|d| *d == array.dtype).unwrap_or(DTYPES.len());
        for word in [1, 0, dtype as i32] {
            to.write_all(&word.to_le_bytes())?;
        }
        to.write_all(&array.bytes)?;
    }
    let names: Vec<&str> = entries.iter().filter_map(|(name, _)| *name).collect();
    to.write_all(&(names.len() as u64).to_le_bytes())?;
    for name in names {
        to.write_all(&(name.len() as u64).to_le_bytes())?;
        to.write_all(name.as_bytes())?;
    }
    Ok(())
}

/// The entries, of arrays those whose number is `wanted`; their names unless it is a list; and the flavour.
fn parse<R: Read>(
    mut source: Source<'_, R>,
    wanted: &dyn Fn(usize) -> bool,
) -> Result<(Vec<Entry>, Option<Vec<String>>, bool)> {
    let magic = source.magic::<8>()?;
    if magic != LIST_MAGIC.to_le_bytes() {
        return Err(source.other(&magic));
    }
    let reserved = source.u64("the reserved word")?;
    if reserved != 0 {
        return Err(source.fail(8, format!("the reserved word is {reserved:#x}, not 0")));
    }
    let count = source.u64("the number of arrays")?;
    source.expect(count.saturating_mul(LEAST_ARRAY), &format!("a list of {count} arrays"))?;
    let mut entries = Vec::new();
    let mut flavour = None;
    for index in 0..count {
        let wanted = wanted(index as usize);
        entries.push(parse_array(&mut source, &mut flavour, wanted).map_err(|e| in_array(e, index))?);
    }
    let names = parse_names(&mut source, count)?;
    source.end()?;
    Ok((entries, names, flavour.unwrap_or(false)))
}

/// Says in which array a fault is. Its name is not known yet: names are at the end of a file.
fn in_array(error: Error, index: u64) -> Error {
    match error {
        Error::File { format, path, at, why } => Error::File { format, path, at, why: format!("array {index}: {why}") },
        other => other,
    }
}

fn parse_array<R: Read>(source: &mut Source<'_, R>, flavour: &mut Option<bool>, wanted: bool) -> Result<Entry> {
    let at = source.at();
    let fail = |source: &Source<'_, R>, at, why: String| source.fail(at, why);
    let np_shape = match source.u32("the magic of an array")? {
        MAGIC => false,
        NP_SHAPE_MAGIC => true,
        0xF993_FAC8 => {
            return Err(fail(source, at, "written by MXNet 0.x; load and save it with MXNet 1.x first".to_string()));
        }
        magic => {
            return Err(fail(source, at, format!("the magic is {magic:#x}, not {MAGIC:#x} or {NP_SHAPE_MAGIC:#x}")));
        }
    };
    // np_shape is a state of the process that writes, so one file has one flavour.
    if *flavour.get_or_insert(np_shape) != np_shape {
        return Err(fail(source, at, "the magic is not that of the arrays before it".to_string()));
    }
    match source.i32("the storage type")? {
        0 => {}
        storage @ (1 | 2) => {
            let kind = if storage == 1 { "row_sparse" } else { "csr" };
            return Err(fail(source, at + 4, format!("it is sparse ({kind}); save it after tostype('default')")));
        }
        storage => return Err(fail(source, at + 4, format!("storage type {storage} is not known"))),
    }
    let rank = source.i32("the rank")?;
    if rank == if np_shape { -1 } else { 0 } {
        return Ok(Entry::None);
    }
    let Ok(rank) = u64::try_from(rank) else {
        return Err(fail(source, at + 8, format!("rank {rank}")));
    };
    let shape_at = source.at();
    let sizes = source.take(rank * 8, "the shape")?;
    let mut shape = Shape::default();
    for (axis, size) in sizes.as_chunks::<8>().0.iter().enumerate() {
        let size = i64::from_le_bytes(*size);
        match usize::try_from(size) {
            // Without np_shape MXNet says 0 where a size is still unknown, and never saves such an array.
            Ok(known) if known > 0 || np_shape => shape.push(known),
            _ => return Err(fail(source, shape_at + 8 * axis as u64, format!("axis {axis} has size {size}"))),
        }
    }
    let device_at = source.at();
    let device = source.i32("the device type")?;
    // Where it was when it was saved (1 CPU, 2 GPU, 3 pinned, 5 shared) does not matter, but that it is one of them does.
    if ![1, 2, 3, 5].contains(&device) {
        return Err(fail(source, device_at, format!("device type {device} is not known")));
    }
    source.i32("the device number")?;
    let dtype_at = source.at();
    let number = source.i32("the dtype")?;
    let known = usize::try_from(number).ok().and_then(|n| DTYPES.get(n)).copied();
    let foreign = FOREIGN.iter().find(|(n, ..)| *n == number);
    let what = |dtype: &str| format!("the {dtype} data of shape {shape:?}");
    let bytes = |size: u64| shape.iter().try_fold(size, |n, &axis| n.checked_mul(axis as u64));
    match (known, foreign) {
        (Some(dtype), _) if wanted => source.elements(dtype, shape, shape_at).map(Entry::Array),
        (Some(dtype), _) => {
            let size = byte_size(dtype, &shape);
            let size = size.ok_or_else(|| fail(source, shape_at, format!("no memory can hold shape {shape:?}")))?;
            source.skip(size as u64, &what(&dtype.to_string()))?;
            Ok(Entry::None)
        }
        (None, Some((_, name, size, hint))) => {
            let error = fail(source, dtype_at, format!("dtype {number} ({name}){hint}"));
            let size =
                bytes(*size).ok_or_else(|| fail(source, shape_at, format!("no memory can hold shape {shape:?}")))?;
            source.skip(size, &what(name))?;
            Ok(Entry::Foreign { dtype: name.to_string(), error })
        }
        (None, None) => Err(fail(source, dtype_at, format!("dtype {number} is not known"))),
    }
}

fn parse_names<R: Read>(source: &mut Source<'_, R>, arrays: u64) -> Result<Option<Vec<String>>> {
    let at = source.at();
    let count = source.u64("the number of names")?;
    if count == 0 {
        return Ok(None);
    }
    if count != arrays {
        return Err(source.fail(at, format!("{count} names for {arrays} arrays")));
    }
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for index in 0..count {
        let at = source.at();
        let length = source.u64("the length of a name")?;
        let name = source.take(length, &format!("name {index}"))?;
        let name = String::from_utf8(name).map_err(|_| source.fail(at + 8, format!("name {index} is not UTF-8")))?;
        if !seen.insert(name.clone()) {
            return Err(source.fail(at + 8, format!("two arrays have the name {name:?}")));
        }
        names.push(name);
    }
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::assert_fault;

    #[test]
    fn no_array_is_kept_in_both_flavours() {
        for np_shape in [false, true] {
            let some = HostArray::from_slice(&[true], [1]).unwrap();
            let file = NdFile { saved: Saved::List(vec![None, Some(some), None]), np_shape };
            assert_eq!(from_bytes(&to_bytes(&file).unwrap()).unwrap(), file);
            assert!(file.into_dict().is_err());
        }
        let named = NdFile { saved: Saved::Dict(vec![("a".to_string(), None)]), np_shape: false };
        assert!(matches!(named.into_dict(), Err(Error::InvalidArgument { .. })));
        assert_eq!(NdFile::list([]).into_dict().unwrap(), []);
    }

    #[test]
    fn foreign_dtypes_are_named_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.params");
        let array = |byte: u8| HostArray::new(DType::F16, [1], vec![byte, 0]).unwrap();
        let file = to_bytes(&NdFile::dict([("a", array(1)), ("b", array(2))])).unwrap();
        for (number, dtype) in [(8u8, "int16"), (12, "bfloat16")] {
            let mut bytes = file.clone();
            bytes[52] = number;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(from_bytes(&bytes).unwrap().into_dict().unwrap(), [("b".to_string(), array(2))]);
            let contents = load_where(&path, |_| true).unwrap();
            assert_eq!(contents.arrays, [("b".to_string(), array(2))]);
            assert_eq!(contents.foreign, [("a".to_string(), dtype.to_string())]);
            assert_eq!(load_where(&path, |name| name == "c").unwrap(), Contents::default());
        }
        std::fs::write(&path, &file).unwrap();
        assert_eq!(load_where(&path, |name| name == "a").unwrap().arrays, [("a".to_string(), array(1))]);
        // A list has no names for what is left.
        let mut list = to_bytes(&NdFile::list([array(1)])).unwrap();
        list[52] = 8;
        assert_fault(from_bytes(&list), 52, "int16");
        std::fs::write(&path, &list).unwrap();
        assert!(matches!(load_where(&path, |_| true), Err(Error::File { .. })));
    }

    #[test]
    fn each_fault_has_its_place() {
        // Offsets: array at 24, storage type 28, rank 32, size 36, device type 44, dtype 52, data 56, number of names 57,
        // length of the name 65, name 73.
        let array = HostArray::from_slice(&[true], [1]).unwrap();
        let valid = to_bytes(&NdFile::dict([("n", array.clone())])).unwrap();
        assert_eq!(valid.len(), 74);
        for (place, value, at, why) in [
            (0, &[0x13][..], 0, "no MXNet file: it begins with \"\\x13"),
            (8, &[1], 8, "reserved"),
            (16, &[255; 8], 24, "truncated: a list of 18446744073709551615 arrays"),
            (24, &[0xc8], 24, "MXNet 0.x"),
            (24, &[0], 24, "array 0: the magic is"),
            (28, &[1], 28, "row_sparse"),
            (28, &[2], 28, "csr"),
            (28, &[9], 28, "storage type 9"),
            (32, &[255; 4], 32, "rank -1"),
            (32, &[255, 255, 255, 127], 36, "truncated: the shape"),
            (36, &[255; 8], 36, "axis 0 has size -1"),
            (36, &[0], 36, "axis 0 has size 0"),
            (36, &[0, 0, 0, 0, 0, 0, 0, 0x10], 56, "truncated: the bool data"),
            (44, &[4], 44, "device type 4"),
            (52, &[200], 52, "dtype 200 is not known"),
            (52, &[255; 4], 52, "dtype -1 is not known"),
            (56, &[2], 56, "no bool"),
            (57, &[2], 57, "2 names for 1 arrays"),
            (57, &[0], 65, "more bytes follow"),
            (65, &[2], 73, "truncated: name 0"),
            (65, &[255; 8], 73, "truncated: name 0"),
            (73, &[255], 73, "not UTF-8"),
        ] {
            let mut bytes = valid.clone();
            bytes[place..][..value.len()].copy_from_slice(value);
            assert_fault(from_bytes(&bytes), at, why);
        }

        let twice = NdFile::dict([("m", array.clone()), ("n", array.clone())]);
        let mut bytes = to_bytes(&twice).unwrap();
        let last = bytes.len() - 1;
        bytes[last] = b'm';
        assert_fault(from_bytes(&bytes), last as u64, "two arrays have the name \"m\"");
        let mut mixed = to_bytes(&twice).unwrap();
        mixed[57] = 0xca;
        assert_fault(from_bytes(&mixed), 57, "not that of the arrays before it");
        let mut huge = to_bytes(&NdFile::list([HostArray::from_slice(&[1.0f64], [1, 1, 1]).unwrap()])).unwrap();
        for axis in 0..3 {
            huge[36 + 8 * axis + 3] = 1;
        }
        assert_fault(from_bytes(&huge), 36, "no memory");
        assert!(matches!(
            to_bytes(&NdFile::dict([("n", array.clone()), ("n", array)])),
            Err(Error::InvalidArgument { .. })
        ));
    }
}
