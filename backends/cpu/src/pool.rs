//! Pooling and its gradient, plane by plane, one tap of the window after another: the inner loops run along rows.

use crate::{
    Cpu,
    elementwise::pieces,
    lanes::{Simd, Work},
    math::{Real, Ring, Vector},
    rows::{Stored, contiguous, slice, slice_mut},
    sliding::Sliding,
    threads,
};
use half::{bf16, f16};
use isograd_core::{
    DType, Operand, OperandMut, Pool, Result, Window,
    backend::{composed, launch::Temporary},
};

/// Elements times taps of the planes that a thread is given at once.
const PIECE: usize = 1 << 16;

/// The larger, NaN if either is.
#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if a > b {
        a
    } else if a <= b {
        b
    } else {
        a.add(b)
    }
}

/// What all planes share.
struct Shared<T: Stored> {
    sliding: Sliding,
    kind: Pool,
    /// For means, what to divide by.
    counts: Vec<T::Computed>,
}

impl<T: Stored<Computed: Real>> Shared<T> {
    fn new(sliding: Sliding, kind: Pool) -> Shared<T> {
        let counts = match kind {
            Pool::Max => Vec::new(),
            _ => sliding.counts(kind == Pool::AvgWithPadding),
        };
        Shared { sliding, kind, counts: counts.into_iter().map(|n| Real::of(n as f64)).collect() }
    }

    /// Folds the rows under a line of windows into `line`, which is as long as a row, then the windows' parts of it.
    #[inline(always)]
    fn forward(&self, x: &[T::Computed], y: &mut [T::Computed], line: &mut [T::Computed]) {
        let s = &self.sliding;
        if self.kind == Pool::Max {
            return s.lines(x, y, line, Real::LEAST, larger);
        }
        s.lines(x, y, line, Ring::ZERO, |a: T::Computed, b| a.add(b));
        y.iter_mut().zip(&self.counts).for_each(|(y, &n)| *y = y.div(n));
    }

    /// Adds to `out` what the windows give back; `largest` and `place` are scratch of a size with `head`.
    #[inline(always)]
    fn backward(
        &self,
        x: &[T::Computed],
        head: &[T::Computed],
        out: &mut [T::Computed],
        largest: &mut [T::Computed],
        places: &mut [usize],
    ) {
        let s = &self.sliding;
        let step = s.step();
        out.fill(Ring::ZERO);
        if self.kind != Pool::Max {
            largest.iter_mut().zip(head).zip(&self.counts).for_each(|((q, &h), &n)| *q = h.div(n));
            // Backwards, so that overlapping windows give in their order.
            for tap in (0..s.taps()).rev() {
                s.stretches(tap, 0..s.positions(), |windows, place| {
                    let Some(at) = place else { return };
                    out[at..].iter_mut().step_by(step).zip(&largest[windows]).for_each(|(o, &q)| *o = o.add(q));
                });
            }
            return;
        }
        const NOWHERE: usize = usize::MAX;
        places.fill(NOWHERE);
        for tap in 0..s.taps() {
            s.stretches(tap, 0..s.positions(), |windows, place| {
                let Some(at) = place else { return };
                for (i, w) in windows.enumerate() {
                    let v = x[at + i * step];
                    #[allow(clippy::eq_op)]
                    let beats = v > largest[w] || (v != v && largest[w] == largest[w]);
                    if places[w] == NOWHERE || beats {
                        (largest[w], places[w]) = (v, at + i * step);
                    }
                }
            });
        }
        for (&at, &h) in places.iter().zip(head) {
            if at != NOWHERE {
                out[at] = out[at].add(h);
            }
        }
    }
}

struct Forward<'a, T: Stored> {
    shared: &'a Shared<T>,
    from: &'a [T],
    to: &'a mut [T],
}

impl<T: Stored<Computed: Real>> Work for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<M: Vector>(self) {
        let (n, p) = (self.shared.sliding.size(), self.shared.sliding.positions());
        let (mut x, mut y) = (vec![Ring::ZERO; n], vec![Ring::ZERO; p]);
        let mut line = vec![Ring::ZERO; self.shared.sliding.input[2]];
        for (from, to) in self.from.chunks(n).zip(self.to.chunks_mut(p)) {
            T::load(from, &mut x);
            self.shared.forward(&x, &mut y, &mut line);
            T::store(&y, to);
        }
    }
}

struct Backward<'a, T: Stored> {
    shared: &'a Shared<T>,
    input: &'a [T],
    head: &'a [T],
    to: &'a mut [T],
}

impl<T: Stored<Computed: Real>> Work for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<M: Vector>(self) {
        let (n, p) = (self.shared.sliding.size(), self.shared.sliding.positions());
        let (mut x, mut out) = (vec![Ring::ZERO; n], vec![Ring::ZERO; n]);
        let (mut h, mut largest, mut places) = (vec![Ring::ZERO; p], vec![Ring::ZERO; p], vec![0; p]);
        for ((input, head), to) in self.input.chunks(n).zip(self.head.chunks(p)).zip(self.to.chunks_mut(n)) {
            T::load(input, &mut x);
            T::load(head, &mut h);
            self.shared.backward(&x, &h, &mut out, &mut largest, &mut places);
            T::store(&out, to);
        }
    }
}

fn at_once(s: &Sliding) -> usize {
    (PIECE / (s.positions() * s.taps() + s.size())).max(1)
}

fn forward<T: Stored<Computed: Real>>(cpu: &Cpu, sliding: Sliding, kind: Pool, from: &[T], to: &mut [T]) {
    let shared = Shared::<T>::new(sliding, kind);
    let (n, p, planes) = (sliding.size(), sliding.positions(), at_once(&sliding));
    let mut parts: Vec<_> = pieces(from.len() / n, planes).into_iter().zip(to.chunks_mut(planes * p)).collect();
    threads::each(cpu.threads(), &mut parts, &|(range, to)| {
        Simd::get().run(Forward { shared: &shared, from: &from[range.start * n..range.end * n], to });
    });
}

fn backward<T: Stored<Computed: Real>>(cpu: &Cpu, sliding: Sliding, kind: Pool, input: &[T], head: &[T], to: &mut [T]) {
    let shared = Shared::<T>::new(sliding, kind);
    let (n, p, planes) = (sliding.size(), sliding.positions(), at_once(&sliding));
    let mut parts: Vec<_> = pieces(input.len() / n, planes).into_iter().zip(to.chunks_mut(planes * n)).collect();
    threads::each(cpu.threads(), &mut parts, &|(range, to)| {
        let (input, head) = (&input[range.start * n..range.end * n], &head[range.start * p..range.end * p]);
        Simd::get().run(Backward { shared: &shared, input, head, to });
    });
}

/// See [`isograd_core::Backend::pool`].
pub(crate) fn pool(
    cpu: &Cpu,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    let sliding = Sliding::new(window, &input.shape()[2..], &output.shape()[2..]);
    let ready = input.dtype.is_float() && output.layout.is_contiguous() && !output.layout.is_empty();
    let Some(sliding) = sliding.filter(|s| ready && s.size() > 0) else {
        return composed::pool(cpu, kind, window, input, output);
    };
    let copy = contiguous(cpu, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    match input.dtype {
        DType::F32 => forward::<f32>(cpu, sliding, kind, slice(&input), slice_mut(output)),
        DType::F64 => forward::<f64>(cpu, sliding, kind, slice(&input), slice_mut(output)),
        DType::F16 => forward::<f16>(cpu, sliding, kind, slice(&input), slice_mut(output)),
        _ => forward::<bf16>(cpu, sliding, kind, slice(&input), slice_mut(output)),
    }
    Ok(())
}

/// See [`isograd_core::Backend::pool_gradient`].
pub(crate) fn pool_gradient(
    cpu: &Cpu,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, Cpu>,
    head: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    let sliding = Sliding::new(window, &output.shape()[2..], &head.shape()[2..]);
    let ready = input.dtype.is_float() && output.layout.is_contiguous() && !output.layout.is_empty();
    let Some(sliding) = sliding.filter(|s| ready && s.positions() > 0) else {
        return composed::pool_gradient(cpu, kind, window, input, head, output);
    };
    let copies = (contiguous(cpu, input)?, contiguous(cpu, head)?);
    let input = copies.0.as_ref().map_or(*input, Temporary::operand);
    let head = copies.1.as_ref().map_or(*head, Temporary::operand);
    macro_rules! run {
        ($type:ty) => {
            backward::<$type>(cpu, sliding, kind, slice(&input), slice(&head), slice_mut(output))
        };
    }
    match input.dtype {
        DType::F32 => run!(f32),
        DType::F64 => run!(f64),
        DType::F16 => run!(f16),
        _ => run!(bf16),
    }
    Ok(())
}
