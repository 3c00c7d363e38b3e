// Kernels of whole rows of `n` contiguous elements. Defined before: the element's types; for softmax and normalize
// IG_TEAM, the threads that share a row (a warp or the block), and IG_V, the elements of one access, which divides n.
//
// A row is read from memory once and kept, widened, in shared memory where it fits (`kept`).

#if defined(IG_SOFTMAX) || defined(IG_NORMALIZE)
struct Arguments {
    ig_i64 rows, n, kept;
    IG_WORD const Stored *in;
    IG_WORD Stored *out;
    IG_WORD Computed *mean;
    IG_WORD Computed *rstd;
    IG_WORD Computed each;
    IG_WORD Computed epsilon;
};

// Waits for the threads that share a row.
IG_FN void ig_team_barrier() {
    if (IG_TEAM == IG_WARP) {
        __syncwarp();
    } else {
        __syncthreads();
    }
}

struct Row {
    const Stored *in;
    Computed *keep;
    // Of the blocks of terms of a sum.
    Computed *sums;
    ig_i64 n;
    int lane;

    // Calls `f(position, values)` for this thread's part of the row; the first time, `first`, it is read from memory.
    template <class F>
    __device__ inline void each(bool first, F f) const {
        for (ig_i64 i = (ig_i64)lane * IG_V; i < n; i += (ig_i64)IG_TEAM * IG_V) {
            Pack<Computed, IG_V> x;
            if (first || !keep) {
                const Pack<Stored, IG_V> raw = *(const Pack<Stored, IG_V> *)(in + i);
#pragma unroll
                for (int k = 0; k < IG_V; k++) {
                    x.v[k] = ig_load(raw.v[k]);
                }
                if (keep) {
                    *(Pack<Computed, IG_V> *)(keep + i) = x;
                }
            } else {
                x = *(const Pack<Computed, IG_V> *)(keep + i);
            }
            f(i, x);
        }
    }

    // The sum of f(element), in the order of reductions: sixteen threads fold a block of IG_BLOCK terms. The row was read
    // before, and has at most IG_BLOCKS blocks.
    template <class F>
    __device__ inline Computed sum(F f) const {
        ig_team_barrier();
        const ig_i64 blocks = (n + IG_BLOCK - 1) / IG_BLOCK;
        for (ig_i64 some = 0; some < blocks; some += IG_TEAM / 16) {
            const ig_i64 block = some + lane / 16, from = block * IG_BLOCK, to = from + IG_BLOCK < n ? from + IG_BLOCK : n;
            Computed x[1] = {0};
            for (ig_i64 i = from + lane % 16; i < to; i += 16) {
                x[0] = ig_combine(x[0], f(keep ? keep[i] : ig_load(in[i])));
            }
            ig_block_fold<1>(x);
            if (lane % 16 == 0 && block < blocks) {
                sums[block] = x[0];
            }
        }
        ig_team_barrier();
        Computed x[1] = {0};
        for (ig_i64 block = lane % 16; block < blocks; block += 16) {
            x[0] = ig_combine(x[0], sums[block]);
        }
        ig_block_fold<1>(x);
        return x[0];
    }
};

#define IG_ROW                                                                                       \
    IG_DYNAMIC_SHARED(Computed, shared);                                                             \
    __shared__ Computed sums[IG_THREADS / IG_TEAM][IG_BLOCKS];                                       \
    const ig_i64 number = (ig_i64)blockIdx.x * (IG_THREADS / IG_TEAM) + threadIdx.x / IG_TEAM;       \
    if (number >= a.rows) {                                                                          \
        return;                                                                                      \
    }                                                                                                \
    const ig_i64 length = (a.n + IG_V - 1) / IG_V * IG_V;                                            \
    const Row row = {a.in + number * a.n, a.kept ? shared + threadIdx.x / IG_TEAM * length : nullptr, \
                     sums[threadIdx.x / IG_TEAM], a.n, (int)(threadIdx.x % IG_TEAM)};                \
    Stored *const out = a.out + number * a.n;
#endif

#ifdef IG_SOFTMAX
IG_KERNEL(softmax, Arguments) {
    IG_ROW
    // A NaN may be passed over by the largest, but not by the sum.
    Computed largest = ig_least();
    row.each(true, [&](ig_i64, const Pack<Computed, IG_V> &x) {
#pragma unroll
        for (int k = 0; k < IG_V; k++) {
            largest = x.v[k] > largest ? x.v[k] : largest;
        }
    });
    largest = ig_team_fold<IG_TEAM>(largest, [](Computed x, Computed y) { return x > y ? x : y; });
    const Computed total = row.sum([&](Computed x) { return ig_exponential(x - largest); });
    const Computed logarithm = IG_LOGARITHM ? ig_logarithm(total) : total;
    row.each(false, [&](ig_i64 i, const Pack<Computed, IG_V> &x) {
        Pack<Stored, IG_V> y;
#pragma unroll
        for (int k = 0; k < IG_V; k++) {
            const Computed shifted = x.v[k] - largest;
            y.v[k] = ig_store(IG_LOGARITHM ? shifted - logarithm : ig_exponential(shifted) / total);
        }
        *(Pack<Stored, IG_V> *)(out + i) = y;
    });
}
#endif

#ifdef IG_NORMALIZE
IG_KERNEL(normalize, Arguments) {
    IG_ROW
    row.each(true, [](ig_i64, const Pack<Computed, IG_V> &) {});
    const Computed mean = row.sum([](Computed x) { return x; }) * a.each;
    const Computed squares = row.sum([&](Computed x) { return (x - mean) * (x - mean); });
    const Computed rstd = ig_reciprocal_root(squares * a.each + a.epsilon);
    row.each(false, [&](ig_i64 i, const Pack<Computed, IG_V> &x) {
        Pack<Stored, IG_V> y;
#pragma unroll
        for (int k = 0; k < IG_V; k++) {
            y.v[k] = ig_store((x.v[k] - mean) * rstd);
        }
        *(Pack<Stored, IG_V> *)(out + i) = y;
    });
    if (row.lane == 0) {
        a.mean[number] = mean;
        a.rstd[number] = rstd;
    }
}
#endif

#ifdef IG_SCAN
// Elements of a block that are in shared memory at once.
#define IG_AT_ONCE 16
struct Arguments {
    ig_i64 rows, n, blocks;
    IG_WORD const Stored *in;
    IG_WORD Running *out;
};

// Running results within blocks of a row: each thread one block, through shared memory, so that neighbouring threads read
// and write neighbouring elements.
IG_KERNEL(scan, Arguments) {
    __shared__ Computed some[IG_THREADS][IG_AT_ONCE + 1];
    __shared__ ig_i64 starts[IG_THREADS];
    __shared__ int lengths[IG_THREADS];
    const ig_i64 number = (ig_i64)blockIdx.x * IG_THREADS + threadIdx.x;
    const ig_i64 row = number / a.blocks, from = (number - row * a.blocks) * IG_BLOCK;
    const int length = row >= a.rows ? 0 : from + IG_BLOCK < a.n ? IG_BLOCK : (int)(a.n - from);
    starts[threadIdx.x] = row * a.n + from;
    lengths[threadIdx.x] = length;
    __syncthreads();
    Computed last = ig_identity();
    for (int first = 0; first < IG_BLOCK; first += IG_AT_ONCE) {
        for (int e = threadIdx.x; e < IG_THREADS * IG_AT_ONCE; e += IG_THREADS) {
            const int block = e / IG_AT_ONCE, k = e % IG_AT_ONCE;
            if (first + k < lengths[block]) {
                some[block][k] = ig_load(a.in[starts[block] + first + k]);
            }
        }
        __syncthreads();
        for (int k = 0; k < IG_AT_ONCE && first + k < length; k++) {
            const Computed x = some[threadIdx.x][k];
            last = first + k > 0 ? ig_combine(last, x) : x;
            some[threadIdx.x][k] = last;
        }
        __syncthreads();
        for (int e = threadIdx.x; e < IG_THREADS * IG_AT_ONCE; e += IG_THREADS) {
            const int block = e / IG_AT_ONCE, k = e % IG_AT_ONCE;
            if (first + k < lengths[block]) {
                a.out[starts[block] + first + k] = ig_running(some[block][k]);
            }
        }
        __syncthreads();
    }
}
#endif

#ifdef IG_SCAN_LAST
struct Arguments {
    ig_i64 n, blocks;
    IG_WORD const Computed *in;
    IG_WORD Computed *out;
};

// The last result of each block of a row but the last block, from the running results within blocks; one block of threads
// per row.
IG_KERNEL(scan_last, Arguments) {
    __shared__ Computed lasts[IG_THREADS];
    const ig_i64 row = blockIdx.x, end = a.blocks - 1;
    Computed last = ig_identity();
    for (ig_i64 start = 0; start < end; start += IG_THREADS) {
        const ig_i64 block = start + threadIdx.x;
        if (block < end) {
            lasts[threadIdx.x] = a.in[row * a.n + block * IG_BLOCK + IG_BLOCK - 1];
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int k = 0; k < IG_THREADS && start + k < end; k++) {
                last = start + k > 0 ? ig_combine(last, lasts[k]) : lasts[k];
                lasts[k] = last;
            }
        }
        __syncthreads();
        if (block < end) {
            a.out[row * a.blocks + block] = lasts[threadIdx.x];
        }
        __syncthreads();
    }
}
#endif

#ifdef IG_SCAN_JOIN
struct Arguments {
    ig_i64 rows, n, blocks;
    IG_WORD const Computed *in;
    IG_WORD const Computed *lasts;
    IG_WORD Stored *out;
};

// Joins the last result before a block to each of it. What is read and what is written may be the same memory.
IG_KERNEL(scan_join, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * IG_THREADS + threadIdx.x;
    if (number >= a.rows * a.n) {
        return;
    }
    const ig_i64 row = number / a.n, block = (number - row * a.n) / IG_BLOCK;
    const Computed x = a.in[number];
    a.out[number] = ig_store(block > 0 ? ig_combine(a.lasts[row * a.blocks + block - 1], x) : x);
}
#endif

#if defined(IG_SORT) || defined(IG_SORT_START) || defined(IG_SORT_STEP)
struct Arguments {
    ig_i64 rows, n, room, width, distance;
    IG_WORD const Stored *in;
    IG_WORD ig_i64 *out;
};

// Whether element i stands before element j: NaN last, equal ones in their order, what is beyond the row after all.
IG_FN bool ig_before(const Stored *in, ig_i64 n, ig_i64 i, ig_i64 j) {
    if (i >= n || j >= n) {
        return i < j;
    }
    const Computed x = ig_load(in[i]), y = ig_load(in[j]);
    const bool x_nan = x != x, y_nan = y != y;
    if (x_nan || y_nan) {
        return x_nan && y_nan ? i < j : y_nan;
    }
    if (x == y) {
        return i < j;
    }
    return IG_DESCENDING ? x > y : x < y;
}
#endif

#ifdef IG_SORT
// Batcher's bitonic sort (Sorting networks and their applications, 1968) of positions, in shared memory: one block
// per row of up to IG_SORTED elements; `room` is the next power of two.
IG_KERNEL(sort, Arguments) {
    __shared__ int place[IG_SORTED];
    const Stored *const in = a.in + (ig_i64)blockIdx.x * a.n;
    const int room = (int)a.room;
    for (int i = threadIdx.x; i < room; i += IG_THREADS) {
        place[i] = i;
    }
    for (int width = 2; width <= room; width *= 2) {
        for (int distance = width / 2; distance > 0; distance /= 2) {
            __syncthreads();
            for (int pair = threadIdx.x; pair < room / 2; pair += IG_THREADS) {
                const int low = pair / distance * distance * 2 + pair % distance, high = low + distance;
                const int x = place[low], y = place[high];
                if (ig_before(in, a.n, y, x) == ((low & width) == 0)) {
                    place[low] = y;
                    place[high] = x;
                }
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < a.n; i += IG_THREADS) {
        a.out[(ig_i64)blockIdx.x * a.n + i] = place[i];
    }
}
#endif

#ifdef IG_SORT_START
// The same in device memory, a launch per step: `out` has rows of `room` positions.
IG_KERNEL(sort_start, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number < a.rows * a.room) {
        a.out[number] = number % a.room;
    }
}
#endif

#ifdef IG_SORT_STEP
IG_KERNEL(sort_step, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x, half = a.room / 2;
    if (number >= a.rows * half) {
        return;
    }
    const ig_i64 row = number / half, pair = number % half;
    const ig_i64 low = pair / a.distance * a.distance * 2 + pair % a.distance;
    ig_i64 *const place = a.out + row * a.room + low;
    const ig_i64 x = place[0], y = place[a.distance];
    if (ig_before(a.in + row * a.n, a.n, y, x) == ((low & a.width) == 0)) {
        place[0] = y;
        place[a.distance] = x;
    }
}
#endif
