// What CUDA C++ has and C++ lacks, so that the kernels run on the host: each thread of a block is a fiber
// (`runtime.cpp`), which runs until it meets a barrier or exchanges values with its warp.
//
// Functions of the C library are declared here: its headers take six times as long to compile as a kernel.
#define IG_ONE(name) double name(double); float name##f(float);
#define IG_TWO(name) double name(double, double); float name##f(float, float);
extern "C" {
IG_ONE(fabs) IG_ONE(sqrt) IG_ONE(cbrt) IG_ONE(exp) IG_ONE(exp2) IG_ONE(expm1) IG_ONE(log) IG_ONE(log2) IG_ONE(log10)
IG_ONE(log1p) IG_ONE(sin) IG_ONE(cos) IG_ONE(tan) IG_ONE(asin) IG_ONE(acos) IG_ONE(atan) IG_ONE(sinh) IG_ONE(cosh)
IG_ONE(tanh) IG_ONE(asinh) IG_ONE(acosh) IG_ONE(atanh) IG_ONE(erf) IG_ONE(erfc) IG_ONE(floor) IG_ONE(ceil)
IG_ONE(trunc) IG_ONE(rint)
IG_TWO(pow) IG_TWO(fmod) IG_TWO(atan2) IG_TWO(hypot) IG_TWO(copysign)
double fma(double, double, double);
float fmaf(float, float, float);
float ldexpf(float, int);
void *memcpy(void *, const void *, decltype(sizeof 0));
}
// 1 whatever the other operand is: in CUDA also a signalling NaN, in glibc not.
static inline double ig_host_pow(double x, double y) { return x == 1 || y == 0 ? 1 : pow(x, y); }
static inline float ig_host_powf(float x, float y) { return x == 1 || y == 0 ? 1 : powf(x, y); }
#define pow ig_host_pow
#define powf ig_host_powf
#ifndef NAN
#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
#endif

#define __device__
#define __shared__ static
#define IG_WARP_SIZE 32

struct ig_axis {
    unsigned int x;
};
extern "C" {
extern ig_axis ig_thread_index, ig_block_index, ig_block_size;
extern unsigned char *ig_shared_memory;
// Waits for every thread of the block.
void ig_barrier();
// Gives `bytes` bytes of this lane to its warp, and gets those of all 32 lanes.
void ig_exchange(const void *mine, int bytes, void *all);
int ig_run(void (*body)(const void *), const void *arguments, unsigned int blocks, unsigned int threads,
           unsigned int shared);
}
#define threadIdx ig_thread_index
#define blockIdx ig_block_index
#define blockDim ig_block_size

// Beside the kernel, a function that runs it, and the number of words of its argument.
#define IG_KERNEL(name, Arguments)                                                                          \
    static void ig_body_##name(const Arguments &a);                                                         \
    extern "C" unsigned int ig_words_##name() { return sizeof(Arguments) / 8; }                             \
    extern "C" int ig_start_##name(const void *arguments, unsigned int blocks, unsigned int threads,        \
                                   unsigned int shared) {                                                   \
        const auto body = [](const void *a) { ig_body_##name(*(const Arguments *)a); };                     \
        return ig_run(body, arguments, blocks, threads, shared);                                            \
    }                                                                                                       \
    static void ig_body_##name(const Arguments &a)
#define IG_DYNAMIC_SHARED(type, name) type *const name = (type *)ig_shared_memory

static inline void __syncthreads() { ig_barrier(); }
static inline void __syncwarp() {
    const char nothing = 0;
    char all[IG_WARP_SIZE];
    ig_exchange(&nothing, 1, all);
}
template <class T>
static inline T __shfl_xor_sync(unsigned int, T x, int mask) {
    T all[IG_WARP_SIZE];
    ig_exchange(&x, sizeof x, all);
    return all[ig_thread_index.x % IG_WARP_SIZE ^ mask];
}
static inline unsigned long long atomicCAS(unsigned long long *at, unsigned long long expected,
                                           unsigned long long value) {
    const unsigned long long old = *at;
    if (old == expected) *at = value;
    return old;
}
template <class T>
static inline T atomicAdd(T *at, T value) {
    const T old = *at;
    *at = old + value;
    return old;
}
static inline unsigned int __umulhi(unsigned int a, unsigned int b) {
    return (unsigned int)((unsigned long long)a * b >> 32);
}
#define IG_BITS(name, from, to)           \
    static inline to name(from x) {       \
        to y;                             \
        memcpy(&y, &x, sizeof y);         \
        return y;                         \
    }
IG_BITS(__float_as_uint, float, unsigned int)
IG_BITS(__uint_as_float, unsigned int, float)
IG_BITS(__double_as_longlong, double, long long)
IG_BITS(__longlong_as_double, long long, double)

// What `mma.sync` does, by the fragments' layout in PTX ISA: a tile of 16 x 8 numbers, each a sum over 8 words.
template <int KIND>
static inline float ig_value(unsigned int word, int half) {
    if (KIND == 2) return __uint_as_float(word);
    const unsigned int bits = half ? word >> 16 : word & 0xffff;
    if (KIND == 1) return __uint_as_float(bits << 16);
    const unsigned int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexpf(1024 + fraction, (int)exponent - 25) : ldexpf(fraction, -24));
}
template <int KIND>
static inline void ig_host_mma(float *c, const unsigned int *a, const unsigned int *b) {
    struct Fragments {
        unsigned int a[4], b[2];
    } mine, all[IG_WARP_SIZE];
    memcpy(mine.a, a, sizeof mine.a);
    memcpy(mine.b, b, sizeof mine.b);
    ig_exchange(&mine, sizeof mine, all);
    const int lane = ig_thread_index.x % IG_WARP_SIZE;
    for (int n = 0; n < 4; n++) {
        const int row = lane / 4 + n / 2 * 8, column = lane % 4 * 2 + n % 2;
        for (int word = 0; word < 8; word++) {
            const unsigned int x = all[row % 8 * 4 + word % 4].a[row / 8 + word / 4 * 2];
            const unsigned int y = all[column * 4 + word % 4].b[word / 4];
            for (int half = 0; half < (KIND == 2 ? 1 : 2); half++) {
                c[n] += ig_value<KIND>(x, half) * ig_value<KIND>(y, half);
            }
        }
    }
}
#define ig_mma(c, a, b) ig_host_mma<IG_KIND>(c, a, b)
