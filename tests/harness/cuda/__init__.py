"""CUDA without a GPU: imitations of CuPy, of streams and of a device, and compilers for kernels."""
