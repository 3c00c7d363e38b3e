//! The matrix product against the composed one and the reference backend.

use super::common::{Array, Random, close, epsilon, layout};
use isograd_core::{Backend, DType, Value, backend::composed};
use isograd_cpu::Cpu;
use isograd_reference::Reference;

fn check(random: &mut Random, d: DType, batch: &[usize], m: usize, k: usize, n: usize, plain: bool) {
    let shape = |tail: [usize; 2]| -> Vec<usize> { batch.iter().copied().chain(tail).collect() };
    let mut view = |tail: [usize; 2]| {
        let shape = shape(tail);
        let (l, size) = if plain {
            let l = isograd_core::Layout::contiguous(&shape[..]);
            let size = l.size();
            (l, size)
        } else {
            layout(random, &shape, true)
        };
        (l, (0..size).map(|_| random.value(d)).collect::<Vec<_>>())
    };
    let ((la, a), (lb, b)) = (view([m, k]), view([k, n]));
    let cpu = Cpu::default();
    let out = shape([m, n]);
    let nan = if d.is_float() { Value::F64(f64::NAN).cast(d) } else { Value::one(d) };
    macro_rules! run {
        ($ctx:expr, $matmul:expr) => {{
            let a = Array::new($ctx, d, la.clone(), &a);
            let b = Array::new($ctx, d, lb.clone(), &b);
            let mut c = Array::filled($ctx, &out[..], nan);
            $matmul(&a.operand(), &b.operand(), &mut c.operand_mut()).unwrap();
            c.values($ctx)
        }};
    }
    let got = run!(&cpu, |a: &_, b: &_, c: &mut _| cpu.matmul(a, b, c));
    let what = format!("{d} {batch:?} {m} {k} {n}: {la:?} by {lb:?}");
    // A sum of k products, each at most 4: k roundings of partial sums at worst, and one to the dtype.
    let unit = if d == DType::F64 { f64::EPSILON } else { f32::EPSILON as f64 };
    let scale = 4.0 * k as f64;
    let tolerance = if d.is_float() { (k as f64).sqrt() * 2.0 * unit + unit } else { 0.0 };
    let expected = run!(&cpu, |a: &_, b: &_, c: &mut _| composed::matmul(&cpu, a, b, c));
    let half = if matches!(d, DType::F16 | DType::BF16) { epsilon(d) } else { 0.0 };
    close(&got, &expected, tolerance + half, scale, &what);
    if m * k * n < 1 << 16 {
        let expected = run!(&Reference, |a: &_, b: &_, c: &mut _| Reference.matmul(a, b, c));
        close(&got, &expected, tolerance + half, scale, &what);
    }
}

const DTYPES: [DType; 8] =
    [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8, DType::I8];

#[test]
fn products_agree_on_every_layout() {
    let random = &mut Random(4);
    for round in 0..150 {
        let d = random.pick(&DTYPES);
        let batch: Vec<usize> = (0..random.below(3)).map(|_| random.range(1, 4)).collect();
        let most = if round % 3 == 0 { 60 } else { 12 };
        let mut size = || if random.below(5) == 0 { 1 } else { random.range(1, most) };
        let (m, k, n) = (size(), size(), size());
        check(random, d, &batch, m, k, n, round % 4 == 0);
    }
}

#[test]
fn large_products_are_cut_and_still_agree() {
    let random = &mut Random(5);
    check(random, DType::F32, &[], 700, 90, 600, true);
    check(random, DType::F32, &[40], 65, 66, 67, false);
    check(random, DType::F64, &[2], 530, 40, 515, false);
    check(random, DType::I32, &[], 300, 120, 130, false);
    check(random, DType::F16, &[3], 100, 70, 90, false);
    check(random, DType::F32, &[], 1, 700, 900, true);
    check(random, DType::F32, &[], 900, 700, 1, true);
    check(random, DType::F32, &[], 900, 700, 1, false);
    check(random, DType::F64, &[300], 1, 50, 70, true);
    check(random, DType::F64, &[3000], 4, 5, 6, true);
}

/// A caller that is not core gets an error where shapes, dtypes and buffers are no product, and nothing else is read.
#[test]
fn what_is_no_product_is_an_error() {
    let cpu = Cpu::default();
    let array = |shape: &[usize], d: DType| Array::filled(&cpu, shape, Value::one(d));
    let fails = |a: &[usize], b: &[usize], c: &[usize], [da, db, dc]: [DType; 3]| {
        let (a, b, mut c) = (array(a, da), array(b, db), array(c, dc));
        let error = cpu.matmul(&a.operand(), &b.operand(), &mut c.operand_mut()).unwrap_err();
        assert!(error.to_string().contains("matmul"), "{error}");
    };
    for d in DTYPES {
        fails(&[64, 64], &[32, 64], &[64, 64], [d; 3]);
        fails(&[64, 64], &[64, 64], &[128, 64], [d; 3]);
        fails(&[64, 64], &[64, 32], &[64, 64], [d; 3]);
        fails(&[2, 64, 64], &[3, 64, 64], &[3, 64, 64], [d; 3]);
        fails(&[2, 64, 64], &[2, 64, 64], &[64, 64], [d; 3]);
        fails(&[64], &[64], &[64], [d; 3]);
        fails(&[64, 0], &[1, 64], &[64, 64], [d; 3]);
    }
    let (narrow, wide) = (DType::F32, DType::F64);
    for dtypes in [[narrow, narrow, wide], [narrow, wide, narrow], [wide, narrow, narrow]] {
        fails(&[64, 64], &[64, 64], &[64, 64], dtypes);
    }
    let (a, mut c) = (array(&[64, 64], narrow), array(&[64, 64], narrow));
    let beyond = Array { layout: isograd_core::Layout::new([64, 64], &[64, 1], 4), ..array(&[64, 64], narrow) };
    let error = cpu.matmul(&a.operand(), &beyond.operand(), &mut c.operand_mut()).unwrap_err();
    assert!(error.to_string().contains("buffer"), "{error}");
}

/// A window of one element, with more windows than the input has elements: those beyond see zeros.
#[test]
fn a_convolution_reads_nothing_beyond_its_input() {
    let cpu = Cpu::default();
    let array = |shape: [usize; 4]| Array::filled(&cpu, shape, Value::F32(1.0));
    let (x, w, mut y) = (array([1, 16, 2, 2]), array([16, 16, 1, 1]), array([1, 16, 64, 64]));
    let window = isograd_core::Window::new(&[1, 1]);
    cpu.conv(&window, &x.operand(), &w.operand(), &mut y.operand_mut()).unwrap();
    let sum: f64 = y.values(&cpu).iter().map(|v| v.to_f64()).sum();
    assert_eq!(sum, 16.0 * 16.0 * 4.0);
}
