//! Safetensors: named arrays behind a JSON header; the format that isograd saves in by default.
//!
//! A u64, the length of the header; the header, padded with spaces to a multiple of 8; the data of all arrays, without
//! gaps. Offsets count from the start of the data:
//!
//! ```text
//! {"__metadata__":{"key":"text"},"weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}
//! ```
//!
//! The bytes written are those of the `safetensors` crate (against which the tests hold them), which is not used itself:
//! its reader lets one of two arrays of the same name win and does not say where a fault is, and its writer puts the
//! metadata in an order that changes from run to run.
//!
//! Source: <https://github.com/huggingface/safetensors#format>.

use super::{
    Contents, HostArray, byte_size, duplicate,
    io::{Source, write_atomically},
};
use crate::{DType, Error, Result, Shape};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashSet},
    fmt,
    io::{Read, Write},
    path::Path,
};

const FORMAT: &str = "safetensors";
const METADATA: &str = "__metadata__";
/// The limit of the `safetensors` crate.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// A file: named arrays, and texts about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SafeTensors {
    /// The arrays, in the order in which their data lies in the file.
    pub arrays: Vec<(String, HostArray)>,
    /// Texts by key.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a file.
///
/// ```
/// use isograd::format::{HostArray, safetensors};
/// let arrays = [("weight", HostArray::from_slice(&[0.5f32; 6], [2, 3])?)];
/// let metadata = [("made_by".to_string(), "isograd".to_string())].into();
/// let file = safetensors::from_bytes(&safetensors::to_bytes(&arrays, &metadata)?)?;
/// assert_eq!(file.arrays[0].1, arrays[0].1);
/// assert_eq!(file.metadata, metadata);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] for a damaged file, with the name of the array. Arrays of dtypes that isograd does not have are left out.
pub fn from_bytes(bytes: &[u8]) -> Result<SafeTensors> {
    all(Source::bytes(FORMAT, bytes))
}

/// [`from_bytes`] over a reader, to its end.
///
/// # Errors
/// Those of [`from_bytes`].
pub fn read(reader: impl Read) -> Result<SafeTensors> {
    all(Source::new(FORMAT, reader))
}

/// [`from_bytes`] over a file.
///
/// # Errors
/// Those of [`from_bytes`], with the path; [`Error::Io`].
pub fn load(path: impl AsRef<Path>) -> Result<SafeTensors> {
    all(Source::open(FORMAT, path.as_ref())?)
}

/// The arrays of the names that are `wanted`, without reading the others, and the texts.
///
/// ```
/// use isograd::format::{HostArray, safetensors};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("two.safetensors");
/// let array = HostArray::from_slice(&[1.0f32], [1])?;
/// safetensors::save(&path, &[("weight", &array), ("bias", &array)], &Default::default())?;
/// let (contents, _) = safetensors::load_where(&path, |name| name == "bias")?;
/// assert_eq!(contents.arrays, [("bias".to_string(), array)]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// Those of [`load`].
pub fn load_where(
    path: impl AsRef<Path>,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Contents, BTreeMap<String, String>)> {
    parse(Source::open(FORMAT, path.as_ref())?, &wanted)
}

fn all<R: Read>(source: Source<'_, R>) -> Result<SafeTensors> {
    let (contents, metadata) = parse(source, &|_| true)?;
    Ok(SafeTensors { arrays: contents.arrays, metadata })
}

/// The bytes of a file. The same arrays give the same bytes, in whatever order they come: they are sorted by dtype, those
/// of the strictest alignment first, then by name.
///
/// # Errors
/// [`Error::InvalidArgument`] for a name that stands twice or is `__metadata__`, which the format keeps for itself, or
/// where the header passes 100 MB; and those of [`HostArray::check`].
pub fn to_bytes<S: AsRef<str>, A: Borrow<HostArray>>(
    arrays: &[(S, A)],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let (mut bytes, sorted) = header("safetensors::to_bytes", arrays, metadata)?;
    sorted.iter().for_each(|array| bytes.extend_from_slice(&array.bytes));
    Ok(bytes)
}

/// Writes [`to_bytes`] to a file, which is replaced whole or not at all.
///
/// # Errors
/// Those of [`to_bytes`]; [`Error::Io`].
pub fn save<S, A>(path: impl AsRef<Path>, arrays: &[(S, A)], metadata: &BTreeMap<String, String>) -> Result<()>
where
    S: AsRef<str>,
    A: Borrow<HostArray>,
{
    let (header, sorted) = header("safetensors::save", arrays, metadata)?;
    write_atomically(path.as_ref(), |w| {
        w.write_all(&header)?;
        sorted.iter().try_for_each(|array| w.write_all(&array.bytes))
    })
}

/// The dtypes in the order in which their arrays are written.
const DTYPES: [(DType, &str); 9] = [
    (DType::I64, "I64"),
    (DType::F64, "F64"),
    (DType::F32, "F32"),
    (DType::I32, "I32"),
    (DType::BF16, "BF16"),
    (DType::F16, "F16"),
    (DType::I8, "I8"),
    (DType::U8, "U8"),
    (DType::Bool, "BOOL"),
];

/// Dtypes of the format that isograd does not have, and how many bits an element takes.
const FOREIGN: [(&str, u64); 13] = [
    ("U64", 64),
    ("C64", 64),
    ("U32", 32),
    ("U16", 16),
    ("I16", 16),
    ("F8_E4M3", 8),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F4", 4),
];

/// Everything before the data, and the arrays in the order of their data.
fn header<'a, S: AsRef<str>, A: Borrow<HostArray>>(
    op: &'static str,
    arrays: &'a [(S, A)],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, Vec<&'a HostArray>)> {
    if let Some(name) = duplicate(arrays.iter().map(|(name, _)| name.as_ref())) {
        return Err(Error::invalid(op, format!("two arrays have the name {name:?}")));
    }
    let mut sorted = Vec::new();
    for (name, array) in arrays {
        let (name, array) = (name.as_ref(), array.borrow());
        array.check()?;
        if name == METADATA {
            return Err(Error::invalid(op, format!("the format keeps the name {METADATA:?} for itself")));
        }
        sorted.push((DTYPES.iter().position(|(d, _)| *d == array.dtype), name, array));
    }
    sorted.sort_by_key(|(order, name, _)| (*order, *name));

    let json = |text: &str| serde_json::Value::from(text).to_string();
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        let texts: Vec<String> = metadata.iter().map(|(key, text)| format!("{}:{}", json(key), json(text))).collect();
        entries.push(format!("{}:{{{}}}", json(METADATA), texts.join(",")));
    }
    let mut start = 0;
    for (order, name, array) in &sorted {
        let dtype = order.map_or("", |i| DTYPES[i].1);
        let shape = array.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let end = start + array.bytes.len();
        entries
            .push(format!(r#"{}:{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{start},{end}]}}"#, json(name)));
        start = end;
    }
    let mut text = format!("{{{}}}", entries.join(","));
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    if text.len() as u64 > MAX_HEADER {
        return Err(Error::invalid(op, format!("a header of {} bytes; the limit is {MAX_HEADER}", text.len())));
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    Ok((bytes, sorted.into_iter().map(|(_, _, array)| array).collect()))
}

fn parse<R: Read>(
    mut source: Source<'_, R>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(Contents, BTreeMap<String, String>)> {
    let start = source.magic::<8>()?;
    let length = u64::from_le_bytes(start);
    if length > MAX_HEADER {
        return Err(source.other(&start));
    }
    let mut text = source.take(length.min(1), "the header")?;
    if text.first().is_some_and(|first| *first != b'{') {
        return Err(source.other(&[&start, &text[..]].concat()));
    }
    text.extend(source.take(length.saturating_sub(1), "the rest of the header")?);
    let text = str::from_utf8(&text).map_err(|e| source.fail(8 + e.valid_up_to() as u64, "the header is not UTF-8"))?;
    let Header { metadata, mut tensors } =
        serde_json::from_str(text).map_err(|e| source.fail(8 + offset(text, &e), format!("the header: {e}")))?;

    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let data = source.at();
    let mut contents = Contents::default();
    for (name, info) in tensors {
        let [start, end] = info.data_offsets;
        // Where the data of the one before ended.
        let at = source.at();
        let fail = |why: String| source.fail(at, format!("array {name:?}: {why}"));
        let shape: Shape = info.shape.iter().copied().collect();
        let known = DTYPES.iter().find(|(_, n)| *n == info.dtype).map(|(dtype, _)| *dtype);
        let size = match (known, FOREIGN.iter().find(|(n, _)| *n == info.dtype)) {
            (Some(dtype), _) => byte_size(dtype, &shape).map(|size| size as u64),
            (None, Some((_, bits))) => {
                shape.iter().try_fold(*bits, |n, &axis| n.checked_mul(axis as u64)).map(|bits| bits.div_ceil(8))
            }
            (None, None) => return Err(fail(format!("dtype {:?} has no counterpart here", info.dtype))),
        };
        let dtype = &info.dtype;
        let Some(size) = size else {
            return Err(fail(format!("no memory can hold {dtype} of shape {shape:?}")));
        };
        if start != at - data || end.checked_sub(start) != Some(size) {
            let right = at - data;
            return Err(fail(format!(
                "its data_offsets are [{start}, {end}]; {dtype} of shape {shape:?} has to be at [{right}, {}]",
                right.saturating_add(size)
            )));
        }
        match known {
            Some(dtype) if wanted(&name) => contents.arrays.push((name.clone(), source.elements(dtype, shape, at)?)),
            _ => source.skip(size, &format!("the {dtype} data of shape {shape:?}"))?,
        }
        if known.is_none() && wanted(&name) {
            contents.foreign.push((name, info.dtype));
        }
    }
    source.end()?;
    Ok((contents, metadata))
}

/// Where in the header serde_json found a fault; it counts lines and columns from 1.
fn offset(text: &str, error: &serde_json::Error) -> u64 {
    let lines: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (lines + error.column().saturating_sub(1)) as u64
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The header. Read entry by entry, because a map would let the last of two equal keys win.
#[derive(Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Info)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of arrays")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
                let mut header = Header::default();
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(M::Error::custom(format!("two entries have the name {name:?}")));
                    }
                    if name == METADATA {
                        header.metadata = map.next_value::<Texts>()?.0;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The metadata, for the same reason.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of texts")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Texts, M::Error> {
                let mut texts = BTreeMap::new();
                while let Some((key, text)) = map.next_entry::<String, String>()? {
                    if texts.contains_key(&key) {
                        return Err(M::Error::custom(format!("two texts have the key {key:?}")));
                    }
                    texts.insert(key, text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::assert_fault;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn arrays_come_in_the_order_of_their_data() {
        let header = r#"{"b":{"dtype":"U8","shape":[],"data_offsets":[1,2]},
            "a":{"shape":[1],"data_offsets":[0,1],"dtype":"U8"}, "__metadata__":{}}"#;
        let read = from_bytes(&file(header, &[7, 8])).unwrap();
        assert_eq!(read.arrays[0], ("a".to_string(), HostArray::from_slice(&[7u8], [1]).unwrap()));
        assert_eq!(read.arrays[1], ("b".to_string(), HostArray::from_slice(&[8u8], []).unwrap()));
    }

    #[test]
    fn foreign_dtypes_are_named_and_left_out() {
        let header = r#"{"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},
            "b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]},"c":{"dtype":"F4","shape":[3],"data_offsets":[4,6]},
            "d":{"dtype":"U8","shape":[1],"data_offsets":[6,7]}}"#;
        let bytes = file(header, &[1, 2, 3, 4, 5, 6, 7]);
        let whole = from_bytes(&bytes).unwrap();
        let array = |byte: u8| HostArray::from_slice(&[byte], [1]).unwrap();
        assert_eq!(whole.arrays, [("b".to_string(), array(4)), ("d".to_string(), array(7))]);
        let some = |wanted: &dyn Fn(&str) -> bool| parse(Source::bytes(FORMAT, &bytes), wanted).unwrap().0;
        assert_eq!(some(&|_| true).foreign, [("a".into(), "F8_E4M3".into()), ("c".into(), "F4".into())]);
        let last = Contents { arrays: vec![("d".to_string(), array(7))], foreign: vec![] };
        assert_eq!(some(&|name| name == "d"), last);
        assert_eq!(parse(Source::new(FORMAT, &bytes[..]), &|name| name == "d").unwrap().0, last);
    }

    #[test]
    fn each_fault_has_its_place() {
        let one = |dtype: &str, shape: &str, offsets: &str, data: &[u8]| {
            file(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), data)
        };
        let data_at = |bytes: &[u8]| 8 + u64::from(bytes[0]);
        for (bytes, why) in [
            (one("U17", "[1]", "[0,2]", &[0; 2]), "array \"a\": dtype \"U17\" has no counterpart"),
            (one("U16", "[1]", "[0,3]", &[0; 3]), "U16 of shape (1,) has to be at [0, 2]"),
            (one("U16", "[1]", "[0,2]", &[0; 1]), "truncated: the U16 data"),
            (one("F32", "[1]", "[0,5]", &[0; 5]), "has to be at [0, 4]"),
            (one("F32", "[1]", "[4,0]", &[0; 4]), "has to be at [0, 4]"),
            (one("F32", "[1]", "[1,5]", &[0; 5]), "has to be at [0, 4]"),
            (one("F32", "[1]", "[0,4]", &[0; 3]), "truncated: the float32 data"),
            (one("F32", "[288230376151711744]", "[0,1152921504606846976]", &[]), "truncated: the float32 data"),
            (one("F32", "[4294967296,4294967296]", "[0,0]", &[]), "no memory"),
            (one("BOOL", "[1]", "[0,1]", &[9]), "no bool"),
        ] {
            assert_fault(from_bytes(&bytes), data_at(&bytes), why);
        }
        let more = one("U8", "[1]", "[0,1]", &[0; 2]);
        assert_fault(from_bytes(&more), data_at(&more) + 1, "more bytes follow");
        let info = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
        for (bytes, at, why) in [
            (vec![0; 3], 0, "truncated"),
            (vec![255; 8], 0, "no safetensors file: it begins with"),
            (file("[1]", b""), 0, "no safetensors file"),
            (vec![9, 0, 0, 0, 0, 0, 0, 0, b'{'], 9, "truncated: the rest of the header takes 8 bytes"),
            (file("", b""), 8, "EOF"),
            (file("{\n\n  ?}", b""), 13, "the header: key must be a string"),
            ([&[2, 0, 0, 0, 0, 0, 0, 0][..], b"{\xff"].concat(), 9, "not UTF-8"),
            (file(&format!(r#"{{"a":{info},"a":{info}}}"#), b""), 63, "two entries have the name \"a\""),
            (file(r#"{"__metadata__":{"a":"","a":""}}"#, b""), 38, "two texts have the key \"a\""),
            (file(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}"#, b""), 37, "-1"),
            (file(r#"{"a":{"dtype":"U8","shape":[0]}}"#, b""), 38, "missing field"),
        ] {
            assert_fault(from_bytes(&bytes), at, why);
        }
        let array = HostArray::from_slice(&[1u8], [1]).unwrap();
        assert!(matches!(
            to_bytes(&[("a", &array), ("a", &array)], &BTreeMap::new()),
            Err(Error::InvalidArgument { .. })
        ));
        assert!(matches!(to_bytes(&[(METADATA, &array)], &BTreeMap::new()), Err(Error::InvalidArgument { .. })));
    }
}
