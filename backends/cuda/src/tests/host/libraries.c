// What the backend calls of cuBLAS, cuDNN and NCCL, on the memory of the host: whether arguments mean what the backend
// means by them is what tests see here. f32 and f64 only; the rest is "not supported", as it may be of the real ones.
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int calls, fast_calls;
int ig_calls(void) { return calls; }
int ig_fast_calls(void) { return fast_calls; }

static double get(const void *p, int kind, long i) { return kind ? ((const double *)p)[i] : ((const float *)p)[i]; }
static void put(void *p, int kind, long i, double x) {
    if (kind) ((double *)p)[i] = x;
    else ((float *)p)[i] = (float)x;
}

// cuBLAS: kinds are 0 for f32 and 1 for f64; compute types 69 (f32, and nothing else), 77 (TF32), 70 (f64).
struct blas {
    void *stream, *workspace;
    int math;
};
int cublasCreate_v2(struct blas **handle) { return *handle = calloc(1, sizeof(struct blas)), 0; }
int cublasDestroy_v2(struct blas *handle) { return free(handle), 0; }
int cublasSetStream_v2(struct blas *handle, void *stream) {
    return handle->stream = stream, handle->workspace = NULL, 0;
}
int cublasSetWorkspace_v2(struct blas *handle, void *at, size_t bytes) {
    return handle->workspace = at, bytes >= 4 << 20 ? 0 : 7;
}
int cublasSetMathMode(struct blas *handle, int math) { return handle->math = math, 0; }
int cublasGemmStridedBatchedEx(struct blas *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
                               int a_kind, int lda, long long a_step, const void *b, int b_kind, int ldb,
                               long long b_step, const void *beta, void *c, int c_kind, int ldc, long long c_step,
                               int count, int compute, int algorithm) {
    if (!handle->stream || !handle->workspace || handle->math != 16) return 7;
    if (a_kind > 1) return 15;
    if (a_kind != b_kind || a_kind != c_kind || compute != (a_kind ? 70 : 69) || algorithm != -1) return 7;
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;
    calls++;
    for (long batch = 0; batch < count; batch++)
        for (long j = 0; j < n; j++)
            for (long i = 0; i < m; i++) {
                double sum = 0;
                for (long l = 0; l < k; l++)
                    sum += get(a, a_kind, batch * a_step + (ta ? l + i * lda : i + l * lda)) *
                           get(b, a_kind, batch * b_step + (tb ? j + l * ldb : l + j * ldb));
                const long at = batch * c_step + i + j * ldc;
                const double scale = get(beta, a_kind, 0), old = scale ? scale * get(c, a_kind, at) : 0;
                put(c, a_kind, at, get(alpha, a_kind, 0) * sum + old);
            }
    return 0;
}

// cuBLASLt: one product with a bias at the end, no algorithm named and no memory of its own.
struct product {
    int compute, scale, transposed[2], ending;
    const void *bias;
};
struct matrix {
    int kind;
    unsigned long long rows, columns;
    long long leading;
};
int cublasLtCreate(void **handle) { return *handle = malloc(1), 0; }
int cublasLtDestroy(void *handle) { return free(handle), 0; }
int cublasLtMatmulDescCreate(struct product **to, int compute, int scale) {
    *to = calloc(1, sizeof(struct product));
    (*to)->compute = compute, (*to)->scale = scale, (*to)->ending = 1;
    return 0;
}
int cublasLtMatmulDescDestroy(void *of) { return free(of), 0; }
int cublasLtMatmulDescSetAttribute(struct product *of, int attribute, const void *value, size_t bytes) {
    if (bytes != (attribute == 8 ? 8 : 4)) return 7;
    if (attribute == 3 || attribute == 4) of->transposed[attribute - 3] = *(const int *)value;
    else if (attribute == 7) of->ending = *(const int *)value;
    else if (attribute == 8) of->bias = *(const void *const *)value;
    else return 7;
    return 0;
}
int cublasLtMatrixLayoutCreate(struct matrix **to, int kind, unsigned long long rows, unsigned long long columns,
                               long long leading) {
    if (leading < (long long)rows) return 7;
    *to = calloc(1, sizeof(struct matrix));
    (*to)->kind = kind, (*to)->rows = rows, (*to)->columns = columns, (*to)->leading = leading;
    return 0;
}
int cublasLtMatrixLayoutDestroy(void *of) { return free(of), 0; }
int cublasLtMatmul(void *handle, const struct product *p, const float *alpha, const void *a, const struct matrix *la,
                   const void *b, const struct matrix *lb, const float *beta, const void *c, const struct matrix *lc,
                   void *d, const struct matrix *ld, const void *algorithm, void *space, size_t bytes, void *stream) {
    if (la->kind > 0) return 15;
    const int ta = p->transposed[0], tb = p->transposed[1];
    const long m = ld->rows, n = ld->columns, k = ta ? la->rows : la->columns;
    if (!handle || !stream || algorithm || space || bytes || *alpha != 1 || *beta != 0) return 7;
    if (p->compute != 69 || p->scale != 0 || p->ending != 4 || !p->bias || lc->rows != ld->rows) return 7;
    if (m != (long)(ta ? la->columns : la->rows) || n != (long)(tb ? lb->rows : lb->columns)) return 7;
    if (k != (long)(tb ? lb->columns : lb->rows)) return 7;
    if (((size_t)a | (size_t)b | (size_t)d | (size_t)p->bias) % 256) return 7;
    calls++;
    for (long j = 0; j < n; j++)
        for (long i = 0; i < m; i++) {
            double sum = get(p->bias, 0, i);
            for (long l = 0; l < k; l++)
                sum += get(a, 0, ta ? l + i * la->leading : i + l * la->leading) *
                       get(b, 0, tb ? j + l * lb->leading : l + j * lb->leading);
            put(d, 0, i + j * ld->leading, sum);
        }
    return 0;
}

// cuDNN. Bad parameters are 3, what is not supported is 9.
struct shape {
    int kind, count, size[5];
};
struct convolution {
    int axes, padding[3], stride[3], dilation[3], groups, math;
};
struct performance {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};
int cudnnCreate(void **handle) { return *handle = malloc(1), 0; }
int cudnnDestroy(void *handle) { return free(handle), 0; }
int cudnnSetStream(void *handle, void *stream) { return handle && stream ? 0 : 3; }
int cudnnCreateTensorDescriptor(void **to) { return *to = calloc(1, sizeof(struct shape)), 0; }
int cudnnCreateFilterDescriptor(void **to) { return *to = calloc(1, sizeof(struct shape)), 0; }
int cudnnCreateConvolutionDescriptor(void **to) { return *to = calloc(1, sizeof(struct convolution)), 0; }
int cudnnDestroyTensorDescriptor(void *of) { return free(of), 0; }
int cudnnDestroyFilterDescriptor(void *of) { return free(of), 0; }
int cudnnDestroyConvolutionDescriptor(void *of) { return free(of), 0; }
int cudnnSetFilterNdDescriptor(struct shape *to, int kind, int format, int count, const int *size) {
    if (format != 0 || count < 4 || count > 5) return 3;
    to->kind = kind, to->count = count;
    memcpy(to->size, size, count * sizeof(int));
    return 0;
}
int cudnnSetTensorNdDescriptor(struct shape *to, int kind, int count, const int *size, const int *stride) {
    for (int i = count - 1, expected = 1; i >= 0; expected *= size[i--])
        if (stride[i] != expected) return 3;
    return cudnnSetFilterNdDescriptor(to, kind, 0, count, size);
}
int cudnnSetConvolutionNdDescriptor(struct convolution *to, int axes, const int *padding, const int *stride,
                                    const int *dilation, int mode, int compute) {
    if (axes < 2 || axes > 3 || mode != 1) return 3;
    to->axes = axes;
    for (int i = 0; i < axes; i++)
        to->padding[i] = padding[i], to->stride[i] = stride[i], to->dilation[i] = dilation[i];
    return 0;
}
int cudnnSetConvolutionGroupCount(struct convolution *to, int groups) { return to->groups = groups, 0; }
int cudnnSetConvolutionMathType(struct convolution *to, int math) { return to->math = math, 0; }

// Only algorithm 1 may be taken: 5 transforms its operands, 0 does not repeat its results, 3 is too large.
static int choose(const struct shape *x, const struct convolution *c, int most, int *found, struct performance *to) {
    const struct performance all[4] = {{.algorithm = 5, .determinism = 1},
                                       {.algorithm = 3, .memory = (size_t)1 << 60, .determinism = 1},
                                       {.algorithm = 0},
                                       {.algorithm = 1, .memory = 64, .determinism = 1}};
    // Of f32, without TF32, only FMA.
    if (x->kind > 1) return 9;
    if (c->math != 3 || most < 4) return 3;
    memcpy(to, all, sizeof all);
    *found = 4;
    return 0;
}
#define CHOOSE(name)                                                                                           \
    int cudnnGetConvolution##name##Algorithm_v7(void *h, struct shape *a, struct shape *b, struct convolution *c, \
                                                struct shape *r, int most, int *found, struct performance *to) {  \
        return choose(a, c, most, found, to);                                                                  \
    }                                                                                                          \
    int cudnnGetConvolution##name##WorkspaceSize(void *h, struct shape *a, struct shape *b, struct convolution *c, \
                                                 struct shape *r, int algorithm, size_t *bytes) {              \
        return *bytes = algorithm == 1 ? 64 : 0, 0;                                                            \
    }
CHOOSE(Forward)
CHOOSE(BackwardData)
CHOOSE(BackwardFilter)

// Two of x, w and y are read; what `result` points at is written.
static int run(const struct convolution *c, const struct shape *sx, const struct shape *sw, const struct shape *sy,
               const void *x, const void *w, const void *y, void *result, int which, int algorithm, void *workspace,
               size_t bytes) {
    const int kind = sx->kind, n = c->axes, g = c->groups;
    int in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, k[3] = {1, 1, 1}, p[3] = {0}, s[3] = {1, 1, 1}, d[3] = {1, 1, 1};
    if (sx->size[1] != sw->size[1] * g || sy->size[1] != sw->size[0] || sx->size[0] != sy->size[0]) return 3;
    for (int i = 0; i < n; i++) {
        in[3 - n + i] = sx->size[2 + i], out[3 - n + i] = sy->size[2 + i], k[3 - n + i] = sw->size[2 + i];
        p[3 - n + i] = c->padding[i], s[3 - n + i] = c->stride[i], d[3 - n + i] = c->dilation[i];
    }
    for (int i = 0; i < 3; i++)
        if ((in[i] + 2 * p[i] - d[i] * (k[i] - 1) - 1) / s[i] + 1 != out[i]) return 3;
    if (algorithm > 1) return 3;
    if (algorithm == 1) {
        if (bytes < 64 || !workspace) return 3;
        memset(workspace, 0xee, 64);
        calls++;
    } else {
        fast_calls++;
    }
    const int ci = sw->size[1], co = sw->size[0] / g;
    const long ix = (long)in[0] * in[1] * in[2], iy = (long)out[0] * out[1] * out[2], iw = (long)k[0] * k[1] * k[2];
    const long total = which == 0 ? iy * sy->size[0] * sy->size[1]
                       : which == 1 ? ix * sx->size[0] * sx->size[1] : iw * sw->size[0] * sw->size[1];
    double *sum = calloc(total, sizeof(double));
    for (long b = 0; b < sx->size[0]; b++)
        for (long o = 0; o < g * co; o++)
            for (long i = 0; i < ci; i++)
                for (long at = 0; at < iy; at++)
                    for (long tap = 0; tap < iw; tap++) {
                        const long a[3] = {at / out[2] / out[1], at / out[2] % out[1], at % out[2]};
                        const long t[3] = {tap / k[2] / k[1], tap / k[2] % k[1], tap % k[2]};
                        long from[3], inside = 1;
                        for (int e = 0; e < 3; e++) {
                            from[e] = a[e] * s[e] - p[e] + t[e] * d[e];
                            inside &= from[e] >= 0 && from[e] < in[e];
                        }
                        if (!inside) continue;
                        const long px = ((b * g + o / co) * ci + i) * ix + (from[0] * in[1] + from[1]) * in[2] + from[2];
                        const long pw = (o * ci + i) * iw + tap, py = (b * g * co + o) * iy + at;
                        if (which == 0) sum[py] += get(x, kind, px) * get(w, kind, pw);
                        if (which == 1) sum[px] += get(w, kind, pw) * get(y, kind, py);
                        if (which == 2) sum[pw] += get(x, kind, px) * get(y, kind, py);
                    }
    for (long i = 0; i < total; i++) put(result, kind, i, sum[i]);
    free(sum);
    return 0;
}
#define SCALED(alpha, beta, s) (get(alpha, s->kind, 0) == 1 && get(beta, s->kind, 0) == 0)
int cudnnConvolutionForward(void *h, const void *alpha, struct shape *sx, const void *x, struct shape *sw,
                            const void *w, struct convolution *c, int algorithm, void *space, size_t bytes,
                            const void *beta, struct shape *sy, void *y) {
    return SCALED(alpha, beta, sx) ? run(c, sx, sw, sy, x, w, 0, y, 0, algorithm, space, bytes) : 3;
}
int cudnnConvolutionBackwardData(void *h, const void *alpha, struct shape *sw, const void *w, struct shape *sy,
                                 const void *y, struct convolution *c, int algorithm, void *space, size_t bytes,
                                 const void *beta, struct shape *sx, void *x) {
    return SCALED(alpha, beta, sx) ? run(c, sx, sw, sy, 0, w, y, x, 1, algorithm, space, bytes) : 3;
}
int cudnnConvolutionBackwardFilter(void *h, const void *alpha, struct shape *sx, const void *x, struct shape *sy,
                                   const void *y, struct convolution *c, int algorithm, void *space, size_t bytes,
                                   const void *beta, struct shape *sw, void *w) {
    return SCALED(alpha, beta, sx) ? run(c, sx, sw, sy, x, 0, y, w, 2, algorithm, space, bytes) : 3;
}

// NCCL: what a group holds is summed when it ends. Bad parameters are 4.
static struct {
    const void *from;
    void *to, *communicator;
    size_t count;
} waiting[16];
static int members, waits, group_kind;
int ncclCommInitAll(void **to, int count, const int *devices) {
    for (int i = 0; i < count; i++) {
        if (devices[i] != i) return 4;
        to[i] = malloc(1);
    }
    return members = count, 0;
}
int ncclCommDestroy(void *of) { return free(of), 0; }
int ncclGroupStart(void) { return waits = 0; }
int ncclAllReduce(const void *from, void *to, size_t count, int kind, int op, void *communicator, void *stream) {
    if (op != 0 || !stream || waits == 16 || (waits && waiting[0].count != count)) return 4;
    if (kind != 7 && kind != 8) return 4;
    group_kind = kind - 7;
    waiting[waits].from = from, waiting[waits].to = to, waiting[waits].count = count;
    return waiting[waits++].communicator = communicator, 0;
}
int ncclGroupEnd(void) {
    if (waits != members) return 4;
    calls++;
    for (size_t i = 0; i < waiting[0].count; i++) {
        double sum = 0;
        for (int k = 0; k < waits; k++) sum += get(waiting[k].from, group_kind, (long)i);
        for (int k = 0; k < waits; k++) put(waiting[k].to, group_kind, (long)i, sum);
    }
    return waits = 0;
}
