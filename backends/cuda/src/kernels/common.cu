// What every kernel is written with. A source is: the renderer's types and functions, #defines that choose the
// variant, this file, and the kernel. Arguments are one struct whose members all take whole 8-byte words, so that the
// host builds it as an array of words. Tests compile the same text as C++, after a header that gives each word of
// CUDA a meaning there.

#ifndef IG_KERNEL
#define IG_KERNEL(name, Arguments) extern "C" __global__ void __launch_bounds__(IG_THREADS) name(const Arguments a)
#define IG_DYNAMIC_SHARED(type, name)                  \
    extern __shared__ ig_shared_word ig_dynamic_shared[]; \
    type *const name = (type *)ig_dynamic_shared
#endif
#define IG_WORD alignas(8)
#define IG_WARP 32

// The widest access of memory.
struct alignas(16) ig_shared_word {
    ig_u64 words[2];
};

// V neighbouring elements, read and written in one access where they take up to 16 bytes.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
    T v[V];
};

// What a kernel that met an index out of range leaves; the first one stays.
struct ig_fault {
    ig_u64 set;
    ig_i64 index, axis, size;
};

IG_FN void ig_report(ig_fault *fault, ig_u64 what, ig_i64 index, ig_i64 axis, ig_i64 size) {
    if (atomicCAS(&fault->set, (ig_u64)0, what) == 0) {
        fault->index = index;
        fault->axis = axis;
        fault->size = size;
    }
}

// The value that lane `lane ^ mask` of the warp holds.
template <class T>
IG_FN T ig_across(T x, int mask) {
    if constexpr (sizeof(T) < 4) {
        return (T)__shfl_xor_sync(0xffffffffu, (int)x, mask);
    } else {
        return __shfl_xor_sync(0xffffffffu, x, mask);
    }
}

// Folds what the threads of a team (a warp, or the whole block of IG_THREADS) hold; every thread gets the result. The
// order is fixed, so it is the same every time.
template <int TEAM, class T, class Fold>
IG_FN T ig_team_fold(T x, Fold fold) {
#pragma unroll
    for (int mask = IG_WARP / 2; mask > 0; mask /= 2) {
        x = fold(x, ig_across(x, mask));
    }
    if constexpr (TEAM > IG_WARP) {
        __shared__ T parts[TEAM / IG_WARP];
        if (threadIdx.x % IG_WARP == 0) {
            parts[threadIdx.x / IG_WARP] = x;
        }
        __syncthreads();
        x = parts[0];
        for (int i = 1; i < TEAM / IG_WARP; i++) {
            x = fold(x, parts[i]);
        }
        __syncthreads();
    }
    return x;
}
