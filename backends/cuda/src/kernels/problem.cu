// What a matrix product reads and writes: `Problem` gives element (row, k) of the left matrix, (k, column) of the
// right one, and the place of (row, column) of the result, of one matrix of a batch. One of IG_MATMUL, IG_CONV,
// IG_CONV_INPUT_GRADIENT and IG_CONV_WEIGHT_GRADIENT is defined; the convolutions are matrix products whose matrices
// are never made.

struct Sizes {
    ig_i64 rows, columns, depth, batches;
    // The depth is cut into `splits` parts of `part` (a multiple of IG_BK); with several, results go to `partial`.
    ig_i64 splits, part;
};

#ifdef IG_MATMUL
struct Arguments {
    Sizes sizes;
    ig_i64 a_row, a_depth, b_depth, b_column;
    ig_i64 size[IG_RANK], a_batch[IG_RANK], b_batch[IG_RANK];
    IG_WORD const Stored *left;
    IG_WORD const Stored *right;
    IG_WORD Stored *out;
    IG_WORD Computed *partial;
};

struct Problem {
    const Arguments &a;
    const Stored *left, *right;
    ig_i64 out;

    __device__ inline Problem(const Arguments &a, ig_i64 batch) : a(a), left(a.left), right(a.right) {
        out = batch * a.sizes.rows * a.sizes.columns;
#pragma unroll
        for (int i = IG_RANK - 1; i >= 0; i--) {
            const ig_i64 at = batch % a.size[i];
            batch /= a.size[i];
            left += at * a.a_batch[i];
            right += at * a.b_batch[i];
        }
    }
    __device__ inline Stored first(ig_i64 row, ig_i64 k) const { return left[row * a.a_row + k * a.a_depth]; }
    __device__ inline Stored second(ig_i64 k, ig_i64 column) const {
        return right[k * a.b_depth + column * a.b_column];
    }
    __device__ inline ig_i64 place(ig_i64 row, ig_i64 column) const { return out + row * a.sizes.columns + column; }
};
#else
// A batch of groups; `inputs` and `outputs` are channels per group. Rows of the depth run over (channel, tap) or over
// (image, position).
struct Arguments {
    Sizes sizes;
    ig_i64 groups, inputs, outputs, taps, in_size, out_size;
    ig_i64 kernel[3], stride[3], padding[3], dilation[3], in_shape[3], out_shape[3];
    IG_WORD const Stored *left;
    IG_WORD const Stored *right;
    IG_WORD Stored *out;
    IG_WORD Computed *partial;
};

struct Problem {
    const Arguments &a;
    const ig_i64 group;

    __device__ inline Problem(const Arguments &a, ig_i64 batch) : a(a), group(batch) {}

    __device__ inline void split(const ig_i64 *sizes, ig_i64 at, ig_i64 *to) const {
        to[2] = at % sizes[2];
        to[1] = at / sizes[2] % sizes[1];
        to[0] = at / sizes[2] / sizes[1];
    }
    // The input's element that tap `tap` of the window at `at` sees; zero in the padding.
    __device__ inline Stored seen(const Stored *plane, ig_i64 at, ig_i64 tap) const {
        ig_i64 o[3], k[3], i[3];
        split(a.out_shape, at, o);
        split(a.kernel, tap, k);
#pragma unroll
        for (int n = 0; n < 3; n++) {
            i[n] = o[n] * a.stride[n] - a.padding[n] + k[n] * a.dilation[n];
            if (i[n] < 0 || i[n] >= a.in_shape[n]) {
                return 0;
            }
        }
        return plane[(i[0] * a.in_shape[1] + i[1]) * a.in_shape[2] + i[2]];
    }
#ifdef IG_CONV
    // left: weight; right: input. Rows are output channels, columns (image, position), the depth (channel, tap).
    __device__ inline Stored first(ig_i64 row, ig_i64 k) const {
        return a.left[(group * a.outputs + row) * a.inputs * a.taps + k];
    }
    __device__ inline Stored second(ig_i64 k, ig_i64 column) const {
        const ig_i64 image = column / a.out_size, channel = k / a.taps;
        const Stored *const plane = a.right + ((image * a.groups + group) * a.inputs + channel) * a.in_size;
        return seen(plane, column % a.out_size, k % a.taps);
    }
    __device__ inline ig_i64 place(ig_i64 row, ig_i64 column) const {
        const ig_i64 image = column / a.out_size;
        return ((image * a.groups + group) * a.outputs + row) * a.out_size + column % a.out_size;
    }
#endif
#ifdef IG_CONV_INPUT_GRADIENT
    // left: weight; right: head gradient. Rows are input channels, columns (image, input position), the depth (output
    // channel, tap).
    __device__ inline Stored first(ig_i64 row, ig_i64 k) const {
        return a.left[((group * a.outputs + k / a.taps) * a.inputs + row) * a.taps + k % a.taps];
    }
    __device__ inline Stored second(ig_i64 k, ig_i64 column) const {
        const ig_i64 image = column / a.in_size;
        ig_i64 i[3], t[3], o[3];
        split(a.in_shape, column % a.in_size, i);
        split(a.kernel, k % a.taps, t);
#pragma unroll
        for (int n = 0; n < 3; n++) {
            const ig_i64 from = i[n] + a.padding[n] - t[n] * a.dilation[n];
            o[n] = from / a.stride[n];
            if (from < 0 || from % a.stride[n] != 0 || o[n] >= a.out_shape[n]) {
                return 0;
            }
        }
        const ig_i64 channel = (image * a.groups + group) * a.outputs + k / a.taps;
        return a.right[channel * a.out_size + (o[0] * a.out_shape[1] + o[1]) * a.out_shape[2] + o[2]];
    }
    __device__ inline ig_i64 place(ig_i64 row, ig_i64 column) const {
        const ig_i64 image = column / a.in_size;
        return ((image * a.groups + group) * a.inputs + row) * a.in_size + column % a.in_size;
    }
#endif
#ifdef IG_CONV_WEIGHT_GRADIENT
    // left: head gradient; right: input. Rows are output channels, columns (channel, tap), the depth (image,
    // position).
    __device__ inline Stored first(ig_i64 row, ig_i64 k) const {
        const ig_i64 image = k / a.out_size;
        return a.left[((image * a.groups + group) * a.outputs + row) * a.out_size + k % a.out_size];
    }
    __device__ inline Stored second(ig_i64 k, ig_i64 column) const {
        const ig_i64 image = k / a.out_size, channel = column / a.taps;
        const Stored *const plane = a.right + ((image * a.groups + group) * a.inputs + channel) * a.in_size;
        return seen(plane, k % a.out_size, column % a.taps);
    }
    __device__ inline ig_i64 place(ig_i64 row, ig_i64 column) const {
        return (group * a.outputs + row) * a.inputs * a.taps + column;
    }
#endif
};
#endif

// The tile of the result that this block computes, and the part of the depth.
struct Tile {
    ig_i64 batch, split, row, column, from, to;

    __device__ inline Tile(const Sizes &s) {
        const ig_i64 columns = (s.columns + IG_BN - 1) / IG_BN, rows = (s.rows + IG_BM - 1) / IG_BM;
        ig_i64 number = blockIdx.x;
        column = number % columns * IG_BN;
        number /= columns;
        row = number % rows * IG_BM;
        number /= rows;
        split = number % s.splits;
        batch = number / s.splits;
        from = split * s.part;
        to = from + s.part < s.depth ? from + s.part : s.depth;
    }
};

// Parts of a result are added up, in order, by another kernel: [splits, everything else], laid out like the result.
__device__ inline void ig_put(const Arguments &a, const Problem &p, const Tile &t, ig_i64 row, ig_i64 column,
                              Computed x) {
    if (row >= a.sizes.rows || column >= a.sizes.columns) {
        return;
    }
    const ig_i64 at = p.place(row, column);
    if (a.sizes.splits > 1) {
        a.partial[t.split * a.sizes.batches * a.sizes.rows * a.sizes.columns + at] = x;
    } else {
        a.out[at] = ig_store(x);
    }
}
