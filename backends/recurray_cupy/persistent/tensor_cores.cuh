// The recurrent product on tensor cores. TYPE is that of the operands, f16 or bf16.

#define NAME_OF(type) #type
#define NAMED(type) NAME_OF(type)

// What only a GPU has; the tests have the same for a CPU. `a` comes first in memory, in the low half of the word.
#ifndef HOST
__device__ inline unsigned rounded(float a, float b) {
    unsigned word;
    asm("cvt.rn." NAMED(TYPE) "x2.f32 %0, %1, %2;" : "=r"(word) : "f"(b), "f"(a));
    return word;
}
__device__ inline void multiply_tile(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NAMED(TYPE) "." NAMED(TYPE) ".f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
#define HOST_OF(type) HOST_TENSOR_CORES(type)
HOST_OF(TYPE)
#endif
#undef TYPE

// As `load_operand`, but rounded; `count` words of a row, from the word `low` on. Past the depth there are zeros.
__device__ inline void load_rounded(unsigned* operand, int stride, const real* source, const real* factors,
                                    int rows, int depth, int low, int count) {
    const int all = rows * count / 2;  // two words at a time
    for (int start = threadIdx.x; start < all; start += 8 * THREADS) {
        Four held[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int place = 2 * (start + j * THREADS), row = place / count, k = 2 * (low + place - row * count);
            if (place < 2 * all) held[j] = four_of(source + (long long)row * depth, k, depth);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int place = 2 * (start + j * THREADS), row = place / count, k = 2 * (low + place - row * count);
            if (place >= 2 * all) continue;
            if (factors) multiply_four(held[j], factors + (long long)row * depth, k, depth);
            unsigned* to = operand + row * stride + place - row * count;
            to[0] = rounded(held[j].a, held[j].b);
            to[1] = rounded(held[j].c, held[j].d);
        }
    }
}

// Adds to a warp's sums, TILES tiles side by side from a column on, what its slice of a chunk contributes. `depth` is
// in steps of 16. Columns past the last one are the last, and nobody reads their sums.
template <int TILES>
__device__ inline void multiply_rounded(float (&sums)[TILES][4], const unsigned* weights, int weight_stride,
                                        const unsigned* operand, int stride, int column, int columns,
                                        int slice, int slices, int depth) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int upper = g * weight_stride + t, lower = (g + 8) * weight_stride + t;
    int own[TILES];
#pragma unroll
    for (int j = 0; j < TILES; ++j) own[j] = least(column + 8 * j + g, columns - 1) * stride + t;
    for (int k = 8 * slice; k < 8 * depth; k += 8 * slices) {
        const unsigned a[4] = {weights[upper + k], weights[lower + k], weights[upper + k + 4], weights[lower + k + 4]};
#pragma unroll
        for (int j = 0; j < TILES; ++j) {
            const unsigned b[2] = {operand[own[j] + k], operand[own[j] + k + 4]};
            multiply_tile(sums[j], a, b);
        }
    }
}
