//! Operators that move elements without changing them. Views share memory; the others copy.

use crate::{
    Backend, DType, Error, Layout, OperandMut, Result, Shape, Tensor, autograd::Recorder, backend::launch, host,
    tensor::Memory,
};
use smallvec::{SmallVec, smallvec};
use std::{
    ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo},
    sync::Arc,
};

/// What a shape is asked for with: sizes, of which one may be -1 ("whatever is left").
pub trait IntoShape {
    /// The sizes as given.
    fn sizes(&self) -> SmallVec<[isize; 6]>;
}
impl<const N: usize> IntoShape for [isize; N] {
    fn sizes(&self) -> SmallVec<[isize; 6]> {
        SmallVec::from_slice(self)
    }
}
impl IntoShape for &[isize] {
    fn sizes(&self) -> SmallVec<[isize; 6]> {
        SmallVec::from_slice(self)
    }
}
impl IntoShape for &Shape {
    fn sizes(&self) -> SmallVec<[isize; 6]> {
        self.iter().map(|&n| isize::try_from(n).unwrap_or(isize::MAX)).collect()
    }
}

/// One entry of an index expression: see [`Tensor::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// One position; the axis disappears. Negative counts from the end.
    At(isize),
    /// `start:stop:step` as in Python: bounds are cut to the axis, negative ones count from the end.
    Slice {
        /// First position; the near end when absent.
        start: Option<isize>,
        /// One past the last position; the far end when absent.
        stop: Option<isize>,
        /// Distance; backwards when negative.
        step: isize,
    },
    /// A new axis of size 1.
    NewAxis,
    /// As many whole axes as are left over.
    Ellipsis,
}

impl From<isize> for Index {
    fn from(i: isize) -> Index {
        Index::At(i)
    }
}
impl From<Range<isize>> for Index {
    fn from(r: Range<isize>) -> Index {
        Index::Slice { start: Some(r.start), stop: Some(r.end), step: 1 }
    }
}
impl From<RangeInclusive<isize>> for Index {
    fn from(r: RangeInclusive<isize>) -> Index {
        // One past -1 would be 0, and one past the largest number is none, so the far end is left open there.
        let stop = r.end().checked_add(1).filter(|s| *s != 0);
        Index::Slice { start: Some(*r.start()), stop, step: 1 }
    }
}
impl From<RangeFrom<isize>> for Index {
    fn from(r: RangeFrom<isize>) -> Index {
        Index::Slice { start: Some(r.start), stop: None, step: 1 }
    }
}
impl From<RangeTo<isize>> for Index {
    fn from(r: RangeTo<isize>) -> Index {
        Index::Slice { start: None, stop: Some(r.end), step: 1 }
    }
}
impl From<RangeFull> for Index {
    fn from(_: RangeFull) -> Index {
        Index::Slice { start: None, stop: None, step: 1 }
    }
}

/// What [`Tensor::pad`] puts around a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This number.
    Constant(f64),
    /// The nearest element.
    Edge,
    /// The elements mirrored at the outermost one, which is not repeated.
    Reflect,
}

type ViewOf = Arc<dyn Fn(&Layout) -> Layout + Send + Sync>;

impl<B: Backend> Tensor<B> {
    /// The same elements in row-major order under another shape; one size may be -1. Shares memory when the layout allows.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 6, 1, DType::F32)?;
    /// assert_eq!(x.reshape([2, -1])?.shape(), &[2, 3]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidShape`] when the sizes do not multiply to the number of elements.
    pub fn reshape(&self, shape: impl IntoShape) -> Result<Tensor<B>> {
        const OP: &str = "reshape";
        let sizes = shape.sizes();
        let fail = |why: String| self.invalid_shape(OP, why);
        if sizes.iter().any(|&n| n < -1) || sizes.iter().filter(|&&n| n == -1).count() > 1 {
            return Err(fail(format!("to {sizes:?}: sizes are at least 0, and one may be -1")));
        }
        let known = sizes.iter().filter(|&&n| n != -1).try_fold(1usize, |known, &n| known.checked_mul(n as usize));
        let known = known.ok_or_else(|| fail(format!("it has {} elements, far fewer than {sizes:?}", self.size())))?;
        let inferred = self.size().checked_div(known).unwrap_or(0);
        let target: Shape = sizes.iter().map(|&n| if n == -1 { inferred } else { n as usize }).collect();
        if target.checked_size() != Some(self.size()) || (known == 0 && sizes.contains(&-1)) {
            return Err(fail(format!("it has {} elements, which {sizes:?} cannot hold", self.size())));
        }
        if target == *self.shape() {
            return Ok(self.clone());
        }
        let output = match self.layout().reshape(&target) {
            Some(layout) => self.view(layout),
            None => self.detach().copy()?.view(Layout::contiguous(target)),
        };
        if let Some(recorder) = Recorder::new(&[self]) {
            let shape = self.shape().clone();
            recorder.finish(OP, &output, move |head, _| Ok(smallvec![Some(head.reshape(&shape)?)]));
        }
        Ok(output)
    }

    /// [`Tensor::reshape`] with MXNet's codes: 0 keeps an axis, -1 is whatever is left, -2 keeps all axes that are left, -3
    /// joins two axes, -4 splits one into the next two numbers.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] when the codes do not fit.
    pub fn reshape_codes(&self, codes: &[isize]) -> Result<Tensor<B>> {
        let fail = || self.invalid_shape("reshape", format!("the codes {codes:?} do not fit it"));
        let mut sizes: Vec<isize> = Vec::new();
        let (mut axis, mut i) = (0, 0);
        let size = |axis: usize| self.shape().get(axis).map(|&n| n as isize).ok_or_else(fail);
        while i < codes.len() {
            match codes[i] {
                0 => {
                    sizes.push(size(axis)?);
                    axis += 1;
                }
                -2 => {
                    sizes.extend(self.shape().iter().skip(axis).map(|&n| n as isize));
                    axis = self.rank();
                }
                -3 => {
                    sizes.push(size(axis)?.checked_mul(size(axis + 1)?).ok_or_else(fail)?);
                    axis += 2;
                }
                -4 => {
                    let &[a, b] = codes.get(i + 1..i + 3).and_then(|s| s.first_chunk::<2>()).ok_or_else(fail)?;
                    let n = size(axis)?;
                    let (a, b) = match (a, b) {
                        (-1, b) if b > 0 && n % b == 0 => (n / b, b),
                        (a, -1) if a > 0 && n % a == 0 => (a, n / a),
                        (a, b) if a >= 0 && b >= 0 && a.checked_mul(b) == Some(n) => (a, b),
                        _ => return Err(fail()),
                    };
                    sizes.extend([a, b]);
                    axis += 1;
                    i += 2;
                }
                n => {
                    sizes.push(n);
                    axis += 1;
                }
            }
            i += 1;
        }
        self.reshape(&sizes[..])
    }

    /// All elements on one axis.
    ///
    /// # Errors
    /// What the device reports when a copy is needed.
    pub fn flatten(&self) -> Result<Tensor<B>> {
        self.reshape(&Shape::from([self.size()]))
    }

    /// Axis `i` of the result is axis `axes[i]` of this tensor. Shares memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`], [`Error::DuplicateAxis`]; [`Error::InvalidShape`] unless every axis is named.
    pub fn transpose(&self, axes: &[isize]) -> Result<Tensor<B>> {
        const OP: &str = "transpose";
        let mut order: SmallVec<[usize; 6]> = SmallVec::new();
        for &axis in axes {
            let axis = self.axis(OP, axis)?;
            if order.contains(&axis) {
                return Err(Error::DuplicateAxis {
                    op: OP,
                    axis,
                    shape: self.shape().clone(),
                    device: self.ctx().name(),
                });
            }
            order.push(axis);
        }
        if order.len() != self.rank() {
            return Err(self.invalid_shape(OP, format!("every axis must be named once, got {axes:?}")));
        }
        let output = self.view(self.layout().permute(&order));
        if let Some(recorder) = Recorder::new(&[self]) {
            let mut inverse: SmallVec<[isize; 6]> = smallvec![0; order.len()];
            order.iter().enumerate().for_each(|(i, &a)| inverse[a] = i as isize);
            recorder.finish(OP, &output, move |head, _| Ok(smallvec![Some(head.transpose(&inverse)?)]));
        }
        Ok(output)
    }

    /// Two axes exchanged. Shares memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`].
    pub fn swapaxes(&self, a: isize, b: isize) -> Result<Tensor<B>> {
        let (a, b) = (self.axis("swapaxes", a)?, self.axis("swapaxes", b)?);
        let mut order: SmallVec<[isize; 6]> = (0..self.rank() as isize).collect();
        order.swap(a, b);
        self.transpose(&order)
    }

    /// A new axis of size 1 in front of `axis`; -1 is after the last. Shares memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`].
    pub fn expand_dims(&self, axis: isize) -> Result<Tensor<B>> {
        let rank = self.rank() as isize + 1;
        let at = if axis < 0 { axis + rank } else { axis };
        if !(0..rank).contains(&at) {
            return Err(Error::AxisOutOfRange {
                op: "expand_dims",
                axis,
                rank: rank as usize,
                shape: self.shape().clone(),
                device: self.ctx().name(),
            });
        }
        let output = self.view(self.layout().insert_axis(at as usize, 1));
        if let Some(recorder) = Recorder::new(&[self]) {
            let shape = self.shape().clone();
            recorder.finish("expand_dims", &output, move |head, _| Ok(smallvec![Some(head.reshape(&shape)?)]));
        }
        Ok(output)
    }

    /// Without the axes of size 1, all of them with `()`. Shares memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::InvalidShape`] for an axis of another size.
    pub fn squeeze(&self, axes: impl super::Axes) -> Result<Tensor<B>> {
        let all = axes.axes().is_none();
        let axes = self.resolve_axes("squeeze", &axes)?;
        if let (false, Some(&a)) = (all, axes.iter().find(|&&a| self.shape()[a] != 1)) {
            return Err(self.invalid_shape("squeeze", format!("axis {a} has size {}, not 1", self.shape()[a])));
        }
        let kept = |a: &usize| !axes.contains(a) || self.shape()[*a] != 1;
        let shape: Shape = (0..self.rank()).filter(kept).map(|a| self.shape()[a]).collect();
        self.reshape(&shape)
    }

    pub(crate) fn squeeze_axis(&self, axis: isize) -> Result<Tensor<B>> {
        self.squeeze(axis)
    }

    /// Repeated to `shape` by NumPy's rule. Shares memory; the repeated axes have stride 0.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::InvalidShape`] for more elements than can be counted.
    pub fn broadcast_to(&self, shape: impl AsRef<[usize]>) -> Result<Tensor<B>> {
        let shape = Shape::from(shape.as_ref());
        if shape.checked_size().is_none() {
            return Err(self.too_large("broadcast_to", &shape));
        }
        if shape == *self.shape() {
            return Ok(self.clone());
        }
        let layout = self.layout().broadcast_to(&shape).ok_or_else(|| {
            self.shape_mismatch("broadcast_to", &shape, "sizes must be equal or 1, counted from the last axis")
        })?;
        let output = self.view(layout);
        if let Some(recorder) = Recorder::new(&[self]) {
            let target = self.shape().clone();
            recorder.finish("broadcast_to", &output, move |head, _| Ok(smallvec![Some(head.sum_to(&target)?)]));
        }
        Ok(output)
    }

    /// What no tensor can become, since its elements cannot be counted.
    pub(crate) fn too_large(&self, op: &'static str, sizes: &[usize]) -> Error {
        self.invalid_shape(
            op,
            format!("the result would be {:?}, more elements than any tensor has", Shape::from(sizes)),
        )
    }

    /// A view whose elements are distinct elements of this tensor; its adjoint puts them back among zeros.
    fn select_view(&self, op: &'static str, view: ViewOf) -> Tensor<B> {
        let output = self.view(view(self.layout()));
        if let Some(recorder) = Recorder::new(&[self]) {
            let shape = self.shape().clone();
            recorder.finish(op, &output, move |head, _| Ok(smallvec![Some(head.embed(op, &shape, view.clone())?)]));
        }
        output
    }

    /// Zeros of `shape` with this tensor where `view` looks.
    fn embed(&self, op: &'static str, shape: &Shape, view: ViewOf) -> Result<Tensor<B>> {
        let output = Tensor::zeros(self.ctx(), shape, self.dtype())?;
        output.view(view(output.layout())).assign(&self.detach())?;
        if let Some(recorder) = Recorder::new(&[self]) {
            recorder.finish(op, &output, move |head, _| Ok(smallvec![Some(head.select_view(op, view.clone()))]));
        }
        Ok(output)
    }

    /// Elements `start..stop` of `axis`, every `step`-th, as in Python: bounds are cut to the axis, negative ones count from
    /// the end, a negative step goes backwards. Shares memory.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 6, 1, DType::I32)?;
    /// assert_eq!(x.slice(0, Some(-2), None, 1)?.to_vec::<i32>()?, [4, 5]);
    /// assert_eq!(x.slice(0, None, None, -2)?.to_vec::<i32>()?, [5, 3, 1]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::InvalidArgument`] for step 0.
    pub fn slice(&self, axis: isize, start: Option<isize>, stop: Option<isize>, step: isize) -> Result<Tensor<B>> {
        let axis = self.axis("slice", axis)?;
        if step == 0 {
            return Err(Error::invalid("slice", "the step must not be 0"));
        }
        let n = self.shape()[axis] as isize;
        // Python's rule: after counting from the end, bounds are cut to what the direction can reach.
        let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let bound = |v: Option<isize>, default: isize| match v {
            Some(v) => (if v < 0 { v + n } else { v }).clamp(low, high),
            None => default,
        };
        let (start, stop) =
            if step > 0 { (bound(start, 0), bound(stop, n)) } else { (bound(start, n - 1), bound(stop, -1)) };
        let span = if step > 0 { stop - start } else { start - stop };
        let length = if span <= 0 { 0 } else { (span as usize - 1) / step.unsigned_abs() + 1 };
        let start = if length == 0 { 0 } else { start as usize };
        // The distance between elements matters only where there are two.
        let step = if length < 2 { 1 } else { step };
        Ok(self.select_view("slice", Arc::new(move |l| l.slice(axis, start, length, step))))
    }

    /// `length` elements of `axis` from `start` on. Shares memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::IndexOutOfRange`] when they do not all exist.
    pub fn narrow(&self, axis: isize, start: usize, length: usize) -> Result<Tensor<B>> {
        let axis = self.axis("narrow", axis)?;
        if start.checked_add(length).is_none_or(|end| end > self.shape()[axis]) {
            return Err(self.index_error("narrow", start.saturating_add(length) as i64, axis));
        }
        Ok(self.select_view("narrow", Arc::new(move |l| l.slice(axis, start, length, 1))))
    }

    pub(crate) fn index_error(&self, op: &'static str, index: i64, axis: usize) -> Error {
        Error::IndexOutOfRange { op, index, axis, size: self.shape()[axis], device: self.ctx().name() }
    }

    /// The part at position `index` of `axis`, without that axis. Negative counts from the end. Shares memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`], [`Error::IndexOutOfRange`].
    pub fn select(&self, axis: isize, index: isize) -> Result<Tensor<B>> {
        let axis = self.axis("select", axis)?;
        let n = self.shape()[axis] as isize;
        let at = if index < 0 { index + n } else { index };
        if !(0..n).contains(&at) {
            return Err(self.index_error("select", index as i64, axis));
        }
        Ok(self.select_view("select", Arc::new(move |l| l.select(axis, at as usize))))
    }

    /// Basic indexing, one entry per axis from the first: positions, ranges, new axes, an ellipsis. Shares memory.
    ///
    /// ```
    /// use isograd::{DType, Tensor, operators::Index};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 24, 1, DType::I32)?.reshape([2, 3, 4])?;
    /// let y = x.index(&[(-1).into(), Index::Slice { start: None, stop: None, step: -1 }])?;   // x[-1, ::-1]
    /// assert_eq!(y.shape(), &[3, 4]);
    /// assert_eq!(x.index(&[Index::Ellipsis, (1..3).into()])?.shape(), &[2, 3, 2]);            // x[..., 1:3]
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more entries than axes or two ellipses; as [`Tensor::select`] and [`Tensor::slice`].
    pub fn index(&self, entries: &[Index]) -> Result<Tensor<B>> {
        let consumed = entries.iter().filter(|e| matches!(e, Index::At(_) | Index::Slice { .. })).count();
        let dots = entries.iter().filter(|e| **e == Index::Ellipsis).count();
        if consumed > self.rank() || dots > 1 {
            return Err(Error::invalid("index", format!("{entries:?} does not fit shape {:?}", self.shape())));
        }
        let mut x = self.clone();
        let mut axis = 0isize;
        for entry in entries {
            match *entry {
                Index::At(i) => x = x.select(axis, i)?,
                Index::Slice { start, stop, step } => {
                    if (start, stop, step) != (None, None, 1) {
                        x = x.slice(axis, start, stop, step)?;
                    }
                    axis += 1;
                }
                Index::NewAxis => {
                    x = x.expand_dims(axis)?;
                    axis += 1;
                }
                Index::Ellipsis => axis += (self.rank() - consumed) as isize,
            }
        }
        Ok(x)
    }

    /// `axis` backwards. Shares memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`].
    pub fn flip(&self, axis: isize) -> Result<Tensor<B>> {
        let axis = self.axis("flip", axis)?;
        let n = self.shape()[axis];
        Ok(self.select_view("flip", Arc::new(move |l| l.slice(axis, n.saturating_sub(1), n, -1))))
    }

    /// Tensors one after another along `axis`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for none; [`Error::ShapeMismatch`] unless they agree in all other axes;
    /// [`Error::DTypeMismatch`], [`Error::DeviceMismatch`], [`Error::AxisOutOfRange`].
    pub fn concat(tensors: &[&Tensor<B>], axis: isize) -> Result<Tensor<B>> {
        const OP: &str = "concat";
        let first = *tensors.first().ok_or_else(|| Error::invalid(OP, "it needs at least one tensor"))?;
        let axis = first.axis(OP, axis)?;
        let mut total = 0usize;
        for t in tensors {
            first.same_device(OP, t)?;
            first.same_dtype(OP, t)?;
            if t.rank() != first.rank() || (0..t.rank()).any(|a| a != axis && t.shape()[a] != first.shape()[a]) {
                return Err(first.shape_mismatch(OP, t.shape(), format!("all axes but axis {axis} must agree")));
            }
            total = total.saturating_add(t.shape()[axis]);
        }
        let dtype = first.dtype();
        let shape = first.shape().with(axis, total);
        let mut buffer = Memory::alloc(first.ctx(), &shape, dtype)?;
        let whole = Layout::contiguous(shape);
        let mut starts: SmallVec<[(usize, usize); 4]> = SmallVec::new();
        let mut at = 0;
        for t in tensors {
            let n = t.shape()[axis];
            let part = whole.slice(axis, at, n, 1);
            t.with_operand(|x| launch::copy(t.ctx(), &x, &mut OperandMut::new(&mut buffer, dtype, &part)))?;
            starts.push((at, n));
            at += n;
        }
        let output = Tensor::from_parts(first.ctx().clone(), Memory::new(buffer), whole, dtype);
        if let Some(recorder) = Recorder::new(tensors) {
            recorder.finish(OP, &output, move |head, context| {
                let part = |(k, &(start, n)): (usize, &(usize, usize))| {
                    context.wants(k).then(|| head.narrow(axis as isize, start, n)).transpose()
                };
                starts.iter().enumerate().map(part).collect()
            });
        }
        Ok(output)
    }

    /// Tensors of one shape along a new axis.
    ///
    /// # Errors
    /// As [`Tensor::concat`]; [`Error::ShapeMismatch`] unless all shapes are equal.
    pub fn stack(tensors: &[&Tensor<B>], axis: isize) -> Result<Tensor<B>> {
        let first = *tensors.first().ok_or_else(|| Error::invalid("stack", "it needs at least one tensor"))?;
        if let Some(other) = tensors.iter().find(|t| t.shape() != first.shape()) {
            return Err(first.shape_mismatch("stack", other.shape(), "all shapes must be equal"));
        }
        let expanded: Vec<Tensor<B>> = tensors.iter().map(|t| t.expand_dims(axis)).collect::<Result<_>>()?;
        let at = if axis < 0 { axis + first.rank() as isize + 1 } else { axis };
        Tensor::concat(&expanded.iter().collect::<Vec<_>>(), at)
    }

    /// `parts` pieces of equal size along `axis`. They share memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::InvalidShape`] unless `parts` divides the axis; [`Error::OutOfMemory`] for more parts
    /// than the host can list.
    pub fn split(&self, parts: usize, axis: isize) -> Result<Vec<Tensor<B>>> {
        let at = self.axis("split", axis)?;
        let n = self.shape()[at];
        if parts == 0 || !n.is_multiple_of(parts) {
            return Err(self.invalid_shape(
                "split",
                format!("axis {at} of size {n} cannot be cut into {parts} equal parts; use split_sizes"),
            ));
        }
        self.pieces(parts, std::iter::repeat_n(n / parts, parts), at)
    }

    /// Pieces of the given sizes along `axis`. They share memory.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::InvalidShape`] unless the sizes add up to the axis.
    pub fn split_sizes(&self, sizes: &[usize], axis: isize) -> Result<Vec<Tensor<B>>> {
        let at = self.axis("split", axis)?;
        if sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)) != Some(self.shape()[at]) {
            return Err(self.invalid_shape("split", format!("sizes {sizes:?} do not add up to axis {at}")));
        }
        self.pieces(sizes.len(), sizes.iter().copied(), at)
    }

    /// Pieces of sizes that add up to the axis.
    fn pieces(&self, count: usize, sizes: impl Iterator<Item = usize>, axis: usize) -> Result<Vec<Tensor<B>>> {
        // Most of what a piece takes is not in the list: its handle and its layout.
        drop(host::reserve::<[u8; 256]>("split", count)?);
        let mut pieces = host::reserve("split", count)?;
        let mut start = 0;
        for n in sizes {
            pieces.push(self.narrow(axis as isize, start, n)?);
            start += n;
        }
        Ok(pieces)
    }

    /// Elements put around: `widths[a]` is how many before and after along axis `a`; missing trailing axes get none.
    ///
    /// ```
    /// use isograd::{Tensor, operators::PadMode};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[1i32, 2, 3], [3])?;
    /// assert_eq!(x.pad(&[(1, 2)], PadMode::Edge)?.to_vec::<i32>()?, [1, 1, 2, 3, 3, 3]);
    /// assert_eq!(x.pad(&[(1, 2)], PadMode::Reflect)?.to_vec::<i32>()?, [2, 1, 2, 3, 2, 1]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidShape`] for more widths than axes, an empty axis to repeat from, a reflection wider than the axis, or an
    /// axis longer than any tensor's; [`Error::OutOfMemory`]; [`Error::ScalarOutOfRange`].
    pub fn pad(&self, widths: &[(usize, usize)], mode: PadMode) -> Result<Tensor<B>> {
        const OP: &str = "pad";
        if widths.len() > self.rank() {
            return Err(self.invalid_shape(OP, format!("{} widths for {} axes", widths.len(), self.rank())));
        }
        let mut sizes = self.shape().clone();
        for (size, &(before, after)) in sizes.as_mut_slice().iter_mut().zip(widths) {
            *size = size.saturating_add(before).saturating_add(after);
        }
        if sizes.checked_size().is_none() || sizes.iter().any(|&n| n > isize::MAX as usize) {
            return Err(self.too_large(OP, &sizes));
        }
        if let PadMode::Constant(value) = mode {
            let widths: SmallVec<[(usize, usize); 4]> = widths.into();
            let inner = self.shape().clone();
            let view: ViewOf =
                Arc::new(move |l| widths.iter().enumerate().fold(l.clone(), |l, (a, w)| l.slice(a, w.0, inner[a], 1)));
            let output = Tensor::full(self.ctx(), &sizes, value, self.dtype())?;
            output.view(view(output.layout())).assign(&self.detach())?;
            if let Some(recorder) = Recorder::new(&[self]) {
                recorder.finish(OP, &output, move |head, _| Ok(smallvec![Some(head.select_view(OP, view.clone()))]));
            }
            return Ok(output);
        }
        let mut x = self.clone();
        for (axis, &(before, after)) in widths.iter().enumerate() {
            if (before, after) == (0, 0) {
                continue;
            }
            let n = self.shape()[axis];
            if n == 0 || mode == PadMode::Reflect && before.max(after) >= n {
                return Err(self.invalid_shape(
                    OP,
                    format!("axis {axis} of size {n} is too short to be continued by {before} and {after}"),
                ));
            }
            let last = n as i64 - 1;
            let places = Tensor::arange(self.ctx(), -(before as i64), n as i64 + after as i64, 1, DType::I64)?;
            let positions = match mode {
                // last - |last - |i||
                PadMode::Reflect => places.abs()?.rsub_scalar(last)?.abs()?.rsub_scalar(last)?,
                _ => places.clamp(0, last)?,
            };
            x = x.take(&positions, axis as isize, super::TakeMode::Raise)?;
        }
        Ok(x)
    }

    /// The whole tensor repeated `repeats[a]` times along axis `a`, as NumPy's `tile`: missing leading entries are 1, more
    /// entries than axes add axes in front.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] for more elements than can be counted; [`Error::OutOfMemory`]; what the device reports.
    pub fn tile(&self, repeats: &[usize]) -> Result<Tensor<B>> {
        let rank = self.rank().max(repeats.len());
        let size = |a: usize| if a + self.rank() >= rank { self.shape()[a + self.rank() - rank] } else { 1 };
        let times = |a: usize| if a + repeats.len() >= rank { repeats[a + repeats.len() - rank] } else { 1 };
        let apart: Shape = (0..rank).flat_map(|a| [1, size(a)]).collect();
        let repeated: Shape = (0..rank).flat_map(|a| [times(a), size(a)]).collect();
        let joined: Shape = (0..rank).map(|a| times(a).saturating_mul(size(a))).collect();
        if repeated.checked_size().is_none() {
            return Err(self.too_large("tile", &joined));
        }
        self.reshape(&apart)?.broadcast_to(&repeated)?.reshape(&joined)
    }

    /// Each element of `axis` repeated `times` times in place.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::InvalidShape`] for more elements than can be counted; [`Error::OutOfMemory`]; what the
    /// device reports.
    pub fn repeat(&self, times: usize, axis: isize) -> Result<Tensor<B>> {
        let at = self.axis("repeat", axis)?;
        let repeated = self.shape().inserted(at + 1, times);
        let joined = self.shape().with(at, self.shape()[at].saturating_mul(times));
        if repeated.checked_size().is_none() {
            return Err(self.too_large("repeat", &joined));
        }
        self.expand_dims(at as isize + 1)?.broadcast_to(&repeated)?.reshape(&joined)
    }

    /// Elements moved by `shift` along `axis`; those that leave at one end come back at the other.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`].
    pub fn roll(&self, shift: isize, axis: isize) -> Result<Tensor<B>> {
        let at = self.axis("roll", axis)?;
        let n = self.shape()[at];
        if n == 0 {
            return Ok(self.clone());
        }
        let head = n - shift.rem_euclid(n as isize) as usize;
        let axis = at as isize;
        Tensor::concat(&[&self.narrow(axis, head % n, n - head % n)?, &self.narrow(axis, 0, head % n)?], axis)
    }

    /// This tensor with zeros above diagonal `k` of its last two axes.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] for fewer than two axes.
    pub fn tril(&self, k: isize) -> Result<Tensor<B>> {
        self.triangle("tril", k, false)
    }

    /// This tensor with zeros below diagonal `k` of its last two axes.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] for fewer than two axes.
    pub fn triu(&self, k: isize) -> Result<Tensor<B>> {
        // Below the lowest diagonal there is nothing either.
        self.triangle("triu", k.saturating_sub(1), true)
    }

    fn triangle(&self, op: &'static str, k: isize, below: bool) -> Result<Tensor<B>> {
        let [.., rows, columns] = self.shape()[..] else {
            return Err(self.invalid_shape(op, "it needs at least two axes"));
        };
        let lower = Tensor::tri(self.ctx(), rows, columns, k, DType::Bool)?;
        let zeroed = if below { lower } else { lower.logical_not()? };
        self.masked_fill(&zeroed, 0)
    }
}
