//! What happens when the driver fails, and when its caches are damaged or shared. Where there is no device a test says so and
//! passes.

use crate::{Class, OpenCl, Options, faults::Point};
use isograd_core::{
    Backend, DType, Error, Tensor,
    expr::{Binary, Expr, Program, Unary},
};
use isograd_kernel_cache::Cache;
use opencl3::error_codes::{CL_DEVICE_NOT_AVAILABLE, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_RESOURCES};
use std::{
    fs,
    io::Write,
    path::Path,
    process::Command,
    sync::{Once, atomic::Ordering},
};

/// Says once, where also a test that passes is heard, what is skipped.
fn skipped(why: &Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = std::io::stderr().write_all(format!("skipped what needs an OpenCL device: {why}\n").as_bytes());
    });
}

/// A context of its own, with its cache in a folder that lives as long as the test.
fn context() -> Option<(OpenCl, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    match OpenCl::separate(0, &Options { cache: Some(folder.path()), ..Options::default() }) {
        Ok(ctx) => Some((ctx, folder)),
        Err(e) => {
            skipped(&e);
            None
        }
    }
}

/// Products of every kind of layout that CLBlast takes, and of some that it does not, against the reference backend.
#[cfg(feature = "clblast")]
#[test]
fn products_by_clblast() {
    if !crate::clblast::is_there() {
        let _ = std::io::stderr().write_all(b"skipped what needs CLBlast: install libclblast1\n");
        return;
    }
    use isograd_reference::Reference;
    let Some((ctx, _folder)) = context() else { return };
    assert!(!ctx.capabilities().exact, "CLBlast adds up in an order of its own");
    let there = |shape: &[usize]| Tensor::normal(&Reference, shape, 0.0, 1.0, DType::F64).unwrap();
    let (a, b) = (there(&[2, 70, 130]), there(&[2, 130, 90]));
    for dtype in [DType::F32, DType::F64] {
        let (a, b) = (a.cast(dtype).unwrap(), b.cast(dtype).unwrap());
        let expected = a.matmul(&b).unwrap().cast(DType::F64).unwrap().to_vec::<f64>().unwrap();
        let (a, b) = (a.copyto(&ctx).unwrap(), b.copyto(&ctx).unwrap());
        let turned = |x: &Tensor<OpenCl>| x.swapaxes(1, 2).unwrap().copy().unwrap().swapaxes(1, 2).unwrap();
        let reversed = |x: &Tensor<OpenCl>| x.flip(0).unwrap().copy().unwrap().flip(0).unwrap();
        let padded = |x: &Tensor<OpenCl>| {
            let n = x.shape()[2];
            Tensor::concat(&[x, x], 2).unwrap().narrow(2, n, n).unwrap()
        };
        for x in [a.clone(), turned(&a), reversed(&a), padded(&a)] {
            for y in [b.clone(), turned(&b), reversed(&b), padded(&b)] {
                let got = x.matmul(&y).unwrap().cast(DType::F64).unwrap().to_vec::<f64>().unwrap();
                let bound = if dtype == DType::F32 { 1e-3 } else { 1e-11 };
                assert!(got.iter().zip(&expected).all(|(g, e)| (g - e).abs() <= bound), "{dtype}");
            }
        }
    }
    // All but those with a reversed batch.
    assert_eq!(crate::clblast::DONE.get(), 2 * 3 * 3);
}

fn tripled(ctx: &OpenCl) -> Result<Vec<f32>, Error> {
    Tensor::from_slice(ctx, &[1.0f32, 2.0], [2])?.mul_scalar(3.0)?.to_vec()
}

#[test]
fn a_lost_device_is_told_and_stays_lost() {
    let Some((ctx, _folder)) = context() else { return };
    assert_eq!(tripled(&ctx).unwrap(), [3.0, 6.0]);
    let kept = Tensor::from_slice(&ctx, &[1.0f32], [1]).unwrap();
    ctx.shared.faults.plant(Point::Launch, CL_DEVICE_NOT_AVAILABLE, 1);
    for _ in 0..2 {
        // The fault was planted once; the context remembers.
        let error = kept.mul_scalar(2.0).unwrap_err().to_string();
        assert!(error.contains("lost") && error.contains("mul") && error.contains("OpenCl::new"), "{error}");
    }
    assert!(ctx.alloc(16).is_ok() && ctx.synchronize().is_err());
    drop(kept);
    assert_eq!(tripled(&OpenCl::new(0).unwrap()).unwrap(), [3.0, 6.0]);
}

#[test]
fn a_launch_that_lacks_memory_is_tried_again_and_then_told() {
    let Some((ctx, _folder)) = context() else { return };
    drop(ctx.alloc(1 << 20).unwrap());
    assert!(ctx.kept_memory() >= 1 << 20);
    ctx.shared.faults.plant(Point::Launch, CL_MEM_OBJECT_ALLOCATION_FAILURE, 1);
    assert_eq!(tripled(&ctx).unwrap(), [3.0, 6.0]);
    ctx.shared.faults.plant(Point::Launch, CL_MEM_OBJECT_ALLOCATION_FAILURE, 2);
    assert!(matches!(tripled(&ctx), Err(Error::OutOfMemory { .. })));
    assert_eq!(tripled(&ctx).unwrap(), [3.0, 6.0]);
}

#[test]
fn memory_is_freed_and_asked_for_again_and_then_told() {
    let Some((ctx, _folder)) = context() else { return };
    drop(ctx.alloc(1 << 20).unwrap());
    ctx.shared.faults.plant(Point::Alloc, CL_MEM_OBJECT_ALLOCATION_FAILURE, 1);
    assert!(ctx.alloc(3 << 20).is_ok());
    ctx.trim();
    ctx.shared.faults.plant(Point::Alloc, CL_MEM_OBJECT_ALLOCATION_FAILURE, 2);
    assert!(matches!(ctx.alloc(5 << 20), Err(Error::OutOfMemory { bytes, .. }) if bytes == 5 << 20));
    for bytes in [ctx.description().max_buffer + 1, usize::MAX] {
        assert!(matches!(ctx.alloc(bytes), Err(Error::OutOfMemory { bytes: b, .. }) if b == bytes));
    }
    assert!(ctx.alloc(5 << 20).is_ok());
}

#[test]
fn the_pool_keeps_what_its_limit_allows() {
    let Some((ctx, _folder)) = context() else { return };
    let (a, b) = (ctx.alloc(600_000).unwrap(), ctx.alloc(800_000).unwrap());
    drop((a, b));
    let kept = ctx.kept_memory();
    assert!(kept >= 1_400_000);
    drop(ctx.alloc(600_000).unwrap());
    assert_eq!(ctx.kept_memory(), kept);
    ctx.set_memory_limit(1_000_000);
    assert!((600_000..=1_000_000).contains(&ctx.kept_memory()));
    ctx.trim();
    assert_eq!(ctx.kept_memory(), 0);
}

#[test]
fn a_failed_wait_is_told() {
    let Some((ctx, _folder)) = context() else { return };
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2]).unwrap().exp().unwrap();
    ctx.shared.faults.plant(Point::Wait, CL_OUT_OF_RESOURCES, 1);
    assert!(matches!(x.to_vec::<f32>(), Err(Error::Backend { .. })));
    assert_eq!(x.to_vec::<f32>().unwrap().len(), 2);
}

#[test]
fn a_kernel_that_does_not_compile_shows_the_log_and_the_source() {
    let Some((ctx, _folder)) = context() else { return };
    let error = ctx.shared.compile("mine", "__kernel void isograd_kernel() { nonsense }").err().unwrap().to_string();
    assert!(error.contains("mine") && error.contains("nonsense") && error.contains("does not compile"), "{error}");
    assert_eq!(tripled(&ctx).unwrap(), [3.0, 6.0]);
}

#[test]
fn an_index_out_of_range_is_told_by_the_next_wait_once() {
    let Some((ctx, _folder)) = context() else { return };
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [3]).unwrap();
    let (source, mut out) = (ctx.alloc(24).unwrap(), ctx.alloc(12).unwrap());
    let mut index = ctx.alloc(24).unwrap();
    let bytes: Vec<u8> = [0i64, 7, 2].iter().flat_map(|v| v.to_le_bytes()).collect();
    ctx.upload(&bytes, &mut index, 0).unwrap();
    let layout = isograd_core::Layout::contiguous([3]);
    let operand = |buffer, dtype| isograd_core::Operand::new(buffer, dtype, &layout);
    let mut target = isograd_core::OperandMut::new(&mut out, DType::F32, &layout);
    ctx.gather(0, &operand(&source, DType::F32), &operand(&index, DType::I64), &mut target).unwrap();
    let error = ctx.synchronize().unwrap_err();
    assert!(matches!(error, Error::IndexOutOfRange { op: "gather", index: 7, axis: 0, size: 3, .. }), "{error}");
    ctx.synchronize().unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
}

#[test]
fn every_kernel_builds_fast() {
    use Binary::{And, Or, Shl, Shr, Xor};
    for class in [Class::Cpu, Class::Gpu] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { class: Some(class), cache: Some(folder.path()) };
        let ctx = match OpenCl::separate(0, &options) {
            Ok(ctx) => ctx,
            Err(e) => return skipped(&e),
        };
        let dtypes = [DType::F16, DType::F32, DType::F64, DType::I64];
        for d in dtypes.into_iter().filter(|d| ctx.capabilities().computes.contains(*d)) {
            let float = d.is_float();
            let (x, y) = (Expr::input(0, d), Expr::input(1, d));
            let unary = Unary::ALL.iter().filter(|op| match op {
                Unary::Not => !float,
                Unary::Neg | Unary::Abs | Unary::Sign | Unary::Relu => true,
                _ => float,
            });
            let binary = Binary::ALL.iter().filter(|op| match op {
                And | Or | Xor | Shl | Shr => !float,
                Binary::Hypot | Binary::Atan2 => float,
                _ => true,
            });
            let unary = unary.map(|op| Expr::unary(*op, &x).cast(d));
            let all = unary.chain(binary.map(|op| Expr::binary(*op, &x, &y).cast(d)));
            let bits = Expr::random_bits(&Expr::constant(1i64), &Expr::index(), 0).cast(d);
            let whole = x.cast(DType::I64).cast(d);
            let sum = all.chain([bits, whole]).reduce(|a, b| a + b).unwrap();
            let program = Program::new("every primitive", &[sum], &[d, d], &[]).unwrap();
            let layout = isograd_core::Layout::contiguous([4]);
            let (a, mut b) = (ctx.alloc(64).unwrap(), ctx.alloc(64).unwrap());
            let inputs = [isograd_core::Operand::new(&a, d, &layout); 2];
            let mut target = [isograd_core::OperandMut::new(&mut b, d, &layout)];
            ctx.map(&isograd_core::expr::Kernel::new(&program, &[]), &inputs, &mut target).unwrap();

            let square = Tensor::full(&ctx, [40, 40], 1.0, d).unwrap();
            square.matmul(&square).unwrap().sum((), false).unwrap();
            square.matmul(&square.narrow(1, 0, 1).unwrap()).unwrap();
            square.cumsum(0).unwrap();
            Tensor::full(&ctx, [1, 600], 1.0, d).unwrap().cumsum(1).unwrap();
            let order = square.argsort(1, false).unwrap();
            square.scatter_add(1, &order, &square.gather(1, &order).unwrap()).unwrap();
            if float {
                square.softmax(1).unwrap();
            }
            let images = Tensor::full(&ctx, [2, 3, 9, 9], 1.0, d).unwrap();
            if float {
                images.max_pool(&isograd_core::operators::PoolOptions::new(&[3, 3])).unwrap();
            }
        }
        ctx.synchronize().unwrap();
        assert!(
            ctx.shared.programs.sufficed.load(Ordering::Relaxed),
            "{class:?}: a kernel calls what `builtins` lacks"
        );
    }
}

/// Every file of the cache, with its content.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    all.sort();
    all.into_iter().map(|f| (f.clone(), fs::read(f).unwrap())).collect()
}

#[test]
fn a_damaged_cache_is_rebuilt() {
    let Some((ctx, folder)) = context() else { return };
    assert_eq!(tripled(&ctx).unwrap(), [3.0, 6.0]);
    let before = files(folder.path());
    assert!(!before.is_empty());
    for damage in [0, 20, 200] {
        before.iter().for_each(|(file, bytes)| fs::write(file, &bytes[..damage]).unwrap());
        let ctx = OpenCl::separate(0, &Options { cache: Some(folder.path()), ..Options::default() }).unwrap();
        assert_eq!(tripled(&ctx).unwrap(), [3.0, 6.0]);
        let after = files(folder.path());
        assert!(after.len() == before.len() && after.iter().all(|(_, bytes)| bytes.len() > 200));
    }
}

#[test]
fn a_binary_that_the_driver_refuses_is_rebuilt() {
    let Some((ctx, folder)) = context() else { return };
    let source = "__kernel void isograd_kernel(__global float *x) { x[0] = 1; }";
    ctx.shared.compile("mine", source).unwrap();
    let whole = files(folder.path());
    let cache = Cache::at(folder.path());
    let key = ctx.shared.programs.key(source);
    let program = cache.load(&key).unwrap();
    cache.store(&key, b"no program");
    let ctx = OpenCl::separate(0, &Options { cache: Some(folder.path()), ..Options::default() }).unwrap();
    ctx.shared.compile("mine", source).unwrap();
    assert_eq!(cache.load(&key).map(|p| p.len()), Some(program.len()));
    assert_eq!(files(folder.path()).len(), whole.len());
}

/// What lies under the name of another kernel is not run.
#[test]
fn kernels_whose_files_are_exchanged_are_rebuilt() {
    let Some((ctx, folder)) = context() else { return };
    let values = |ctx: &OpenCl| {
        let x = Tensor::from_slice(ctx, &[1.0f32, 4.0], [2]).unwrap();
        [x.neg(), x.sqrt()].map(|y| y.unwrap().to_vec::<f32>().unwrap())
    };
    let expected = values(&ctx);
    assert_eq!(expected, [[-1.0, -4.0], [1.0, 2.0]]);
    let all = files(folder.path());
    assert!(all.len() >= 2);
    for (i, (file, _)) in all.iter().enumerate() {
        fs::write(file, &all[(i + 1) % all.len()].1).unwrap();
    }
    let ctx = OpenCl::separate(0, &Options { cache: Some(folder.path()), ..Options::default() }).unwrap();
    assert_eq!(values(&ctx), expected);
}

/// Reductions and products of a GPU, and other kernels, where registers allow few work items in a group.
#[test]
fn kernels_run_in_groups_as_large_as_the_driver_allows() {
    for most in [1, 24, 100, usize::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { class: Some(Class::Gpu), cache: Some(folder.path()) };
        let ctx = match OpenCl::separate(0, &options) {
            Ok(ctx) => ctx,
            Err(e) => return skipped(&e),
        };
        ctx.shared.faults.limit_items(most);
        let x = Tensor::ones(&ctx, [70, 90], DType::F32).unwrap();
        assert_eq!(x.add(&x).unwrap().sum((), false).unwrap().to_vec::<f32>().unwrap(), [12600.0]);
        assert_eq!(x.max(1, false).unwrap().to_vec::<f32>().unwrap(), [1.0; 70]);
        let product = x.matmul(&x.swapaxes(0, 1).unwrap()).unwrap();
        assert_eq!(product.to_vec::<f32>().unwrap(), [90.0; 70 * 70]);
        let images = x.reshape([1, 1, 70, 90]).unwrap();
        let weight = Tensor::ones(&ctx, [2, 1, 3, 3], DType::F32).unwrap();
        let convolved = images.conv(&weight, None, &Default::default()).unwrap();
        assert_eq!(convolved.sum((), false).unwrap().to_vec::<f32>().unwrap(), [(68 * 88 * 9 * 2) as f32]);
        let order = x.argsort(1, true).unwrap();
        let zeros = Tensor::zeros(&ctx, [70, 90], DType::F32).unwrap();
        assert_eq!(zeros.scatter_add(1, &order, &x).unwrap().to_vec::<f32>().unwrap(), [1.0; 70 * 90]);
    }
}

/// A kernel's failure is told by the next wait, also by that for what was computed from its result, and not by innocent
/// launches and uploads before it.
#[test]
fn what_failed_is_told_by_the_next_wait() {
    let Some((ctx, _folder)) = context() else { return };
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2]).unwrap();
    let told = |error: Error| assert!(error.to_string().contains("exp"), "{error}");
    ctx.synchronize().unwrap();
    ctx.shared.faults.plant(Point::Kernel, CL_OUT_OF_RESOURCES, 1);
    let y = x.exp().unwrap().add_scalar(1.0).unwrap();
    told(y.to_vec::<f32>().unwrap_err());
    y.to_vec::<f32>().unwrap();

    ctx.shared.faults.plant(Point::Kernel, CL_OUT_OF_RESOURCES, 1);
    let mut y = x.exp().unwrap();
    for _ in 0..1200 {
        y = y.add_scalar(1.0).unwrap();
        tripled_without_wait(&ctx);
    }
    told(ctx.synchronize().unwrap_err());
    ctx.synchronize().unwrap();
    assert_eq!(tripled(&ctx).unwrap(), [3.0, 6.0]);
}

fn tripled_without_wait(ctx: &OpenCl) {
    Tensor::from_slice(ctx, &[1.0f32, 2.0], [2]).unwrap().mul_scalar(3.0).unwrap();
}

/// The variable that tells the process of [`two_processes_fill_one_cache`] to be one of them.
const FILL: &str = "ISOGRAD_TEST_FILL";

#[test]
fn two_processes_fill_one_cache() {
    if let Ok(folder) = std::env::var(FILL) {
        let ctx = OpenCl::separate(0, &Options { cache: Some(Path::new(&folder)), ..Options::default() }).unwrap();
        let x = Tensor::from_slice(&ctx, &[1.0f32, 4.0], [2]).unwrap();
        assert_eq!(x.sqrt().unwrap().to_vec::<f32>().unwrap(), [1.0, 2.0]);
        assert_eq!(x.sum((), false).unwrap().to_vec::<f32>().unwrap(), [5.0]);
        return;
    }
    let Some((_, folder)) = context() else { return };
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::two_processes_fill_one_cache"]).env(FILL, folder.path());
        command.spawn().unwrap()
    };
    let mut processes = [start(), start()];
    assert!(processes.iter_mut().all(|p| p.wait().unwrap().success()));
    // No temporary file is left.
    assert!(files(folder.path()).iter().all(|(file, _)| file.file_name().unwrap().len() == 64));
    assert!(start().wait().unwrap().success());
}

#[test]
fn threads_share_a_context_and_contexts_a_device() {
    let Some((ctx, folder)) = context() else { return };
    let other = OpenCl::separate(0, &Options { cache: Some(folder.path()), ..Options::default() }).unwrap();
    assert_ne!(ctx, other);
    std::thread::scope(|scope| {
        for t in 0..4 {
            let ctx = if t % 2 == 0 { &ctx } else { &other };
            scope.spawn(move || {
                for i in 0..100 {
                    let v = (t * 1000 + i) as f32;
                    let x = Tensor::from_slice(ctx, &vec![v; 300], [300]).unwrap();
                    let y = (&x + &x).to_vec::<f32>().unwrap();
                    assert!(y.iter().all(|y| *y == 2.0 * v));
                }
            });
        }
    });
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2]).unwrap();
    assert_eq!(x.copyto(&other).unwrap().to_vec::<f32>().unwrap(), [1.0, 2.0]);
}

#[test]
fn many_launches_without_a_wait_are_kept_in_bounds() {
    let Some((ctx, _folder)) = context() else { return };
    let mut x = Tensor::from_slice(&ctx, &[0.0f32], [1]).unwrap();
    for _ in 0..3000 {
        x = x.add_scalar(1.0).unwrap();
        assert!(ctx.shared.launches.lock().unwrap().len() <= 512);
    }
    assert_eq!(x.to_vec::<f32>().unwrap(), [3000.0]);
}

#[test]
fn more_operands_than_fit_the_arguments_pass_through_memory() {
    let Some((ctx, _folder)) = context() else { return };
    const N: usize = 40;
    let sum = (0..N as u8).map(|k| Expr::input(k, DType::F32)).reduce(|a, b| a + b).unwrap();
    let program = Program::new("many", &[sum], &[DType::F32; N], &[]).unwrap();
    // Columns of a matrix: strided, so that shape and strides are passed.
    let layout = isograd_core::Layout::contiguous([2, 3, 2, 5]).permute(&[2, 0, 3, 1]);
    let mut buffer = ctx.alloc(240).unwrap();
    let numbers: Vec<u8> = (0..60).flat_map(|v| (v as f32).to_le_bytes()).collect();
    ctx.upload(&numbers, &mut buffer, 0).unwrap();
    let inputs = [isograd_core::Operand::<OpenCl>::new(&buffer, DType::F32, &layout); N];
    let flat = isograd_core::Layout::contiguous(layout.shape().clone());
    let mut out = ctx.alloc(240).unwrap();
    let mut target = [isograd_core::OperandMut::new(&mut out, DType::F32, &flat)];
    ctx.map(&isograd_core::expr::Kernel::new(&program, &[]), &inputs, &mut target).unwrap();
    let mut bytes = vec![0; 240];
    ctx.download(&out, 0, &mut bytes).unwrap();
    for (i, at) in layout.positions().enumerate() {
        let got = f32::from_le_bytes(bytes[i * 4..][..4].try_into().unwrap());
        assert_eq!(got, (N * at) as f32);
    }
}

#[test]
fn devices_are_found_by_number_and_by_name() {
    let Some((ctx, _folder)) = context() else { return };
    assert_eq!(OpenCl::new(0).unwrap(), OpenCl::new(0).unwrap());
    let all = OpenCl::all().unwrap();
    assert_eq!((all.len(), &all[0]), (OpenCl::count().unwrap(), &OpenCl::new(0).unwrap()));
    let word = ctx.description().platform.split(' ').next().unwrap().to_uppercase();
    assert_eq!(OpenCl::find(&word).unwrap().name(), "opencl:0");
    for error in [OpenCl::new(99).err(), OpenCl::find("no such vendor").err()] {
        assert!(matches!(error, Some(Error::UnknownDevice { available, .. }) if available.contains("opencl:0")));
    }
}
