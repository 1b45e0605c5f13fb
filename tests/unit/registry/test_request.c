/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of a control client (control_request.h): docs/control.md K2 and K3. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/control_request.h"
#include "vgpu_test.h"

static struct vgpu_change_error failure;

static int read_line(struct vgpu_control_request *r, const char *line)
{
    return vgpu_control_request_read(r, line, strlen(line), &failure);
}

static void test_good(void **s)
{
    struct vgpu_control_request r;
    uint64_t n = 7;
    bool b = false;
    (void)s;
    assert_int_equal(read_line(&r, "{\"id\": 12, \"op\": \"x\", \"n\": 5, \"b\": true} \r"), 0);
    assert_true(r.has_id && r.id == 12);
    assert_string_equal(r.op, "x");
    assert_int_equal(vgpu_control_request_number(&r, "n", 1, 5, &n, &failure), 0);
    assert_true(n == 5);
    assert_int_equal(vgpu_control_request_number(&r, "m", 1, 5, &n, &failure), 0);
    assert_true(n == 5); /* not said */
    assert_int_equal(vgpu_control_request_number(&r, "n", 1, 4, &n, &failure), -EINVAL);
    assert_int_equal(vgpu_control_request_number(&r, "b", 1, 4, &n, &failure), -EINVAL);
    assert_int_equal(vgpu_control_request_bool(&r, "b", &b, &failure), 0);
    assert_true(b);
    assert_int_equal(vgpu_control_request_bool(&r, "n", &b, &failure), -EINVAL);
    assert_int_equal(vgpu_control_request_only(&r, (const char *[]){"n", "b", NULL}, &failure), 0);
    assert_int_equal(vgpu_control_request_only(&r, (const char *[]){"n", NULL}, &failure), -EINVAL);
    assert_non_null(strstr(failure.message, "no field 'b'"));
    vgpu_control_request_free(&r);
}

static void test_bad(void **s)
{
    static const char *const lines[] = {
        "",
        "x",
        "{",
        "{}",
        "[]",
        "7",
        "null",
        "{\"op\": \"x\"",
        "{\"op\": \"x\"} 1",
        "{\"op\": 7}",
        "{\"op\": null}",
        "{\"op\": \"x\", \"id\": -1}",
        "{\"op\": \"x\", \"id\": 1.0}",
        "{\"op\": \"x\", \"id\": 9007199254740992}",
        "{'op': 'x'}",
        "{\"op\": \"x\", /* */ \"id\": 1}",
        "{\"op\": \"\xc3\x28\"}",
    };
    (void)s;
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct vgpu_control_request r;
        failure.message[0] = 0;
        if (!read_line(&r, lines[i]))
            fail_msg("'%s' was let through", lines[i]);
        assert_int_equal(failure.code, VGPU_CODE_INVALID);
        assert_true(failure.message[0] != 0);
        vgpu_control_request_free(&r);
    }
}

/* K2: 16 levels; and a NUL is no end. */
static void test_depth_and_nul(void **s)
{
    struct vgpu_control_request r;
    char line[200];
    (void)s;
    for (unsigned depth = 14; depth <= 17; depth++) {
        size_t used = (size_t)sprintf(line, "{\"op\": \"x\", \"y\": ");
        for (unsigned i = 1; i < depth; i++)
            line[used++] = '[';
        for (unsigned i = 1; i < depth; i++)
            line[used++] = ']';
        line[used++] = '}';
        int rc = vgpu_control_request_read(&r, line, used, &failure);
        assert_int_equal(rc, depth <= 16 ? 0 : -EINVAL);
        vgpu_control_request_free(&r);
    }
    memcpy(line, "{\"op\": \"x\"}\0 ", 14);
    assert_int_equal(vgpu_control_request_read(&r, line, 12, &failure), -EINVAL);
    vgpu_control_request_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {VGPU_TEST(test_good), VGPU_TEST(test_bad),
                                       VGPU_TEST(test_depth_and_nul)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
