// Pooling over up to three spatial axes (fewer have leading axes of size 1). Defined before: the element's types. Arrays
// are contiguous: [planes, spatial..]. Positions have 32 bits unless IG_WIDE.

#ifdef IG_WIDE
typedef ig_i64 Position;
#else
typedef ig_i32 Position;
#endif

struct Window {
    ig_i64 kernel[3], stride[3], padding[3], dilation[3];
    ig_i64 in[3], out[3];
};

// The coordinates of element `at` of an array of these sizes.
IG_FN void ig_split(const ig_i64 *sizes, Position at, Position *to) {
    const Position rows = at / (Position)sizes[2];
    to[2] = at - rows * (Position)sizes[2];
    to[0] = rows / (Position)sizes[1];
    to[1] = rows - to[0] * (Position)sizes[1];
}

IG_FN Position ig_joined(const ig_i64 *sizes, Position at0, Position at1, Position at2) {
    return (at0 * (Position)sizes[1] + at1) * (Position)sizes[2] + at2;
}

IG_FN bool ig_inside(Position at, ig_i64 size) {
    return at >= 0 && at < (Position)size;
}

// Where the window at output position `at` starts.
IG_FN void ig_start(const Window &w, Position at, Position *from) {
    ig_split(w.out, at, from);
#pragma unroll
    for (int n = 0; n < 3; n++) {
        from[n] = from[n] * (Position)w.stride[n] - (Position)w.padding[n];
    }
}

// Calls f(tap, position) for every tap of the window at output position `at` that lies within the input.
template <class F>
IG_FN void ig_each_tap(const Window &w, Position at, F f) {
    Position from[3];
    ig_start(w, at, from);
    Position tap = 0;
    for (Position k0 = 0, i0 = from[0]; k0 < (Position)w.kernel[0]; k0++, i0 += (Position)w.dilation[0]) {
        for (Position k1 = 0, i1 = from[1]; k1 < (Position)w.kernel[1]; k1++, i1 += (Position)w.dilation[1]) {
            Position i2 = from[2];
            for (Position k2 = 0; k2 < (Position)w.kernel[2]; k2++, i2 += (Position)w.dilation[2], tap++) {
                if (ig_inside(i0, w.in[0]) && ig_inside(i1, w.in[1]) && ig_inside(i2, w.in[2])) {
                    f(tap, ig_joined(w.in, i0, i1, i2));
                }
            }
        }
    }
}

// Whether a tap lies `distance` from a window's start, which is not beyond its last one; and which.
IG_FN bool ig_tap_at(Position distance, ig_i64 dilation, Position *tap) {
    if (dilation == 1) {
        *tap = distance;
        return true;
    }
    *tap = distance / (Position)dilation;
    return *tap * (Position)dilation == distance;
}

// Calls f(tap, output position) for every window that sees input position `at`, window by window.
template <class F>
IG_FN void ig_each_window(const Window &w, Position at, F f) {
    // Positions from where the padding begins; the first and the last window that reach there.
    Position i[3], first[3], last[3], k[3];
    ig_split(w.in, at, i);
#pragma unroll
    for (int n = 0; n < 3; n++) {
        const Position stride = (Position)w.stride[n], reach = ((Position)w.kernel[n] - 1) * (Position)w.dilation[n];
        i[n] += (Position)w.padding[n];
        first[n] = i[n] > reach ? (i[n] - reach + stride - 1) / stride : 0;
        last[n] = i[n] / stride < (Position)w.out[n] ? i[n] / stride : (Position)w.out[n] - 1;
    }
    for (Position o0 = first[0]; o0 <= last[0]; o0++) {
        if (!ig_tap_at(i[0] - o0 * (Position)w.stride[0], w.dilation[0], &k[0])) {
            continue;
        }
        for (Position o1 = first[1]; o1 <= last[1]; o1++) {
            if (!ig_tap_at(i[1] - o1 * (Position)w.stride[1], w.dilation[1], &k[1])) {
                continue;
            }
            for (Position o2 = first[2]; o2 <= last[2]; o2++) {
                if (ig_tap_at(i[2] - o2 * (Position)w.stride[2], w.dilation[2], &k[2])) {
                    f(ig_joined(w.kernel, k[0], k[1], k[2]), ig_joined(w.out, o0, o1, o2));
                }
            }
        }
    }
}

struct Arguments {
    ig_i64 planes, in_size, out_size;
    Window w;
    IG_WORD const Stored *in;
    IG_WORD const Stored *head;
    IG_WORD Position *first;
    IG_WORD Stored *out;
};

// How many taps of a window lie before `limit`, counted from its start.
IG_FN Position ig_taps_before(Position limit, ig_i64 kernel, ig_i64 dilation) {
    const Position taps = dilation == 1 ? limit : (limit + (Position)dilation - 1) / (Position)dilation;
    return limit <= 0 ? 0 : taps < (Position)kernel ? taps : (Position)kernel;
}

// How many elements of the window at `at` its mean divides by.
IG_FN Computed ig_counted(const Window &w, Position at) {
    Position place[3];
    ig_split(w.out, at, place);
    ig_i64 count = 1;
#pragma unroll
    for (int n = 0; n < 3; n++) {
        const Position start = place[n] * (Position)w.stride[n];
        const Position low = IG_COUNT_PADDING ? 0 : (Position)w.padding[n];
        const Position high = (Position)w.in[n] + (Position)w.padding[n] * (IG_COUNT_PADDING ? 2 : 1);
        count *= ig_taps_before(high - start, w.kernel[n], w.dilation[n]) -
                 ig_taps_before(low - start, w.kernel[n], w.dilation[n]);
    }
    return (Computed)count;
}

#ifdef IG_POOL
// The elements at one place along the last axis are folded, then the results along it. What lies in the padding would
// change nothing.
IG_KERNEL(pool, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.planes * a.out_size) {
        return;
    }
    const Position plane = (Position)number / (Position)a.out_size, at = (Position)number - plane * (Position)a.out_size;
    const Stored *const in = a.in + plane * a.in_size;
    const Window &w = a.w;
    Position from[3];
    ig_start(w, at, from);
    Computed folded = ig_identity();
    for (Position k2 = 0, i2 = from[2]; k2 < (Position)w.kernel[2]; k2++, i2 += (Position)w.dilation[2]) {
        Computed column = ig_identity();
        for (Position k0 = 0, i0 = from[0]; k0 < (Position)w.kernel[0]; k0++, i0 += (Position)w.dilation[0]) {
            for (Position k1 = 0, i1 = from[1]; k1 < (Position)w.kernel[1]; k1++, i1 += (Position)w.dilation[1]) {
                if (ig_inside(i0, w.in[0]) && ig_inside(i1, w.in[1]) && ig_inside(i2, w.in[2])) {
                    column = ig_combine(column, ig_load(in[ig_joined(w.in, i0, i1, i2)]));
                }
            }
        }
        folded = ig_combine(folded, column);
    }
    a.out[number] = ig_store(IG_POOL_MAX ? folded : ig_quotient(folded, ig_counted(a.w, at)));
}
#endif

#ifdef IG_POOL_FIRST
// The first tap of each window that holds its largest element; -1 for a window of padding.
IG_KERNEL(pool_first, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.planes * a.out_size) {
        return;
    }
    const Position plane = (Position)number / (Position)a.out_size, at = (Position)number - plane * (Position)a.out_size;
    const Stored *const in = a.in + plane * a.in_size;
    Position first = -1;
    Computed largest = 0;
    ig_each_tap(a.w, at, [&](Position tap, Position i) {
        const Computed x = ig_load(in[i]);
        if (first < 0 || x > largest || (x != x && largest == largest)) {
            first = tap;
            largest = x;
        }
    });
    a.first[number] = first;
}
#endif

#ifdef IG_POOL_GRADIENT
IG_KERNEL(pool_gradient, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.planes * a.in_size) {
        return;
    }
    const Position plane = (Position)number / (Position)a.in_size, at = (Position)number - plane * (Position)a.in_size;
    const ig_i64 outputs = plane * a.out_size;
    Computed sum = 0;
    ig_each_window(a.w, at, [&](Position tap, Position o) {
        if (!IG_POOL_MAX) {
            sum = ig_sum(sum, ig_quotient(ig_load(a.head[outputs + o]), ig_counted(a.w, o)));
        } else if (a.first[outputs + o] == tap) {
            sum = ig_sum(sum, ig_load(a.head[outputs + o]));
        }
    });
    a.out[number] = ig_store(sum);
}
#endif
