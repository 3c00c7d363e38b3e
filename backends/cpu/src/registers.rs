//! Vector registers, as far as products need them. Loops over arrays are left to LLVM elsewhere; in the tile of a product it must
//! keep each accumulator in a register, which it does for values of these types.

/// A register of floats of type T.
///
/// # Safety
/// The functions are called only where the processor has the instructions of the type; pointers are valid for a whole register,
/// at any alignment.
pub(crate) trait Register<T>: Copy {
    /// Numbers that it holds.
    const LANES: usize;
    /// `x` in every lane.
    unsafe fn splat(x: T) -> Self;
    /// The numbers from `from` on.
    unsafe fn load(from: *const T) -> Self;
    /// Writes the numbers from `to` on.
    unsafe fn store(self, to: *mut T);
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
}

macro_rules! arrays {
    ($($float:ty, $lanes:expr;)*) => {
        $(impl Register<$float> for [$float; $lanes] {
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn splat(x: $float) -> Self {
                [x; $lanes]
            }
            #[inline(always)]
            unsafe fn load(from: *const $float) -> Self {
                // SAFETY: as the trait says.
                unsafe { from.cast::<Self>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $float) {
                // SAFETY: as the trait says.
                unsafe { to.cast::<Self>().write_unaligned(self) }
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                std::array::from_fn(|i| self[i] + b[i])
            }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                std::array::from_fn(|i| self[i].mul_add(b[i], c[i]))
            }
        })*
    };
}
arrays! {
    f32, 8;
    f64, 4;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Register;
    use std::arch::x86_64::*;

    macro_rules! registers {
        ($($register:ty, $float:ty, $lanes:expr, $splat:ident $load:ident $store:ident $add:ident $mul_add:ident;)*) => {
            $(impl Register<$float> for $register {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn splat(x: $float) -> Self {
                    // SAFETY: as the trait says.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $float) -> Self {
                    // SAFETY: as the trait says.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $float) {
                    // SAFETY: as the trait says.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    // SAFETY: as the trait says.
                    unsafe { $add(self, b) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as the trait says.
                    unsafe { $mul_add(self, b, c) }
                }
            })*
        };
    }
    registers! {
        __m256, f32, 8, _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_fmadd_ps;
        __m256d, f64, 4, _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_add_pd _mm256_fmadd_pd;
        __m512, f32, 16, _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_fmadd_ps;
        __m512d, f64, 8, _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_add_pd _mm512_fmadd_pd;
    }
}
