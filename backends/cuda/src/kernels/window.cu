// Pooling, and convolutions one output at a time, over up to three spatial axes (fewer have leading axes of size 1).
// Defined before: the element's types. Arrays are contiguous: [planes, spatial..] and [batch, channels, spatial..].
// Positions have 32 bits unless IG_WIDE.

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

// Calls f(tap, position) for every tap of the window at output position `at` that lies within the input.
template <class F>
IG_FN void ig_each_tap(const Window &w, Position at, F f) {
    Position from[3];
    ig_split(w.out, at, from);
#pragma unroll
    for (int n = 0; n < 3; n++) {
        from[n] = from[n] * (Position)w.stride[n] - (Position)w.padding[n];
    }
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

#if defined(IG_POOL) || defined(IG_POOL_FIRST) || defined(IG_POOL_GRADIENT)
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
#endif

#ifdef IG_POOL
IG_KERNEL(pool, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.planes * a.out_size) {
        return;
    }
    const Position plane = (Position)number / (Position)a.out_size, at = (Position)number - plane * (Position)a.out_size;
    const Stored *const in = a.in + plane * a.in_size;
    Computed folded = ig_identity();
    ig_each_tap(a.w, at, [&](Position, Position i) { folded = ig_combine(folded, ig_load(in[i])); });
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

#if defined(IG_CONV) || defined(IG_CONV_INPUT_GRADIENT) || defined(IG_CONV_WEIGHT_GRADIENT)
// `inputs` and `outputs` are channels per group. Arrays that a kernel does not read are null.
struct Arguments {
    ig_i64 batch, groups, inputs, outputs, taps, in_size, out_size;
    Window w;
    IG_WORD const Stored *in;
    IG_WORD const Stored *weight;
    IG_WORD const Stored *head;
    IG_WORD Stored *out;
};
#endif

#ifdef IG_CONV
IG_KERNEL(conv, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    const ig_i64 channels = a.groups * a.outputs;
    if (number >= a.batch * channels * a.out_size) {
        return;
    }
    const Position plane = (Position)number / (Position)a.out_size, at = (Position)number - plane * (Position)a.out_size;
    const Position image = plane / (Position)channels, channel = plane - image * (Position)channels;
    const Position group = channel / (Position)a.outputs;
    Computed sum = 0;
    for (ig_i64 c = 0; c < a.inputs; c++) {
        const Stored *const in = a.in + ((image * a.groups + group) * a.inputs + c) * a.in_size;
        const Stored *const weight = a.weight + (channel * a.inputs + c) * a.taps;
        ig_each_tap(a.w, at, [&](Position tap, Position i) { sum = ig_fused(ig_load(in[i]), ig_load(weight[tap]), sum); });
    }
    a.out[number] = ig_store(sum);
}
#endif

#ifdef IG_CONV_INPUT_GRADIENT
IG_KERNEL(conv_input_gradient, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    const ig_i64 channels = a.groups * a.inputs;
    if (number >= a.batch * channels * a.in_size) {
        return;
    }
    const Position plane = (Position)number / (Position)a.in_size, at = (Position)number - plane * (Position)a.in_size;
    const Position image = plane / (Position)channels, channel = plane - image * (Position)channels;
    const Position group = channel / (Position)a.inputs;
    Computed sum = 0;
    for (ig_i64 c = 0; c < a.outputs; c++) {
        const ig_i64 output = group * a.outputs + c;
        const Stored *const head = a.head + (image * a.groups * a.outputs + output) * a.out_size;
        const Stored *const weight = a.weight + (output * a.inputs + channel - group * a.inputs) * a.taps;
        ig_each_window(a.w, at, [&](Position tap, Position o) {
            sum = ig_fused(ig_load(head[o]), ig_load(weight[tap]), sum);
        });
    }
    a.out[number] = ig_store(sum);
}
#endif

#ifdef IG_CONV_WEIGHT_GRADIENT
// One block per weight: its threads share images and positions.
IG_KERNEL(conv_weight_gradient, Arguments) {
    const ig_i64 number = blockIdx.x;
    const ig_i64 tap = number % a.taps, input = number / a.taps % a.inputs, output = number / a.taps / a.inputs;
    const ig_i64 group = output / a.outputs;
    Position k[3], o[3];
    ig_split(a.w.kernel, (Position)tap, k);
    Computed sum = 0;
    for (Position n = threadIdx.x; n < (Position)(a.batch * a.out_size); n += IG_THREADS) {
        const Position image = n / (Position)a.out_size, at = n - image * (Position)a.out_size;
        ig_split(a.w.out, at, o);
        Position i[3];
#pragma unroll
        for (int d = 0; d < 3; d++) {
            i[d] = o[d] * (Position)a.w.stride[d] - (Position)a.w.padding[d] + k[d] * (Position)a.w.dilation[d];
        }
        if (!ig_inside(i[0], a.w.in[0]) || !ig_inside(i[1], a.w.in[1]) || !ig_inside(i[2], a.w.in[2])) {
            continue;
        }
        const Computed x = ig_load(a.in[((image * a.groups + group) * a.inputs + input) * a.in_size +
                                        ig_joined(a.w.in, i[0], i[1], i[2])]);
        const Computed head = ig_load(a.head[(image * a.groups * a.outputs + output) * a.out_size + at]);
        sum = ig_fused(x, head, sum);
    }
    sum = ig_team_fold<IG_THREADS>(sum, [](Computed x, Computed y) { return ig_sum(x, y); });
    if (threadIdx.x == 0) {
        a.out[number] = ig_store(sum);
    }
}
#endif
