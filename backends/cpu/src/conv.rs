//! Convolution and its gradients for f32 and f64 (f16 and bf16 by way of f32), as products whose factors are packed straight
//! from the arrays: a column of the right factor is a window. The input gradient is the convolution of the head, spread out by the
//! stride, with the weight, its taps reversed and its channels exchanged. With one input channel per group there is hardly
//! anything to multiply, see [`crate::depthwise`].

use crate::{
    Cpu, depthwise,
    gemm::{self, Products, Scratch, Strided},
    math::Real,
    matmul::{narrow, widened},
    rows::{contiguous, slice, slice_mut},
    sliding::Sliding,
    threads::Shared,
};
use isograd_core::{
    DType, Operand, OperandMut, Result, Shape, Window,
    backend::{DotProduct, composed, launch::Temporary},
};
use std::ops::Range;

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

    /// Elements of the weight.
    fn weights(&self) -> usize {
        self.groups * self.outputs * self.inputs * self.sliding.taps()
    }

    /// Whether planes are convolved one by one.
    fn is_depthwise(&self) -> bool {
        self.inputs == 1 && self.outputs < 8 && self.sliding.taps() <= DotProduct::CHUNK
    }

    /// The parts of `range`, a range of positions of all images one after another: image, positions, and where they begin in
    /// `range`.
    fn images(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
        let positions = self.sliding.positions();
        let mut at = range.start;
        std::iter::from_fn(move || {
            let (image, first) = (at / positions, at % positions);
            let count = (positions - first).min(range.end - at);
            let part = (image, first..first + count, at - range.start);
            at += count;
            (count > 0).then_some(part)
        })
    }
}

/// Output channels by positions of all images: the weight's rows times windows.
struct Forward<'a, T> {
    s: &'a Sizes,
    x: &'a [T],
    w: &'a [T],
    y: Shared<T>,
}

// SAFETY: a column is a position of an image, its elements are one per output channel, `positions` apart, in the output that is
// borrowed for them alone.
unsafe impl<T: Real> Products<T> for Forward<'_, T> {
    fn count(&self) -> usize {
        self.s.groups
    }
    fn size(&self) -> [usize; 3] {
        let s = self.s;
        [s.outputs, s.inputs * s.sliding.taps(), s.batch * s.sliding.positions()]
    }
    fn left(&self, i: usize, terms: Range<usize>, rows: Range<usize>, out: &mut [T]) {
        let [m, k, _] = self.size();
        let height = rows.len();
        Strided { data: self.w, start: i * m * k, lane: k as isize, term: 1 }.pack(terms, rows, height, out);
    }
    fn right(&self, i: usize, terms: Range<usize>, columns: Range<usize>, width: usize, out: &mut [T]) {
        let Sizes { inputs, sliding, .. } = self.s;
        let (taps, size, step, depth) = (sliding.taps(), sliding.size(), sliding.step(), terms.len());
        for (image, positions, start) in self.s.images(columns) {
            for (t, term) in terms.clone().enumerate() {
                let plane = &self.x[image * self.s.image() + (i * inputs + term / taps) * size..][..size];
                sliding.stretches(term % taps, positions.clone(), |windows, place| {
                    let (mut column, end) = (start + windows.start, start + windows.end);
                    let mut from = place;
                    while column < end {
                        // As far as the panel goes.
                        let count = (width - column % width).min(end - column);
                        let out = &mut out[(column / width * depth + t) * width + column % width..][..count];
                        match &mut from {
                            None => out.fill(T::ZERO),
                            Some(at) => {
                                if step == 1 {
                                    out.copy_from_slice(&plane[*at..*at + count]);
                                } else {
                                    out.iter_mut().zip(plane[*at..].iter().step_by(step)).for_each(|(o, &v)| *o = v);
                                }
                                *at += count * step;
                            }
                        }
                        column += count;
                    }
                });
            }
        }
    }
    fn column(&self, i: usize, column: usize) -> *mut T {
        let positions = self.s.sliding.positions();
        let image = column / positions * self.s.result();
        self.y.at(image + i * self.s.outputs * positions + column % positions)
    }
    fn row_stride(&self) -> usize {
        self.s.sliding.positions()
    }
}

fn forward<T: Real>(cpu: &Cpu, s: &Sizes, x: &[T], w: &[T], y: &mut [T]) -> Result<()> {
    // What the unsafe code relies on.
    assert!(x.len() == s.batch * s.image() && y.len() == s.batch * s.result() && w.len() == s.weights());
    if s.is_depthwise() {
        depthwise::forward(cpu, s, x, w, y);
        return Ok(());
    }
    gemm::products(cpu, &Forward { s, x, w, y: Shared::new(y) })
}

fn input_gradient<T: Real>(cpu: &Cpu, s: &Sizes, head: &[T], w: &[T], out: &mut [T]) -> Result<()> {
    assert!(out.len() == s.batch * s.image() && head.len() == s.batch * s.result() && w.len() == s.weights());
    let taps = s.sliding.taps();
    let mut reversed = Scratch::<T>::new(w.len())?;
    let reversed = &mut reversed.get()[..w.len()];
    for (number, of_output) in w.chunks(s.inputs * taps).enumerate() {
        let (group, output) = (number / s.outputs, number % s.outputs);
        for (input, of_tap) in of_output.chunks(taps).enumerate() {
            let at = ((group * s.inputs + input) * s.outputs + output) * taps;
            reversed[at..at + taps].iter_mut().rev().zip(of_tap).for_each(|(to, &w)| *to = w);
        }
    }
    let spread = s.sliding.spread();
    let mut copy;
    let head = if s.sliding.is_dense() {
        head
    } else {
        let (size, positions) = (spread.size(), s.sliding.positions());
        let planes = s.batch * s.groups * s.outputs;
        copy = Scratch::<T>::new(planes * size)?;
        let copy = &mut copy.get()[..planes * size];
        copy.fill(T::ZERO);
        for (copy, plane) in copy.chunks_mut(size).zip(head.chunks(positions)) {
            plane.iter().enumerate().for_each(|(i, &v)| copy[s.sliding.place_in_spread(i)] = v);
        }
        &*copy
    };
    let s = Sizes { inputs: s.outputs, outputs: s.inputs, sliding: spread, ..*s };
    forward(cpu, &s, head, reversed, out)
}

/// Output channels by input channels and taps: the heads times windows, over the positions of all images.
struct WeightGradient<'a, T> {
    s: &'a Sizes,
    x: &'a [T],
    head: &'a [T],
    out: Shared<T>,
}

// SAFETY: the results are contiguous and follow one another in the output that is borrowed for them alone.
unsafe impl<T: Real> Products<T> for WeightGradient<'_, T> {
    fn count(&self) -> usize {
        self.s.groups
    }
    fn size(&self) -> [usize; 3] {
        let s = self.s;
        [s.outputs, s.batch * s.sliding.positions(), s.inputs * s.sliding.taps()]
    }
    fn left(&self, i: usize, terms: Range<usize>, rows: Range<usize>, out: &mut [T]) {
        let (count, height) = (self.s.sliding.positions(), rows.len());
        for (image, positions, start) in self.s.images(terms) {
            for (lane, row) in rows.clone().enumerate() {
                let plane = image * self.s.result() + (i * self.s.outputs + row) * count;
                let from = &self.head[plane + positions.start..plane + positions.end];
                out[start * height + lane..].iter_mut().step_by(height).zip(from).for_each(|(o, &v)| *o = v);
            }
        }
    }
    fn right(&self, i: usize, terms: Range<usize>, columns: Range<usize>, width: usize, out: &mut [T]) {
        let Sizes { inputs, sliding, .. } = self.s;
        let (taps, size, step, depth) = (sliding.taps(), sliding.size(), sliding.step(), terms.len());
        for (image, positions, start) in self.s.images(terms) {
            for (lane, column) in columns.clone().enumerate() {
                let plane = &self.x[image * self.s.image() + (i * inputs + column / taps) * size..][..size];
                let out = &mut out[(lane / width * depth + start) * width + lane % width..];
                sliding.stretches(column % taps, positions.clone(), |windows, place| {
                    let out = out[windows.start * width..].iter_mut().step_by(width).take(windows.len());
                    match place {
                        None => out.for_each(|o| *o = T::ZERO),
                        Some(at) => out.zip(plane[at..].iter().step_by(step)).for_each(|(o, &v)| *o = v),
                    }
                });
            }
        }
    }
    fn column(&self, i: usize, column: usize) -> *mut T {
        let [m, _, n] = self.size();
        self.out.at(i * m * n + column)
    }
    fn row_stride(&self) -> usize {
        self.s.inputs * self.s.sliding.taps()
    }
}

fn weight_gradient<T: Real>(cpu: &Cpu, s: &Sizes, x: &[T], head: &[T], out: &mut [T]) -> Result<()> {
    assert!(x.len() == s.batch * s.image() && head.len() == s.batch * s.result() && out.len() == s.weights());
    gemm::products(cpu, &WeightGradient { s, x, head, out: Shared::new(out) })
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

fn dispatch<T: Real>(
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
    match kernel {
        Kernel::Forward => forward(cpu, s, a, b, out),
        Kernel::InputGradient => input_gradient(cpu, s, a, b, out),
        Kernel::WeightGradient => weight_gradient(cpu, s, a, b, out),
    }
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
    // Where the padding is wider than the window reaches, some heads count for nothing.
    if matches!(kernel, Kernel::InputGradient) && (0..window.axes()).any(|a| window.padding[a] >= window.extent(a)) {
        return None;
    }
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
