// What every kernel may call. `real` is the type of the elements.
//
// It includes no headers (NVRTC has none) and needs nothing newer than C++11. It is also valid C++ for the host, where
// `__device__` and the like are defined away, so that tests can run the kernels on a machine without a GPU.

#define INFINITE (-log((real)0))

// As NumPy's: a NaN in either operand is the result.
__device__ inline real maximum(real a, real b) { return a > b || a != a ? a : b; }
__device__ inline real minimum(real a, real b) { return a < b || a != a ? a : b; }

// 1 / (1 + exp(-a)), of which exp(-a) would overflow.
__device__ inline real logistic(real a) {
    const real e = exp(-fabs(a));
    return (a < 0 ? e : (real)1) / ((real)1 + e);
}

// Replaces each value by its sum over the threads of the block, the same bits in every thread and every run.
// In two rounds: a few threads each add up a part, then all add up the parts. Its own barriers suffice between calls:
// `all` is read for the last time before the second, `parts` before the first of the next call.
template <int COUNT>
__device__ void block_sums(real (&values)[COUNT]) {
    __shared__ real all[COUNT][ROW_BLOCK];
    __shared__ real parts[COUNT][16];
    const int threads = blockDim.x, thread = threadIdx.x, some = threads < 16 ? threads : 16;
    for (int k = 0; k < COUNT; ++k) all[k][thread] = values[k];
    __syncthreads();
    if (thread < some) {
        for (int k = 0; k < COUNT; ++k) {
            real part = 0;
            for (int other = thread; other < threads; other += some) part += all[k][other];
            parts[k][thread] = part;
        }
    }
    __syncthreads();
    for (int k = 0; k < COUNT; ++k) {
        values[k] = 0;
        for (int other = 0; other < some; ++other) values[k] += parts[k][other];
    }
}
