//! What the formats share: [`Source`], a reader that distrusts its file, and [`write_atomically`].

use super::{
    HostArray, bad_bool, byte_size,
    recognize::{START, not_of},
};
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
    /// How far compressed data may expand.
    limit: Option<u64>,
    /// Passes over bytes without reading them, where the reader can.
    seek: Option<fn(&mut R, i64) -> io::Result<()>>,
}

impl<'a> Source<'a, &'a [u8]> {
    pub fn bytes(format: &'static str, bytes: &'a [u8]) -> Self {
        Source { reader: bytes, format, path: None, at: 0, left: Some(bytes.len() as u64), limit: None, seek: None }
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
        let seek = left.map(|_| seek);
        Ok(Source { reader: BufReader::new(file), format, path: Some(path), at: 0, left, limit: None, seek })
    }
}

impl<'a, R: Read> Source<'a, R> {
    pub fn new(format: &'static str, reader: R) -> Self {
        Source { reader, format, path: None, at: 0, left: None, limit: None, seek: None }
    }

    /// A reader of compressed data, of which no more than `limit` bytes are accepted.
    pub fn compressed(format: &'static str, reader: R, limit: u64) -> Self {
        Source { limit: Some(limit), ..Source::new(format, reader) }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// An error at offset `at`.
    pub fn fail(&self, at: u64, why: impl Into<String>) -> Error {
        Error::File { format: self.format, path: self.path.map(PathBuf::from), at, why: why.into() }
    }

    /// The bytes that tell the format.
    pub fn magic<const N: usize>(&mut self) -> Result<[u8; N]> {
        if self.left == Some(0) {
            return Err(self.other(&[]));
        }
        self.array("the magic")
    }

    /// The error of a file of another format, of which `start` has been read.
    pub fn other(&mut self, start: &[u8]) -> Error {
        let mut start = start.to_vec();
        // What cannot be read says nothing.
        let _ = (&mut self.reader).take(START as u64).read_to_end(&mut start);
        self.fail(0, not_of(self.format, &start))
    }

    fn failed_read(&self, source: io::Error) -> Error {
        match self.path {
            Some(path) => Error::Io { action: "read", path: path.into(), source },
            None => self.fail(self.at, format!("cannot read on: {source}")),
        }
    }

    /// Refuses a claim of `n` more bytes of `what` that cannot be met.
    pub fn expect(&self, n: u64, what: &str) -> Result<()> {
        if let Some(limit) = self.limit
            && n > limit.saturating_sub(self.at)
        {
            let why = format!(
                "compressed data may expand to {limit} bytes here, and {what} takes {n}; allow more on reading"
            );
            return Err(self.fail(self.at, why));
        }
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

/// Puts what `write` writes at `path`: into a file beside it first, which is forced to disk and then takes its place. Whatever
/// fails on the way leaves the old file as it was. A link is followed, so that it stays one, and a file that may not be written is
/// refused, as if it were written in place; owner and permissions of a file that is replaced are kept.
pub(super) fn write_atomically<W>(path: &Path, write: W) -> Result<()>
where
    W: FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
{
    let failed = |action| move |source| Error::Io { action, path: path.into(), source };
    let target = follow(path).map_err(failed("follow the links of"))?;
    let old = fs::metadata(&target).ok();
    if let Some(old) = &old {
        let refuse = |kind, why: &str| Err(failed("replace")(io::Error::new(kind, why)));
        if !old.is_file() {
            // A rename would put a file in the place of a device or a pipe.
            return refuse(io::ErrorKind::InvalidInput, "it exists and is not a regular file");
        }
        if old.permissions().readonly() {
            return refuse(io::ErrorKind::PermissionDenied, "it is read-only");
        }
        // What else forbids writing, the system knows.
        File::options().write(true).open(&target).map_err(failed("replace"))?;
    }
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));

    let mut draft = Draft::new(folder, old.as_ref()).map_err(failed("create a temporary file beside"))?;
    if let Some(old) = &old {
        // Before there is anything to read in it.
        keep_permissions(draft.file(), old).map_err(failed("set the permissions of"))?;
    }
    let mut buffered = BufWriter::with_capacity(1 << 18, draft.file());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(failed("write"))?;
    drop(buffered);
    draft.file().sync_all().map_err(failed("force to disk"))?;
    draft.put_at(&target).map_err(failed("replace"))?;
    // The new name is durable once the folder is. Not every system can do it, and the file is whole in any case.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Where the links at `path` lead in the end, be there a file or not.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_path_buf();
    // As many as Linux follows.
    for _ in 0..40 {
        if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink()) {
            return Ok(at);
        }
        let to = fs::read_link(&at)?;
        at = at.parent().unwrap_or(Path::new("")).join(to);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "the links lead in a circle"))
}

/// Gives `file` the permissions of `old`, and where it may its owner and group. Where it may not give the group, they are the new
/// owner's alone: a group of the same rights would be another one.
fn keep_permissions(file: &File, old: &fs::Metadata) -> io::Result<()> {
    let permissions = old.permissions();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let new = file.metadata()?;
        let differs = (new.uid(), new.gid()) != (old.uid(), old.gid());
        if differs
            && fchown(file, Some(old.uid()), Some(old.gid())).is_err()
            && new.gid() != old.gid()
            && fchown(file, None, Some(old.gid())).is_err()
        {
            return file.set_permissions(fs::Permissions::from_mode(permissions.mode() & 0o700));
        }
    }
    file.set_permissions(permissions)
}

/// A file that is being written, and is not yet at its place.
enum Draft {
    /// It has no name, so that nothing is left of it when the process is killed.
    #[cfg(target_os = "linux")]
    Nameless(File),
    /// For systems that do not have such files.
    Named(tempfile::NamedTempFile),
}

impl Draft {
    /// A draft in `folder` that nobody may read who may not read `old`.
    fn new(folder: &Path, old: Option<&fs::Metadata>) -> io::Result<Draft> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{Mode, OFlags, open};
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            // Of a file that is replaced, permissions follow.
            let mode = Mode::from_raw_mode(if old.is_some() { 0o600 } else { 0o666 });
            if Path::new(OPEN_FILES).is_dir()
                && let Ok(file) = open(folder, flags, mode)
            {
                return Ok(Draft::Nameless(file.into()));
            }
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        // The default of 0600 suits a secret, not a file that others may read as far as the umask allows.
        #[cfg(unix)]
        if old.is_none() {
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        }
        builder.tempfile_in(folder).map(Draft::Named)
    }

    fn file(&mut self) -> &mut File {
        match self {
            #[cfg(target_os = "linux")]
            Draft::Nameless(file) => file,
            Draft::Named(file) => file.as_file_mut(),
        }
    }

    /// Gives it the name `target`, in the place of what has that name.
    fn put_at(self, target: &Path) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Draft::Nameless(file) => name(&file, target),
            Draft::Named(file) => file.persist(target).map(drop).map_err(|e| e.error),
        }
    }
}

const PREFIX: &str = ".isograd-";
/// Where Linux shows a process its open files.
#[cfg(target_os = "linux")]
const OPEN_FILES: &str = "/proc/self/fd";

/// The name that a file has for a moment before it replaces `target`.
#[cfg(target_os = "linux")]
pub(super) fn beside(target: &Path) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    target.file_name().hash(&mut hasher);
    target.with_file_name(format!("{PREFIX}{:016x}", hasher.finish()))
}

#[cfg(target_os = "linux")]
fn name(file: &File, target: &Path) -> io::Result<()> {
    use rustix::{
        fs::{AtFlags, CWD, linkat},
        io::Errno,
    };
    use std::os::fd::AsRawFd;
    let itself = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    let link = |to: &Path| linkat(CWD, &itself, CWD, to, AtFlags::SYMLINK_FOLLOW);
    match link(target) {
        Err(Errno::EXIST) => {}
        done => return Ok(done?),
    }
    // Only a rename replaces, and it takes a name. One and the same for this target: what a process leaves that is killed between
    // the two calls is found by the next one. A lock says that it was not killed.
    let beside = beside(target);
    file.lock()?;
    for _ in 0..10_000 {
        match link(&beside) {
            Err(Errno::EXIST) => remove_left_over(&beside)?,
            linked => {
                linked?;
                return fs::rename(&beside, target);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("another process holds {}", beside.display())))
}

/// Removes a file that a killed process left; gives way for a moment to one that lives.
#[cfg(target_os = "linux")]
fn remove_left_over(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let gone = |e: io::Error| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) };
    let found = match File::open(path) {
        Ok(found) => found,
        Err(e) => return gone(e),
    };
    match found.try_lock() {
        // Nobody removes what another one has locked, so if it still has the name, it keeps it.
        Ok(()) => match fs::symlink_metadata(path) {
            Ok(now) if now.ino() == found.metadata()?.ino() => fs::remove_file(path),
            Ok(_) => Ok(()),
            Err(e) => gone(e),
        },
        Err(fs::TryLockError::WouldBlock) => {
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        }
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}
