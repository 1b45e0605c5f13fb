/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The forms of a log line: JSON, and the journal's fields (docs/mediator.md, Logs). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/log_form.h"
#include "vgpu_test.h"

static const char *json(const char *text)
{
    static char out[4000];
    size_t n = vgpu_log_json(out, sizeof(out) - 1, "T", "info", "prog", "ev", text, strlen(text));
    out[n] = 0;
    return out;
}

static void test_json(void **state)
{
    (void)state;
#define HEAD "{\"time\":\"T\",\"level\":\"info\",\"prog\":\"prog\",\"event\":\"ev\""
    static const struct {
        const char *text, *json;
    } cases[] = {
        {"", "}"},
        {"vm=7 pool=A", ",\"vm\":7,\"pool\":\"A\"}"},
        {"session=0x7 n=0 n2=007 big=1234567890123456 neg=-1", /* numbers are whole, and exact */
         ",\"session\":\"0x7\",\"n\":0,\"n2\":\"007\",\"big\":\"1234567890123456\",\"neg\":\"-"
         "1\"}"},
        {"reason=\"a \\\"b\\\" \\\\ c=d\" next=1",
         ",\"reason\":\"a \\\"b\\\" \\\\ c=d\",\"next\":1}"},
        {"number=\"7\"", ",\"number\":\"7\"}"},                 /* quoted: a text */
        {"reason=\"cut off...", ",\"reason\":\"cut off...\"}"}, /* as a cut line ends */
        {"reason=\"ends in \\", ",\"reason\":\"ends in \\\\\"}"},
        {"bad=\\x bare=a\"b", ",\"bad\":\"\\\\x\",\"bare\":\"a\\\"b\"}"},
        {"quoted=\"\\x\"", ",\"quoted\":\"\\\\x\"}"},
        {"utf=\xc3\xa4", ",\"utf\":\"??\"}"},
        {"no pair here vm=7 = == =x UPPER=1", ",\"vm\":7}"},
        {"event=forged level=error time=0 vm=1", ",\"vm\":1}"}, /* the line's own stay */
        {"a= b=", ",\"a\":\"\",\"b\":\"\"}"},
        {"a=\"\" b=\"x\"c=1", ",\"a\":\"\",\"b\":\"x\"}"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[300];
        snprintf(expected, sizeof(expected), "%s%s", HEAD, cases[i].json);
        assert_string_equal(json(cases[i].text), expected);
    }
}

/* What is too long loses pairs, never its end. */
static void test_json_is_bounded(void **state)
{
    (void)state;
    char text[1000] = "", out[600];
    for (unsigned i = 0; i < 100; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "k%u=\"\\\\\" ", i);
    for (size_t size = 512; size <= sizeof(out); size++) {
        memset(out, '#', sizeof(out));
        size_t n = vgpu_log_json(out, size, "T", "info", "prog", "ev", text, strlen(text));
        assert_true(n <= size);
        assert_memory_equal(out + n - 18, ",\"truncated\":true}", 18);
        if (n < sizeof(out))
            assert_int_equal(out[n], '#');
    }
}

static void test_any_bytes(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (unsigned round = 0; round < 20000; round++) {
        char text[64], out[4000];
        size_t length = round % sizeof(text), at = 0;
        for (size_t i = 0; i < length; i++) {
            seed = seed * 1664525u + 1013904223u;
            text[i] = "a=\" \\b1_=\"\xff\x01"[seed >> 24 & 0xf ? (seed >> 20) % 12 : 2];
        }
        struct vgpu_log_pair pair;
        while (vgpu_log_next_pair(text, length, &at, &pair)) {
            assert_true(pair.value >= text && pair.value + pair.value_length <= text + length);
            assert_true(pair.key_length >= 1 && pair.key_length <= VGPU_LOG_KEY_MAX);
        }
        size_t n = vgpu_log_json(out, sizeof(out), "T", "info", "p", "e", text, length);
        assert_int_equal(out[n - 1], '}');
        for (size_t i = 0; i < n; i++)
            assert_in_range(out[i], 0x20, 0x7e);
        (void)vgpu_log_journal(out, 200, 6, "p", "e", text, length);
    }
}

static int listen_as_journal(char path[108])
{
    const char *folder = getenv("TMPDIR");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(path, 108, "%.90s/journal", folder ? folder : "/tmp");
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void test_journal(void **state)
{
    (void)state;
    char path[108], got[4096];
    int fd = listen_as_journal(path);
    vgpu_log_open("vgpu-test", VGPU_LOG_INFO);
    assert_int_equal(vgpu_log_to_journal(path), 0);
    vgpu_log(VGPU_LOG_WARN, "worker-kill", "vm=%u reason=\"%s\"", 7,
             "it \\\"hung\\\"\nMESSAGE=forged");
    ssize_t n = recv(fd, got, sizeof(got) - 1, 0);
    assert_true(n > 0);
    got[n] = 0;
    assert_string_equal(got, "MESSAGE=worker-kill vm=7 reason=\"it \\\"hung\\\"?MESSAGE=forged\"\n"
                             "PRIORITY=4\nSYSLOG_IDENTIFIER=vgpu-test\nVGPU_EVENT=worker-kill\n"
                             "VGPU_VM=7\nVGPU_REASON=it \"hung\"?MESSAGE=forged\n");
    /* A journal that has gone: stderr has it. */
    int fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    close(fd);
    unlink(path);
    vgpu_log(VGPU_LOG_INFO, "after", "n=1");
    dup2(saved, STDERR_FILENO);
    close(saved);
    n = read(fds[0], got, sizeof(got) - 1);
    assert_true(n > 0);
    got[n] = 0;
    assert_non_null(strstr(got, " event=after n=1\n"));
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(vgpu_log_to_journal(path), -ENOENT);
    assert_int_equal(vgpu_log_to_journal(NULL), 0);
}

/* JOURNAL_STREAM is believed only if stderr is what it names. */
static void test_journal_stream(void **state)
{
    (void)state;
    char text[64], got[512];
    int fds[2], saved = dup(STDERR_FILENO);
    struct stat st;
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    for (unsigned own = 0; own < 2; own++) {
        snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev,
                 (unsigned long long)st.st_ino + !own);
        setenv("JOURNAL_STREAM", text, 1);
        vgpu_log_open("vgpu-test", VGPU_LOG_INFO);
        vgpu_log_to_journal(NULL); /* not the machine's own, if it has one */
        vgpu_log(VGPU_LOG_ERROR, "x", "n=1");
        ssize_t n = read(fds[0], got, sizeof(got));
        assert_true(n > 3);
        assert_int_equal(memcmp(got, "<3>", 3) == 0, own);
    }
    unsetenv("JOURNAL_STREAM");
    vgpu_log_open("vgpu-test", VGPU_LOG_INFO);
    vgpu_log_set_format(VGPU_LOG_JSON);
    vgpu_log(VGPU_LOG_INFO, "attached", "vm=%u", 7);
    ssize_t n = read(fds[0], got, sizeof(got) - 1);
    got[n > 0 ? n : 0] = 0;
    vgpu_log_set_format(VGPU_LOG_TEXT);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(got[0], '{');
    assert_non_null(strstr(got, "\"prog\":\"vgpu-test\",\"event\":\"attached\",\"vm\":7}\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_json),    VGPU_TEST(test_json_is_bounded), VGPU_TEST(test_any_bytes),
        VGPU_TEST(test_journal), VGPU_TEST(test_journal_stream),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
