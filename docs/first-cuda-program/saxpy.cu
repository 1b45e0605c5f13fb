/* SPDX-License-Identifier: MIT */
/* y = a * x + y, one element a thread. Compiled by clang without any file of NVIDIA's. */
#define __global__ __attribute__((global))

extern "C" __global__ void saxpy(unsigned n, float a, const float *x, float *y)
{
    unsigned i = __nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() +
                 __nvvm_read_ptx_sreg_tid_x();
    if (i < n)
        y[i] = a * x[i] + y[i];
}
