//! Every kernel against the reference backend, on the first OpenCL device, with the work divided as on a CPU and as on a GPU:
//! bit for bit, where the device is exact. Where there is no device a test says so and passes.

#[allow(dead_code)]
#[path = "../../cpu/tests/cpu/common.rs"]
mod common;

use common::{Array, FLOATS, Random, close, epsilon, layout};
use isograd_core::{
    Backend, DType, Layout, Operand, OperandMut, Pool, ReduceOp, Value, Window,
    expr::{Expr, Program},
};
use isograd_opencl::{Class, OpenCl, Options};
use isograd_reference::Reference;
use std::{io::Write, sync::OnceLock};

/// The first device, once for each way to divide work.
fn contexts() -> &'static [OpenCl] {
    static CONTEXTS: OnceLock<Vec<OpenCl>> = OnceLock::new();
    CONTEXTS.get_or_init(|| {
        let made =
            [Class::Cpu, Class::Gpu].map(|c| OpenCl::separate(0, &Options { class: Some(c), ..Options::default() }));
        if let [Err(e), _] = &made {
            // Past the capture of the tests' output, because they pass.
            let _ = std::io::stderr().write_all(format!("skipped what needs an OpenCL device: {e}\n").as_bytes());
        }
        made.into_iter().flatten().collect()
    })
}

/// An input: dtype, layout, content of its buffer.
#[derive(Clone)]
struct Data(DType, Layout, Vec<Value>);

impl Data {
    fn new(random: &mut Random, d: DType, shape: &[usize]) -> Data {
        let (l, size) = layout(random, shape, false);
        Data(d, l, (0..size).map(|_| random.value(d)).collect())
    }
}

/// A kernel of some inputs and outputs on any backend.
trait Kernel {
    fn run<B: Backend>(&self, ctx: &B, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> isograd_core::Result<()>;
}

fn outcome<B: Backend>(
    ctx: &B,
    kernel: &impl Kernel,
    inputs: &[Data],
    outputs: &[(DType, Vec<usize>)],
) -> Vec<Vec<Value>> {
    let inputs: Vec<_> = inputs.iter().map(|d| Array::new(ctx, d.0, d.1.clone(), &d.2)).collect();
    let garbage = |d: DType| if d.is_float() { Value::F64(f64::NAN).cast(d) } else { Value::one(d) };
    let mut outputs: Vec<_> = outputs.iter().map(|(d, shape)| Array::filled(ctx, &shape[..], garbage(*d))).collect();
    let operands: Vec<_> = inputs.iter().map(Array::operand).collect();
    let mut targets: Vec<_> = outputs.iter_mut().map(Array::operand_mut).collect();
    kernel.run(ctx, &operands, &mut targets).unwrap();
    outputs.iter().map(|o| o.values(ctx)).collect()
}

/// The number's bits; NaN is NaN.
fn bits(v: &Value) -> u64 {
    if v.dtype().is_float() && v.to_f64().is_nan() { u64::MAX } else { v.bits() }
}

/// Fails unless the reference backend agrees, to the last bit where the device is exact, and a second run gives the same bits.
fn agree(
    kernel: &impl Kernel,
    inputs: &[Data],
    outputs: &[(DType, Vec<usize>)],
    tolerance: f64,
    scale: f64,
    what: &str,
) {
    let expected = outcome(&Reference, kernel, inputs, outputs);
    for ctx in contexts() {
        let got = outcome(ctx, kernel, inputs, outputs);
        for (k, (g, e)) in got.iter().zip(&expected).enumerate() {
            let what = format!("{:?} {what}, output {k}", ctx.description().class);
            close(g, e, tolerance, scale, &what);
            if ctx.capabilities().exact {
                let other = g.iter().zip(e).position(|(g, e)| bits(g) != bits(e));
                assert!(other.is_none(), "{what}: other bits at {other:?}: {:?}", other.map(|i| (g[i], e[i])));
            }
        }
        let again = outcome(ctx, kernel, inputs, outputs);
        let all = |o: &[Vec<Value>]| -> Vec<u64> { o.iter().flatten().map(|v| v.bits()).collect() };
        assert!(all(&got) == all(&again), "{what}: a second run gives other bits");
    }
}

struct Matmul;
impl Kernel for Matmul {
    fn run<B: Backend>(&self, ctx: &B, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> isograd_core::Result<()> {
        ctx.matmul(&i[0], &i[1], &mut o[0])
    }
}

#[test]
fn matrix_products_agree() {
    let random = &mut Random(10);
    let mut shapes = vec![
        (vec![], 100, 130, 70),
        (vec![], 33, 65, 300),
        (vec![], 20, 25, 5000),
        (vec![3], 40, 50, 60),
        (vec![2, 3], 17, 90, 33),
        (vec![], 1, 200, 300),
        (vec![], 300, 1, 200),
        (vec![], 2, 2, 9000),
        (vec![], 1, 70, 700),
        (vec![2], 1, 3, 520),
        (vec![2, 2, 2, 2, 2], 25, 26, 9),
    ];
    for _ in 0..12 {
        let batch = (0..random.below(3)).map(|_| random.range(1, 3)).collect();
        shapes.push((batch, random.range(1, 90), random.range(1, 90), random.range(1, 90)));
    }
    for (round, (batch, m, n, k)) in shapes.into_iter().enumerate() {
        let d = if round < 11 {
            DType::F32
        } else {
            random.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32])
        };
        let shape = |a: usize, b: usize| -> Vec<usize> { batch.iter().copied().chain([a, b]).collect() };
        let mut data = [Data::new(random, d, &shape(m, k)), Data::new(random, d, &shape(k, n))];
        if let (3, [batch]) = (round, &batch[..]) {
            // A factor that all matrices of the batch share.
            let whole = data[1].1.slice(0, 0, 1, 1).remove_axis(0);
            data[1].1 = whole.insert_axis(0, *batch);
        }
        let wide = if d == DType::F64 { f64::EPSILON } else { f32::EPSILON as f64 };
        let tolerance = if d.is_float() { 2.0 * (k as f64).sqrt() * wide + 1.01 * epsilon(d) } else { 0.0 };
        agree(&Matmul, &data, &[(d, shape(m, n))], tolerance, 4.0 * k as f64, &format!("{d} {batch:?} {m} {n} {k}"));
    }
}

/// Terms are cut where there are many, and results where there are many of those: elements must not notice. What stands alone
/// is small enough for the reference backend elsewhere.
#[test]
fn a_part_of_a_product_has_the_bits_of_the_whole() {
    let random = &mut Random(18);
    for ctx in contexts() {
        for (d, m, n, k) in [(DType::F32, 200, 160, 9001), (DType::F16, 60, 500, 9001), (DType::F32, 190, 180, 3000)] {
            let (a, b) = (Data::new(random, d, &[m, k]), Data::new(random, d, &[k, n]));
            let whole = outcome(ctx, &Matmul, &[a.clone(), b.clone()], &[(d, vec![m, n])]);
            for j in [0, 97, n - 1] {
                let column = Data(d, b.1.slice(1, j, 1, 1), b.2.clone());
                let alone = outcome(ctx, &Matmul, &[a.clone(), column], &[(d, vec![m, 1])]);
                let same = (0..m).all(|i| bits(&whole[0][i * n + j]) == bits(&alone[0][i]));
                assert!(same, "{:?} {d} {m} {n} {k}, column {j}", ctx.description().class);
            }
        }
        // More panels than are held at once: pieces of the terms.
        let mut w = Window::new(&[3, 3]);
        w.padding = [1, 1][..].into();
        for (d, outputs, inputs, side) in [(DType::F32, 160, 24, 101), (DType::BF16, 40, 24, 101)] {
            let x = Data::new(random, d, &[10, inputs, side, side]);
            let head = Data::new(random, d, &[10, outputs, side, side]);
            let shape = |outputs| vec![(d, vec![outputs, inputs, 3, 3])];
            let whole = outcome(ctx, &Conv::Weight(&w), &[x.clone(), head.clone()], &shape(outputs));
            let part = Data(d, head.1.slice(1, 7, 2, 1), head.2.clone());
            let alone = outcome(ctx, &Conv::Weight(&w), &[x, part], &shape(2));
            let of_one = inputs * 9;
            let same = (0..2 * of_one).all(|i| bits(&whole[0][7 * of_one + i]) == bits(&alone[0][i]));
            assert!(same, "{:?} {d} {outputs}", ctx.description().class);
        }
    }
}

#[derive(Debug)]
enum Conv<'a> {
    Forward(&'a Window),
    Input(&'a Window),
    Weight(&'a Window),
}

impl Kernel for Conv<'_> {
    fn run<B: Backend>(&self, ctx: &B, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> isograd_core::Result<()> {
        match self {
            Conv::Forward(w) => ctx.conv(w, &i[0], &i[1], &mut o[0]),
            Conv::Input(w) => ctx.conv_input_gradient(w, &i[0], &i[1], &mut o[0]),
            Conv::Weight(w) => ctx.conv_weight_gradient(w, &i[0], &i[1], &mut o[0]),
        }
    }
}

fn check_conv(random: &mut Random, d: DType, w: &Window, [batch, inputs, outputs]: [usize; 3], spatial: &[usize]) {
    let places: Option<Vec<usize>> = spatial.iter().enumerate().map(|(a, &n)| w.count(a, n, false)).collect();
    let Some(places) = places else { return };
    let shape = |a: usize, b: usize, rest: &[usize]| -> Vec<usize> { [a, b].iter().chain(rest).copied().collect() };
    let x = shape(batch, inputs * w.groups, spatial);
    let k = shape(outputs * w.groups, inputs, &w.kernel);
    let y = shape(batch, outputs * w.groups, &places);
    let terms = [
        k[1..].iter().product::<usize>(),
        outputs * w.kernel.iter().product::<usize>(),
        batch * places.iter().product::<usize>(),
    ];
    let cases = [(Conv::Forward(w), &x, &k, &y), (Conv::Input(w), &y, &k, &x), (Conv::Weight(w), &x, &y, &k)];
    for ((kernel, a, b, out), terms) in cases.iter().zip(terms) {
        let data = [Data::new(random, d, a), Data::new(random, d, b)];
        let wide = if d == DType::F64 { f64::EPSILON } else { f32::EPSILON as f64 };
        let tolerance = if d.is_float() { 2.0 * (terms as f64).sqrt() * wide + 1.01 * epsilon(d) } else { 0.0 };
        let what = format!("{d} {kernel:?} {x:?} {k:?}");
        agree(kernel, &data, &[(d, (*out).clone())], tolerance, 4.0 * terms as f64, &what);
    }
}

#[test]
fn convolutions_and_their_gradients_agree() {
    let random = &mut Random(11);
    for round in 0..40 {
        let d = random.pick(&[DType::F32, DType::F32, DType::F64, DType::F16, DType::BF16]);
        let axes = random.range(1, 3);
        let mut w = Window::new(&(0..axes).map(|_| random.range(1, 3)).collect::<Vec<_>>());
        for a in 0..axes {
            w.stride[a] = random.range(1, 3);
            w.padding[a] = random.below(3);
            w.dilation[a] = random.range(1, 2);
        }
        w.groups = random.range(1, 3);
        let depthwise = round % 4 == 0;
        // Every fifth has more terms than a chunk.
        let inputs = if depthwise { 1 } else { random.range(1, 4) * if round % 5 == 0 { 19 } else { 1 } };
        let outputs = if depthwise { random.range(1, 2) } else { random.range(1, 4) };
        let spatial: Vec<usize> = (0..axes).map(|_| random.range(2, if axes == 3 { 5 } else { 9 })).collect();
        let batch = random.range(1, 4);
        check_conv(random, d, &w, [batch, inputs, outputs], &spatial);
    }
}

#[test]
fn large_convolutions_are_cut_and_agree() {
    let random = &mut Random(12);
    let mut w = Window::new(&[3, 3]);
    w.padding = [1, 1][..].into();
    check_conv(random, DType::F32, &w, [3, 24, 20], &[40, 41]);
    check_conv(random, DType::F32, &w, [70, 20, 10], &[17, 17]);
    w.stride = [2, 2][..].into();
    check_conv(random, DType::F32, &w, [4, 16, 12], &[31, 30]);
    w.groups = 30;
    check_conv(random, DType::F32, &w, [4, 1, 1], &[31, 30]);
    w.stride = [1, 1][..].into();
    check_conv(random, DType::F32, &w, [4, 1, 2], &[31, 30]);
    check_conv(random, DType::F32, &Window::new(&[5]), [2, 6, 7], &[3000]);
    // More panels than are held at once: pieces of the batch.
    w.groups = 1;
    check_conv(random, DType::F32, &w, [5, 32, 3], &[128, 128]);
}

#[derive(Debug)]
enum Pooling<'a> {
    Forward(Pool, &'a Window),
    Backward(Pool, &'a Window),
}

impl Kernel for Pooling<'_> {
    fn run<B: Backend>(&self, ctx: &B, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> isograd_core::Result<()> {
        match self {
            Pooling::Forward(k, w) => ctx.pool(*k, w, &i[0], &mut o[0]),
            Pooling::Backward(k, w) => ctx.pool_gradient(*k, w, &i[0], &i[1], &mut o[0]),
        }
    }
}

#[test]
fn pooling_and_its_gradient_agree() {
    let random = &mut Random(13);
    for round in 0..50 {
        let d = random.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32]);
        let axes = random.range(1, 3);
        let mut w = Window::new(&(0..axes).map(|_| random.range(1, 3)).collect::<Vec<_>>());
        for a in 0..axes {
            w.stride[a] = random.range(1, 3);
            w.padding[a] = random.below(w.extent(a) / 2 + 1);
            w.dilation[a] = random.range(1, 2);
        }
        let most = if round % 10 == 0 { 40 } else { 8 };
        let spatial: Vec<usize> = (0..axes).map(|_| random.range(2, if axes == 3 { 5 } else { most })).collect();
        let ceil = random.below(2) == 1;
        let places: Option<Vec<usize>> = spatial.iter().enumerate().map(|(a, &n)| w.count(a, n, ceil)).collect();
        let Some(places) = places else { continue };
        let x: Vec<usize> = [random.range(1, 3), random.range(1, 5)].iter().chain(&spatial).copied().collect();
        let y: Vec<usize> = x[..2].iter().chain(&places).copied().collect();
        for kind in [Pool::Max, Pool::AvgWithPadding, Pool::AvgWithoutPadding] {
            if kind != Pool::Max && !d.is_float() {
                continue;
            }
            let mut data = [Data::new(random, d, &x), Data::new(random, d, &y)];
            // Ties, infinities and NaN.
            for v in &mut data[0].2 {
                let special = [1.0, 1.0, -0.5, f64::NAN, f64::NEG_INFINITY];
                if kind == Pool::Max && d.is_float() && random.below(3) == 0 {
                    *v = Value::F64(random.pick(&special)).cast(d);
                }
            }
            let what = format!("{d} {kind:?} {w:?} {x:?} ceil {ceil}");
            let tolerance = 4.0 * epsilon(d);
            agree(&Pooling::Forward(kind, &w), &data[..1], &[(d, y.clone())], tolerance, 4.0, &what);
            agree(&Pooling::Backward(kind, &w), &data, &[(d, x.clone())], tolerance, 16.0, &what);
        }
    }
}

struct Reduce(ReduceOp, DType, usize);
impl Kernel for Reduce {
    fn run<B: Backend>(&self, ctx: &B, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> isograd_core::Result<()> {
        let program = Program::new("itself", &[Expr::input(0, self.1)], &[self.1], &[])?;
        let mut shape = o[0].shape().clone();
        i[0].shape()[self.2..].iter().for_each(|&n| shape.push(n));
        let kernel = isograd_core::expr::Kernel::new(&program, &[]);
        isograd_core::backend::launch::reduce(ctx, self.0, &kernel, &shape, &[i[0]], &mut o[0])
    }
}

#[test]
fn reductions_of_all_sizes_agree() {
    let random = &mut Random(15);
    let shapes: [(&[usize], usize); 10] = [
        (&[200_000], 0),
        (&[3, 50_000], 1),
        (&[300, 700], 1),
        (&[40, 5, 3, 60], 2),
        (&[70_000, 3], 1),
        (&[17, 1], 1),
        (&[1, 900], 1),
        (&[6, 100, 7, 11], 1),
        (&[130, 2000], 1),
        (&[5, 5, 5, 5, 5, 5], 3),
    ];
    for (shape, kept) in shapes {
        for d in [DType::F32, DType::I64, DType::BF16] {
            for transposed in [false, true] {
                let mut data = Data::new(random, d, shape);
                if transposed {
                    // Kept axes lie innermost.
                    let memory: Vec<usize> = shape[kept..].iter().chain(&shape[..kept]).copied().collect();
                    let back: Vec<usize> = (shape.len() - kept..shape.len()).chain(0..shape.len() - kept).collect();
                    data.1 = Layout::contiguous(&memory[..]).permute(&back);
                    data.2.resize_with(data.1.size(), || random.value(d));
                }
                for op in [ReduceOp::Sum, ReduceOp::Max] {
                    let terms: usize = shape[kept..].iter().product();
                    let tolerance = 2.0 * (terms as f64).sqrt() * f32::EPSILON as f64 + 1.01 * epsilon(d);
                    let out = shape[..kept].to_vec();
                    let what = format!("{d} {op:?} {shape:?} {kept} transposed {transposed}");
                    agree(&Reduce(op, d, kept), &[data.clone()], &[(d, out)], tolerance, terms as f64, &what);
                }
            }
        }
    }
}

#[derive(Debug)]
enum Rows {
    Softmax(bool),
    Normalize,
    Scan(ReduceOp),
    Sort(bool),
}

impl Kernel for Rows {
    fn run<B: Backend>(&self, ctx: &B, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> isograd_core::Result<()> {
        match (self, o) {
            (Rows::Softmax(l), [o]) => ctx.softmax(*l, &i[0], o),
            (Rows::Normalize, [o, m, r]) => ctx.normalize(1e-5, &i[0], o, m, r),
            (Rows::Scan(op), [o]) => ctx.scan(*op, &i[0], o),
            (Rows::Sort(d), [o]) => ctx.argsort(*d, &i[0], o),
            _ => unreachable!(),
        }
    }
}

#[test]
fn kernels_over_rows_agree() {
    let random = &mut Random(14);
    for round in 0..20 {
        let d = random.pick(&FLOATS);
        let shape = match round % 5 {
            0 => vec![random.range(1, 70), random.range(200, 900)],
            1 => vec![random.range(2000, 4000)],
            2 => vec![random.range(1, 3), 256 * random.range(1, 3)],
            // Three levels of blocks.
            3 if round == 3 => vec![2, (1 << 16) + 300],
            _ => (0..random.range(1, 3)).map(|_| random.range(1, 20)).collect(),
        };
        let data = [Data::new(random, d, &shape)];
        for logarithm in [false, true] {
            let what = format!("{d} softmax {logarithm} {shape:?}");
            let scale = if logarithm { 4.0 } else { 0.0 };
            agree(&Rows::Softmax(logarithm), &data, &[(d, shape.clone())], 16.0 * epsilon(d), scale, &what);
        }
        let n = shape[shape.len() - 1];
        let (c, outer) = (d.compute(), shape[..shape.len() - 1].to_vec());
        if n > 1 {
            let outputs = [(d, shape.clone()), (c, outer.clone()), (c, outer)];
            let tolerance = 400.0 * epsilon(c) + 2.0 * epsilon(d);
            agree(&Rows::Normalize, &data, &outputs, tolerance, 1.0, &format!("{d} normalize {shape:?}"));
        }
        let tolerance = 2.0 * n as f64 * epsilon(c) + 2.0 * epsilon(d);
        let what = format!("{d} scan {shape:?}");
        agree(&Rows::Scan(ReduceOp::Sum), &data, &[(d, shape.clone())], tolerance, n as f64, &what);
    }
}

#[test]
fn sorting_is_stable_and_puts_nan_last() {
    let random = &mut Random(16);
    for (round, shape) in
        [vec![700], vec![33, 65], vec![3, 4, 5], vec![2, 3000], vec![1], vec![40, 2]].iter().enumerate()
    {
        for d in [DType::F32, DType::I64, DType::BF16, DType::Bool] {
            let mut data = Data::new(random, d, shape);
            if d.is_float() && round % 2 == 0 {
                data.2.iter_mut().step_by(3).for_each(|v| *v = Value::F64(f64::NAN).cast(d));
            }
            for descending in [false, true] {
                let what = format!("{d} argsort {descending} {shape:?}");
                agree(&Rows::Sort(descending), &[data.clone()], &[(DType::I64, shape.clone())], 0.0, 0.0, &what);
            }
        }
    }
}

struct Index(bool, usize);
impl Kernel for Index {
    fn run<B: Backend>(&self, ctx: &B, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> isograd_core::Result<()> {
        match self.0 {
            false => ctx.gather(self.1, &i[0], &i[1], &mut o[0]),
            true => ctx.scatter_add(self.1, &i[0], &i[1], &mut o[0]),
        }
    }
}

#[test]
fn gather_and_scatter_add_agree() {
    let random = &mut Random(17);
    for round in 0..24 {
        let d = random.pick(&DType::ALL);
        let rank = random.range(1, 3);
        let mut shape: Vec<usize> = (0..rank).map(|_| random.range(1, 12)).collect();
        let axis = random.below(rank);
        let size = if round % 6 == 0 { 500 } else { random.range(1, 9) };
        if round % 6 == 0 {
            shape[axis] = 3000;
        }
        let mut other = shape.clone();
        other[axis] = size;
        let mut index = Data::new(random, DType::I64, &shape);
        index.2.iter_mut().for_each(|v| *v = Value::I64(random.below(size) as i64));
        if round % 3 == 0 {
            // One index for each row.
            index.1 = (0..rank).filter(|a| *a != axis).fold(index.1, |l, a| l.slice(a, 0, 1, 1));
            index.1 = index.1.broadcast_to(&shape[..].into()).unwrap();
        }
        let data = [Data::new(random, d, &other), index.clone()];
        agree(&Index(false, axis), &data, &[(d, shape.clone())], 0.0, 0.0, &format!("{d} gather {shape:?} {axis}"));
        let data = [Data::new(random, d, &shape), index];
        let compute = d.compute();
        // Onto ones, which `garbage` gives for integers; onto NaN it would show nothing.
        if !compute.is_float() {
            let what = format!("{d} scatter_add {shape:?} {axis}");
            agree(&Index(true, axis), &data, &[(d, other)], 0.0, 0.0, &what);
        }
    }
}
