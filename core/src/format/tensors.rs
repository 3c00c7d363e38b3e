//! Tensors in files, in the format that the extension names: what `nd.save` and `nd.load` do in MXNet, and `np.savez`.

use super::{Contents, HostArray, mxnet, npy, npz, safetensors};
use crate::{Backend, Error, Result, Tensor};
use std::{borrow::Borrow, collections::BTreeMap, path::Path};

enum Format {
    Npy,
    Npz,
    Safetensors,
    MXNet,
}

fn format(op: &'static str, path: &Path) -> Result<Format> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => Ok(Format::Npy),
        Some("npz") => Ok(Format::Npz),
        Some("safetensors") => Ok(Format::Safetensors),
        Some("nd" | "params") => Ok(Format::MXNet),
        _ => Err(Error::invalid(
            op,
            format!("{}: the format is the extension: .npy, .npz, .safetensors, .nd or .params", path.display()),
        )),
    }
}

fn host<B: Backend, T: Borrow<Tensor<B>>>(tensors: impl Iterator<Item = T>) -> Result<Vec<HostArray>> {
    tensors.map(|tensor| tensor.borrow().to_host()).collect()
}

/// Writes tensors with names: as `.npz`, `.safetensors`, or MXNet's `.nd` or `.params`. An old file is replaced whole or left
/// as it was.
///
/// ```
/// use isograd::{DType, Tensor, format};
/// let ctx = isograd::device("cpu")?;
/// let folder = tempfile::tempdir().unwrap();
/// let (x, y) = (Tensor::ones(&ctx, [2, 3], DType::F32)?, Tensor::zeros(&ctx, [4], DType::I64)?);
/// for name in ["xy.npz", "xy.safetensors", "xy.nd"] {
///     let path = folder.path().join(name);
///     format::save_named(&path, &[("x", &x), ("y", &y)])?;
///     let read = format::load_named(&path, &ctx)?;
///     assert_eq!(read["x"].to_vec::<f32>()?, [1.0; 6]);
///     assert_eq!(read["y"].shape(), &[4]);
/// }
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] for another extension, and for a name that stands twice; [`Error::UnsupportedDType`] for a dtype
/// that the format does not have; [`Error::Io`]; what the device reports.
pub fn save_named<B: Backend, S: AsRef<str>, T: Borrow<Tensor<B>>>(
    path: impl AsRef<Path>,
    tensors: &[(S, T)],
) -> Result<()> {
    const OP: &str = "save_named";
    let path = path.as_ref();
    let format = format(OP, path)?;
    let arrays = host(tensors.iter().map(|(_, tensor)| tensor.borrow()))?;
    let named = tensors.iter().map(|(name, _)| name.as_ref()).zip(arrays);
    match format {
        Format::Npy => {
            Err(Error::invalid(OP, format!("{}: .npy holds one array without a name; use .npz", path.display())))
        }
        Format::Npz => npz::save(path, &named.collect::<Vec<_>>(), npz::Compression::Stored),
        Format::Safetensors => safetensors::save(path, &named.collect::<Vec<_>>(), &BTreeMap::new()),
        Format::MXNet => mxnet::save(path, &mxnet::NdFile::dict(named)),
    }
}

/// The arrays of those names in the file that are `wanted`.
fn contents(op: &'static str, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Contents> {
    match format(op, path)? {
        Format::Npy => Err(Error::invalid(op, format!("{}: .npy holds one array without a name", path.display()))),
        Format::Npz => npz::load_where(path, wanted),
        Format::Safetensors => safetensors::load_where(path, wanted).map(|(contents, _)| contents),
        Format::MXNet => mxnet::load_where(path, wanted),
    }
}

/// Reads one tensor of a file with names, onto `ctx`, without the others.
///
/// ```
/// use isograd::{DType, Tensor, format};
/// let ctx = isograd::device("cpu")?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("xy.npz");
/// let (x, y) = (Tensor::ones(&ctx, [2, 3], DType::F32)?, Tensor::zeros(&ctx, [4], DType::I64)?);
/// format::save_named(&path, &[("x", &x), ("y", &y)])?;
/// assert_eq!(format::load_one(&path, "y", &ctx)?.shape(), &[4]);
/// assert!(format::load_one(&path, "z", &ctx).unwrap_err().to_string().contains("x, y"));
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] when there is none of this name, or its dtype is one that isograd does not have; as
/// [`load_named`].
pub fn load_one<B: Backend>(path: impl AsRef<Path>, name: &str, ctx: &B) -> Result<Tensor<B>> {
    const OP: &str = "load_one";
    let path = path.as_ref();
    let names = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let contents = contents(OP, path, |found| {
        names.borrow_mut().insert(found.to_string());
        found == name
    })?;
    if let Some((_, array)) = contents.arrays.first() {
        return Tensor::from_host(ctx, array);
    }
    let why = match contents.foreign.first() {
        Some((_, dtype)) => format!("{name:?} has dtype {dtype}, which has no counterpart here"),
        None => {
            let names: Vec<String> = names.into_inner().into_iter().take(20).collect();
            format!("there is no {name:?}; there are {}", names.join(", "))
        }
    };
    Err(Error::invalid(OP, format!("{}: {why}", path.display())))
}

/// Reads the tensors of a file with names, onto `ctx`; those of dtypes that isograd does not have, such as strings and integers
/// of 16 bits, are left out.
///
/// # Errors
/// [`Error::InvalidArgument`] for another extension; [`Error::File`] for a damaged file, and for one of tensors without names;
/// [`Error::Io`]; what the device reports.
pub fn load_named<B: Backend>(path: impl AsRef<Path>, ctx: &B) -> Result<BTreeMap<String, Tensor<B>>> {
    let arrays = contents("load_named", path.as_ref(), |_| true)?.arrays;
    arrays.into_iter().map(|(name, array)| Ok((name, Tensor::from_host(ctx, &array)?))).collect()
}

/// Writes tensors in order, without names: as MXNet's `.nd`, or a single one as `.npy`. An old file is replaced whole or left
/// as it was.
///
/// ```
/// use isograd::{DType, Tensor, format};
/// let ctx = isograd::device("cpu")?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("list.nd");
/// format::save_list(&path, &[&Tensor::ones(&ctx, [2], DType::F32)?, &Tensor::zeros(&ctx, [3], DType::F64)?])?;
/// assert_eq!(format::load_list(&path, &ctx)?[1].to_vec::<f64>()?, [0.0; 3]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// As [`save_named`]; [`Error::InvalidArgument`] for a format that needs names, and for several tensors in one `.npy`.
pub fn save_list<B: Backend, T: Borrow<Tensor<B>>>(path: impl AsRef<Path>, tensors: &[T]) -> Result<()> {
    const OP: &str = "save_list";
    let path = path.as_ref();
    let format = format(OP, path)?;
    let arrays = host(tensors.iter().map(|tensor| tensor.borrow()))?;
    match (format, &arrays[..]) {
        (Format::Npy, [array]) => npy::save(path, array),
        (Format::MXNet, _) => mxnet::save(path, &mxnet::NdFile::list(arrays)),
        (Format::Npy, _) => {
            let why =
                format!("{}: .npy holds one array, not {}; use .nd, or .npz with names", path.display(), arrays.len());
            Err(Error::invalid(OP, why))
        }
        _ => Err(Error::invalid(OP, format!("{}: this format needs names; use save_named, or .nd", path.display()))),
    }
}

/// Reads the tensors of a file in its order, onto `ctx`, whether they have names or not.
///
/// # Errors
/// As [`load_named`]; [`Error::InvalidArgument`] when one has a dtype that isograd does not have, since the others would move up.
pub fn load_list<B: Backend>(path: impl AsRef<Path>, ctx: &B) -> Result<Vec<Tensor<B>>> {
    const OP: &str = "load_list";
    let path = path.as_ref();
    let arrays = match format(OP, path)? {
        Format::Npy => vec![npy::load(path)?],
        format => {
            if let Format::MXNet = format
                && let mxnet::Saved::List(list) = mxnet::load(path)?.saved
            {
                let arrays: Vec<HostArray> = list.into_iter().flatten().collect();
                return arrays.iter().map(|array| Tensor::from_host(ctx, array)).collect();
            }
            let contents = contents(OP, path, |_| true)?;
            if let Some((name, dtype)) = contents.foreign.first() {
                let why = format!(
                    "{}: {name:?} has dtype {dtype}, which has no counterpart here; load_named leaves it out",
                    path.display()
                );
                return Err(Error::invalid(OP, why));
            }
            contents.arrays.into_iter().map(|(_, array)| array).collect()
        }
    };
    arrays.iter().map(|array| Tensor::from_host(ctx, array)).collect()
}
