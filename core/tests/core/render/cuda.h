// What CUDA C++ has and C++ lacks, enough to compile rendered source as C++ and run it one thread at a time.
#include <math.h>
#include <string.h>
#define __device__
#define __global__
struct Axis { unsigned int x; };
static long long element;
struct Element {
    operator unsigned int() const { return (unsigned int)element; }
};
static const Axis blockIdx = {0}, blockDim = {1};
static const struct { Element x; } threadIdx = {};
static inline unsigned int __umulhi(unsigned int a, unsigned int b) { return (unsigned int)((unsigned long long)a * b >> 32); }
#define BITS(name, from, to) static inline to name(from x) { to y; memcpy(&y, &x, sizeof y); return y; }
BITS(__float_as_uint, float, unsigned int)
BITS(__uint_as_float, unsigned int, float)
BITS(__double_as_longlong, double, long long)
BITS(__longlong_as_double, long long, double)
