/* SPDX-License-Identifier: MIT */
/*
 * CUresult values of the CUDA driver API that this project produces itself or names in messages. A
 * backend passes every other value of its driver through unchanged, so code must treat CUresult as
 * a plain number with known names.
 *
 * Source: CUDA Driver API reference, "Data types used by CUDA driver", enum cudaError_enum.
 * The names are the public ABI's; this header and NVIDIA's cuda.h are never included in the same
 * file.
 */
#ifndef VGPU_CURESULT_H
#define VGPU_CURESULT_H

/* X(value, name, text): text is what a person reads in a log or an error message. */
#define VGPU_CURESULT_LIST(X)                                                                      \
    X(0, CUDA_SUCCESS, "no error")                                                                 \
    X(1, CUDA_ERROR_INVALID_VALUE, "invalid argument")                                             \
    X(2, CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                                \
    X(3, CUDA_ERROR_NOT_INITIALIZED, "initialization error")                                       \
    X(4, CUDA_ERROR_DEINITIALIZED, "driver shutting down")                                         \
    X(100, CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                             \
    X(101, CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                    \
    X(200, CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                             \
    X(201, CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                   \
    X(209, CUDA_ERROR_NO_BINARY_FOR_GPU,                                                           \
      "no kernel image is available for execution on the device")                                  \
    X(218, CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed")                                 \
    X(222, CUDA_ERROR_UNSUPPORTED_PTX_VERSION,                                                     \
      "the provided PTX was compiled with an unsupported toolchain")                               \
    X(300, CUDA_ERROR_INVALID_SOURCE, "device kernel image is invalid")                            \
    X(304, CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS")    \
    X(400, CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                   \
    X(401, CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state")     \
    X(500, CUDA_ERROR_NOT_FOUND, "named symbol not found")                                         \
    X(600, CUDA_ERROR_NOT_READY, "device not ready")                                               \
    X(700, CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                 \
    X(701, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")          \
    X(702, CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated")                   \
    X(709, CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed")                                \
    X(710, CUDA_ERROR_ASSERT, "device-side assert triggered")                                      \
    X(714, CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error")                                \
    X(715, CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered")               \
    X(716, CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address")                                    \
    X(717, CUDA_ERROR_INVALID_ADDRESS_SPACE,                                                       \
      "operation not supported on global/shared address space")                                    \
    X(718, CUDA_ERROR_INVALID_PC, "invalid program counter")                                       \
    X(719, CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")                                 \
    X(720, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch")       \
    X(801, CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                    \
    X(999, CUDA_ERROR_UNKNOWN, "unknown error")

typedef enum {
#define VGPU_CURESULT_ENUM(value, name, text) name = value,
    VGPU_CURESULT_LIST(VGPU_CURESULT_ENUM)
#undef VGPU_CURESULT_ENUM
        VGPU_CURESULT_FORCE_INT = 0x7fffffff
} CUresult;

#endif
