// Defined before: IG_RANK, and for scatter_add the element's types. Positions are in elements; the source's (for
// scatter_add the output's) stride along the indexed axis is `along`, and that entry of its strides is 0.

#ifdef IG_GATHER
struct Arguments {
    ig_i64 count, axis, axis_size, along;
    ig_i64 size[IG_RANK], source_stride[IG_RANK], index_stride[IG_RANK], out_stride[IG_RANK];
    IG_WORD const Stored *source;
    IG_WORD const ig_i64 *index;
    IG_WORD Stored *out;
    IG_WORD ig_fault *fault;
};

IG_KERNEL(gather, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.count) {
        return;
    }
    ig_i64 rest = number, source = 0, index = 0, out = 0;
#pragma unroll
    for (int i = IG_RANK - 1; i >= 0; i--) {
        const ig_i64 at = rest % a.size[i];
        rest /= a.size[i];
        source += at * a.source_stride[i];
        index += at * a.index_stride[i];
        out += at * a.out_stride[i];
    }
    const ig_i64 chosen = a.index[index];
    if (chosen < 0 || chosen >= a.axis_size) {
        ig_report(a.fault, 1, chosen, a.axis, a.axis_size);
        return;
    }
    a.out[out] = a.source[source + chosen * a.along];
}
#endif

#ifdef IG_SCATTER_ADD
// The axes here are those of the source without the indexed one, which has `length` elements: a "column" runs along
// it.
struct Arguments {
    ig_i64 columns, length, axis, axis_size, along, source_along, index_along;
    ig_i64 size[IG_RANK], source_stride[IG_RANK], index_stride[IG_RANK], out_stride[IG_RANK], order_stride[IG_RANK];
    IG_WORD const Stored *source;
    IG_WORD const ig_i64 *index;
    IG_WORD const ig_i64 *order;
    IG_WORD Stored *out;
    IG_WORD ig_fault *fault;
};

struct Column {
    ig_i64 source, index, out, order;
};

IG_FN Column ig_column(const Arguments &a, ig_i64 number) {
    Column c = {0, 0, 0, 0};
#pragma unroll
    for (int i = IG_RANK - 1; i >= 0; i--) {
        const ig_i64 at = number % a.size[i];
        number /= a.size[i];
        c.source += at * a.source_stride[i];
        c.index += at * a.index_stride[i];
        c.out += at * a.out_stride[i];
        c.order += at * a.order_stride[i];
    }
    return c;
}

#ifdef IG_SCATTER_ADD_ORDERED
// One thread per column, in order: for few elements along the axis.
IG_KERNEL(scatter_add, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.columns) {
        return;
    }
    const Column c = ig_column(a, number);
    for (ig_i64 i = 0; i < a.length; i++) {
        const ig_i64 chosen = a.index[c.index + i * a.index_along];
        if (chosen < 0 || chosen >= a.axis_size) {
            ig_report(a.fault, 2, chosen, a.axis, a.axis_size);
            continue;
        }
        Stored *const to = &a.out[c.out + chosen * a.along];
        *to = ig_store(ig_sum(ig_load(*to), ig_load(a.source[c.source + i * a.source_along])));
    }
}
#endif
#endif

#ifdef IG_SCATTER_ADD_ATOMIC
// One thread per element, in any order.
IG_KERNEL(scatter_add_atomic, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.columns * a.length) {
        return;
    }
    const Column c = ig_column(a, number % a.columns);
    const ig_i64 i = number / a.columns, chosen = a.index[c.index + i * a.index_along];
    if (chosen < 0 || chosen >= a.axis_size) {
        ig_report(a.fault, 2, chosen, a.axis, a.axis_size);
        return;
    }
    atomicAdd(&a.out[c.out + chosen * a.along], a.source[c.source + i * a.source_along]);
}
#endif

#ifdef IG_SCATTER_ADD_SORTED
// One thread per element. `order` lists each column's elements with equal indices side by side, in their own order;
// the thread of the first of them adds them all, and rounds once.
IG_KERNEL(scatter_add_sorted, Arguments) {
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.columns * a.length) {
        return;
    }
    const Column c = ig_column(a, number % a.columns);
    ig_i64 place = number / a.columns;
    const ig_i64 *const order = a.order + c.order;
    const ig_i64 *const index = a.index + c.index;
    const ig_i64 chosen = index[order[place] * a.index_along];
    if (place > 0 && index[order[place - 1] * a.index_along] == chosen) {
        return;
    }
    if (chosen < 0 || chosen >= a.axis_size) {
        ig_report(a.fault, 2, chosen, a.axis, a.axis_size);
        return;
    }
    Stored *const to = &a.out[c.out + chosen * a.along];
    Computed sum = ig_load(*to);
    do {
        sum = ig_sum(sum, ig_load(a.source[c.source + order[place] * a.source_along]));
        place++;
    } while (place < a.length && index[order[place] * a.index_along] == chosen);
    *to = ig_store(sum);
}
#endif
