//! Parameters in files: safetensors, and MXNet's `.params`, told apart by the path's extension.
//!
//! A file of MXNet has one of several kinds of names, all of which are read: structural paths (`save_parameters`), Gluon's names
//! (`ParameterDict.save`), and these with `arg:` or `aux:` in front (`HybridBlock.export`). `names` translates the places of
//! recurrent layers, which Gluon saves as if they were stacks of cells.

mod names;

use crate::{
    Parameter, ParameterDict,
    parameter::NewData,
    parameter_dict::{prepare_all, write_all},
};
use isograd_core::{
    Backend, Error, GradReq, Result, Tensor,
    format::{Contents, HostArray, mxnet, safetensors},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    path::Path,
    sync::Arc,
};

/// What a parameter file may get wrong, and by which names it goes.
///
/// ```
/// use isograd::{Tensor, format};
/// use isograd::nn::{Dense, LoadOptions, Parameters};
/// let ctx = isograd::device("cpu")?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("theirs.safetensors");
/// let theirs = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [1, 3])?;
/// format::save_named(&path, &[("fc.weight", &theirs)])?;
/// let net = Dense::new(1).use_bias(false);
/// net.load_parameters_with(&path, &ctx, LoadOptions::default().names(|ours| Some(format!("fc.{ours}"))))?;
/// assert_eq!(net.weight().data()?.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// Parameters that the file lacks keep their values.
    pub allow_missing: bool,
    /// Arrays that the network has no place for are ignored.
    pub ignore_extra: bool,
    /// Arrays of another dtype are converted to the parameter's.
    pub cast_dtype: bool,
    /// Parameters of another shape than the file's keep their values, such as the last layer for another number of classes.
    pub ignore_mismatched: bool,
    /// From a structural path of the network to the name in the file; see [`LoadOptions::names`].
    pub names: Option<NameMap>,
}

/// From a structural path to a name in a file.
pub type NameMap = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

impl LoadOptions {
    /// Looks each parameter up by the name that `name` gives for its structural path; one for which it gives `None` is not
    /// looked for, and keeps its values. Several parameters of one name that together are as long as the array get its parts
    /// along the first axis, in the order of the network.
    #[must_use]
    pub fn names(mut self, name: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.names = Some(Arc::new(name));
        self
    }

    /// [`LoadOptions::names`] by a table of structural paths and names; paths that are not in it are names themselves.
    #[must_use]
    pub fn table<A: Into<String>, C: Into<String>>(self, table: impl IntoIterator<Item = (A, C)>) -> Self {
        let table: HashMap<String, String> = table.into_iter().map(|(path, name)| (path.into(), name.into())).collect();
        self.names(move |path| Some(table.get(path).map_or(path, String::as_str).to_string()))
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("allow_missing", &self.allow_missing)
            .field("ignore_extra", &self.ignore_extra)
            .field("cast_dtype", &self.cast_dtype)
            .field("ignore_mismatched", &self.ignore_mismatched)
            .field("names", &self.names.as_ref().map(|_| "..."))
            .finish()
    }
}

/// How parameters are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Whether a shared parameter is written once, under the last of its paths, as with Gluon's `deduplicate`.
    pub deduplicate: bool,
}

fn is_mxnet(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "params")
}

/// The values of parameters by name.
pub fn arrays<B: Backend>(entries: &[(String, &Parameter<B>)]) -> Result<Vec<(String, HostArray)>> {
    entries.iter().map(|(name, parameter)| Ok((name.clone(), parameter.merged()?.to_host()?))).collect()
}

fn write<B: Backend>(entries: &[(String, &Parameter<B>)], path: &Path) -> Result<()> {
    let arrays = arrays(entries)?;
    if is_mxnet(path) {
        mxnet::save(path, &mxnet::NdFile::dict(arrays))
    } else {
        safetensors::save(path, &arrays, &BTreeMap::new())
    }
}

pub fn save<B: Backend>(parameters: &ParameterDict<B>, path: &Path, options: SaveOptions) -> Result<()> {
    let gluon = is_mxnet(path).then(|| names::Unfused::of(parameters.paths()));
    let name = |path: &str| gluon.as_ref().map_or(path.to_string(), |g| g.name(path));
    let mut entries: Vec<(String, &Parameter<B>)> = Vec::with_capacity(parameters.len());
    for (path, parameter) in parameters.iter() {
        match entries.iter_mut().find(|(_, p)| options.deduplicate && p.is(parameter)) {
            // The place of the first, the name of the last.
            Some((earlier, _)) => *earlier = name(path),
            None => entries.push((name(path), parameter)),
        }
    }
    write(&entries, path)
}

impl<B: Backend> ParameterDict<B> {
    /// Writes each parameter once, under Gluon's name (`dense0_weight`) less `strip_prefix`: what `ParameterDict.save` does in
    /// Gluon. The format is that of [`crate::Parameters::save_parameters`].
    ///
    /// ```
    /// use isograd::nn::{Dense, LoadOptions, Parameters, initializers::Normal, naming};
    /// let ctx = isograd::device("cpu")?;
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("net.params");
    /// let make = || naming::scope("model_", || Dense::new(2).in_units(3));
    /// let (saved, loaded) = (make(), make());
    /// saved.initialize(Normal::default(), &ctx)?;
    /// saved.collect_params().save(&path, "model_dense0_")?;
    /// loaded.collect_params().load(&path, &ctx, LoadOptions::default(), "model_dense1_")?;
    /// assert_eq!(loaded.weight().data()?.to_vec::<f32>()?, saved.weight().data()?.to_vec::<f32>()?);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] for one whose name does not begin with `strip_prefix`; as
    /// [`crate::Parameters::save_parameters`].
    pub fn save(&self, path: impl AsRef<Path>, strip_prefix: &str) -> Result<()> {
        let parameters = self.unique();
        let mut entries = Vec::with_capacity(parameters.len());
        for (_, parameter) in parameters.iter() {
            let name = parameter.name();
            let Some(rest) = name.strip_prefix(strip_prefix) else {
                let why = format!("its name does not begin with the prefix {strip_prefix:?} that is to be stripped");
                return Err(Error::Parameter { name, why });
            };
            entries.push((rest.to_string(), parameter));
        }
        write(&entries, path.as_ref())
    }

    /// Reads what [`ParameterDict::save`] wrote, with `restore_prefix` put in front of every name of the file; files by other
    /// names are read too, as [`crate::Parameters::load_parameters`] does.
    ///
    /// # Errors
    /// As [`crate::Parameters::load_parameters`].
    pub fn load(&self, path: impl AsRef<Path>, ctx: &B, options: LoadOptions, restore_prefix: &str) -> Result<()> {
        load(self, path.as_ref(), ctx, &options, restore_prefix)
    }

    /// Writes each parameter once by the names of MXNet's exported networks: `arg:conv0_weight`, and `aux:` before running
    /// statistics.
    ///
    /// # Errors
    /// As [`crate::Parameters::save_parameters`].
    pub fn export(&self, path: impl AsRef<Path>) -> Result<()> {
        let parameters = self.unique();
        let name = |parameter: &Parameter<B>| {
            let name = parameter.name();
            let statistic = name.ends_with("running_mean") || name.ends_with("running_var");
            let kind = if statistic && parameter.grad_req() == GradReq::Null { "aux" } else { "arg" };
            format!("{kind}:{name}")
        };
        let entries: Vec<_> = parameters.iter().map(|(_, parameter)| (name(parameter), parameter)).collect();
        write(&entries, path.as_ref())
    }
}

/// What a file has under a name.
pub enum Found {
    Array(HostArray),
    /// An array of this dtype, which isograd does not have.
    Foreign(String),
}

impl Found {
    /// All of a part of a file.
    pub fn all(contents: Contents) -> Vec<(String, Found)> {
        let foreign = contents.foreign.into_iter().map(|(name, dtype)| (name, Found::Foreign(dtype)));
        contents.arrays.into_iter().map(|(name, array)| (name, Found::Array(array))).chain(foreign).collect()
    }
}

/// The arrays of a file, by names of whatever kind.
fn read(path: &Path) -> Result<Vec<(String, Found)>> {
    // PyTorch counts the batches that its normalizations have seen, and never reads the count.
    let wanted = |name: &str| !name.ends_with("num_batches_tracked");
    let contents = match is_mxnet(path) {
        true => mxnet::load_where(path, wanted)?,
        false => safetensors::load_where(path, wanted)?.0,
    };
    let bare = |name: String| match name.strip_prefix("arg:").or_else(|| name.strip_prefix("aux:")) {
        Some(bare) => bare.to_string(),
        None => name,
    };
    Ok(Found::all(contents).into_iter().map(|(name, found)| (bare(name), found)).collect())
}

pub fn load<B: Backend>(
    parameters: &ParameterDict<B>,
    path: &Path,
    ctx: &B,
    options: &LoadOptions,
    restore_prefix: &str,
) -> Result<()> {
    let mut found = read(path)?;
    if !restore_prefix.is_empty() {
        found.iter_mut().for_each(|(name, _)| name.insert_str(0, restore_prefix));
    }
    write_all(prepare(parameters, found, path, ctx, options)?)
}

/// What is to be written over `parameters` from the arrays `found` in `file`: everything is checked and on the device before the
/// first parameter changes.
pub fn prepare<B: Backend>(
    parameters: &ParameterDict<B>,
    mut found: Vec<(String, Found)>,
    file: &Path,
    ctx: &B,
    options: &LoadOptions,
) -> Result<Vec<NewData<B>>> {
    // For each parameter the name by which the file would have it; `None`: it is not looked for.
    let expected: Vec<Option<String>> = match &options.names {
        Some(name) => parameters.paths().into_iter().map(|path| name(path)).collect(),
        None => names::matching(parameters, &mut found).into_iter().map(Some).collect(),
    };
    let arrays: HashMap<String, Found> = found.into_iter().collect();
    let places = || parameters.iter().zip(&expected).filter_map(|((path, p), name)| Some((path, p, name.as_ref()?)));
    let fail = |name: &str, why: String| Error::Parameter { name: name.to_string(), why };
    let file = file.display();

    // A file may hold a shared parameter under one of its names only.
    let present: HashSet<usize> =
        places().filter(|(.., name)| arrays.contains_key(*name)).map(|(_, p, _)| p.identity()).collect();
    if !options.allow_missing
        && let Some((path, _, name)) = places().find(|(_, p, _)| !present.contains(&p.identity()))
    {
        let called = if path == name { String::new() } else { format!(" as {name}") };
        let why = format!(
            "it is missing{called} in {file}, which has {}; LoadOptions {{ allow_missing: true, .. }} leaves it as it is",
            list(&arrays)
        );
        return Err(fail(path, why));
    }
    let known: HashSet<&str> = expected.iter().flatten().map(String::as_str).collect();
    if !options.ignore_extra
        && let Some(name) = sorted(&arrays).into_iter().find(|name| !known.contains(name))
    {
        let why = format!(
            "it is in {file}, but the network has no such parameter; LoadOptions {{ ignore_extra: true, .. }} ignores it"
        );
        return Err(fail(name, why));
    }

    // Parameters that the file has as one array are its parts along the first axis, in the order of the network.
    let mut claims: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    for (_, parameter, name) in places() {
        let rows = parameter.partial_shape().first().copied().flatten().unwrap_or(0);
        let claim = (parameter.identity(), rows);
        let of_array = claims.entry(name).or_default();
        if !of_array.contains(&claim) {
            of_array.push(claim);
        }
    }
    let part = |parameter: &Parameter<B>, name: &str, array: &HostArray| -> Result<Option<HostArray>> {
        let claims = claims.get(name).map_or(&[][..], Vec::as_slice);
        let total: usize = claims.iter().map(|(_, rows)| rows).sum();
        if claims.len() < 2 || total == 0 || array.shape.first() != Some(&total) {
            return Ok(None);
        }
        let before = claims.iter().take_while(|(identity, _)| *identity != parameter.identity());
        let start: usize = before.map(|(_, rows)| rows).sum();
        let Some(rows) = parameter.partial_shape().first().copied().flatten() else { return Ok(None) };
        let row = array.bytes.len() / total;
        let bytes = array.bytes[start * row..(start + rows) * row].to_vec();
        HostArray::new(array.dtype, array.shape.with(0, rows), bytes).map(Some)
    };

    let mut values: Vec<(&str, &Parameter<B>, Tensor<B>)> = Vec::new();
    for (path, parameter, name) in places() {
        let array = match arrays.get(name) {
            None => continue,
            Some(Found::Array(array)) => array,
            Some(Found::Foreign(_)) if options.allow_missing => continue,
            Some(Found::Foreign(dtype)) => {
                let why = format!(
                    "it is {dtype} in {file}, which has no counterpart here; LoadOptions {{ allow_missing: true, .. }} leaves it as \
                     it is"
                );
                return Err(fail(path, why));
            }
        };
        let cut = part(parameter, name, array)?;
        let array = cut.as_ref().unwrap_or(array);
        let shape = parameter.partial_shape();
        if shape.len() != array.shape.len() || shape.iter().zip(&*array.shape).any(|(a, b)| a.is_some_and(|a| a != *b))
        {
            if options.ignore_mismatched {
                continue;
            }
            let why = format!(
                "its shape {:?} in {file} does not fit {parameter}; LoadOptions {{ ignore_mismatched: true, .. }} leaves it as it is",
                array.shape
            );
            return Err(fail(path, why));
        }
        let dtype = parameter.dtype();
        if array.dtype != dtype && !options.cast_dtype {
            let why = format!(
                "it is {} in {file}, but {dtype} in the network; LoadOptions {{ cast_dtype: true, .. }} converts it",
                array.dtype
            );
            return Err(fail(path, why));
        }
        let target = parameter.contexts().into_iter().next().unwrap_or_else(|| ctx.clone());
        values.push((path, parameter, Tensor::from_host(&target, array)?.cast(dtype)?));
    }
    prepare_all(&values)
}

fn sorted(arrays: &HashMap<String, Found>) -> Vec<&str> {
    let mut names: Vec<&str> = arrays.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn list(arrays: &HashMap<String, Found>) -> String {
    let all = sorted(arrays);
    let more = if all.len() > 8 { format!(" and {} more", all.len() - 8) } else { String::new() };
    format!("{}{more}", all[..all.len().min(8)].join(", "))
}
