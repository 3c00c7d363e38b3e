//! Convolution, pooling, unfold and fold: operators over sliding windows.

use super::PadMode;
use crate::{
    Backend, DType, Error, Layout, Operand, OperandMut, Pool, Result, Shape, Tensor, Window,
    autograd::Recorder,
    backend::launch,
    host,
    tensor::{Memory, Reading, check_storable},
};
use smallvec::{SmallVec, smallvec};

/// How a convolution slides. Each list has one entry per spatial axis, or one for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Distance between neighbouring windows.
    pub stride: Vec<usize>,
    /// Zeros put before and after each axis.
    pub padding: Vec<usize>,
    /// Distance between neighbouring elements of a window.
    pub dilation: Vec<usize>,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Transposed convolution only: elements that the output is longer by at the end of each axis.
    pub output_padding: Vec<usize>,
}

impl Default for ConvOptions {
    /// Stride 1, no padding, no dilation, one group.
    fn default() -> Self {
        ConvOptions { stride: vec![1], padding: vec![0], dilation: vec![1], groups: 1, output_padding: vec![0] }
    }
}

/// How a pooling window slides. Each list has one entry per spatial axis, or one for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Elements of the window.
    pub kernel: Vec<usize>,
    /// Distance between neighbouring windows; the kernel when empty.
    pub stride: Vec<usize>,
    /// Elements put before and after each axis.
    pub padding: Vec<usize>,
    /// Whether a last window that reaches beyond the padding counts.
    pub ceil_mode: bool,
    /// Average pooling: whether padding counts as zeros in the mean.
    pub count_include_pad: bool,
}

impl PoolOptions {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: &[usize]) -> PoolOptions {
        PoolOptions {
            kernel: kernel.to_vec(),
            stride: vec![],
            padding: vec![0],
            ceil_mode: false,
            count_include_pad: true,
        }
    }
}

fn per_axis(op: &'static str, name: &str, given: &[usize], axes: usize) -> Result<SmallVec<[usize; 3]>> {
    match given {
        [one] => Ok(smallvec![*one; axes]),
        all if all.len() == axes => Ok(all.into()),
        _ => Err(Error::invalid(op, format!("{name} has {} entries, but there are {axes} spatial axes", given.len()))),
    }
}

fn at_least_one(op: &'static str, name: &str, values: &[usize]) -> Result<()> {
    if values.contains(&0) {
        Err(Error::invalid(op, format!("{name} must be at least 1, got {values:?}")))
    } else {
        Ok(())
    }
}

/// The most padding that an axis may have: kernels count positions in 32 bits where arrays are small.
const MOST_PADDING: usize = 1 << 28;

fn check_padding(op: &'static str, padding: &[usize]) -> Result<()> {
    match padding.iter().find(|&&p| p > MOST_PADDING) {
        Some(p) => Err(Error::invalid(op, format!("the padding {p} is too large; the most is {MOST_PADDING}"))),
        None => Ok(()),
    }
}

/// Brings what has no effect within the padded axes, so that kernels compute with numbers of the size of the arrays: a stride
/// that no second window fits, and the dilation of a kernel of one element.
fn settle(w: &mut Window, sizes: &[usize]) {
    for (a, &size) in sizes.iter().enumerate() {
        w.stride[a] = w.stride[a].min((size + 2 * w.padding[a]).max(1));
        if w.kernel[a] == 1 {
            w.dilation[a] = 1;
        }
    }
}

/// A window from the options of a convolution.
fn window(op: &'static str, kernel: &[usize], options: &ConvOptions) -> Result<Window> {
    let axes = kernel.len();
    let w = Window {
        kernel: kernel.into(),
        stride: per_axis(op, "stride", &options.stride, axes)?,
        padding: per_axis(op, "padding", &options.padding, axes)?,
        dilation: per_axis(op, "dilation", &options.dilation, axes)?,
        groups: options.groups,
    };
    at_least_one(op, "stride", &w.stride)?;
    at_least_one(op, "dilation", &w.dilation)?;
    at_least_one(op, "groups", &[w.groups])?;
    at_least_one(op, "kernel", &w.kernel)?;
    check_padding(op, &w.padding)?;
    Ok(w)
}

/// Runs a kernel of two inputs into a new contiguous tensor.
fn binary_kernel<B: Backend>(
    a: &Tensor<B>,
    b: &Tensor<B>,
    shape: &Shape,
    kernel: impl FnOnce(&B, &Operand<'_, B>, &Operand<'_, B>, &mut OperandMut<'_, B>) -> Result<()>,
) -> Result<Tensor<B>> {
    let dtype = a.dtype();
    if shape.contains(&0) || a.size() == 0 || b.size() == 0 {
        return Tensor::zeros(a.ctx(), shape, dtype);
    }
    check_storable(a.ctx(), "result", shape, dtype)?;
    let mut buffer = Memory::alloc(a.ctx(), shape, dtype)?;
    let layout = Layout::contiguous(shape);
    {
        let reading = Reading::of([a.memory(), b.memory()]);
        let x = Operand::new(reading.buffer(a.memory()), dtype, a.layout());
        let y = Operand::new(reading.buffer(b.memory()), dtype, b.layout());
        kernel(a.ctx(), &x, &y, &mut OperandMut::new(&mut buffer, dtype, &layout))?;
    }
    Ok(Tensor::from_parts(a.ctx().clone(), Memory::new(buffer), layout, dtype))
}

impl<B: Backend> Tensor<B> {
    fn check_conv(&self, op: &'static str, weight: &Tensor<B>) -> Result<usize> {
        self.same_device(op, weight)?;
        self.same_dtype(op, weight)?;
        self.need_float(op)?;
        self.need_computable(op, self.dtype())?;
        if self.rank() < 3 || weight.rank() != self.rank() {
            return Err(self.shape_mismatch(
                op,
                weight.shape(),
                "input [batch, channels, spatial..] and weight must have as many axes, at least three",
            ));
        }
        Ok(self.rank() - 2)
    }

    fn add_channels(self, bias: Option<&Tensor<B>>) -> Result<Tensor<B>> {
        let Some(bias) = bias else { return Ok(self) };
        if bias.shape()[..] != [self.shape()[1]] {
            return Err(self.shape_mismatch("conv", bias.shape(), "the bias has one element per output channel"));
        }
        let mut shape = Shape::from(vec![1; self.rank()]);
        shape.as_mut_slice()[1] = bias.size();
        self.add(&bias.reshape(&shape)?)
    }

    /// Convolution (cross-correlation) over 1, 2 or 3 spatial axes: input `[batch, channels, spatial..]`, weight
    /// `[out channels, channels / groups, kernel..]`, bias `[out channels]`.
    ///
    /// ```
    /// use isograd::{DType, Tensor, operators::ConvOptions};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::ones(&ctx, [1, 1, 4, 4], DType::F32)?;
    /// let w = Tensor::ones(&ctx, [2, 1, 3, 3], DType::F32)?;
    /// let y = x.conv(&w, None, &ConvOptions { padding: vec![1], ..Default::default() })?;
    /// assert_eq!(y.shape(), &[1, 2, 4, 4]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::InvalidShape`], [`Error::InvalidArgument`], [`Error::DTypeMismatch`],
    /// [`Error::DeviceMismatch`], [`Error::UnsupportedDType`]; what the device reports.
    pub fn conv(&self, weight: &Tensor<B>, bias: Option<&Tensor<B>>, options: &ConvOptions) -> Result<Tensor<B>> {
        const OP: &str = "conv";
        self.check_conv(OP, weight)?;
        let mut w = window(OP, &weight.shape()[2..], options)?;
        let (channels, outputs) = (self.shape()[1], weight.shape()[0]);
        if weight.shape()[1].saturating_mul(w.groups) != channels || !outputs.is_multiple_of(w.groups) {
            return Err(self.shape_mismatch(
                OP,
                weight.shape(),
                format!(
                    "the weight is [out channels, channels / groups, kernel..] with {} groups, which divide both",
                    w.groups
                ),
            ));
        }
        let mut shape = Shape::from([self.shape()[0], outputs]);
        for a in 0..w.axes() {
            let count = w.count(a, self.shape()[2 + a], false).ok_or_else(|| {
                self.invalid_shape(
                    OP,
                    format!(
                        "spatial axis {a} with its padding is shorter than the kernel, which spans {}",
                        w.extent(a)
                    ),
                )
            })?;
            shape.push(count);
        }
        settle(&mut w, &self.shape()[2..]);
        self.conv_raw(&w, weight, &shape)?.add_channels(bias)
    }

    fn conv_raw(&self, w: &Window, weight: &Tensor<B>, shape: &Shape) -> Result<Tensor<B>> {
        let output = binary_kernel(self, weight, shape, |ctx, x, k, y| ctx.conv(w, x, k, y))?;
        if let Some(recorder) = Recorder::new(&[self, weight]) {
            let x = recorder.wants(1).then(|| recorder.input(0, self));
            let k = recorder.wants(0).then(|| recorder.input(1, weight));
            let (shape_x, shape_k, w) = (self.shape().clone(), weight.shape().clone(), w.clone());
            recorder.finish("conv", &output, move |head, context| {
                let into_x = match &k {
                    Some(k) => Some(head.conv_input_gradient(&w, &k.get(context)?, &shape_x)?),
                    None => None,
                };
                let into_k = match &x {
                    Some(x) => Some(x.get(context)?.conv_weight_gradient(&w, head, &shape_k)?),
                    None => None,
                };
                Ok(smallvec![into_x, into_k])
            });
        }
        Ok(output)
    }

    /// Of a head gradient. Linear in both, so its derivatives are the other two kernels.
    fn conv_input_gradient(&self, w: &Window, weight: &Tensor<B>, shape: &Shape) -> Result<Tensor<B>> {
        let output = binary_kernel(self, weight, shape, |ctx, h, k, x| ctx.conv_input_gradient(w, h, k, x))?;
        if let Some(recorder) = Recorder::new(&[self, weight]) {
            let h = recorder.wants(1).then(|| recorder.input(0, self));
            let k = recorder.wants(0).then(|| recorder.input(1, weight));
            let (shape_h, shape_k, w) = (self.shape().clone(), weight.shape().clone(), w.clone());
            recorder.finish("conv_input_gradient", &output, move |head, context| {
                let into_h = match &k {
                    Some(k) => Some(head.conv_raw(&w, &k.get(context)?, &shape_h)?),
                    None => None,
                };
                let into_k = match &h {
                    Some(h) => Some(head.conv_weight_gradient(&w, &h.get(context)?, &shape_k)?),
                    None => None,
                };
                Ok(smallvec![into_h, into_k])
            });
        }
        Ok(output)
    }

    /// Of an input, with the head gradient.
    fn conv_weight_gradient(&self, w: &Window, head: &Tensor<B>, shape: &Shape) -> Result<Tensor<B>> {
        let output = binary_kernel(self, head, shape, |ctx, x, h, k| ctx.conv_weight_gradient(w, x, h, k))?;
        if let Some(recorder) = Recorder::new(&[self, head]) {
            let x = recorder.wants(1).then(|| recorder.input(0, self));
            let h = recorder.wants(0).then(|| recorder.input(1, head));
            let (shape_x, shape_h, w) = (self.shape().clone(), head.shape().clone(), w.clone());
            recorder.finish("conv_weight_gradient", &output, move |head, context| {
                let into_x = match &h {
                    Some(h) => Some(h.get(context)?.conv_input_gradient(&w, head, &shape_x)?),
                    None => None,
                };
                let into_h = match &x {
                    Some(x) => Some(x.get(context)?.conv_raw(&w, head, &shape_h)?),
                    None => None,
                };
                Ok(smallvec![into_x, into_h])
            });
        }
        Ok(output)
    }

    /// Transposed convolution: the gradient of [`Tensor::conv`] in its input, as an operator of its own. Input
    /// `[batch, channels, spatial..]`, weight `[channels, out channels / groups, kernel..]`.
    ///
    /// # Errors
    /// As [`Tensor::conv`].
    pub fn conv_transpose(
        &self,
        weight: &Tensor<B>,
        bias: Option<&Tensor<B>>,
        options: &ConvOptions,
    ) -> Result<Tensor<B>> {
        const OP: &str = "conv_transpose";
        let axes = self.check_conv(OP, weight)?;
        let mut w = window(OP, &weight.shape()[2..], options)?;
        let extra = per_axis(OP, "output_padding", &options.output_padding, axes)?;
        if weight.shape()[0] != self.shape()[1] || !self.shape()[1].is_multiple_of(w.groups) {
            return Err(self.shape_mismatch(
                OP,
                weight.shape(),
                format!(
                    "the weight is [channels, out channels / groups, kernel..] with {} groups, which divide both",
                    w.groups
                ),
            ));
        }
        let mut shape = Shape::from([self.shape()[0], weight.shape()[1].saturating_mul(w.groups)]);
        for (a, &extra) in extra.iter().enumerate() {
            if extra >= w.stride[a].max(w.dilation[a]) {
                return Err(Error::invalid(
                    OP,
                    format!(
                        "output_padding {extra} must be below stride {} or dilation {}",
                        w.stride[a], w.dilation[a]
                    ),
                ));
            }
            let n = self.shape()[2 + a];
            let whole = if n == 0 { 0 } else { w.reach(a, n).saturating_add(extra) };
            if whole > isize::MAX as usize {
                let why =
                    format!("stride {} and dilation {} make spatial axis {a} too long", w.stride[a], w.dilation[a]);
                return Err(self.invalid_shape(OP, why));
            }
            let size = whole.checked_sub(2 * w.padding[a]).filter(|&s| s > 0).ok_or_else(|| {
                self.invalid_shape(OP, format!("nothing is left of spatial axis {a} after cutting off the padding"))
            })?;
            shape.push(size);
        }
        settle(&mut w, &shape[2..]);
        self.conv_input_gradient(&w, weight, &shape)?.add_channels(bias)
    }

    fn pool_window(&self, op: &'static str, options: &PoolOptions) -> Result<(Window, Shape)> {
        self.need_computable(op, self.dtype())?;
        if self.rank() < 3 {
            return Err(self.invalid_shape(op, "it must be [batch, channels, spatial..]"));
        }
        let axes = self.rank() - 2;
        let kernel = per_axis(op, "kernel", &options.kernel, axes)?;
        let stride =
            if options.stride.is_empty() { kernel.clone() } else { per_axis(op, "stride", &options.stride, axes)? };
        let padding = per_axis(op, "padding", &options.padding, axes)?;
        at_least_one(op, "kernel", &kernel)?;
        at_least_one(op, "stride", &stride)?;
        check_padding(op, &padding)?;
        if let Some(a) = (0..axes).find(|&a| padding[a] >= kernel[a] && padding[a] > 0) {
            return Err(Error::invalid(
                op,
                format!(
                    "padding {} on axis {a} must be smaller than the kernel {}: a window would see nothing else",
                    padding[a], kernel[a]
                ),
            ));
        }
        let mut w = Window { kernel, stride, padding, dilation: smallvec![1; axes], groups: 1 };
        let mut shape: Shape = self.shape()[..2].into();
        for a in 0..axes {
            let n = self.shape()[2 + a];
            let count = w.count(a, n, options.ceil_mode).filter(|_| n > 0).ok_or_else(|| {
                self.invalid_shape(
                    op,
                    format!("spatial axis {a} with its padding is shorter than the kernel, {}", w.kernel[a]),
                )
            })?;
            shape.push(count);
        }
        settle(&mut w, &self.shape()[2..]);
        Ok((w, shape))
    }

    fn pool(&self, op: &'static str, kind: Pool, w: Window, shape: &Shape) -> Result<Tensor<B>> {
        let dtype = self.dtype();
        let mut buffer = Memory::alloc(self.ctx(), shape, dtype)?;
        let layout = Layout::contiguous(shape);
        if !layout.is_empty() {
            self.with_operand(|x| self.ctx().pool(kind, &w, &x, &mut OperandMut::new(&mut buffer, dtype, &layout)))?;
        }
        let output = Tensor::from_parts(self.ctx().clone(), Memory::new(buffer), layout, dtype);
        if let Some(recorder) = Recorder::new(&[self]) {
            let x = recorder.input(0, self);
            recorder.finish(op, &output, move |head, context| {
                Ok(smallvec![Some(x.get(context)?.pool_gradient(op, kind, &w, head)?)])
            });
        }
        Ok(output)
    }

    /// The gradient of a pooling of this tensor. As an operator it is linear in the head; the places of the largest elements
    /// do not move.
    fn pool_gradient(&self, op: &'static str, kind: Pool, w: &Window, head: &Tensor<B>) -> Result<Tensor<B>> {
        if kind == Pool::Max && crate::autograd::is_recording() {
            // Recorded, it is a scatter to the places of the largest elements, which is differentiable.
            let places = self.max_places(w, &head.shape()[2..])?;
            let (batch, channels) = (self.shape()[0], self.shape()[1]);
            let rows = Shape::from([batch, channels, self.shape()[2..].iter().product()]);
            let zeros = Tensor::zeros(self.ctx(), &rows, self.dtype())?;
            // A window that sees padding only has no place, and passes nothing on.
            let nowhere = places.equal_scalar(i64::MAX)?;
            let places = places.masked_fill(&nowhere, 0)?;
            let flat = head.reshape(places.shape())?.masked_fill(&nowhere, 0)?;
            return zeros.scatter_add(2, &places, &flat)?.reshape(self.shape());
        }
        let x = self.detach();
        let output =
            binary_kernel(&x, &head.detach(), self.shape(), |ctx, x, h, y| ctx.pool_gradient(kind, w, x, h, y))?;
        if let Some(recorder) = Recorder::new(&[head]) {
            let (w, shape) = (w.clone(), head.shape().clone());
            recorder.finish(op, &output, move |head, _| Ok(smallvec![Some(head.pool(op, kind, w.clone(), &shape)?)]));
        }
        Ok(output)
    }

    /// For each window of max pooling, the row-major spatial number of its first largest element: `[batch, channels,
    /// windows]`, i64.
    fn max_places(&self, w: &Window, output: &[usize]) -> Result<Tensor<B>> {
        let x = self.detach();
        let spatial = &self.shape()[2..];
        let ctx = self.ctx();
        // Numbers of the elements, -1 for padding, seen through the same windows as the elements themselves.
        let padded = w.padded(spatial, output);
        let widths: Vec<(usize, usize)> = [(0, 0); 2]
            .into_iter()
            .chain((0..w.axes()).map(|a| (w.padding[a], padded[a] - w.padding[a] - spatial[a])))
            .collect();
        let numbers = Tensor::arange(ctx, 0, spatial.iter().product::<usize>() as i64, 1, DType::I64)?;
        let plane: Shape = [1, 1].into_iter().chain(spatial.iter().copied()).collect();
        let numbers = numbers.reshape(&plane)?.pad(&widths, PadMode::Constant(-1.0))?;
        let x = x.pad(&widths, PadMode::Constant(f64::NEG_INFINITY))?;
        let numbers = numbers.view(w.view(numbers.layout(), output));
        let windows = x.view(w.view(x.layout(), output));
        let taps: Vec<isize> = (0..w.axes() as isize).map(|a| a - w.axes() as isize).collect();
        let largest = windows.max(&taps[..], true)?;
        // The lowest number among the largest is the first: rows of a window come in the order of the plane.
        let hit = windows.equal(&largest)?.logical_or(&windows.is_nan()?.logical_and(&largest.is_nan()?)?)?;
        let inside = numbers.greater_equal_scalar(0)?;
        let far = Tensor::full(ctx, [1], i64::MAX, DType::I64)?;
        let candidates = hit.logical_and(&inside)?.where_(&numbers.broadcast_to(windows.shape())?, &far)?;
        let places = Shape::from([self.shape()[0], self.shape()[1], output.iter().product()]);
        candidates.min(&taps[..], false)?.reshape(&places)
    }

    /// The largest element of each window of `[batch, channels, spatial..]`. Padding never wins; NaN does; of equal elements
    /// the first gets the gradient.
    ///
    /// # Errors
    /// [`Error::InvalidShape`], [`Error::InvalidArgument`]; what the device reports.
    pub fn max_pool(&self, options: &PoolOptions) -> Result<Tensor<B>> {
        let (w, shape) = self.pool_window("max_pool", options)?;
        self.pool("max_pool", Pool::Max, w, &shape)
    }

    /// The mean of each window of `[batch, channels, spatial..]`.
    ///
    /// # Errors
    /// As [`Tensor::max_pool`]; [`Error::UnsupportedDType`] unless the dtype is a floating one.
    pub fn avg_pool(&self, options: &PoolOptions) -> Result<Tensor<B>> {
        self.need_float("avg_pool")?;
        let (w, shape) = self.pool_window("avg_pool", options)?;
        let kind = if options.count_include_pad { Pool::AvgWithPadding } else { Pool::AvgWithoutPadding };
        self.pool("avg_pool", kind, w, &shape)
    }

    fn spatial_axes(&self, op: &'static str) -> Result<Vec<isize>> {
        if self.rank() < 3 {
            return Err(self.invalid_shape(op, "it must be [batch, channels, spatial..]"));
        }
        Ok((2..self.rank() as isize).collect())
    }

    /// The largest element of each channel: `[batch, channels, 1..]`. Of equal elements the first gets the gradient.
    ///
    /// # Errors
    /// As [`Tensor::max_pool`].
    pub fn global_max_pool(&self) -> Result<Tensor<B>> {
        self.spatial_axes("global_max_pool")?;
        self.max_pool(&PoolOptions::new(&self.shape()[2..]))
    }

    /// The mean of each channel: `[batch, channels, 1..]`.
    ///
    /// # Errors
    /// As [`Tensor::avg_pool`].
    pub fn global_avg_pool(&self) -> Result<Tensor<B>> {
        let axes = self.spatial_axes("global_avg_pool")?;
        self.mean(axes, true)
    }

    /// Windows chosen so that the output has the given spatial sizes: from ⌊i n/m⌋ to ⌈(i+1) n/m⌉ along an axis of n
    /// elements and m windows.
    fn adaptive(
        &self,
        op: &'static str,
        sizes: &[usize],
        fold: impl Fn(&Tensor<B>, isize) -> Result<Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let axes = self.spatial_axes(op)?;
        let sizes = per_axis(op, "output size", sizes, axes.len())?;
        at_least_one(op, "output size", &sizes)?;
        let mut x = self.clone();
        // The windows are products of intervals, so one axis after another gives the same means and maxima.
        for (&axis, &m) in axes.iter().zip(&sizes) {
            let n = self.shape()[axis as usize];
            if n == 0 {
                return Err(self.invalid_shape(op, "spatial axes must not be empty"));
            }
            // Whether there is room for what follows shows before the work begins.
            drop(Memory::alloc(self.ctx(), &x.shape().with(axis as usize, m), x.dtype())?);
            drop(host::reserve::<[u8; 512]>(op, m)?);
            let mut parts = host::reserve(op, m)?;
            // ⌊i n/m⌋, in 128 bits.
            let share = |i: usize| (i as u128 * n as u128, m as u128);
            for i in 0..m {
                let (from, to) = (share(i), share(i + 1));
                let (from, to) = ((from.0 / from.1) as usize, to.0.div_ceil(to.1) as usize);
                parts.push(fold(&x.narrow(axis, from, to - from)?, axis)?);
            }
            x = Tensor::concat(&parts.iter().collect::<Vec<_>>(), axis)?;
        }
        Ok(x)
    }

    /// Average pooling to the given spatial sizes, PyTorch's and MXNet's windows.
    ///
    /// # Errors
    /// As [`Tensor::avg_pool`].
    pub fn adaptive_avg_pool(&self, sizes: &[usize]) -> Result<Tensor<B>> {
        self.need_float("adaptive_avg_pool")?;
        self.adaptive("adaptive_avg_pool", sizes, |x, axis| x.mean(axis, true))
    }

    /// Max pooling to the given spatial sizes. Ties share the gradient.
    ///
    /// # Errors
    /// As [`Tensor::max_pool`].
    pub fn adaptive_max_pool(&self, sizes: &[usize]) -> Result<Tensor<B>> {
        self.adaptive("adaptive_max_pool", sizes, |x, axis| x.max(axis, true))
    }

    /// The windows of `[batch, channels, spatial..]` as columns: `[batch, channels * kernel, windows]`, PyTorch's `unfold`.
    ///
    /// # Errors
    /// As [`Tensor::conv`].
    pub fn unfold(&self, kernel: &[usize], options: &ConvOptions) -> Result<Tensor<B>> {
        const OP: &str = "unfold";
        let axes = self.spatial_axes(OP)?.len();
        let mut w = window(OP, &per_axis(OP, "kernel", kernel, axes)?, &ConvOptions { groups: 1, ..options.clone() })?;
        let mut output: SmallVec<[usize; 3]> = SmallVec::new();
        for a in 0..axes {
            let count = w.count(a, self.shape()[2 + a], false);
            output.push(
                count.ok_or_else(|| self.invalid_shape(OP, format!("spatial axis {a} is shorter than the kernel")))?,
            );
        }
        settle(&mut w, &self.shape()[2..]);
        self.unfold_raw(&w, &output)
    }

    fn unfold_raw(&self, w: &Window, output: &[usize]) -> Result<Tensor<B>> {
        let spatial: SmallVec<[usize; 3]> = self.shape()[2..].into();
        let padded = w.padded(&spatial, output);
        let widths: Vec<(usize, usize)> = [(0, 0); 2]
            .into_iter()
            .chain((0..w.axes()).map(|a| (w.padding[a], padded[a] - w.padding[a] - spatial[a])))
            .collect();
        let x = self.detach().pad(&widths, PadMode::Constant(0.0))?;
        let n = w.axes();
        // [batch, channels, output.., kernel..] to [batch, channels, kernel.., output..]
        let order: Vec<usize> = [0, 1].into_iter().chain(2 + n..2 + 2 * n).chain(2..2 + n).collect();
        let columns =
            Shape::from([self.shape()[0], self.shape()[1].saturating_mul(w.taps()), Shape::from(output).size()]);
        let result = x.view(w.view(x.layout(), output).permute(&order)).copy()?.reshape(&columns)?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let (w, output): (Window, SmallVec<[usize; 3]>) = (w.clone(), output.into());
            recorder
                .finish("unfold", &result, move |head, _| Ok(smallvec![Some(head.fold_raw(&w, &spatial, &output)?)]));
        }
        Ok(result)
    }

    /// The adjoint of [`Tensor::unfold`]: columns `[batch, channels * kernel, windows]` added up where their windows lie in
    /// `[batch, channels, output size..]`.
    ///
    /// # Errors
    /// As [`Tensor::unfold`].
    pub fn fold_windows(&self, output_size: &[usize], kernel: &[usize], options: &ConvOptions) -> Result<Tensor<B>> {
        const OP: &str = "fold";
        let axes = output_size.len();
        let mut w = window(OP, &per_axis(OP, "kernel", kernel, axes)?, &ConvOptions { groups: 1, ..options.clone() })?;
        let mut counts: SmallVec<[usize; 3]> = SmallVec::new();
        for (a, &n) in output_size.iter().enumerate() {
            counts.push(
                w.count(a, n, false)
                    .ok_or_else(|| self.invalid_shape(OP, format!("output axis {a} is shorter than the kernel")))?,
            );
        }
        let (taps, windows) = (w.taps(), Shape::from(&counts[..]).size());
        if self.rank() != 3 || !self.shape()[1].is_multiple_of(taps) || self.shape()[2] != windows {
            return Err(self.invalid_shape(OP, format!("it must be [batch, channels * {taps}, {windows}]")));
        }
        settle(&mut w, output_size);
        self.fold_raw(&w, output_size, &counts)
    }

    fn fold_raw(&self, w: &Window, spatial: &[usize], output: &[usize]) -> Result<Tensor<B>> {
        use crate::expr::{Expr, PerDType};
        static ACCUMULATE: PerDType = PerDType::new("fold", |d| {
            let c = d.compute();
            (vec![Expr::old(0, c) + Expr::input(0, d).cast(c)], vec![d], vec![])
        });
        let taps = w.taps();
        let (batch, channels) = (self.shape()[0], self.shape()[1] / taps);
        let (d, ctx) = (self.dtype(), self.ctx());
        let mut shape = Shape::from([batch, channels]);
        w.padded(spatial, output).iter().for_each(|&n| shape.push(n));
        // Added up in the dtype that is computed in, and rounded once.
        let sum = Tensor::zeros(ctx, &shape, d.compute())?;
        let mut shares = Shape::from([batch, channels, taps]);
        output.iter().for_each(|&n| shares.push(n));
        let shares = self.detach().reshape(&shares)?;
        if sum.size() > 0 && shares.size() > 0 {
            let mut guard = sum.memory().write();
            for (tap, offset) in w.offsets().enumerate() {
                let place = w.at_offset(sum.layout(), output, &offset);
                let share = shares.layout().select(2, tap);
                shares.with_operand(|x| {
                    let kernel = ACCUMULATE.kernel(d, &[]);
                    launch::map(
                        ctx,
                        &kernel,
                        &[x.with_layout(&share)],
                        &mut [OperandMut::new(&mut *guard, d.compute(), &place)],
                    )
                })?;
            }
        }
        let interior = sum.view(w.interior(sum.layout(), spatial));
        let result = interior.copy()?.cast(d)?.detach();
        if let Some(recorder) = Recorder::new(&[self]) {
            let (w, output): (Window, SmallVec<[usize; 3]>) = (w.clone(), output.into());
            recorder.finish("fold", &result, move |head, _| Ok(smallvec![Some(head.unfold_raw(&w, &output)?)]));
        }
        Ok(result)
    }
}
