//! The kernels, run on the host, against the conformance suite and the reference backend.

use super::host::{self, Host};
use crate::{Cuda, Mode, driver::Architecture};
use isograd_conformance::{
    Level, Options, Progress, Suite,
    report::{Line, Status},
};
use isograd_core::{
    Backend, DType, Dyn, Layout, Operand, OperandMut, Result, Tensor, Window, autograd,
    operators::{ConvOptions, Fused},
};
use isograd_reference::Reference;
use std::sync::Arc;

/// A device of the host, of compute capability 9.0; kernels stay compiled from run to run.
pub(super) fn device(mode: Mode) -> Option<(Cuda, Arc<Host>)> {
    let host = Host::new(Architecture::new(9, 0))?;
    Some((Cuda::with_driver(host.clone(), host::directory().join("kernels"), mode).unwrap(), host))
}

/// Tells failures when they occur: a run of everything takes minutes.
struct Failures;

impl Progress for Failures {
    fn ends(&self, line: &Line) {
        if matches!(line.status, Status::Failed(_)) || line.seconds > 10.0 {
            eprintln!("{line:?}");
        }
    }
}

/// Runs the cases whose names contain one of `filters`, for the dtypes.
fn conforms(filters: &[impl AsRef<str>], dtypes: &[DType], mode: Mode) {
    let Some((cuda, host)) = device(mode) else { return };
    let suite = Suite::new(cuda);
    for filter in filters {
        for dtype in dtypes {
            let options = Options {
                filter: Some(filter.as_ref().into()),
                dtype: Some(*dtype),
                level: Level::Quick,
                ..Options::default()
            };
            let report = suite.run_with(&options, &Failures);
            assert_eq!(report.failed(), 0, "{report}");
        }
    }
    host.check_guards();
}

#[test]
#[ignore = "the whole suite compiles thousands of kernels: ISOGRAD_FILTER and ISOGRAD_DTYPE narrow it"]
fn the_whole_suite() {
    let filter = std::env::var("ISOGRAD_FILTER").unwrap_or_default();
    match std::env::var("ISOGRAD_DTYPE").ok() {
        Some(dtype) => conforms(&[filter], &[dtype.parse().unwrap()], Mode::Exact),
        None => conforms(&[filter], &DType::ALL, Mode::Exact),
    }
}

/// One case in sixteen of the whole suite.
#[test]
fn a_sample_of_the_suite_conforms() {
    let Some((cuda, _)) = device(Mode::Exact) else { return };
    let suite = Suite::new(cuda);
    let names: Vec<&str> = suite.names().into_iter().step_by(16).collect();
    conforms(&names, &[DType::F32], Mode::Exact);
}

#[test]
fn elementwise_kernels_conform() {
    let cases = ["map_layouts", "map_old", "map_outputs", "map_index", "map_random", "gradient_tanh"];
    conforms(&cases, &[DType::F32, DType::F16], Mode::Exact);
}

#[test]
fn reductions_conform() {
    conforms(&["reduce_layouts", "reduce_bool", "reduce_long"], &[DType::F32, DType::BF16, DType::Bool], Mode::Exact);
}

#[test]
fn rows_conform() {
    let cases = ["softmax_layouts", "normalize_layouts", "scan_layouts", "argsort_layouts", "long_rows"];
    conforms(&cases, &[DType::F32, DType::F16], Mode::Exact);
}

#[test]
fn windows_conform() {
    conforms(&["conv_layouts", "pool_layouts", "long_windows"], &[DType::F32, DType::BF16], Mode::Exact);
}

#[test]
fn indexing_conforms() {
    let cases = ["gather_layouts", "scatter_add_layouts", "scatter_add_duplicates", "indices_out_of_range"];
    conforms(&cases, &[DType::F32, DType::F16, DType::I64], Mode::Exact);
}

#[test]
fn products_conform() {
    conforms(&["matmul_layouts", "large_products"], &[DType::F32, DType::F64, DType::F16], Mode::Exact);
    conforms(&["matmul_fused"], &[DType::F32], Mode::Exact);
    // On tensor cores, within error bounds.
    conforms(&["matmul_layouts", "conv_layouts"], &[DType::F16], Mode::Fast);
}

/// Numbers that sum without rounding in every order, whatever the dtype.
pub(super) fn numbers(ctx: &Dyn, shape: &[usize], dtype: DType, seed: usize) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 7 + seed * 3 + i / 5) % 5) as f32 - 2.0).collect();
    Tensor::from_slice(ctx, &values, shape)?.cast(dtype)
}

/// Runs `f` on the host's device and on the reference; all results have equal bits.
fn agree(what: &str, f: impl Fn(&Dyn) -> Result<Vec<Tensor>>) {
    let Some((cuda, host)) = device(Mode::Exact) else { return };
    agrees(what, &cuda, &f);
    host.check_guards();
}

/// As `agree`, on a device of the caller's. NaN is NaN.
pub(super) fn agrees(what: &str, cuda: &Cuda, f: &dyn Fn(&Dyn) -> Result<Vec<Tensor>>) {
    let (got, expected) = (f(&Dyn::new(cuda.clone())).unwrap(), f(&Dyn::new(Reference)).unwrap());
    assert_eq!(got.len(), expected.len());
    let bits = |v: f64| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
    for (k, (g, e)) in got.iter().zip(&expected).enumerate() {
        let (g, e) = (g.cast(DType::F64).unwrap().to_vec::<f64>(), e.cast(DType::F64).unwrap().to_vec::<f64>());
        let (g, e) = (g.unwrap(), e.unwrap());
        if let Some(i) = g.iter().zip(&e).position(|(g, e)| bits(*g) != bits(*e)) {
            panic!("{what}, result {k}: element {i} of {}: {:e} not {:e}", g.len(), g[i], e[i]);
        }
    }
}

/// Tiles of all sizes, edges, transposes, batches, and depths that are cut in parts, on plain and on tensor cores.
#[test]
fn matrix_products_agree_with_the_reference() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I32] {
        for (batch, m, n, k, transposed) in [
            (1, 3, 5, 7, [false, false]),
            (1, 130, 70, 40, [true, false]),
            (2, 66, 129, 33, [false, true]),
            (3, 9, 20, 17, [true, true]),
            (1, 4, 4, 1100, [false, false]),
        ] {
            agree(&format!("matmul of {dtype} {batch} {m} {n} {k} {transposed:?}"), |ctx| {
                let (a, b) = match transposed {
                    [false, false] => {
                        (numbers(ctx, &[batch, m, k], dtype, 1)?, numbers(ctx, &[batch, k, n], dtype, 2)?)
                    }
                    [true, false] => (
                        numbers(ctx, &[batch, k, m], dtype, 1)?.swapaxes(1, 2)?,
                        numbers(ctx, &[batch, k, n], dtype, 2)?,
                    ),
                    [false, true] => (
                        numbers(ctx, &[batch, m, k], dtype, 1)?,
                        numbers(ctx, &[batch, n, k], dtype, 2)?.swapaxes(1, 2)?,
                    ),
                    [true, true] => (
                        numbers(ctx, &[batch, k, m], dtype, 1)?.swapaxes(1, 2)?,
                        numbers(ctx, &[batch, n, k], dtype, 2)?.swapaxes(1, 2)?,
                    ),
                };
                Ok(vec![a.matmul(&b)?])
            });
        }
    }
}

/// Products that end in functions: on all cores, over edges of tiles, of batches, and where the depth is cut in parts.
#[test]
fn fused_products_agree_with_the_reference() {
    let Some((cuda, host)) = device(Mode::Fast) else { return };
    for dtype in [DType::F32, DType::F16, DType::F64, DType::I32] {
        for (batch, m, n, k) in [(1, 3, 5, 7), (1, 130, 70, 40), (2, 66, 129, 33), (3, 9, 20, 17), (1, 4, 4, 1100)] {
            agrees(&format!("fused product of {dtype} {batch} {m} {n} {k}"), &cuda, &|ctx| {
                let relu = Fused::new("relu", &[dtype; 2], 0, |x, _| (&x[0] + &x[1]).relu())?;
                let all = Fused::new("all", &[dtype; 3], 1, |x, s| &x[0] * &s[0] - &x[1] + x[2].abs())?;
                let (a, b) = (numbers(ctx, &[batch, m, k], dtype, 1)?, numbers(ctx, &[batch, k, n], dtype, 2)?);
                let (bias, rows) = (numbers(ctx, &[n], dtype, 3)?, numbers(ctx, &[batch, m, 1], dtype, 4)?);
                let other = numbers(ctx, &[n, m], dtype, 5)?.t()?;
                Ok(vec![
                    a.matmul_fused(&b, &relu, &[&bias], &[])?,
                    a.matmul_fused(&b, &all, &[&rows, &other], &[2.into()])?,
                ])
            });
        }
    }
    assert!(!host.has_loaded("matmul") && host.has_loaded("gemm") && host.has_loaded("tensor"));
    host.check_guards();
}

/// TF32 rounds operands to ten bits, which small integers have.
#[test]
fn tf32_agrees_where_it_does_not_round_and_is_off_unless_asked_for() {
    let Some((cuda, _)) = device(Mode::Fast) else { return };
    assert!(!cuda.tf32());
    let ctx = Dyn::new(cuda.clone());
    let product = || -> Result<Vec<f32>> {
        let (a, b) = (numbers(&ctx, &[40, 50], DType::F32, 1)?, numbers(&ctx, &[50, 30], DType::F32, 2)?);
        a.matmul(&b)?.to_vec()
    };
    let exact = product().unwrap();
    cuda.set_tf32(true).unwrap();
    assert_eq!(product().unwrap(), exact);
    // 1 + 2^-12 is not a TF32.
    let fine = Tensor::full(&ctx, [16, 1], 1.0f32 + 2f32.powi(-12), DType::F32).unwrap();
    let ones = Tensor::ones(&ctx, [1, 16], DType::F32).unwrap();
    let product = || fine.matmul(&ones).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(product(), [1.0; 256]);
    cuda.set_tf32(false).unwrap();
    assert_eq!(product(), [1.0 + 2f32.powi(-12); 256]);
}

/// Sums of more elements than one block folds, over rows and over columns, and more axes than one.
#[test]
fn long_reductions_agree_with_the_reference() {
    for dtype in [DType::F32, DType::I64] {
        agree(&format!("sums of {dtype}"), |ctx| {
            let x = numbers(ctx, &[3, 40, 700], dtype, 1)?;
            let flat = numbers(ctx, &[20_000], dtype, 2)?;
            Ok(vec![
                flat.sum((), false)?,
                flat.max((), false)?,
                x.sum(2, false)?,
                x.sum([0, 1], false)?,
                x.sum(1, true)?,
                x.transpose(&[2, 0, 1])?.sum(0, false)?,
            ])
        });
    }
}

/// Rows longer than a warp's share, and longer than shared memory; sorting beyond one block; many equal indices.
#[test]
fn long_rows_agree_with_the_reference() {
    agree("long rows", |ctx| {
        let long = numbers(ctx, &[2, 2500], DType::F32, 1)?;
        Ok(vec![long.cumsum(1)?, long.argsort(1, false)?, long.argsort(1, true)?])
    });
}

/// Convolutions of every size of tile, with strides, padding, dilation and groups, and both gradients; as products of
/// matrices and one number per thread.
#[test]
fn convolutions_agree_with_the_reference() {
    for (dtype, image, weight, stride, padding, dilation, groups) in [
        (DType::F32, [2, 3, 9, 8], [10, 3, 3, 3], 1, 1, 1, 1),
        (DType::F16, [1, 9, 7, 7], [9, 9, 3, 2], 2, 1, 1, 1),
        (DType::F32, [2, 16, 6, 6], [16, 8, 3, 3], 1, 2, 2, 2),
        (DType::F64, [1, 4, 5, 5], [4, 1, 3, 3], 1, 1, 1, 4),
    ] {
        agree(&format!("convolution of {dtype} {image:?} {weight:?}"), |ctx| {
            let options = ConvOptions {
                stride: vec![stride],
                padding: vec![padding],
                dilation: vec![dilation],
                groups,
                ..Default::default()
            };
            let (x, w) = (numbers(ctx, &image, dtype, 1)?, numbers(ctx, &weight, dtype, 2)?);
            x.attach_grad()?;
            w.attach_grad()?;
            let y = autograd::record(|| x.conv(&w, None, &options))?;
            y.backward()?;
            Ok(vec![y.detach(), x.grad()?, w.grad()?])
        });
    }
}

/// Windows that reach further than 32 bits count: taps 2^31 apart, between as much padding. `Tensor::conv` refuses so much, the
/// backend's methods do not.
#[test]
fn positions_beyond_32_bits_are_counted_with_64() {
    let Some((cuda, host)) = device(Mode::Exact) else { return };
    let window = Window {
        kernel: [2][..].into(),
        stride: [1 << 30][..].into(),
        padding: [(1 << 31) - 2][..].into(),
        dilation: [1 << 31][..].into(),
        groups: 1,
    };
    let run = |x: &[f32], y: &[f32], n: usize, call: &Call<'_>| {
        let layouts = [x.len(), y.len(), n].map(|n| Layout::contiguous([1, 1, n]));
        let [x, y] = [x, y].map(|values| {
            let mut buffer = cuda.alloc(values.len() * 4).unwrap();
            cuda.upload(bytemuck::cast_slice(values), &mut buffer, 0).unwrap();
            buffer
        });
        let mut out = cuda.alloc(n * 4).unwrap();
        let operands = [Operand::new(&x, DType::F32, &layouts[0]), Operand::new(&y, DType::F32, &layouts[1])];
        call(&operands[0], &operands[1], &mut OperandMut::new(&mut out, DType::F32, &layouts[2])).unwrap();
        let mut values = vec![0f32; n];
        cuda.download(&out, 0, bytemuck::cast_slice_mut(&mut values)).unwrap();
        values
    };
    type Call<'a> = dyn Fn(&Operand<'_, Cuda>, &Operand<'_, Cuda>, &mut OperandMut<'_, Cuda>) -> Result<()> + 'a;
    let (x, w, head) = ([1.0, 2.0, 3.0, 4.0, 5.0], [10.0, 7.0], [2.0, 5.0, 3.0]);
    let y = run(&x, &w, 3, &|x, w, y| cuda.conv(&window, x, w, y));
    assert_eq!(y, [3.0 * 7.0, 0.0, 3.0 * 10.0]);
    let in_x = run(&head, &w, 5, &|head, w, x| cuda.conv_input_gradient(&window, head, w, x));
    assert_eq!(in_x, [0.0, 0.0, 2.0 * 7.0 + 3.0 * 10.0, 0.0, 0.0]);
    let in_w = run(&x, &head, 2, &|x, head, w| cuda.conv_weight_gradient(&window, x, head, w));
    assert_eq!(in_w, [3.0 * 3.0, 3.0 * 2.0]);
    host.check_guards();
}

/// An embedding's gradient: many equal indices, one order for all columns, f16 rounded once.
#[test]
fn gradients_of_lookups_agree_with_the_reference() {
    for dtype in [DType::F32, DType::F16] {
        agree(&format!("embedding of {dtype}"), |ctx| {
            let table = numbers(ctx, &[7, 6], dtype, 1)?;
            let picks: Vec<i64> = (0..90).map(|i| (i * i) % 7).collect();
            let picks = Tensor::from_slice(ctx, &picks, [90])?;
            table.attach_grad()?;
            let y = autograd::record(|| table.embedding(&picks))?;
            y.backward()?;
            Ok(vec![y.detach(), table.grad()?])
        });
    }
}

/// Sums of integers do not depend on the order.
#[test]
fn additions_in_any_order_are_used_on_request_alone() {
    let Some((cuda, host)) = device(Mode::Fast) else { return };
    assert!(cuda.deterministic() && cuda.capabilities().deterministic);
    let embedded = |ctx: &Dyn| {
        let table = numbers(ctx, &[5, 3], DType::F32, 1)?;
        let picks: Vec<i64> = (0..40).map(|i| (i * i) % 5).collect();
        table.attach_grad()?;
        autograd::record(|| table.embedding(&Tensor::from_slice(ctx, &picks, [40])?))?.backward()?;
        Ok(vec![table.grad()?])
    };
    agrees("sorted additions", &cuda, &embedded);
    assert!(host.has_loaded("scatter_add_sorted") && !host.has_loaded("scatter_add_atomic"));
    cuda.set_deterministic(false).unwrap();
    assert!(!cuda.capabilities().deterministic);
    agrees("additions in any order", &cuda, &embedded);
    assert!(host.has_loaded("scatter_add_atomic"));
    host.check_guards();
}
