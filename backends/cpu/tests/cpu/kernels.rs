//! The overridden kernels against what they override, on the same device and on the reference backend.

use super::common::{Array, FLOATS, Random, close, epsilon, layout};
use isograd_core::{
    Backend, DType, Layout, Operand, OperandMut, Pool, ReduceOp, Result, Value, Window, backend::composed,
};
use isograd_cpu::Cpu;
use isograd_reference::Reference;

/// An input: dtype, layout, content of its buffer.
struct Data(DType, Layout, Vec<Value>);

impl Data {
    fn new(random: &mut Random, d: DType, shape: &[usize]) -> Data {
        let (l, size) = layout(random, shape, false);
        Data(d, l, (0..size).map(|_| random.value(d)).collect())
    }
    fn on<B: Backend>(&self, ctx: &B) -> Array<B> {
        Array::new(ctx, self.0, self.1.clone(), &self.2)
    }
}

/// A kernel of some inputs and outputs on any backend.
trait Kernel {
    fn run<B: Backend>(&self, ctx: &B, composed: bool, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>])
    -> Result<()>;
}

fn outcome<B: Backend>(
    ctx: &B,
    kernel: &impl Kernel,
    composed: bool,
    inputs: &[Data],
    outputs: &[(DType, Vec<usize>)],
) -> Vec<Vec<Value>> {
    let inputs: Vec<_> = inputs.iter().map(|d| d.on(ctx)).collect();
    let garbage = |d: DType| if d.is_float() { Value::F64(f64::NAN).cast(d) } else { Value::one(d) };
    let mut outputs: Vec<_> = outputs.iter().map(|(d, shape)| Array::filled(ctx, &shape[..], garbage(*d))).collect();
    let operands: Vec<_> = inputs.iter().map(Array::operand).collect();
    let mut targets: Vec<_> = outputs.iter_mut().map(Array::operand_mut).collect();
    kernel.run(ctx, composed, &operands, &mut targets).unwrap();
    outputs.iter().map(|o| o.values(ctx)).collect()
}

/// Fails unless override, composed form and reference agree, and one thread agrees with two to the last bit.
fn agree(
    kernel: &impl Kernel,
    inputs: &[Data],
    outputs: &[(DType, Vec<usize>)],
    tolerance: f64,
    scale: f64,
    reference: bool,
    what: &str,
) {
    let cpu = Cpu::default();
    let got = outcome(&cpu, kernel, false, inputs, outputs);
    let mut others = vec![outcome(&cpu, kernel, true, inputs, outputs)];
    if reference {
        others.push(outcome(&Reference, kernel, false, inputs, outputs));
    }
    for expected in others {
        for (k, (g, e)) in got.iter().zip(&expected).enumerate() {
            close(g, e, tolerance, scale, &format!("{what}, output {k}"));
        }
    }
    for threads in [1, 2] {
        let again = outcome(&Cpu::with_threads(threads).unwrap(), kernel, false, inputs, outputs);
        let bits = |all: &[Vec<Value>]| -> Vec<u64> { all.iter().flatten().map(|v| v.bits()).collect() };
        assert!(bits(&got) == bits(&again), "{what}: {threads} threads give other bits");
    }
}

#[derive(Debug)]
enum Conv<'a> {
    Forward(&'a Window),
    Input(&'a Window),
    Weight(&'a Window),
}

impl Kernel for Conv<'_> {
    fn run<B: Backend>(
        &self,
        ctx: &B,
        composed: bool,
        i: &[Operand<'_, B>],
        o: &mut [OperandMut<'_, B>],
    ) -> Result<()> {
        match (self, composed) {
            (Conv::Forward(w), false) => ctx.conv(w, &i[0], &i[1], &mut o[0]),
            (Conv::Forward(w), true) => composed::conv(ctx, w, &i[0], &i[1], &mut o[0]),
            (Conv::Input(w), false) => ctx.conv_input_gradient(w, &i[0], &i[1], &mut o[0]),
            (Conv::Input(w), true) => composed::conv_input_gradient(ctx, w, &i[0], &i[1], &mut o[0]),
            (Conv::Weight(w), false) => ctx.conv_weight_gradient(w, &i[0], &i[1], &mut o[0]),
            (Conv::Weight(w), true) => composed::conv_weight_gradient(ctx, w, &i[0], &i[1], &mut o[0]),
        }
    }
}

fn check_conv(
    random: &mut Random,
    d: DType,
    w: &Window,
    batch: usize,
    inputs: usize,
    outputs: usize,
    spatial: &[usize],
) {
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
        let sum = 4.0 * terms as f64;
        // The composed form may round halves to their dtype once more.
        let tolerance = if d.is_float() { 2.0 * (terms as f64).sqrt() * wide + 1.01 * epsilon(d) } else { 0.0 };
        let reference = out.iter().product::<usize>() * terms < 20_000;
        let what = format!("{d} {kernel:?} {x:?} {k:?}");
        agree(kernel, &data, &[(d, (*out).clone())], tolerance, sum, reference, &what);
    }
}

#[test]
fn convolutions_and_their_gradients_agree() {
    let random = &mut Random(11);
    for round in 0..120 {
        let d = random.pick(&[DType::F32, DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32]);
        let axes = random.range(1, 3);
        let mut w = Window::new(&(0..axes).map(|_| random.range(1, 3)).collect::<Vec<_>>());
        for a in 0..axes {
            w.stride[a] = random.range(1, 3);
            w.padding[a] = random.below(3);
            w.dilation[a] = random.range(1, 2);
        }
        w.groups = random.range(1, 3);
        let depthwise = round % 4 == 0;
        let inputs = if depthwise { 1 } else { random.range(1, 4) };
        let outputs = if depthwise { random.range(1, 2) } else { random.range(1, 4) };
        let spatial: Vec<usize> = (0..axes).map(|_| random.range(2, if axes == 3 { 5 } else { 9 })).collect();
        let batch = random.range(1, 4);
        check_conv(random, d, &w, batch, inputs, outputs, &spatial);
    }
}

#[test]
fn large_convolutions_are_cut_and_agree() {
    let random = &mut Random(12);
    let mut w = Window::new(&[3, 3]);
    w.padding = [1, 1][..].into();
    check_conv(random, DType::F32, &w, 3, 24, 20, &[40, 41]);
    check_conv(random, DType::F32, &w, 70, 20, 10, &[7, 7]);
    check_conv(random, DType::F64, &Window::new(&[1, 1]), 5, 30, 20, &[20, 20]);
    check_conv(random, DType::F32, &Window::new(&[1, 1]), 3, 30, 20, &[3, 3]);
    w.stride = [2, 2][..].into();
    check_conv(random, DType::F32, &w, 4, 16, 12, &[31, 30]);
    w.groups = 30;
    check_conv(random, DType::F32, &w, 4, 1, 1, &[31, 30]);
    w.stride = [1, 1][..].into();
    check_conv(random, DType::F32, &w, 4, 1, 2, &[31, 30]);
    check_conv(random, DType::F16, &w, 2, 1, 1, &[20, 20]);
    check_conv(random, DType::F32, &Window::new(&[5]), 2, 6, 7, &[3000]);
}

#[derive(Debug)]
enum Pooling<'a> {
    Forward(Pool, &'a Window),
    Backward(Pool, &'a Window),
}

impl Kernel for Pooling<'_> {
    fn run<B: Backend>(
        &self,
        ctx: &B,
        composed: bool,
        i: &[Operand<'_, B>],
        o: &mut [OperandMut<'_, B>],
    ) -> Result<()> {
        match (self, composed) {
            (Pooling::Forward(k, w), false) => ctx.pool(*k, w, &i[0], &mut o[0]),
            (Pooling::Forward(k, w), true) => composed::pool(ctx, *k, w, &i[0], &mut o[0]),
            (Pooling::Backward(k, w), false) => ctx.pool_gradient(*k, w, &i[0], &i[1], &mut o[0]),
            (Pooling::Backward(k, w), true) => composed::pool_gradient(ctx, *k, w, &i[0], &i[1], &mut o[0]),
        }
    }
}

#[test]
fn pooling_and_its_gradient_agree() {
    let random = &mut Random(13);
    for round in 0..150 {
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
            let mut data = Data::new(random, d, &x);
            // Ties, infinities and NaN.
            for v in &mut data.2 {
                let special = [1.0, 1.0, -0.5, f64::NAN, f64::NEG_INFINITY];
                if kind == Pool::Max && d.is_float() && random.below(3) == 0 {
                    *v = Value::F64(random.pick(&special)).cast(d);
                }
            }
            let what = format!("{d} {kind:?} {w:?} {x:?} ceil {ceil}");
            let tolerance = 4.0 * epsilon(d);
            let small = x.iter().product::<usize>() < 4000;
            // A window that sees padding only has a mean of 0 / 0; a head of it goes nowhere.
            agree(&Pooling::Forward(kind, &w), &[data], &[(d, y.clone())], tolerance, 4.0, small, &what);
            let mut data = [Data::new(random, d, &x), Data::new(random, d, &y)];
            if kind == Pool::Max && d.is_float() {
                data[0].2.iter_mut().step_by(3).for_each(|v| *v = Value::F64(f64::NAN).cast(d));
            }
            agree(&Pooling::Backward(kind, &w), &data, &[(d, x.clone())], tolerance, 16.0, small, &what);
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
    fn run<B: Backend>(
        &self,
        ctx: &B,
        composed: bool,
        i: &[Operand<'_, B>],
        o: &mut [OperandMut<'_, B>],
    ) -> Result<()> {
        match (self, composed, o) {
            (Rows::Softmax(l), false, [o]) => ctx.softmax(*l, &i[0], o),
            (Rows::Softmax(l), true, [o]) => composed::softmax(ctx, *l, &i[0], o),
            (Rows::Normalize, false, [o, m, r]) => ctx.normalize(1e-5, &i[0], o, m, r),
            (Rows::Normalize, true, [o, m, r]) => composed::normalize(ctx, 1e-5, &i[0], o, m, r),
            (Rows::Scan(op), false, [o]) => ctx.scan(*op, &i[0], o),
            (Rows::Scan(op), true, [o]) => composed::scan(ctx, *op, &i[0], o),
            (Rows::Sort(d), false, [o]) => ctx.argsort(*d, &i[0], o),
            (Rows::Sort(d), true, [o]) => composed::argsort(ctx, *d, &i[0], o),
            _ => unreachable!(),
        }
    }
}

fn row_shape(random: &mut Random, round: usize) -> Vec<usize> {
    match round % 5 {
        0 => vec![random.range(1, 70), random.range(200, 900)],
        1 => vec![random.range(5000, 9000)],
        _ => (0..random.range(1, 3)).map(|_| random.range(1, 20)).collect(),
    }
}

#[test]
fn softmax_and_normalization_agree() {
    let random = &mut Random(14);
    for round in 0..100 {
        let d = random.pick(&FLOATS);
        let shape = row_shape(random, round);
        let small = shape.iter().product::<usize>() < 3000;
        let mut data = Data::new(random, d, &shape);
        for logarithm in [false, true] {
            let what = format!("{d} softmax {logarithm} {shape:?}");
            let scale = if logarithm { 4.0 } else { 0.0 };
            agree(
                &Rows::Softmax(logarithm),
                &[Data(d, data.1.clone(), data.2.clone())],
                &[(d, shape.clone())],
                16.0 * epsilon(d),
                scale,
                small,
                &what,
            );
        }
        let outer = shape[..shape.len() - 1].to_vec();
        // Rows far from 0: the deviation must not cancel.
        if d != DType::F16 && d != DType::BF16 {
            data.2.iter_mut().for_each(|v| *v = Value::F64(v.to_f64() + 100.0).cast(d));
        }
        let c = d.compute();
        let outputs = [(d, shape.clone()), (c, outer.clone()), (c, outer)];
        let tolerance = 100.0 * epsilon(c) + 2.0 * epsilon(d);
        if shape[shape.len() - 1] > 1 {
            agree(
                &Rows::Normalize,
                &[data],
                &outputs,
                tolerance * 10.0,
                1.0,
                small,
                &format!("{d} normalize {shape:?}"),
            );
        }
    }
}

#[test]
fn softmax_of_infinities_and_nan_is_that_of_the_composed_form() {
    let cpu = Cpu::default();
    let (n, i) = (f64::NAN, f64::INFINITY);
    for row in [
        [1.0, 2.0, -i, 0.0],
        [-i; 4],
        [n, 1.0, 2.0, 3.0],
        [1.0, 2.0, 3.0, n],
        [i, 1.0, 2.0, 3.0],
        [1e30, 1.0, -1e30, 1e30],
    ] {
        let content: Vec<Value> = row.iter().map(|&v| Value::F32(v as f32)).collect();
        for logarithm in [false, true] {
            let data = || [Data(DType::F32, Layout::contiguous([1, 4]), content.clone())];
            let outputs = [(DType::F32, vec![1, 4])];
            let got = outcome(&cpu, &Rows::Softmax(logarithm), false, &data(), &outputs);
            let expected = outcome(&Reference, &Rows::Softmax(logarithm), true, &data(), &outputs);
            close(&got[0], &expected[0], 1e-6, 1e-30, &format!("{row:?} {logarithm}"));
        }
    }
}

#[test]
fn scans_and_sorts_agree() {
    let random = &mut Random(15);
    for round in 0..100 {
        let d = random.pick(&[
            DType::F32,
            DType::F64,
            DType::F16,
            DType::BF16,
            DType::I32,
            DType::I64,
            DType::U8,
            DType::I8,
        ]);
        let mut shape = row_shape(random, round);
        let n = shape.len();
        shape[n - 1] = shape[n - 1].min(2000);
        let small = shape.iter().product::<usize>() * shape[n - 1] < 100_000;
        let op = random.pick(&[ReduceOp::Sum, ReduceOp::Prod]);
        let data = Data::new(random, d, &shape);
        let wide = epsilon(d.compute());
        let (tolerance, scale) = if op == ReduceOp::Sum {
            (100.0 * wide + epsilon(d), 4.0 * shape[n - 1] as f64)
        } else {
            (4.0 * shape[n - 1] as f64 * wide + epsilon(d), 1e-30)
        };
        if op == ReduceOp::Sum || shape[n - 1] < 30 || !d.is_float() {
            agree(
                &Rows::Scan(op),
                &[data],
                &[(d, shape.clone())],
                tolerance,
                scale,
                small,
                &format!("{d} scan {op:?} {shape:?}"),
            );
        }
        let mut data = Data::new(random, d, &shape);
        if d.is_float() {
            data.2.iter_mut().for_each(|v| {
                if random.below(3) == 0 {
                    *v = Value::F64(random.pick(&[f64::NAN, -0.0, 0.0, 1.0, f64::INFINITY])).cast(d);
                }
            });
        }
        let descending = round % 2 == 0;
        agree(
            &Rows::Sort(descending),
            &[data],
            &[(DType::I64, shape.clone())],
            0.0,
            0.0,
            small,
            &format!("{d} sort {shape:?}"),
        );
    }
}

struct Primitives;
impl Kernel for Primitives {
    fn run<B: Backend>(&self, ctx: &B, _: bool, i: &[Operand<'_, B>], o: &mut [OperandMut<'_, B>]) -> Result<()> {
        ctx.matmul(&i[0], &i[1], &mut o[0])
    }
}

#[test]
fn products_and_reductions_do_not_depend_on_the_number_of_threads() {
    let random = &mut Random(16);
    for (m, k, n) in [(700, 300, 600), (1, 3000, 700), (700, 3000, 1), (64, 64, 64)] {
        let d = DType::F32;
        let data = || -> [Data; 2] {
            let random = &mut Random((m * k + n) as u64);
            [Data::new(random, d, &[m, k]), Data::new(random, d, &[k, n])]
        };
        let outputs = [(d, vec![m, n])];
        let one = outcome(&Cpu::with_threads(1).unwrap(), &Primitives, false, &data(), &outputs);
        let two = outcome(&Cpu::with_threads(2).unwrap(), &Primitives, false, &data(), &outputs);
        assert!(one == two, "{m} {k} {n}");
    }
    let x = isograd_core::Expr::input(0, DType::F32);
    let program = isograd_core::expr::Program::new("sum", &[x], &[DType::F32], &[]).unwrap();
    let kernel = isograd_core::expr::Kernel::new(&program, &[]);
    for (shape, kept) in [(vec![3_000_000], 0), (vec![7, 300_000], 1), (vec![3000, 300], 1)] {
        let size = shape.iter().product();
        let content: Vec<Value> = (0..size).map(|_| random.value(DType::F32)).collect();
        let sum = |cpu: Cpu| {
            let x = Array::new(&cpu, DType::F32, Layout::contiguous(&shape[..]), &content);
            let mut y = Array::filled(&cpu, &shape[..kept], Value::F32(0.0));
            cpu.reduce(ReduceOp::Sum, &kernel, &[x.operand()], &mut y.operand_mut()).unwrap();
            y.values(&cpu)
        };
        assert_eq!(sum(Cpu::with_threads(1).unwrap()), sum(Cpu::with_threads(2).unwrap()), "{shape:?}");
    }
}
