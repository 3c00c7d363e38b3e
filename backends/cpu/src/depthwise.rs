//! Convolution with one input channel per group: a plane by a small kernel, tap by tap, along rows. A window's sum is one chain,
//! in the order of the taps, since there are no more of them than a chunk has.

use crate::{
    Cpu,
    conv::Sizes,
    lanes::{Simd, Work},
    math::{Real, Vector},
    threads,
};

/// A plane and the planes that it is convolved to.
struct Planes<'a, T> {
    s: &'a Sizes,
    x: &'a [T],
    w: &'a [T],
    y: &'a mut [T],
}

impl<T: Real> Work for Planes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Vector>(self) {
        let s = &self.s.sliding;
        let (positions, taps, step) = (s.positions(), s.taps(), s.step());
        for (y, w) in self.y.chunks_mut(positions).zip(self.w.chunks(taps)) {
            y.fill(T::ZERO);
            for (tap, &w) in w.iter().enumerate() {
                s.stretches(tap, 0..positions, |windows, place| {
                    let y = &mut y[windows];
                    match place {
                        // Padding is zeros, which meet infinities.
                        None => y.iter_mut().for_each(|y| *y = w.mul_add(T::ZERO, *y)),
                        Some(at) if step == 1 => {
                            y.iter_mut().zip(&self.x[at..]).for_each(|(y, &v)| *y = w.mul_add(v, *y));
                        }
                        Some(at) => {
                            let x = self.x[at..].iter().step_by(step);
                            y.iter_mut().zip(x).for_each(|(y, &v)| *y = w.mul_add(v, *y));
                        }
                    }
                });
            }
            y.iter_mut().for_each(|y| *y = T::ZERO.add(*y));
        }
    }
}

/// Multiplications of the planes that a thread is given at once.
const PIECE: usize = 1 << 15;

pub(crate) fn forward<T: Real>(cpu: &Cpu, s: &Sizes, x: &[T], w: &[T], y: &mut [T]) {
    let (size, taps, positions) = (s.sliding.size(), s.sliding.taps(), s.sliding.positions());
    let (weights, results) = (s.outputs * taps, s.outputs * positions);
    let at_once = (PIECE / (s.outputs * taps * positions)).max(1);
    let mut tasks: Vec<(usize, &mut [T])> =
        y.chunks_mut(at_once * results).enumerate().map(|(i, planes)| (i * at_once, planes)).collect();
    threads::each(cpu.threads(), &mut tasks, &|(first, planes)| {
        for (i, y) in (*first..).zip(planes.chunks_mut(results)) {
            let (x, w) = (&x[i * size..][..size], &w[i % s.groups * weights..][..weights]);
            Simd::get().run(Planes { s, x, w, y });
        }
    });
}
