// Matrix products in the dtype that is computed in.

#ifdef IG_GEMM
// By tiles of IG_BM x IG_BN: each of the 256 threads computes IG_TM x IG_TN numbers from tiles in shared memory, while
// the next ones are on their way to registers. Chosen before: the tile sizes, of which IG_BK divides IG_CHUNK, and along
// which side neighbouring threads read (IG_A_ALONG_DEPTH, IG_B_ALONG_DEPTH).
#define IG_A_EACH (IG_BM * IG_BK / IG_THREADS)
#define IG_B_EACH (IG_BN * IG_BK / IG_THREADS)

IG_KERNEL(gemm, Arguments) {
    // One more column than the tile has keeps writes along the depth off one bank.
    __shared__ Computed left[IG_BK][IG_BM + 1];
    __shared__ Computed right[IG_BK][IG_BN + 1];
    const Tile tile(a.sizes, blockIdx.x);
    const Problem problem(a, tile.batch);
    const int thread = threadIdx.x, across = thread % (IG_BN / IG_TN), down = thread / (IG_BN / IG_TN);
    Computed total[IG_TM][IG_TN], sum[IG_TM][IG_TN];
#pragma unroll
    for (int i = 0; i < IG_TM; i++) {
#pragma unroll
        for (int j = 0; j < IG_TN; j++) {
            total[i][j] = sum[i][j] = 0;
        }
    }
    Stored next_left[IG_A_EACH], next_right[IG_B_EACH];
    const auto fetch = [&](Position from) {
#pragma unroll
        for (int n = 0; n < IG_A_EACH; n++) {
            const int e = thread + n * IG_THREADS;
            const Position row = tile.row + (IG_A_ALONG_DEPTH ? e / IG_BK : e % IG_BM);
            const Position k = from + (IG_A_ALONG_DEPTH ? e % IG_BK : e / IG_BM);
            next_left[n] = row < (Position)a.sizes.rows && k < tile.to ? problem.first(row, k) : (Stored)0;
        }
#pragma unroll
        for (int n = 0; n < IG_B_EACH; n++) {
            const int e = thread + n * IG_THREADS;
            const Position column = tile.column + (IG_B_ALONG_DEPTH ? e / IG_BK : e % IG_BN);
            const Position k = from + (IG_B_ALONG_DEPTH ? e % IG_BK : e / IG_BN);
            next_right[n] = column < (Position)a.sizes.columns && k < tile.to ? problem.second(k, column) : (Stored)0;
        }
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
            for (int k = 0; k < IG_BK; k++) {
                Computed x[IG_TM], y[IG_TN];
#pragma unroll
                for (int i = 0; i < IG_TM; i++) {
                    x[i] = left[k][down + i * (IG_BM / IG_TM)];
                }
#pragma unroll
                for (int j = 0; j < IG_TN; j++) {
                    y[j] = right[k][across + j * (IG_BN / IG_TN)];
                }
#pragma unroll
                for (int i = 0; i < IG_TM; i++) {
#pragma unroll
                    for (int j = 0; j < IG_TN; j++) {
                        sum[i][j] = ig_fused(x[i], y[j], sum[i][j]);
                    }
                }
            }
            if (!more || (from + IG_BK) % IG_CHUNK == 0) {
#pragma unroll
                for (int i = 0; i < IG_TM; i++) {
#pragma unroll
                    for (int j = 0; j < IG_TN; j++) {
                        total[i][j] = ig_sum(total[i][j], sum[i][j]);
                        sum[i][j] = 0;
                    }
                }
            }
        }
        __syncthreads();
        if (more) {
#pragma unroll
            for (int n = 0; n < IG_A_EACH; n++) {
                const int e = thread + n * IG_THREADS;
                const int k = IG_A_ALONG_DEPTH ? e % IG_BK : e / IG_BM, row = IG_A_ALONG_DEPTH ? e / IG_BK : e % IG_BM;
                left[k][row] = ig_load(next_left[n]);
            }
#pragma unroll
            for (int n = 0; n < IG_B_EACH; n++) {
                const int e = thread + n * IG_THREADS;
                const int k = IG_B_ALONG_DEPTH ? e % IG_BK : e / IG_BN;
                right[k][IG_B_ALONG_DEPTH ? e / IG_BK : e % IG_BN] = ig_load(next_right[n]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < IG_TM; i++) {
#pragma unroll
        for (int j = 0; j < IG_TN; j++) {
            const Position row = tile.row + down + i * (IG_BM / IG_TM);
            ig_put(a, problem, tile, row, tile.column + across + j * (IG_BN / IG_TN), total[i][j]);
        }
    }
}
#endif

#ifdef IG_SINGLE
// Each thread a number; IG_BM and IG_BN are 1.
IG_KERNEL(single, Arguments) {
    const Tile tile(a.sizes, (ig_i64)blockIdx.x * IG_THREADS + threadIdx.x);
    if (tile.batch >= a.sizes.batches) {
        return;
    }
    const Problem problem(a, tile.batch);
    Computed total = 0;
    for (Position from = tile.from; from < tile.to; from += IG_CHUNK) {
        const Position to = tile.to - from < IG_CHUNK ? tile.to : from + IG_CHUNK;
        Computed sum = 0;
        for (Position k = from; k < to; k++) {
            sum = ig_fused(ig_load(problem.first(tile.row, k)), ig_load(problem.second(k, tile.column)), sum);
        }
        total = ig_sum(total, sum);
    }
    ig_put(a, problem, tile, tile.row, tile.column, total);
}
#endif

#ifdef IG_TOTAL
// Adds the sums of parts, in order, to the total of those before; each thread one result.
IG_KERNEL(total, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * IG_THREADS + threadIdx.x;
    const ig_i64 matrix = a.sizes.rows * a.sizes.columns, results = a.sizes.batches * matrix;
    if (number >= results) {
        return;
    }
    Computed total = a.sizes.first > 0 ? a.partial[number] : (Computed)0;
#pragma unroll 8
    for (ig_i64 part = 1; part <= a.sizes.parts; part++) {
        total = ig_sum(total, a.partial[part * results + number]);
    }
    if (a.sizes.first + a.sizes.parts * a.sizes.part < a.sizes.depth) {
        a.partial[number] = total;
        return;
    }
#ifdef IG_ENDS
    // Products alone have an end, and their results lie in order.
    const ig_i64 within = number % matrix;
    const Problem problem(a, number / matrix);
    a.out[number] = ig_end(a, problem, within / a.sizes.columns, within % a.sizes.columns, number, total);
#else
    a.out[number] = ig_store(total);
#endif
}
#endif
