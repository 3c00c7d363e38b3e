//! Compiled programs on disk: one file each, named by the hash of what it was compiled from.
//!
//! A file is written under another name and renamed, so that readers, in this process or others, see all of it or nothing.
//! It begins with the hash of the rest; one that does not match is removed, and the program is built again. A cache that
//! cannot be read or written costs time, not correctness, so nothing here is an error.

use etcetera::BaseStrategy;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// What a program was compiled from: source, options, device, driver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key(blake3::Hash);

impl Key {
    pub fn new(parts: &[&str]) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Key(hasher.finalize())
    }
}

/// A folder of compiled programs, or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Cache(Option<PathBuf>);

/// Bytes of the hash that a file begins with.
const HEAD: usize = blake3::OUT_LEN;

impl Cache {
    /// The folder that `ISOGRAD_CACHE_DIR` names (none if it is empty), else `isograd` in the user's cache folder, or none
    /// where the driver keeps what it compiled itself: then asking it for binaries costs more than they save.
    pub fn of_user(kept_by_driver: bool) -> Cache {
        let folder = match std::env::var_os("ISOGRAD_CACHE_DIR") {
            Some(folder) if folder.is_empty() => None,
            Some(folder) => Some(PathBuf::from(folder)),
            None if kept_by_driver => None,
            None => etcetera::choose_base_strategy().ok().map(|base| base.cache_dir().join("isograd")),
        };
        Cache(folder.map(|f| f.join("opencl")))
    }

    /// The cache in `folder`.
    pub fn at(folder: &Path) -> Cache {
        Cache(Some(folder.to_path_buf()))
    }

    /// Whether there is a folder.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn file(&self, key: &Key) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(key.0.to_hex().as_str()))
    }

    /// The program for `key`, if it is there and whole.
    pub fn load(&self, key: &Key) -> Option<Vec<u8>> {
        let file = self.file(key)?;
        let mut bytes = fs::read(&file).ok()?;
        if bytes.len() > HEAD && blake3::hash(&bytes[HEAD..]).as_bytes()[..] == bytes[..HEAD] {
            return Some(bytes.split_off(HEAD));
        }
        let _ = fs::remove_file(&file);
        None
    }

    /// Keeps `program` for `key`.
    pub fn store(&self, key: &Key, program: &[u8]) {
        let Some(file) = self.file(key) else { return };
        let write = || {
            let folder = file.parent()?;
            fs::create_dir_all(folder).ok()?;
            let mut temporary = tempfile::NamedTempFile::new_in(folder).ok()?;
            temporary.write_all(blake3::hash(program).as_bytes()).ok()?;
            temporary.write_all(program).ok()?;
            temporary.persist(&file).ok()
        };
        let _: Option<fs::File> = write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let (key, other) = (Key::new(&["a", "bc"]), Key::new(&["ab", "c"]));
        assert_ne!(key, other);
        assert_eq!(cache.load(&key), None);
        cache.store(&key, b"program");
        assert_eq!(cache.load(&key).as_deref(), Some(&b"program"[..]));
        assert_eq!(cache.load(&other), None);
        let file = cache.file(&key).unwrap();
        for damage in [&b""[..], b"short", &[0; 40]] {
            fs::write(&file, damage).unwrap();
            assert_eq!(cache.load(&key), None);
            assert!(!file.exists());
        }
        cache.store(&key, b"again");
        assert_eq!(cache.load(&key).as_deref(), Some(&b"again"[..]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = Cache::at(&file.path().join("below a file"));
        let key = Key::new(&["x"]);
        cache.store(&key, b"program");
        assert_eq!(cache.load(&key), None);
        assert_eq!(Cache(None).load(&key), None);
    }
}
