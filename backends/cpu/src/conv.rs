//! Convolution and its gradients for f32 and f64 (f16 and bf16 by way of f32): windows are copied into the columns of a
//! matrix that fits in cache, and multiplied by the weight. A window of one element needs no copy; with one input channel
//! per group there is nothing to multiply, see [`crate::depthwise`].
//!
//! The unit of work is a [`Tile`]: some positions of one image, or all positions of some small images. Tiles depend on
//! sizes alone. What several tiles add up to is added in their order.

use crate::{
    Cpu, depthwise,
    elementwise::pieces,
    gemm::{Gemm, OWN_THREADS, Strided},
    math::Real,
    matmul::{elements_mut, narrow, widened},
    memory::{Buffer, POOL},
    rows::{contiguous, slice, slice_mut},
    sliding::Sliding,
    threads::{self, Shared},
};
use isograd_core::{
    DType, Operand, OperandMut, Result, Shape, Window,
    backend::{composed, launch::Temporary},
};
use std::{marker::PhantomData, ops::Range, sync::Mutex};

/// Elements of the columns of a tile, but for long columns.
const COLUMNS: usize = 1 << 17;

/// Positions of a tile, at least, where there are so many.
const LEAST_POSITIONS: usize = 256;

/// Sizes, per group where groups matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub groups: usize,
    /// Input channels of a group.
    pub inputs: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub sliding: Sliding,
}

impl Sizes {
    fn new(window: &Window, input: &Shape, output: &Shape) -> Option<Sizes> {
        let sliding = Sliding::new(window, &input[2..], &output[2..])?;
        let (groups, batch) = (window.groups, output[0]);
        let s = Sizes { batch, groups, inputs: input[1] / groups, outputs: output[1] / groups, sliding };
        let factors = [batch, s.inputs, s.outputs, sliding.taps(), sliding.positions(), sliding.size()];
        (!factors.contains(&0)).then_some(s)
    }

    /// Elements of one image of the input.
    pub fn image(&self) -> usize {
        self.groups * self.inputs * self.sliding.size()
    }

    /// Elements of one image of the output.
    pub fn result(&self) -> usize {
        self.groups * self.outputs * self.sliding.positions()
    }

    /// The tiles over `images`, for columns of `rows` elements.
    fn tiles(&self, images: Range<usize>, rows: usize) -> Vec<Tile> {
        let positions = self.sliding.positions();
        let most = (COLUMNS / rows).max(LEAST_POSITIONS);
        if positions * 2 <= most {
            let at_once = most / positions;
            let starts = images.clone().step_by(at_once);
            return starts.map(|i| Tile { images: i..images.end.min(i + at_once), positions: 0..positions }).collect();
        }
        let at_once = positions.div_ceil(positions.div_ceil(most));
        images
            .flat_map(|i| pieces(positions, at_once).into_iter().map(move |p| Tile { images: i..i + 1, positions: p }))
            .collect()
    }
}

/// Some positions of an image, or all those of several images.
#[derive(Clone, Debug)]
struct Tile {
    images: Range<usize>,
    positions: Range<usize>,
}

impl Tile {
    fn width(&self) -> usize {
        self.images.len() * self.positions.len()
    }

    /// For each image its number and where its positions begin among those of the tile.
    fn parts(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.positions.len();
        self.images.clone().enumerate().map(move |(i, image)| (image, i * count))
    }
}

/// Pooled memory for elements of T.
struct Scratch<T> {
    buffer: Buffer,
    of: PhantomData<T>,
}

impl<T: Gemm> Scratch<T> {
    fn new(len: usize) -> Result<Scratch<T>> {
        Ok(Scratch { buffer: POOL.alloc(len * size_of::<T>())?, of: PhantomData })
    }
    fn get(&mut self) -> &mut [T] {
        elements_mut(&mut self.buffer)
    }
}

/// Runs `f` on every task, and gives the first error if there is one.
fn run<K: Send>(cpu: &Cpu, tasks: &mut [K], f: impl Fn(&mut K) -> Result<()> + Sync) -> Result<()> {
    if OWN_THREADS {
        return tasks.iter_mut().try_for_each(f);
    }
    let failed = Mutex::new(None);
    threads::each(cpu.threads(), tasks, &|task| {
        if let Err(e) = f(task) {
            *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(e);
        }
    });
    failed.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
}

/// Copies the windows of `channels` of a tile to `columns`: a row per channel and tap, a column per position.
fn fill_columns<T: Real>(s: &Sizes, x: &[T], tile: &Tile, channels: Range<usize>, columns: &mut [T]) {
    let (size, taps, width, step) = (s.sliding.size(), s.sliding.taps(), tile.width(), s.sliding.step());
    for (image, shift) in tile.parts() {
        for (i, channel) in channels.clone().enumerate() {
            let plane = &x[image * s.image() + channel * size..][..size];
            for tap in 0..taps {
                let row = &mut columns[(i * taps + tap) * width + shift..][..tile.positions.len()];
                s.sliding.stretches(tap, tile.positions.clone(), |windows, place| match place {
                    None => row[windows].fill(T::ZERO),
                    Some(at) if step == 1 => {
                        let count = windows.len();
                        row[windows].copy_from_slice(&plane[at..at + count]);
                    }
                    Some(at) => {
                        row[windows].iter_mut().zip(plane[at..].iter().step_by(step)).for_each(|(c, &v)| *c = v);
                    }
                });
            }
        }
    }
}

/// The rows `channels` of a tile of an array shaped like the output, and the distance between them: where they lie, or
/// for several images a copy in `scratch`.
fn result_rows<T: Gemm>(
    s: &Sizes,
    y: &[T],
    tile: &Tile,
    channels: Range<usize>,
    scratch: &mut [T],
) -> (*const T, isize) {
    let positions = s.sliding.positions();
    if tile.images.len() == 1 {
        let first = tile.images.start * s.result() + channels.start * positions + tile.positions.start;
        return (y[first..].as_ptr(), positions as isize);
    }
    let width = tile.width();
    for (image, shift) in tile.parts() {
        for (i, channel) in channels.clone().enumerate() {
            scratch[i * width + shift..][..positions]
                .copy_from_slice(&y[image * s.result() + channel * positions..][..positions]);
        }
    }
    (scratch.as_ptr(), width as isize)
}

fn forward<T: Gemm + Real>(cpu: &Cpu, s: &Sizes, x: &[T], w: &[T], y: &mut [T]) -> Result<()> {
    // What the unsafe code below relies on.
    assert!(x.len() == s.batch * s.image() && y.len() == s.batch * s.result());
    let (taps, size, positions) = (s.sliding.taps(), s.sliding.size(), s.sliding.positions());
    let rows = s.inputs * taps;
    assert_eq!(w.len(), s.groups * s.outputs * rows);
    let direct = s.sliding.is_identity() && positions >= 64;
    let tiles = if direct { s.tiles(0..s.batch, COLUMNS / positions) } else { s.tiles(0..s.batch, rows) };
    let mut tasks: Vec<(usize, Tile)> = (0..s.groups).flat_map(|g| tiles.iter().map(move |t| (g, t.clone()))).collect();
    let results = Shared::new(y);
    run(cpu, &mut tasks, |(group, tile)| {
        let (outputs, inputs) = (*group * s.outputs, *group * s.inputs);
        let weight = Strided::new(w[outputs * rows..].as_ptr(), rows as isize, 1);
        let place = |image: usize| results.at(image * s.result() + outputs * positions + tile.positions.start);
        if direct {
            for image in tile.images.clone() {
                let plane = &x[image * s.image() + inputs * size + tile.positions.start..];
                let size = [s.outputs, rows, tile.positions.len()];
                let b = Strided::new(plane.as_ptr(), positions as isize, 1);
                // SAFETY: the window being the identity, the input's planes have a row per channel, of which the tile's
                // positions are columns; the result's likewise, and no other task writes them.
                unsafe { T::gemm(size, weight, b, Strided::new(place(image), positions as isize, 1), false) };
            }
            return Ok(());
        }
        let width = tile.width();
        let mut scratch = Scratch::<T>::new(rows * width)?;
        fill_columns(s, x, tile, inputs..inputs + s.inputs, scratch.get());
        let columns = Strided::new(scratch.get().as_ptr(), width as isize, 1);
        let size = [s.outputs, rows, width];
        if tile.images.len() == 1 {
            let c = Strided::new(place(tile.images.start), positions as isize, 1);
            // SAFETY: the columns are rows by width, the weight outputs by rows; the task's rows of the result lie within
            // y, and no other task writes them.
            unsafe { T::gemm(size, weight, columns, c, false) };
            return Ok(());
        }
        let mut product = Scratch::<T>::new(s.outputs * width)?;
        let c = Strided::new(product.get().as_mut_ptr(), width as isize, 1);
        // SAFETY: as above, and the product is outputs by width.
        unsafe { T::gemm(size, weight, columns, c, false) };
        for (image, shift) in tile.parts() {
            for channel in 0..s.outputs {
                let from = &product.get()[channel * width + shift..][..positions];
                let to = place(image).wrapping_add(channel * positions);
                // SAFETY: `to` is the start of a plane of the result that only this task writes.
                unsafe { std::slice::from_raw_parts_mut(to, positions) }.copy_from_slice(from);
            }
        }
        Ok(())
    })
}

/// How many input channels a task of the gradients takes: enough that its columns have many rows.
fn channels_at_once(s: &Sizes) -> usize {
    512usize.div_ceil(s.sliding.taps()).min(s.inputs)
}

fn input_gradient<T: Gemm + Real>(cpu: &Cpu, s: &Sizes, head: &[T], w: &[T], out: &mut [T]) -> Result<()> {
    let (taps, size, positions, step) = (s.sliding.taps(), s.sliding.size(), s.sliding.positions(), s.sliding.step());
    assert!(out.len() == s.batch * s.image() && head.len() == s.batch * s.result());
    assert_eq!(w.len(), s.groups * s.outputs * s.inputs * taps);
    let chunk = channels_at_once(s);
    // Images that share tiles are one task, since a task owns the planes that it adds to.
    let images = (LEAST_POSITIONS / positions).max(1);
    let mut tasks = Vec::new();
    for images in pieces(s.batch, images) {
        for group in 0..s.groups {
            tasks.extend(pieces(s.inputs, chunk).into_iter().map(|channels| (images.clone(), group, channels)));
        }
    }
    let results = Shared::new(out);
    run(cpu, &mut tasks, |(images, group, channels)| {
        let rows = channels.len() * taps;
        let outputs = *group * s.outputs..(*group + 1) * s.outputs;
        // Column `channel, tap` of the weight becomes a row.
        let weight = &w[(outputs.start * s.inputs + channels.start) * taps..];
        let weight = Strided::new(weight.as_ptr(), 1, (s.inputs * taps) as isize);
        let plane = |image: usize, channel: usize| {
            let start = image * s.image() + (*group * s.inputs + channel) * size;
            // SAFETY: a plane of the result, all of which lie within `out`; no other task has it, and this one lets go of
            // each before it asks for the next.
            unsafe { std::slice::from_raw_parts_mut(results.at(start), size) }
        };
        for image in images.clone() {
            channels.clone().for_each(|c| plane(image, c).fill(T::ZERO));
        }
        let tiles = s.tiles(images.clone(), rows);
        let widest = tiles.iter().map(Tile::width).max().unwrap_or(1);
        let (mut columns, mut heads) = (Scratch::<T>::new(rows * widest)?, Scratch::<T>::new(s.outputs * widest)?);
        for tile in &tiles {
            let width = tile.width();
            let (head, stride) = result_rows(s, head, tile, outputs.clone(), heads.get());
            let c = Strided::new(columns.get().as_mut_ptr(), width as isize, 1);
            // SAFETY: the weight's part is rows by outputs, the heads outputs by width, the columns rows by width.
            unsafe { T::gemm([rows, s.outputs, width], weight, Strided::new(head, stride, 1), c, false) };
            let columns = &*columns.get();
            for (image, shift) in tile.parts() {
                for (i, channel) in channels.clone().enumerate() {
                    let plane = plane(image, channel);
                    for tap in 0..taps {
                        let row = &columns[(i * taps + tap) * width + shift..];
                        s.sliding.stretches(tap, tile.positions.clone(), |windows, place| {
                            let Some(at) = place else { return };
                            let (row, plane) = (&row[windows], &mut plane[at..]);
                            if step == 1 {
                                plane.iter_mut().zip(row).for_each(|(p, &v)| *p = p.add(v));
                            } else {
                                plane.iter_mut().step_by(step).zip(row).for_each(|(p, &v)| *p = p.add(v));
                            }
                        });
                    }
                }
            }
        }
        Ok(())
    })
}

/// Parts that the batch is cut into, each of which adds up its own share of the weight's gradient.
const SHARES: usize = 16;

fn weight_gradient<T: Gemm + Real>(cpu: &Cpu, s: &Sizes, x: &[T], head: &[T], out: &mut [T]) -> Result<()> {
    let taps = s.sliding.taps();
    let weight = s.groups * s.outputs * s.inputs * taps;
    assert!(x.len() == s.batch * s.image() && head.len() == s.batch * s.result() && out.len() == weight);
    let chunk = channels_at_once(s);
    let at_once = (LEAST_POSITIONS / s.sliding.positions()).max(1).max(s.batch.div_ceil(SHARES));
    let images = pieces(s.batch, at_once);
    let mut shares = Scratch::<T>::new(images.len() * weight)?;
    let mut tasks = Vec::new();
    for (share, images) in images.iter().enumerate() {
        for group in 0..s.groups {
            tasks.extend(pieces(s.inputs, chunk).into_iter().map(|channels| (share, images.clone(), group, channels)));
        }
    }
    let results = Shared::new(shares.get());
    run(cpu, &mut tasks, |(share, images, group, channels)| {
        let rows = channels.len() * taps;
        let outputs = *group * s.outputs..(*group + 1) * s.outputs;
        let c = results.at(*share * weight + (outputs.start * s.inputs + channels.start) * taps);
        let c = Strided::new(c, (s.inputs * taps) as isize, 1);
        let tiles = s.tiles(images.clone(), rows);
        let widest = tiles.iter().map(Tile::width).max().unwrap_or(1);
        let (mut columns, mut heads) = (Scratch::<T>::new(rows * widest)?, Scratch::<T>::new(s.outputs * widest)?);
        let first = *group * s.inputs + channels.start;
        for (i, tile) in tiles.iter().enumerate() {
            let width = tile.width();
            fill_columns(s, x, tile, first..first + channels.len(), columns.get());
            let (head, stride) = result_rows(s, head, tile, outputs.clone(), heads.get());
            let b = Strided::new(columns.get().as_ptr(), 1, width as isize);
            // SAFETY: the heads are outputs by width, the columns, seen as their transpose, width by rows; the task's
            // columns of its share lie within the shares, and no other task writes them.
            unsafe { T::gemm([s.outputs, width, rows], Strided::new(head, stride, 1), b, c, i > 0) };
        }
        Ok(())
    })?;
    // Neighbours are added in pairs, then the pairs, and so on.
    let shares = shares.get();
    let mut distance = 1;
    while distance < images.len() {
        for i in (0..images.len() - distance).step_by(2 * distance) {
            let (left, right) = shares.split_at_mut((i + distance) * weight);
            let pairs = left[i * weight..(i + 1) * weight].iter_mut().zip(&right[..weight]);
            pairs.for_each(|(a, &b)| *a = a.add(b));
        }
        distance *= 2;
    }
    out.copy_from_slice(&shares[..weight]);
    Ok(())
}

/// Which of the three kernels: what the operands of the common part are.
#[derive(Clone, Copy)]
enum Kernel {
    /// Of input and weight.
    Forward,
    /// Of head and weight.
    InputGradient,
    /// Of input and head.
    WeightGradient,
}

fn dispatch<T: Gemm + Real>(
    cpu: &Cpu,
    kernel: Kernel,
    s: &Sizes,
    a: &Operand<'_, Cpu>,
    b: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    let copies = (contiguous(cpu, a)?, contiguous(cpu, b)?);
    let (a, b) = (
        slice(&copies.0.as_ref().map_or(*a, Temporary::operand)),
        slice(&copies.1.as_ref().map_or(*b, Temporary::operand)),
    );
    let out: &mut [T] = slice_mut(output);
    match (kernel, s.inputs) {
        (Kernel::Forward, 1) if s.outputs < 8 => depthwise::forward(cpu, s, a, b, out),
        (Kernel::InputGradient, 1) if s.outputs < 8 => depthwise::input_gradient(cpu, s, a, b, out),
        (Kernel::WeightGradient, 1) if s.outputs < 8 => depthwise::weight_gradient(cpu, s, a, b, out),
        (Kernel::Forward, _) => return forward(cpu, s, a, b, out),
        (Kernel::InputGradient, _) => return input_gradient(cpu, s, a, b, out),
        (Kernel::WeightGradient, _) => return weight_gradient(cpu, s, a, b, out),
    }
    Ok(())
}

/// Runs a kernel if it can be done here; `input` and `result` are the shapes of input and output of the convolution.
#[allow(clippy::too_many_arguments)]
fn start(
    cpu: &Cpu,
    kernel: Kernel,
    window: &Window,
    input: &Shape,
    result: &Shape,
    a: &Operand<'_, Cpu>,
    b: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Option<Result<()>> {
    if !a.dtype.is_float() || !output.layout.is_contiguous() {
        return None;
    }
    let s = Sizes::new(window, input, result)?;
    Some(match a.dtype {
        DType::F32 => dispatch::<f32>(cpu, kernel, &s, a, b, output),
        DType::F64 => dispatch::<f64>(cpu, kernel, &s, a, b, output),
        _ => by_f32(cpu, kernel, &s, a, b, output),
    })
}

fn by_f32(
    cpu: &Cpu,
    kernel: Kernel,
    s: &Sizes,
    a: &Operand<'_, Cpu>,
    b: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    let ((a, a_layout), (b, b_layout)) = (widened(cpu, a)?, widened(cpu, b)?);
    let mut wide = Temporary::new(cpu, DType::F32, output.shape().clone())?;
    dispatch::<f32>(cpu, kernel, s, &a.through(&a_layout), &b.through(&b_layout), &mut wide.operand_mut())?;
    narrow(cpu, &wide.operand(), output)
}

/// See [`isograd_core::Backend::conv`].
pub(crate) fn conv(
    cpu: &Cpu,
    window: &Window,
    input: &Operand<'_, Cpu>,
    weight: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    let result = output.shape().clone();
    start(cpu, Kernel::Forward, window, input.shape(), &result, input, weight, output)
        .unwrap_or_else(|| composed::conv(cpu, window, input, weight, output))
}

/// See [`isograd_core::Backend::conv_input_gradient`].
pub(crate) fn conv_input_gradient(
    cpu: &Cpu,
    window: &Window,
    head: &Operand<'_, Cpu>,
    weight: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    let input = output.shape().clone();
    start(cpu, Kernel::InputGradient, window, &input, head.shape(), head, weight, output)
        .unwrap_or_else(|| composed::conv_input_gradient(cpu, window, head, weight, output))
}

/// See [`isograd_core::Backend::conv_weight_gradient`].
pub(crate) fn conv_weight_gradient(
    cpu: &Cpu,
    window: &Window,
    input: &Operand<'_, Cpu>,
    head: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    start(cpu, Kernel::WeightGradient, window, input.shape(), head.shape(), input, head, output)
        .unwrap_or_else(|| composed::conv_weight_gradient(cpu, window, input, head, output))
}
