//! The binary files of CIFAR-10 and CIFAR-100 (A. Krizhevsky, *Learning multiple layers of features from tiny images*, 2009).
//!
//! A record is a byte of class (CIFAR-100: of the coarse one, then of the fine one) and 3,072 bytes of picture: 1,024 of red,
//! then green, then blue, each row by row.

use super::ArrayDataset;
use isograd_core::{
    DType, Error, Result,
    format::{HostArray, not_of, recognize},
};
use std::{fs, path::Path};

const FORMAT: &str = "CIFAR";
const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// The kind of classes before each picture.
struct Label {
    name: &'static str,
    classes: u8,
}

/// Reads the files of CIFAR-10 one after another: pictures `[n, 32, 32, 3]` as u8 and classes `[n]` as i64.
///
/// ```
/// use isograd::nn::data::{Dataset, cifar, vision::Image};
/// let folder = tempfile::tempdir().unwrap();
/// let file = folder.path().join("data_batch_1.bin");
/// std::fs::write(&file, [vec![7], vec![200; 1024], vec![100; 2048]].concat()).unwrap();
/// let dataset = cifar::load_cifar10(&[&file])?.transform(|[x, y], _| Ok((Image::try_from(x)?, y)));
/// let (image, class) = dataset.get(0)?;
/// assert_eq!((image.pixel(0, 0), class.to_vec::<i64>()?), (&[200, 100, 100][..], vec![7]));
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`]; [`Error::File`] with path and position for a file that is cut or has a class that there is not.
pub fn load_cifar10(files: &[impl AsRef<Path>]) -> Result<ArrayDataset<2>> {
    let [images, classes] = load(files, [Label { name: "class", classes: 10 }])?;
    ArrayDataset::new([images, classes])
}

/// Reads the files of CIFAR-100: pictures `[n, 32, 32, 3]` as u8, fine classes and coarse classes `[n]` as i64.
///
/// # Errors
/// As [`load_cifar10`].
pub fn load_cifar100(files: &[impl AsRef<Path>]) -> Result<ArrayDataset<3>> {
    let labels = [Label { name: "coarse class", classes: 20 }, Label { name: "fine class", classes: 100 }];
    let [images, coarse, fine] = load(files, labels)?;
    ArrayDataset::new([images, fine, coarse])
}

/// The pictures of `files`, and the classes in the order of `labels`.
fn load<const L: usize, const N: usize>(files: &[impl AsRef<Path>], labels: [Label; L]) -> Result<[HostArray; N]> {
    let record = L + 3 * PIXELS;
    let (mut pixels, mut classes) = (Vec::new(), vec![Vec::new(); L]);
    for path in files {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
        let fail = |at: usize, why: String| Err(Error::file(FORMAT, at as u64, why).with_path(path));
        let odd = bytes.len() % record != 0;
        if bytes.is_empty() || odd && recognize(&bytes).is_some() {
            return fail(0, not_of(FORMAT, &bytes));
        }
        if odd {
            let whole = bytes.len() / record * record;
            return fail(whole, format!("{} bytes are left for a record of {record}", bytes.len() - whole));
        }
        for (number, bytes) in bytes.chunks_exact(record).enumerate() {
            for (i, (label, classes)) in labels.iter().zip(&mut classes).enumerate() {
                if bytes[i] >= label.classes {
                    let why = format!("record {number} is of {} {}; there are {}", label.name, bytes[i], label.classes);
                    return fail(number * record + i, why);
                }
                classes.push(i64::from(bytes[i]));
            }
            let channel = |c: usize| &bytes[L + c * PIXELS..][..PIXELS];
            let (red, green, blue) = (channel(0), channel(1), channel(2));
            pixels.extend((0..PIXELS).flat_map(|i| [red[i], green[i], blue[i]]));
        }
    }
    let count = classes.first().map_or(0, Vec::len);
    let mut arrays = vec![HostArray::new(DType::U8, [count, SIDE, SIDE, 3], pixels)?];
    for classes in &classes {
        arrays.push(HostArray::from_slice(classes, [count])?);
    }
    arrays.try_into().map_err(|_| Error::invalid(FORMAT, "there are as many arrays as labels, and the pictures"))
}
