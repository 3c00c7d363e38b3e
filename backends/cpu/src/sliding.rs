//! Where the elements under a sliding window are: the loops that convolution and pooling share.

use isograd_core::Window;
use std::ops::Range;

/// A window over one plane, always of three axes: missing ones come first and have size 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sliding {
    /// Sizes of the plane.
    pub input: [usize; 3],
    /// Windows along each axis.
    pub output: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub padding: [usize; 3],
    pub dilation: [usize; 3],
}

/// `v` as the last of three, the others being `fill`.
fn three(v: &[usize], fill: usize) -> [usize; 3] {
    let mut all = [fill; 3];
    all[3 - v.len()..].copy_from_slice(v);
    all
}

impl Sliding {
    /// `window` over a plane of sizes `input`, with `output` windows; `None` for more than three axes.
    pub fn new(window: &Window, input: &[usize], output: &[usize]) -> Option<Sliding> {
        (window.axes() <= 3).then(|| Sliding {
            input: three(input, 1),
            output: three(output, 1),
            kernel: three(&window.kernel, 1),
            stride: three(&window.stride, 1),
            padding: three(&window.padding, 0),
            dilation: three(&window.dilation, 1),
        })
    }

    /// Elements of a plane.
    pub fn size(&self) -> usize {
        self.input.iter().product()
    }

    /// Windows.
    pub fn positions(&self) -> usize {
        self.output.iter().product()
    }

    /// Elements of a window.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Distance in a plane between the same tap of windows that are neighbours along the last axis.
    pub fn step(&self) -> usize {
        self.stride[2]
    }

    /// For windows that are neighbours: the window, its taps reversed, over the planes of windows, which gives planes of the size
    /// of this one's input. The padding must not reach beyond the window.
    pub fn reversed(&self) -> Sliding {
        let padding = [0, 1, 2].map(|a| (self.kernel[a] - 1) * self.dilation[a] - self.padding[a]);
        Sliding { input: self.output, output: self.input, padding, ..*self }
    }

    /// Along `axis`: where tap `k` of window `i` is, if it is inside the plane.
    #[inline(always)]
    fn inside(&self, axis: usize, i: usize, k: usize) -> Option<usize> {
        let at = (i * self.stride[axis] + k * self.dilation[axis]).checked_sub(self.padding[axis])?;
        (at < self.input[axis]).then_some(at)
    }

    /// Calls `f(windows, place)` for each stretch of `windows` (counted from the start of `range`) along the last axis whose
    /// tap number `tap` lies in the plane from element `place` on, `step` apart, or (`None`) outside of it. In order.
    #[inline(always)]
    pub fn stretches(&self, tap: usize, range: Range<usize>, mut f: impl FnMut(Range<usize>, Option<usize>)) {
        let [_, kh, kw] = self.kernel;
        let [_, height, width] = self.output;
        let (a, b, c) = (tap / (kh * kw), tap / kw % kh, tap % kw);
        let (shift, stride) = (c * self.dilation[2], self.stride[2]);
        let (first, last) = self.inside_range(c);
        let mut at = range.start;
        while at < range.end {
            let (line, x) = (at / width, at % width);
            let count = (width - x).min(range.end - at);
            let to = at - range.start;
            let inside = self.inside(0, line / height, a).zip(self.inside(1, line % height, b));
            if let Some((i, j)) = inside {
                let (left, right) = (first.clamp(x, x + count), last.clamp(x, x + count));
                if left > x {
                    f(to..to + left - x, None);
                }
                if right > left {
                    let start = (i * self.input[1] + j) * self.input[2];
                    f(to + left - x..to + right - x, Some(start + left * stride + shift - self.padding[2]));
                }
                if x + count > right {
                    f(to + right.max(left) - x..to + count, None);
                }
            } else {
                f(to..to + count, None);
            }
            at += count;
        }
    }

    /// Folds each window of the plane `x` by `f`, from `identity` on: first the rows under a line of windows, side by side
    /// into `line`, then along it. What is outside the plane is left out.
    #[inline(always)]
    pub fn lines<T: Copy>(&self, x: &[T], y: &mut [T], line: &mut [T], identity: T, f: impl Fn(T, T) -> T) {
        let ([_, rows, columns], [_, height, width], step) = (self.input, self.output, self.stride[2]);
        for (number, y) in y.chunks_mut(width).enumerate() {
            line.fill(identity);
            for tap in 0..self.kernel[0] * self.kernel[1] {
                let (a, b) = (tap / self.kernel[1], tap % self.kernel[1]);
                let inside = self.inside(0, number / height, a).zip(self.inside(1, number % height, b));
                let Some((i, j)) = inside else { continue };
                let row = &x[(i * rows + j) * columns..][..columns];
                line.iter_mut().zip(row).for_each(|(l, &v)| *l = f(*l, v));
            }
            y.fill(identity);
            for c in 0..self.kernel[2] {
                let (first, last) = self.inside_range(c);
                if first < last {
                    let from = &line[first * step + c * self.dilation[2] - self.padding[2]..];
                    let y = &mut y[first..last];
                    match step {
                        1 => y.iter_mut().zip(from).for_each(|(y, &v)| *y = f(*y, v)),
                        2 => y.iter_mut().zip(from.chunks(2)).for_each(|(y, v)| *y = f(*y, v[0])),
                        _ => y.iter_mut().zip(from.iter().step_by(step)).for_each(|(y, &v)| *y = f(*y, v)),
                    }
                }
            }
        }
    }

    /// The windows of a line, first and one past the last, whose tap `c` along the last axis is inside the plane.
    #[inline(always)]
    fn inside_range(&self, c: usize) -> (usize, usize) {
        let (shift, stride, width) = (c * self.dilation[2], self.stride[2], self.output[2]);
        let first = self.padding[2].saturating_sub(shift).div_ceil(stride).min(width);
        let last = (self.input[2] + self.padding[2]).saturating_sub(shift).div_ceil(stride).clamp(first, width);
        (first, last)
    }

    /// How many taps of window `i` along `axis` begin below `end`, counted from the start of the padding, and not below
    /// `start`.
    fn covered(&self, axis: usize, i: usize, start: usize, end: usize) -> usize {
        let places = (0..self.kernel[axis]).map(|k| i * self.stride[axis] + k * self.dilation[axis]);
        places.filter(|at| (start..end).contains(at)).count()
    }

    /// For every window, how many elements its mean divides by.
    pub fn counts(&self, with_padding: bool) -> Vec<usize> {
        let along = |axis: usize| -> Vec<usize> {
            let (n, pad) = (self.input[axis], self.padding[axis]);
            let (start, end) = if with_padding { (0, n + 2 * pad) } else { (pad, pad + n) };
            (0..self.output[axis]).map(|i| self.covered(axis, i, start, end)).collect()
        };
        let [a, b, c] = [0, 1, 2].map(along);
        a.iter().flat_map(|x| b.iter().map(move |y| x * y)).flat_map(|xy| c.iter().map(move |z| xy * z)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_visit_each_window_once_and_find_its_tap() {
        let mut w = Window::new(&[2, 3]);
        for (stride, padding, dilation) in [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 3, 1), (1, 6, 1)] {
            (w.stride, w.padding, w.dilation) =
                ([stride; 2][..].into(), [padding; 2][..].into(), [dilation; 2][..].into());
            let output = [w.count(0, 5, false).unwrap(), w.count(1, 6, false).unwrap()];
            let s = Sliding::new(&w, &[5, 6], &output).unwrap();
            for tap in 0..6 {
                for range in [0..s.positions(), 1..s.positions() / 2 + 1] {
                    let mut next = 0;
                    s.stretches(tap, range.clone(), |windows, place| {
                        assert!(windows.start == next && windows.end > next);
                        next = windows.end;
                        for (i, v) in windows.enumerate() {
                            let p = range.start + v;
                            let y = (p / output[1] * stride + tap / 3 * dilation) as isize - padding as isize;
                            let x = (p % output[1] * stride + tap % 3 * dilation) as isize - padding as isize;
                            let inside = (0..5).contains(&y) && (0..6).contains(&x);
                            let expected = inside.then_some((y * 6 + x) as usize);
                            assert_eq!(place.map(|at| at + i * s.step()), expected, "{s:?} tap {tap} window {p}");
                        }
                    });
                    assert_eq!(next, range.len());
                }
            }
        }
    }
}
