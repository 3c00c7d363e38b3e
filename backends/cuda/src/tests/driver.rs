//! The code that talks to NVIDIA's driver and compiler, by way of `cust`, on stand-ins for both.

use super::{
    libraries::{trained, trained_on},
    results::{agrees, numbers},
    stand_in::{self, break_device, calls, fail, number, run, run_in},
};
use crate::{Cuda, Mode, Nvrtc, driver::Architecture};
use isograd_conformance::{Level, Options, Suite};
use isograd_core::{Backend, DType, Dyn, Error, Result, Tensor};
use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
};

/// With the device's streams as late as they may be, and as early.
const LATE_AND_EARLY: [&[(&str, &str)]; 2] = [&[], &[("IG_EAGER", "255")]];
/// Also with either of two streams late and the other early.
const EVERY_ORDER: [&[(&str, &str)]; 4] = [&[], &[("IG_EAGER", "1")], &[("IG_EAGER", "2")], &[("IG_EAGER", "255")]];

fn doubled(cuda: &Cuda) -> Result<Vec<f32>> {
    let x = Tensor::from_slice(&Dyn::new(cuda.clone()), &[1.0f32, 2.0, 3.0], [3])?;
    x.add(&x)?.to_vec()
}

fn opened(number: usize) -> Cuda {
    Cuda::new(number).unwrap()
}

/// The error's text, which must have these words.
fn told<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) {
    let error = result.unwrap_err().to_string();
    words.iter().for_each(|word| assert!(error.contains(word), "no {word:?} in {error}"));
}

#[test]
fn a_device_is_opened_once_and_others_are_told() {
    run("driver::a_device_is_opened_once_and_others_are_told", &[&[]], || {
        assert_eq!(Cuda::count(), 2);
        let (cuda, other) = (opened(0), opened(1));
        assert_eq!(cuda, opened(0));
        assert_ne!(cuda, other);
        assert_eq!([cuda.name(), other.name()], ["cuda:0", "cuda:1"]);
        assert_eq!(cuda.context.driver.architecture(), Architecture::new(9, 0));
        assert_eq!(cuda.capabilities().max_buffer, 256 << 20);
        assert!(matches!(Cuda::new(2).unwrap_err(), Error::UnknownDevice { .. }));
        told(Cuda::new(2), &["cuda:2", "cuda:0, cuda:1"]);
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
        drop(cuda);
        let mut current = std::ptr::dangling_mut();
        // SAFETY: the pointer is valid for writing.
        unsafe { cust::sys::cuCtxGetCurrent(&mut current) };
        assert!(current.is_null(), "no context is current that is gone");
        // Once it was given back, it is opened anew.
        assert_eq!(doubled(&opened(0)).unwrap(), [2.0, 4.0, 6.0]);
        assert_eq!(doubled(&other).unwrap(), [2.0, 4.0, 6.0]);
    });
}

/// Both are contexts of one device: what one has computed goes to the other in order.
#[test]
fn a_device_has_an_exact_and_a_fast_context() {
    run("driver::a_device_has_an_exact_and_a_fast_context", &EVERY_ORDER, || {
        let (exact, fast) = (opened(1), Cuda::with_mode(1, Mode::Fast).unwrap());
        assert_ne!(exact, fast);
        assert_eq!([exact.name(), fast.name()], ["cuda:1", "cuda:1:fast"]);
        assert_eq!([exact.capabilities().exact, fast.capabilities().exact], [true, false]);
        assert_eq!(["1", "1:fast"].map(|which| Cuda::find(which).unwrap()), [exact.clone(), fast.clone()]);
        assert_eq!(["", "fast"].map(|which| Cuda::find(which).unwrap().name()), ["cuda:0", "cuda:0:fast"]);
        for which in ["1:quick", "fast:1", ":fast", "1:", "one", "-1"] {
            assert!(matches!(Cuda::find(which).unwrap_err(), Error::UnknownDevice { .. }), "{which}");
            told(Cuda::find(which), &[&format!("cuda:{which}"), "cuda:0, cuda:1", "cuda:0:fast"]);
        }
        told(Cuda::find("2:fast"), &["cuda:2", "cuda:0, cuda:1"]);
        let contexts = [exact, fast].map(Dyn::new);
        let x = Tensor::from_slice(&contexts[0], &[1.0f32, 2.0, 3.0], [3]).unwrap();
        let there = x.add(&x).unwrap().copyto(&contexts[1]).unwrap();
        x.assign(&x.add(&x).unwrap()).unwrap();
        let back = there.add(&there).unwrap().copyto(&contexts[0]).unwrap();
        there.assign(&there.add(&there).unwrap()).unwrap();
        assert_eq!(back.to_vec::<f32>().unwrap(), [4.0, 8.0, 12.0]);
        assert_eq!(trained_on(&contexts).unwrap()[0], trained_on(&contexts[..1]).unwrap()[0]);
    });
}

#[test]
fn memory_is_counted_limited_and_given_back() {
    run("driver::memory_is_counted_limited_and_given_back", &LATE_AND_EARLY, || {
        const MEBIBYTE: usize = 1 << 20;
        let cuda = opened(0);
        let (used, kept) = (cuda.used_memory(), cuda.kept_memory());
        let buffer = cuda.alloc(8 * MEBIBYTE).unwrap();
        assert_eq!([cuda.used_memory(), cuda.kept_memory()], [used + 8 * MEBIBYTE, kept]);
        drop(buffer);
        assert_eq!([cuda.used_memory(), cuda.kept_memory()], [used, kept + 8 * MEBIBYTE]);
        let allocated = calls("cuMemAlloc_v2");
        drop(cuda.alloc(8 * MEBIBYTE).unwrap());
        assert_eq!(calls("cuMemAlloc_v2"), allocated);
        cuda.trim();
        assert_eq!(cuda.kept_memory(), 0);
        cuda.set_memory_limit(used + 4 * MEBIBYTE);
        told(cuda.alloc(8 * MEBIBYTE), &["out of memory", "allowed"]);
        cuda.set_memory_limit(usize::MAX);
        // The device's own limit: what was dropped is given back to it first.
        drop(cuda.alloc(160 * MEBIBYTE).unwrap());
        let most = cuda.alloc(192 * MEBIBYTE).unwrap();
        let error = cuda.alloc(128 * MEBIBYTE).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { bytes: 134_217_728, .. }), "{error}");
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
        // Also for a kernel that is loaded.
        drop((cuda.alloc(16 * MEBIBYTE).unwrap(), most));
        fail("cuModuleLoadDataEx", 0, 2);
        let x = Tensor::from_slice(&Dyn::new(cuda.clone()), &[4.0f32], [1]).unwrap();
        assert_eq!(x.sqrt().unwrap().asscalar::<f32>().unwrap(), 2.0);
        assert_eq!(cuda.kept_memory(), 512);
    });
}

/// One case in sixteen of the whole suite; not those of `results`.
#[test]
fn a_sample_of_the_suite_conforms() {
    run("driver::a_sample_of_the_suite_conforms", &[&[]], || {
        let suite = Suite::new(opened(0));
        let names: Vec<String> = suite.names().into_iter().skip(5).step_by(16).map(Into::into).collect();
        let mut passed = 0;
        for name in names {
            let options =
                Options { filter: Some(name), dtype: Some(DType::F32), level: Level::Quick, ..Options::default() };
            let report = suite.run(&options);
            assert_eq!(report.failed(), 0, "{report}");
            passed += report.passed();
        }
        assert!(passed > 10, "{passed}");
    });
}

#[test]
fn a_training_step_is_captured_and_replayed() {
    run("driver::a_training_step_is_captured_and_replayed", &LATE_AND_EARLY, || {
        let cuda = opened(0);
        let (step_by_step, replayed) = (trained(&cuda, false).unwrap(), trained(&cuda, true).unwrap());
        assert!(step_by_step.iter().all(|v| v.is_finite()));
        assert_eq!(step_by_step, replayed);
        assert_eq!(calls("cuGraphLaunch"), 3);
    });
}

#[test]
fn a_capture_that_fails_leaves_the_device_as_it_was() {
    run("driver::a_capture_that_fails_leaves_the_device_as_it_was", &[&[]], || {
        let cuda = opened(0);
        let x = Tensor::from_slice(&Dyn::new(cuda.clone()), &[1.0f32, 2.0, 3.0], [3]).unwrap();
        let step = || x.assign(&x.add(&x)?);
        step().unwrap();
        drop(cuda.alloc(3 << 20).unwrap());
        // Copies to and from the host, and what waits, do not reach the driver, which would spoil the capture.
        let graph = cuda.capture(|| {
            told(x.to_vec::<f32>(), &["captured"]);
            told(cuda.synchronize(), &["captured"]);
            told(doubled(&cuda), &["captured"]);
            told(cuda.context.driver.synchronize(), &["captured"]);
            // SAFETY: it does not get to write.
            told(unsafe { cuda.context.driver.upload(&[0], cuda.context.fault()) }, &["captured"]);
            told(cuda.capture(|| Ok(())), &["under way"]);
            // Memory comes and goes as ever.
            drop(cuda.alloc(5 << 20)?);
            cuda.trim();
            step()
        });
        let graph = graph.unwrap();
        graph.replay().unwrap();
        assert_eq!(x.to_vec::<f32>().unwrap(), [4.0, 8.0, 12.0]);
        // A graph may go while another is captured.
        let second = cuda.capture(|| {
            told(graph.replay(), &["captured"]);
            drop(graph);
            step()
        });
        second.unwrap().replay().unwrap();
        assert_eq!(x.to_vec::<f32>().unwrap(), [8.0, 16.0, 24.0]);
        told(cuda.capture(|| Err(Error::invalid("step", "no"))), &["no"]);
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cuda.capture(|| panic!("a step"))));
        assert!(panics.is_err());
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
        // What spoils a capture is told when it ends.
        let stream = cuda.context.driver.stream().unwrap();
        // SAFETY: the stream is the device's.
        let spoil = || unsafe { cust::sys::cuStreamSynchronize(stream.cast()) };
        assert_eq!(spoil(), cust::sys::CUresult::CUDA_SUCCESS);
        let spoilt = cuda.capture(|| {
            assert_eq!(spoil(), cust::sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
            Ok(())
        });
        told(spoilt, &["cuda:0", "CUDA error 901"]);
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
    });
}

#[test]
fn two_devices_copy_to_each_other_and_train_together() {
    run("driver::two_devices_copy_to_each_other_and_train_together", &EVERY_ORDER, || {
        let contexts = [0, 1].map(|n| Dyn::new(opened(n)));
        // There and back, with the source changed at once after each copy.
        let x = Tensor::from_slice(&contexts[0], &[1.0f32, 2.0, 3.0], [3]).unwrap();
        let there = x.copyto(&contexts[1]).unwrap();
        x.assign(&x.add(&x).unwrap()).unwrap();
        let back = there.copyto(&contexts[0]).unwrap();
        there.assign(&there.add(&there).unwrap()).unwrap();
        assert_eq!(back.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(x.to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0]);
        assert_eq!(there.to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0]);
        assert_eq!(calls("cuMemcpyPeerAsync"), 2);
        // Each lets itself be read once.
        assert_eq!(calls("cuCtxEnablePeerAccess"), 2);
        let alone = trained_on(&contexts[..1]).unwrap().remove(0);
        assert_eq!(trained_on(&contexts).unwrap(), [alone.clone(), alone]);
    });
}

#[test]
fn threads_share_a_device() {
    run("driver::threads_share_a_device", &LATE_AND_EARLY, || {
        let cuda = thread::spawn(|| opened(0)).join().unwrap();
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
        thread::scope(|scope| {
            for seed in 0..2 {
                let cuda = &cuda;
                scope.spawn(move || {
                    for i in 0..20 {
                        let large = [1, 300][i % 2];
                        agrees("sums of a thread", cuda, &|ctx| {
                            let x = numbers(ctx, &[large, 60], DType::F32, seed + i)?;
                            Ok(vec![x.add(&x)?, x.clone()])
                        });
                    }
                });
            }
        });
        // The last user need not be the first.
        thread::spawn(move || drop(cuda)).join().unwrap();
    });
}

/// Uploads of all sizes to one place, each copied away at once on the device. The host's memory changes after each.
#[test]
fn uploads_arrive_in_order() {
    run("driver::uploads_arrive_in_order", &EVERY_ORDER, || {
        let cuda = opened(0);
        let driver = &cuda.context.driver;
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let bytes: Vec<u8> = (0..4 << 20).map(|_| next()).collect();
        for (size, times) in [(300, 3000), (64 << 10, 40), ((64 << 10) + 1, 700), ((3 << 20) + 5, 30)] {
            let expected = |i: usize| &bytes[i * 7..][..size];
            let to = cuda.alloc(size).unwrap();
            let all = cuda.alloc(size * times).unwrap();
            let mut from = vec![0u8; size];
            for i in 0..times {
                from.copy_from_slice(expected(i));
                // SAFETY: the buffers are as long as this takes.
                unsafe {
                    driver.upload(&from, to.address()).unwrap();
                    driver.copy(to.address(), all.address() + (i * size) as u64, size).unwrap();
                }
            }
            let mut got = vec![0u8; size * times];
            cuda.download(&all, 0, &mut got).unwrap();
            let wrong = (0..times).find(|i| &got[i * size..][..size] != expected(*i));
            assert_eq!(wrong, None, "uploads of {size} bytes");
        }
    });
}

/// What an upload asks of the driver: little for a small one; and a large one neither waits for kernels nor for the
/// copies before, until as much is under way as there is room for.
#[test]
fn uploads_overlap_with_kernels() {
    run("driver::uploads_overlap_with_kernels", &[&[("IG_EAGER", "2")]], || {
        let cuda = opened(0);
        let mut to = cuda.alloc(40 << 20).unwrap();
        let before = calls("");
        cuda.upload(&[1; 64 << 10], &mut to, 0).unwrap();
        // The context, and the copy.
        assert_eq!(calls("") - before, 2);
        cuda.synchronize().unwrap();
        let bytes = vec![2; 40 << 20];
        cuda.upload(&bytes[..1 << 20], &mut to, 0).unwrap();
        cuda.synchronize().unwrap();
        // The second stream does what it can at once, the one of kernels nothing: 32 MiB fit, of which 1 is in use.
        let waits = || [calls("cuStreamSynchronize"), calls("cuEventSynchronize")];
        let before = waits();
        cuda.upload(&bytes[..31 << 20], &mut to, 0).unwrap();
        assert_eq!(number("ig_queued"), 31);
        // Seven chunks were entered, none of which had been used.
        assert_eq!(waits(), [before[0], before[1] + 7]);
        cuda.upload(&bytes[..1 << 20], &mut to, 31 << 20).unwrap();
        // The first chunk is used again: the three pieces that were still in it have been copied.
        assert_eq!(number("ig_queued"), 31 - 3 + 1);
        let mut got = vec![0; 32 << 20];
        cuda.download(&to, 0, &mut got).unwrap();
        assert!(got.iter().all(|b| *b == 2));
    });
}

#[test]
fn large_uploads_work_without_memory_for_them() {
    run("driver::large_uploads_work_without_memory_for_them", &EVERY_ORDER, || {
        let cuda = opened(0);
        let mut to = cuda.alloc(3 << 20).unwrap();
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i * 5 + i / 999) as u8).collect();
        fail("cuMemAlloc_v2", 0, 2);
        cuda.upload(&bytes, &mut to, 0).unwrap();
        let mut got = vec![0; 3 << 20];
        cuda.download(&to, 0, &mut got).unwrap();
        assert!(got == bytes);
    });
}

#[test]
fn failures_of_the_device_are_told_and_those_that_stay_stay() {
    run("driver::failures_of_the_device_are_told_and_those_that_stay_stay", &LATE_AND_EARLY, || {
        let (cuda, other) = (opened(0), opened(1));
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
        fail("cuLaunchKernel", 0, 701);
        told(doubled(&cuda), &["cuda:0", "launch of kernel add", "too many resources requested", "CUDA error 701"]);
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
        for (function, code) in [("cuMemcpyHtoDAsync_v2", 1), ("cuMemcpyDtoHAsync_v2", 999), ("cuMemAlloc_v2", 46)] {
            cuda.trim();
            fail(function, 0, code);
            told(doubled(&cuda), &["cuda:0", &format!("CUDA error {code}")]);
            assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
        }
        let x = Tensor::from_slice(&Dyn::new(cuda.clone()), &[1.0f32], [1]).unwrap();
        cuda.synchronize().unwrap();
        break_device(0, 700);
        let broken = ["cuda:0", "illegal memory access", "CUDA error 700"];
        told(x.add(&x).and_then(|y| y.to_vec::<f32>()), &broken);
        told(x.to_vec::<f32>(), &broken);
        told(cuda.synchronize(), &broken);
        told(cuda.alloc(1 << 20), &broken);
        told(doubled(&cuda), &broken);
        told(cuda.capture(|| Ok(())).map(drop), &broken);
        assert_eq!(doubled(&other).unwrap(), [2.0, 4.0, 6.0]);
    });
}

/// Where the cache of this process has its files.
fn kept() -> Vec<PathBuf> {
    let directory = PathBuf::from(env::var_os(isograd_kernel_cache::VARIABLE).unwrap()).join("cuda");
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn compiled_kernels_that_are_damaged_or_refused_are_made_anew() {
    run("driver::compiled_kernels_that_are_damaged_or_refused_are_made_anew", &[&[]], || {
        doubled(&opened(0)).unwrap();
        let whole = fs::read(&kept()[0]).unwrap();
        let refused = |content: &[u8]| {
            // What it begins with, and the key.
            [&whole[..48], blake3::hash(content).as_bytes(), content].concat()
        };
        // Half a file; what is no machine code; the machine code of something else.
        let other = fs::read(stand_in::directory().unwrap().join("libcudnn.so.9")).unwrap();
        for bytes in
            [whole[..whole.len() / 2].to_vec(), refused(b"no machine code, but of some length"), refused(&other)]
        {
            fs::write(&kept()[0], bytes).unwrap();
            assert_eq!(doubled(&opened(0)).unwrap(), [2.0, 4.0, 6.0]);
            assert!(kept().len() == 1 && fs::read(&kept()[0]).unwrap() == whole);
        }
    });
}

#[test]
fn the_compiler_tells_what_is_wrong() {
    run("driver::the_compiler_tells_what_is_wrong", &[&[]], || {
        let nvrtc = Nvrtc::get().unwrap();
        assert_eq!(nvrtc.version(), (13, 0));
        let compile = |text, minor| nvrtc.compile("a_kernel", text, Architecture::new(9, minor), &[]);
        told(compile("this is no kernel", 0), &["a_kernel", "error", "this"]);
        told(compile("", 9), &["a_kernel", "invalid value for --gpu-architecture", "NVRTC 13.0 may be older"]);
        assert!(compile("", 0).unwrap().starts_with(b"\x7fELF"));
    });
}

/// Kernels of a newer CUDA than the driver's would not load.
#[test]
fn a_compiler_is_taken_that_the_driver_is_new_enough_for() {
    let test = "driver::a_compiler_is_taken_that_the_driver_is_new_enough_for";
    let older = [("IG_DRIVER_VERSION", "12040"), ("IG_NVRTC_VERSION", "129")];
    run(test, &[&older[..1], &older], || {
        let cuda = opened(0);
        match env::var("IG_NVRTC_VERSION") {
            Ok(_) => assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]),
            Err(_) => told(doubled(&cuda), &["NVRTC 13.0", "CUDA 12", "nvidia-cuda-nvrtc-cu12", "newer driver"]),
        }
    });
}

#[test]
fn drivers_and_devices_that_cannot_be_used_are_told() {
    let test = "driver::drivers_and_devices_that_cannot_be_used_are_told";
    run(test, &[&[("IG_DRIVER_VERSION", "11080")], &[("IG_CAPABILITY", "70")], &[]], || {
        match (env::var("IG_DRIVER_VERSION"), env::var("IG_CAPABILITY")) {
            (Ok(_), _) => {
                assert_eq!(Cuda::count(), 0);
                told(Cuda::new(0), &["the driver is for CUDA 11.8", "CUDA 12.0 or later"]);
            }
            (_, Ok(_)) => told(Cuda::new(0), &["cuda:0", "7.0", "7.5 or later"]),
            _ => {
                // Codes that `cust` has no name for.
                fail("cuInit", 0, 803);
                told(Cuda::new(0), &["the driver does not start", "unsupported display driver", "CUDA error 803"]);
                fail("cuDevicePrimaryCtxRetain", 0, 46);
                told(Cuda::new(0), &["cuda:0", "busy or unavailable", "CUDA error 46"]);
                for function in ["cuStreamCreateWithPriority", "cuMemHostAlloc", "cuEventCreate"] {
                    fail(function, 0, 2);
                    told(Cuda::new(0), &["cuda:0", "out of memory"]);
                }
                assert_eq!(doubled(&opened(0)).unwrap(), [2.0, 4.0, 6.0]);
            }
        }
    });
}

/// The stand-in's files, with another driver.
fn with_driver(name: &str, change: impl FnOnce(&Path) -> Vec<u8>) -> Option<PathBuf> {
    let (from, to) = (stand_in::directory()?, crate::temporary_directory(name));
    for file in ["libnvrtc.so.13", "libcublas.so.13", "libcudnn.so.9", "libnccl.so.2", "host.h"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    fs::write(to.join("libcuda.so.1"), change(from)).unwrap();
    Some(to)
}

#[test]
fn a_library_that_is_not_the_driver_is_told() {
    let other = |from: &Path| fs::read(from.join("libcudnn.so.9")).unwrap();
    let Some(directory) = with_driver("no-driver", other) else { return };
    run_in("driver::a_library_that_is_not_the_driver_is_told", &directory, &[&[]], || {
        assert_eq!(Cuda::count(), 0);
        told(Cuda::new(0), &["libcuda.so.1 has no cuInit", "not NVIDIA's driver"]);
    });
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn functions_that_the_driver_lacks_are_told() {
    const LACKING: &[u8] = b"cuStreamBeginCapture_v2\0";
    let older = |from: &Path| {
        let mut bytes = fs::read(from.join("libcuda.so.1")).unwrap();
        // In the table of names.
        let at: Vec<usize> = (0..bytes.len() - LACKING.len()).filter(|at| bytes[*at..].starts_with(LACKING)).collect();
        assert!(!at.is_empty());
        at.into_iter().for_each(|at| bytes[at] = b'x');
        bytes
    };
    let Some(directory) = with_driver("older-driver", older) else { return };
    run_in("driver::functions_that_the_driver_lacks_are_told", &directory, &[&[]], || {
        let cuda = opened(0);
        told(cuda.capture(|| Ok(())), &["cuda:0", "has no cuStreamBeginCapture_v2", "too old"]);
        assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
    });
    fs::remove_dir_all(directory).unwrap();
}
