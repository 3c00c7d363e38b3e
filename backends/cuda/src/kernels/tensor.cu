// Matrix product on tensor cores, accumulated in f32 in an order of their own: f16 (IG_KIND 0) or bf16 (1), or f32 rounded to TF32 (2), only
// on request. A tile of 128 x 128 is computed by 8 warps, each 64 x 32, with `mma.sync` of 16 x 8 x 16 (f16, bf16) or
// 16 x 8 x 8 (TF32).
// Layout of the fragments: PTX ISA, "Matrix fragments for mma.m16n8k16" and "mma.m16n8k8".
//
// A "word" is 32 bits along the depth: two f16 or bf16, or one TF32. Tiles lie in shared memory as [row][word], each
// row four words longer than it is, so that the eight rows that a fragment's lanes read lie on different banks.

#if IG_KIND == 2
#define IG_PER_WORD 1
#else
#define IG_PER_WORD 2
#endif
#define IG_WORDS (IG_BK / IG_PER_WORD)
#define IG_PITCH (IG_WORDS + 4)
#define IG_A_EACH (IG_BM * IG_BK / IG_THREADS)
#define IG_B_EACH (IG_BN * IG_BK / IG_THREADS)

#ifndef ig_mma
__device__ inline void ig_mma(float *c, const ig_u32 *a, const ig_u32 *b) {
#if IG_KIND == 2
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif IG_KIND == 1
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    // Turing has half the depth.
#pragma unroll
    for (int half = 0; half < 2; half++) {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
    }
#endif
}
#endif

// An element as its bits in a word: f32 rounded to the nearest TF32, ties away from zero (as `cvt.rna.tf32.f32` does).
__device__ inline ig_u32 ig_bits(Stored x) {
#if IG_KIND == 2
    const ig_u32 bits = ig_to_bits_f32(x);
    return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000;
#else
    return x;
#endif
}

IG_KERNEL(tensor, Arguments) {
    __shared__ ig_u32 left[IG_BM][IG_PITCH];
    __shared__ ig_u32 right[IG_BN][IG_PITCH];
    const Tile tile(a.sizes, blockIdx.x);
    const Problem problem(a, tile.batch);
    const int thread = threadIdx.x, warp = thread / IG_WARP, lane = thread % IG_WARP;
    const int warp_row = warp / 4 * 64, warp_column = warp % 4 * 32, group = lane / 4, part = lane % 4;
    float sum[4][4][4] = {};
    Stored next_left[IG_A_EACH], next_right[IG_B_EACH];
    // Where a thread's element n is: pairs of one word are one thread's, so that words are written whole.
    const auto row_of = [&](int n, bool along, int rows) {
        const int word = thread + n / IG_PER_WORD * IG_THREADS;
        return along ? word / IG_WORDS : word % rows;
    };
    const auto word_of = [&](int n, bool along, int rows) {
        const int word = thread + n / IG_PER_WORD * IG_THREADS;
        return along ? word % IG_WORDS : word / rows;
    };
    const auto fetch = [&](Position from) {
#pragma unroll
        for (int n = 0; n < IG_A_EACH; n++) {
            const Position row = tile.row + row_of(n, IG_A_ALONG_DEPTH, IG_BM);
            const Position k = from + word_of(n, IG_A_ALONG_DEPTH, IG_BM) * IG_PER_WORD + n % IG_PER_WORD;
            next_left[n] = row < (Position)a.sizes.rows && k < tile.to ? problem.first(row, k) : (Stored)0;
        }
#pragma unroll
        for (int n = 0; n < IG_B_EACH; n++) {
            const Position column = tile.column + row_of(n, IG_B_ALONG_DEPTH, IG_BN);
            const Position k = from + word_of(n, IG_B_ALONG_DEPTH, IG_BN) * IG_PER_WORD + n % IG_PER_WORD;
            next_right[n] = column < (Position)a.sizes.columns && k < tile.to ? problem.second(k, column) : (Stored)0;
        }
    };
    const auto word = [&](const Stored *x) {
        return IG_PER_WORD == 1 ? ig_bits(x[0]) : ig_bits(x[0]) | ig_bits(x[IG_PER_WORD - 1]) << 16;
    };
    // The first round only fetches, so that the text of fetching stands in the loop alone.
#pragma unroll 1
    for (Position from = tile.from - IG_BK; from < tile.to; from += IG_BK) {
        const bool more = from + IG_BK < tile.to;
        if (more) {
            fetch(from + IG_BK);
        }
        if (from >= tile.from) {
#pragma unroll
            for (int k = 0; k < IG_WORDS; k += 8) {
                ig_u32 x[4][4], y[4][2];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int row = warp_row + i * 16 + group;
                    x[i][0] = left[row][k + part];
                    x[i][1] = left[row + 8][k + part];
                    x[i][2] = left[row][k + part + 4];
                    x[i][3] = left[row + 8][k + part + 4];
                }
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const int column = warp_column + j * 8 + group;
                    y[j][0] = right[column][k + part];
                    y[j][1] = right[column][k + part + 4];
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        ig_mma(sum[i][j], x[i], y[j]);
                    }
                }
            }
        }
        __syncthreads();
        if (more) {
#pragma unroll
            for (int n = 0; n < IG_A_EACH; n += IG_PER_WORD) {
                left[row_of(n, IG_A_ALONG_DEPTH, IG_BM)][word_of(n, IG_A_ALONG_DEPTH, IG_BM)] = word(&next_left[n]);
            }
#pragma unroll
            for (int n = 0; n < IG_B_EACH; n += IG_PER_WORD) {
                right[row_of(n, IG_B_ALONG_DEPTH, IG_BN)][word_of(n, IG_B_ALONG_DEPTH, IG_BN)] = word(&next_right[n]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int n = 0; n < 4; n++) {
                const Position row = tile.row + warp_row + i * 16 + group + n / 2 * 8;
                const Position column = tile.column + warp_column + j * 8 + part * 2 + n % 2;
                ig_put(a, problem, tile, row, column, sum[i][j][n]);
            }
        }
    }
}
