//! One matrix product of f32 or f64 by the library beneath: `matrixmultiply`, or with one of the features BLAS, for strides
//! and sizes that it takes.

use bytemuck::Pod;

/// A strided matrix in memory: where its first element is, and the distances between rows and between columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strided<P> {
    /// The first element.
    pub at: P,
    /// Elements from a row to the next.
    pub row: isize,
    /// Elements from a column to the next.
    pub column: isize,
}

impl<P> Strided<P> {
    /// A matrix at `at`.
    pub fn new(at: P, row: isize, column: isize) -> Strided<P> {
        Strided { at, row, column }
    }
}

/// Whether the library runs on threads of its own: then it is called from one thread, with products that are not cut, so
/// that there are not as many threads as the square of the number of cores.
pub(crate) const OWN_THREADS: bool = cfg!(any(feature = "openblas", feature = "blis", feature = "accelerate"));

/// Element types whose products the library computes.
pub(crate) trait Gemm: Pod + Send + Sync {
    /// `c = a b`, or `c += a b` with `add`, for `a` of `m` by `k`, `b` of `k` by `n`. Where `add` is false the old values
    /// of `c` do not matter. The sum of one element does not depend on `m`, `n` or its place.
    ///
    /// # Safety
    /// Every element of the three matrices lies in memory that is valid for reading, for `c` also for writing and by no
    /// other thread, and no element of `c` shares its place with another.
    unsafe fn gemm(
        size: [usize; 3],
        a: Strided<*const Self>,
        b: Strided<*const Self>,
        c: Strided<*mut Self>,
        add: bool,
    );
}

/// BLAS wants one of the two strides to be 1, the other to span a row, and sizes of 31 bits.
#[cfg(feature = "blas")]
fn leading<P>(x: &Strided<P>, rows: usize, columns: usize) -> Option<(cblas_sys::CBLAS_TRANSPOSE, i32)> {
    let fits = |unit: isize, unit_count: usize, far: isize, far_count: usize| {
        let far = if far_count == 1 { unit_count as isize } else { far };
        let ok = (unit == 1 || unit_count == 1) && far >= unit_count as isize && i32::try_from(far_count).is_ok();
        ok.then(|| i32::try_from(far).ok()).flatten()
    };
    fits(x.column, columns, x.row, rows)
        .map(|l| (cblas_sys::CblasNoTrans, l))
        .or_else(|| fits(x.row, rows, x.column, columns).map(|l| (cblas_sys::CblasTrans, l)))
}

macro_rules! gemm {
    ($type:ty, $function:ident, $cblas:ident) => {
        impl Gemm for $type {
            unsafe fn gemm(
                [m, k, n]: [usize; 3],
                a: Strided<*const $type>,
                b: Strided<*const $type>,
                c: Strided<*mut $type>,
                add: bool,
            ) {
                let beta = if add { 1.0 } else { 0.0 };
                #[cfg(feature = "blas")]
                if let (Some((ta, lda)), Some((tb, ldb)), Some((cblas_sys::CblasNoTrans, ldc))) =
                    (leading(&a, m, k), leading(&b, k, n), leading(&c, m, n))
                {
                    use blas_src as _;
                    let (row_major, [m, k, n]) = (cblas_sys::CblasRowMajor, [m, k, n].map(|size| size as i32));
                    // SAFETY: the caller vouches for the three matrices, of which BLAS touches no more than the elements;
                    // `leading` has seen that the sizes fit. With beta 0 the old `c` is not read.
                    return unsafe {
                        cblas_sys::$cblas(row_major, ta, tb, m, n, k, 1.0, a.at, lda, b.at, ldb, beta, c.at, ldc)
                    };
                }
                // SAFETY: the caller vouches for the three matrices. With beta 0 the old `c` is not read.
                unsafe {
                    matrixmultiply::$function(
                        m, k, n, 1.0, a.at, a.row, a.column, b.at, b.row, b.column, beta, c.at, c.row, c.column,
                    )
                }
            }
        }
    };
}

gemm!(f32, sgemm, cblas_sgemm);
gemm!(f64, dgemm, cblas_dgemm);
