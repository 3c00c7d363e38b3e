//! Convolution and its gradients for f32 and f64 (f16 and bf16 by way of f32), as products ([`crate::gemm`]). Windows are read where
//! they lie, in a copy of the planes with zeros around: the terms of a tile are so many neighbours at an offset that depends on
//! channel and tap alone. The input gradient is the convolution of the head with the weight, its taps reversed and its channels
//! exchanged; with a stride, core spreads out the head and calls `conv`.

use crate::{
    Cpu,
    gemm::{self, Pack, Products, Right, Scratch, Strided},
    math::Real,
    matmul::widened,
    rows::{contiguous, slice, slice_mut},
    sliding::Sliding,
    threads::{self, Shared},
};
use isograd_core::{
    DType, Operand, OperandMut, Result, Shape, Window,
    backend::{composed, launch::Temporary},
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

/// Planes with zeros around, read in place by products. Along each axis an element of the input is `u * step + phase - padding` for
/// the element `u` of a phase, so that windows that are `step` apart see neighbours.
struct Grid {
    step: [usize; 3],
    phases: [Vec<usize>; 3],
    padding: [usize; 3],
    /// Sizes of a phase.
    size: [usize; 3],
}

/// The product of three sizes.
fn volume(size: [usize; 3]) -> usize {
    size.iter().product()
}

impl Grid {
    /// Elements of a plane, all phases.
    fn plane(&self) -> usize {
        volume([0, 1, 2].map(|a| self.phases[a].len() * self.size[a]))
    }

    /// Where element `at` of phase number `phase` is in a plane.
    fn offset(&self, phase: [usize; 3], at: [usize; 3]) -> usize {
        let [_, h, w] = self.size;
        let number = (phase[0] * self.phases[1].len() + phase[1]) * self.phases[2].len() + phase[2];
        number * volume(self.size) + (at[0] * h + at[1]) * w + at[2]
    }

    /// Copies planes of sizes `input` into it, with room for `beyond` elements that are read and do not matter.
    fn filled<T: Real>(&self, cpu: &Cpu, x: &[T], input: [usize; 3], beyond: usize) -> Result<Scratch<T>> {
        let (size, plane) = (volume(input), self.plane());
        let planes = x.len() / size;
        let mut copy = Scratch::<T>::new(planes * plane + beyond)?;
        let (all, rest) = copy.get().split_at_mut(planes * plane);
        rest.fill(T::ZERO);
        let at_once = (PIECE / plane).max(1);
        let mut parts: Vec<(&[T], &mut [T])> = x.chunks(at_once * size).zip(all.chunks_mut(at_once * plane)).collect();
        threads::each(cpu.threads(), &mut parts, &|(from, to)| {
            to.fill(T::ZERO);
            from.chunks(size).zip(to.chunks_mut(plane)).for_each(|(from, to)| self.fill(from, input, to));
        });
        Ok(copy)
    }

    fn fill<T: Copy>(&self, from: &[T], [_, height, width]: [usize; 3], to: &mut [T]) {
        // The elements u of a phase that are in the input, along an axis of n elements.
        let inside = |a: usize, phase: usize, n: usize| {
            let first = self.padding[a].saturating_sub(phase).div_ceil(self.step[a]);
            let last = (n + self.padding[a]).saturating_sub(phase).div_ceil(self.step[a]).min(self.size[a]);
            first.min(last)..last
        };
        let depth = from.len() / (height * width);
        let each = |a: usize| self.phases[a].iter().copied().enumerate();
        for (p0, f0) in each(0) {
            for (p1, f1) in each(1) {
                for (p2, f2) in each(2) {
                    let columns = inside(2, f2, width);
                    if columns.is_empty() {
                        continue;
                    }
                    for u0 in inside(0, f0, depth) {
                        for u1 in inside(1, f1, height) {
                            let at = |u: usize, a: usize, f: usize| u * self.step[a] + f - self.padding[a];
                            let row = (at(u0, 0, f0) * height + at(u1, 1, f1)) * width;
                            let from = &from[row + at(columns.start, 2, f2)..row + width];
                            let start = self.offset([p0, p1, p2], [u0, u1, columns.start]);
                            let to = &mut to[start..start + columns.len()];
                            match self.step[2] {
                                1 => to.copy_from_slice(&from[..to.len()]),
                                step => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(t, &v)| *t = v),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rows of weights by the positions of a grid, those between the lines among them, whose results are thrown away.
struct InPlace<'a, T> {
    groups: usize,
    batch: usize,
    /// `[groups][m][k]`.
    weights: &'a [T],
    m: usize,
    data: &'a [T],
    offsets: Vec<usize>,
    /// Positions of an image, rounded up to whole tiles; the results among them, and the sizes of the grid.
    positions: usize,
    results: [usize; 3],
    size: [usize; 3],
    out: Shared<T>,
    place: &'a (dyn Fn(usize, usize) -> usize + Sync),
}

// SAFETY: a column is a result of an image, its elements are one per output channel, a plane apart, in the output that is borrowed
// for them alone.
unsafe impl<T: Real> Products<T> for InPlace<'_, T> {
    fn count(&self) -> usize {
        self.groups
    }
    fn size(&self) -> [usize; 3] {
        [self.m, self.offsets.len(), self.batch * self.positions]
    }
    fn left(&self, i: usize, terms: Range<usize>, rows: Range<usize>, out: &mut [T]) {
        let [m, k, _] = self.size();
        let height = rows.len();
        Strided { data: self.weights, start: i * m * k, lane: k as isize, term: 1 }.pack(terms, rows, height, out);
    }
    fn right(&self) -> Right<'_, T> {
        Right::InPlace { data: self.data, offsets: &self.offsets, place: self.place }
    }
    fn columns(&self, i: usize, columns: Range<usize>, run: &mut dyn FnMut(usize, usize, *mut T)) {
        let ([_, h, w], [depth, height, width]) = (self.size, self.results);
        let mut column = columns.start;
        while column < columns.end {
            let (image, position) = (column / self.positions, column % self.positions);
            let (line, x) = (position / w, position % w);
            let next = column + w - x;
            let (z, y) = (line / h, line % h);
            if x < width && y < height && z < depth {
                let count = (width - x).min(columns.end - column);
                let plane = (image * self.groups + i) * self.m * self.row_stride();
                run(column, count, self.out.at(plane + (z * height + y) * width + x));
            }
            // A line ends, or the image with what rounds it up.
            column = next.min((image + 1) * self.positions);
        }
    }
    fn row_stride(&self) -> usize {
        volume(self.results)
    }
}

/// The widest tile, in elements.
const WIDEST: usize = 32;

/// Elements of planes that are copied by a thread at once.
const PIECE: usize = 1 << 15;

fn forward<T: Real>(cpu: &Cpu, s: &Sizes, x: &[T], w: &[T], y: &mut [T]) -> Result<()> {
    // What the unsafe code relies on.
    assert!(x.len() == s.batch * s.image() && y.len() == s.batch * s.result() && w.len() == s.weights());
    let Sliding { input, output, kernel, stride, padding, dilation } = s.sliding;
    let taps = |a: usize| (0..kernel[a]).map(move |t| (t * dilation[a] % stride[a], t * dilation[a] / stride[a]));
    let phases = [0, 1, 2].map(|a| {
        let mut all: Vec<usize> = taps(a).map(|(phase, _)| phase).collect();
        all.sort_unstable();
        all.dedup();
        all
    });
    let size = [0, 1, 2].map(|a| output[a] + (kernel[a] - 1) * dilation[a] / stride[a]);
    let grid = Grid { step: stride, phases, padding, size };
    // For each axis and tap its phase's number and its distance.
    let places = [0, 1, 2].map(|a| -> Vec<(usize, usize)> {
        taps(a).map(|(phase, at)| (grid.phases[a].iter().position(|&p| p == phase).unwrap_or(0), at)).collect()
    });
    let plane = grid.plane();
    let mut offsets = Vec::with_capacity(s.inputs * s.sliding.taps());
    for channel in 0..s.inputs {
        for &(p0, at0) in &places[0] {
            for &(p1, at1) in &places[1] {
                for &(p2, at2) in &places[2] {
                    offsets.push(channel * plane + grid.offset([p0, p1, p2], [at0, at1, at2]));
                }
            }
        }
    }
    let [depth, height, _] = output;
    let lines = ((depth - 1) * size[1] + height) * size[2];
    let positions = lines.next_multiple_of(WIDEST);
    // Nothing to copy: a window of one element, and no tile that reaches beyond the last plane.
    let as_it_is = plane == s.sliding.size() && size == input && positions == plane && s.sliding.taps() == 1;
    let mut copy;
    let data = if as_it_is {
        x
    } else {
        copy = grid.filled(cpu, x, input, positions + WIDEST)?;
        let whole = s.batch * s.groups * s.inputs * plane + positions + WIDEST;
        &copy.get()[..whole]
    };
    let (group, image) = (s.inputs * plane, s.groups * s.inputs * plane);
    let place = move |i: usize, column: usize| column / positions * image + i * group + column % positions;
    let products = InPlace {
        groups: s.groups,
        batch: s.batch,
        weights: w,
        m: s.outputs,
        data,
        offsets,
        positions,
        results: output,
        size,
        out: Shared::new(y),
        place: &place,
    };
    gemm::products(cpu, &products)
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
    let s = Sizes { inputs: s.outputs, outputs: s.inputs, sliding: s.sliding.reversed(), ..*s };
    forward(cpu, &s, head, reversed, out)
}

/// Output channels by input channels and taps: the heads times windows, over the positions of all images.
struct WeightGradient<'a, T> {
    s: &'a Sizes,
    head: &'a [T],
    out: Shared<T>,
    pack: &'a Pack<'a, T>,
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
    fn right(&self) -> Right<'_, T> {
        Right::Packed(self.pack)
    }
    fn columns(&self, i: usize, columns: Range<usize>, run: &mut dyn FnMut(usize, usize, *mut T)) {
        let [m, _, n] = self.size();
        run(columns.start, columns.len(), self.out.at(i * m * n + columns.start));
    }
    fn row_stride(&self) -> usize {
        self.s.inputs * self.s.sliding.taps()
    }
}

fn weight_gradient<T: Real>(cpu: &Cpu, s: &Sizes, x: &[T], head: &[T], out: &mut [T]) -> Result<()> {
    assert!(x.len() == s.batch * s.image() && head.len() == s.batch * s.result() && out.len() == s.weights());
    let Sizes { inputs, sliding, .. } = *s;
    let (taps, size, step) = (sliding.taps(), sliding.size(), sliding.step());
    let pack = |i: usize, terms: Range<usize>, columns: Range<usize>, width: usize, out: &mut [T]| {
        let depth = terms.len();
        for (image, positions, start) in s.images(terms) {
            for (lane, column) in columns.clone().enumerate() {
                let plane = &x[image * s.image() + (i * inputs + column / taps) * size..][..size];
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
    };
    gemm::products(cpu, &WeightGradient { s, head, out: Shared::new(out), pack: &pack })
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
    // With a stride the head is to be spread out; where the padding is wider than the window reaches, some heads count for nothing.
    let is_plain = |a: usize| window.stride[a] == 1 && window.padding[a] < window.extent(a);
    if matches!(kernel, Kernel::InputGradient) && !(0..window.axes()).all(is_plain) {
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
    composed::rounded(cpu, output, |output| {
        dispatch::<f32>(cpu, kernel, s, &a.through(&a_layout), &b.through(&b_layout), output)
    })
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
