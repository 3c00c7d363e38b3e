//! Compiled kernels on disk, so that a program compiles each once in its life.
//!
//! A file's name is a hash of all that decides its content (source, architecture, compiler); its head repeats the
//! hash and the length and has a checksum, so that a damaged file is seen, and made anew. Files appear whole: they
//! are written under another name and renamed. A directory that cannot be written costs time, not results.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

const MAGIC: &[u8; 8] = b"isogradK";
const HEAD: usize = 40;

/// A directory of compiled kernels.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: Option<PathBuf>,
}

impl Cache {
    /// The user's: `ISOGRAD_CACHE` (empty: none), else the system's place for such files.
    pub fn of_user() -> Cache {
        let variable = |name: &str| env::var_os(name).map(PathBuf::from);
        let directory = match variable("ISOGRAD_CACHE") {
            Some(given) => Some(given).filter(|d| !d.as_os_str().is_empty()),
            None => variable("XDG_CACHE_HOME")
                .or_else(|| variable("HOME").map(|home| home.join(".cache")))
                .or_else(|| variable("LOCALAPPDATA"))
                .map(|d| d.join("isograd")),
        };
        Cache { directory: directory.map(|d| d.join("cuda")) }
    }

    /// One in `directory`.
    pub fn at(directory: impl Into<PathBuf>) -> Cache {
        Cache { directory: Some(directory.into()) }
    }

    /// What is kept for `parts`, or what `make` gives, kept from now on.
    pub fn get<E>(&self, parts: &[&str], make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        let Some(directory) = &self.directory else { return make() };
        let key = key(parts);
        let path = directory.join(format!("{:016x}{:016x}.bin", key[0], key[1]));
        if let Some(content) = fs::read(&path).ok().and_then(|bytes| checked(key, bytes)) {
            return Ok(content);
        }
        let content = make()?;
        // A cache that cannot be written is none.
        let _ = write(directory, &path, key, &content);
        Ok(content)
    }

    /// Removes what is kept for `parts`: the device refused it.
    pub fn forget(&self, parts: &[&str]) {
        if let Some(directory) = &self.directory {
            let key = key(parts);
            let _ = fs::remove_file(directory.join(format!("{:016x}{:016x}.bin", key[0], key[1])));
        }
    }
}

fn write(directory: &Path, path: &Path, key: [u64; 2], content: &[u8]) -> std::io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(directory)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = directory.join(format!(".{}-{number}.tmp", process::id()));
    let mut bytes = Vec::with_capacity(HEAD + content.len());
    bytes.extend_from_slice(MAGIC);
    let words = [key[0], key[1], content.len() as u64, hash(content, 0)];
    words.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
    bytes.extend_from_slice(content);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn checked(key: [u64; 2], mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let word = |i: usize| Some(u64::from_le_bytes(bytes.get(8 + 8 * i..16 + 8 * i)?.try_into().ok()?));
    let head = (bytes.get(..8)? == MAGIC).then_some([word(0)?, word(1)?, word(2)?, word(3)?])?;
    let content = &bytes[HEAD..];
    if head != [key[0], key[1], content.len() as u64, hash(content, 0)] {
        return None;
    }
    bytes.drain(..HEAD);
    Some(bytes)
}

/// Two independent hashes of the parts and their lengths.
fn key(parts: &[&str]) -> [u64; 2] {
    [1, 2].map(|seed| parts.iter().fold(seed, |h, part| hash(part.as_bytes(), h ^ part.len() as u64)))
}

/// FNV-1a (Fowler, Noll, Vo), then the finalizer of MurmurHash3, which spreads every bit: names and checksums are of
/// this machine's own files, so nobody has to be kept from making equal ones.
pub(crate) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut h = bytes.iter().fold(start, |h, b| (h ^ *b as u64).wrapping_mul(0x0000_0100_0000_01b3));
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(cache: &Cache, parts: &[&str], content: &str) -> (Vec<u8>, bool) {
        let mut called = false;
        let got = cache.get::<()>(parts, || {
            called = true;
            Ok(content.as_bytes().to_vec())
        });
        (got.unwrap(), called)
    }

    #[test]
    fn what_is_kept_is_made_once_and_what_is_damaged_anew() {
        let directory = crate::temporary_directory("cache");
        let cache = Cache::at(&directory);
        let parts = ["source", "sm_90"];
        assert_eq!(made(&cache, &parts, "first"), (b"first".to_vec(), true));
        assert_eq!(made(&cache, &parts, "second"), (b"first".to_vec(), false));
        // The same characters, parted otherwise, are something else.
        assert!(made(&cache, &["sources", "m_90"], "other").1);
        let file = directory.join(format!("{:016x}{:016x}.bin", key(&parts)[0], key(&parts)[1]));
        let whole = fs::read(&file).unwrap();
        type Damage = fn(&mut Vec<u8>);
        let damage: [Damage; 5] = [
            |b| b.truncate(HEAD + 2),
            |b| b.truncate(5),
            |b| *b.last_mut().unwrap() ^= 1,
            |b| b[0] ^= 1,
            |b| b[9] ^= 1,
        ];
        for (n, damage) in damage.iter().enumerate() {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&file, bytes).unwrap();
            let content = format!("again {n}");
            assert_eq!(made(&cache, &parts, &content), (content.clone().into_bytes(), true));
            assert_eq!(made(&cache, &parts, "never"), (content.into_bytes(), false));
        }
        cache.forget(&parts);
        assert!(made(&cache, &parts, "after").1);
        let left = fs::read_dir(&directory).unwrap().flatten().filter(|e| e.path().extension() != Some("bin".as_ref()));
        assert_eq!(left.count(), 0, "temporary files are left");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_no_error() {
        let directory = crate::temporary_directory("no-cache");
        let file = directory.join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache::at(file.join("below"));
        assert!(made(&cache, &["x"], "1").1);
        assert!(made(&cache, &["x"], "2").1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_fails_is_not_kept() {
        let directory = crate::temporary_directory("failing-cache");
        let cache = Cache::at(&directory);
        assert_eq!(cache.get(&["x"], || Err("no")), Err("no"));
        assert!(made(&cache, &["x"], "1").1);
        fs::remove_dir_all(directory).unwrap();
    }
}
