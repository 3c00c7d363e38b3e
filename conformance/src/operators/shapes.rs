//! Rows of operators that move elements.

use super::{REAL, Rows, positions};
use isograd_core::{
    Result, Tensor,
    operators::{Index, PadMode, TakeMode},
};

pub(super) fn shapes(t: &mut Rows) {
    type One = fn(&Tensor) -> Result<Tensor>;
    // Each is squared, so that the second derivative goes through it as well.
    let rows: &[(&'static str, One)] = &[
        ("reshape", |x| x.reshape([3, -1])),
        ("reshape", |x| x.transpose(&[2, 0, 1])?.reshape([4, 3])),
        ("reshape", |x| x.reshape_codes(&[-3, -2])),
        ("flatten", |x| x.flatten()),
        ("transpose", |x| x.transpose(&[2, 0, 1])),
        ("transpose", |x| x.transpose(&[-1, 1, 0])?.slice(0, None, None, -1)),
        ("swapaxes", |x| x.swapaxes(0, -1)),
        ("expand_dims", |x| x.expand_dims(1)),
        ("squeeze", |x| x.expand_dims(0)?.squeeze(())),
        ("squeeze", |x| x.expand_dims(2)?.squeeze(2)),
        ("broadcast_to", |x| x.slice(1, Some(0), Some(1), 1)?.broadcast_to([3, 2, 4, 2])),
        ("slice", |x| x.slice(1, Some(-2), None, 1)),
        ("slice", |x| x.slice(1, None, None, -1)),
        ("slice", |x| x.slice(1, None, None, -2)?.slice(0, Some(1), None, 1)),
        ("slice", |x| x.slice(1, Some(2), Some(2), 1)),
        ("slice", |x| x.narrow(1, 1, 2)),
        ("slice", |x| x.select(1, -1)),
        ("slice", |x| x.index(&[Index::At(-1), Index::NewAxis, Index::Slice { start: None, stop: None, step: -1 }])),
        ("slice", |x| x.index(&[Index::Ellipsis, (0..1).into()])),
        ("concat", |x| Tensor::concat(&[x, &x.exp()?, x], 1)),
        ("concat", |x| Tensor::concat(&[&x.narrow(0, 0, 0)?, x], 0)),
        ("stack", |x| Tensor::stack(&[x, &x.sin()?], 0)),
        ("stack", |x| Tensor::stack(&[x, &x.sin()?], -1)),
        ("split", |x| {
            let parts = x.split(3, 1)?;
            parts[0].mul(&parts[2])
        }),
        ("split", |x| Ok(x.split_sizes(&[1, 2], 1)?.remove(1))),
        ("pad", |x| x.pad(&[(1, 0), (0, 2)], PadMode::Constant(0.5))),
        ("pad", |x| x.pad(&[(1, 2), (2, 1), (0, 1)], PadMode::Edge)),
        ("pad", |x| x.pad(&[(1, 0), (2, 2), (1, 1)], PadMode::Reflect)),
        ("flip", |x| x.flip(1)),
        ("flip", |x| x.flip(-1)?.flip(0)),
        ("tile", |x| x.tile(&[2, 1, 2])),
        ("tile", |x| x.tile(&[2, 1, 1, 3])),
        ("tile", |x| x.tile(&[2])),
        ("repeat", |x| x.repeat(3, 1)),
        ("repeat", |x| x.repeat(2, -1)),
        ("roll", |x| x.roll(1, 1)),
        ("roll", |x| x.roll(-5, -1)),
        ("slice", |x| x.tril(0)?.triu(-1)),
    ];
    for (i, &(name, f)) in rows.iter().enumerate() {
        t.add(name, format!("shape row {i}"), &[(&[2, 3, 2], REAL)], move |x| f(&x[0].exp()?)?.square());
        t.add(name, format!("shape row {i}, alone"), &[(&[2, 3, 2], REAL)], move |x| f(&x[0]));
    }
    t.add("concat", "two tensors", &[(&[2, 1], REAL), (&[2, 3], REAL)], |x| {
        Tensor::concat(&[&x[0], &x[1]], -1)?.square()
    });
}

pub(super) fn indices(t: &mut Rows) {
    for mode in [TakeMode::Raise, TakeMode::Clip, TakeMode::Wrap] {
        t.add("take", format!("{mode:?}"), &[(&[3, 2], REAL)], move |x| {
            let far = if mode == TakeMode::Raise { 2 } else { 7 };
            x[0].take(&positions(&x[0], &[0, far, -1, 0], &[2, 2])?, 0, mode)?.square()
        });
    }
    t.add("take", "axis -1", &[(&[2, 3], REAL)], |x| {
        x[0].take(&positions(&x[0], &[2, 2, 0], &[3])?, -1, TakeMode::Raise)
    });
    t.add("take", "rank 0 position", &[(&[2, 3], REAL)], |x| {
        x[0].take(&positions(&x[0], &[1], &[])?, 1, TakeMode::Raise)
    });
    t.add("embedding", "", &[(&[4, 2], REAL)], |x| x[0].embedding(&positions(&x[0], &[3, 0, 3], &[3])?)?.tanh());
    t.add("gather", "", &[(&[3, 3], REAL)], |x| {
        x[0].gather(0, &positions(&x[0], &[0, 2, -1, 1, 1, 1], &[2, 3])?)?.square()
    });
    t.add("gather", "fewer rows", &[(&[3, 3], REAL)], |x| {
        x[0].gather(1, &positions(&x[0], &[0, 2, 2, 1], &[1, 4])?)?.exp()
    });
    t.add("scatter_add", "", &[(&[3, 2], REAL), (&[4, 2], REAL)], |x| {
        let at = positions(&x[0], &[0, 1, 2, 1, 0, 0, -1, 1], &[4, 2])?;
        x[0].scatter_add(0, &at, &x[1].exp()?)?.square()
    });
    t.add("scatter_add", "fewer columns", &[(&[3, 3], REAL), (&[2, 2], REAL)], |x| {
        x[0].scatter_add(1, &positions(&x[0], &[0, 2, 1, 1], &[2, 2])?, &x[1])?.square()
    });
    t.add("pick", "", &[(&[3, 4], REAL)], |x| x[0].pick(&positions(&x[0], &[0, 3, 1], &[3])?, 1, false)?.exp());
    t.add("pick", "keepdims, axis 0", &[(&[3, 2], REAL)], |x| {
        x[0].square()?.pick(&positions(&x[0], &[2, 0], &[1, 2])?, 0, true)
    });
    for descending in [false, true] {
        t.add("sort", format!("{descending}"), &[(&[2, 4], REAL)], move |x| x[0].sort(1, descending)?.square());
    }
    t.add("sort", "axis 0 of a transposed view", &[(&[2, 4], REAL)], |x| x[0].t()?.sort(0, true)?.exp());
    t.add("topk", "largest", &[(&[2, 4], REAL)], |x| x[0].topk(2, -1, true)?.0.square());
    t.add("topk", "smallest, axis 0", &[(&[4, 2], REAL)], |x| x[0].topk(3, 0, false)?.0.exp());
    for axis in [0, 1] {
        t.add("sequence_mask", format!("axis {axis}"), &[(&[3, 3, 2], REAL)], move |x| {
            x[0].sequence_mask(&positions(&x[0], &[1, 3, 0], &[3])?, -1.0, axis)?.square()
        });
    }
}
