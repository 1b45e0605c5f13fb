/* SPDX-License-Identifier: MIT */
/*
 * libvgpu: the guest's way to its vgpu device. Depends on libc only.
 *
 * Two levels. The lower one carries any request through the mailbox (docs/protocol.md):
 * vgpu_send_request, vgpu_poll_status, vgpu_read_response, or the three in one,
 * vgpu_execute_request. The upper one, from vgpu_session_open on, is typed: memory, copies,
 * modules, launches.
 *
 * Results. Every function that returns int returns
 *      0    success,
 *     < 0   a negative errno: the request could not be made, carried or understood,
 *     > 0   a CUresult: the GPU's answer was no (typed functions only; names: vgpu_result_name).
 * After anything but 0, vgpu_last_error_text() says in words what was wrong and what to do.
 * Errors that any function may return, and that are not repeated below:
 *     -EINVAL     an argument is out of range or NULL
 *     -ECHILD     the handle was made before a fork, see there
 *     -ETIMEDOUT  no answer in the time given
 *     -ENOLINK    no mediator is attached to the device (ERROR_CODE 3)
 *     -ENODEV     the device is gone, or not one of ours
 *     -ESTALE     GENERATION moved: everything made before is gone; close the session
 *                 and open another
 *     -EBADMSG    the host answered something that is no valid response
 *     -EPROTO     the host says that the request was invalid (ERROR_CODE 1, 2, 9)
 *     -EAGAIN     too much in flight or too many sessions (ERROR_CODE 7, 0x0A);
 *                 later it may work
 *     -EOPNOTSUPP the host does not know the operation (ERROR_CODE 8)
 *     -EACCES     the VM is quarantined (ERROR_CODE 0x0B), or a file's permissions are
 *                 in the way
 *     -EIO        any other failure of the device
 *
 * Time-outs are in milliseconds; 0 means the handle's own (struct vgpu_options.timeout_ms) unless
 * said otherwise. The host itself gives a request up after `timeout_ms` of the device, 30 s unless
 * configured, so longer waits than that only matter to calls that ask again (vgpu_synchronize).
 * Typed calls may take up to 250 ms longer, for the host's last answer; a load or a launch whose
 * bytes were staged another 250 ms when it fails, to drop the stage. What goes in pieces (copies,
 * loads and arguments that one request cannot hold) has the time-out for each piece, not for all.
 *
 * Threads. Handles and sessions may be used by any number of threads at once; requests of one
 * handle go one after the other. Only vgpu_cleanup and vgpu_session_close must be the last call on
 * their object. The error text is each thread's own.
 *
 * Processes. Any number of processes share the mailbox. Its lock is held for one request only and
 * falls open when its holder dies; the next one waits for what the dead one left running, and never
 * takes its answer for its own. When a program dies with sessions open, the next vgpu_session_open
 * in the VM ends them (files in the run directory tell it which).
 *
 * fork. A handle belongs to the process that made it. In a child every function returns -ECHILD,
 * but vgpu_cleanup, which there only frees the child's copy and closes its descriptors; a child
 * that lives on without exec should call it, since it holds its parent's locks otherwise.
 *
 * Trust. The library checks whatever comes back from the host before it uses it.
 */
#ifndef VGPU_MMIO_CLIENT_H
#define VGPU_MMIO_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vgpu/protocol.h"
#include "vgpu/registers.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VGPU_API __attribute__((visibility("default")))

/* ---- Finding and opening a device ---- */

struct vgpu;         /* a device opened by this process */
struct vgpu_session; /* a session on it */

/* How to open. Zero everything but what you set; struct_size says which fields there are. */
struct vgpu_options {
    size_t struct_size; /* sizeof(struct vgpu_options) */
    /*
     * "pci:0000:00:04.0": that PCI device (any vendor; class and registers are checked).
     * "local:/path/to/socket": no device, a mediator's own socket on this host.
     * NULL: what the environment variable VGPU_DEVICE says, else the first PCI device found.
     */
    const char *device;
    uint32_t timeout_ms;    /* of requests; 0: 35000 */
    const char *run_dir;    /* where open sessions are recorded; NULL: /run/vgpu */
    const char *sysfs_root; /* where PCI devices are listed; NULL: /sys/bus/pci/devices */
    const char *resource0;  /* file to map as BAR0 whatever sysfs says, for tests; NULL: none */
    /* Only for "local:": what to wish for, as a device's properties would. */
    uint32_t local_vm_id;
    uint32_t local_pool_id;  /* 'A' to 'Z'; 0: 'A' */
    uint32_t local_priority; /* enum vgpu_priority */
    /*
     * How a session's requests travel. "channel": by shared memory, and opening a session fails
     * where there is no channel to be had. "mailbox": by the mailbox. "auto": by a channel when
     * there is one, else by the mailbox. NULL: what the environment variable VGPU_TRANSPORT says,
     * else "auto".
     */
    const char *transport;
    /* Bytes of the window that "local:" asks for, 1 MiB to 1 TiB. 0: what the environment variable
     * VGPU_WINDOW says (0 there: none), else 256 MiB. A device has its own, whatever is said here.
     */
    uint64_t local_window_bytes;
    const char *resource2; /* with resource0: file to map as BAR2, for tests; NULL: none */
};
#define VGPU_OPTIONS_INIT                                                                          \
    {                                                                                              \
        .struct_size = sizeof(struct vgpu_options), .local_priority = VGPU_PRIORITY_MEDIUM         \
    }

/* One PCI device of ours. */
struct vgpu_device_entry {
    char address[32]; /* "0000:00:04.0" */
    uint16_t vendor_id;
    uint16_t device_id;
    uint32_t class_code; /* 0x120000: class, subclass, interface */
    uint64_t bar0_bytes; /* 0: not known */
    bool accessible;     /* this process may open BAR0 for reading and writing */
};

/*
 * Lists the PCI devices with our vendor, device and class numbers, ordered by address. Fills up to
 * `capacity` entries; *count is how many there are, which may be more. options may be NULL; only
 * sysfs_root counts. No device is no error. Errors: -ENOENT when the list of PCI devices cannot be
 * read.
 */
VGPU_API int vgpu_list_devices(const struct vgpu_options *options,
                               struct vgpu_device_entry *entries, size_t capacity, size_t *count);

/*
 * Opens a device. options may be NULL: all defaults. On success *handle is to be given to
 * vgpu_cleanup. Errors: -ENODEV no such device, or one that is not ours (class, size of BAR0,
 * major version); -EACCES no permission; -ENOMEM; for "local:" also -ECONNREFUSED and -ENOENT, or
 * -EPERM when the mediator refused this client.
 */
VGPU_API int vgpu_init(const struct vgpu_options *options, struct vgpu **handle);

/* Closes the sessions that are still open, then the device. NULL is allowed. */
VGPU_API void vgpu_cleanup(struct vgpu *gpu);

/* ---- Words ---- */

/* What went wrong in this thread's last call that did not return 0. Never NULL; valid until the
 * thread's next call. */
VGPU_API const char *vgpu_last_error_text(void);
/* "CUDA_ERROR_OUT_OF_MEMORY" and "out of memory"; a number without a name gives "CUDA_ERROR" and
 * "unrecognized error". Static. */
VGPU_API const char *vgpu_result_name(uint32_t cuda_result);
VGPU_API const char *vgpu_result_text(uint32_t cuda_result);
/* The register ERROR_CODE in words: "mediator unavailable". Static. */
VGPU_API const char *vgpu_error_code_text(uint32_t error_code);
/* STATUS in words: "IDLE". Static. */
VGPU_API const char *vgpu_status_text(uint32_t status);

/* ---- Registers ---- */

/* Address of the device: "pci:0000:00:04.0" or "local:/path". Static for the life of the handle. */
VGPU_API const char *vgpu_address(const struct vgpu *gpu);

/*
 * Each reads one register now; see docs/register-map.md for their meaning. No lock is taken and no
 * request made. With "local:" they show what the mediator's welcome said. Errors: -ENODEV when the
 * device is gone (it reads all ones).
 */
VGPU_API int vgpu_pool(struct vgpu *gpu, uint32_t *letter);       /* 'A' to 'Z' */
VGPU_API int vgpu_priority(struct vgpu *gpu, uint32_t *priority); /* enum vgpu_priority */
VGPU_API int vgpu_vm_id(struct vgpu *gpu, uint32_t *vm_id);
VGPU_API int vgpu_protocol_version(struct vgpu *gpu, uint32_t *version); /* major << 16 | minor */
VGPU_API int vgpu_capabilities(struct vgpu *gpu, uint32_t *bits);        /* VGPU_CAP_* */
VGPU_API int vgpu_generation(struct vgpu *gpu, uint32_t *generation);
VGPU_API int vgpu_link_state(struct vgpu *gpu, uint32_t *bits); /* VGPU_LINK_ATTACHED */
/* The words WINDOW_SIZE, CHANNEL_COUNT and CHANNEL_SIZE; 0 in devices without a window. */
VGPU_API int vgpu_window(struct vgpu *gpu, uint64_t *window_bytes, uint32_t *channels,
                         uint32_t *channel_bytes);

/* What this handle has carried. */
struct vgpu_statistics {
    uint64_t requests;          /* sent, the repeated ones included */
    uint64_t request_bytes;     /* in them */
    uint64_t response_bytes;    /* read */
    uint64_t not_yet;           /* answers that said "not yet", so that the request was repeated */
    uint64_t bytes_to_device;   /* of data, by vgpu_copy_to_device */
    uint64_t bytes_from_device; /* of data, by vgpu_copy_from_device */
};
VGPU_API int vgpu_read_statistics(struct vgpu *gpu, struct vgpu_statistics *statistics);

/* ---- The mailbox ---- */

/* A completed request. */
struct vgpu_response {
    uint32_t status;     /* VGPU_STATUS_DONE or VGPU_STATUS_ERROR */
    uint32_t error_code; /* enum vgpu_error; 0 when status is DONE */
    uint32_t generation; /* GENERATION, read after the response: when it is not what you knew, the
                            response may be torn and what you made is gone */
    uint32_t length;     /* bytes, 0 to VGPU_MAILBOX_BYTES */
    uint8_t bytes[VGPU_MAILBOX_BYTES];
};

/* A REQUEST_ID that this handle has not used: a counter that began at a random number. Never 0. */
VGPU_API uint32_t vgpu_next_request_id(struct vgpu *gpu);

/*
 * Waits for the mailbox (other threads, other processes, what a dead one left running), writes the
 * request, rings the doorbell. request_id 0: a new one; else the one to repeat (P11). The caller
 * owns the mailbox until vgpu_read_response or vgpu_abandon_request, which must come from the same
 * thread. `length` is 1 to VGPU_MAILBOX_BYTES. Errors: -EBUSY this thread has a request already;
 * -ETIMEDOUT the mailbox did not become free.
 */
VGPU_API int vgpu_send_request(struct vgpu *gpu, const void *request, uint32_t length,
                               uint32_t request_id, uint32_t timeout_ms);
/*
 * Waits until the request has completed. timeout_ms 0 looks once. *status (may be NULL) is STATUS.
 * Errors: -ETIMEDOUT it is still BUSY; you may ask again. -ECONNRESET the device was reset under
 * it: no answer will come, and the mailbox is no longer yours. -EPERM this thread has no request.
 */
VGPU_API int vgpu_poll_status(struct vgpu *gpu, uint32_t timeout_ms, uint32_t *status);
/*
 * Takes the response of a completed request, acknowledges it and frees the mailbox, also on error.
 * Errors: -EINPROGRESS not completed, the mailbox stays yours; -EPERM; -EBADMSG RESPONSE_LEN is
 * over 1024.
 */
VGPU_API int vgpu_read_response(struct vgpu *gpu, struct vgpu_response *response);
/* Stops waiting for this thread's request. What it does on the host is not undone by that. */
VGPU_API int vgpu_abandon_request(struct vgpu *gpu);

/*
 * Send, wait, read. Returns 0 when the device answered, with whatever error code: look at
 * response->error_code. After -ETIMEDOUT the request may still run on the host.
 */
VGPU_API int vgpu_execute_request(struct vgpu *gpu, const void *request, uint32_t length,
                                  uint32_t request_id, uint32_t timeout_ms,
                                  struct vgpu_response *response);

/* A response taken apart. The pointers point into what was parsed. */
struct vgpu_answer {
    uint32_t status; /* CUresult */
    uint32_t result_count;
    const uint8_t *results; /* little-endian words, may be unaligned: read with vgpu_answer_* */
    uint32_t data_length;
    const uint8_t *data; /* NULL when data_length is 0 */
    uint32_t exec_time_us;
};
/*
 * Checks every length and offset of a response's bytes. Zero bytes are a valid answer: status 0,
 * nothing else (what an ASYNC request gets). Errors: -EBADMSG.
 */
VGPU_API int vgpu_response_parse(const void *bytes, uint32_t length, struct vgpu_answer *answer);
/* Word `index` of the results, and the u64 that starts there; 0 beyond the end. */
VGPU_API uint32_t vgpu_answer_u32(const struct vgpu_answer *answer, uint32_t index);
VGPU_API uint64_t vgpu_answer_u64(const struct vgpu_answer *answer, uint32_t index);

/* ---- Sessions ---- */

/*
 * Opens a session: a GPU context of this program's own. First ends those of programs that died, in
 * a tenth of the time-out at most: what is left then is left to the next opener. *session is to be
 * given to vgpu_session_close. When the session cannot be recorded in the run directory the call
 * succeeds all the same and vgpu_session_recorded says so. Errors: -EAGAIN, at once, the VM has as
 * many sessions as it may; -ESTALE the device was reset, or its mediator restarted, twice
 * meanwhile; CUresults of the mediator.
 */
VGPU_API int vgpu_session_open(struct vgpu *gpu, struct vgpu_session **session);
/* Ends it and frees everything it had, on the host too. NULL is allowed. The object is gone
 * whatever is returned; an error only says that the host could not be told. */
VGPU_API int vgpu_session_close(struct vgpu_session *session);
/* The number that names it in requests. */
VGPU_API uint64_t vgpu_session_number(const struct vgpu_session *session);
/* Whether the next program could clean up after this one. When not, *why (may be NULL) says why;
 * valid as long as the session. Always true with "local:", where the connection's end does it. */
VGPU_API bool vgpu_session_recorded(const struct vgpu_session *session, const char **why);
/*
 * How its requests travel, for a person: "channel 3 of 16, in a window of 256 MiB", or "mailbox: "
 * and why there is no channel. Valid as long as the session.
 */
VGPU_API const char *vgpu_session_transport(const struct vgpu_session *session);
/* Time-out of this session's calls, ms; 0: the handle's. A call that waits for the GPU asks again
 * until then. */
VGPU_API void vgpu_session_set_timeout(struct vgpu_session *session, uint32_t timeout_ms);

VGPU_API int vgpu_device_info(struct vgpu_session *session, struct vgpu_device_info_wire *info);

/* Does nothing on the host's side of the session. */
VGPU_API int vgpu_nop(struct vgpu_session *session);

/* ---- Memory ---- */

/* New memory reads as zero. size_bytes at least 1. */
VGPU_API int vgpu_memory_alloc(struct vgpu_session *session, uint64_t size_bytes,
                               uint64_t *device_address);
/* Waits for launches before it. The address must be exactly an allocation's. */
VGPU_API int vgpu_memory_free(struct vgpu_session *session, uint64_t device_address);
/*
 * Copies of any size; 0 bytes do nothing. They go through the mailbox in pieces, in order with
 * launches. vgpu_copy_to_device returns when the host has all of it, which a later failure of the
 * GPU does not undo; that is reported by the next vgpu_synchronize. After an error, part of it may
 * have been copied.
 */
VGPU_API int vgpu_copy_to_device(struct vgpu_session *session, uint64_t device_address,
                                 const void *source, size_t size_bytes);
VGPU_API int vgpu_copy_from_device(struct vgpu_session *session, void *destination,
                                   uint64_t device_address, size_t size_bytes);
VGPU_API int vgpu_copy_on_device(struct vgpu_session *session, uint64_t destination,
                                 uint64_t source, uint64_t size_bytes);
/* Bytes of the largest piece in one request. */
#define VGPU_PIECE_TO_DEVICE   920u
#define VGPU_PIECE_FROM_DEVICE 992u

/* ---- Modules and kernels ---- */

/*
 * Loads PTX text or a fatbin of up to VGPU_STAGE_MAX_BYTES; a larger image than one request holds
 * is staged in pieces. When the GPU's compiler refuses it, the result is its CUresult and the error
 * text its log. Errors: -E2BIG.
 */
VGPU_API int vgpu_module_load(struct vgpu_session *session, const void *image, size_t image_bytes,
                              uint64_t *module);
VGPU_API int vgpu_module_unload(struct vgpu_session *session, uint64_t module);

struct vgpu_function {
    uint64_t handle;
    uint32_t param_count;
    uint32_t param_bytes;           /* size of the argument buffer, 0 to VGPU_PARAM_BUFFER_MAX */
    uint32_t max_threads_per_block; /* 0: not known */
    uint32_t static_shared_bytes;
    uint32_t local_bytes; /* a thread */
};
/*
 * Looks a kernel up. Fills up to `layout_capacity` entries of `layout` (NULL when 0) with where
 * each parameter stands in the argument buffer. CUDA_ERROR_NOT_FOUND when the module has no such
 * kernel.
 */
VGPU_API int vgpu_module_function(struct vgpu_session *session, uint64_t module, const char *name,
                                  struct vgpu_function *function, struct vgpu_param_layout *layout,
                                  uint32_t layout_capacity);
VGPU_API int vgpu_module_global(struct vgpu_session *session, uint64_t module, const char *name,
                                uint64_t *device_address, uint64_t *size_bytes);

/*
 * Lays an argument buffer out: values[i] points to parameter i, of layout[i].size bytes. `buffer`
 * has `buffer_bytes`, at least function->param_bytes, and is zeroed first. Talks to nobody. `count`
 * must be function->param_count.
 */
VGPU_API int vgpu_pack_arguments(const struct vgpu_function *function,
                                 const struct vgpu_param_layout *layout, uint32_t count,
                                 const void *const *values, void *buffer, size_t buffer_bytes);

struct vgpu_launch {
    uint64_t function; /* struct vgpu_function.handle */
    uint32_t grid[3];  /* blocks */
    uint32_t block[3]; /* threads */
    uint32_t dynamic_shared_bytes;
    uint32_t argument_bytes; /* exactly the function's param_bytes */
    const void *arguments;   /* laid out; NULL when argument_bytes is 0 */
};
/* Queues a launch. What goes wrong while it runs is reported by vgpu_synchronize. */
VGPU_API int vgpu_launch(struct vgpu_session *session, const struct vgpu_launch *launch);

/*
 * Waits until everything queued has run, asking again as often as the host says "not yet". Returns
 * the first failure since the last report, if any. timeout_ms 0: the session's. After -ETIMEDOUT
 * the work goes on, and the next call goes on waiting for it; after any other negative result too,
 * where there is still something to wait for.
 */
VGPU_API int vgpu_synchronize(struct vgpu_session *session, uint32_t timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
