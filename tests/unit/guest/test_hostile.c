/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers that are no answers: every length, offset and count that a host could get wrong, and
 * devices that are not ours. The library says so and reads nothing outside what came. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"
#include "vgpu/curesult.h"
#include "vgpu_test.h"

/* ---- vgpu_response_parse, on exactly sized memory so that the sanitizer sees a byte too far ----
 */

static int parse(const void *bytes, uint32_t length, struct vgpu_answer *answer)
{
    void *exact = malloc(length ? length : 1);
    memcpy(exact, bytes, length);
    int err = vgpu_response_parse(exact, length, answer);
    if (err == 0) { /* touch everything that was promised */
        volatile uint8_t sum = 0;
        for (uint32_t i = 0; i < answer->result_count; i++)
            sum ^= (uint8_t)vgpu_answer_u32(answer, i);
        for (uint32_t i = 0; i < answer->data_length; i++)
            sum ^= answer->data[i];
        (void)sum;
    }
    free(exact);
    return err;
}

static void test_parse_rules(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint32_t length;
        struct vgpu_response_header header;
        int want;
    } cases[] = {
        {"only a header", 32, {.version = 0x10000}, 0},
        {"results", 40, {.version = 0x10000, .result_count = 2}, 0},
        {"data", 48, {.version = 0x10000, .data_offset = 32, .data_length = 16}, 0},
        {"offset ignored without data", 32, {.version = 0x10000, .data_offset = 4242}, 0},
        {"short header", 31, {.version = 0x10000}, -EBADMSG},
        {"one byte", 1, {.version = 0x10000}, -EBADMSG},
        {"over the buffer", 1025, {.version = 0x10000}, -EBADMSG},
        {"version 0", 32, {.version = 0}, -EBADMSG},
        {"version 2", 32, {.version = 0x20000}, -EBADMSG},
        {"a result too many", 40, {.version = 0x10000, .result_count = 3}, -EBADMSG},
        {"results overflow", 40, {.version = 0x10000, .result_count = 0x40000001}, -EBADMSG},
        {"results huge", 40, {.version = 0x10000, .result_count = UINT32_MAX}, -EBADMSG},
        {"data in the header",
         48,
         {.version = 0x10000, .data_offset = 24, .data_length = 8},
         -EBADMSG},
        {"data at 0", 48, {.version = 0x10000, .data_length = 8}, -EBADMSG},
        {"data over the results",
         48,
         {.version = 0x10000, .result_count = 2, .data_offset = 32, .data_length = 8},
         -EBADMSG},
        {"odd offset", 48, {.version = 0x10000, .data_offset = 36, .data_length = 4}, -EBADMSG},
        {"a byte too much",
         48,
         {.version = 0x10000, .data_offset = 32, .data_length = 17},
         -EBADMSG},
        {"offset past the end",
         48,
         {.version = 0x10000, .data_offset = 56, .data_length = 1},
         -EBADMSG},
        {"offset plus length wraps",
         48,
         {.version = 0x10000, .data_offset = 0xFFFFFFF8, .data_length = 16},
         -EBADMSG},
        {"length huge",
         48,
         {.version = 0x10000, .data_offset = 32, .data_length = UINT32_MAX},
         -EBADMSG},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[1100] = {0};
        struct vgpu_answer answer;
        memcpy(bytes, &cases[i].header, sizeof(cases[i].header));
        int err = parse(bytes, cases[i].length, &answer);
        if (err != cases[i].want)
            fail_msg("%s: %d, want %d", cases[i].what, err, cases[i].want);
    }
    struct vgpu_answer answer;
    assert_int_equal(vgpu_response_parse(NULL, 0, &answer), 0);
    assert_int_equal(answer.status, 0);
    assert_int_equal(vgpu_response_parse(NULL, 4, &answer), -EINVAL);
    assert_int_equal(vgpu_answer_u64(&answer, 0), 0);
    assert_int_equal(vgpu_answer_u64(&answer, UINT32_MAX), 0);
}

/* Random bytes, with a plausible version half of the time. */
static void test_parse_random(void **state)
{
    (void)state;
    uint32_t x = 12345;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[VGPU_MAILBOX_BYTES];
        struct vgpu_answer answer;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        uint32_t length = x % 120;
        for (uint32_t i = 0; i < length; i++) {
            x = x * 1664525 + 1013904223;
            bytes[i] = (x >> 24) & ((x & 0x30000) ? 0x1F : 0xFF);
        }
        if (round & 1 && length >= 4)
            memcpy(bytes, &(uint32_t){VGPU_PROTOCOL_VERSION}, 4);
        int err = parse(bytes, length, &answer);
        assert_true(err == 0 || err == -EBADMSG);
    }
}

/* ---- A host that lies about one request ---- */

struct liar {
    struct host host;
    uint32_t opcode; /* of the request that is lied about, the inner one */
    uint32_t error_code;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    uint32_t length;
};

static uint32_t inner_opcode(const struct model_request *request)
{
    struct vgpu_request_header header;
    memcpy(&header, request->bytes, sizeof(header));
    if (header.opcode == VGPU_OP_SESSION_REQUEST)
        memcpy(&header, request->bytes + 40, sizeof(header));
    return header.opcode;
}

static void handle_lie(struct model *model, const struct model_request *request)
{
    struct liar *liar = model->context;
    if (inner_opcode(request) == liar->opcode)
        model_respond(model, request->seq, liar->error_code, liar->bytes, liar->length);
    else
        host_handle(model, request); /* liar->host comes first, so it is the context too */
}

struct fixture {
    struct model *model;
    struct vgpu *gpu;
    struct vgpu_session *session;
    struct liar liar;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    host_init(&f->liar.host);
    f->liar.opcode = UINT32_MAX;
    f->model = model_start(handle_lie, &f->liar);
    struct vgpu_options options = model_options(f->model);
    options.timeout_ms = 3000;
    assert_int_equal(vgpu_init(&options, &f->gpu), 0);
    assert_int_equal(vgpu_session_open(f->gpu, &f->session), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    model_lock(f->model);
    f->liar.opcode = UINT32_MAX;
    model_unlock(f->model);
    vgpu_cleanup(f->gpu);
    model_stop(f->model);
    host_free(&f->liar.host);
    free(f);
    return 0;
}

static void lie(struct fixture *f, uint32_t opcode, uint32_t error_code, const uint32_t *results,
                uint32_t result_count, const void *data, uint32_t data_length)
{
    model_lock(f->model);
    f->liar.opcode = opcode;
    f->liar.error_code = error_code;
    f->liar.length =
        model_build_response(f->liar.bytes, 0, results, result_count, data, data_length);
    model_unlock(f->model);
}

static void lie_raw(struct fixture *f, uint32_t opcode, const void *bytes, uint32_t length)
{
    model_lock(f->model);
    f->liar.opcode = opcode;
    f->liar.error_code = 0;
    memcpy(f->liar.bytes, bytes, length);
    f->liar.length = length;
    model_unlock(f->model);
}

static void test_wrong_shapes(void **state)
{
    struct fixture *f = *state;
    struct vgpu_device_info_wire info;
    uint64_t address, size;
    uint8_t bytes[100];
    const uint32_t words[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    lie(f, VGPU_OP_MEMORY_ALLOC, 0, words, 1, NULL, 0);
    assert_int_equal(vgpu_memory_alloc(f->session, 64, &address), -EBADMSG);
    lie(f, VGPU_OP_MEMORY_ALLOC, 0, words, 3, NULL, 0);
    assert_int_equal(vgpu_memory_alloc(f->session, 64, &address), -EBADMSG);
    lie_raw(f, VGPU_OP_MEMORY_ALLOC, "", 0); /* a success that says nothing */
    assert_int_equal(vgpu_memory_alloc(f->session, 64, &address), -EBADMSG);
    lie_raw(f, VGPU_OP_MEMORY_ALLOC, "shrt", 4);
    assert_int_equal(vgpu_memory_alloc(f->session, 64, &address), -EBADMSG);
    lie(f, VGPU_OP_MEMORY_COPY, 0, NULL, 0, words, 32);
    assert_int_equal(vgpu_copy_from_device(f->session, bytes, 4096, 31), -EBADMSG);
    assert_int_equal(vgpu_copy_from_device(f->session, bytes, 4096, 33), -EBADMSG);
    lie(f, VGPU_OP_GET_DEVICE_INFO, 0, NULL, 0, words, 32);
    assert_int_equal(vgpu_device_info(f->session, &info), -EBADMSG);
    lie(f, VGPU_OP_MODULE_LOAD, 0, words, 1, NULL, 0);
    assert_int_equal(vgpu_module_load(f->session, "x", 1, &address), -EBADMSG);
    lie(f, VGPU_OP_MODULE_GLOBAL, 0, words, 2, NULL, 0);
    assert_int_equal(vgpu_module_global(f->session, 1, "g", &address, &size), -EBADMSG);
    lie(f, VGPU_OP_MODULE_GLOBAL, 0, words, 4, NULL, 0);
    assert_int_equal(vgpu_module_global(f->session, 1, "g", &address, &size), 0);
    assert_true(address == 0x200000001ull && size == 0x400000003ull);
}

/* Names without an end in a device info. */
static void test_unended_names(void **state)
{
    struct fixture *f = *state;
    struct vgpu_device_info_wire info;
    uint8_t raw[sizeof(info)];
    memset(raw, 'N', sizeof(raw));
    lie(f, VGPU_OP_GET_DEVICE_INFO, 0, NULL, 0, raw, sizeof(raw));
    assert_int_equal(vgpu_device_info(f->session, &info), 0);
    assert_int_equal(strlen(info.name), 63);
    assert_int_equal(strlen(info.backend), 15);
}

static void test_function_lies(void **state)
{
    struct fixture *f = *state;
    struct vgpu_function function;
    struct vgpu_param_layout layout[8], told[2] = {{0, 8}, {8, 8}};
    uint32_t results[7] = {1, 0, 2, 16, 0, 0, 0};
    lie(f, VGPU_OP_MODULE_KERNEL, 0, results, 7, told, sizeof(told));
    assert_int_equal(vgpu_module_function(f->session, 1, "k", &function, layout, 8), 0);
    lie(f, VGPU_OP_MODULE_KERNEL, 0, results, 7, NULL, 0); /* no layout, for ever */
    assert_int_equal(vgpu_module_function(f->session, 1, "k", &function, layout, 8), -EBADMSG);
    told[1].offset = 9; /* past the buffer */
    lie(f, VGPU_OP_MODULE_KERNEL, 0, results, 7, told, sizeof(told));
    assert_int_equal(vgpu_module_function(f->session, 1, "k", &function, layout, 8), -EBADMSG);
    told[1] = (struct vgpu_param_layout){UINT32_MAX, 2};
    lie(f, VGPU_OP_MODULE_KERNEL, 0, results, 7, told, sizeof(told));
    assert_int_equal(vgpu_module_function(f->session, 1, "k", &function, layout, 8), -EBADMSG);
    told[1] = (struct vgpu_param_layout){8, UINT32_MAX};
    lie(f, VGPU_OP_MODULE_KERNEL, 0, results, 7, told, sizeof(told));
    assert_int_equal(vgpu_module_function(f->session, 1, "k", &function, layout, 8), -EBADMSG);
    results[3] = 4097;
    lie(f, VGPU_OP_MODULE_KERNEL, 0, results, 7, told, sizeof(told));
    assert_int_equal(vgpu_module_function(f->session, 1, "k", &function, layout, 8), -EBADMSG);
    results[3] = 16;
    results[2] = UINT32_MAX;
    lie(f, VGPU_OP_MODULE_KERNEL, 0, results, 7, told, sizeof(told));
    assert_int_equal(vgpu_module_function(f->session, 1, "k", &function, layout, 8), -EBADMSG);
}

/* Each ERROR_CODE, known or not, is a failure of the request with a text. */
static void test_error_codes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint32_t code;
        int want;
        const char *advice; /* what the text tells a person to do */
    } cases[] = {
        {1, -EPROTO, NULL},
        {2, -EPROTO, NULL},
        {3, -ENOLINK, "start vgpu-mediator"},
        {4, -ETIMEDOUT, "look at the mediator"},
        {5, -EIO, NULL},
        {6, -ENODEV, NULL},
        {7, -EAGAIN, "close a session"},
        {8, -EOPNOTSUPP, "newer mediator"},
        {9, -EPROTO, NULL},
        {10, -EAGAIN, "less often"},
        {11, -EACCES, "administrator"},
        {12, -EIO, NULL},
        {0xF0, -EIO, NULL},
        {0xFF, -EIO, NULL},
        {0x12345678, -EIO, NULL},
    };
    vgpu_session_set_timeout(f->session, 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        lie(f, VGPU_OP_NOP, cases[i].code, NULL, 0, NULL, 0);
        int err = vgpu_nop(f->session);
        if (err != cases[i].want)
            fail_msg("error code %u: %d, want %d", cases[i].code, err, cases[i].want);
        assert_non_null(strstr(vgpu_last_error_text(), "error"));
        if (cases[i].advice && !strstr(vgpu_last_error_text(), cases[i].advice))
            fail_msg("error code %u: %s", cases[i].code, vgpu_last_error_text());
    }
}

/* ---- Devices that are not ours ---- */

static void test_not_ours(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    struct vgpu *gpu = NULL;
    char path[140];
    snprintf(path, sizeof(path), "%s/short", f->model->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    options.resource0 = path;
    assert_int_equal(vgpu_init(&options, &gpu), -ENODEV); /* empty */
    assert_int_equal(ftruncate(fd, 4095), 0);
    assert_int_equal(vgpu_init(&options, &gpu), -ENODEV);
    assert_int_equal(ftruncate(fd, 8192), 0);
    assert_int_equal(vgpu_init(&options, &gpu), -ENODEV);
    assert_non_null(strstr(vgpu_last_error_text(), "8192"));
    close(fd);
    options.resource0 = "/nonexistent";
    assert_int_equal(vgpu_init(&options, &gpu), -ENOENT);
    options.resource0 = f->model->resource0;
    model_fake_register(f->model, VGPU_REG_PROTOCOL_VER, 0xFFFFFFFF);
    assert_int_equal(vgpu_init(&options, &gpu), -ENODEV);
    model_fake_register(f->model, VGPU_REG_PROTOCOL_VER, 0x00020000);
    assert_int_equal(vgpu_init(&options, &gpu), -ENODEV);
    assert_non_null(strstr(vgpu_last_error_text(), "2.0"));
    model_fake_register(f->model, VGPU_REG_PROTOCOL_VER, 0x00010007); /* a later minor is fine */
    assert_int_equal(vgpu_init(&options, &gpu), 0);
    vgpu_cleanup(gpu);
    model_fake_register(f->model, VGPU_REG_CAPABILITIES, 0);
    assert_int_equal(vgpu_init(&options, &gpu), -ENODEV);
    model_fake_register(f->model, -1, 0);
    options.struct_size = 0;
    assert_int_equal(vgpu_init(&options, &gpu), -EINVAL);
    assert_null(gpu);
    assert_int_equal(vgpu_init(NULL, NULL), -EINVAL);
}

/* ---- A made-up /sys/bus/pci/devices ---- */

static void put(const char *dir, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_device(const char *root, const char *address, const char *vendor,
                       const char *device, const char *class_code, const char *end)
{
    char dir[200], resource[200];
    snprintf(dir, sizeof(dir), "%s/%s", root, address);
    assert_int_equal(mkdir(dir, 0700), 0);
    put(dir, "vendor", vendor);
    put(dir, "device", device);
    put(dir, "class", class_code);
    snprintf(resource, sizeof(resource), "0x00000000febf1000 %s 0x0000000000040200\n", end);
    put(dir, "resource", resource);
    put(dir, "resource0", "");
    char path[300];
    snprintf(path, sizeof(path), "%s/resource0", dir);
    assert_int_equal(truncate(path, VGPU_BAR0_SIZE), 0);
}

static void test_enumerate(void **state)
{
    struct fixture *f = *state;
    char root[160];
    struct vgpu_device_entry entries[2];
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu *gpu;
    size_t count = 99;
    static const char good_end[] = "0x00000000febf1fff";
    snprintf(root, sizeof(root), "%s/sys", f->model->directory);
    options.sysfs_root = root;
    options.run_dir = f->model->run_dir;
    unsetenv("VGPU_DEVICE");
    assert_int_equal(vgpu_list_devices(&options, entries, 2, &count), -ENOENT);
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(vgpu_list_devices(&options, entries, 2, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(vgpu_init(&options, &gpu), -ENODEV);
    assert_non_null(strstr(vgpu_last_error_text(), "no vgpu device found"));
    put_device(root, "0000:00:09.0", "0x1af4\n", "0x1111\n", "0x120000\n", good_end);
    put_device(root, "0000:00:04.0", "0x1af4\n", "0x1111\n", "0x120000\n", good_end);
    put_device(root, "0000:00:05.0", "0x1af4\n", "0x1111\n", "0x030000\n", good_end); /* a VGA */
    put_device(root, "0000:00:06.0", "0x8086\n", "0x1111\n", "0x120000\n", good_end);
    put_device(root, "0000:00:07.0", "nonsense\n", "0x1111\n", "0x120000\n", good_end);
    put_device(root, "0000:00:08.0", "0x1af4\n", "0x1111\n", "0x120001\n", "0x00000000febf2fff");
    assert_int_equal(vgpu_list_devices(&options, entries, 2, &count), 0);
    assert_int_equal(count, 3);
    assert_string_equal(entries[0].address, "0000:00:04.0");
    assert_string_equal(entries[1].address, "0000:00:08.0");
    assert_int_equal(entries[0].bar0_bytes, 4096);
    assert_true(entries[0].accessible);
    assert_int_equal(vgpu_init(&options, &gpu), 0);
    assert_string_equal(vgpu_address(gpu), "pci:0000:00:04.0");
    vgpu_cleanup(gpu);

    static const struct {
        const char *device;
        int want;
    } named[] = {
        {"pci:0000:00:09.0", 0},
        {"pci:0000:00:06.0", 0}, /* another vendor, named */
        {"pci:0000:00:05.0", -ENODEV},
        {"pci:0000:00:08.0", -ENODEV},
        {"pci:0000:00:0a.0", -ENODEV},
        {"pci:../../../etc", -EINVAL},
        {"pci:", -EINVAL},
        {"usb:1", -EINVAL},
        {"local:", -EINVAL},
        {"local:/nonexistent/socket", -ENOENT},
    };
    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        options.device = named[i].device;
        int err = vgpu_init(&options, &gpu);
        if (err != named[i].want)
            fail_msg("%s: %d, want %d: %s", named[i].device, err, named[i].want,
                     vgpu_last_error_text());
        if (err == 0)
            vgpu_cleanup(gpu);
    }
    options.device = NULL;
    setenv("VGPU_DEVICE", "pci:0000:00:09.0", 1);
    assert_int_equal(vgpu_init(&options, &gpu), 0);
    assert_string_equal(vgpu_address(gpu), "pci:0000:00:09.0");
    vgpu_cleanup(gpu);
    unsetenv("VGPU_DEVICE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_parse_rules),
        VGPU_TEST(test_parse_random),
        VGPU_TEST_F(test_wrong_shapes, setup, teardown),
        VGPU_TEST_F(test_unended_names, setup, teardown),
        VGPU_TEST_F(test_function_lies, setup, teardown),
        VGPU_TEST_F(test_error_codes, setup, teardown),
        VGPU_TEST_F(test_not_ours, setup, teardown),
        VGPU_TEST_F(test_enumerate, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
