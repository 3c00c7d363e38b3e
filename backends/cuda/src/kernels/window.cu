// Pooling, and convolutions one output at a time, over up to three spatial axes (fewer have leading axes of size 1).
// Defined before: the element's types. Arrays are contiguous: [planes, spatial..] and [batch, channels, spatial..].

struct Window {
    ig_i64 kernel[3], stride[3], padding[3], dilation[3];
    ig_i64 in[3], out[3];
};

// Calls f(tap, position) for every tap of the window at output position `at` that lies within the input.
template <class F>
IG_FN void ig_each_tap(const Window &w, ig_i64 at, F f) {
    const ig_i64 at2 = at % w.out[2] * w.stride[2] - w.padding[2];
    const ig_i64 at1 = at / w.out[2] % w.out[1] * w.stride[1] - w.padding[1];
    const ig_i64 at0 = at / w.out[2] / w.out[1] * w.stride[0] - w.padding[0];
    ig_i64 tap = 0;
    for (ig_i64 k0 = 0; k0 < w.kernel[0]; k0++) {
        const ig_i64 i0 = at0 + k0 * w.dilation[0];
        for (ig_i64 k1 = 0; k1 < w.kernel[1]; k1++) {
            const ig_i64 i1 = at1 + k1 * w.dilation[1];
            for (ig_i64 k2 = 0; k2 < w.kernel[2]; k2++, tap++) {
                const ig_i64 i2 = at2 + k2 * w.dilation[2];
                if (i0 >= 0 && i0 < w.in[0] && i1 >= 0 && i1 < w.in[1] && i2 >= 0 && i2 < w.in[2]) {
                    f(tap, (i0 * w.in[1] + i1) * w.in[2] + i2);
                }
            }
        }
    }
}

// The output position whose window has tap `k` at input position `i` along an axis, or -1.
IG_FN ig_i64 ig_window_at(const Window &w, int axis, ig_i64 i, ig_i64 k) {
    const ig_i64 from = i + w.padding[axis] - k * w.dilation[axis];
    if (from < 0 || from % w.stride[axis] != 0) {
        return -1;
    }
    const ig_i64 at = from / w.stride[axis];
    return at < w.out[axis] ? at : -1;
}

// Calls f(tap, output position) for every window that sees input position `at`, tap by tap.
template <class F>
IG_FN void ig_each_window(const Window &w, ig_i64 at, F f) {
    const ig_i64 i2 = at % w.in[2], i1 = at / w.in[2] % w.in[1], i0 = at / w.in[2] / w.in[1];
    ig_i64 tap = 0;
    for (ig_i64 k0 = 0; k0 < w.kernel[0]; k0++) {
        const ig_i64 o0 = ig_window_at(w, 0, i0, k0);
        for (ig_i64 k1 = 0; k1 < w.kernel[1]; k1++) {
            const ig_i64 o1 = ig_window_at(w, 1, i1, k1);
            for (ig_i64 k2 = 0; k2 < w.kernel[2]; k2++, tap++) {
                const ig_i64 o2 = ig_window_at(w, 2, i2, k2);
                if (o0 >= 0 && o1 >= 0 && o2 >= 0) {
                    f(tap, (o0 * w.out[1] + o1) * w.out[2] + o2);
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
    IG_WORD ig_i64 *first;
    IG_WORD Stored *out;
};

// How many elements of the window at `at` its mean divides by.
IG_FN Computed ig_counted(const Window &w, ig_i64 at) {
    const ig_i64 place[3] = {at / w.out[2] / w.out[1], at / w.out[2] % w.out[1], at % w.out[2]};
    ig_i64 count = 1;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        ig_i64 along = 0;
        for (ig_i64 k = 0; k < w.kernel[i]; k++) {
            const ig_i64 at = place[i] * w.stride[i] + k * w.dilation[i];
            along += IG_COUNT_PADDING ? at < w.in[i] + 2 * w.padding[i]
                                      : at >= w.padding[i] && at < w.in[i] + w.padding[i];
        }
        count *= along;
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
    const ig_i64 at = number % a.out_size;
    const Stored *const in = a.in + number / a.out_size * a.in_size;
    Computed folded = ig_identity();
    ig_each_tap(a.w, at, [&](ig_i64, ig_i64 i) { folded = ig_combine(folded, ig_load(in[i])); });
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
    const Stored *const in = a.in + number / a.out_size * a.in_size;
    ig_i64 first = -1;
    Computed largest = 0;
    ig_each_tap(a.w, number % a.out_size, [&](ig_i64 tap, ig_i64 i) {
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
    const ig_i64 plane = number / a.in_size * a.out_size;
    Computed sum = 0;
    ig_each_window(a.w, number % a.in_size, [&](ig_i64 tap, ig_i64 o) {
        const Computed head = ig_load(a.head[plane + o]);
        if (!IG_POOL_MAX) {
            sum = ig_sum(sum, ig_quotient(head, ig_counted(a.w, o)));
        } else if (a.first[plane + o] == tap) {
            sum = ig_sum(sum, head);
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
    const ig_i64 at = number % a.out_size, channel = number / a.out_size % channels;
    const ig_i64 image = number / a.out_size / channels;
    const ig_i64 group = channel / a.outputs;
    Computed sum = 0;
    for (ig_i64 c = 0; c < a.inputs; c++) {
        const Stored *const in = a.in + ((image * a.groups + group) * a.inputs + c) * a.in_size;
        const Stored *const weight = a.weight + (channel * a.inputs + c) * a.taps;
        ig_each_tap(a.w, at, [&](ig_i64 tap, ig_i64 i) { sum = ig_fused(ig_load(in[i]), ig_load(weight[tap]), sum); });
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
    const ig_i64 at = number % a.in_size, channel = number / a.in_size % channels;
    const ig_i64 image = number / a.in_size / channels;
    const ig_i64 group = channel / a.inputs;
    Computed sum = 0;
    for (ig_i64 c = 0; c < a.outputs; c++) {
        const ig_i64 output = group * a.outputs + c;
        const Stored *const head = a.head + (image * a.groups * a.outputs + output) * a.out_size;
        const Stored *const weight = a.weight + (output * a.inputs + channel % a.inputs) * a.taps;
        ig_each_window(a.w, at, [&](ig_i64 tap, ig_i64 o) {
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
    const ig_i64 k2 = tap % a.w.kernel[2], k1 = tap / a.w.kernel[2] % a.w.kernel[1];
    const ig_i64 k0 = tap / a.w.kernel[2] / a.w.kernel[1];
    Computed sum = 0;
    for (ig_i64 i = threadIdx.x; i < a.batch * a.out_size; i += IG_THREADS) {
        const ig_i64 image = i / a.out_size, at = i % a.out_size;
        const ig_i64 i2 = at % a.w.out[2] * a.w.stride[2] - a.w.padding[2] + k2 * a.w.dilation[2];
        const ig_i64 i1 = at / a.w.out[2] % a.w.out[1] * a.w.stride[1] - a.w.padding[1] + k1 * a.w.dilation[1];
        const ig_i64 i0 = at / a.w.out[2] / a.w.out[1] * a.w.stride[0] - a.w.padding[0] + k0 * a.w.dilation[0];
        if (i0 < 0 || i0 >= a.w.in[0] || i1 < 0 || i1 >= a.w.in[1] || i2 < 0 || i2 >= a.w.in[2]) {
            continue;
        }
        const Computed x = ig_load(a.in[((image * a.groups + group) * a.inputs + input) * a.in_size +
                                        (i0 * a.w.in[1] + i1) * a.w.in[2] + i2]);
        const Computed head = ig_load(a.head[(image * a.groups * a.outputs + output) * a.out_size + at]);
        sum = ig_fused(x, head, sum);
    }
    sum = ig_team_fold<IG_THREADS>(sum, [](Computed x, Computed y) { return ig_sum(x, y); });
    if (threadIdx.x == 0) {
        a.out[number] = ig_store(sum);
    }
}
#endif
