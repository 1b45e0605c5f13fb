/* SPDX-License-Identifier: MIT */
/* Modules, kernels, launches, and the stages that carry what one request cannot hold. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "guest/carry.h"
#include "guest/deadline.h"
#include "guest/guest.h"

#define STAGE_PIECE                                                                                \
    (VGPU_MAILBOX_BYTES - (uint32_t)sizeof(struct vgpu_request_header) -                           \
     (uint32_t)sizeof(struct vgpu_stage_write))
#define MODULE_INLINE_MAX                                                                          \
    (VGPU_MAILBOX_BYTES - (uint32_t)sizeof(struct vgpu_request_header) -                           \
     (uint32_t)sizeof(struct vgpu_module_load))
/* An argument buffer stands behind two headers, the session's number and ten parameters. */
#define ARGUMENTS_INLINE_MAX (VGPU_MAILBOX_BYTES - 32u - 8u - 32u - VGPU_KERNEL_PARAM_COUNT * 4u)

/* What follows the session's number in the structures of vgpu/protocol.h: build_request writes the
 * number itself. */
#define AFTER_SESSION(structure)       ((const uint8_t *)&(structure) + sizeof(uint64_t))
#define AFTER_SESSION_BYTES(structure) ((uint32_t)(sizeof(structure) - sizeof(uint64_t)))

/* ---- Stages ---- */

static uint32_t take_stage_number(struct vgpu_session *session)
{
    pthread_mutex_lock(&session->lock);
    uint32_t stage = session->next_stage++;
    if (session->next_stage == 0)
        session->next_stage = 1;
    pthread_mutex_unlock(&session->lock);
    return stage;
}

/* What a failed call may wait for the answer to its STAGE_DROP, on top of its own time-out. */
#define DROP_TIMEOUT_MS 1u /* so asked once, and 250 ms for the answer */

static void drop_stage(struct vgpu_session *session, uint32_t stage)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    struct vgpu_stage_drop drop = {.stage = stage};
    struct vgpu_call call = {.what = "STAGE_DROP",
                             .opcode = VGPU_OP_STAGE_DROP,
                             .prefix = AFTER_SESSION(drop),
                             .prefix_length = AFTER_SESSION_BYTES(drop)};
    /* It may be gone, or the session may be: nothing is left to do about either. */
    (void)vgpu_session_call(session, &call, DROP_TIMEOUT_MS, &response, &answer, NULL);
}

int vgpu_stage_drop_after(struct vgpu_session *session, uint32_t stage, int err)
{
    char why[768];
    if (err == -ESTALE)
        return err; /* it went with everything else */
    snprintf(why, sizeof(why), "%s", vgpu_last_error_text());
    drop_stage(session, stage);
    return vgpu_fail(err, "%s", why);
}

int vgpu_stage_fill(struct vgpu_session *session, const char *what, const void *bytes,
                    uint32_t length, uint32_t *stage)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    *stage = take_stage_number(session);
    if (session->channel) {
        bool made;
        int err = vgpu_carry_stage(session, what, *stage, bytes, length, &made);
        if (err == -ESTALE)
            return vgpu_carry_lost(session, what);
        return err != 0 && made ? vgpu_stage_drop_after(session, *stage, err) : err;
    }
    for (uint32_t done = 0; done < length;) {
        uint32_t left = length - done;
        struct vgpu_stage_write piece = {.stage = *stage, .total_bytes = length, .offset = done};
        struct vgpu_call call = {
            .what = what,
            .opcode = VGPU_OP_STAGE_WRITE,
            .prefix = AFTER_SESSION(piece),
            .prefix_length = AFTER_SESSION_BYTES(piece),
            .data = (const uint8_t *)bytes + done,
            .data_length = left < STAGE_PIECE ? left : STAGE_PIECE,
        };
        int err = vgpu_session_call(session, &call, 0, &response, &answer, NULL);
        /* A first piece that was refused has made no stage; one without an answer may have. */
        if (err < 0 || (err > 0 && done != 0))
            return vgpu_stage_drop_after(session, *stage, err);
        if (err > 0)
            return err;
        done += call.data_length;
    }
    return 0;
}

/* ---- Modules ---- */

int vgpu_module_load(struct vgpu_session *session, const void *image, size_t image_bytes,
                     uint64_t *module)
{
    const char *const what = "vgpu_module_load";
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!image || !module || image_bytes == 0)
        return vgpu_fail(-EINVAL, "%s: the image is empty, or a pointer is NULL", what);
    if (image_bytes > VGPU_STAGE_MAX_BYTES)
        return vgpu_fail(-E2BIG, "%s: an image of %zu bytes, the most is %u", what, image_bytes,
                         VGPU_STAGE_MAX_BYTES);
    struct vgpu_module_load load = {0};
    struct vgpu_call call = {.what = what,
                             .opcode = VGPU_OP_MODULE_LOAD,
                             .prefix = AFTER_SESSION(load),
                             .prefix_length = AFTER_SESSION_BYTES(load)};
    bool staged = image_bytes > MODULE_INLINE_MAX;
    if (staged) {
        pthread_mutex_lock(&session->stage_lock);
        err = vgpu_stage_fill(session, what, image, (uint32_t)image_bytes, &load.stage);
    } else {
        call.data = image;
        call.data_length = (uint32_t)image_bytes;
    }
    if (err == 0) {
        err = vgpu_session_call(session, &call, 0, &response, &answer, NULL);
        if (err < 0 && staged)
            err = vgpu_stage_drop_after(session, load.stage, err);
    }
    if (staged)
        pthread_mutex_unlock(&session->stage_lock);
    if (err != 0)
        return err;
    if (answer.result_count != VGPU_MODULE_LOAD_RESULT_COUNT)
        return vgpu_fail(-EBADMSG, "%s: an answer of %" PRIu32 " results, want %u", what,
                         answer.result_count, VGPU_MODULE_LOAD_RESULT_COUNT);
    *module = vgpu_answer_u64(&answer, VGPU_MODULE_LOAD_RESULT_MODULE_LO);
    return 0;
}

int vgpu_module_unload(struct vgpu_session *session, uint64_t module)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    struct vgpu_module_unload unload = {.module = module};
    struct vgpu_call call = {.what = "vgpu_module_unload",
                             .opcode = VGPU_OP_MODULE_UNLOAD,
                             .prefix = AFTER_SESSION(unload),
                             .prefix_length = AFTER_SESSION_BYTES(unload)};
    return vgpu_session_call(session, &call, 0, &response, &answer, NULL);
}

/* MODULE_KERNEL or MODULE_GLOBAL. */
static int look_up(struct vgpu_session *session, const char *what, uint32_t opcode, uint64_t module,
                   const char *name, uint32_t first_param, uint32_t want_results,
                   struct vgpu_response *response, struct vgpu_answer *answer)
{
    size_t length = strlen(name);
    if (length == 0 || length > VGPU_NAME_MAX)
        return vgpu_fail(-EINVAL, "%s: a name has 1 to %u bytes, this one %zu", what, VGPU_NAME_MAX,
                         length);
    struct vgpu_module_name wanted = {.module = module, .first_param = first_param};
    struct vgpu_call call = {.what = what,
                             .opcode = opcode,
                             .prefix = AFTER_SESSION(wanted),
                             .prefix_length = AFTER_SESSION_BYTES(wanted),
                             .data = name,
                             .data_length = (uint32_t)length};
    int err = vgpu_session_call(session, &call, 0, response, answer, NULL);
    if (err == 0 && answer->result_count != want_results)
        err = vgpu_fail(-EBADMSG, "%s: an answer of %" PRIu32 " results, want %" PRIu32, what,
                        answer->result_count, want_results);
    return err;
}

static bool layout_fits(const struct vgpu_param_layout *layout, uint32_t param_bytes)
{
    return layout->offset <= param_bytes && layout->size <= param_bytes - layout->offset;
}

int vgpu_module_function(struct vgpu_session *session, uint64_t module, const char *name,
                         struct vgpu_function *function, struct vgpu_param_layout *layout,
                         uint32_t layout_capacity)
{
    const char *const what = "vgpu_module_function";
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!name || !function || (!layout && layout_capacity))
        return vgpu_fail(-EINVAL, "%s: a pointer is NULL", what);
    uint32_t filled = 0, wanted = 0;
    do {
        err = look_up(session, what, VGPU_OP_MODULE_KERNEL, module, name, filled,
                      VGPU_MODULE_KERNEL_RESULT_COUNT, &response, &answer);
        if (err != 0)
            return err;
        *function = (struct vgpu_function){
            .handle = vgpu_answer_u64(&answer, VGPU_MODULE_KERNEL_RESULT_FUNCTION_LO),
            .param_count = vgpu_answer_u32(&answer, VGPU_MODULE_KERNEL_RESULT_PARAM_COUNT),
            .param_bytes = vgpu_answer_u32(&answer, VGPU_MODULE_KERNEL_RESULT_PARAM_BYTES),
            .max_threads_per_block =
                vgpu_answer_u32(&answer, VGPU_MODULE_KERNEL_RESULT_MAX_THREADS),
            .static_shared_bytes = vgpu_answer_u32(&answer, VGPU_MODULE_KERNEL_RESULT_SHARED_BYTES),
            .local_bytes = vgpu_answer_u32(&answer, VGPU_MODULE_KERNEL_RESULT_LOCAL_BYTES),
        };
        if (function->param_bytes > VGPU_PARAM_BUFFER_MAX ||
            function->param_count > VGPU_PARAM_BUFFER_MAX)
            return vgpu_fail(
                -EBADMSG,
                "%s: an answer of %" PRIu32 " parameters in %" PRIu32 " bytes, the most is %u",
                what, function->param_count, function->param_bytes, VGPU_PARAM_BUFFER_MAX);
        wanted = function->param_count < layout_capacity ? function->param_count : layout_capacity;
        if (wanted <= filled)
            break;
        uint32_t count = answer.data_length / (uint32_t)sizeof(*layout);
        if (count == 0)
            return vgpu_fail(-EBADMSG, "%s: an answer without the layout of parameter %" PRIu32,
                             what, filled);
        if (count > wanted - filled)
            count = wanted - filled;
        memcpy(layout + filled, answer.data, count * sizeof(*layout));
        for (uint32_t i = filled; i < filled + count; i++)
            if (!layout_fits(&layout[i], function->param_bytes))
                return vgpu_fail(-EBADMSG,
                                 "%s: parameter %" PRIu32 " does not lie in the %" PRIu32
                                 " bytes of arguments",
                                 what, i, function->param_bytes);
        filled += count;
    } while (filled < wanted);
    return 0;
}

int vgpu_module_global(struct vgpu_session *session, uint64_t module, const char *name,
                       uint64_t *device_address, uint64_t *size_bytes)
{
    const char *const what = "vgpu_module_global";
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!name || !device_address || !size_bytes)
        return vgpu_fail(-EINVAL, "%s: a pointer is NULL", what);
    err = look_up(session, what, VGPU_OP_MODULE_GLOBAL, module, name, 0,
                  VGPU_MODULE_GLOBAL_RESULT_COUNT, &response, &answer);
    if (err != 0)
        return err;
    *device_address = vgpu_answer_u64(&answer, VGPU_MODULE_GLOBAL_RESULT_ADDRESS_LO);
    *size_bytes = vgpu_answer_u64(&answer, VGPU_MODULE_GLOBAL_RESULT_SIZE_LO);
    return 0;
}

/* ---- Launches ---- */

int vgpu_pack_arguments(const struct vgpu_function *function,
                        const struct vgpu_param_layout *layout, uint32_t count,
                        const void *const *values, void *buffer, size_t buffer_bytes)
{
    const char *const what = "vgpu_pack_arguments";
    if (!function || (count && (!layout || !values || !buffer)))
        return vgpu_fail(-EINVAL, "%s: a pointer is NULL", what);
    if (count != function->param_count)
        return vgpu_fail(-EINVAL,
                         "%s: %" PRIu32 " arguments, the kernel has %" PRIu32 " parameters", what,
                         count, function->param_count);
    if (buffer_bytes < function->param_bytes)
        return vgpu_fail(-EINVAL, "%s: a buffer of %zu bytes, the arguments take %" PRIu32, what,
                         buffer_bytes, function->param_bytes);
    if (function->param_bytes)
        memset(buffer, 0, function->param_bytes);
    for (uint32_t i = 0; i < count; i++) {
        if (!layout_fits(&layout[i], function->param_bytes) || !values[i])
            return vgpu_fail(-EINVAL, "%s: argument %" PRIu32 " is NULL or outside the buffer",
                             what, i);
        memcpy((uint8_t *)buffer + layout[i].offset, values[i], layout[i].size);
    }
    return 0;
}

int vgpu_launch(struct vgpu_session *session, const struct vgpu_launch *launch)
{
    const char *const what = "vgpu_launch";
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!launch || (launch->argument_bytes && !launch->arguments))
        return vgpu_fail(-EINVAL, "%s: a pointer is NULL", what);
    if (launch->argument_bytes > VGPU_PARAM_BUFFER_MAX)
        return vgpu_fail(-EINVAL, "%s: %" PRIu32 " bytes of arguments, the most is %u", what,
                         launch->argument_bytes, VGPU_PARAM_BUFFER_MAX);
    uint32_t params[VGPU_KERNEL_PARAM_COUNT] = {
        [VGPU_KERNEL_FUNCTION_LO] = (uint32_t)launch->function,
        [VGPU_KERNEL_FUNCTION_LO + 1] = (uint32_t)(launch->function >> 32),
        [VGPU_KERNEL_SHARED_BYTES] = launch->dynamic_shared_bytes,
    };
    memcpy(&params[VGPU_KERNEL_GRID_X], launch->grid, sizeof(launch->grid));
    memcpy(&params[VGPU_KERNEL_BLOCK_X], launch->block, sizeof(launch->block));
    struct vgpu_call call = {.what = what,
                             .opcode = VGPU_OP_CUDA_KERNEL,
                             .params = params,
                             .param_count = VGPU_KERNEL_PARAM_COUNT};
    bool staged = launch->argument_bytes > ARGUMENTS_INLINE_MAX;
    if (staged) {
        pthread_mutex_lock(&session->stage_lock);
        err = vgpu_stage_fill(session, what, launch->arguments, launch->argument_bytes,
                              &params[VGPU_KERNEL_ARGS_STAGE]);
    } else {
        call.data = launch->arguments;
        call.data_length = launch->argument_bytes;
    }
    if (err == 0) {
        vgpu_session_queued(session);
        err = vgpu_session_call(session, &call, 0, &response, &answer, NULL);
        if (err < 0 && staged)
            err = vgpu_stage_drop_after(session, params[VGPU_KERNEL_ARGS_STAGE], err);
    }
    if (staged)
        pthread_mutex_unlock(&session->stage_lock);
    return err;
}

/*
 * A SYNCHRONIZE that the caller stopped waiting for goes on at the host, and its answer may carry
 * an error that is told only once. So the next call first takes that answer, by the same number,
 * and then asks anew if anything was queued in between. The number is kept until an answer came:
 * asking under one that the host never saw, or has done with, only makes it a new request (P11).
 */
int vgpu_synchronize(struct vgpu_session *session, uint32_t timeout_ms)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    /* One time-out for both rounds, the session's own too. */
    if (timeout_ms == 0)
        timeout_ms = vgpu_session_timeout_ms(session);
    uint64_t deadline_ns = vgpu_deadline_ns(timeout_ms);
    for (;;) {
        pthread_mutex_lock(&session->lock);
        uint32_t earlier_id = session->sync_request_id;
        bool again = earlier_id != 0 && session->sync_stale;
        session->sync_request_id = 0;
        if (earlier_id == 0)
            session->sync_stale = false; /* from here on others set it, for what this one misses */
        pthread_mutex_unlock(&session->lock);
        struct vgpu_call call = {
            .what = "vgpu_synchronize", .opcode = VGPU_OP_SYNCHRONIZE, .request_id = earlier_id};
        uint32_t asked_id;
        uint32_t remaining_ms = vgpu_remaining_ms(deadline_ns);
        err = vgpu_session_call(session, &call, remaining_ms ? remaining_ms : 1, &response, &answer,
                                &asked_id);
        if (err < 0) {
            pthread_mutex_lock(&session->lock);
            if (session->sync_request_id == 0)
                session->sync_request_id = asked_id ? asked_id : earlier_id;
            pthread_mutex_unlock(&session->lock);
        }
        if (err != 0 || !again)
            return err;
    }
}
