/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines out of what a worker says (lines.h; docs/mediator.md, Logs). */
#include <string.h>

#include "mediator/lines.h"
#include "vgpu_test.h"

/* Feeds text in pieces of `piece` bytes and writes the lines that come, with | behind each. */
static void split(const char *text, size_t size, size_t piece, char *out)
{
    struct vgpu_lines l;
    memset(&l, 0, sizeof(l));
    for (size_t at = 0; at < size;) {
        size_t n = size - at < piece ? size - at : piece;
        for (size_t done = 0; done < n;) {
            bool whole;
            size_t taken = vgpu_lines_take(&l, text + at + done, n - done, &whole);
            assert_true(taken > 0 && taken <= n - done);
            done += taken;
            if (whole) {
                memcpy(out, l.text, l.length);
                out += l.length;
                *out++ = '|';
                l.length = 0;
                l.cut = false;
            }
        }
        at += n;
    }
    memcpy(out, l.text, l.length);
    out[l.length] = 0;
}

static void test_split(void **state)
{
    (void)state;
    static const char text[] = "one\n\ntwo\nthree";
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        char out[64];
        split(text, sizeof(text) - 1, piece, out);
        assert_string_equal(out, "one||two|three");
    }
}

/* A line of any length takes no more room than a line has, and the next one is whole again. */
static void test_long(void **state)
{
    (void)state;
    struct vgpu_lines l;
    char bytes[1000];
    bool whole = false;
    memset(&l, 0, sizeof(l));
    memset(bytes, 'x', sizeof(bytes));
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(vgpu_lines_take(&l, bytes, sizeof(bytes), &whole), sizeof(bytes));
        assert_false(whole);
    }
    assert_int_equal(vgpu_lines_take(&l, "y\nz\n", 4, &whole), 2);
    assert_true(whole);
    assert_int_equal(l.length, VGPU_LINE_BYTES);
    assert_true(l.cut);
    l.length = 0;
    l.cut = false;
    memset(bytes, 'w', VGPU_LINE_BYTES);
    bytes[VGPU_LINE_BYTES] = '\n';
    assert_int_equal(vgpu_lines_take(&l, bytes, VGPU_LINE_BYTES + 1, &whole), VGPU_LINE_BYTES + 1);
    assert_true(whole);
    assert_false(l.cut); /* just as long as fits */
}

static void test_message(void **state)
{
    (void)state;
#define T "2026-11-25T22:50:42.123456Z"
    static const struct {
        const char *line;
        size_t at;
        enum vgpu_log_level level;
    } cases[] = {
        {T " level=error prog=vgpu-worker event=x", 57, VGPU_LOG_ERROR},
        {T " level=debug prog=w event=x a=\"b\"", 47, VGPU_LOG_DEBUG},
        {T " level=info prog=w", 0, VGPU_LOG_WARN},
        {T " level=loud prog=w event=x", 0, VGPU_LOG_WARN},
        {T " level=errorerror prog=w event=x", 0, VGPU_LOG_WARN},
        {T " level=", 0, VGPU_LOG_WARN},
        {T, 0, VGPU_LOG_WARN},
        {T " prog=w level=info event=x", 0, VGPU_LOG_WARN},
        {"==1==ERROR: AddressSanitizer", 0, VGPU_LOG_WARN},
        {"level=debug prog=w event=x", 0, VGPU_LOG_WARN},
        {"", 0, VGPU_LOG_WARN},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum vgpu_log_level level;
        assert_int_equal(vgpu_lines_message(cases[i].line, strlen(cases[i].line), &level),
                         cases[i].at);
        assert_int_equal(level, cases[i].level);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_split),
        VGPU_TEST(test_long),
        VGPU_TEST(test_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
