//! cuBLASLt, a part of cuBLAS, where it is present: matrix products to whose rows a bias is added.
//!
//! Of the functions that it can end a product with, only this one is used. Its ReLU is `max(x, 0)`, of which NVIDIA does
//! not say that a NaN goes through, as ours does; its GELU is an approximation.

use crate::{
    Cuda,
    cublas::{Operand, Product},
    library::{self, Library, table},
};
use isograd_core::{Error, Result};
use std::{
    ffi::{c_int, c_longlong, c_void},
    ptr,
    sync::OnceLock,
};

type Handle = *mut c_void;
type Code = c_int;

table! {
    "cuBLASLt 12 or 13":
    create = "cublasLtCreate"(*mut Handle);
    destroy = "cublasLtDestroy"(Handle);
    create_product = "cublasLtMatmulDescCreate"(*mut Handle, c_int, c_int);
    set_product = "cublasLtMatmulDescSetAttribute"(Handle, c_int, *const c_void, usize);
    destroy_product = "cublasLtMatmulDescDestroy"(Handle);
    create_matrix = "cublasLtMatrixLayoutCreate"(*mut Handle, c_int, u64, u64, c_longlong);
    destroy_matrix = "cublasLtMatrixLayoutDestroy"(Handle);
    matmul = "cublasLtMatmul"(
        Handle, Handle, *const c_void, *const c_void, Handle, *const c_void, Handle, *const c_void, *const c_void,
        Handle, *mut c_void, Handle, *const c_void, *mut c_void, usize, *mut c_void);
}

/// A device's handle. `None` inside where there is no library, or the device is none of CUDA's.
#[derive(Debug, Default)]
pub(crate) struct CublasLt(OnceLock<Option<Owned>>);

#[derive(Debug)]
struct Owned {
    functions: Functions,
    handle: Handle,
}

// SAFETY: a handle may be used on any thread, and, unlike cuBLAS's own, by several at once.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's.
        unsafe { (self.functions.destroy)(self.handle) };
    }
}

/// What is described to the library, with the function that gives it back.
struct Described(Handle, unsafe extern "C" fn(Handle) -> Code);

impl Drop for Described {
    fn drop(&mut self) {
        // SAFETY: it was made by the library that the function is of.
        unsafe { (self.1)(self.0) };
    }
}

/// What the library's default algorithms may count on: addresses are multiples of so many bytes.
const ALIGNED: u64 = 256;

/// One product into `out`, with a vector added to each of its rows (our rows: one element per column); false where the
/// library is not there or does not support it.
pub(crate) fn matmul_bias(cuda: &Cuda, product: &Product, bias: u64, out: u64) -> Result<bool> {
    let Product { kind, compute, sizes: [m, n, k, count], first, second } = *product;
    // f64 has no such ending.
    let aligned = [first.address, second.address, bias, out].iter().all(|a| a.is_multiple_of(ALIGNED));
    if kind == 1 || count != 1 || !aligned {
        return Ok(false);
    }
    let Some(stream) = cuda.context.driver.stream() else { return Ok(false) };
    let owned = cuda.context.cublas_lt.0.get_or_init(|| {
        let functions = Functions::found(library::CUBLAS_LT, &*cuda.context.driver)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is valid for writing; the device's context is current, since its stream was asked for.
        let made = unsafe { (functions.create)(&mut handle) };
        (made == 0).then_some(Owned { functions, handle })
    });
    let Some(Owned { functions, handle }) = owned else { return Ok(false) };
    let fail =
        |code: Code| Error::backend(cuda.context.driver.name(), "cuBLASLt matmul", format!("cuBLAS status {code}"));
    let checked = |code: Code| if code == 0 { Ok(()) } else { Err(fail(code)) };
    let mut made = ptr::null_mut();
    // CUDA_R_32F, of what the sum is scaled by.
    // SAFETY: the pointer is valid for writing.
    checked(unsafe { (functions.create_product)(&mut made, compute, 0) })?;
    let described = Described(made, functions.destroy_product);
    // CUBLASLT_MATMUL_DESC_TRANSA, TRANSB and EPILOGUE, which is CUBLASLT_EPILOGUE_BIAS.
    for (attribute, value) in [(3, first.transposed as i32), (4, second.transposed as i32), (7, 4)] {
        // SAFETY: the attributes are of four bytes.
        checked(unsafe { (functions.set_product)(described.0, attribute, (&raw const value).cast(), 4) })?;
    }
    // CUBLASLT_MATMUL_DESC_BIAS_POINTER.
    // SAFETY: the attribute is an address.
    checked(unsafe { (functions.set_product)(described.0, 8, (&raw const bias).cast(), 8) })?;
    let matrix = |rows: c_int, columns: c_int, leading: c_int| {
        let mut made = ptr::null_mut();
        // SAFETY: the pointer is valid for writing.
        let code =
            unsafe { (functions.create_matrix)(&mut made, kind, rows as u64, columns as u64, leading as c_longlong) };
        checked(code).map(|()| Described(made, functions.destroy_matrix))
    };
    // As it lies in memory, before it is transposed.
    let stored = |o: Operand, rows: c_int, columns: c_int| match o.transposed {
        true => matrix(columns, rows, o.leading),
        false => matrix(rows, columns, o.leading),
    };
    let (a, b, c) = (stored(first, m, k)?, stored(second, k, n)?, matrix(m, n, m)?);
    let scalars = [1.0f32, 0.0];
    // SAFETY: core has checked that matrices and bias are within their buffers; sizes and strides are theirs. No algorithm
    // is named, and none may use more memory.
    let code = unsafe {
        (functions.matmul)(
            *handle,
            described.0,
            (&raw const scalars[0]).cast(),
            first.address as *const c_void,
            a.0,
            second.address as *const c_void,
            b.0,
            (&raw const scalars[1]).cast(),
            out as *const c_void,
            c.0,
            out as *mut c_void,
            c.0,
            ptr::null(),
            ptr::null_mut(),
            0,
            stream,
        )
    };
    match code {
        0 => Ok(true),
        // CUBLAS_STATUS_NOT_SUPPORTED.
        15 => Ok(false),
        code => Err(fail(code)),
    }
}
