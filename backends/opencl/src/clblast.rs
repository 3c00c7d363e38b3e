//! Matrix products by CLBlast, where that library is installed: feature `clblast`. It is loaded when the first product is
//! asked for; what it does not do, this crate's own kernels do. Where it is there, contexts are not exact.

use crate::{OpenCl, launch::Launch};
use isograd_core::{DType, Layout, Operand, OperandMut, Result};
use libloading::Library;
use opencl3::{
    event::Event,
    memory::ClMem,
    types::{cl_command_queue, cl_event, cl_mem},
};
use std::{
    ffi::c_int,
    ptr,
    sync::{Arc, OnceLock},
};

/// Multiplications from which it is worth the call.
const LARGE: usize = 1 << 20;

/// `CLBlastLayoutRowMajor`, `CLBlastTransposeNo`, `CLBlastTransposeYes`, `CLBlastSuccess`.
const ROW_MAJOR: c_int = 101;
const NO: c_int = 111;
const YES: c_int = 112;
const SUCCESS: c_int = 0;

/// Buffer, offset, leading dimension, stride from matrix to matrix, in elements.
type Gemm<T> = unsafe extern "C" fn(
    layout: c_int,
    a_transpose: c_int,
    b_transpose: c_int,
    m: usize,
    n: usize,
    k: usize,
    alpha: T,
    a: cl_mem,
    a_offset: usize,
    a_ld: usize,
    a_stride: usize,
    b: cl_mem,
    b_offset: usize,
    b_ld: usize,
    b_stride: usize,
    beta: T,
    c: cl_mem,
    c_offset: usize,
    c_ld: usize,
    c_stride: usize,
    batch: usize,
    queue: *mut cl_command_queue,
    event: *mut cl_event,
) -> c_int;

struct Functions {
    single: Gemm<f32>,
    double: Gemm<f64>,
    /// The functions are part of it.
    _library: Library,
}

const NAMES: &[&str] = if cfg!(target_os = "windows") {
    &["clblast.dll"]
} else if cfg!(target_os = "macos") {
    &["libclblast.1.dylib", "libclblast.dylib"]
} else {
    &["libclblast.so.1", "libclblast.so"]
};

fn functions() -> Option<&'static Functions> {
    static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
    let load = || {
        // SAFETY: what CLBlast does when it is loaded is to register itself with nobody; the names are its C interface's.
        let library = NAMES.iter().find_map(|&name| unsafe { Library::new(name) }.ok())?;
        // SAFETY: the types are those of `clblast_c.h`, the same in every version that has these functions (1.4 and later).
        let (single, double) = unsafe {
            let single = library.get::<Gemm<f32>>(b"CLBlastSgemmStridedBatched\0").ok()?;
            let double = library.get::<Gemm<f64>>(b"CLBlastDgemmStridedBatched\0").ok()?;
            (*single, *double)
        };
        Some(Functions { single, double, _library: library })
    };
    FUNCTIONS.get_or_init(load).as_ref()
}

#[cfg(test)]
thread_local! {
    /// Products that CLBlast did for this thread.
    pub(crate) static DONE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Whether the library is there.
pub(crate) fn is_there() -> bool {
    functions().is_some()
}

/// Matrices of one layout, a fixed number of elements apart.
struct Matrices {
    transposed: c_int,
    offset: usize,
    ld: usize,
    stride: usize,
}

impl Matrices {
    /// `layout` in CLBlast's words; none where it has none for it.
    fn of(layout: &Layout) -> Option<Matrices> {
        let rank = layout.rank();
        let (shape, strides) = (layout.shape(), layout.strides());
        let (rows, columns) = (shape[rank - 2], shape[rank - 1]);
        let positive = |s: isize| usize::try_from(s).ok().filter(|&s| s > 0);
        let (transposed, ld, least) = match (strides[rank - 2], strides[rank - 1]) {
            (row, 1) => (NO, positive(row)?, columns),
            (1, column) => (YES, positive(column)?, rows),
            _ => return None,
        };
        // The axes of the batch must go on where the one inside them ends.
        let mut stride = None;
        for axis in (0..rank - 2).rev().filter(|&a| shape[a] > 1) {
            let step = positive(strides[axis])?;
            match stride {
                None => stride = Some((step, step * shape[axis])),
                Some((first, next)) if step == next => stride = Some((first, step * shape[axis])),
                Some(_) => return None,
            }
        }
        let stride = stride.map_or(0, |(step, _)| step);
        (ld >= least).then(|| Matrices { transposed, offset: layout.offset(), ld, stride })
    }
}

/// The product, if CLBlast does it; false, and nothing done that lasts, if not.
pub(crate) fn matmul(
    ctx: &OpenCl,
    a: &Operand<'_, OpenCl>,
    b: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<bool> {
    let shape = output.layout.shape();
    let (rank, batch) = (shape.len(), shape[..shape.len() - 2].iter().product::<usize>());
    let (m, n, k) = (shape[rank - 2], shape[rank - 1], a.layout.shape()[rank - 1]);
    let floats = matches!(a.dtype, DType::F32 | DType::F64) && b.dtype == a.dtype && output.dtype == a.dtype;
    if !floats || m == 1 || n == 1 || batch * m * n * k < LARGE || !output.layout.is_contiguous() {
        return Ok(false);
    }
    let Some(functions) = functions() else { return Ok(false) };
    let (Some(left), Some(right)) = (Matrices::of(a.layout), Matrices::of(b.layout)) else { return Ok(false) };
    ctx.shared.alive("matmul")?;
    let (mut queue, mut event): (cl_command_queue, cl_event) = (ctx.shared.queue.get(), ptr::null_mut());
    let buffers = [a.buffer, b.buffer, &*output.buffer];
    let [a_memory, b_memory, c_memory] = buffers.map(|buffer| buffer.block().memory.get());
    macro_rules! call {
        ($function:expr, $type:ty) => {
            // SAFETY: core has checked that the layouts lie within their buffers, and these numbers are those of the layouts;
            // the queue and the buffers are of one context and live, and the driver keeps them until the kernels are done;
            // `event` is written before the call returns.
            unsafe {
                ($function)(
                    ROW_MAJOR,
                    left.transposed,
                    right.transposed,
                    m,
                    n,
                    k,
                    1.0 as $type,
                    a_memory,
                    left.offset,
                    left.ld,
                    left.stride,
                    b_memory,
                    right.offset,
                    right.ld,
                    right.stride,
                    0.0 as $type,
                    c_memory,
                    output.layout.offset(),
                    n,
                    m * n,
                    batch,
                    &mut queue,
                    &mut event,
                )
            }
        };
    }
    let status = if a.dtype == DType::F32 { call!(functions.single, f32) } else { call!(functions.double, f64) };
    if status != SUCCESS || event.is_null() {
        return Ok(false);
    }
    #[cfg(test)]
    DONE.set(DONE.get() + 1);
    ctx.shared.started(Launch::new(Event::new(event), Arc::from("matmul")), buffers)?;
    Ok(true)
}
