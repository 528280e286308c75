// What the kernels call that make the recurrent product themselves. THREADS is how many a block has.
//
// What only a GPU has (order between blocks, loads past the first-level cache, a clock) stands between `#ifndef HOST`
// and `#endif`; the tests put threads and atomics of C++ in its place.

#ifndef HOST
extern __shared__ float4 shared_memory[];
#define PATIENCE 20000000000LL  // clocks, some ten seconds

// A counter that other blocks count up: looked at, and looked at so that what they wrote before can then be read. The
// second empties the first-level cache, so it comes once.
__device__ inline unsigned glance(const unsigned* place) {
    unsigned value;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(place) : "memory");
    return value;
}
__device__ inline unsigned acquire(const unsigned* place) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(place) : "memory");
    return value;
}

// After a barrier of the block: all that its threads have written is handed on, and no other fence is needed.
__device__ inline void release_one(unsigned* place) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" : : "l"(place), "r"(1) : "memory");
}

// What another multiprocessor has written, from the cache that they share.
__device__ inline void fresh(const float* place, float& value) {
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(value) : "l"(place) : "memory");
}
__device__ inline void fresh(const double* place, double& value) {
    asm volatile("ld.relaxed.gpu.global.f64 %0, [%1];" : "=d"(value) : "l"(place) : "memory");
}
__device__ inline void fresh(const float* place, float& a, float& b, float& c, float& d) {
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "l"(place) : "memory");
}
__device__ inline void fresh(const double* place, double& a, double& b, double& c, double& d) {
    asm volatile("ld.relaxed.gpu.global.v2.f64 {%0, %1}, [%2];" : "=d"(a), "=d"(b) : "l"(place) : "memory");
    asm volatile("ld.relaxed.gpu.global.v2.f64 {%0, %1}, [%2];" : "=d"(c), "=d"(d) : "l"(place + 2) : "memory");
}
__device__ inline void relax() {}

// A number to shared memory, past the registers. What a thread has begun to copy so since the last time is a group; it can
// wait until all of its groups are there but for the last few, up to three. GPUs before compute capability 8.0 wait here.
__device__ inline void copy_one(real* to, const real* from) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;"
                 : : "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "n"(sizeof(real)) : "memory");
#else
    *to = *from;
#endif
}
__device__ inline void end_group() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}
__device__ inline void await_groups(int but) {
#if __CUDA_ARCH__ >= 800
    if (but == 0) asm volatile("cp.async.wait_group 0;" : : : "memory");
    if (but == 1) asm volatile("cp.async.wait_group 1;" : : : "memory");
    if (but == 2) asm volatile("cp.async.wait_group 2;" : : : "memory");
    if (but == 3) asm volatile("cp.async.wait_group 3;" : : : "memory");
#endif
}
#endif

struct alignas(4 * sizeof(real)) Four { real a, b, c, d; };

__device__ inline int least(int a, int b) { return a < b ? a : b; }

// Waits until a counter has come to a number; false if it doesn't in good time, which is a fault.
__device__ inline bool wait_for(const unsigned* arrivals, unsigned wanted, int* fault) {
    const long long began = clock64();
    while ((int)(glance(arrivals) - wanted) < 0) {
        if (clock64() - began > PATIENCE) {
            *fault = 1;
            return false;
        }
        relax();
    }
    acquire(arrivals);
    return true;
}

// The numbers k to k + 3 of a row of `depth`, zeros past its end.
__device__ inline Four four_of(const real* row, int k, int depth) {
    Four four{0, 0, 0, 0};
    if (depth % 4 == 0 && k < depth) {
        fresh(row + k, four.a, four.b, four.c, four.d);
    } else {
        if (k < depth) fresh(row + k, four.a);
        if (k + 1 < depth) fresh(row + k + 1, four.b);
        if (k + 2 < depth) fresh(row + k + 2, four.c);
        if (k + 3 < depth) fresh(row + k + 3, four.d);
    }
    return four;
}

// Multiplies them by those of a row of factors.
__device__ inline void multiply_four(Four& four, const real* factors, int k, int depth) {
    if (k < depth) four.a *= factors[k];
    if (k + 1 < depth) four.b *= factors[k + 1];
    if (k + 2 < depth) four.c *= factors[k + 2];
    if (k + 3 < depth) four.d *= factors[k + 3];
}

// Reads `count` fours from the four `low` on, of rows of `depth` numbers, times the mask if there is one. Several are
// on their way at a time.
__device__ inline void load_operand(Four* operand, int stride, const real* source, const real* factors,
                                    int rows, int depth, int low, int count) {
    const int all = rows * count;
    for (int start = threadIdx.x; start < all; start += 8 * THREADS) {
        Four held[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int place = start + j * THREADS, row = place / count, k = 4 * (low + place - row * count);
            if (place < all) held[j] = four_of(source + (long long)row * depth, k, depth);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int place = start + j * THREADS, row = place / count, k = 4 * (low + place - row * count);
            if (place >= all) continue;
            if (factors) multiply_four(held[j], factors + (long long)row * depth, k, depth);
            operand[row * stride + place - row * count] = held[j];
        }
    }
}

// Has all chunks of a depth multiplied, one after another. The first FIRST have a text of their own, as what is in
// registers can't be counted through.
template <int FIRST, class Multiply>
__device__ inline void by_fours(int depth4, int chunk, Multiply multiply) {
#pragma unroll
    for (int k = 0; k < FIRST; ++k) multiply(k, true);
#pragma unroll 1
    for (int k = FIRST; k * chunk < depth4; ++k) multiply(k, false);
}

// Adds the products of four and four numbers to a sum, one by one: each is a multiplication and an addition in one.
__device__ inline void add_products(real& sum, const Four& one, const Four& other) {
    sum += one.a * other.a;
    sum += one.b * other.b;
    sum += one.c * other.c;
    sum += one.d * other.d;
}

// A thread's part of the operand. Its columns, like its rows of the weights, are `apart` from each other, so that
// neighbouring threads read from different banks; past the last one they are the last, and nobody reads the sum.
template <int COLUMNS>
struct Part {
    const Four* numbers;
    int own[COLUMNS];
    __device__ inline Part(const Four* numbers, int stride, int column, int apart, int columns) : numbers(numbers) {
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) own[j] = least(column + j * apart, columns - 1) * stride;
    }
    __device__ inline void read(Four (&b)[COLUMNS], int k) const {
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) b[j] = numbers[own[j] + k];
    }
};

// Adds to a thread's sums what its slice of a chunk contributes, from its `begin`-th four on.
template <int ROWS, int COLUMNS>
__device__ inline void multiply(real (&sums)[ROWS][COLUMNS],
                                const Four* weights, int weight_stride, int row, int rows_apart, int rows,
                                const Part<COLUMNS>& operand, int begin, int slice, int slices, int count) {
    int w[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) w[i] = least(row + i * rows_apart, rows - 1) * weight_stride;
#pragma unroll(ROWS * COLUMNS < 48 ? 2 : 1)  // as far as the registers go
    for (int k = slice + slices * begin; k < count; k += slices) {
        Four other[COLUMNS];
        operand.read(other, k);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const Four one = weights[w[i] + k];
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) add_products(sums[i][j], one, other[j]);
        }
    }
}

// Likewise, by weights in registers, those of the thread's first fours: of the chunk from the `before`-th on, and
// `count` of them.
template <int HELD, int ROWS, int COLUMNS>
__device__ inline void multiply_held(real (&sums)[ROWS][COLUMNS], const Four (&held)[HELD][ROWS],
                                     const Part<COLUMNS>& operand, int before, int count, int slice, int slices) {
#pragma unroll
    for (int step = 0; step < HELD; ++step) {
        if (step < before || step >= before + count) continue;
        Four other[COLUMNS];
        operand.read(other, slice + slices * (step - before));
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) add_products(sums[i][j], held[step][i], other[j]);
        }
    }
}

// Hands a thread's sums on to the others: those of a row of the batch are `apart` from those of the next.
template <int ROWS, int COLUMNS>
__device__ inline void store_sums(const real (&sums)[ROWS][COLUMNS], real* to, int apart,
                                  int row, int rows_apart, int rows, int column, int columns_apart, int columns) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) {
            const int r = row + i * rows_apart, c = column + j * columns_apart;
            if (r < rows && c < columns) to[c * apart + r] = sums[i][j];
        }
    }
}

// What the threads of all slices have handed on, `apart` from slice to slice, is added up where it is read; if there
// are no slices, there is `instead`.
struct Sums {
    const real* of_slices;
    int slices, apart;
    real instead;
    __device__ inline real operator[](int place) const {
        real total = instead;
#pragma unroll 4
        for (int slice = 0; slice < slices; ++slice) total += of_slices[slice * apart + place];
        return total;
    }
};
