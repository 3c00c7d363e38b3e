//! NumPy's `.npz`: named arrays, a zip archive with a [`npy`] file for each.
//!
//! A member is called `<name>.npy`, and is stored or deflated. Sources:
//! <https://numpy.org/doc/stable/reference/generated/numpy.savez.html>,
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>.

use super::{
    Contents, HostArray, duplicate,
    io::{Source, write_atomically},
    npy,
    recognize::{START, not_of},
};
use crate::{Error, Result};
use std::{
    borrow::Borrow,
    cell::Cell,
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write},
    path::Path,
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, read::ZipReadOptions, write::SimpleFileOptions};

const FORMAT: &str = "npz";
/// The header of a member, with its name and its extra fields, must stay below 64 KiB.
const MAX_NAME: usize = 65_000;
/// How far the deflated members of an archive may expand, all together, unless [`read_with_limit`] is told otherwise: 4 GiB. A
/// megabyte of them can expand to a gigabyte.
pub const MAX_EXPANDED: u64 = 1 << 32;

/// How the arrays are kept in the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are, like `numpy.savez`.
    #[default]
    Stored,
    /// Deflated, like `numpy.savez_compressed`.
    Deflated,
}

/// Reads all arrays, in the order of the archive.
///
/// ```
/// use isograd::format::{HostArray, npz};
/// let arrays = [("weight", HostArray::from_slice(&[1.0f32, 2.0], [2])?), ("bias", HostArray::from_slice(&[3u8], [])?)];
/// let bytes = npz::to_bytes(&arrays, npz::Compression::Deflated)?;
/// let read = npz::from_bytes(&bytes)?;
/// assert_eq!(read[1], ("bias".to_string(), arrays[1].1.clone()));
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] for anything that is not a zip archive of arrays with different names, or expands to more than
/// [`MAX_EXPANDED`].
/// Arrays of dtypes that isograd does not have, such as strings, are left out.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<(String, HostArray)>> {
    read(Cursor::new(bytes))
}

/// [`from_bytes`] over a reader. It must be able to seek: the table of contents of an archive is at its end.
///
/// # Errors
/// Those of [`from_bytes`].
pub fn read(reader: impl Read + Seek) -> Result<Vec<(String, HostArray)>> {
    read_with_limit(reader, MAX_EXPANDED)
}

/// [`read`] of an archive whose deflated members may expand to `limit` bytes, all together.
///
/// # Errors
/// Those of [`from_bytes`].
pub fn read_with_limit(reader: impl Read + Seek, limit: u64) -> Result<Vec<(String, HostArray)>> {
    Ok(parse(reader, limit, &|_| true)?.arrays)
}

fn parse(mut reader: impl Read + Seek, limit: u64, wanted: &dyn Fn(&str) -> bool) -> Result<Contents> {
    let damaged = |why: String| Error::file(FORMAT, 0, why);
    let mut start = Vec::new();
    let began = reader.by_ref().take(START as u64).read_to_end(&mut start).and_then(|_| reader.rewind());
    began.map_err(|e| damaged(format!("cannot read the beginning: {e}")))?;
    let mut archive = ZipArchive::new(reader).map_err(|e| match start.starts_with(b"PK") {
        true => damaged(format!("no readable zip archive: {e}")),
        false => damaged(not_of(FORMAT, &start)),
    })?;
    if archive.has_duplicate_names() {
        return Err(damaged("two members have the same name".to_string()));
    }
    if archive.offset() != 0 {
        return Err(damaged(format!("{} bytes of something else stand before the archive", archive.offset())));
    }
    // Members that share their bytes are how a small archive becomes a large one.
    if archive.has_overlapping_entries().map_err(|e| damaged(format!("damaged zip archive: {e}")))? {
        return Err(damaged("members of the archive overlap".to_string()));
    }
    let (mut contents, mut left) = (Contents::default(), limit);
    for index in 0..archive.len() {
        match member(&mut archive, index, &mut left, wanted)? {
            None => {}
            Some((name, Ok(array))) => contents.arrays.push((name, array)),
            Some((name, Err(foreign))) => contents.foreign.push((name, foreign.dtype)),
        }
    }
    ends_at_its_end(archive)?;
    Ok(contents)
}

/// [`from_bytes`] over a file.
///
/// # Errors
/// Those of [`from_bytes`], with the path; [`Error::Io`].
pub fn load(path: impl AsRef<Path>) -> Result<Vec<(String, HostArray)>> {
    Ok(load_where(path, |_| true)?.arrays)
}

/// The arrays of the names that are `wanted`, without reading the others.
///
/// # Errors
/// Those of [`load`].
pub fn load_where(path: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> Result<Contents> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| Error::Io { action: "open", path: path.into(), source })?;
    // A folder opens like a file, and shows what it is when it is read.
    let found = file.metadata().and_then(|m| if m.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(m) });
    found.map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
    parse(BufReader::new(file), MAX_EXPANDED, &wanted).map_err(|e| e.with_path(path))
}

/// Writes arrays under their names, in their order. The same arrays give the same bytes.
///
/// # Errors
/// [`Error::InvalidArgument`] for a name that stands twice or is longer than a zip archive allows; for the arrays those
/// of [`npy::to_bytes`].
pub fn to_bytes<S: AsRef<str>, A: Borrow<HostArray>>(arrays: &[(S, A)], compression: Compression) -> Result<Vec<u8>> {
    let headers = headers("npz::to_bytes", arrays)?;
    let mut bytes = Cursor::new(Vec::new());
    encode(&mut bytes, arrays, &headers, compression).map_err(|e| Error::invalid("npz::to_bytes", e.to_string()))?;
    Ok(bytes.into_inner())
}

/// Writes [`to_bytes`] to a file, which is replaced whole or not at all.
///
/// # Errors
/// Those of [`to_bytes`]; [`Error::Io`].
pub fn save<S, A>(path: impl AsRef<Path>, arrays: &[(S, A)], compression: Compression) -> Result<()>
where
    S: AsRef<str>,
    A: Borrow<HostArray>,
{
    let headers = headers("npz::save", arrays)?;
    write_atomically(path.as_ref(), |w| encode(w, arrays, &headers, compression))
}

/// The npy header of each array: all that can be wrong with one shows here, before a byte is written.
fn headers<S: AsRef<str>, A: Borrow<HostArray>>(op: &'static str, arrays: &[(S, A)]) -> Result<Vec<Vec<u8>>> {
    if let Some(name) = duplicate(arrays.iter().map(|(name, _)| name.as_ref())) {
        return Err(Error::invalid(op, format!("two arrays have the name {name:?}")));
    }
    if let Some((name, _)) = arrays.iter().find(|(name, _)| name.as_ref().len() > MAX_NAME) {
        let length = name.as_ref().len();
        return Err(Error::invalid(op, format!("a name of {length} bytes; a zip archive allows {MAX_NAME}")));
    }
    arrays.iter().map(|(_, array)| npy::header(op, array.borrow())).collect()
}

fn encode<W: Write + Seek, S: AsRef<str>, A: Borrow<HostArray>>(
    to: &mut W,
    arrays: &[(S, A)],
    headers: &[Vec<u8>],
    compression: Compression,
) -> io::Result<()> {
    let method = match compression {
        Compression::Stored => CompressionMethod::Stored,
        Compression::Deflated => CompressionMethod::Deflated,
    };
    let failure = Cell::new(None);
    let mut archive = ZipWriter::new(Halting { to, failure: &failure, at: 0, end: 0 });
    for ((name, array), header) in arrays.iter().zip(headers) {
        let data = &array.borrow().bytes;
        // Near 4 GiB deflated data can be longer than the data, so the wide sizes come a little early.
        let large = (data.len() + header.len()) as u64 >= u64::from(u32::MAX) - (1 << 22);
        let options = SimpleFileOptions::default().compression_method(method).large_file(large);
        archive.start_file(format!("{}.npy", name.as_ref()), options)?;
        archive.write_all(header)?;
        archive.write_all(data)?;
    }
    archive.finish()?;
    failure.take().map_or(Ok(()), Err)
}

/// A writer that fails once. It keeps the error, and from then on takes everything and writes nothing: a `ZipWriter` that sees
/// an error tries again when it is dropped, and prints on the standard error what fails then.
struct Halting<'a, W> {
    to: W,
    failure: &'a Cell<Option<io::Error>>,
    at: u64,
    end: u64,
}

impl<W> Halting<'_, W> {
    /// Does `f`, unless something failed before; `None` when it did or does.
    fn attempt<T>(&mut self, f: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<Option<T>> {
        let before = self.failure.take();
        if before.is_some() {
            self.failure.set(before);
            return Ok(None);
        }
        match f(&mut self.to) {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                self.failure.set(Some(e));
                Ok(None)
            }
        }
    }
}

impl<W: Write> Write for Halting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.attempt(|to| to.write(bytes))?.unwrap_or(bytes.len());
        self.at += written as u64;
        self.end = self.end.max(self.at);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(Write::flush).map(drop)
    }
}

impl<W: Seek> Seek for Halting<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = self.attempt(|writer| writer.seek(to))?;
        self.at = moved.unwrap_or(match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            SeekFrom::End(by) => self.end.saturating_add_signed(by),
        });
        Ok(self.at)
    }
}

/// The array of a member, or that its dtype is foreign; `None` for one that is not wanted. What it expands to is taken from `left`.
fn member<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    index: usize,
    left: &mut u64,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Option<(String, Result<HostArray, npy::Foreign>)>> {
    // The local header of a member repeats what the table of contents says of it; they must agree.
    let options = ZipReadOptions::new().enforce_header_consistency(true);
    let file = archive.by_index_with_options(index, options);
    let file = file.map_err(|e| Error::file(FORMAT, 0, format!("member number {index} cannot be read: {e}")))?;
    let start = file.header_start();
    let name = match std::str::from_utf8(file.name_raw()) {
        Ok(name) => name.to_string(),
        Err(_) => return Err(Error::file(FORMAT, start, format!("the name of member number {index} is not UTF-8"))),
    };
    let Some(key) = name.strip_suffix(".npy") else {
        return Err(Error::file(
            FORMAT,
            start,
            format!("the member {name:?} is no array: its name does not end in .npy"),
        ));
    };
    if !wanted(key) {
        return Ok(None);
    }
    // The size that the archive declares is not used: memory grows with the data, as far as the array's header says.
    // What is stored takes as many bytes in the archive, since members do not overlap.
    let stored = file.compression() == CompressionMethod::Stored;
    match npy::parse_known(if stored { Source::new("npy", file) } else { Source::compressed("npy", file, *left) }) {
        Ok(array) => {
            let taken = array.as_ref().map_or(0, |array| array.bytes.len() as u64);
            *left -= if stored { 0 } else { taken.min(*left) };
            Ok(Some((key.to_string(), array)))
        }
        Err(Error::File { at, why, .. }) => {
            Err(Error::file(FORMAT, start, format!("member {name:?}, at its byte {at}: {why}")))
        }
        Err(other) => Err(other),
    }
}

/// Looks for the end record where it has to be if nothing follows the archive: zip readers search backwards for it, past
/// anything.
fn ends_at_its_end<R: Read + Seek>(archive: ZipArchive<R>) -> Result<()> {
    let record = 22 + archive.comment().len() as i64;
    let mut reader = archive.into_inner();
    let mut magic = [0; 4];
    let found = reader.seek(SeekFrom::End(-record)).and_then(|at| reader.read_exact(&mut magic).map(|()| at));
    match found {
        Ok(_) if magic == *b"PK\x05\x06" => Ok(()),
        Ok(at) => Err(Error::file(FORMAT, at, "the archive should end 22 bytes from here, but more bytes follow")),
        Err(e) => Err(Error::file(FORMAT, 0, format!("cannot read the end of the archive: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::assert_fault;

    /// Sets every occurrence of `from`, which are in the local header and in the table of contents.
    fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from) {
                bytes[at..at + to.len()].copy_from_slice(to);
            }
        }
        bytes
    }

    #[test]
    fn each_fault_has_its_place() {
        let array = HostArray::from_slice(&[1u8, 2], [2]).unwrap();
        let valid = to_bytes(&[("first", &array), ("again", &array)], Compression::Stored).unwrap();
        let second = 30 + 9 + 130;
        assert_eq!(from_bytes(&valid).unwrap().len(), 2);

        assert_fault(from_bytes(b""), 0, "no npz file: it is empty");
        assert_fault(from_bytes(b"PK\x03\x04 and nonsense"), 0, "no readable zip archive");
        assert_fault(from_bytes(&replace(&valid, b"again", b"first")), 0, "same name");
        assert_fault(from_bytes(&replace(&valid, b"again", b"\xff")), second, "not UTF-8");
        assert_fault(from_bytes(&replace(&valid, b"again.npy", b"again.txt")), second, "\"again.txt\" is no array");
        assert_fault(
            from_bytes(&replace(&valid, b"\x93NUMPY", b"\x93NUMPX")),
            0,
            "member \"first.npy\", at its byte 0: no npy",
        );
        assert_fault(from_bytes(&replace(&valid, b"(2,)", b"(3,)")), 0, "at its byte 128: cannot read on");
        assert_fault(from_bytes(&[b"x", &valid[..]].concat()), 0, "stand before");
        assert_fault(from_bytes(&[&valid[..], b"x"].concat()), valid.len() as u64 - 21, "more bytes follow");
        let mut changed = valid.clone();
        changed[second as usize - 1] = 3;
        assert_fault(from_bytes(&changed), 0, "checksum");
        let mut renamed = valid.clone();
        renamed[30] = b'F';
        assert_fault(from_bytes(&renamed), 0, "member number 0 cannot be read");
    }

    #[test]
    fn foreign_dtypes_are_named_and_left_out() {
        let array = |byte: u8| HostArray::from_slice(&[byte, byte], [2]).unwrap();
        let valid = to_bytes(&[("first", &array(1)), ("again", &array(2))], Compression::Deflated).unwrap();
        let mut plain = to_bytes(&[("first", &array(1)), ("again", &array(2))], Compression::Stored).unwrap();
        assert_eq!(
            parse(Cursor::new(&valid), MAX_EXPANDED, &|name| name == "again").unwrap().arrays,
            [("again".to_string(), array(2))]
        );
        for (descr, dtype) in
            [("'<i2', ", "<i2"), ("'|S1', ", "|S1"), ("'<U1', ", "<U1"), ("'|O',  ", "|O"), ("[(1)], ", "structured")]
        {
            // The sum over the bytes is not looked at, since only the header is read.
            let at = plain.windows(5).position(|w| w == b"descr").unwrap() + 8;
            plain[at..at + 7].copy_from_slice(descr.as_bytes());
            let contents = parse(Cursor::new(&plain), MAX_EXPANDED, &|_| true).unwrap();
            assert_eq!(contents.arrays, [("again".to_string(), array(2))]);
            assert_eq!(contents.foreign, [("first".to_string(), dtype.to_string())]);
        }
    }

    #[test]
    fn what_an_array_claims_is_not_allocated() {
        let array = HostArray::from_slice(&[1u8, 2], [2]).unwrap();
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        archive
            .start_file("a.npy", SimpleFileOptions::default().compression_method(CompressionMethod::Deflated))
            .unwrap();
        let lie =
            replace(&npy::to_bytes(&array).unwrap(), b"(2,), }                    ", b"(16777216,), }             ");
        archive.write_all(&lie).unwrap();
        let bytes = archive.finish().unwrap().into_inner();
        assert_fault(from_bytes(&bytes), 0, "at its byte 128: truncated: the uint8 data");
    }

    /// A disk that is full after so many bytes.
    struct Full {
        room: usize,
        refused: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                self.refused += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.room);
            self.room -= n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn a_full_disk_is_asked_once_and_nothing_is_printed() {
        let array = HostArray::from_slice(&[7u8; 3000], [3000]).unwrap();
        let arrays = [("a", &array), ("b", &array)];
        let headers = headers("test", &arrays).unwrap();
        for compression in [Compression::Stored, Compression::Deflated] {
            let length = to_bytes(&arrays, compression).unwrap().len();
            for room in (0..length).step_by(7).chain([length - 1]) {
                let mut disk = Full { room, refused: 0 };
                let error = encode(&mut disk, &arrays, &headers, compression).unwrap_err();
                // A second attempt would be that of the writer as it is dropped, which prints what fails.
                assert_eq!((error.kind(), disk.refused), (io::ErrorKind::StorageFull, 1), "{room} of {length}");
            }
        }
    }

    #[test]
    fn what_expands_too_far_is_refused() {
        let array = HostArray::from_slice(&[0u8; 100_000], [100_000]).unwrap();
        let arrays = [("a", &array), ("b", &array)];
        let small = to_bytes(&arrays, Compression::Deflated).unwrap();
        assert!(small.len() < 2000);
        let read = |bytes: &[u8], limit| read_with_limit(Cursor::new(bytes), limit);
        assert_eq!(read(&small, 200_256).unwrap().len(), 2);
        let error = read(&small, 150_000).unwrap_err();
        assert!(error.to_string().contains("\"b.npy\"") && error.to_string().contains("may expand to"), "{error}");
        // What is stored is as large as its file.
        assert_eq!(read(&to_bytes(&arrays, Compression::Stored).unwrap(), 10).unwrap().len(), 2);
        let lie = replace(&npy::to_bytes(&array).unwrap(), b"(100000,), }        ", b"(4294967297,), }    ");
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        archive.start_file("a.npy", options).unwrap();
        archive.write_all(&lie).unwrap();
        let bytes = archive.finish().unwrap().into_inner();
        assert_fault(from_bytes(&bytes), 0, "may expand to 4294967296 bytes");
    }

    #[test]
    fn names_that_a_zip_archive_cannot_have_are_refused() {
        let array = HostArray::from_slice(&[1u8], [1]).unwrap();
        for arrays in [&[("a", &array), ("a", &array)][..], &[(&"x".repeat(MAX_NAME + 1)[..], &array)]] {
            assert!(matches!(to_bytes(arrays, Compression::Stored), Err(Error::InvalidArgument { .. })));
        }
        let long = [("x".repeat(MAX_NAME), array)];
        assert_eq!(from_bytes(&to_bytes(&long, Compression::Stored).unwrap()).unwrap(), long);
    }
}
