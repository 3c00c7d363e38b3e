//! `gather` and `scatter_add` on plain slices.

use super::{Input, Output, map::check};
use crate::{DType, Error, Layout, Result, Value};
use smallvec::SmallVec;

/// `layout` with `axis` last.
fn axis_last(layout: &Layout, axis: usize) -> Layout {
    let order: SmallVec<[usize; 6]> = (0..layout.rank()).filter(|&a| a != axis).chain([axis]).collect();
    layout.permute(&order)
}

fn out_of_range(op: &'static str, index: i64, axis: usize, size: usize) -> Error {
    Error::IndexOutOfRange { op, index, axis, size, device: "host".into() }
}

fn index_at(index: &[i64], at: usize, op: &'static str, axis: usize, size: usize) -> Result<usize> {
    let i = index[at];
    if i < 0 || i as usize >= size { Err(out_of_range(op, i, axis, size)) } else { Ok(i as usize) }
}

/// [`crate::Backend::gather`] on plain slices.
///
/// # Errors
/// [`Error::IndexOutOfRange`] for an index outside the source's axis; as [`super::map()`].
pub fn gather(axis: usize, source: &Input<'_>, index: &Input<'_>, output: &mut Output<'_>) -> Result<()> {
    check(&[*source, *index])?;
    let size = source.dtype.size();
    let indices: &[i64] = bytemuck::cast_slice(index.bytes);
    let n = source.layout.shape()[axis];
    let rank = output.layout.rank();
    // Rows: when everything after the axis is contiguous and the index the same for it, whole rows are copied.
    let row: usize = output.layout.shape()[axis + 1..].iter().product();
    let dense =
        |l: &Layout| Layout::new(&l.shape()[axis + 1..], &l.strides()[axis + 1..], usize::MAX / 4).is_contiguous();
    if row > 1
        && dense(source.layout)
        && dense(output.layout)
        && index.layout.strides()[axis + 1..].iter().all(|&s| s == 0)
    {
        let head =
            |l: &Layout| (axis + 1..rank).fold(l.clone(), |l, _| l.slice(axis + 1, 0, 1, 1).remove_axis(axis + 1));
        let (s, i, o) =
            (axis_last(&head(source.layout).slice(axis, 0, 1, 1), axis), head(index.layout), head(output.layout));
        let stride = source.layout.strides()[axis];
        let (i, o) = (axis_last(&i, axis), axis_last(&o, axis));
        let s = s.remove_axis(axis).insert_axis(axis, i.shape()[axis]);
        for ((s, i), o) in s.positions().zip(i.positions()).zip(o.positions()) {
            let from = (s as isize + index_at(indices, i, "gather", axis, n)? as isize * stride) as usize * size;
            let to = (o - output.origin) * size;
            output.bytes[to..to + row * size].copy_from_slice(&source.bytes[from..from + row * size]);
        }
        return Ok(());
    }
    let stride = source.layout.strides()[axis];
    let s = source.layout.slice(axis, 0, 1, 1).remove_axis(axis).insert_axis(axis, output.layout.shape()[axis]);
    for ((s, i), o) in s.positions().zip(index.layout.positions()).zip(output.layout.positions()) {
        let from = (s as isize + index_at(indices, i, "gather", axis, n)? as isize * stride) as usize * size;
        let to = (o - output.origin) * size;
        output.bytes[to..to + size].copy_from_slice(&source.bytes[from..from + size]);
    }
    Ok(())
}

/// [`crate::Backend::scatter_add`] on plain slices.
///
/// # Errors
/// As [`gather`].
pub fn scatter_add(axis: usize, source: &Input<'_>, index: &Input<'_>, output: &mut Output<'_>) -> Result<()> {
    check(&[*source, *index])?;
    let indices: &[i64] = bytemuck::cast_slice(index.bytes);
    let n = output.layout.shape()[axis];
    let stride = output.layout.strides()[axis];
    let o = output.layout.slice(axis, 0, 1, 1).remove_axis(axis).insert_axis(axis, source.layout.shape()[axis]);
    let walk = |f: &mut dyn FnMut(usize, usize)| -> Result<()> {
        for ((s, i), o) in source.layout.positions().zip(index.layout.positions()).zip(o.positions()) {
            let to = (o as isize + index_at(indices, i, "scatter_add", axis, n)? as isize * stride) as usize;
            f(s, to - output.origin);
        }
        Ok(())
    };
    // All indices are checked before anything is written.
    walk(&mut |_, _| {})?;
    macro_rules! add {
        ($type:ty, $add:expr) => {{
            let from: &[$type] = bytemuck::cast_slice(source.bytes);
            let to: &mut [$type] = bytemuck::cast_slice_mut(output.bytes);
            walk(&mut |s, o| to[o] = $add(to[o], from[s]))
        }};
    }
    match output.dtype {
        DType::F32 => add!(f32, |a: f32, b: f32| a + b),
        DType::F64 => add!(f64, |a: f64, b: f64| a + b),
        DType::I32 => add!(i32, i32::wrapping_add),
        DType::I64 => add!(i64, i64::wrapping_add),
        DType::U8 => add!(u8, u8::wrapping_add),
        DType::I8 => add!(i8, i8::wrapping_add),
        DType::Bool => add!(u8, |a: u8, b: u8| a | b),
        d @ (DType::F16 | DType::BF16) => {
            // Accumulated in f32 and rounded once.
            let (low, high) = output.layout.span();
            let mut wide: Vec<f32> =
                (low..high).map(|p| Value::read(d, output.bytes, p - output.origin).to_f64() as f32).collect();
            let base = low - output.origin;
            walk(&mut |s, o| wide[o - base] += Value::read(d, source.bytes, s).to_f64() as f32)?;
            for p in output.layout.positions() {
                Value::F32(wide[p - low]).cast(d).write(output.bytes, p - output.origin);
            }
            Ok(())
        }
    }
}
