//! Convolution with one input channel per group: a plane by a small kernel, tap by tap, along rows.

use crate::{
    Cpu,
    conv::Sizes,
    lanes::{Simd, Work},
    math::{Real, Vector},
    threads,
};

/// A plane and the planes that it is convolved to, in one of the three directions.
enum Planes<'a, T> {
    Forward { x: &'a [T], w: &'a [T], y: &'a mut [T] },
    Input { head: &'a [T], w: &'a [T], out: &'a mut [T] },
    Weight { x: &'a [T], head: &'a [T], out: &'a mut [T] },
}

struct Task<'a, T> {
    s: &'a Sizes,
    planes: Planes<'a, T>,
}

impl<T: Real> Work for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Vector>(self) {
        let s = &self.s.sliding;
        let (positions, taps, step) = (s.positions(), s.taps(), s.step());
        match self.planes {
            Planes::Forward { x, w, y } => {
                for (y, w) in y.chunks_mut(positions).zip(w.chunks(taps)) {
                    y.fill(T::ZERO);
                    for (tap, &w) in w.iter().enumerate() {
                        s.stretches(tap, 0..positions, |windows, place| {
                            let Some(at) = place else { return };
                            let y = &mut y[windows];
                            if step == 1 {
                                y.iter_mut().zip(&x[at..]).for_each(|(y, &v)| *y = w.mul_add::<M>(v, *y));
                            } else {
                                let x = x[at..].iter().step_by(step);
                                y.iter_mut().zip(x).for_each(|(y, &v)| *y = w.mul_add::<M>(v, *y));
                            }
                        });
                    }
                }
            }
            Planes::Input { head, w, out } => {
                out.fill(T::ZERO);
                for (head, w) in head.chunks(positions).zip(w.chunks(taps)) {
                    for (tap, &w) in w.iter().enumerate() {
                        s.stretches(tap, 0..positions, |windows, place| {
                            let Some(at) = place else { return };
                            let (head, out) = (&head[windows], &mut out[at..]);
                            if step == 1 {
                                out.iter_mut().zip(head).for_each(|(o, &h)| *o = w.mul_add::<M>(h, *o));
                            } else {
                                let out = out.iter_mut().step_by(step);
                                out.zip(head).for_each(|(o, &h)| *o = w.mul_add::<M>(h, *o));
                            }
                        });
                    }
                }
            }
            Planes::Weight { x, head, out } => {
                for (head, out) in head.chunks(positions).zip(out.chunks_mut(taps)) {
                    for (tap, o) in out.iter_mut().enumerate() {
                        // Sums of columns side by side, added up at the end, so that the loop has no chain.
                        let mut sums = [T::ZERO; 16];
                        s.stretches(tap, 0..positions, |windows, place| {
                            let Some(at) = place else { return };
                            let mut x = x[at..].iter().step_by(step);
                            for head in head[windows].chunks(16) {
                                for ((sum, &h), &v) in sums.iter_mut().zip(head).zip(&mut x) {
                                    *sum = h.mul_add::<M>(v, *sum);
                                }
                            }
                        });
                        let mut width = 8;
                        while width > 0 {
                            for i in 0..width {
                                sums[i] = sums[i].add(sums[i + width]);
                            }
                            width /= 2;
                        }
                        *o = o.add(sums[0]);
                    }
                }
            }
        }
    }
}

/// Multiplications of the planes that a thread is given at once.
const PIECE: usize = 1 << 15;

/// Calls `f` with the number of each chunk of `n` elements of `out` and the chunk.
fn each<T: Send>(cpu: &Cpu, work: usize, out: &mut [T], n: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let at_once = (PIECE / work).max(1);
    let mut tasks: Vec<(usize, &mut [T])> =
        out.chunks_mut(at_once * n).enumerate().map(|(i, chunks)| (i * at_once, chunks)).collect();
    threads::each(cpu.threads(), &mut tasks, &|(first, chunks)| {
        chunks.chunks_mut(n).enumerate().for_each(|(i, chunk)| f(*first + i, chunk));
    });
}

impl Sizes {
    /// Sizes of what belongs to one plane of the input: weights, elements of the output, multiplications.
    fn of_plane(&self) -> [usize; 3] {
        let (taps, positions) = (self.sliding.taps(), self.sliding.positions());
        [self.outputs * taps, self.outputs * positions, self.outputs * taps * positions]
    }
}

pub(crate) fn forward<T: Real>(cpu: &Cpu, s: &Sizes, x: &[T], w: &[T], y: &mut [T]) {
    let (size, [weights, results, work]) = (s.sliding.size(), s.of_plane());
    each(cpu, work, y, results, |i, y| {
        let (x, w) = (&x[i * size..][..size], &w[i % s.groups * weights..][..weights]);
        Simd::get().run(Task { s, planes: Planes::Forward { x, w, y } });
    });
}

pub(crate) fn input_gradient<T: Real>(cpu: &Cpu, s: &Sizes, head: &[T], w: &[T], out: &mut [T]) {
    let [weights, results, work] = s.of_plane();
    each(cpu, work, out, s.sliding.size(), |i, out| {
        let (head, w) = (&head[i * results..][..results], &w[i % s.groups * weights..][..weights]);
        Simd::get().run(Task { s, planes: Planes::Input { head, w, out } });
    });
}

pub(crate) fn weight_gradient<T: Real>(cpu: &Cpu, s: &Sizes, x: &[T], head: &[T], out: &mut [T]) {
    let (size, [weights, results, work]) = (s.sliding.size(), s.of_plane());
    each(cpu, work * s.batch, out, weights, |group, out| {
        out.fill(T::ZERO);
        for image in 0..s.batch {
            let i = image * s.groups + group;
            let (x, head) = (&x[i * size..][..size], &head[i * results..][..results]);
            Simd::get().run(Task { s, planes: Planes::Weight { x, head, out: &mut *out } });
        }
    });
}
