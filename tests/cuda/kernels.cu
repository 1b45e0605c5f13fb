/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernels of tests/cuda/conformance.c. kernels.ptx is in the tree: nvcc -arch=compute_75 -ptx kernels.cu */
extern "C" {

__device__ int counter = 5;
__constant__ int offsets[4] = {10, 20, 30, 40};

__global__ void add(const int *x, const int *y, int *z, unsigned n)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        z[i] = x[i] + y[i];
}

/* Parameters whose layout has holes. */
__global__ void mixed(char a, double b, short c, long long *out)
{
    out[0] = a;
    out[1] = (long long)b;
    out[2] = c;
}

__global__ void bump(int by)
{
    atomicAdd(&counter, by);
}

__global__ void constants(int *out)
{
    out[threadIdx.x] = offsets[threadIdx.x & 3];
}

__global__ void reverse_shared(int *data)
{
    extern __shared__ int tile[];
    tile[threadIdx.x] = data[threadIdx.x];
    __syncthreads();
    data[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

__global__ void spin(long long clocks, int *out)
{
    long long start = clock64();
    while (clock64() - start < clocks)
        ;
    *out = 1;
}

__global__ void sample(unsigned long long texture, float *out, int width, int height)
{
    int x = threadIdx.x, y = blockIdx.x;
    if (x < width && y < height)
        out[y * width + x] = tex2D<float>(texture, x + 0.5f, y + 0.5f);
}

__global__ void store_surface(unsigned long long surface, int value)
{
    surf2Dwrite(value + (int)threadIdx.x, surface, (int)(threadIdx.x * sizeof(int)), (int)blockIdx.x);
}

__global__ void wild(int *at)
{
    *at = 1;
}
}
