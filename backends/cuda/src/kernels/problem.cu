// What a matrix product reads and writes: `Problem` gives element (row, k) of the left matrix, (k, column) of the
// right one, and the place of (row, column) of the result, of one matrix of a batch. One of IG_MATMUL, IG_CONV,
// IG_CONV_INPUT_GRADIENT and IG_CONV_WEIGHT_GRADIENT is defined; the convolutions are matrix products whose matrices
// are never made. Positions within one matrix, and within the arrays of a convolution, have 32 bits unless IG_WIDE.
//
// The terms of a sum are cut into chunks of IG_CHUNK. A chunk is a chain of fused multiplications and additions from
// zero; the chunks' sums are added to zero one after another.

#ifdef IG_WIDE
typedef ig_i64 Position;
#else
typedef ig_i32 Position;
#endif

#ifndef IG_END_ARGUMENTS
#define IG_END_ARGUMENTS
#define IG_END_MEMBERS
#define IG_END_BATCH
#else
#define IG_ENDS
#endif

struct Sizes {
    ig_i64 rows, columns, depth, batches;
    // The depth is cut into parts of `part` terms. A launch computes `parts` of them, from term `first` on. Where that is
    // not all, the sum of part n goes to row 1 + n of `partial`, whose row 0 is the total so far; each row is laid out like
    // the result.
    ig_i64 first, part, parts;
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
    IG_END_ARGUMENTS
};

struct Problem {
    const Arguments &a;
    const Stored *left, *right;
    ig_i64 out;
    IG_END_MEMBERS

    __device__ inline Problem(const Arguments &a, ig_i64 batch) : a(a), left(a.left), right(a.right) {
        out = batch * a.sizes.rows * a.sizes.columns;
#pragma unroll
        for (int i = IG_RANK - 1; i >= 0; i--) {
            const ig_i64 at = batch % a.size[i];
            batch /= a.size[i];
            left += at * a.a_batch[i];
            right += at * a.b_batch[i];
            IG_END_BATCH
        }
    }
    __device__ inline Stored first(Position row, Position k) const {
        return left[row * (Position)a.a_row + k * (Position)a.a_depth];
    }
    __device__ inline Stored second(Position k, Position column) const {
        return right[k * (Position)a.b_depth + column * (Position)a.b_column];
    }
    __device__ inline ig_i64 place(Position row, Position column) const {
        return out + row * (Position)a.sizes.columns + column;
    }
};
#else
// A number that others are divided by.
#ifdef IG_WIDE
struct Divisor {
    ig_i64 by, unused;
};

IG_FN Position ig_divided(Position n, const Divisor &d) { return n / d.by; }
#else
// Granlund and Montgomery, Division by invariant integers using multiplication, 1994; exact below 2^31.
struct Divisor {
    ig_u32 by, shift;
    ig_u64 multiplier;
};

IG_FN Position ig_divided(Position n, const Divisor &d) {
    return (Position)((__umulhi((ig_u32)n, (ig_u32)d.multiplier) + (ig_u32)n) >> d.shift);
}
#endif

// A batch of groups; `inputs` and `outputs` are channels per group. Rows of the depth run over (channel, tap) or over
// (image, position).
struct Arguments {
    Sizes sizes;
    ig_i64 groups, inputs, outputs, padding[3], dilation[3];
    Divisor taps, in_size, out_size, kernel[3], stride[3], in_shape[3], out_shape[3];
    IG_WORD const Stored *left;
    IG_WORD const Stored *right;
    IG_WORD Stored *out;
    IG_WORD Computed *partial;
};

struct Problem {
    const Arguments &a;
    const Position group, groups, inputs, outputs, taps, in_size, out_size;

    __device__ inline Problem(const Arguments &a, ig_i64 batch)
        : a(a), group((Position)batch), groups((Position)a.groups), inputs((Position)a.inputs), outputs((Position)a.outputs),
          taps((Position)a.taps.by), in_size((Position)a.in_size.by), out_size((Position)a.out_size.by) {}

    // The coordinates of element `at` of an array of these sizes.
    __device__ inline void split(const Divisor *sizes, Position at, Position *to) const {
        const Position rows = ig_divided(at, sizes[2]);
        to[2] = at - rows * (Position)sizes[2].by;
        to[0] = ig_divided(rows, sizes[1]);
        to[1] = rows - to[0] * (Position)sizes[1].by;
    }
    // The input's element that tap `tap` of the window at `at` sees; zero in the padding.
    __device__ inline Stored seen(Position plane, Position at, Position tap) const {
        Position o[3], k[3], i[3];
        split(a.out_shape, at, o);
        split(a.kernel, tap, k);
#pragma unroll
        for (int n = 0; n < 3; n++) {
            i[n] = o[n] * (Position)a.stride[n].by - (Position)a.padding[n] + k[n] * (Position)a.dilation[n];
            if (i[n] < 0 || i[n] >= (Position)a.in_shape[n].by) {
                return 0;
            }
        }
        return a.right[plane + (i[0] * (Position)a.in_shape[1].by + i[1]) * (Position)a.in_shape[2].by + i[2]];
    }
#ifdef IG_CONV
    // left: weight; right: input. Rows are output channels, columns (image, position), the depth (channel, tap).
    __device__ inline Stored first(Position row, Position k) const {
        return a.left[(group * outputs + row) * inputs * taps + k];
    }
    __device__ inline Stored second(Position k, Position column) const {
        const Position image = ig_divided(column, a.out_size), channel = ig_divided(k, a.taps);
        const Position plane = ((image * groups + group) * inputs + channel) * in_size;
        return seen(plane, column - image * out_size, k - channel * taps);
    }
    __device__ inline ig_i64 place(Position row, Position column) const {
        const Position image = ig_divided(column, a.out_size);
        return ((image * groups + group) * outputs + row) * out_size + column - image * out_size;
    }
#endif
#ifdef IG_CONV_INPUT_GRADIENT
    // left: weight; right: head gradient. Rows are input channels, columns (image, input position), the depth (output
    // channel, tap), the last tap first; a tap that meets no window meets a zero.
    __device__ inline Stored first(Position row, Position k) const {
        const Position channel = ig_divided(k, a.taps), tap = taps - 1 - (k - channel * taps);
        return a.left[((group * outputs + channel) * inputs + row) * taps + tap];
    }
    __device__ inline Stored second(Position k, Position column) const {
        const Position image = ig_divided(column, a.in_size), channel = ig_divided(k, a.taps);
        Position i[3], t[3], o[3];
        split(a.in_shape, column - image * in_size, i);
        split(a.kernel, taps - 1 - (k - channel * taps), t);
#pragma unroll
        for (int n = 0; n < 3; n++) {
            const Position from = i[n] + (Position)a.padding[n] - t[n] * (Position)a.dilation[n];
            if (from < 0) {
                return 0;
            }
            o[n] = ig_divided(from, a.stride[n]);
            if (o[n] * (Position)a.stride[n].by != from || o[n] >= (Position)a.out_shape[n].by) {
                return 0;
            }
        }
        const Position plane = ((image * groups + group) * outputs + channel) * out_size;
        return a.right[plane + (o[0] * (Position)a.out_shape[1].by + o[1]) * (Position)a.out_shape[2].by + o[2]];
    }
    __device__ inline ig_i64 place(Position row, Position column) const {
        const Position image = ig_divided(column, a.in_size);
        return ((image * groups + group) * inputs + row) * in_size + column - image * in_size;
    }
#endif
#ifdef IG_CONV_WEIGHT_GRADIENT
    // left: head gradient; right: input. Rows are output channels, columns (channel, tap), the depth (image,
    // position).
    __device__ inline Stored first(Position row, Position k) const {
        const Position image = ig_divided(k, a.out_size);
        return a.left[((image * groups + group) * outputs + row) * out_size + k - image * out_size];
    }
    __device__ inline Stored second(Position k, Position column) const {
        const Position image = ig_divided(k, a.out_size), channel = ig_divided(column, a.taps);
        const Position plane = ((image * groups + group) * inputs + channel) * in_size;
        return seen(plane, k - image * out_size, column - channel * taps);
    }
    __device__ inline ig_i64 place(Position row, Position column) const {
        return (group * outputs + row) * inputs * taps + column;
    }
#endif
};
#endif

// What number `number` of the work is: the first row and column of a tile of the result (IG_BM x IG_BN), and a part of
// the depth.
struct Tile {
    ig_i64 batch, part;
    Position row, column, from, to;

    __device__ inline Tile(const Sizes &s, ig_i64 number) {
        const ig_i64 columns = (s.columns + IG_BN - 1) / IG_BN, rows = (s.rows + IG_BM - 1) / IG_BM;
        column = (Position)(number % columns * IG_BN);
        number /= columns;
        row = (Position)(number % rows * IG_BM);
        number /= rows;
        part = number % s.parts;
        batch = number / s.parts;
        const ig_i64 first = s.first + part * s.part;
        from = (Position)first;
        to = (Position)(first + s.part < s.depth ? first + s.part : s.depth);
    }
};

#ifdef IG_ENDS
// The element `at` of the result, from the product `x`.
IG_FN Stored ig_end(const Arguments &a, const Problem &p, ig_i64 row, ig_i64 column, ig_i64 at, Computed x);
#endif

// Writes the sum of a tile's part: to the result, where it is the whole sum.
__device__ inline void ig_put(const Arguments &a, const Problem &p, const Tile &t, Position row, Position column,
                              Computed x) {
    if (row >= (Position)a.sizes.rows || column >= (Position)a.sizes.columns) {
        return;
    }
    const ig_i64 at = p.place(row, column);
    if (a.partial) {
        a.partial[(1 + t.part) * a.sizes.batches * a.sizes.rows * a.sizes.columns + at] = x;
    } else {
#ifdef IG_ENDS
        a.out[at] = ig_end(a, p, row, column, at, x);
#else
        a.out[at] = ig_store(x);
#endif
    }
}
