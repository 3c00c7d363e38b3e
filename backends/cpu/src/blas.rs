//! One matrix product of f32 or f64 by a BLAS library, for strides and sizes that it takes. Such a context is not exact: the
//! library sums in an order of its own.

use blas_src as _;

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

/// Element types whose products the library computes.
pub(crate) trait Blas: Sized {
    /// `c = a b` for `a` of `m` by `k`, `b` of `k` by `n`; the old values of `c` do not matter. False, and nothing done, where
    /// the library cannot.
    ///
    /// # Safety
    /// Every element of the three matrices lies in memory that is valid for reading, for `c` also for writing and by no
    /// other thread, and no element of `c` shares its place with another.
    unsafe fn product(
        size: [usize; 3],
        a: Strided<*const Self>,
        b: Strided<*const Self>,
        c: Strided<*mut Self>,
    ) -> bool;
}

/// BLAS wants one of the two strides to be 1, the other to span a row, and sizes of 31 bits.
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

macro_rules! blas {
    ($type:ty, $function:ident) => {
        impl Blas for $type {
            unsafe fn product(
                [m, k, n]: [usize; 3],
                a: Strided<*const $type>,
                b: Strided<*const $type>,
                c: Strided<*mut $type>,
            ) -> bool {
                let (Some((ta, lda)), Some((tb, ldb)), Some((cblas_sys::CblasNoTrans, ldc))) =
                    (leading(&a, m, k), leading(&b, k, n), leading(&c, m, n))
                else {
                    return false;
                };
                let (row_major, [m, k, n]) = (cblas_sys::CblasRowMajor, [m, k, n].map(|size| size as i32));
                // SAFETY: the caller vouches for the three matrices, of which BLAS touches no more than the elements; `leading`
                // has seen that the sizes fit. With beta 0 the old `c` is not read.
                unsafe {
                    cblas_sys::$function(row_major, ta, tb, m, n, k, 1.0, a.at, lda, b.at, ldb, 0.0, c.at, ldc);
                }
                true
            }
        }
    };
}

blas!(f32, cblas_sgemm);
blas!(f64, cblas_dgemm);
