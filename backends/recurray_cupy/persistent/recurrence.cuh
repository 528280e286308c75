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

// Numbers to shared memory, past the registers and, sixteen bytes at a time, past the first-level cache: other
// multiprocessors have written some of them. What a thread has begun to copy so since the last time is a group; it can wait
// until all of its groups are there but for the last few, up to three. GPUs before compute capability 8.0 copy at once.
template <int BYTES>
__device__ inline void copy(void* to, const void* from) {
#if __CUDA_ARCH__ >= 800
    const unsigned place = (unsigned)__cvta_generic_to_shared(to);
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(place), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" : : "r"(place), "l"(from), "n"(BYTES) : "memory");
#else
    if (BYTES == 16) *(float4*)to = __ldcg((const float4*)from);
    if (BYTES == 8) *(double*)to = __ldcg((const double*)from);
    if (BYTES == 4) *(float*)to = __ldcg((const float*)from);
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
__device__ inline void relax() {}
#endif

struct alignas(4 * sizeof(real)) Four { real a, b, c, d; };

__device__ inline int least(int a, int b) { return a < b ? a : b; }
__device__ inline int most(int a, int b) { return a < b ? b : a; }

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

// Begins to copy a number; likewise, or puts zero where there is none.
__device__ inline void copy_one(real* to, const real* from) { copy<sizeof(real)>(to, from); }
__device__ inline void copy_or_zero(real* to, const real* from, bool there) {
    if (there)
        copy_one(to, from);
    else
        *to = 0;
}

// Begins to copy four, from where four may begin.
__device__ inline void copy_four(Four* to, const real* from) {
#pragma unroll
    for (int at = 0; at < (int)sizeof(Four); at += 16) copy<16>((char*)to + at, (const char*)from + at);
}

// Likewise, from anywhere, and of which `left` are there.
__device__ inline void copy_some(Four* to, const real* from, int left) {
#pragma unroll
    for (int j = 0; j < 4; ++j) copy_or_zero(&to->a + j, from + j, j < left);
}

// Begins to copy `count` fours from the four `low` on, of rows of `depth` numbers.
__device__ inline void load_operand(Four* operand, int stride, const real* source,
                                    int rows, int depth, int low, int count) {
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < (unsigned)(rows * count); i += THREADS) {
        const int row = i / (unsigned)count, four = i - row * count, k = 4 * (low + four);
        const real* from = source + (long long)row * depth + k;
        if (depth % 4)
            copy_some(operand + row * stride + four, from, depth - k);
        else
            copy_four(operand + row * stride + four, from);
    }
}

// Multiplies what the thread has copied so by the factors of the same place.
__device__ inline void scale_operand(Four* operand, int stride, const real* factors,
                                     int rows, int depth, int low, int count) {
    for (unsigned i = threadIdx.x; i < (unsigned)(rows * count); i += THREADS) {
        const int row = i / (unsigned)count, four = i - row * count, k = 4 * (low + four);
        Four& one = operand[row * stride + four];
        const real* own = factors + (long long)row * depth + k;
        one.a *= own[0];
        if (k + 1 < depth) one.b *= own[1];
        if (k + 2 < depth) one.c *= own[2];
        if (k + 3 < depth) one.d *= own[3];
    }
}

// Begins what comes first of the chunks' weights that aren't there yet: they wait for no other block.
template <class Weights>
__device__ inline void begin_first(int count, int buffers, Weights begin_weights) {
#pragma unroll 1
    for (int k = count - 1; k >= most(0, count - buffers); --k) begin_weights(k);
    end_group();
}

// Has all `count` chunks of a depth multiplied, from the last to the first, whose weights are begun by begin_first. So many
// as there are `buffers` for are on their way at a time; `arrived` is called when the thread's own part of one has come.
template <class Weights, class Begin, class Arrived, class Multiply>
__device__ inline void by_chunks(int count, int buffers, Weights begin_weights, Begin begin, Arrived arrived,
                                 Multiply multiply) {
#pragma unroll 1
    for (int k = count - 1; k >= count - buffers; --k) {
        if (k >= 0) begin(k);
        end_group();
    }
#pragma unroll 1
    for (int k = count - 1; k >= 0; --k) {
        await_groups(buffers - 1);
        arrived(k);
        __syncthreads();
        multiply(k);
        if (k >= buffers) {
            __syncthreads();  // what was here has been read
            begin(k - buffers);
            begin_weights(k - buffers);
        }
        end_group();
    }
    __syncthreads();
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

// Likewise, by weights in registers: the chunk `chunk` has EACH of the thread's steps. What is in registers can't be counted
// through, so each chunk has a text of its own.
template <int EACH, int HELD, int ROWS, int COLUMNS>
__device__ inline void multiply_held(real (&sums)[ROWS][COLUMNS], const Four (&held)[HELD][ROWS],
                                     const Part<COLUMNS>& operand, int chunk, int slice, int slices) {
#pragma unroll
    for (int step = 0; step < HELD; ++step) {
        if (step / EACH != chunk) continue;
        Four other[COLUMNS];
        operand.read(other, slice + slices * (step % EACH));
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
