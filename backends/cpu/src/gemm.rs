//! One matrix product of f32 or f64 by the library beneath: `matrixmultiply`, or BLAS with one of the features.

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

/// Whether the library runs on threads of its own, so that products are not to be cut.
pub(crate) const OWN_THREADS: bool = cfg!(feature = "blas");

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

#[cfg(not(feature = "blas"))]
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

/// BLAS wants one of the two strides to be 1, and the other to span a row.
#[cfg(feature = "blas")]
fn leading<P>(x: &Strided<P>, rows: usize, columns: usize) -> Option<(cblas::Transpose, i32)> {
    let fits = |unit: isize, unit_count: usize, far: isize, far_count: usize| {
        let far = if far_count == 1 { unit_count as isize } else { far };
        let ok = (unit == 1 || unit_count == 1) && far >= unit_count as isize;
        ok.then(|| i32::try_from(far).ok()).flatten()
    };
    fits(x.column, columns, x.row, rows)
        .map(|l| (cblas::Transpose::None, l))
        .or_else(|| fits(x.row, rows, x.column, columns).map(|l| (cblas::Transpose::Ordinary, l)))
}

#[cfg(feature = "blas")]
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
                use blas_src as _;
                // SAFETY: the caller vouches for every element of `x`.
                let copied = |x: Strided<*const $type>, rows: usize, columns: usize| -> Vec<$type> {
                    (0..rows as isize)
                        .flat_map(|r| (0..columns as isize).map(move |c| (r, c)))
                        .map(|(r, c)| unsafe { *x.at.offset(r * x.row + c * x.column) })
                        .collect()
                };
                let (mut a, mut b) = (a, b);
                let (own_a, own_b);
                if leading(&a, m, k).is_none() {
                    own_a = copied(a, m, k);
                    a = Strided::new(own_a.as_ptr(), k as isize, 1);
                }
                if leading(&b, k, n).is_none() {
                    own_b = copied(b, k, n);
                    b = Strided::new(own_b.as_ptr(), n as isize, 1);
                }
                let (ta, lda) = leading(&a, m, k).expect("rows of a copy lie one after another");
                let (tb, ldb) = leading(&b, k, n).expect("rows of a copy lie one after another");
                assert!(c.column == 1 || n == 1, "results are rows of neighbouring elements");
                let span = |x: &Strided<*const $type>, rows: usize, columns: usize| {
                    (rows as isize - 1) * x.row + (columns as isize - 1) * x.column + 1
                };
                let ldc = if m == 1 { n as i32 } else { c.row as i32 };
                let last = (m as isize - 1) * c.row + n as isize;
                // SAFETY: the caller vouches for the three matrices, and strides are positive where `leading` allows them.
                unsafe {
                    let a_all = std::slice::from_raw_parts(a.at, span(&a, m, k) as usize);
                    let b_all = std::slice::from_raw_parts(b.at, span(&b, k, n) as usize);
                    let c_all = std::slice::from_raw_parts_mut(c.at, last as usize);
                    let beta = if add { 1.0 } else { 0.0 };
                    let (m, n, k) = (m as i32, n as i32, k as i32);
                    cblas::$cblas(
                        cblas::Layout::RowMajor,
                        ta,
                        tb,
                        m,
                        n,
                        k,
                        1.0,
                        a_all,
                        lda,
                        b_all,
                        ldb,
                        beta,
                        c_all,
                        ldc,
                    );
                }
            }
        }
    };
}

gemm!(f32, sgemm, sgemm);
gemm!(f64, dgemm, dgemm);
