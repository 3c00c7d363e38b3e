//! Arrays on any backend, filled from a seeded generator, for tests that compare two ways to compute the same.

use isograd_core::{Backend, DType, Layout, Operand, OperandMut, Shape, Value};

/// A small generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
    pub fn range(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }
    /// In -2..2.
    pub fn float(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 51) as f64 - 2.0
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    /// A number fit for `dtype`; small integers.
    pub fn value(&mut self, dtype: DType) -> Value {
        if dtype == DType::Bool {
            return Value::Bool(self.below(2) == 1);
        }
        let v = if dtype.is_float() { self.float() } else { self.below(7) as f64 };
        Value::F64(v).cast(dtype)
    }
}

/// A buffer seen through a layout.
pub struct Array<B: Backend> {
    pub buffer: B::Buffer,
    pub dtype: DType,
    pub layout: Layout,
}

impl<B: Backend> Array<B> {
    /// The whole content of the buffer, and a layout into it.
    pub fn new(ctx: &B, dtype: DType, layout: Layout, content: &[Value]) -> Array<B> {
        let mut words = vec![0u64; (content.len() * dtype.size()).div_ceil(8).max(1)];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        content.iter().enumerate().for_each(|(i, v)| v.write(bytes, i));
        let size = (content.len() * dtype.size()).max(1);
        let mut buffer = ctx.alloc(size).unwrap();
        ctx.upload(&bytes[..size], &mut buffer, 0).unwrap();
        Array { buffer, dtype, layout }
    }

    /// Contiguous, filled with `value`.
    pub fn filled(ctx: &B, shape: impl Into<Shape>, value: Value) -> Array<B> {
        let layout = Layout::contiguous(shape);
        let content = vec![value; layout.size()];
        Array::new(ctx, value.dtype(), layout, &content)
    }

    pub fn operand(&self) -> Operand<'_, B> {
        Operand::new(&self.buffer, self.dtype, &self.layout)
    }

    pub fn operand_mut(&mut self) -> OperandMut<'_, B> {
        OperandMut::new(&mut self.buffer, self.dtype, &self.layout)
    }

    /// The elements in row-major order.
    pub fn values(&self, ctx: &B) -> Vec<Value> {
        let end = self.layout.span().1;
        let mut words = vec![0u64; (end * self.dtype.size()).div_ceil(8)];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        ctx.download(&self.buffer, 0, &mut bytes[..end * self.dtype.size()]).unwrap();
        self.layout.positions().map(|at| Value::read(self.dtype, bytes, at)).collect()
    }
}

/// A layout of `shape` that is contiguous, transposed, reversed, strided or broadcast by chance, and the size of a buffer
/// that holds it.
pub fn layout(random: &mut Random, shape: &[usize], broadcast: bool) -> (Layout, usize) {
    let rank = shape.len();
    let mut axes: Vec<usize> = (0..rank).collect();
    if random.below(3) == 0 {
        for i in (1..rank).rev() {
            axes.swap(i, random.below(i + 1));
        }
    }
    let steps: Vec<usize> = (0..rank).map(|_| if random.below(6) == 0 { 2 } else { 1 }).collect();
    let stretched: Vec<bool> = (0..rank).map(|_| broadcast && random.below(6) == 0).collect();
    // Axis i of the memory is axis axes[i] of the layout.
    let memory: Shape = axes.iter().map(|&a| if stretched[a] { 1 } else { shape[a] * steps[a] }).collect();
    let offset = random.below(4);
    let mut l = Layout::new(memory.clone(), &memory.strides(), offset);
    let size = offset + memory.size();
    let mut inverse = vec![0; rank];
    axes.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
    l = l.permute(&inverse);
    for a in 0..rank {
        if stretched[a] {
            l = l.slice(a, 0, 1, 1);
        } else if random.below(6) == 0 {
            l = l.slice(a, (shape[a] - 1) * steps[a], shape[a], -(steps[a] as isize));
        } else {
            l = l.slice(a, 0, shape[a], steps[a] as isize);
        }
    }
    (l.broadcast_to(&shape.into()).unwrap(), size)
}

/// Fails unless `got` is as close to `expected` as `tolerance`, relative to `scale` where that is larger than the number.
/// Integers and bools must be equal; NaN equals NaN.
#[track_caller]
pub fn close(got: &[Value], expected: &[Value], tolerance: f64, scale: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert_eq!(g.dtype(), e.dtype());
        if !g.dtype().is_float() {
            assert_eq!(g, e, "{what}: element {i}");
            continue;
        }
        let (g, e) = (g.to_f64(), e.to_f64());
        let same = g == e || g.is_nan() && e.is_nan() || (g - e).abs() <= tolerance * e.abs().max(scale);
        assert!(same, "{what}: element {i}: got {g}, expected {e}");
    }
}

/// The distance between 1 and the next number of `dtype`.
pub fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f32::EPSILON as f64,
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 0.0,
    }
}

pub const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];
