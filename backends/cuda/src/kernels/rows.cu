// Kernels of whole rows of `n` contiguous elements. Defined before: the element's types; for softmax and normalize
// IG_TEAM, the threads that share a row (a warp or the block), and IG_V, the elements of one access, which divides n.
//
// A row is read from memory once and kept, widened, in shared memory where it fits (`kept`); a thread reads only what
// it has written there, so no barrier is needed.

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

struct Row {
    const Stored *in;
    Computed *keep;
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
};

#define IG_ROW                                                                                       \
    IG_DYNAMIC_SHARED(Computed, shared);                                                             \
    const ig_i64 number = (ig_i64)blockIdx.x * (IG_THREADS / IG_TEAM) + threadIdx.x / IG_TEAM;       \
    if (number >= a.rows) {                                                                          \
        return;                                                                                      \
    }                                                                                                \
    const ig_i64 length = (a.n + IG_V - 1) / IG_V * IG_V;                                            \
    const Row row = {a.in + number * a.n, a.kept ? shared + threadIdx.x / IG_TEAM * length : nullptr, \
                     a.n, (int)(threadIdx.x % IG_TEAM)};                                             \
    Stored *const out = a.out + number * a.n;                                                        \
    const auto sum = [](Computed x, Computed y) { return x + y; };
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
    Computed total = 0;
    row.each(false, [&](ig_i64, const Pack<Computed, IG_V> &x) {
#pragma unroll
        for (int k = 0; k < IG_V; k++) {
            total += ig_exponential(x.v[k] - largest);
        }
    });
    total = ig_team_fold<IG_TEAM>(total, sum);
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
    Computed total = 0;
    row.each(true, [&](ig_i64, const Pack<Computed, IG_V> &x) {
#pragma unroll
        for (int k = 0; k < IG_V; k++) {
            total += x.v[k];
        }
    });
    const Computed mean = ig_team_fold<IG_TEAM>(total, sum) * a.each;
    Computed squares = 0;
    row.each(false, [&](ig_i64, const Pack<Computed, IG_V> &x) {
#pragma unroll
        for (int k = 0; k < IG_V; k++) {
            squares += (x.v[k] - mean) * (x.v[k] - mean);
        }
    });
    const Computed rstd = ig_reciprocal_root(ig_team_fold<IG_TEAM>(squares, sum) * a.each + a.epsilon);
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
#define IG_SCANNED 4
struct Arguments {
    ig_i64 n;
    IG_WORD const Stored *in;
    IG_WORD Stored *out;
};

// One block per row, IG_THREADS * IG_SCANNED elements at a time.
IG_KERNEL(scan, Arguments) {
    __shared__ Computed totals[IG_THREADS / IG_WARP];
    const Stored *const in = a.in + (ig_i64)blockIdx.x * a.n;
    Stored *const out = a.out + (ig_i64)blockIdx.x * a.n;
    const int lane = threadIdx.x % IG_WARP, warp = threadIdx.x / IG_WARP;
    Computed carry = ig_identity();
    for (ig_i64 start = 0; start < a.n; start += IG_THREADS * IG_SCANNED) {
        const ig_i64 first = start + (ig_i64)threadIdx.x * IG_SCANNED;
        Computed x[IG_SCANNED];
#pragma unroll
        for (int k = 0; k < IG_SCANNED; k++) {
            x[k] = first + k < a.n ? ig_load(in[first + k]) : ig_identity();
            if (k > 0) {
                x[k] = ig_combine(x[k - 1], x[k]);
            }
        }
        Computed upto = x[IG_SCANNED - 1];
#pragma unroll
        for (int distance = 1; distance < IG_WARP; distance *= 2) {
            const Computed below = ig_below(upto, distance);
            upto = lane >= distance ? ig_combine(below, upto) : upto;
        }
        if (lane == IG_WARP - 1) {
            totals[warp] = upto;
        }
        const Computed below = ig_below(upto, 1);
        __syncthreads();
        Computed before = carry;
        for (int w = 0; w < IG_THREADS / IG_WARP; w++) {
            before = w < warp ? ig_combine(before, totals[w]) : before;
            carry = ig_combine(carry, totals[w]);
        }
        before = lane > 0 ? ig_combine(before, below) : before;
#pragma unroll
        for (int k = 0; k < IG_SCANNED; k++) {
            if (first + k < a.n) {
                out[first + k] = ig_store(ig_combine(before, x[k]));
            }
        }
        __syncthreads();
    }
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
