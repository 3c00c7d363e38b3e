//! Parameters in files: safetensors, and MXNet's `.params`, told apart by the path's extension.

use crate::{Parameter, ParameterDict};
use isograd_core::{
    Backend, Error, Result, Tensor,
    format::{HostArray, mxnet, safetensors},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

/// What a parameter file may get wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Parameters that the file lacks keep their values.
    pub allow_missing: bool,
    /// Arrays that the network has no place for are ignored.
    pub ignore_extra: bool,
    /// Arrays of another dtype are converted to the parameter's.
    pub cast_dtype: bool,
}

fn is_mxnet(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "params")
}

pub(crate) fn save<B: Backend>(parameters: &ParameterDict<B>, path: &Path) -> Result<()> {
    let mut arrays = Vec::with_capacity(parameters.len());
    for (name, parameter) in parameters.iter() {
        arrays.push((name.to_string(), parameter.data()?.to_host()?));
    }
    if is_mxnet(path) {
        mxnet::save(path, &mxnet::NdFile::dict(arrays))
    } else {
        safetensors::save(path, &arrays, &BTreeMap::new())
    }
}

fn read(path: &Path) -> Result<Vec<(String, HostArray)>> {
    if is_mxnet(path) { mxnet::load(path)?.into_dict() } else { Ok(safetensors::load(path)?.arrays) }
}

pub(crate) fn load<B: Backend>(
    parameters: &ParameterDict<B>,
    path: &Path,
    ctx: &B,
    options: LoadOptions,
) -> Result<()> {
    let arrays: HashMap<String, HostArray> = read(path)?.into_iter().collect();
    let fail = |name: &str, why: String| Error::Parameter { name: name.to_string(), why };
    let file = path.display();

    // A file may hold a shared parameter under one of its paths only.
    let present: HashSet<usize> =
        parameters.iter().filter(|(name, _)| arrays.contains_key(*name)).map(|(_, p)| p.identity()).collect();
    if !options.allow_missing
        && let Some((name, _)) = parameters.iter().find(|(_, p)| !present.contains(&p.identity()))
    {
        let why = format!(
            "it is missing in {file}, which has {}; LoadOptions {{ allow_missing: true, .. }} leaves it as it is",
            names(&arrays)
        );
        return Err(fail(name, why));
    }
    let known: HashSet<&str> = parameters.paths().into_iter().collect();
    if !options.ignore_extra
        && let Some(name) = sorted(&arrays).into_iter().find(|name| !known.contains(name))
    {
        let why = format!(
            "it is in {file}, but the network has no such parameter; LoadOptions {{ ignore_extra: true, .. }} ignores it"
        );
        return Err(fail(name, why));
    }

    // Everything is checked and on the device before the first parameter changes.
    let mut loaded: Vec<(&Parameter<B>, Tensor<B>)> = Vec::new();
    for (name, parameter) in parameters.iter() {
        let Some(array) = arrays.get(name) else { continue };
        let shape = parameter.partial_shape();
        if shape.len() != array.shape.len() || shape.iter().zip(&*array.shape).any(|(a, b)| a.is_some_and(|a| a != *b))
        {
            return Err(fail(name, format!("its shape {:?} in {file} does not fit {parameter}", array.shape)));
        }
        let dtype = parameter.dtype();
        if array.dtype != dtype && !options.cast_dtype {
            let why = format!(
                "it is {} in {file}, but {dtype} in the network; LoadOptions {{ cast_dtype: true, .. }} converts it",
                array.dtype
            );
            return Err(fail(name, why));
        }
        let target = parameter.contexts().into_iter().next().unwrap_or_else(|| ctx.clone());
        loaded.push((parameter, Tensor::from_host(&target, array)?.cast(dtype)?));
    }
    loaded.iter().try_for_each(|(parameter, data)| parameter.set_data(data))
}

fn sorted(arrays: &HashMap<String, HostArray>) -> Vec<&str> {
    let mut names: Vec<&str> = arrays.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn names(arrays: &HashMap<String, HostArray>) -> String {
    let all = sorted(arrays);
    let more = if all.len() > 8 { format!(" and {} more", all.len() - 8) } else { String::new() };
    format!("{}{more}", all[..all.len().min(8)].join(", "))
}
