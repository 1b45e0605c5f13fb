/* SPDX-License-Identifier: MIT */
/*
 * CUresult values of the CUDA driver API up to CUDA 13.0. A backend passes every value of its
 * driver through unchanged, so code must treat CUresult as a plain number with known names.
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
    X(5, CUDA_ERROR_PROFILER_DISABLED, "profiling is disabled for this process")                   \
    X(6, CUDA_ERROR_PROFILER_NOT_INITIALIZED, "the profiler was not initialized")                  \
    X(7, CUDA_ERROR_PROFILER_ALREADY_STARTED, "the profiler runs already")                         \
    X(8, CUDA_ERROR_PROFILER_ALREADY_STOPPED, "the profiler does not run")                         \
    X(34, CUDA_ERROR_STUB_LIBRARY, "the library is a stub")                                        \
    X(36, CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER, "the call needs a newer driver")                  \
    X(46, CUDA_ERROR_DEVICE_UNAVAILABLE, "the device is busy or unavailable")                      \
    X(100, CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                             \
    X(101, CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                    \
    X(102, CUDA_ERROR_DEVICE_NOT_LICENSED, "the device has no valid license")                      \
    X(200, CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                             \
    X(201, CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                   \
    X(202, CUDA_ERROR_CONTEXT_ALREADY_CURRENT, "the context is current already")                   \
    X(205, CUDA_ERROR_MAP_FAILED, "mapping of a buffer object failed")                             \
    X(206, CUDA_ERROR_UNMAP_FAILED, "unmapping of a buffer object failed")                         \
    X(207, CUDA_ERROR_ARRAY_IS_MAPPED, "the array is mapped")                                      \
    X(208, CUDA_ERROR_ALREADY_MAPPED, "the resource is mapped already")                            \
    X(209, CUDA_ERROR_NO_BINARY_FOR_GPU,                                                           \
      "no kernel image is available for execution on the device")                                  \
    X(210, CUDA_ERROR_ALREADY_ACQUIRED, "the resource is acquired already")                        \
    X(211, CUDA_ERROR_NOT_MAPPED, "the resource is not mapped")                                    \
    X(212, CUDA_ERROR_NOT_MAPPED_AS_ARRAY, "the resource is not mapped as an array")               \
    X(213, CUDA_ERROR_NOT_MAPPED_AS_POINTER, "the resource is not mapped as a pointer")            \
    X(214, CUDA_ERROR_ECC_UNCORRECTABLE, "an uncorrectable ECC error was met")                     \
    X(215, CUDA_ERROR_UNSUPPORTED_LIMIT, "the device does not support the limit")                  \
    X(216, CUDA_ERROR_CONTEXT_ALREADY_IN_USE, "another thread uses the context")                   \
    X(217, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "the devices cannot access each other")             \
    X(218, CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed")                                 \
    X(219, CUDA_ERROR_INVALID_GRAPHICS_CONTEXT, "invalid graphics context")                        \
    X(220, CUDA_ERROR_NVLINK_UNCORRECTABLE, "an uncorrectable NVLink error was met")               \
    X(221, CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "there is no PTX compiler")                          \
    X(222, CUDA_ERROR_UNSUPPORTED_PTX_VERSION,                                                     \
      "the provided PTX was compiled with an unsupported toolchain")                               \
    X(223, CUDA_ERROR_JIT_COMPILATION_DISABLED, "PTX compilation is disabled")                     \
    X(224, CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY,                                                   \
      "the device does not support the execution affinity")                                        \
    X(225, CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC,                                                    \
      "the code synchronizes on the device, which is not supported")                               \
    X(226, CUDA_ERROR_CONTAINED, "an error was contained on the device")                           \
    X(300, CUDA_ERROR_INVALID_SOURCE, "device kernel image is invalid")                            \
    X(301, CUDA_ERROR_FILE_NOT_FOUND, "file not found")                                            \
    X(302, CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND, "a shared object lacks a symbol")            \
    X(303, CUDA_ERROR_SHARED_OBJECT_INIT_FAILED, "a shared object failed to initialize")           \
    X(304, CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS")    \
    X(400, CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                   \
    X(401, CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state")     \
    X(402, CUDA_ERROR_LOSSY_QUERY, "the answer would lose information")                            \
    X(500, CUDA_ERROR_NOT_FOUND, "named symbol not found")                                         \
    X(600, CUDA_ERROR_NOT_READY, "device not ready")                                               \
    X(700, CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                 \
    X(701, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")          \
    X(702, CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated")                   \
    X(703, CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING,                                               \
      "the launch uses an incompatible texturing mode")                                            \
    X(704, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is enabled already")               \
    X(705, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access is not enabled")                       \
    X(708, CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "the primary context is active")                     \
    X(709, CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed")                                \
    X(710, CUDA_ERROR_ASSERT, "device-side assert triggered")                                      \
    X(711, CUDA_ERROR_TOO_MANY_PEERS, "no room for another peer")                                  \
    X(712, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "the host memory is registered already")     \
    X(713, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "the host memory is not registered")             \
    X(714, CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error")                                \
    X(715, CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered")               \
    X(716, CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address")                                    \
    X(717, CUDA_ERROR_INVALID_ADDRESS_SPACE,                                                       \
      "operation not supported on global/shared address space")                                    \
    X(718, CUDA_ERROR_INVALID_PC, "invalid program counter")                                       \
    X(719, CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")                                 \
    X(720, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch")       \
    X(721, CUDA_ERROR_TENSOR_MEMORY_LEAK, "tensor memory was not given back")                      \
    X(800, CUDA_ERROR_NOT_PERMITTED, "operation not permitted")                                    \
    X(801, CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                    \
    X(802, CUDA_ERROR_SYSTEM_NOT_READY, "the system is not ready")                                 \
    X(803, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "driver and library do not match")                   \
    X(804, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE,                                              \
      "the device does not support forward compatibility")                                         \
    X(805, CUDA_ERROR_MPS_CONNECTION_FAILED, "no connection to MPS")                               \
    X(806, CUDA_ERROR_MPS_RPC_FAILURE, "a request to MPS failed")                                  \
    X(807, CUDA_ERROR_MPS_SERVER_NOT_READY, "MPS is not ready")                                    \
    X(808, CUDA_ERROR_MPS_MAX_CLIENTS_REACHED, "MPS has as many clients as it may")                \
    X(809, CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED, "MPS has as many connections as it may")        \
    X(810, CUDA_ERROR_MPS_CLIENT_TERMINATED, "MPS ended the client")                               \
    X(811, CUDA_ERROR_CDP_NOT_SUPPORTED, "launches by kernels are not supported")                  \
    X(812, CUDA_ERROR_CDP_VERSION_MISMATCH, "launches by kernels have another version")            \
    X(900, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,                                                  \
      "the operation is not permitted while a stream is captured")                                 \
    X(901, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "an earlier error made the capture invalid")     \
    X(902, CUDA_ERROR_STREAM_CAPTURE_MERGE, "two captures would be merged")                        \
    X(903, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture did not begin in this stream")        \
    X(904, CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "the capture has streams that did not join again")  \
    X(905, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "a dependency would cross the capture's boundary") \
    X(906, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "an implicit dependency on the legacy stream")      \
    X(907, CUDA_ERROR_CAPTURED_EVENT, "the event was recorded in a capture")                       \
    X(908, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread")          \
    X(909, CUDA_ERROR_TIMEOUT, "the time-out passed")                                              \
    X(910, CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph cannot be updated that far")           \
    X(911, CUDA_ERROR_EXTERNAL_DEVICE, "an external device failed")                                \
    X(912, CUDA_ERROR_INVALID_CLUSTER_SIZE, "invalid cluster size")                                \
    X(913, CUDA_ERROR_FUNCTION_NOT_LOADED, "the function is not loaded")                           \
    X(914, CUDA_ERROR_INVALID_RESOURCE_TYPE, "invalid resource type")                              \
    X(915, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "invalid resource configuration")            \
    X(916, CUDA_ERROR_KEY_ROTATION, "a key was being changed")                                     \
    X(999, CUDA_ERROR_UNKNOWN, "unknown error")

typedef enum {
#define VGPU_CURESULT_ENUM(value, name, text) name = value,
    VGPU_CURESULT_LIST(VGPU_CURESULT_ENUM)
#undef VGPU_CURESULT_ENUM
        VGPU_CURESULT_FORCE_INT = 0x7fffffff
} CUresult;

#endif
