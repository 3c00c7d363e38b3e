//! What the formats share: [`Source`], a reader that distrusts its file, and [`write_atomically`].

use super::{HostArray, bad_bool, byte_size};
use crate::{DType, Error, Result, Shape};
use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// Memory taken at once where it is not known how much the reader still has.
const BLOCK: u64 = 1 << 16;

/// A reader that knows where it is and, when it can, how much is left, so that no claim of a file is believed.
pub(super) struct Source<'a, R> {
    reader: R,
    format: &'static str,
    path: Option<&'a Path>,
    at: u64,
    left: Option<u64>,
    /// Passes over bytes without reading them, where the reader can.
    seek: Option<fn(&mut R, i64) -> io::Result<()>>,
}

impl<'a> Source<'a, &'a [u8]> {
    pub fn bytes(format: &'static str, bytes: &'a [u8]) -> Self {
        Source { reader: bytes, format, path: None, at: 0, left: Some(bytes.len() as u64), seek: None }
    }
}

impl<'a> Source<'a, BufReader<File>> {
    pub fn open(format: &'static str, path: &'a Path) -> Result<Self> {
        let failed = |source| Error::Io { action: "open", path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        // A pipe, and some of what the system shows as files, claim to be empty.
        let left = Some(found.len()).filter(|n| found.is_file() && *n > 0);
        let seek: fn(&mut BufReader<File>, i64) -> io::Result<()> = |reader, n| reader.seek_relative(n);
        Ok(Source { reader: BufReader::new(file), format, path: Some(path), at: 0, left, seek: left.map(|_| seek) })
    }
}

impl<'a, R: Read> Source<'a, R> {
    pub fn new(format: &'static str, reader: R) -> Self {
        Source { reader, format, path: None, at: 0, left: None, seek: None }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// An error at offset `at`.
    pub fn fail(&self, at: u64, why: impl Into<String>) -> Error {
        Error::File { format: self.format, path: self.path.map(PathBuf::from), at, why: why.into() }
    }

    fn failed_read(&self, source: io::Error) -> Error {
        match self.path {
            Some(path) => Error::Io { action: "read", path: path.into(), source },
            None => self.fail(self.at, format!("cannot read on: {source}")),
        }
    }

    /// Refuses a claim of `n` more bytes of `what` that cannot be met.
    pub fn expect(&self, n: u64, what: &str) -> Result<()> {
        match self.left {
            Some(left) if left < n => {
                Err(self.fail(self.at, format!("truncated: {what} takes {n} bytes, {left} are left")))
            }
            _ => Ok(()),
        }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: u64, what: &str) -> Result<Vec<u8>> {
        self.expect(n, what)?;
        // Where it is unknown what is left, memory grows with what has come.
        let first = if self.left.is_some() { n } else { n.min(BLOCK) };
        let mut bytes = Vec::new();
        if usize::try_from(first).ok().and_then(|n| bytes.try_reserve_exact(n).ok()).is_none() {
            return Err(self.fail(self.at, format!("no memory for the {n} bytes of {what}")));
        }
        let read = (&mut self.reader).take(n).read_to_end(&mut bytes);
        read.map_err(|e| self.failed_read(e))?;
        if (bytes.len() as u64) < n {
            return Err(self.fail(self.at, format!("truncated: {what} takes {n} bytes, {} are left", bytes.len())));
        }
        self.at += n;
        self.left = self.left.map(|left| left - n);
        Ok(bytes)
    }

    /// Passes over the next `n` bytes.
    pub fn skip(&mut self, n: u64, what: &str) -> Result<()> {
        self.expect(n, what)?;
        let passed = match (self.seek, i64::try_from(n)) {
            (Some(seek), Ok(by)) => seek(&mut self.reader, by).map(|()| n),
            _ => io::copy(&mut (&mut self.reader).take(n), &mut io::sink()),
        };
        let passed = passed.map_err(|e| self.failed_read(e))?;
        if passed < n {
            return Err(self.fail(self.at, format!("truncated: {what} takes {n} bytes, {passed} are left")));
        }
        self.at += n;
        self.left = self.left.map(|left| left - n);
        Ok(())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.take(N as u64, what)?);
        Ok(bytes)
    }

    /// A little-endian u32.
    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A little-endian i32.
    pub fn i32(&mut self, what: &str) -> Result<i32> {
        self.array(what).map(i32::from_le_bytes)
    }

    /// A little-endian u64.
    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The elements of an array, as they lie in the file, once `shape`, found at `shape_at`, has proved possible.
    pub fn elements(&mut self, dtype: DType, shape: Shape, shape_at: u64) -> Result<HostArray> {
        let Some(n) = byte_size(dtype, &shape) else {
            return Err(self.fail(shape_at, format!("no memory can hold {dtype} of shape {shape:?}")));
        };
        let start = self.at;
        let bytes = self.take(n as u64, &format!("the {dtype} data of shape {shape:?}"))?;
        match bad_bool(dtype, &bytes) {
            Some(i) => {
                Err(self.fail(start + i as u64, format!("the byte {} is no bool: it is neither 0 nor 1", bytes[i])))
            }
            None => Ok(HostArray { dtype, shape, bytes }),
        }
    }

    /// Refuses anything that follows.
    pub fn end(&mut self) -> Result<()> {
        let mut byte = Vec::new();
        let read = (&mut self.reader).take(1).read_to_end(&mut byte);
        match read.map_err(|e| self.failed_read(e))? {
            0 => Ok(()),
            _ => Err(self.fail(self.at, "the file should end here, but more bytes follow")),
        }
    }
}

/// Puts what `write` writes at `path`: into a temporary file in the same folder first, which is forced to disk and then
/// renamed. Whatever fails on the way leaves the old file as it was. A link is followed, so that it stays one; the
/// permissions of a file that is replaced are kept.
pub(super) fn write_atomically<W>(path: &Path, write: W) -> Result<()>
where
    W: FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
{
    let failed = |action| move |source| Error::Io { action, path: path.into(), source };
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let old = fs::metadata(&target).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        // A rename would put a file in the place of a device or a pipe.
        let refused = io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file");
        return Err(failed("replace")(refused));
    }
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));

    let mut builder = tempfile::Builder::new();
    builder.prefix(".isograd-");
    // The default of 0600 suits a secret, not a file that others may read as far as the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(failed("create a temporary file beside"))?;

    let mut buffered = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(failed("write"))?;
    drop(buffered);
    if let Some(old) = old {
        file.as_file().set_permissions(old.permissions()).map_err(failed("set the permissions of"))?;
    }
    file.as_file().sync_all().map_err(failed("force to disk"))?;
    file.persist(&target).map_err(|e| failed("replace")(e.error))?;
    // The rename itself is durable once the folder is. Not every system can do it, and the file is whole in any case.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}
