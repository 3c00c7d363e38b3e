//! Every format against files of the programs it comes from, round trips, and fuzzing.
//!
//! A new format adds its reader and writer to `each_reader` and `valid_files`.

use super::{
    HostArray,
    mxnet::{self, NdFile, Saved},
    npy,
    npz::{self, Compression},
    safetensors,
};
use crate::{DType, Error, Result, Shape};
use proptest::{collection::vec, prelude::*};
use std::{
    fs,
    io::{Cursor, Read, Write},
    path::PathBuf,
};

/// Asserts that `result` is a fault at offset `at`, explained with `why`.
#[track_caller]
pub(super) fn assert_fault<T: std::fmt::Debug>(result: Result<T>, at: u64, why: &str) {
    match result {
        Err(Error::File { at: found, why: text, path: None, .. }) => {
            assert!(text.contains(why), "{text:?} does not say {why:?}");
            assert_eq!(found, at, "{text}");
        }
        other => panic!("no fault of the file, but {other:?}"),
    }
}

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn golden_bytes(name: &str) -> Vec<u8> {
    fs::read(golden(name)).unwrap()
}

// Golden files.

#[test]
fn mxnet_files_are_written_again_byte_for_byte() {
    let mut count = 0;
    for folder in ["mxnet/ndarray", "mxnet/params"] {
        for entry in fs::read_dir(golden(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "nd" || e == "params") {
                let bytes = fs::read(&path).unwrap();
                assert_eq!(mxnet::to_bytes(&mxnet::load(&path).unwrap()).unwrap(), bytes, "{path:?}");
                count += 1;
            }
        }
    }
    assert_eq!(count, 14);
}

#[test]
fn mxnet_values_are_those_expected() {
    for (file, expected, np_shape) in
        [("dict.nd", "expected.npz", false), ("npshape_rank0_dict.nd", "npshape_expected.npz", true)]
    {
        let expected = npz::load(golden("mxnet/ndarray").join(expected)).unwrap();
        let read = mxnet::load(golden("mxnet/ndarray").join(file)).unwrap();
        assert_eq!(read.np_shape, np_shape);
        let read = read.into_dict().unwrap();
        assert_eq!(read.len(), expected.len());
        for (name, array) in &read {
            let right = &expected.iter().find(|(n, _)| n == name).unwrap().1;
            assert_eq!(array, right, "{file}: {name}");
        }
        if np_shape {
            // The list of this flavour has the rank 0 arrays alone, or in part; each must be one of the dictionary.
            let list = mxnet::load(golden("mxnet/ndarray/npshape_rank0_list.nd")).unwrap();
            let Saved::List(list) = list.saved else { panic!("a list") };
            for array in list {
                assert!(read.iter().any(|(_, a)| Some(a) == array.as_ref()));
            }
        } else {
            let Saved::List(list) = mxnet::load(golden("mxnet/ndarray/list.nd")).unwrap().saved else {
                panic!("a list")
            };
            assert_eq!(list, read.into_iter().map(|(_, a)| Some(a)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn numpy_files_are_read_in_every_flavour() {
    let a = HostArray::from_slice(&(0..24).map(|i| i as f32).collect::<Vec<_>>(), [2, 3, 4]).unwrap();
    for name in ["row_major", "column_major_big_endian", "version2", "version3"] {
        assert_eq!(npy::load(golden(&format!("numpy/{name}.npy"))).unwrap(), a, "{name}");
    }
    for name in ["stored", "deflated", "streamed"] {
        let arrays = npz::load(golden(&format!("numpy/{name}.npz"))).unwrap();
        let right = [
            ("a".to_string(), a.clone()),
            ("b".to_string(), HostArray::from_slice(&[true, false], [2]).unwrap()),
            ("naïve".to_string(), HostArray::from_slice(&[3u8], []).unwrap()),
        ];
        assert_eq!(arrays, right, "{name}");
    }
}

#[test]
fn npy_files_are_written_byte_for_byte_as_numpy_does() {
    let names = ["numpy/row_major", "numpy/scalar", "numpy/empty", "numpy/many_axes"];
    for name in names.into_iter().chain(["mxnet/params/cnn_bn_input", "mxnet/params/cnn_bn_output"]) {
        let bytes = golden_bytes(&format!("{name}.npy"));
        assert_eq!(npy::to_bytes(&npy::from_bytes(&bytes).unwrap()).unwrap(), bytes, "{name}");
    }
}

// Round trips.

fn any_array() -> impl Strategy<Value = HostArray> {
    (prop::sample::select(&DType::ALL[..]), vec(0usize..4, 0..5)).prop_flat_map(|(dtype, shape)| {
        let shape = Shape::from(shape);
        vec(any::<u8>(), shape.size() * dtype.size()).prop_map(move |mut bytes| {
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|b| *b &= 1);
            }
            HostArray::new(dtype, &shape, bytes).unwrap()
        })
    })
}

/// Arrays with different names, among them awkward ones.
fn any_arrays() -> impl Strategy<Value = Vec<(String, HostArray)>> {
    prop::collection::btree_map("[a-z./\"\\\\ é\\n]{0,12}", any_array(), 0..5)
        .prop_map(|m| m.into_iter().collect())
        .prop_shuffle()
}

/// Without bfloat16, which NumPy and MXNet do not have.
fn without_bf16(arrays: &[(String, HostArray)]) -> Vec<(String, HostArray)> {
    arrays.iter().filter(|(_, a)| a.dtype != DType::BF16).cloned().collect()
}

/// Hands out one byte at a time and does not say how many there are.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = to.len().min(1);
        self.0.read(&mut to[..n])
    }
}

proptest! {
    #[test]
    fn npy_round_trip(array in any_array()) {
        match npy::to_bytes(&array) {
            Ok(bytes) => {
                prop_assert_eq!(bytes.len() % 64, array.bytes.len() % 64);
                prop_assert_eq!(&npy::from_bytes(&bytes)?, &array);
                prop_assert_eq!(&npy::read(Trickle(&bytes))?, &array);
            }
            Err(e) => {
                prop_assert_eq!(array.dtype, DType::BF16);
                prop_assert!(e.to_string().contains("cast to float32"), "{}", e);
            }
        }
    }

    #[test]
    fn npz_round_trip(arrays in any_arrays(), deflate: bool) {
        let arrays = without_bf16(&arrays);
        let compression = if deflate { Compression::Deflated } else { Compression::Stored };
        let bytes = npz::to_bytes(&arrays, compression)?;
        prop_assert_eq!(&npz::from_bytes(&bytes)?, &arrays);
        prop_assert_eq!(npz::to_bytes(&arrays, compression)?, bytes);
    }

    #[test]
    fn mxnet_round_trip(arrays in any_arrays(), missing: Option<prop::sample::Index>, list: bool, np_shape: bool) {
        let mut entries: Vec<_> = without_bf16(&arrays).into_iter().map(|(name, a)| (name, Some(a))).collect();
        if let Some(i) = missing && !entries.is_empty() {
            i.get_mut(&mut entries).1 = None;
        }
        let needs = entries.iter().flat_map(|(_, a)| a).any(|a| a.shape.rank() == 0 || a.shape.contains(&0));
        let empty = entries.is_empty();
        let saved = if list || empty { Saved::List(entries.into_iter().map(|(_, a)| a).collect()) } else { Saved::Dict(entries) };
        let bytes = mxnet::to_bytes(&NdFile { saved: saved.clone(), np_shape })?;
        let read = mxnet::from_bytes(&bytes)?;
        prop_assert_eq!(&read.saved, &saved);
        prop_assert_eq!(read.np_shape, (np_shape || needs) && !empty);
        prop_assert_eq!(mxnet::read(Trickle(&bytes))?, read);
    }

    #[test]
    fn safetensors_round_trip(
        arrays in any_arrays(),
        metadata in prop::collection::btree_map(".{0,5}", ".{0,5}", 0..4),
    ) {
        let bytes = safetensors::to_bytes(&arrays, &metadata)?;
        let read = safetensors::from_bytes(&bytes)?;
        prop_assert_eq!(&read.metadata, &metadata);
        let mut sorted = (read.arrays.clone(), arrays);
        sorted.0.sort_by(|a, b| a.0.cmp(&b.0));
        sorted.1.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(&sorted.0, &sorted.1);
        prop_assert_eq!(&safetensors::to_bytes(&read.arrays, &metadata)?, &bytes);
        prop_assert_eq!(&safetensors::read(Trickle(&bytes))?, &read);

        // The crate of the format's authors reads the same, and writes the same bytes where its order is not random.
        let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(theirs.len(), read.arrays.len());
        for (name, array) in &read.arrays {
            let view = theirs.tensor(name).unwrap();
            prop_assert_eq!(view.data(), &array.bytes[..]);
            prop_assert_eq!(view.shape(), &array.shape[..]);
        }
        if metadata.len() <= 1 {
            let metadata = if metadata.is_empty() { None } else { Some(metadata.into_iter().collect()) };
            prop_assert_eq!(::safetensors::serialize(theirs.tensors(), metadata).unwrap(), bytes);
        }
    }

    #[test]
    fn elements_round_trip(floats: Vec<f64>, bools: Vec<bool>) {
        let array = HostArray::from_slice(&floats, [floats.len()])?;
        prop_assert_eq!(array.to_vec::<f64>()?.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            floats.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        prop_assert_eq!(HostArray::from_slice(&bools, [bools.len()])?.to_vec::<bool>()?, bools);
    }
}

// Fuzzing.

/// Reads `bytes` as every format. A reader must not panic, must give an [`Error::File`] or something that it can write
/// and read again, and must not care whether it is told how long the file is.
fn each_reader(bytes: &[u8]) {
    fn judge<T: PartialEq + std::fmt::Debug>(known: Result<T>, unknown: Result<T>, again: impl Fn(&T) -> Result<T>) {
        match (known, unknown) {
            (Ok(a), Ok(b)) => {
                assert_eq!(a, b);
                assert_eq!(again(&a).unwrap(), a);
            }
            (Err(Error::File { .. }), Err(Error::File { .. })) => {}
            (a, b) => panic!("{a:?} and {b:?}"),
        }
    }
    judge(npy::from_bytes(bytes), npy::read(bytes), |a| npy::from_bytes(&npy::to_bytes(a)?));
    judge(npz::from_bytes(bytes), npz::read(Cursor::new(bytes)), |a| {
        npz::from_bytes(&npz::to_bytes(a, Compression::Stored)?)
    });
    judge(mxnet::from_bytes(bytes), mxnet::read(bytes), |a| mxnet::from_bytes(&mxnet::to_bytes(a)?));
    judge(safetensors::from_bytes(bytes), safetensors::read(bytes), |a| {
        // A file may hold its arrays in another order than that in which they are written.
        let mut again = safetensors::from_bytes(&safetensors::to_bytes(&a.arrays, &a.metadata)?)?;
        again.arrays.sort_by_key(|(name, _)| a.arrays.iter().position(|(n, _)| n == name));
        Ok(again)
    });
}

/// A file of each format and flavour with these arrays.
fn valid_files(arrays: &[(String, HostArray)]) -> Vec<Vec<u8>> {
    let plain = without_bf16(arrays);
    let mut files = vec![
        safetensors::to_bytes(arrays, &[("key".to_string(), "text".to_string())].into()).unwrap(),
        npz::to_bytes(&plain, Compression::Stored).unwrap(),
        npz::to_bytes(&plain, Compression::Deflated).unwrap(),
        mxnet::to_bytes(&NdFile::list(plain.iter().map(|(_, a)| a.clone()))).unwrap(),
        mxnet::to_bytes(&NdFile::dict(plain.clone())).unwrap(),
    ];
    files.extend(plain.iter().take(1).map(|(_, a)| npy::to_bytes(a).unwrap()));
    files
}

/// How a file of each format begins, to get past its first check.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"\x93NUMPY\x01\x00\x76\x00{'descr': ",
    b"PK\x03\x04",
    b"PK\x05\x06\0\0\0\0",
    b"\x12\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\xc9\xfa\x93\xf9\0\0\0\0",
    b"\x20\0\0\0\0\0\0\0{\"a\":",
];

#[derive(Clone, Debug)]
enum Damage {
    Truncate(prop::sample::Index),
    Set(prop::sample::Index, u8),
    /// Copies bytes from one place to another.
    Splice(prop::sample::Index, prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
}

impl Damage {
    fn any() -> impl Strategy<Value = Damage> {
        // Half of the bytes put in are some that mean something in a header.
        let byte = || {
            prop_oneof![any::<u8>(), prop::sample::select(&b"0123456789-(){}[],:'\"L<>|fiub\x00\x01\x7f\x80\xff"[..])]
        };
        let index = || any::<prop::sample::Index>();
        prop_oneof![
            1 => index().prop_map(Damage::Truncate),
            6 => (index(), byte()).prop_map(|(i, b)| Damage::Set(i, b)),
            2 => (index(), index(), 1usize..40).prop_map(|(a, b, n)| Damage::Splice(a, b, n)),
            1 => (index(), vec(byte(), 1..9)).prop_map(|(i, b)| Damage::Insert(i, b)),
            1 => (index(), 1usize..9).prop_map(|(i, n)| Damage::Remove(i, n)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        if length == 0 {
            return;
        }
        match self {
            Damage::Truncate(i) => bytes.truncate(i.index(length)),
            Damage::Set(i, b) => bytes[i.index(length)] = *b,
            Damage::Splice(from, to, n) => {
                let (from, to) = (from.index(length), to.index(length));
                let n = (*n).min(length - from.max(to));
                bytes.copy_within(from..from + n, to);
            }
            Damage::Insert(i, new) => {
                let i = i.index(length);
                bytes.splice(i..i, new.iter().copied());
            }
            Damage::Remove(i, n) => {
                let i = i.index(length);
                bytes.drain(i..length.min(i + n));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..400),
        start in prop::sample::select(BEGINNINGS),
    ) {
        each_reader(&[start, &bytes].concat());
    }

    #[test]
    fn damaged_files_never_panic(
        arrays in any_arrays(),
        which: prop::sample::Index,
        damage in vec(Damage::any(), 1..4),
    ) {
        let files = valid_files(&arrays);
        let mut bytes = which.get(&files).clone();
        damage.iter().for_each(|d| d.apply(&mut bytes));
        each_reader(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_part_of_a_file_is_a_file(arrays in any_arrays()) {
        for file in valid_files(&arrays) {
            for length in 0..file.len() {
                let part = &file[..length];
                prop_assert!(npy::from_bytes(part).is_err() && npz::from_bytes(part).is_err(), "{length} of {}", file.len());
                prop_assert!(mxnet::from_bytes(part).is_err() && safetensors::from_bytes(part).is_err());
            }
            let more = [&file[..], b"x"].concat();
            prop_assert!(npy::from_bytes(&more).is_err() && npz::from_bytes(&more).is_err());
            prop_assert!(mxnet::from_bytes(&more).is_err() && safetensors::from_bytes(&more).is_err());
        }
    }
}

// Paths.

#[test]
fn files_are_saved_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let a = HostArray::from_slice(&[1i32, -2, 3], [3]).unwrap();
    let arrays = [("a".to_string(), a.clone())];
    npy::save(&path, &a).unwrap();
    assert_eq!(npy::load(&path).unwrap(), a);
    npz::save(&path, &arrays, Compression::Deflated).unwrap();
    assert_eq!(npz::load(&path).unwrap(), arrays);
    safetensors::save(&path, &arrays, &Default::default()).unwrap();
    assert_eq!(safetensors::load(&path).unwrap().arrays, arrays);
    mxnet::save(&path, &NdFile::dict(arrays.clone())).unwrap();
    assert_eq!(mxnet::load(&path).unwrap().into_dict().unwrap(), arrays);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a temporary file is left");

    // The last is a file of MXNet, and no other.
    for error in [npy::load(&path).map(drop), npz::load(&path).map(drop), safetensors::load(&path).map(drop)] {
        assert!(matches!(error, Err(Error::File { path: Some(p), .. }) if p == path));
    }
    let nowhere = folder.path().join("no/file");
    assert!(matches!(npy::load(&nowhere), Err(Error::Io { action: "open", path, .. }) if path == nowhere));
    assert!(matches!(npz::load(&nowhere), Err(Error::Io { .. })));
    assert!(matches!(npy::save(&nowhere, &a), Err(Error::Io { path, .. }) if path == nowhere));
    assert!(matches!(npy::load(folder.path()), Err(Error::Io { action: "read", .. })));
    assert!(matches!(npz::load(folder.path()), Err(Error::Io { action: "read", .. })));
    assert!(matches!(npy::save(folder.path(), &a), Err(Error::Io { action: "replace", .. })));
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let a = HostArray::from_slice(&[1u8], [1]).unwrap();
    npy::save(&path, &a).unwrap();

    let full = super::io::write_atomically(&path, |w| {
        w.write_all(&[0; 1 << 20])?;
        Err(std::io::ErrorKind::StorageFull.into())
    });
    assert!(matches!(full, Err(Error::Io { action: "write", path: p, .. }) if p == path));
    let bf16 = HostArray::from_slice(&[half::bf16::ONE], [1]).unwrap();
    assert!(matches!(npy::save(&path, &bf16), Err(Error::UnsupportedDType { .. })));
    assert!(matches!(npz::save(&path, &[("b", &bf16)], Compression::Stored), Err(Error::UnsupportedDType { .. })));
    assert!(matches!(mxnet::save(&path, &NdFile::list([bf16])), Err(Error::UnsupportedDType { .. })));
    assert!(matches!(
        safetensors::save(&path, &[("a", &a), ("a", &a)], &Default::default()),
        Err(Error::InvalidArgument { .. })
    ));

    assert_eq!(npy::load(&path).unwrap(), a);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a temporary file is left");
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    let a = HostArray::from_slice(&[1u8], [1]).unwrap();
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    npy::save(&link, &a).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(npy::load(&file).unwrap(), a);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_makes_the_file_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let a = HostArray::from_slice(&[1u8], [1]).unwrap();
    // Relative to the link, and over two of them.
    fs::create_dir(at("there")).unwrap();
    std::os::unix::fs::symlink("there/file", at("first")).unwrap();
    std::os::unix::fs::symlink(at("first"), at("second")).unwrap();
    npy::save(at("second"), &a).unwrap();
    assert!(["first", "second"].iter().all(|name| fs::symlink_metadata(at(name)).unwrap().is_symlink()));
    assert_eq!(npy::load(at("there/file")).unwrap(), a);
    std::os::unix::fs::symlink("circle", at("circle")).unwrap();
    assert!(npy::save(at("circle"), &a).unwrap_err().to_string().contains("circle"));
}

#[cfg(unix)]
#[test]
fn nobody_reads_what_becomes_a_private_file() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for mode in [0o600, 0o640, 0o644] {
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let written = super::io::write_atomically(&path, |w| {
            assert_eq!(w.get_ref().metadata()?.mode() & 0o777, mode);
            w.write_all(b"new")?;
            w.flush()?;
            for entry in fs::read_dir(&folder)? {
                assert_eq!(entry?.metadata()?.mode() & 0o777 & !mode, 0);
            }
            Ok(())
        });
        written.unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().mode() & 0o777), (b"new".to_vec(), mode));
    }
}

#[test]
fn a_file_that_may_not_be_written_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    fs::write(&path, "old").unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    let a = HostArray::from_slice(&[1u8], [1]).unwrap();
    let refused = npy::save(&path, &a).unwrap_err();
    let denied = matches!(&refused, Error::Io { action: "replace", path: p, source }
        if *p == path && source.kind() == std::io::ErrorKind::PermissionDenied);
    assert!(denied && refused.to_string().contains("read-only"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

/// Runs until it is killed, in a process of its own, for the test that follows.
#[test]
fn saves_without_end() {
    let Some(path) = std::env::var_os("ISOGRAD_TEST_SAVES_AT") else { return };
    let array = HostArray::from_slice(&vec![1.0f32; 1 << 20], [1 << 20]).unwrap();
    loop {
        npy::save(&path, &array).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_save_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.npy");
    let a = HostArray::from_slice(&[1u8], [1]).unwrap();
    npy::save(&path, &a).unwrap();
    for round in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "format::tests::saves_without_end"])
            .env("ISOGRAD_TEST_SAVES_AT", &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(40 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        npy::load(&path).unwrap();
    }
    // Between two system calls there is a name, which the next save takes away.
    npy::save(&path, &a).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a temporary file is left");
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_process_left_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.npy");
    let a = HostArray::from_slice(&[1u8], [1]).unwrap();
    npy::save(&path, &a).unwrap();
    // The name between the two system calls, found by holding it, so that a save fails, or gives way.
    let left = super::io::beside(&path);
    fs::write(&left, "half").unwrap();
    let holder = fs::File::open(&left).unwrap();
    holder.lock().unwrap();
    std::thread::scope(|scope| {
        let save = scope.spawn(|| npy::save(&path, &a));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!save.is_finished() && left.exists(), "it belongs to one who lives");
        drop(holder);
        save.join().unwrap().unwrap();
    });
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn saves_of_one_file_at_once_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.npy");
    std::thread::scope(|scope| {
        for k in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                let array = HostArray::from_slice(&vec![k; 10_000], [10_000]).unwrap();
                (0..30).for_each(|_| npy::save(path, &array).unwrap());
            });
        }
    });
    let read = npy::load(&path).unwrap().to_vec::<u8>().unwrap();
    assert!(read.iter().all(|v| *v == read[0]));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a temporary file is left");
}

// Arrays.

#[test]
fn an_array_that_is_not_one_is_refused() {
    let short = HostArray { dtype: DType::F32, shape: Shape::from([2]), bytes: vec![0; 7] };
    assert!(matches!(short.check(), Err(Error::InvalidShape { .. })));
    let huge = HostArray { dtype: DType::F32, shape: Shape::from([1 << 40, 1 << 40, 0]), bytes: vec![] };
    assert!(matches!(huge.check(), Err(Error::InvalidShape { .. })));
    let bools = HostArray { dtype: DType::Bool, shape: Shape::from([1]), bytes: vec![2] };
    assert!(matches!(bools.check(), Err(Error::InvalidArgument { .. })));
    assert!(
        bools.to_vec::<bool>().is_err()
            && npy::to_bytes(&bools).is_err()
            && npz::to_bytes(&[("a", &bools)], Compression::Stored).is_err()
    );
    assert!(
        mxnet::to_bytes(&NdFile::list([bools.clone()])).is_err()
            && safetensors::to_bytes(&[("a", bools)], &Default::default()).is_err()
    );
    let ints = HostArray::from_slice(&[1i32], [1]).unwrap();
    assert!(matches!(ints.to_vec::<f32>(), Err(Error::DTypeMismatch { left: DType::I32, right: DType::F32, .. })));
    assert!(HostArray::from_slice(&[1i32], [2]).is_err());
}

#[test]
fn a_file_of_another_kind_is_named() {
    let array = HostArray::from_slice(&[1.0f32, 2.0], [2]).unwrap();
    let named = [("a", &array)];
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("npy", npy::to_bytes(&array).unwrap(), "it is a .npy file"),
        ("npz", npz::to_bytes(&named, Compression::Stored).unwrap(), "it is a zip archive: a .npz file"),
        ("safetensors", safetensors::to_bytes(&named, &Default::default()).unwrap(), "it is a .safetensors file"),
        ("MXNet", mxnet::to_bytes(&NdFile::list([array.clone()])).unwrap(), "it is a .params or .nd file of MXNet"),
        ("", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec(), "run `git lfs pull`"),
        ("", b"\n<!DOCTYPE HTML>\n<title>404</title>".to_vec(), "it is a web page"),
        ("", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}".to_vec(), "a Python pickle"),
        ("", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04".to_vec(), "compressed by gzip"),
        ("", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "a PNG picture"),
        ("", b"just a line of text\n".to_vec(), "it begins with \"just a line of t\""),
        ("", vec![], "it is empty"),
    ];
    type Reader = fn(&[u8]) -> Result<(), Error>;
    let readers: [(&str, Reader); 4] = [
        ("npy", |bytes| npy::from_bytes(bytes).map(drop)),
        ("npz", |bytes| npz::from_bytes(bytes).map(drop)),
        ("safetensors", |bytes| safetensors::from_bytes(bytes).map(drop)),
        ("MXNet", |bytes| mxnet::from_bytes(bytes).map(drop)),
    ];
    for (format, read) in readers {
        for (kind, bytes, what) in &files {
            let result = read(bytes);
            if *kind == format {
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::File { at: 0, .. }), "{text}");
            assert!(text.contains(&format!("no {format} file: ")) && text.contains(what), "{text}");
        }
    }
}
