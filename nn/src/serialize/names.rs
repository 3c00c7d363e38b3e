//! Names in MXNet's files against the structural paths here.

use crate::ParameterDict;
use isograd_core::Backend;
use std::collections::{HashMap, HashSet};

/// The end of the path of a recurrent layer's parameter: `l0_i2h_weight`.
struct Cell<'a> {
    /// What comes before, up to a dot.
    block: &'a str,
    /// `l`, or `r` for one that runs backward.
    side: &'a str,
    layer: usize,
    /// `i2h_weight`.
    rest: &'a str,
}

fn is_weight(name: &str) -> bool {
    let gates = name.strip_suffix("_weight").or_else(|| name.strip_suffix("_bias"));
    gates.is_some_and(|g| ["i2h", "h2h", "h2r"].contains(&g))
}

fn cell(path: &str) -> Option<Cell<'_>> {
    let (block, name) = path.split_at(path.rfind('.').map_or(0, |dot| dot + 1));
    let (place, rest) = name.split_once('_')?;
    let (side, layer) = place.split_at_checked(1)?;
    let layer = layer.parse().ok()?;
    (["l", "r"].contains(&side) && is_weight(rest)).then_some(Cell { block, side, layer, rest })
}

/// How Gluon saves recurrent layers: as stacks of cells, `<block>._unfused.<layer>.i2h_weight`, of which a bidirectional one has
/// an `l_cell` and an `r_cell`.
pub struct Unfused {
    bidirectional: HashSet<String>,
}

impl Unfused {
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Unfused {
        let backward = paths.into_iter().filter_map(cell).filter(|c| c.side == "r");
        Unfused { bidirectional: backward.map(|c| c.block.to_string()).collect() }
    }

    /// What Gluon calls the parameter at `path`.
    pub fn name(&self, path: &str) -> String {
        let Some(Cell { block, side, layer, rest }) = cell(path) else { return path.to_string() };
        let inner = if self.bidirectional.contains(block) { format!("{side}_cell.") } else { String::new() };
        format!("{block}_unfused.{layer}.{inner}{rest}")
    }
}

/// The block, layer, side and rest of a name that [`Unfused::name`] gives.
fn unfused(name: &str) -> Option<(&str, usize, &str, &str)> {
    let (block, stack) = name.split_once("_unfused.")?;
    let (at, rest) = stack.split_once('.')?;
    let (side, rest) = match rest.split_once("_cell.") {
        Some((side @ ("l" | "r"), rest)) => (side, rest),
        Some(_) => return None,
        None => ("l", rest),
    };
    is_weight(rest).then_some((block, at.parse().ok()?, side, rest))
}

/// Renames what Gluon calls cells to the paths here.
fn fuse<T>(found: &mut [(String, T)]) {
    for (name, _) in found {
        if let Some((block, layer, side, rest)) = unfused(name) {
            *name = format!("{block}{side}{layer}_{rest}");
        }
    }
}

/// Numbers every kind of layer in `names` from 0 in order: `conv4_weight, conv5_weight` becomes `conv0_weight, conv1_weight`. The
/// numbers that Gluon gives depend on what the process made before.
fn renumber<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut seen: HashMap<String, Vec<String>> = HashMap::new();
    let rename = |name: &str| {
        name.split('_').fold(String::new(), |mut renamed, part| {
            let kind = part.trim_end_matches(|c: char| c.is_ascii_digit());
            renamed += if renamed.is_empty() { "" } else { "_" };
            renamed += kind;
            if !kind.is_empty() && kind.len() < part.len() {
                let numbers = seen.entry(renamed.clone()).or_default();
                let number = part[kind.len()..].to_string();
                let at = numbers.iter().position(|n| *n == number).unwrap_or_else(|| {
                    numbers.push(number);
                    numbers.len() - 1
                });
                renamed += &at.to_string();
            } else {
                renamed += &part[kind.len()..];
            }
            renamed
        })
    };
    names.into_iter().map(rename).collect()
}

/// For each path of `parameters` the name by which the arrays `found` have it: the path, or Gluon's name, or, where no name of
/// the file is known here, Gluon's name but for the numbers. Names of recurrent layers are made paths.
pub fn matching<B: Backend, T>(parameters: &ParameterDict<B>, found: &mut [(String, T)]) -> Vec<String> {
    fuse(found);
    let paths: Vec<String> = parameters.paths().into_iter().map(String::from).collect();
    let known: HashSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let hits = |names: &[String]| names.iter().any(|name| known.contains(name.as_str()));
    if found.is_empty() || hits(&paths) {
        return paths;
    }
    let names: Vec<String> = parameters.iter().map(|(_, parameter)| parameter.name()).collect();
    if hits(&names) {
        return names;
    }
    let (ours, theirs) =
        (renumber(names.iter().map(String::as_str)), renumber(found.iter().map(|(name, _)| name.as_str())));
    let by_kind: HashMap<&str, &str> = theirs.iter().map(String::as_str).zip(known_in_order(found)).collect();
    if !ours.iter().any(|name| by_kind.contains_key(name.as_str())) {
        return paths;
    }
    let name = |(path, ours): (String, &String)| by_kind.get(ours.as_str()).map_or(path, |name| name.to_string());
    paths.into_iter().zip(&ours).map(name).collect()
}

fn known_in_order<T>(found: &[(String, T)]) -> impl Iterator<Item = &str> {
    found.iter().map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recurrent_layers_are_stacks_of_cells_in_gluon() {
        let paths = ["0.l0_i2h_weight", "0.r0_h2h_bias", "1.l1_h2h_weight", "l0_i2h_bias", "2.weight", "2.l0_i2h"];
        let gluon = Unfused::of(paths);
        let names: Vec<String> = paths.iter().map(|path| gluon.name(path)).collect();
        let expected = [
            "0._unfused.0.l_cell.i2h_weight",
            "0._unfused.0.r_cell.h2h_bias",
            "1._unfused.1.h2h_weight",
            "_unfused.0.i2h_bias",
            "2.weight",
            "2.l0_i2h",
        ];
        assert_eq!(names, expected);
        let mut found: Vec<_> = names.into_iter().map(|name| (name, ())).collect();
        fuse(&mut found);
        assert_eq!(known_in_order(&found).collect::<Vec<_>>(), paths);
    }

    #[test]
    fn numbers_are_counted_by_kind() {
        let names = ["net3_conv4_weight", "net3_conv4_bias", "net3_conv2_weight", "conv4_weight", "lstm1_l0_i2h_bias"];
        let expected =
            ["net0_conv0_weight", "net0_conv0_bias", "net0_conv1_weight", "conv0_weight", "lstm0_l0_i2h_bias"];
        assert_eq!(renumber(names), expected);
    }
}
