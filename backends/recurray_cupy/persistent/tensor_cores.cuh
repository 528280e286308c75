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
__device__ inline float power_of_two(float a) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(a));
    return result;
}
__device__ inline float inverse(float a) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(a));
    return result;
}
#else
#define HOST_OF(type) HOST_TENSOR_CORES(type)
HOST_OF(TYPE)
#endif
#undef TYPE

__device__ inline unsigned short half_of(float a) { return (unsigned short)rounded(a, 0); }

// By the two instructions that approximate, of 2 and 1 units in float32's last place: an absolute error of 2^-21 at most,
// a thousandth of a unit of float16 at 1. Those of functions.cuh take several times as many, with branches.
__device__ inline float quick_logistic(float a) { return inverse(1 + power_of_two(-1.44269504f * a)); }
__device__ inline float quick_tanh(float a) { return 1 - 2 * inverse(1 + power_of_two(2.88539008f * a)); }

// Begins to copy rounded numbers of some rows of the batch, `pitch` apart, to shared memory: `count` times 16 from 16 * low on.
__device__ inline void load_handed(unsigned* operand, int stride, const unsigned short* source, int pitch,
                                   int rows, int low, int count) {
    const unsigned eights = 2 * count;
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < rows * eights; i += THREADS) {
        const unsigned row = i / eights, eight = i - row * eights;
        copy<16>(operand + row * stride + 4 * eight, source + row * pitch + 16 * low + 8 * eight);
    }
}

// Likewise, of the weights those that lead to a block's units; rows past the last one are the last, and nobody reads
// what comes of them.
__device__ inline void load_weights(unsigned* to, int stride, const unsigned short* source, int pitch, int rows,
                                    int parts, int units, int first_unit, int block_units, int low, int count) {
    const unsigned eights = 2 * count;
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < rows * eights; i += THREADS) {
        const unsigned row = i / eights, eight = i - row * eights, part = row / block_units;
        const int unit = least(first_unit + row - part * block_units, units - 1);
        const long long from = (long long)least(part, parts - 1) * units + unit;
        copy<16>(to + row * stride + 4 * eight, source + from * pitch + 16 * low + 8 * eight);
    }
}

// Where in a tile a thread's numbers are.
struct Lane {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
};

// The weights of a warp's first HELD steps, kept in registers for all steps of the launch: of ROWS tiles from the row
// `first` of the block on. Rows as in load_weights.
template <int HELD, int ROWS>
__device__ inline void hold_weights(unsigned (&held)[HELD][ROWS][4], const unsigned short* source, int pitch, int parts,
                                    int units, int first_unit, int block_units, int first, int slice, int slices) {
    const Lane lane;
#pragma unroll
    for (int i = 0; i < 2 * ROWS; ++i) {
        const int row = first + 8 * i + lane.g, part = row / block_units;
        const int unit = least(first_unit + row - part * block_units, units - 1);
        const unsigned short* from = source + ((long long)least(part, parts - 1) * units + unit) * pitch;
#pragma unroll
        for (int j = 0; j < HELD; ++j) {
            const unsigned* pairs = (const unsigned*)(from + 16 * (slice + slices * j)) + lane.t;
            held[j][i / 2][i % 2] = pairs[0];
            held[j][i / 2][i % 2 + 2] = pairs[4];
        }
    }
}

// A thread's part of the operand, and of a tile of the sums.
template <int COLUMNS>
struct Operand {
    const unsigned* numbers;
    int own[COLUMNS];
    // Columns past the last one are the last, and nobody reads their sums.
    __device__ inline Operand(const unsigned* numbers, int stride, int column, int columns) : numbers(numbers) {
        const Lane lane;
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) own[j] = least(column + 8 * j + lane.g, columns - 1) * stride + lane.t;
    }
    __device__ inline void read(unsigned (&b)[COLUMNS][2], int k) const {
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) b[j][0] = numbers[own[j] + k], b[j][1] = numbers[own[j] + k + 4];
    }
};

// Adds to a warp's sums, ROWS by COLUMNS tiles, what its slice of a chunk contributes, from its `begin`-th step on; the
// depth is in steps of 16.
template <int ROWS, int COLUMNS>
__device__ inline void multiply_rounded(float (&sums)[ROWS][COLUMNS][4], const unsigned* weights, int weight_stride,
                                        const Operand<COLUMNS>& operand, int begin, int slice, int slices, int depth) {
    const Lane lane;
    const int upper = lane.g * weight_stride + lane.t, lower = upper + 8 * weight_stride;
#pragma unroll(ROWS * COLUMNS < 4 ? 4 : 2)
    for (int k = 8 * (slice + slices * begin); k < 8 * depth; k += 8 * slices) {
        unsigned b[COLUMNS][2];
        operand.read(b, k);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const int down = 16 * i * weight_stride + k;
            const unsigned a[4] = {weights[upper + down], weights[lower + down],
                                   weights[upper + down + 4], weights[lower + down + 4]};
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) multiply_tile(sums[i][j], a, b[j]);
        }
    }
}

// Likewise, by weights in registers: the chunk `chunk` has EACH of the warp's steps.
template <int EACH, int HELD, int ROWS, int COLUMNS>
__device__ inline void multiply_held(float (&sums)[ROWS][COLUMNS][4], const unsigned (&held)[HELD][ROWS][4],
                                     const Operand<COLUMNS>& operand, int chunk, int slice, int slices) {
#pragma unroll
    for (int step = 0; step < HELD; ++step) {
        if (step / EACH != chunk) continue;
        unsigned b[COLUMNS][2];
        operand.read(b, 8 * (slice + slices * (step % EACH)));
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) multiply_tile(sums[i][j], held[step][i], b[j]);
        }
    }
}

// Hands a warp's sums on to the others: those of a row of the batch are `apart` from those of the next.
template <int ROWS, int COLUMNS>
__device__ inline void store_sums(const float (&sums)[ROWS][COLUMNS][4], float* to, int apart,
                                  int column, int columns) {
    const Lane lane;
#pragma unroll
    for (int i = 0; i < 4 * ROWS; ++i) {
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) {
            const int r = 8 * (i / 2) + lane.g, c = column + 8 * j + lane.t * 2 + i % 2;
            if (c < columns) to[c * apart + r] = sums[i / 4][j][i % 4];
        }
    }
}
