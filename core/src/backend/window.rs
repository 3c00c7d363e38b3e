//! The arithmetic of sliding windows, for convolution and pooling.

use crate::{Layout, Shape};
use smallvec::SmallVec;

/// How a window slides over the spatial axes: one entry per spatial axis.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// Elements of the window along each axis.
    pub kernel: SmallVec<[usize; 3]>,
    /// Distance between neighbouring windows.
    pub stride: SmallVec<[usize; 3]>,
    /// Elements put before and after each axis.
    pub padding: SmallVec<[usize; 3]>,
    /// Distance between neighbouring elements of a window.
    pub dilation: SmallVec<[usize; 3]>,
    /// Channels are split into this many groups that do not see each other.
    pub groups: usize,
}

impl Window {
    /// A window of `kernel`, stride 1, no padding, no dilation, one group.
    pub fn new(kernel: &[usize]) -> Window {
        let ones = SmallVec::from_elem(1, kernel.len());
        Window {
            kernel: kernel.into(),
            stride: ones.clone(),
            padding: SmallVec::from_elem(0, kernel.len()),
            dilation: ones,
            groups: 1,
        }
    }

    /// The number of spatial axes.
    pub fn axes(&self) -> usize {
        self.kernel.len()
    }

    /// Elements of the window; the largest number where there is none that large.
    pub fn taps(&self) -> usize {
        Shape::from(&self.kernel[..]).size()
    }

    /// Elements that one window spans along `axis`, dilation included; the largest number where there is none that large.
    pub fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis].max(1) - 1).saturating_mul(self.dilation[axis]).saturating_add(1)
    }

    /// The number of windows along `axis` over `size` elements, `None` where not even one fits, or the padded axis is longer
    /// than any. With `ceil`, a last window that reaches beyond the end counts where it starts within the input or the padding
    /// before it; one that starts later would see nothing else than padding.
    pub fn count(&self, axis: usize, size: usize, ceil: bool) -> Option<usize> {
        let padded = self.padding[axis].checked_mul(2)?.checked_add(size).filter(|&n| n <= isize::MAX as usize)?;
        let room = padded.checked_sub(self.extent(axis))?;
        let step = self.stride[axis];
        let whole = room / step + 1;
        let more = ceil && !room.is_multiple_of(step) && whole.saturating_mul(step) < size + self.padding[axis];
        Some(whole + usize::from(more))
    }

    /// Elements along `axis` that `count` windows reach, from the start of the padding on; the largest number where there is none
    /// that large.
    pub fn reach(&self, axis: usize, count: usize) -> usize {
        (count - 1).saturating_mul(self.stride[axis]).saturating_add(self.extent(axis))
    }

    /// The spatial sizes of an input padded so that `output` windows fit.
    pub fn padded(&self, input: &[usize], output: &[usize]) -> SmallVec<[usize; 3]> {
        (0..self.axes()).map(|a| self.reach(a, output[a]).max(input[a] + self.padding[a])).collect()
    }

    /// The windows of a padded input `[batch, channels, padded..]` as `[batch, channels, output.., kernel..]`.
    pub fn view(&self, padded: &Layout, output: &[usize]) -> Layout {
        (0..self.axes())
            .fold(padded.clone(), |l, a| l.window(2 + a, output[a], self.stride[a], self.kernel[a], self.dilation[a]))
    }

    /// The part of a padded array of `shape` `[batch, channels, padded..]` where the input `[batch, channels, input..]` lies.
    pub fn interior(&self, padded: &Layout, input: &[usize]) -> Layout {
        (0..self.axes()).fold(padded.clone(), |l, a| l.slice(2 + a, self.padding[a], input[a], 1))
    }

    /// Every offset within the window, row-major.
    pub fn offsets(&self) -> impl Iterator<Item = SmallVec<[usize; 3]>> + '_ {
        let shape: Shape = self.kernel.iter().copied().collect();
        (0..shape.size()).map(move |mut linear| {
            let mut at: SmallVec<[usize; 3]> = SmallVec::from_elem(0, self.axes());
            for a in (0..self.axes()).rev() {
                at[a] = linear % self.kernel[a];
                linear /= self.kernel[a];
            }
            at
        })
    }

    /// The elements of a padded array that lie at `offset` of each window, as `[batch, channels, output..]`.
    pub fn at_offset(&self, padded: &Layout, output: &[usize], offset: &[usize]) -> Layout {
        (0..self.axes()).fold(padded.clone(), |l, a| {
            l.slice(2 + a, offset[a] * self.dilation[a], output[a], self.stride[a] as isize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_agree_with_the_formula() {
        let mut w = Window::new(&[3]);
        assert_eq!(w.count(0, 5, false), Some(3));
        assert_eq!(w.count(0, 2, false), None);
        w.stride[0] = 2;
        assert_eq!(w.count(0, 6, false), Some(2));
        assert_eq!(w.count(0, 6, true), Some(3));
        w.padding[0] = 1;
        w.dilation[0] = 2;
        assert_eq!(w.extent(0), 5);
        assert_eq!(w.count(0, 6, false), Some(2));
    }

    #[test]
    fn with_ceil_no_window_starts_behind_the_input() {
        for (size, kernel, stride, padding, count) in [
            (5, 2, 2, 1, 3),
            (5, 2, 2, 0, 3),
            (6, 3, 2, 1, 4),
            (4, 3, 3, 1, 2),
            (1, 2, 3, 1, 1),
            (2, 2, 3, 1, 1),
            (3, 1, 2, 0, 2),
        ] {
            let mut w = Window::new(&[kernel]);
            (w.stride[0], w.padding[0]) = (stride, padding);
            assert_eq!(w.count(0, size, true), Some(count), "{size} {w:?}");
            assert!((count - 1) * stride < size + padding);
        }
    }

    #[test]
    fn numbers_beyond_all_sizes_do_not_wrap() {
        let mut w = Window::new(&[3]);
        w.padding[0] = 1 << 63;
        assert_eq!(w.count(0, 5, false), None);
        (w.padding[0], w.dilation[0]) = (0, 1 << 63);
        assert_eq!((w.extent(0), w.count(0, 5, true)), (usize::MAX, None));
        (w.dilation[0], w.stride[0]) = (1, usize::MAX);
        assert_eq!((w.count(0, 5, true), w.reach(0, 9)), (Some(1), usize::MAX));
    }

    #[test]
    fn windows_and_offsets_see_the_same_elements() {
        let mut w = Window::new(&[2, 3]);
        w.stride = SmallVec::from_slice(&[2, 1]);
        w.dilation = SmallVec::from_slice(&[1, 2]);
        let padded = Layout::contiguous([1, 1, 6, 7]);
        let output = [3, 3];
        let view = w.view(&padded, &output);
        for (k, offset) in w.offsets().enumerate() {
            let at = w.at_offset(&padded, &output, &offset);
            for (i, position) in at.positions().enumerate() {
                assert_eq!(view.position_of_linear(i * 6 + k), position);
            }
        }
    }
}
