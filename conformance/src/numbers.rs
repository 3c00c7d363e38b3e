//! What cases are drawn from: a generator of its own, numbers of each dtype, shapes, and views with arbitrary strides.

use isograd_core::{DType, Dyn, Layout, Result, Shape, Tensor, Value, bf16, f16};

/// SplitMix64 (Steele et al., OOPSLA 2014): the same draws from the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// A generator for `what`, so that cases do not depend on each other.
    pub fn new(seed: u64, what: &str) -> Numbers {
        let hash = what.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3));
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ hash)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| all.swap(i, self.below(i + 1)));
        all
    }
}

/// Where the numbers of an input come from.
#[derive(Clone, Copy, Debug)]
pub enum Domain {
    /// Evenly spread over a range, distinct, none within 0.03 of a number to avoid.
    Range(f64, f64, &'static [f64]),
    /// These, in turn.
    Values(&'static [f64]),
    /// Small integers on integer dtypes, both truth values on bool, -2..2 on floating ones.
    Any,
    /// All bits of integers; on floating dtypes as `Any`, but one in 16 is a number at which implementations go wrong.
    Extreme,
    /// As `Any`, but one in 64 is NaN, infinite or zero.
    Infinite,
    /// Few numbers, each many times, and a NaN now and then.
    Ties,
    /// Positions below this.
    Below(usize),
}

impl Domain {
    /// `n` numbers of `dtype`.
    pub fn draw(self, numbers: &mut Numbers, dtype: DType, n: usize) -> Vec<Value> {
        if let Domain::Extreme = self {
            let all = special(dtype);
            let mut values = Domain::Any.draw(numbers, dtype, n);
            for v in &mut values {
                *v = match numbers.below(if dtype.is_int() { 2 } else { 16 }) {
                    0 => numbers.pick(&all),
                    _ if dtype.is_int() => Value::I64(numbers.bits() as i64).cast(dtype),
                    _ => *v,
                };
            }
            return values;
        }
        let values: Vec<f64> = match self {
            Domain::Values(v) => (0..n).map(|i| v[i % v.len()]).collect(),
            Domain::Range(low, high, avoid) => spread(numbers, n, low, high, avoid),
            Domain::Below(below) => (0..n).map(|_| numbers.below(below) as f64).collect(),
            Domain::Ties => {
                let nan = if dtype.is_float() { f64::NAN } else { 2.0 };
                (0..n).map(|_| if numbers.below(40) == 0 { nan } else { numbers.pick(&[0.0, 1.0, 2.0, 1.0]) }).collect()
            }
            Domain::Any if dtype == DType::Bool => (0..n).map(|_| numbers.below(2) as f64).collect(),
            Domain::Any if dtype == DType::U8 => (0..n).map(|_| numbers.below(23) as f64).collect(),
            Domain::Any if dtype.is_int() => (0..n).map(|_| numbers.below(23) as f64 - 11.0).collect(),
            Domain::Infinite => {
                let rare = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0];
                let values = spread(numbers, n, -2.0, 2.0, &[]);
                values.into_iter().map(|v| if numbers.below(64) == 0 { numbers.pick(&rare) } else { v }).collect()
            }
            Domain::Any | Domain::Extreme => spread(numbers, n, -2.0, 2.0, &[]),
        };
        values.into_iter().map(|v| Value::F64(v).cast(dtype)).collect()
    }
}

/// A shuffled grid with a little noise: no two within 0.4 of its step.
fn spread(numbers: &mut Numbers, n: usize, low: f64, high: f64, avoid: &[f64]) -> Vec<f64> {
    let step = (high - low) / n as f64;
    let places = numbers.shuffled(n);
    let mut values: Vec<f64> = places.iter().map(|&p| low + step * (p as f64 + 0.2 + 0.6 * numbers.unit())).collect();
    for v in &mut values {
        if let Some(a) = avoid.iter().find(|a| (*v - **a).abs() < 0.03) {
            *v = a + if *v < *a { -0.03 } else { 0.03 } + 0.005 * (numbers.unit() - 0.5);
        }
    }
    values
}

/// Numbers at which implementations go wrong: NaN, infinities, zeros of both signs, subnormals, extremes, halves.
pub fn special(dtype: DType) -> Vec<Value> {
    let both = |values: &[f64]| -> Vec<f64> { values.iter().flat_map(|&v| [v, -v]).collect() };
    let from = |values: Vec<f64>| values.into_iter().map(|v| Value::F64(v).cast(dtype)).collect::<Vec<_>>();
    // Among them what lies at the ends of integer dtypes, for casts.
    let common = [
        0.0,
        1.0,
        0.5,
        1.5,
        2.5,
        3.0,
        1e-3,
        10.0,
        88.5,
        127.9,
        128.5,
        255.6,
        256.0,
        1e3,
        2147483648.0,
        9.223_372_036_854_776e18,
        f64::INFINITY,
    ];
    match dtype {
        DType::Bool => vec![Value::Bool(false), Value::Bool(true)],
        DType::I64 => [
            i64::MIN,
            i64::MIN + 1,
            -300,
            -3,
            -2,
            -1,
            0,
            1,
            2,
            7,
            200,
            1 << 31,
            (1 << 32) + 5,
            1 << 40,
            (1 << 53) + 1,
            i64::MAX,
        ]
        .map(Value::I64)
        .to_vec(),
        DType::I32 => [i32::MIN, i32::MIN + 1, -300, -3, -2, -1, 0, 1, 2, 7, 200, 46341, (1 << 24) + 1, i32::MAX]
            .map(Value::I32)
            .to_vec(),
        DType::I8 => [i8::MIN, i8::MIN + 1, -3, -1, 0, 1, 2, 16, i8::MAX].map(Value::I8).to_vec(),
        DType::U8 => [0, 1, 2, 3, 16, 127, 128, u8::MAX].map(Value::U8).to_vec(),
        _ => {
            let extremes: &[f64] = match dtype {
                DType::F16 => &[65504.0, 6.104e-5, 5.96e-8],
                DType::F64 => &[f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e-310, 1e300],
                DType::BF16 => &[f32::MAX as f64 * 0.996, f32::MIN_POSITIVE as f64, 1e-40],
                _ => &[f32::MAX as f64, f32::MIN_POSITIVE as f64, 1.5e-45, 1e-40, 1e30],
            };
            from([both(&common), both(extremes), vec![f64::NAN]].concat())
        }
    }
}

/// All 65,536 numbers of a two-byte dtype; of the others `count` bit patterns over all exponents, and the special ones.
pub fn bit_patterns(dtype: DType, count: usize) -> Vec<Value> {
    let n = count as u64;
    match dtype {
        DType::F16 => (0..=u16::MAX).map(|b| Value::F16(f16::from_bits(b))).collect(),
        DType::BF16 => (0..=u16::MAX).map(|b| Value::BF16(bf16::from_bits(b))).collect(),
        DType::F64 => {
            let step = u64::MAX / n;
            // NaNs are quiet: devices need not tell signalling ones apart, and the C library's pow(NaN, 0) depends on it.
            let number = |bits: u64| if f64::from_bits(bits).is_nan() { bits | 1 << 51 } else { bits };
            (0..n).map(|i| Value::F64(f64::from_bits(number(i * step)))).chain(special(dtype)).collect()
        }
        _ => {
            let step = u32::MAX as u64 / n;
            (0..n).map(|i| Value::F32(f32::from_bits((i * step) as u32))).chain(special(dtype)).collect()
        }
    }
}

/// A shape of at most about `size` elements: ranks 0 to 6, sizes 1, primes and powers of two among them.
pub fn shape(numbers: &mut Numbers, size: usize) -> Shape {
    let mut left = size.max(1);
    let rank = numbers.below(7);
    let mut axes: Vec<usize> = Vec::new();
    for _ in 0..rank {
        let n = numbers.pick(&[1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 64, 67]).min(left);
        left /= n;
        axes.push(n);
    }
    axes.iter().copied().collect()
}

/// An array in host memory seen through a layout; what the layout does not reach holds other numbers.
#[derive(Clone, Debug)]
pub struct Array {
    /// The elements' type.
    pub dtype: DType,
    /// All of the memory.
    pub bytes: Vec<u8>,
    /// Where the elements lie.
    pub layout: Layout,
    storage: Vec<usize>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Slice(isize, isize, isize, isize),
    Transpose(Vec<isize>),
}

impl Array {
    /// Elements one after another from the start of their memory.
    pub fn dense(dtype: DType, shape: &[usize], values: &[Value]) -> Array {
        let layout = Layout::contiguous(shape);
        let mut bytes = vec![0; values.len() * dtype.size()];
        values.iter().enumerate().for_each(|(i, v)| v.write(&mut bytes, i));
        Array { dtype, bytes, layout, storage: shape.to_vec(), steps: vec![] }
    }

    /// The same elements somewhere in a larger memory: axes in another order, each sliced and perhaps reversed.
    pub fn view(numbers: &mut Numbers, dtype: DType, shape: &[usize], values: &[Value]) -> Array {
        let order = numbers.shuffled(shape.len());
        let (mut storage, mut steps, mut layout_steps) = (Vec::new(), Vec::new(), Vec::new());
        for (place, &axis) in order.iter().enumerate() {
            let n = shape[axis];
            let step: isize = if n == 0 { 1 } else { numbers.pick(&[1, 1, 2, 3, -1, -2]) };
            let (before, after) = (numbers.below(3), numbers.below(2));
            let reach = if n == 0 { 0 } else { (n - 1) * step.unsigned_abs() + 1 };
            storage.push(before + reach + after);
            // From the first element to one past the last, in the direction of the step.
            let (first, last) = if step > 0 { (before, before + reach) } else { (before + reach - 1, before) };
            let stop = if step > 0 { last as isize } else { last as isize - 1 };
            steps.push(Step::Slice(place as isize, first as isize, stop, step));
            layout_steps.push((place, first, n, step));
        }
        let mut back = vec![0; shape.len()];
        order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
        steps.push(Step::Transpose(back.iter().map(|&p| p as isize).collect()));
        let base = Layout::contiguous(&storage[..]);
        let sliced = layout_steps.iter().fold(base, |l, &(a, first, n, step)| l.slice(a, first, n, step));
        let layout = sliced.permute(&back);
        let total: usize = storage.iter().product();
        let mut bytes = vec![0; total * dtype.size()];
        // What lies between is poison: a kernel that reads it gives NaN, or a number nobody asked for.
        let poison = if dtype.is_float() { Value::F64(f64::NAN).cast(dtype) } else { Value::I64(97).cast(dtype) };
        (0..total).for_each(|i| poison.write(&mut bytes, i));
        layout.positions().zip(values).for_each(|(at, v)| v.write(&mut bytes, at));
        Array { dtype, bytes, layout, storage, steps }
    }

    /// The memory as a tensor on `ctx`.
    ///
    /// # Errors
    /// What the device reports.
    pub fn base(&self, ctx: &Dyn) -> Result<Tensor> {
        Tensor::from_bytes(ctx, &self.bytes, &self.storage, self.dtype)
    }

    /// The view of such a tensor.
    ///
    /// # Errors
    /// What the device reports.
    pub fn of(&self, base: &Tensor) -> Result<Tensor> {
        self.steps.iter().try_fold(base.clone(), |x, step| match step {
            Step::Slice(axis, start, stop, step) => {
                x.slice(*axis, Some(*start), if *stop < 0 { None } else { Some(*stop) }, *step)
            }
            Step::Transpose(axes) => x.transpose(axes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isograd_reference::Reference;

    #[test]
    fn views_hold_the_values() {
        let mut numbers = Numbers::new(1, "views");
        for i in 0..200 {
            let shape = shape(&mut numbers, 60);
            let n = shape.size();
            let values = Domain::Any.draw(&mut numbers, DType::F32, n);
            let array = if i % 3 == 0 {
                Array::dense(DType::F32, &shape, &values)
            } else {
                Array::view(&mut numbers, DType::F32, &shape, &values)
            };
            let x = array.of(&array.base(&Dyn::new(Reference)).unwrap()).unwrap();
            assert_eq!(x.shape(), &shape);
            assert_eq!(x.to_values().unwrap(), values, "{:?}", array.layout);
        }
    }
}
