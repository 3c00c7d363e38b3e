//! cuBLAS, where it is present: matrix products whose strides it can take.
//!
//! It thinks in columns, so it is given the transposed product: rows of the result are its columns, and the right
//! matrix is its first.

use crate::{
    Buffer, Cuda,
    driver::Architecture,
    gemm::Sizes,
    library::{self, Library, table},
};
use isograd_core::{DType, Error, Result};
use std::{
    ffi::{c_int, c_longlong, c_void},
    ptr,
    sync::{Mutex, OnceLock, PoisonError},
};

type Handle = *mut c_void;
type Code = c_int;

table! {
    "cuBLAS 12 or 13":
    create = "cublasCreate_v2"(*mut Handle);
    destroy = "cublasDestroy_v2"(Handle);
    set_stream = "cublasSetStream_v2"(Handle, *mut c_void);
    set_workspace = "cublasSetWorkspace_v2"(Handle, *mut c_void, usize);
    set_math = "cublasSetMathMode"(Handle, c_int);
    gemm = "cublasGemmStridedBatchedEx"(
        Handle, c_int, c_int, c_int, c_int, c_int, *const c_void, *const c_void, c_int, c_int, c_longlong,
        *const c_void, c_int, c_int, c_longlong, *const c_void, *mut c_void, c_int, c_int, c_longlong, c_int, c_int,
        c_int);
}

/// A device's handle. `None` inside where there is no library, or the device is none of CUDA's.
#[derive(Debug, Default)]
pub(crate) struct Cublas(OnceLock<Option<Mutex<Owned>>>);

#[derive(Debug)]
struct Owned {
    functions: Functions,
    handle: Handle,
    _workspace: Option<Buffer>,
}

// SAFETY: a handle may be used on any thread, by one at a time; it is behind a lock.
unsafe impl Send for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's.
        unsafe { (self.functions.destroy)(self.handle) };
    }
}

/// A matrix as the library takes it: its leading dimension, and whether it is to be transposed. `fast` is the stride
/// along the axis that the library thinks contiguous.
fn matrix(fast: isize, slow: isize, fast_size: usize, slow_size: usize) -> Option<(c_int, bool)> {
    let leading = |stride: isize, least: usize| c_int::try_from(stride).ok().filter(|s| *s > 0 && *s as usize >= least);
    match (fast, slow) {
        (1, s) if slow_size > 1 => leading(s, fast_size).map(|l| (l, false)),
        (1, _) => leading(fast_size as isize, fast_size).map(|l| (l, false)),
        (s, 1) if fast_size > 1 => leading(s, slow_size).map(|l| (l, true)),
        (_, 1) => leading(slow_size as isize, slow_size).map(|l| (l, true)),
        _ => None,
    }
}

/// A strided batch of matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrices {
    pub address: u64,
    /// Strides along rows, columns and the batch.
    pub strides: [isize; 3],
}

/// A product as the library takes it. Its first matrix is our right one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// `cudaDataType_t`, `cublasComputeType_t`.
    pub kind: c_int,
    pub compute: c_int,
    /// Rows and columns of its result, which are our columns and rows; the depth; and how many there are.
    pub sizes: [c_int; 4],
    /// Of the first and the second matrix: the leading dimension, whether it is transposed, the address, and the distance
    /// from one to the next.
    pub first: Operand,
    pub second: Operand,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    pub leading: c_int,
    pub transposed: bool,
    pub address: u64,
    pub step: c_longlong,
}

impl Product {
    /// `None` where the library has no such product.
    pub fn of(cuda: &Cuda, dtype: DType, sizes: Sizes, left: Matrices, right: Matrices) -> Option<Product> {
        let (kind, compute) = match dtype {
            DType::F32 if cuda.tf32() => (0, 77),
            // CUBLAS_COMPUTE_32F_PEDANTIC: neither the environment nor the library's own choice makes it TF32 or an emulation.
            DType::F32 => (0, 69),
            DType::F64 => (1, 70),
            DType::F16 => (2, 68),
            DType::BF16 => (14, 68),
            _ => return None,
        };
        let Sizes { rows, columns, depth, batches } = sizes;
        let operand = |m: Matrices, fast: usize, slow: usize| {
            let (leading, transposed) = matrix(m.strides[1], m.strides[0], fast, slow)?;
            let step = c_longlong::try_from(m.strides[2]).ok().filter(|s| *s >= 0)?;
            Some(Operand { leading, transposed, address: m.address, step })
        };
        let [Ok(m), Ok(n), Ok(k), Ok(count)] = [columns, rows, depth, batches].map(c_int::try_from) else {
            return None;
        };
        let (first, second) = (operand(right, columns, depth)?, operand(left, depth, rows)?);
        Some(Product { kind, compute, sizes: [m, n, k, count], first, second })
    }
}

impl Cublas {
    /// The device's handle, made the first time.
    fn owned(&self, cuda: &Cuda) -> Option<&Mutex<Owned>> {
        let made = self.0.get_or_init(|| {
            let functions = Functions::found(library::CUBLAS, &*cuda.context.driver)?;
            // As much as NVIDIA recommends. Without one, a captured product may make the graph allocate.
            let bytes = if cuda.context.driver.architecture() < Architecture::new(9, 0) { 4 << 20 } else { 32 << 20 };
            let workspace = cuda.context.memory.alloc(bytes).ok();
            let address = workspace.as_ref().map(|w| w.address() as *mut c_void);
            let stream = cuda.context.driver.stream()?;
            let mut handle = ptr::null_mut();
            // SAFETY: the pointer is valid for writing; the device's context is current, since its stream was asked for.
            if unsafe { (functions.create)(&mut handle) } != 0 {
                return None;
            }
            let owned = Owned { functions, handle, _workspace: workspace };
            // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION: parts of a sum are not rounded to f16 or bf16.
            let math = 16;
            // SAFETY: handle, stream and workspace are this device's. A new stream would take the workspace away.
            let ready = unsafe {
                let f = &owned.functions;
                (f.set_stream)(handle, stream) == 0
                    && address.is_none_or(|a| (f.set_workspace)(handle, a, bytes) == 0)
                    && (f.set_math)(handle, math) == 0
            };
            ready.then(|| Mutex::new(owned))
        });
        made.as_ref()
    }
}

/// Whether cuBLAS is there for a device.
pub(crate) fn is_there(cuda: &Cuda) -> bool {
    cuda.context.driver.stream().is_some() && cuda.context.cublas.owned(cuda).is_some()
}

/// The product into `out`, by cuBLAS; false where it is not there or does not support it.
pub(crate) fn matmul(cuda: &Cuda, product: &Product, out: u64) -> Result<bool> {
    // Asking for the stream makes the device's context current.
    let owned = cuda.context.driver.stream().and_then(|_| cuda.context.cublas.owned(cuda));
    let Some(owned) = owned else { return Ok(false) };
    let owned = owned.lock().unwrap_or_else(PoisonError::into_inner);
    let Product { kind, compute, sizes: [m, n, k, count], first, second } = *product;
    let (single, double) = ([1.0f32, 0.0], [1.0f64, 0.0]);
    let scalar = |i: usize| match kind {
        1 => (&raw const double[i]).cast::<c_void>(),
        _ => (&raw const single[i]).cast::<c_void>(),
    };
    // CUBLAS_GEMM_DEFAULT.
    let algorithm = -1;
    // SAFETY: core has checked that the matrices are within their buffers; sizes and strides are theirs.
    let code = unsafe {
        (owned.functions.gemm)(
            owned.handle,
            first.transposed as c_int,
            second.transposed as c_int,
            m,
            n,
            k,
            scalar(0),
            first.address as *const c_void,
            kind,
            first.leading,
            first.step,
            second.address as *const c_void,
            kind,
            second.leading,
            second.step,
            scalar(1),
            out as *mut c_void,
            kind,
            m,
            m as c_longlong * n as c_longlong,
            count,
            compute,
            algorithm,
        )
    };
    match code {
        0 => Ok(true),
        // CUBLAS_STATUS_NOT_SUPPORTED.
        15 => Ok(false),
        code => Err(Error::backend(cuda.context.driver.name(), "cuBLAS matmul", format!("cuBLAS status {code}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_that_the_library_can_take_are_told_from_others() {
        // [3, 5] row-major: the columns' axis is contiguous.
        assert_eq!(matrix(1, 5, 5, 3), Some((5, false)));
        // Its transpose.
        assert_eq!(matrix(3, 1, 5, 3), Some((3, true)));
        // A row: the stride between rows is anything.
        assert_eq!(matrix(1, 0, 5, 1), Some((5, false)));
        // A column of a wider array.
        assert_eq!(matrix(7, 1, 1, 3), Some((3, true)));
        // Broadcast, reversed, or strided along both axes.
        assert_eq!(matrix(0, 0, 5, 3), None);
        assert_eq!(matrix(1, -5, 5, 3), None);
        assert_eq!(matrix(2, 10, 5, 3), None);
        // Rows that overlap.
        assert_eq!(matrix(1, 2, 5, 3), None);
    }

    #[test]
    fn a_library_that_is_not_cublas_is_told_from_it() {
        let other = library::Names { files: &["libm.so.6", "libSystem.dylib"], install: "a C library" };
        if let Ok(library) = Library::open("C", other) {
            assert!(Functions::of(library).unwrap_err().contains("not cuBLAS"));
        }
    }
}
