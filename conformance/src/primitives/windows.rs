//! Convolution and pooling: any kernel, stride, padding, dilation and number of groups, along one to three axes.

use super::{
    Launch, Region,
    cases::{any, region_of},
    check,
};
use crate::{
    case::{Checked, Environment},
    numbers::{Domain, Numbers},
    suite::total,
};
use isograd_core::{Backend, Layout, Pool, Window};

fn window(n: &mut Numbers, axes: usize) -> Window {
    let mut w = Window::new(&vec![1; axes]);
    // Kernels of one element, and those of 3 with stride 1, have implementations of their own.
    let common = n.below(3) == 0;
    for a in 0..axes {
        (w.kernel[a], w.stride[a]) = if common { (3, 1) } else { (1 + n.below(4), 1 + n.below(3)) };
        (w.padding[a], w.dilation[a]) = (n.below(w.kernel[a]), if common { 1 } else { 1 + n.below(3) });
    }
    w
}

/// Axes, and the sizes of an input that some windows fit in.
fn spatial(e: &Environment<'_>, n: &mut Numbers, w: &Window) -> Vec<usize> {
    let room = [0, 20, 6, 3][w.axes()] * e.size / 400;
    (0..w.axes()).map(|a| w.extent(a) + n.below(room + 1)).collect()
}

fn windows(w: &Window, sizes: &[usize], ceil: bool) -> Vec<usize> {
    (0..w.axes()).map(|a| w.count(a, sizes[a], ceil).expect("the window fits")).collect()
}

/// Convolution and pooling are asked for dense outputs only, the ones that core gives them.
fn dense(e: &Environment<'_>, shape: &[usize]) -> Region {
    Region::output(e.dtype, Layout::contiguous(shape))
}

pub(super) fn conv(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let axes = n.pick(&[1, 2, 2, 2, 3]);
    let mut w = window(n, axes);
    let (batch, mut per, mut outs) = (1 + n.below(2), n.pick(&[1, 2, 3]), n.pick(&[1, 2, 4]));
    match n.below(4) {
        0 => w.groups = 2 + n.below(2),
        // Depthwise.
        1 => (w.groups, per) = (n.pick(&[4, 9]), 1),
        // More channels than a vector has lanes.
        2 => (per, outs) = (n.pick(&[5, 17]), n.pick(&[7, 18])),
        _ => (),
    }
    let sizes = spatial(e, n, &w);
    conv_of(e, n, w, [batch, per, outs], &sizes, Domain::Any)
}

/// The convolution of so many images, with input and output channels per group and weights of a domain, and its two gradients.
fn conv_of(
    e: &Environment<'_>,
    n: &mut Numbers,
    w: Window,
    [batch, per, outs]: [usize; 3],
    sizes: &[usize],
    weights: Domain,
) -> Checked {
    let whole = |first: usize, second: usize, rest: &[usize]| [&[first, second], rest].concat();
    let x = whole(batch, per * w.groups, sizes);
    let k = whole(outs * w.groups, per, &w.kernel);
    let y = whole(batch, outs * w.groups, &windows(&w, sizes, false));
    let layout = any(n, &k);
    let weight = Region::input(n, e.dtype, layout, weights);
    let (input, head) = (region_of(e, n, &x), region_of(e, n, &y));
    let (to_y, to_x, to_k) = (dense(e, &y), dense(e, &x), dense(e, &k));
    total([
        check(e, &Launch::Conv(w.clone()), &[input.clone(), weight.clone()], &[to_y]),
        check(e, &Launch::ConvInputGradient(w.clone()), &[head.clone(), weight], &[to_x]),
        check(e, &Launch::ConvWeightGradient(w), &[input, head], &[to_k]),
    ])
}

/// Sums of more terms than one chunk has: over channels and taps, over output channels and taps, of which some meet no window,
/// over taps alone, and over images and positions. And of few where, on exact devices, zeros that are not in memory meet
/// infinite weights.
pub(super) fn long(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let cut = |channels: usize| (channels * e.size / 400).max(1);
    let window = |kernel: &[usize], stride: usize, padding: usize, groups: usize| {
        let axes = kernel.len();
        let (stride, padding) = (vec![stride; axes][..].into(), vec![padding; axes][..].into());
        Window { stride, padding, groups, ..Window::new(kernel) }
    };
    // One in nineteen, so that filters of eighteen have it at different taps.
    const UNBOUNDED: Domain = Domain::Values(&[
        0.5,
        -1.25,
        0.75,
        2.0,
        -0.5,
        1.5,
        0.25,
        f64::INFINITY,
        -0.75,
        1.0,
        0.125,
        -2.0,
        1.25,
        0.5,
        -1.5,
        0.375,
        1.75,
        -0.25,
        0.625,
    ]);
    let unbounded = if e.ctx.capabilities().exact { UNBOUNDED } else { Domain::Any };
    total([
        conv_of(e, n, window(&[3, 3], 1, 1, 1), [1, cut(31), cut(9)], &[7, 6], Domain::Any),
        conv_of(e, n, window(&[3, 2], 2, 2, 1), [1, cut(9), cut(46)], &[9, 8], Domain::Any),
        conv_of(e, n, window(&[17, 16], 1, 3, 3), [1, 1, 1], &[16, 17], Domain::Any),
        conv_of(e, n, window(&[3], 2, 1, 1), [3, 2, cut(10)], &[350], Domain::Any),
        conv_of(e, n, window(&[3, 3], 2, 1, 1), [1, 2, cut(9)], &[6, 7], unbounded),
        conv_of(e, n, window(&[2, 3], 1, 1, 3), [1, 1, 1], &[5, 9], unbounded),
    ])
}

pub(super) fn pool(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let axes = n.pick(&[1, 2, 2, 2, 3]);
    let mut w = window(n, axes);
    w.dilation.iter_mut().for_each(|d| *d = 1);
    let (sizes, ceil) = (spatial(e, n, &w), n.below(2) == 0);
    let (x, y) = ([&[2, 2], &sizes[..]].concat(), [&[2, 2], &windows(&w, &sizes, ceil)[..]].concat());
    let kinds = [Pool::Max, Pool::AvgWithPadding, Pool::AvgWithoutPadding];
    total(kinds.iter().flat_map(|&kind| {
        let (layout, domain) = (any(n, &x), n.pick(&[Domain::Any, Domain::Ties, Domain::Range(-9.0, -1.0, &[])]));
        let input = Region::input(n, e.dtype, layout, domain);
        let head = region_of(e, n, &y);
        let (to_y, to_x) = (dense(e, &y), dense(e, &x));
        [
            check(e, &Launch::Pool(kind, w.clone()), std::slice::from_ref(&input), &[to_y]),
            check(e, &Launch::PoolGradient(kind, w.clone()), &[input, head], &[to_x]),
        ]
    }))
}
