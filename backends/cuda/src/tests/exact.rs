//! Results of an exact context, run on the host, have the bits of the reference backend: with numbers that round, sums of
//! about one chunk or block and of several, and edges of tiles.

use super::results::{agrees, device};
use crate::Mode;
use isograd_core::{
    Backend, DType, Dyn, Error, Result, Tensor, autograd,
    operators::{ConvOptions, Fused, PoolOptions},
};

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// Numbers between -1 and 1 whose sums and products round.
fn rough(ctx: &Dyn, shape: &[usize], dtype: DType, seed: u64) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_slice(ctx, &values, shape)?.cast(dtype)
}

/// Runs `f` on a device of the host, exact, and on the reference: all results have equal bits. Kernels of these names ran.
fn equal(what: &str, kernels: &[&str], f: impl Fn(&Dyn) -> Result<Vec<Tensor>>) {
    let Some((cuda, host)) = device(Mode::Exact) else { return };
    assert!(cuda.capabilities().exact);
    agrees(what, &cuda, &f);
    kernels.iter().for_each(|name| assert!(host.has_loaded(name), "{what}: kernel {name} did not run"));
    host.check_guards();
}

#[test]
fn products() {
    for dtype in FLOATS {
        let large = if dtype == DType::F32 { 140 } else { 70 };
        for (batch, m, n, k, kernels) in [
            // One number per thread, and one tile: one chunk, or several whose sums are added afterwards, in one run or more.
            (1, 3, 5, 255, &["single"][..]),
            (3, 4, 5, 257, &["single", "total"]),
            (1, 17, 64, 256, &["gemm"]),
            (1, 65, 31, 257, &["gemm", "total"]),
            (1, 64, 33, 1300, &["gemm", "total"]),
            (1, large, 129, 513, &["gemm"]),
            // Tiles enough that each has all of its sum.
            (5, 17, 16, 511, &["gemm"]),
            (5, 20, 63, 600, &["gemm"]),
            // Few rows, and few columns.
            (1, 1, 300, 700, &["single", "total"]),
            (2, 150, 2, 260, &["single", "total"]),
            // As many single numbers.
            (70, 3, 5, 300, &["single"]),
        ] {
            equal(&format!("product of {dtype} {batch} {m} {n} {k}"), kernels, |ctx| {
                let (a, b) = (rough(ctx, &[batch, m, k], dtype, 1)?, rough(ctx, &[batch, n, k], dtype, 2)?);
                let bias = rough(ctx, &[n], dtype, 3)?;
                let end = Fused::new("end", &[dtype; 2], 0, |x, _| (&x[0] + &x[1]) * &x[0])?;
                let b = b.swapaxes(1, 2)?;
                // The factors as they lie in memory, and the other way round.
                let (a_t, b_t) = (a.swapaxes(1, 2)?.copy()?.swapaxes(1, 2)?, b.copy()?);
                Ok(vec![a.matmul(&b)?, a_t.matmul(&b_t)?, a.matmul_fused(&b, &end, &[&bias], &[])?])
            });
        }
    }
}

/// Zeros of a chunk that underflows, and infinities, which meet what is beyond the tile.
#[test]
fn products_of_numbers_at_the_edges() {
    equal("product of extremes", &["gemm", "total"], |ctx| {
        let mut values = vec![1.5f32; 20 * 300];
        (values[3 * 300 + 5], values[7 * 300 + 299], values[9 * 300]) = (f32::INFINITY, f32::NAN, f32::MAX);
        values[11 * 300..12 * 300].fill(-1e-30);
        let a = Tensor::from_slice(ctx, &values, [20, 300])?;
        let b = rough(ctx, &[300, 19], DType::F32, 4)?;
        Ok(vec![a.matmul(&b)?, a.matmul(&b.mul_scalar(1e-20)?)?])
    });
}

/// A convolution and both of its gradients.
fn convolution(ctx: &Dyn, x: &[usize], w: &[usize], options: &ConvOptions, dtype: DType) -> Result<Vec<Tensor>> {
    let (x, w) = (rough(ctx, x, dtype, 1)?, rough(ctx, w, dtype, 2)?);
    x.attach_grad()?;
    w.attach_grad()?;
    let y = autograd::record(|| {
        let y = x.conv(&w, None, options)?;
        y.mul(&rough(ctx, y.shape(), dtype, 3)?)?.sum((), false)
    })?;
    y.backward()?;
    Ok(vec![x.conv(&w, None, options)?, x.grad()?, w.grad()?])
}

#[test]
fn convolutions() {
    for (dtype, x, w, stride, padding, dilation, groups) in [
        // More than one chunk of channels and taps, of positions, and of both.
        (DType::F32, &[2usize, 31, 5, 6][..], &[9usize, 31, 3, 3][..], 1, 1, 1, 1),
        (DType::F32, &[3, 3, 15, 14], &[10, 3, 3, 3], 1, 1, 1, 1),
        (DType::F32, &[2, 40, 13, 12], &[33, 40, 3, 3], 1, 1, 1, 1),
        (DType::F16, &[2, 31, 5, 6], &[9, 31, 3, 3], 1, 1, 1, 1),
        (DType::BF16, &[2, 9, 14, 12], &[40, 9, 3, 3], 2, 1, 1, 1),
        (DType::F64, &[2, 31, 9, 7], &[17, 31, 3, 2], 2, 1, 2, 1),
        // Taps that meet no window; windows that leave elements out.
        (DType::F32, &[2, 8, 17, 16], &[30, 8, 3, 3], 4, 2, 1, 1),
        (DType::F32, &[1, 20, 11, 12], &[30, 10, 4, 4], 3, 3, 1, 2),
        // Depthwise, one number per thread; along one axis and three.
        (DType::F32, &[2, 6, 20, 19], &[6, 1, 3, 3], 1, 1, 1, 6),
        (DType::F16, &[2, 6, 20, 19], &[12, 1, 5, 5], 2, 2, 1, 6),
        (DType::F32, &[2, 3, 300], &[2, 3, 120], 1, 5, 1, 1),
        (DType::F32, &[1, 4, 6, 7, 8], &[9, 4, 3, 3, 3], 1, 1, 1, 1),
        (DType::F32, &[1, 4, 6, 7, 8], &[2, 4, 3, 3, 8], 2, 1, 1, 1),
    ] {
        equal(&format!("convolution of {dtype} {x:?} {w:?}"), &[], |ctx| {
            let (stride, padding, dilation) = (vec![stride], vec![padding], vec![dilation]);
            let options = ConvOptions { stride, padding, dilation, groups, ..Default::default() };
            convolution(ctx, x, w, &options, dtype)
        });
    }
}

/// What is not there is a zero, which an infinite weight makes NaN.
#[test]
fn padding_meets_infinite_weights() {
    for channels in [2, 20] {
        equal("infinite weights", &[], |ctx| {
            let mut values = vec![0.5f32; channels * channels * 9];
            values[4] = f32::INFINITY;
            let w = Tensor::from_slice(ctx, &values, [channels, channels, 3, 3])?;
            let x = rough(ctx, &[1, channels, 5, 6], DType::F32, 1)?;
            let options = ConvOptions { stride: vec![2], padding: vec![1], ..Default::default() };
            x.attach_grad()?;
            let y = autograd::record(|| x.conv(&w, None, &options))?;
            y.backward()?;
            Ok(vec![y.detach(), x.grad()?])
        });
    }
}

#[test]
fn pooling() {
    for dtype in [DType::F32, DType::F16, DType::F64] {
        for (x, kernel, stride, padding, count_include_pad, ceil_mode) in [
            (&[2usize, 3, 9, 8][..], &[3usize, 3][..], 2, 1, true, false),
            (&[2, 3, 10, 11], &[5, 4], 1, 2, false, false),
            (&[1, 2, 9, 9], &[9, 9], 1, 0, true, false),
            (&[2, 2, 40], &[7], 3, 3, false, true),
            (&[1, 2, 5, 6, 7], &[3, 2, 3], 2, 1, true, true),
        ] {
            equal(&format!("pooling of {dtype} {x:?} {kernel:?}"), &["pool", "pool_gradient"], |ctx| {
                let options = PoolOptions {
                    kernel: kernel.to_vec(),
                    stride: vec![stride],
                    padding: vec![padding],
                    count_include_pad,
                    ceil_mode,
                };
                let mut all = Vec::new();
                // Ties, zeros of both signs and NaN as well.
                let ties = rough(ctx, x, dtype, 1)?.mul_scalar(1.5)?.trunc()?;
                for x in [rough(ctx, x, dtype, 2)?, ties.clone(), ties.reciprocal()?.sub(&ties.reciprocal()?)?] {
                    for largest in [true, false] {
                        x.attach_grad()?;
                        let y = autograd::record(|| {
                            let y = if largest { x.max_pool(&options)? } else { x.avg_pool(&options)? };
                            all.push(y.detach());
                            y.mul(&rough(ctx, y.shape(), dtype, 3)?)
                        })?;
                        y.backward()?;
                        all.push(x.grad()?);
                    }
                }
                Ok(all)
            });
        }
    }
}

/// Rows of one block of terms, of several, of more than shared memory keeps, and of more than a block of threads works on.
#[test]
fn rows() {
    for (dtype, sizes) in [
        (DType::F32, &[1, 15, 17, 255, 256, 257, 511, 1000, 1024, 1025, 4100, 12_100, 65_536, 65_537][..]),
        (DType::F16, &[1, 16, 200, 264, 1030, 4104, 24_000]),
        (DType::F64, &[3, 256, 258, 1025, 6000]),
    ] {
        for &n in sizes {
            equal(&format!("rows of {dtype} {n}"), &[], |ctx| {
                let count = if n > 5000 { 1 } else { 11 };
                let x = rough(ctx, &[count, n], dtype, n as u64)?.mul_scalar(8)?;
                let (gamma, beta) = (Tensor::ones(ctx, [n], dtype)?, Tensor::zeros(ctx, [n], dtype)?);
                Ok(vec![x.softmax(1)?, x.log_softmax(1)?, x.layer_norm(&gamma, &beta, 1e-5, 1)?])
            });
        }
    }
}

#[test]
fn running_sums() {
    for (dtype, sizes) in [
        (DType::F32, &[1, 16, 255, 256, 257, 512, 513, 5000, 70_000][..]),
        (DType::F16, &[17, 256, 300, 1111]),
        (DType::I32, &[256, 700]),
    ] {
        for &n in sizes {
            let kernels = if n > 256 { &["scan", "scan_last", "scan_join"][..] } else { &["scan"] };
            equal(&format!("running sums of {dtype} {n}"), kernels, |ctx| {
                let count = if n > 5000 { 1 } else { 7 };
                let x = rough(ctx, &[count, n], DType::F32, n as u64)?.mul_scalar(9)?.cast(dtype)?;
                // Zeros begin as they are.
                let zeros = x.mul_scalar(0)?;
                Ok(vec![x.cumsum(1)?, zeros.cumsum(1)?, x.t()?.cumsum(0)?])
            });
        }
    }
}

#[test]
fn additions_at_indices() {
    for dtype in FLOATS {
        for length in [9, 70, 900] {
            equal(&format!("additions of {dtype} {length}"), &[], |ctx| {
                let picks: Vec<i64> = (0..length * 3).map(|i| (i * i) % 7).collect();
                let index = Tensor::from_slice(ctx, &picks, [length as usize, 3])?;
                let x = rough(ctx, &[7, 3], dtype, 1)?;
                Ok(vec![x.scatter_add(0, &index, &rough(ctx, &[length as usize, 3], dtype, 2)?)?])
            });
        }
    }
}

#[test]
fn an_exact_context_has_no_faster_ways() {
    let (Some((exact, _)), Some((fast, _))) = (device(Mode::Exact), device(Mode::Fast)) else { return };
    assert_eq!([exact.mode(), fast.mode()], [Mode::Exact, Mode::Fast]);
    assert_eq!([exact.capabilities().exact, fast.capabilities().exact], [true, false]);
    assert_eq!([exact.name(), fast.name()], ["cuda:host", "cuda:host:fast"]);
    for (name, result) in [("set_tf32", exact.set_tf32(true)), ("set_deterministic", exact.set_deterministic(false))] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
        for word in [name, "cuda:host is exact", "cuda:host:fast", "Mode::Fast"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
    assert!(!exact.tf32() && exact.deterministic());
    exact.set_tf32(false).and(exact.set_deterministic(true)).unwrap();
    fast.set_tf32(true).and(fast.set_deterministic(false)).unwrap();
    assert!(fast.tf32() && !fast.deterministic() && !fast.capabilities().deterministic);
}
