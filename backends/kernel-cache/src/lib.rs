//! Compiled kernels on disk, for backends that compile at run time.
//!
//! A file is named by its [`Key`], a hash of all that decides its content: source, options, device, compiler. It begins with
//! that key and the hash of its content, so what was damaged, or put under another's name, is seen. It is machine code that
//! will be run: it must belong to the user who runs the program, and nobody else may be allowed to write it.
//!
//! Files are written under another name and renamed, so that readers, in this process or others, see all of one or nothing. A
//! cache that cannot be read or written costs time, not correctness, so nothing here is an error.
//!
//! ```
//! use isograd_kernel_cache::{Cache, Key};
//! let folder = tempfile::tempdir()?;
//! let cache = Cache::at(folder.path());
//! let key = Key::new(&["kernel void f() {}", "-O2", "device 3 by vendor 7", "driver 1.2"]);
//! assert_eq!(cache.load(&key), None);
//! cache.store(&key, b"machine code");
//! assert_eq!(cache.load(&key).as_deref(), Some(&b"machine code"[..]));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::{
    env,
    ffi::OsString,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

/// The environment variable that names the folder.
pub const VARIABLE: &str = "ISOGRAD_CACHE_DIR";

/// What a file begins with; the number is the format's.
const MAGIC: &[u8; 16] = b"isograd kernel 1";

/// Bytes before the content: what all files begin with, the key, and the content's hash.
const HEAD: usize = MAGIC.len() + 2 * blake3::OUT_LEN;

/// All that decides what a kernel is compiled to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key(blake3::Hash);

impl Key {
    /// The key of a source, options, a device, a compiler, each a part. The version of this crate is one too.
    ///
    /// ```
    /// use isograd_kernel_cache::Key;
    /// assert_ne!(Key::new(&["a", "bc"]), Key::new(&["ab", "c"]));
    /// ```
    pub fn new(parts: &[&str]) -> Key {
        let mut hasher = blake3::Hasher::new();
        for part in [env!("CARGO_PKG_VERSION")].iter().chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Key(hasher.finalize())
    }

    /// What a file of this key and `content` begins with.
    fn head(&self, content: &[u8]) -> [u8; HEAD] {
        let parts = [&MAGIC[..], self.0.as_bytes(), blake3::hash(content).as_bytes()].concat();
        parts.try_into().expect("the parts of a head are as long as one")
    }
}

/// A folder of compiled kernels, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache(Option<PathBuf>);

impl Cache {
    /// No cache: nothing is kept.
    pub const NONE: Cache = Cache(None);

    /// The user's, for one backend: in the folder that [`VARIABLE`] names (none if it is empty), else in `isograd` in the
    /// user's cache folder. Where drivers keep what they compiled, `by_default` can be false: then there is a cache only
    /// where the variable asks for one.
    pub fn of_user(backend: &str, by_default: bool) -> Cache {
        Cache(folder(|name| env::var_os(name), by_default).map(|folder| folder.join(backend)))
    }

    /// The cache in `folder`, which is made when something is stored.
    pub fn at(folder: impl AsRef<Path>) -> Cache {
        Cache(Some(folder.as_ref().to_path_buf()))
    }

    /// Whether there is a folder.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn file(&self, key: &Key) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(key.0.to_hex().as_str()))
    }

    /// What was stored for `key`, if it is there, whole, and nobody else's.
    pub fn load(&self, key: &Key) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        own(&self.file(key)?)?.read_to_end(&mut bytes).ok()?;
        let (head, content) = bytes.split_at_checked(HEAD)?;
        (!content.is_empty() && *head == key.head(content)).then(|| bytes.split_off(HEAD))
    }

    /// Keeps `content` for `key`, in place of what there was.
    pub fn store(&self, key: &Key, content: &[u8]) {
        let Some(file) = self.file(key) else { return };
        let write = || {
            let folder = file.parent()?;
            make(folder).ok()?;
            let mut temporary = tempfile::NamedTempFile::new_in(folder).ok()?;
            temporary.write_all(&key.head(content)).ok()?;
            temporary.write_all(content).ok()?;
            temporary.persist(&file).ok()
        };
        let _: Option<fs::File> = write();
    }
}

/// The folder for all backends, by the environment.
fn folder(variable: impl Fn(&str) -> Option<OsString>, by_default: bool) -> Option<PathBuf> {
    if let Some(folder) = variable(VARIABLE) {
        return Some(PathBuf::from(folder)).filter(|f| !f.as_os_str().is_empty());
    }
    // What is empty or relative would be a folder within the current one.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|f| f.is_absolute());
    let of_user = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
    };
    of_user.filter(|_| by_default).map(|f| f.join("isograd"))
}

/// The file, if it is one that this user alone can have written.
#[cfg(unix)]
fn own(path: &Path) -> Option<fs::File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    // A pipe is not waited for, a link not followed.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags as i32).open(path).ok()?;
    let facts = file.metadata().ok()?;
    let own = facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o022 == 0;
    (facts.is_file() && own).then_some(file)
}

/// The file. Windows keeps what is in the user's folder from others.
#[cfg(not(unix))]
fn own(path: &Path) -> Option<fs::File> {
    fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|facts| facts.is_file()))
}

/// Makes a folder for the user alone.
fn make(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with a kernel, and the kernel's file.
    fn kept(folder: &Path) -> (Cache, Key, PathBuf) {
        let (cache, key) = (Cache::at(folder), Key::new(&["source", "options"]));
        cache.store(&key, b"program");
        assert_eq!(cache.load(&key).as_deref(), Some(&b"program"[..]));
        let file = cache.file(&key).unwrap();
        (cache, key, file)
    }

    /// Nothing is loaded, until it is stored again.
    #[track_caller]
    fn is_replaced(cache: &Cache, key: &Key) {
        assert_eq!(cache.load(key), None);
        cache.store(key, b"again");
        assert_eq!(cache.load(key).as_deref(), Some(&b"again"[..]));
    }

    #[test]
    fn damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, key, file) = kept(folder.path());
        let whole = fs::read(&file).unwrap();
        let flipped = (0..whole.len()).map(|i| {
            let mut bytes = whole.clone();
            bytes[i] ^= 1;
            bytes
        });
        let cut = (0..whole.len()).map(|n| whole[..n].to_vec());
        for bytes in flipped.chain(cut).chain([vec![0; 200], [&whole[..], b"!"].concat()]) {
            // Written in place, so that it stays this user's alone.
            fs::write(&file, bytes).unwrap();
            is_replaced(&cache, &key);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_under_the_name_of_another_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, _, file) = kept(folder.path());
        let other = Key::new(&["another source", "options"]);
        fs::rename(file, cache.file(&other).unwrap()).unwrap();
        is_replaced(&cache, &other);
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_have_written_is_passed_over() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (cache, key, file) = kept(folder.path());
        for mode in [0o620, 0o602, 0o666, 0o777] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            is_replaced(&cache, &key);
        }
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        is_replaced(&cache, &key);
        // Who runs as root can make files of others.
        if std::os::unix::fs::chown(&file, Some(1234), None).is_ok() {
            is_replaced(&cache, &key);
        }
        fs::remove_file(&file).unwrap();
        let pipe = rustix::fs::mknodat(
            rustix::fs::CWD,
            &file,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        );
        if pipe.is_ok() {
            is_replaced(&cache, &key);
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(cache.load(&key), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_made_is_for_the_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (_, _, file) = kept(&folder.path().join("new").join("newer"));
        for path in [&file, file.parent().unwrap(), file.parent().unwrap().parent().unwrap()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{path:?}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let key = Key::new(&["x"]);
        for cache in [Cache::at(file.path().join("below a file")), Cache::NONE] {
            cache.store(&key, b"program");
            assert_eq!(cache.load(&key), None);
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_follows_from_the_environment() {
        let of = |variables: &[(&str, &str)], by_default| {
            let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            folder(find, by_default).map(|f| f.to_str().unwrap().to_string())
        };
        let home = ("HOME", "/home/x");
        for empty in ["", "relative", "."] {
            let variables = [("XDG_CACHE_HOME", empty), home];
            assert_eq!(of(&variables, true).as_deref(), Some("/home/x/.cache/isograd"));
            assert_eq!(of(&[("XDG_CACHE_HOME", empty), ("HOME", empty)], true), None);
        }
        assert_eq!(of(&[], true), None);
        assert_eq!(of(&[home], true).as_deref(), Some("/home/x/.cache/isograd"));
        assert_eq!(of(&[home], false), None);
        let xdg = ("XDG_CACHE_HOME", "/caches");
        assert_eq!(of(&[home, xdg], true).as_deref(), Some("/caches/isograd"));
        for by_default in [true, false] {
            assert_eq!(of(&[home, xdg, (VARIABLE, "")], by_default), None);
            assert_eq!(of(&[home, xdg, (VARIABLE, "/given")], by_default).as_deref(), Some("/given"));
        }
    }
}
