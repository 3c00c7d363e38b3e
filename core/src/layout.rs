//! Where the elements of a tensor lie: [`Shape`] and [`Layout`], pure values.
//!
//! A [`Layout`] maps an index to a position in a buffer, `offset + Σ index[i] * stride[i]`, counted in elements. Every view
//! (transpose, slice, broadcast, window) is a new layout over the same memory. A new kind of view is a new method here.

use smallvec::{SmallVec, smallvec};
use std::{fmt, ops::Deref};

/// The sizes of a tensor's axes, outermost first. Rank 0 is the empty shape.
///
/// ```
/// use isograd::Shape;
/// let s = Shape::from([2, 3, 4]);
/// assert_eq!(s.size(), 24);
/// assert_eq!(format!("{s:?}"), "(2, 3, 4)");
/// ```
#[derive(PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 6]>);

impl Clone for Shape {
    /// One copy of memory; the derived clone goes element by element, which a small operator would notice.
    #[inline]
    fn clone(&self) -> Shape {
        Shape(SmallVec::from_slice(&self.0))
    }
}

impl Shape {
    /// The number of elements: the product of all sizes, 1 for rank 0. Where that is beyond `usize`, its largest number:
    /// [`Shape::checked_size`] tells.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.iter().fold(1, |size: usize, &n| size.saturating_mul(n))
    }

    /// The number of elements, `None` where no tensor can have this shape: it has more than `isize::MAX`, or the product of
    /// its sizes other than 0 is beyond `usize`, so that parts of it cannot be counted. Every tensor has passed this check.
    ///
    /// ```
    /// use isograd::Shape;
    /// assert_eq!(Shape::from([2, 3]).checked_size(), Some(6));
    /// assert_eq!(Shape::from([usize::MAX, 0]).checked_size(), Some(0));
    /// assert_eq!(Shape::from([1 << 40, 1 << 40]).checked_size(), None);
    /// ```
    #[inline]
    pub fn checked_size(&self) -> Option<usize> {
        let counted = self.0.iter().try_fold(1usize, |size, &n| size.checked_mul(n.max(1)))?;
        if self.0.contains(&0) {
            return Some(0);
        }
        (counted <= isize::MAX as usize).then_some(counted)
    }

    /// The number of axes.
    #[inline]
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The row-major strides of this shape, in elements.
    #[inline]
    pub fn strides(&self) -> SmallVec<[isize; 6]> {
        let mut strides: SmallVec<[isize; 6]> = smallvec![0; self.rank()];
        let mut step = 1isize;
        for (stride, &size) in strides.iter_mut().zip(&self.0).rev() {
            *stride = step;
            step = step.saturating_mul(size.max(1) as isize);
        }
        strides
    }

    /// The shape that `self` and `other` broadcast to by NumPy's rule, if there is one.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        if self == other {
            return Some(self.clone());
        }
        let rank = self.rank().max(other.rank());
        let at = |s: &Shape, i: usize| if i + s.rank() >= rank { s[i + s.rank() - rank] } else { 1 };
        (0..rank)
            .map(|i| match (at(self, i), at(other, i)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect()
    }

    /// This shape with the size at `axis` replaced.
    #[must_use]
    pub fn with(&self, axis: usize, size: usize) -> Shape {
        let mut s = self.clone();
        s.0[axis] = size;
        s
    }

    /// This shape without `axis`.
    #[must_use]
    pub fn without(&self, axis: usize) -> Shape {
        let mut s = self.clone();
        s.0.remove(axis);
        s
    }

    /// This shape with an axis of `size` put in front of position `axis`.
    #[must_use]
    pub fn inserted(&self, axis: usize, size: usize) -> Shape {
        let mut s = self.clone();
        s.0.insert(axis, size);
        s
    }

    /// Appends an axis at the end.
    pub fn push(&mut self, size: usize) {
        self.0.push(size);
    }

    /// The sizes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [usize] {
        &mut self.0
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}
impl AsRef<[usize]> for Shape {
    fn as_ref(&self) -> &[usize] {
        &self.0
    }
}
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [one] => write!(f, "({one},)"),
            all => {
                f.write_str("(")?;
                for (i, size) in all.iter().enumerate() {
                    write!(f, "{}{size}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    fn from(v: [usize; N]) -> Shape {
        Shape(SmallVec::from_slice(&v))
    }
}
impl From<&[usize]> for Shape {
    fn from(v: &[usize]) -> Shape {
        Shape(SmallVec::from_slice(v))
    }
}
impl From<Vec<usize>> for Shape {
    fn from(v: Vec<usize>) -> Shape {
        Shape(SmallVec::from_vec(v))
    }
}
impl From<&Shape> for Shape {
    fn from(v: &Shape) -> Shape {
        v.clone()
    }
}
impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Shape {
        Shape(iter.into_iter().collect())
    }
}
impl<const N: usize> PartialEq<[usize; N]> for Shape {
    fn eq(&self, other: &[usize; N]) -> bool {
        self.0[..] == other[..]
    }
}
impl PartialEq<[usize]> for Shape {
    fn eq(&self, other: &[usize]) -> bool {
        self.0[..] == *other
    }
}

/// Shape, strides and offset of a view, counted in elements.
///
/// ```
/// use isograd::{Layout, Shape};
/// let rows = Layout::contiguous([3, 4]);
/// let columns = rows.permute(&[1, 0]);
/// assert_eq!(columns.shape(), &Shape::from([4, 3]));
/// assert_eq!(columns.strides(), &[1, 4]);
/// assert!(!columns.is_contiguous());
/// ```
#[derive(PartialEq, Eq, Hash)]
pub struct Layout {
    shape: Shape,
    strides: SmallVec<[isize; 6]>,
    offset: usize,
}

impl Clone for Layout {
    #[inline]
    fn clone(&self) -> Layout {
        Layout { shape: self.shape.clone(), strides: SmallVec::from_slice(&self.strides), offset: self.offset }
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} strides {:?} offset {}", self.shape, &self.strides[..], self.offset)
    }
}

impl Layout {
    /// The row-major layout of `shape`, starting at 0.
    pub fn contiguous(shape: impl Into<Shape>) -> Layout {
        let shape = shape.into();
        let strides = match shape.rank() {
            1 => SmallVec::from_slice(&[1]),
            _ => shape.strides(),
        };
        Layout { shape, strides, offset: 0 }
    }

    /// A layout from its parts.
    ///
    /// # Panics
    /// Panics when shape and strides differ in length, or an index of the shape would lie before position 0.
    pub fn new(shape: impl Into<Shape>, strides: &[isize], offset: usize) -> Layout {
        let shape = shape.into();
        assert_eq!(shape.rank(), strides.len(), "a layout has one stride per axis");
        let layout = Layout { shape, strides: SmallVec::from_slice(strides), offset };
        let lowest: isize = layout.reach(|s| s < 0);
        assert!(layout.is_empty() || offset as isize + lowest >= 0, "layout {layout:?} reaches before its buffer");
        layout
    }

    /// `size` elements one after another from `offset` on, as one axis: any contiguous layout, merged.
    #[inline]
    pub(crate) fn flat(size: usize, offset: usize) -> Layout {
        Layout { shape: Shape(SmallVec::from_slice(&[size])), strides: SmallVec::from_slice(&[1]), offset }
    }

    fn reach(&self, sign: impl Fn(isize) -> bool) -> isize {
        self.strides.iter().zip(self.shape.iter()).filter(|(s, _)| sign(**s)).map(|(s, &n)| s * (n as isize - 1)).sum()
    }

    /// The sizes of the axes.
    #[inline]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Distance in elements between neighbours along each axis; 0 where the axis is broadcast.
    #[inline]
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Position of the element with index 0 everywhere.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The number of axes.
    #[inline]
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// The number of indices (not of distinct positions).
    #[inline]
    pub fn size(&self) -> usize {
        self.shape.size()
    }

    /// Whether there is no element at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Whether the elements lie one after another in row-major order (from any offset).
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        if let [1] = self.strides[..] {
            return true;
        }
        let mut step = 1isize;
        for (&stride, &size) in self.strides.iter().zip(self.shape.iter()).rev() {
            if size != 1 {
                if stride != step {
                    return self.is_empty();
                }
                step *= size as isize;
            }
        }
        true
    }

    /// The lowest and one past the highest position that an index reaches; `(0, 0)` when empty.
    #[inline]
    pub fn span(&self) -> (usize, usize) {
        if let ([n], [1]) = (&self.shape.0[..], &self.strides[..]) {
            return if *n == 0 { (0, 0) } else { (self.offset, self.offset + n) };
        }
        if self.is_empty() {
            return (0, 0);
        }
        let low = self.offset as isize + self.reach(|s| s < 0);
        let high = self.offset as isize + self.reach(|s| s > 0);
        (low as usize, high as usize + 1)
    }

    /// Position of `index`.
    pub fn position(&self, index: &[usize]) -> usize {
        let moved: isize = index.iter().zip(&self.strides).map(|(&i, &s)| i as isize * s).sum();
        (self.offset as isize + moved) as usize
    }

    /// Position of the element with row-major number `linear`.
    #[inline]
    pub fn position_of_linear(&self, mut linear: usize) -> usize {
        let mut at = self.offset as isize;
        for (&n, &s) in self.shape.iter().zip(&self.strides).rev() {
            at += (linear % n) as isize * s;
            linear /= n;
        }
        at as usize
    }

    /// The positions of all elements in row-major order.
    pub fn positions(&self) -> Positions<'_> {
        Positions { layout: self, index: smallvec![0; self.rank()], at: self.offset as isize, left: self.size() }
    }

    /// Broadcasts to `shape` by NumPy's rule: missing axes in front, size 1 repeated with stride 0.
    pub fn broadcast_to(&self, shape: &Shape) -> Option<Layout> {
        if self.shape == *shape {
            return Some(self.clone());
        }
        let extra = shape.rank().checked_sub(self.rank())?;
        let mut strides: SmallVec<[isize; 6]> = smallvec![0; shape.rank()];
        for i in 0..self.rank() {
            match (self.shape[i], shape[extra + i]) {
                (a, b) if a == b => strides[extra + i] = self.strides[i],
                (1, _) => {}
                _ => return None,
            }
        }
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }

    /// Axis `i` of the result is axis `axes[i]` of this layout.
    ///
    /// # Panics
    /// Panics when `axes` is not a permutation of the axes.
    #[must_use]
    pub fn permute(&self, axes: &[usize]) -> Layout {
        assert_eq!(axes.len(), self.rank(), "permute needs every axis once");
        Layout {
            shape: axes.iter().map(|&a| self.shape[a]).collect(),
            strides: axes.iter().map(|&a| self.strides[a]).collect(),
            offset: self.offset,
        }
    }

    /// `length` elements along `axis`, from `start`, every `step`-th (backwards when negative).
    ///
    /// # Panics
    /// Panics when an element would lie outside the axis.
    #[must_use]
    pub fn slice(&self, axis: usize, start: usize, length: usize, step: isize) -> Layout {
        let mut l = self.clone();
        l.shape = self.shape.with(axis, length);
        l.strides[axis] = spaced(self.strides[axis], step, length);
        if length > 0 {
            let last = if length > 1 { start as isize + (length as isize - 1) * step } else { start as isize };
            let n = self.shape[axis] as isize;
            assert!((start as isize) < n && last >= 0 && last < n, "slice leaves axis {axis} of {:?}", self.shape);
            l.offset = (self.offset as isize + start as isize * self.strides[axis]) as usize;
        }
        l
    }

    /// This layout without `axis`, at `index` along it.
    ///
    /// # Panics
    /// Panics when `index` lies outside the axis.
    #[must_use]
    pub fn select(&self, axis: usize, index: usize) -> Layout {
        self.slice(axis, index, 1, 1).remove_axis(axis)
    }

    /// This layout without `axis`, whose size must be 1.
    #[must_use]
    pub fn remove_axis(&self, axis: usize) -> Layout {
        debug_assert_eq!(self.shape[axis], 1);
        let mut l = self.clone();
        l.shape = self.shape.without(axis);
        l.strides.remove(axis);
        l
    }

    /// Inserts an axis of size `size` and stride 0 in front of position `axis`.
    #[must_use]
    pub fn insert_axis(&self, axis: usize, size: usize) -> Layout {
        let mut l = self.clone();
        l.shape = self.shape.inserted(axis, size);
        l.strides.insert(axis, 0);
        l
    }

    /// Replaces `axis` by two, of sizes `outer` and `inner`, whose product is its size.
    #[must_use]
    pub fn split_axis(&self, axis: usize, outer: usize, inner: usize) -> Layout {
        debug_assert_eq!(self.shape[axis], outer * inner);
        let mut l = self.clone();
        l.shape = self.shape.with(axis, outer).inserted(axis + 1, inner);
        l.strides[axis] = self.strides[axis] * inner as isize;
        l.strides.insert(axis + 1, self.strides[axis]);
        l
    }

    /// Sliding windows along `axis`: the axis keeps the `count` positions of the window, `stride` apart, and a new last
    /// axis runs over the `size` elements within it, `dilation` apart.
    ///
    /// # Panics
    /// Panics when the last window leaves the axis.
    #[must_use]
    pub fn window(&self, axis: usize, count: usize, stride: usize, size: usize, dilation: usize) -> Layout {
        let reach = |n: usize, step: usize| n.saturating_sub(1).saturating_mul(step);
        assert!(
            count == 0 || size == 0 || reach(count, stride).saturating_add(reach(size, dilation)) < self.shape[axis],
            "window leaves axis {axis} of {:?}",
            self.shape
        );
        let mut l = self.clone();
        l.shape = self.shape.with(axis, count);
        l.shape.push(size);
        l.strides[axis] = spaced(self.strides[axis], stride as isize, count);
        l.strides.push(spaced(self.strides[axis], dilation as isize, size));
        l
    }

    /// The same elements in row-major order under another shape, without a copy, where strides allow it.
    pub fn reshape(&self, shape: &Shape) -> Option<Layout> {
        debug_assert_eq!(self.size(), shape.size());
        if self.is_contiguous() || self.is_empty() {
            return Some(Layout { strides: shape.strides(), shape: shape.clone(), offset: self.offset });
        }
        // Groups of old and new axes with equal products; within a group the old axes must be evenly spaced.
        let old: SmallVec<[(usize, isize); 6]> =
            self.shape.iter().copied().zip(self.strides.iter().copied()).filter(|(n, _)| *n != 1).collect();
        let mut strides: SmallVec<[isize; 6]> = smallvec![0; shape.rank()];
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (i0, j0) = (i, j);
            let (mut olds, mut news) = (old[i].0, *shape.get(j)?);
            i += 1;
            j += 1;
            while olds != news {
                if olds < news {
                    olds *= old.get(i)?.0;
                    i += 1;
                } else {
                    news *= *shape.get(j)?;
                    j += 1;
                }
            }
            if (i0..i - 1).any(|k| old[k].1 != old[k + 1].1 * old[k + 1].0 as isize) {
                return None;
            }
            let mut step = old[i - 1].1;
            for k in (j0..j).rev() {
                strides[k] = step;
                step *= shape[k] as isize;
            }
        }
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }

    /// Whether two different indices share a position (a broadcast or an overlapping window). May say yes where a closer
    /// look would say no, never the reverse.
    pub fn may_overlap(&self) -> bool {
        let mut axes: SmallVec<[(usize, usize); 6]> = self
            .strides
            .iter()
            .zip(self.shape.iter())
            .filter(|(_, n)| **n > 1)
            .map(|(s, n)| (s.unsigned_abs(), *n))
            .collect();
        axes.sort_unstable();
        let mut reach = 0;
        for (stride, n) in axes {
            if stride <= reach {
                return true;
            }
            reach += stride * (n - 1);
        }
        false
    }
}

/// The stride of every `step`-th element of an axis. Where there are not two, it does not matter, and may be beyond any number.
fn spaced(stride: isize, step: isize, length: usize) -> isize {
    if length > 1 { stride * step } else { stride }
}

/// Iterator over the positions of a [`Layout`] in row-major order.
#[derive(Debug, Clone)]
pub struct Positions<'a> {
    layout: &'a Layout,
    index: SmallVec<[usize; 6]>,
    at: isize,
    left: usize,
}

impl Iterator for Positions<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let here = self.at as usize;
        for axis in (0..self.index.len()).rev() {
            self.index[axis] += 1;
            self.at += self.layout.strides[axis];
            if self.index[axis] < self.layout.shape[axis] {
                break;
            }
            self.at -= self.layout.strides[axis] * self.layout.shape[axis] as isize;
            self.index[axis] = 0;
        }
        Some(here)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// Removes axes of size 1 and joins neighbouring axes that are evenly spaced in every layout, so that kernels see as few
/// axes as possible. Axes before and from `boundary` on are not joined with each other (reductions: the reduced axes come
/// last). All layouts must have the same shape; at least one axis remains on each side that had one.
///
/// Returns the new position of the boundary.
pub fn merge_axes(layouts: &mut [Layout], boundary: usize) -> usize {
    let Some(first) = layouts.first() else { return boundary };
    let rank = first.rank();
    let merge_range = |layouts: &mut [Layout], from: usize, to: usize| -> usize {
        // `kept` axes lie in from..from + kept; the loop reads ahead of where it writes.
        let mut kept = 0;
        for axis in from..to {
            let size = layouts[0].shape[axis];
            if size == 1 && !(kept == 0 && axis + 1 == to) {
                continue;
            }
            let last = (from + kept).wrapping_sub(1);
            let joins = kept > 0 && layouts.iter().all(|l| l.strides[last] == l.strides[axis] * size as isize);
            for l in layouts.iter_mut() {
                if joins {
                    l.shape.0[last] *= size;
                    l.strides[last] = l.strides[axis];
                } else {
                    l.shape.0[from + kept] = size;
                    l.strides[from + kept] = l.strides[axis];
                }
            }
            kept += !joins as usize;
        }
        kept
    };
    let inner = merge_range(layouts, boundary, rank);
    let outer = merge_range(layouts, 0, boundary);
    for l in layouts.iter_mut() {
        l.shape.0.drain(boundary + inner..);
        l.strides.drain(boundary + inner..);
        l.shape.0.drain(outer..boundary);
        l.strides.drain(outer..boundary);
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_run_in_row_major_order() {
        let l = Layout::contiguous([2, 3]).permute(&[1, 0]);
        assert_eq!(l.positions().collect::<Vec<_>>(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Layout::contiguous([]).positions().collect::<Vec<_>>(), [0]);
        assert_eq!(Layout::contiguous([2, 0]).positions().count(), 0);
        for (i, p) in l.positions().enumerate() {
            assert_eq!(l.position_of_linear(i), p);
        }
    }

    #[test]
    fn sizes_are_counted_without_wrapping() {
        for (shape, size) in [
            (vec![], Some(1)),
            (vec![3, 4], Some(12)),
            (vec![usize::MAX, 0], Some(0)),
            (vec![isize::MAX as usize], Some(isize::MAX as usize)),
            (vec![isize::MAX as usize + 1], None),
            (vec![1 << 40, 1 << 40], None),
            (vec![0, 1 << 40, 1 << 40], None),
        ] {
            assert_eq!(Shape::from(&shape[..]).checked_size(), size, "{shape:?}");
        }
        assert_eq!(Shape::from([1 << 40, 1 << 40]).size(), usize::MAX);
        assert_eq!(Shape::from([1 << 40, 1 << 40, 0]).size(), 0);
        // The distance between elements of an axis that has one.
        let one = Layout::contiguous([7, 9]).slice(0, 3, 1, isize::MAX);
        assert_eq!(one.span(), (27, 36));
        assert_eq!(Layout::contiguous([7, 9]).window(0, 1, usize::MAX, 1, 1 << 62).size(), 9);
    }

    #[test]
    fn broadcasting_is_numpys() {
        let a = Shape::from([3, 1, 5]);
        assert_eq!(a.broadcast(&Shape::from([4, 1])), Some(Shape::from([3, 4, 5])));
        assert_eq!(a.broadcast(&Shape::from([2, 1, 1])), None);
        assert_eq!(Shape::from([0]).broadcast(&Shape::from([1])), Some(Shape::from([0])));
        let l = Layout::contiguous([3, 1]).broadcast_to(&Shape::from([2, 3, 4])).unwrap();
        assert_eq!(l.strides(), &[0, 1, 0]);
    }

    #[test]
    fn reshape_is_a_view_where_it_can_be() {
        let t = Layout::contiguous([4, 6]).permute(&[1, 0]);
        assert!(t.reshape(&Shape::from([24])).is_none());
        assert_eq!(t.reshape(&Shape::from([2, 3, 4])).unwrap().strides(), &[3, 1, 6]);
        assert_eq!(t.reshape(&Shape::from([1, 6, 1, 4])).unwrap().strides()[1], 1);
        let every_other = Layout::contiguous([12]).slice(0, 10, 6, -2);
        let r = every_other.reshape(&Shape::from([2, 3])).unwrap();
        assert_eq!(r.positions().collect::<Vec<_>>(), [10, 8, 6, 4, 2, 0]);
    }

    #[test]
    fn merging_keeps_every_position() {
        let full = Layout::contiguous([2, 1, 3, 4]);
        let row = Layout::contiguous([4]).broadcast_to(full.shape()).unwrap();
        let mut both = [full.clone(), row.clone()];
        assert_eq!(merge_axes(&mut both, 4), 2);
        assert_eq!(both[0].shape(), &Shape::from([6, 4]));
        for (merged, plain) in both.iter().zip([full, row]) {
            assert!(merged.positions().eq(plain.positions()));
        }
        let mut ones = [Layout::contiguous([1, 1])];
        assert_eq!(merge_axes(&mut ones, 1), 1);
        assert_eq!(ones[0].shape(), &Shape::from([1, 1]));
    }

    #[test]
    fn overlap_is_seen() {
        assert!(!Layout::contiguous([3, 4]).may_overlap());
        assert!(!Layout::contiguous([3, 4]).permute(&[1, 0]).may_overlap());
        assert!(Layout::contiguous([1, 4]).broadcast_to(&Shape::from([3, 4])).unwrap().may_overlap());
        assert!(Layout::contiguous([9]).window(0, 7, 1, 3, 1).may_overlap());
        assert!(!Layout::contiguous([9]).window(0, 3, 3, 3, 1).may_overlap());
    }

    #[test]
    fn span_covers_negative_strides() {
        let l = Layout::contiguous([10]).slice(0, 8, 4, -2);
        assert_eq!(l.span(), (2, 9));
    }
}
