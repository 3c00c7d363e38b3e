//! A device in a process made by `fork`, which has no driver behind it. On its own, since `fork` copies one thread only.
#![cfg(unix)]

use isograd_core::Tensor;
use isograd_opencl::OpenCl;

#[test]
fn a_device_of_another_process_is_an_error() {
    let Ok(ctx) = OpenCl::new(0) else { return };
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2]).unwrap();
    let expected = x.exp().unwrap().to_vec::<f32>().unwrap();
    // SAFETY: the child makes strings of errors, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = |error: Option<isograd_core::Error>| error.is_some_and(|e| e.to_string().contains("fork"));
        let all = told(x.exp().err()) && told(x.to_vec::<f32>().err()) && told(x.add_scalar(1.0).err());
        // SAFETY: ends the process.
        unsafe { libc::_exit(if all { 0 } else { 1 }) }
    }
    let mut status = 0;
    // SAFETY: `child` is a process of ours, and `status` is valid for writing.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child ended with {status}");
    assert_eq!(x.exp().unwrap().to_vec::<f32>().unwrap(), expected);
}
