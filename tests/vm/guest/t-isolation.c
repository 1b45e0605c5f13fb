/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two VMs, neither can name, read or free what the other made.
 *
 *   t-isolation hold FILE.ptx
 *     Fills memory in a session and in session 0 with a secret, loads the module, prints a line
 *     SECRET and key=value words, waits for a line on stdin, then checks that all is as it was.
 *   t-isolation probe KEY=VALUE...
 *     Run in another VM with the words of that line: tries everything on those names.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/workload.h"
#include "guest_test.h"
#include "vgpu/curesult.h"

#define SECRET_BYTES 65536u
#define SECRET_BYTE  0xA7

static struct vgpu *gpu;

/* ---- Session 0, which the library does not offer ---- */

static bool bare(uint32_t opcode, const uint32_t *params, uint32_t count, const void *data,
                 uint32_t length, struct vgpu_response *response, struct vgpu_answer *answer)
{
    struct guest_request request;
    guest_request_init(&request, opcode, 0);
    guest_request_params(&request, params, count);
    if (length)
        guest_request_data(&request, data, length);
    return guest_exchange(gpu, &request, response, answer);
}

static bool bare_copy(uint32_t direction, uint64_t address, const void *data, uint32_t length,
                      struct vgpu_response *response, struct vgpu_answer *answer)
{
    uint32_t low = (uint32_t)address, high = (uint32_t)(address >> 32);
    bool down = direction == VGPU_COPY_HTOD;
    const uint32_t params[VGPU_COPY_PARAM_COUNT] = {
        direction, down ? low : 0, down ? high : 0, down ? 0 : low, down ? 0 : high, length, 0};
    return bare(VGPU_OP_MEMORY_COPY, params, VGPU_COPY_PARAM_COUNT, data, down ? length : 0,
                response, answer);
}

/* Anything about a session by its number. Returns the status, or 100000 and the error code. */
static uint32_t about_session(uint32_t opcode, const void *data, uint32_t length)
{
    struct guest_request request;
    struct vgpu_response response;
    struct vgpu_answer answer;
    guest_request_init(&request, opcode, 0);
    guest_request_data(&request, data, length);
    if (!guest_exchange(gpu, &request, &response, &answer))
        return UINT32_MAX;
    return response.error_code ? 100000 + response.error_code : answer.status;
}

static bool all_bytes(const uint8_t *bytes, size_t length, uint8_t value)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static int hold(const char *path)
{
    struct vgpu_session *session;
    struct vgpu_response response;
    struct vgpu_answer answer;
    struct vgpu_function function = {0};
    uint64_t address = 0, bare_address = 0, module = 0;
    static uint8_t secret[SECRET_BYTES], back[SECRET_BYTES];
    char why[256];
    size_t length;
    char *image = workload_read_file(path, &length, why, sizeof(why));
    memset(secret, SECRET_BYTE, sizeof(secret));
    if (!image || vgpu_session_open(gpu, &session) != 0) {
        guest_check(false, "P14", "%s", image ? vgpu_last_error_text() : why);
        free(image);
        return guest_finish("t-isolation", NULL);
    }
    bool good = vgpu_memory_alloc(session, SECRET_BYTES, &address) == 0 &&
                vgpu_copy_to_device(session, address, secret, SECRET_BYTES) == 0;
    guest_check(good, "P14", "%u secret bytes at 0x%" PRIx64, SECRET_BYTES, address);
    guest_check(vgpu_module_load(session, image, length, &module) == 0 &&
                    vgpu_module_function(session, module, "vector_add", &function, NULL, 0) == 0,
                "P14", "a module and a function");
    free(image);
    const uint32_t size[2] = {512, 0};
    good = bare(VGPU_OP_MEMORY_ALLOC, size, 2, NULL, 0, &response, &answer) &&
           response.error_code == 0;
    bare_address = vgpu_answer_u64(&answer, 0);
    good = good && bare_copy(VGPU_COPY_HTOD, bare_address, secret, 512, &response, &answer) &&
           response.error_code == 0;
    guest_check(good, "P14", "512 secret bytes in session 0 at 0x%" PRIx64, bare_address);
    guest_say("SECRET session=%" PRIu64 " address=%" PRIu64 " bare_address=%" PRIu64
              " module=%" PRIu64 " function=%" PRIu64,
              vgpu_session_number(session), address, bare_address, module, function.handle);
    guest_check(guest_wait_line(), "P14", "the line to go on came");
    guest_check(vgpu_copy_from_device(session, back, address, SECRET_BYTES) == 0 &&
                    memcmp(back, secret, SECRET_BYTES) == 0,
                "P14", "the secret is as it was");
    guest_check(bare_copy(VGPU_COPY_DTOH, bare_address, NULL, 512, &response, &answer) &&
                    response.error_code == 0 && answer.data_length == 512 &&
                    all_bytes(answer.data, 512, SECRET_BYTE),
                "P14", "session 0's secret is as it was");
    guest_check(vgpu_memory_free(session, address) == 0, "P14", "and is ours to free");
    guest_check(vgpu_session_close(session) == 0, "P24", "session closed");
    return guest_finish("t-isolation", "mode=hold");
}

static uint64_t word(int argc, char **argv, const char *key)
{
    size_t length = strlen(key);
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], key, length) == 0 && argv[i][length] == '=')
            return strtoull(argv[i] + length + 1, NULL, 10);
    fprintf(stderr, "t-isolation: %s=NUMBER is missing\n", key);
    exit(2);
}

/* Whether a piece read from an address that is not ours shows nothing of the other VM. */
static void probe_read(struct vgpu_session *session, uint64_t address, const char *what)
{
    uint8_t piece[512];
    memset(piece, 0x11, sizeof(piece));
    int err = vgpu_copy_from_device(session, piece, address, sizeof(piece));
    guest_check(err == CUDA_ERROR_INVALID_VALUE, "P14", "%s cannot be read (result %d)", what, err);
    guest_check(all_bytes(piece, sizeof(piece), 0x11), "P14", "%s shows nothing", what);
}

static int probe(int argc, char **argv)
{
    const uint64_t number = word(argc, argv, "session"), address = word(argc, argv, "address");
    const uint64_t bare_address = word(argc, argv, "bare_address");
    const uint64_t module = word(argc, argv, "module"), handle = word(argc, argv, "function");
    struct vgpu_session *session;
    struct vgpu_response response;
    struct vgpu_answer answer;
    struct vgpu_function function;
    uint8_t piece[512];
    memset(piece, 0x33, sizeof(piece));
    if (vgpu_session_open(gpu, &session) != 0) {
        guest_check(false, "P14", "%s", vgpu_last_error_text());
        return guest_finish("t-isolation", NULL);
    }
    /* Addresses, before this VM has any memory: whatever they are, they are not ours. */
    probe_read(session, address, "the other's memory");
    probe_read(session, bare_address, "the other's memory in session 0");
    int err = vgpu_copy_to_device(session, address, piece, sizeof(piece));
    guest_check(err == CUDA_ERROR_INVALID_VALUE, "P14", "it cannot be written (result %d)", err);
    err = vgpu_memory_free(session, address);
    guest_check(err == CUDA_ERROR_INVALID_VALUE, "P14", "it cannot be freed (result %d)", err);
    bool answered = bare_copy(VGPU_COPY_DTOH, bare_address, NULL, 512, &response, &answer);
    guest_check(answered && response.error_code == VGPU_ERR_CUDA &&
                    answer.status == CUDA_ERROR_INVALID_VALUE,
                "P14", "nor read from our own session 0 (status %" PRIu32 ")", answer.status);

    /* Handles. */
    err = vgpu_module_function(session, module, "vector_add", &function, NULL, 0);
    guest_check(err == CUDA_ERROR_INVALID_HANDLE, "P14", "its module means nothing here (%d)", err);
    err = vgpu_module_unload(session, module);
    guest_check(err == CUDA_ERROR_INVALID_HANDLE, "P14", "and cannot be unloaded (%d)", err);
    struct vgpu_launch launch = {.function = handle, .grid = {1, 1, 1}, .block = {1, 1, 1}};
    err = vgpu_launch(session, &launch);
    guest_check(err == CUDA_ERROR_INVALID_HANDLE, "P14", "its function cannot be launched (%d)",
                err);

    /* The session by its number. */
    struct {
        uint64_t session;
        struct vgpu_request_header nop;
    } wrapped = {number, {.version = VGPU_PROTOCOL_VERSION, .opcode = VGPU_OP_NOP}};
    uint32_t status = about_session(VGPU_OP_SESSION_REQUEST, &wrapped, sizeof(wrapped));
    guest_check(status == CUDA_ERROR_INVALID_CONTEXT, "P15",
                "its session's number is not open here (status %" PRIu32 ")", status);
    status = about_session(VGPU_OP_SESSION_CLOSE, &number, sizeof(number));
    guest_check(status == CUDA_ERROR_INVALID_CONTEXT, "P15",
                "and cannot be closed from here (status %" PRIu32 ")", status);
    status = about_session(VGPU_OP_SESSION_OPEN, &number, sizeof(number));
    guest_check(status == CUDA_SUCCESS, "P14",
                "the number is free for a session of our own (status %" PRIu32 ")", status);
    status = about_session(VGPU_OP_SESSION_CLOSE, &number, sizeof(number));
    guest_check(status == CUDA_SUCCESS, "P14", "which closes without harm");

    /* Fresh memory, which may stand at the same address and may be the same pages as something of
     * the other's from before. */
    static uint8_t fresh[SECRET_BYTES];
    uint64_t mine = 0;
    for (int i = 0; i < 4; i++) {
        memset(fresh, 0x44, sizeof(fresh));
        bool good = vgpu_memory_alloc(session, SECRET_BYTES, &mine) == 0 &&
                    vgpu_copy_from_device(session, fresh, mine, SECRET_BYTES) == 0 &&
                    all_bytes(fresh, SECRET_BYTES, 0);
        guest_check(good, "P20", "new memory at 0x%" PRIx64 " reads as zero", mine);
    }
    guest_check(vgpu_session_close(session) == 0, "P24", "session closed");
    return guest_finish("t-isolation", "mode=probe");
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    bool holding = argc == 3 && strcmp(argv[1], "hold") == 0;
    if (!holding && (argc < 3 || strcmp(argv[1], "probe") != 0)) {
        fprintf(stderr, "t-isolation: wrong arguments; see the top of t-isolation.c\n");
        return 2;
    }
    gpu = guest_open("t-isolation", &options);
    int status = holding ? hold(argv[2]) : probe(argc - 2, argv + 2);
    vgpu_cleanup(gpu);
    return status;
}
