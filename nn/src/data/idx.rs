//! The IDX format, in which MNIST and its kin are published, plain or compressed by gzip.
//!
//! Two zero bytes, a byte for the dtype, a byte for the rank, the sizes as big-endian u32, the elements row-major and
//! big-endian (Y. LeCun, *The MNIST database of handwritten digits*). A file is believed only as far as its bytes go: memory
//! is taken as they come in, and what is missing or left over is a fault.

use flate2::read::MultiGzDecoder;
use isograd_core::{
    DType, Error, Result,
    format::{HostArray, not_of, npz},
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

const FORMAT: &str = "IDX";
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How far a compressed file may expand unless [`read_with_limit`] is told otherwise: 4 GiB. A megabyte can expand to a gigabyte.
pub const MAX_EXPANDED: u64 = npz::MAX_EXPANDED;
/// What is read of data that are too long.
const BLOCK: u64 = 1 << 16;

/// Reads an array from the bytes of a file.
///
/// ```
/// use isograd::nn::data::idx;
/// let array = idx::from_bytes(&[0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7])?;
/// assert_eq!(array.to_vec::<u8>()?, [5, 6, 7]);
/// assert!(idx::from_bytes(&[0, 0, 8, 1, 0, 0, 0, 9, 5, 6, 7]).is_err());
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] for a damaged or truncated file, for elements of 16 bits, which have no dtype here, and for a compressed file
/// that expands to more than [`MAX_EXPANDED`].
pub fn from_bytes(bytes: &[u8]) -> Result<HostArray> {
    read(bytes)
}

/// [`from_bytes`] over a reader, to its end.
///
/// # Errors
/// As [`from_bytes`].
pub fn read(reader: impl Read) -> Result<HostArray> {
    read_with_limit(reader, MAX_EXPANDED)
}

/// [`read`] of a file that, where it is compressed, may expand to `limit` bytes.
///
/// # Errors
/// As [`from_bytes`].
pub fn read_with_limit(mut reader: impl Read, limit: u64) -> Result<HostArray> {
    let mut start = Vec::new();
    reader.by_ref().take(2).read_to_end(&mut start).map_err(|e| broken(0, &e))?;
    let compressed = start == GZIP;
    let whole = io::Cursor::new(start).chain(reader);
    if compressed {
        Source { reader: MultiGzDecoder::new(whole), at: 0, limit }.array()
    } else {
        Source { reader: whole, at: 0, limit: u64::MAX }.array()
    }
}

/// [`from_bytes`] over a file.
///
/// # Errors
/// As [`from_bytes`], with the path; [`Error::Io`].
pub fn load(path: impl AsRef<Path>) -> Result<HostArray> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| Error::Io { action: "open", path: path.into(), source })?;
    read(BufReader::new(file)).map_err(|e| e.with_path(path))
}

fn broken(at: u64, error: &io::Error) -> Error {
    Error::file(FORMAT, at, format!("cannot read on: {error}"))
}

struct Source<R> {
    reader: R,
    /// Bytes read so far, after decompression.
    at: u64,
    /// The most that may be read.
    limit: u64,
}

impl<R: Read> Source<R> {
    /// Up to `n` bytes; memory grows with what is there, not with what is asked for.
    fn take(&mut self, n: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let found = self.reader.by_ref().take(n).read_to_end(&mut bytes).map_err(|e| broken(self.at, &e))?;
        self.at += found as u64;
        Ok(bytes)
    }

    fn exactly(&mut self, n: u64, what: &str) -> Result<Vec<u8>> {
        // Of more than is allowed, no more is read than shows whether it is there.
        let allowed = n <= self.limit.saturating_sub(self.at);
        let asked = if allowed { n } else { n.min(BLOCK) };
        let bytes = self.take(asked)?;
        if (bytes.len() as u64) < asked {
            return Err(Error::file(
                FORMAT,
                self.at,
                format!("it ends after {} of the {n} bytes of {what}", bytes.len()),
            ));
        }
        if !allowed {
            let why = format!(
                "compressed data may expand to {} bytes, and {what} take {n}; allow more on reading",
                self.limit
            );
            return Err(Error::file(FORMAT, self.at - asked, why));
        }
        Ok(bytes)
    }

    fn array(mut self) -> Result<HostArray> {
        let magic = self.exactly(4, "the magic number")?;
        if magic[..2] != [0, 0] {
            let start = [magic, self.take(60)?].concat();
            let why = format!("{}; one begins with two zero bytes", not_of(FORMAT, &start));
            return Err(Error::file(FORMAT, 0, why));
        }
        let dtype = match magic[2] {
            0x08 => DType::U8,
            0x09 => DType::I8,
            0x0c => DType::I32,
            0x0d => DType::F32,
            0x0e => DType::F64,
            0x0b => return Err(Error::file(FORMAT, 2, "its elements are 16-bit integers, which have no dtype here")),
            other => {
                return Err(Error::file(
                    FORMAT,
                    2,
                    format!("it says that its elements are of type {other:#04x}, which there is not"),
                ));
            }
        };
        let rank = usize::from(magic[3]);
        let sizes = self.exactly(4 * rank as u64, "the sizes")?;
        let shape: Vec<usize> =
            sizes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
        // Axes of size 0 count as 1 here: a shape whose other sizes overflow is refused as well.
        let bound = shape.iter().try_fold(dtype.size(), |n, &size| n.checked_mul(size.max(1)));
        let Some(bound) = bound.filter(|n| *n <= isize::MAX as usize) else {
            return Err(Error::file(FORMAT, 4, format!("no memory could hold the shape {shape:?} that it claims")));
        };
        let needed = if shape.contains(&0) { 0 } else { bound as u64 };
        let mut bytes = self.exactly(needed, "the elements")?;
        if !self.take(1)?.is_empty() {
            return Err(Error::file(
                FORMAT,
                self.at - 1,
                format!("bytes follow after the last element of shape {shape:?}"),
            ));
        }
        bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
        HostArray::new(dtype, shape, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn elements_are_big_endian() {
        let mut file = vec![0, 0, 0x0d, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        [1.5f32, -2.0].iter().for_each(|v| file.extend(v.to_be_bytes()));
        for bytes in [gzip(&file), file] {
            let array = from_bytes(&bytes).unwrap();
            assert_eq!((array.to_vec::<f32>().unwrap(), &array.shape), (vec![1.5, -2.0], &[1, 2].into()));
        }
    }

    #[test]
    fn lies_are_faults() {
        let cases: [(&[u8], &str); 8] = [
            (&[], "magic"),
            (&[0, 0, 8], "magic"),
            (&[1, 0, 8, 1, 0, 0, 0, 0], "two zero bytes"),
            (&[0, 0, 7, 1, 0, 0, 0, 0], "type 0x07"),
            (&[0, 0, 0x0b, 1, 0, 0, 0, 0], "16-bit"),
            (&[0, 0, 8, 2, 0, 0, 0, 1], "of the 8 bytes of the sizes"),
            (&[0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff, 1], "it ends after 1"),
            (&[0, 0, 8, 1, 0, 0, 0, 1, 1, 2], "bytes follow"),
        ];
        for (bytes, word) in cases {
            for bytes in [bytes.to_vec(), gzip(bytes)] {
                let error = from_bytes(&bytes).unwrap_err();
                assert!(matches!(error, Error::File { .. }) && error.to_string().contains(word), "{error}");
            }
        }
        let huge: Vec<u8> = [0, 0, 8, 3].into_iter().chain([0xff; 12]).collect();
        assert!(from_bytes(&huge).unwrap_err().to_string().contains("no memory"));
        let missing = load("no such file").unwrap_err();
        assert!(matches!(missing, Error::Io { .. }));
        let mut cut = gzip(&[0, 0, 8, 1, 0, 0, 0, 1, 1]);
        cut.truncate(cut.len() - 9);
        assert!(matches!(from_bytes(&cut).unwrap_err(), Error::File { .. }));
    }

    #[test]
    fn what_expands_too_far_is_refused() {
        let file = [&[0, 0, 8, 1, 0, 1, 0, 0][..], &[0; 1 << 16]].concat();
        let small = gzip(&file);
        assert!(small.len() < 1000);
        assert_eq!(read_with_limit(&small[..], file.len() as u64).unwrap().shape[..], [1 << 16]);
        let error = read_with_limit(&small[..], 1 << 16).unwrap_err();
        assert!(matches!(&error, Error::File { at: 8, .. }) && error.to_string().contains("65536 bytes"), "{error}");
        // What is not compressed is as large as its file.
        assert!(read_with_limit(&file[..], 9).is_ok());
        // Most of it is not even read.
        let huge = gzip(&[&[0, 0, 8, 2, 0, 1, 0, 0, 0, 1, 0, 1][..], &[0; 1 << 16]].concat());
        assert!(from_bytes(&huge).unwrap_err().to_string().contains("may expand to 4294967296 bytes"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_array_or_a_fault(mut bytes in prop::collection::vec(any::<u8>(), 0..64), header: bool, compress: bool) {
            if header && bytes.len() > 7 {
                bytes[..2].copy_from_slice(&[0, 0]);
                bytes[2] = [8, 9, 0x0c, 0x0d, 0x0e][bytes[2] as usize % 5];
                bytes[3] %= 3;
                bytes[4..7].fill(0);
            }
            let bytes = if compress { gzip(&bytes) } else { bytes };
            match from_bytes(&bytes) {
                Ok(array) => array.check().unwrap(),
                Err(e) => prop_assert!(matches!(e, Error::File { .. }), "{e}"),
            }
        }

        #[test]
        fn what_is_written_comes_back(values in prop::collection::vec(any::<i32>(), 0..40)) {
            let mut file = vec![0, 0, 0x0c, 1];
            file.extend((values.len() as u32).to_be_bytes());
            values.iter().for_each(|v| file.extend(v.to_be_bytes()));
            prop_assert_eq!(from_bytes(&file).unwrap().to_vec::<i32>().unwrap(), values);
        }
    }
}
