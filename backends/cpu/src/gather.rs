//! `gather`, cut along the first axis, and `scatter_add`, which stays on one thread since its order matters.

use crate::{
    elementwise::{cut, pieces, splits},
    threads::{Threads, each},
};
use isograd_core::{
    Error, Result,
    host::{self, Input, Output},
};
use std::ops::Range;

/// Bytes that a piece copies.
const PIECE: usize = 1 << 17;

/// The host's kernels do not know the device's name.
fn named(result: Result<()>) -> Result<()> {
    result.map_err(|e| match e {
        Error::IndexOutOfRange { op, index, axis, size, .. } => {
            Error::IndexOutOfRange { op, index, axis, size, device: "cpu".into() }
        }
        other => other,
    })
}

struct Piece<'a> {
    rows: Range<usize>,
    output: Output<'a>,
    result: Result<()>,
}

pub(crate) fn gather(
    threads: Option<&Threads>,
    axis: usize,
    source: &Input<'_>,
    index: &Input<'_>,
    output: &mut Output<'_>,
) -> Result<()> {
    let layout = output.layout;
    let (count, row) = (layout.shape()[0], layout.size() / layout.shape()[0]);
    let at_once = (PIECE / (row * output.dtype.size())).max(1);
    if at_once >= count || splits([layout].into_iter()).is_none() {
        return named(host::gather(axis, source, index, output));
    }
    let rows = pieces(count, at_once);
    let elements: Vec<Range<usize>> = rows.iter().map(|r| r.start * row..r.end * row).collect();
    let mut work: Vec<Piece<'_>> = rows
        .into_iter()
        .zip(cut(output, &elements))
        .map(|(rows, output)| Piece { rows, output, result: Ok(()) })
        .collect();
    each(threads, &mut work, &|piece| {
        let (start, n) = (piece.rows.start, piece.rows.len());
        let part = |l: &isograd_core::Layout| l.slice(0, start, n, 1);
        let (i, o) = (part(index.layout), part(layout));
        let s = if axis == 0 { source.layout.clone() } else { part(source.layout) };
        let mut target =
            Output { bytes: piece.output.bytes, dtype: source.dtype, layout: &o, origin: piece.output.origin };
        piece.result =
            host::gather(axis, &Input { layout: &s, ..*source }, &Input { layout: &i, ..*index }, &mut target);
    });
    // The first fault in row order, whichever thread met it first.
    named(work.into_iter().try_for_each(|p| p.result))
}

pub(crate) fn scatter_add(axis: usize, source: &Input<'_>, index: &Input<'_>, output: &mut Output<'_>) -> Result<()> {
    named(host::scatter_add(axis, source, index, output))
}
