/* What OpenCL C has and C11 lacks, enough to compile rendered source as C and run it one work item at a time. */
#include <tgmath.h>
#include <stdint.h>
#include <string.h>
#define __kernel
#define __global
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
static long element;
static long get_global_id(uint axis) { return axis == 0 ? element : 0; }
static uint mul_hi(uint a, uint b) { return (uint)((ulong)a * b >> 32); }
#define BITS(name, from, to) static to name(from x) { to y; memcpy(&y, &x, sizeof y); return y; }
BITS(as_uint, float, uint)
BITS(as_float, uint, float)
BITS(as_ulong, double, ulong)
BITS(as_double, ulong, double)
