/* SPDX-License-Identifier: GPL-2.0-or-later */
/* src/common: numbers, logs, sockets and descriptors, system calls; and the loop's timers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/names.h"
#include "common/net.h"
#include "common/notify.h"
#include "common/parse.h"
#include "common/sys.h"
#include "common/wire.h"
#include "mediator/loop.h"
#include "vgpu_test.h"

static void test_numbers(void **state)
{
    (void)state;
    uint64_t v = 5;
    static const char *const wrong[] = {"", " 1", "1 ", "+1", "-1", "0x", "1x", "0xg", "1.0", "\n"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(vgpu_parse_u64(wrong[i], 0, UINT64_MAX, &v), -EINVAL);
    assert_int_equal(vgpu_parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
    assert_int_equal(vgpu_parse_u64("0x10000000000000000", 0, UINT64_MAX, &v), -ERANGE);
    assert_int_equal(vgpu_parse_u64("3", 4, 5, &v), -ERANGE);
    assert_int_equal(v, 5); /* untouched by failures */
    assert_int_equal(vgpu_parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(vgpu_parse_u64("0xFfFf", 0, UINT64_MAX, &v), 0);
    assert_int_equal(v, 0xffff);
    assert_int_equal(vgpu_parse_size("2g", 0, UINT64_MAX, &v), 0);
    assert_true(v == 2ull << 30);
    assert_int_equal(vgpu_parse_size("16777216T", 0, UINT64_MAX, &v), -ERANGE);
    assert_int_equal(vgpu_parse_size("1KB", 0, UINT64_MAX, &v), -EINVAL);
    assert_int_equal(vgpu_parse_size("K", 0, UINT64_MAX, &v), -EINVAL);
    bool b = false;
    assert_int_equal(vgpu_parse_bool("yes", &b), 0);
    assert_true(b);
    assert_int_equal(vgpu_parse_bool("Yes", &b), -EINVAL);
    int fd = -1;
    assert_int_equal(vgpu_parse_fd("0", &fd), 0);
    assert_int_equal(fd, 0);
    assert_int_equal(vgpu_parse_fd("2147483647", &fd), -EBADF); /* not open */
    assert_int_equal(vgpu_parse_fd("2147483648", &fd), -EBADF); /* no int */
    assert_int_equal(vgpu_parse_fd("-1", &fd), -EBADF);
    assert_int_equal(fd, 0);
    uint32_t p = 9;
    assert_int_equal(vgpu_parse_priority("2", &p), 0);
    assert_int_equal(p, 2);
    assert_int_equal(vgpu_parse_priority("3", &p), -EINVAL);
    assert_int_equal(vgpu_parse_priority("22", &p), -EINVAL);
    assert_true(vgpu_range_inside(8, 8, 16) && !vgpu_range_inside(9, 8, 16));
    assert_false(vgpu_range_inside(UINT64_MAX, 2, 16));
    assert_false(vgpu_range_inside(8, UINT64_MAX, 16));
    assert_string_equal(vgpu_curesult_name(719), "CUDA_ERROR_LAUNCH_FAILED");
    assert_string_equal(vgpu_error_text(9), "invalid length");
    assert_string_equal(vgpu_priority_name(7), "?");
}

/* Control characters, quotes and length cannot break a line. */
static void test_log_line(void **state)
{
    (void)state;
    char buffer[16], line[4096];
    assert_string_equal(vgpu_log_quote(buffer, sizeof(buffer), "a\n\"\\\x80z", 6),
                        "\"a?\\\"\\\\?z\"");
    assert_string_equal(vgpu_log_quote(buffer, 3, "abc", 3), "\"\"");
    int fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    char text[2000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    vgpu_log(VGPU_LOG_DEBUG, "no", "not=written");
    vgpu_log(VGPU_LOG_INFO, "one", "text=%s", "a\nb\033[2J");
    vgpu_log(VGPU_LOG_INFO, "two", "text=%s", text);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = read(fds[0], line, sizeof(line) - 1);
    assert_true(n > 0);
    line[n] = 0;
    close(fds[0]);
    close(fds[1]);
    char *second = strchr(line, '\n');
    assert_non_null(second);
    *second++ = 0;
    assert_non_null(strstr(line, " level=info prog=vgpu event=one text=a?b?[2J"));
    assert_null(strstr(line, "not=written"));
    assert_int_equal(strlen(second), 1023);
    assert_string_equal(second + 1019, "...\n");
}

/* A log that nobody reads costs lines, not time. */
static void test_log_full_pipe(void **state)
{
    (void)state;
    int fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    for (unsigned i = 0; i < 5000; i++)
        vgpu_log(VGPU_LOG_INFO, "flood", "n=%u text=%0100u", i, i);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    assert_true(vgpu_log_dropped() > 1000);
}

static void test_log_limit(void **state)
{
    (void)state;
    struct vgpu_log_limit limit = {0};
    uint32_t suppressed = 99, let = 0;
    uint64_t now = 100 * VGPU_NS_PER_S;
    for (unsigned i = 0; i < 50; i++)
        let += vgpu_log_limit_take(&limit, now + i, &suppressed);
    assert_int_equal(let, 10);
    assert_int_equal(suppressed, 0);
    assert_true(vgpu_log_limit_take(&limit, now + VGPU_NS_PER_S, &suppressed));
    assert_int_equal(suppressed, 40);
}

static unsigned open_fds(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 200; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* L1: descriptors that nobody asked for are never installed; those asked for are bounded. */
static void test_descriptors(void **state)
{
    (void)state;
    int pair[2], sent[5];
    char byte;
    struct vgpu_net_ancillary a;
    assert_int_equal(vgpu_net_pair(SOCK_STREAM, pair), 0);
    assert_true(fcntl(pair[0], F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(pair[0], F_GETFL) & O_NONBLOCK);
    for (unsigned i = 0; i < 5; i++)
        sent[i] = dup(pair[0]);
    unsigned before = open_fds();
    assert_int_equal(vgpu_net_recv(pair[1], &byte, 1, 0, &a), -EAGAIN);
    assert_int_equal(vgpu_net_send(pair[0], "x", 1, sent, 5), 1);
    assert_int_equal(vgpu_net_recv(pair[1], &byte, 1, 0, &a), 1);
    assert_true(a.excess && a.fd_count == 0);
    assert_int_equal(open_fds(), before);
    assert_int_equal(vgpu_net_send(pair[0], "x", 1, sent, 5), 1);
    assert_int_equal(vgpu_net_recv(pair[1], &byte, 1, 2, &a), 1);
    assert_true(a.excess && a.fd_count == 2);
    assert_int_equal(open_fds(), before + 2);
    assert_true(fcntl(a.fds[0], F_GETFD) & FD_CLOEXEC);
    vgpu_net_close_fds(&a);
    assert_int_equal(open_fds(), before);
    assert_int_equal(vgpu_net_send(pair[0], "x", 1, sent, VGPU_NET_MAX_FDS + 1), -EINVAL);
    uid_t uid = 12345;
    pid_t pid = 0;
    assert_int_equal(vgpu_net_peer(pair[0], &uid, &pid), 0);
    assert_true(uid == geteuid() && pid == getpid());
    for (unsigned i = 0; i < 5; i++)
        vgpu_fd_close(&sent[i]);
    vgpu_fd_close(&pair[0]);
    assert_int_equal(vgpu_net_recv(pair[1], &byte, 1, 0, &a), 0);
    assert_int_equal(vgpu_net_send(pair[1], "x", 1, NULL, 0), -EPIPE);
    vgpu_fd_close(&pair[1]);
    assert_int_equal(pair[1], -1);
}

static void test_packets(void **state)
{
    (void)state;
    int pair[2];
    char buffer[4];
    struct vgpu_net_ancillary a;
    assert_int_equal(vgpu_net_pair(SOCK_SEQPACKET, pair), 0);
    assert_int_equal(vgpu_net_send(pair[0], "12345678", 8, NULL, 0), 8);
    assert_int_equal(vgpu_net_recv(pair[1], buffer, 4, 0, &a), 4);
    assert_true(a.truncated);
    vgpu_fd_close(&pair[0]);
    vgpu_fd_close(&pair[1]);
}

/* A directory's path may be longer than a socket's address. */
static void test_connect_at(void **state)
{
    (void)state;
    char dir[] = "/tmp/vgpu-test-XXXXXX", path[300], sock[400];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/%0150d", dir, 7);
    assert_int_equal(mkdir(path, 0700), 0);
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(chdir(path), 0);
    int listener = vgpu_net_listen("s", 4);
    assert_true(listener >= 0);
    assert_int_equal(vgpu_net_listen("s", 4), -EADDRINUSE);
    assert_int_equal(fchdir(here), 0);
    vgpu_fd_close(&here);
    snprintf(sock, sizeof(sock), "%s/s", path);
    assert_int_equal(vgpu_net_listen(sock, 4), -ENAMETOOLONG);
    int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(vgpu_net_accept(listener), -EAGAIN);
    int fd = vgpu_net_connect_at(dir_fd, "s", false);
    assert_true(fd >= 0);
    int served = vgpu_net_accept(listener);
    assert_true(served >= 0);
    assert_int_equal(vgpu_net_connect_at(dir_fd, "nothing", false), -ENOENT);
    /* L14: neither a link to a socket, unless it is allowed, nor anything else. */
    assert_int_equal(symlinkat("s", dir_fd, "l"), 0);
    assert_int_equal(vgpu_net_connect_at(dir_fd, "l", false), -ENOTSOCK);
    assert_int_equal(vgpu_net_connect_at(dir_fd, ".", false), -ENOTSOCK);
    int linked = vgpu_net_connect_at(dir_fd, "l", true);
    assert_true(linked >= 0);
    vgpu_fd_close(&linked);
    assert_int_equal(unlinkat(dir_fd, "l", 0), 0);
    vgpu_fd_close(&served);
    vgpu_fd_close(&listener);
    assert_int_equal(vgpu_net_connect_at(dir_fd, "s", false), -ECONNREFUSED);
    vgpu_fd_close(&fd);
    vgpu_fd_close(&dir_fd);
    unlink(sock);
    rmdir(path);
    rmdir(dir);
}

static void test_calls(void **state)
{
    (void)state;
    unsigned char a[32] = {0}, b[32] = {0};
    assert_int_equal(vgpu_random(a, sizeof(a)), 0);
    assert_int_equal(vgpu_random(b, sizeof(b)), 0);
    assert_true(memcmp(a, b, sizeof(a)) != 0);
    int fd = vgpu_memfd_create("t", VGPU_MFD_CLOEXEC);
    if (fd != -ENOSYS) {
        assert_true(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close(fd);
    }
    int pidfd = vgpu_pidfd_open(getpid());
    if (pidfd != -ENOSYS) {
        assert_true(pidfd >= 0);
        assert_int_equal(vgpu_pidfd_send_signal(pidfd, 0), 0);
        close(pidfd);
    }
    pid_t pid = fork();
    if (pid == 0) {
        int high = fcntl(0, F_DUPFD, 100);
        vgpu_cloexec_from(50);
        bool good = fcntl(high, F_GETFD) == FD_CLOEXEC;
        vgpu_close_from(50);
        _exit(good && fcntl(high, F_GETFD) < 0 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(vgpu_notify("READY=1"), 0);
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(vgpu_notify("READY=1"), -EINVAL);
    unsetenv("NOTIFY_SOCKET");
}

/* --- the loop --- */

struct clockwork {
    struct vgpu_timer timer;
    unsigned number;
};

static struct vgpu_loop *loop;
static unsigned fired[64], fired_count;

static void on_timer(struct vgpu_timer *timer)
{
    struct clockwork *c = (struct clockwork *)(void *)timer;
    fired[fired_count++] = c->number;
    if (c->number == 63)
        vgpu_loop_stop(loop);
}

/* Timers fire in order, whatever the order they were set, moved and cancelled in. */
static void test_timers(void **state)
{
    (void)state;
    struct clockwork c[64];
    memset(c, 0, sizeof(c));
    loop = vgpu_loop_create();
    assert_non_null(loop);
    fired_count = 0;
    uint64_t base = vgpu_clock_ns();
    for (unsigned i = 0; i < 64; i++) {
        unsigned n = i * 37 % 64;
        c[n].number = n;
        c[n].timer.call = on_timer;
        assert_int_equal(vgpu_loop_timer_set(loop, &c[n].timer, base + (64 - n) * 1000), 0);
    }
    for (unsigned n = 0; n < 64; n++)
        vgpu_loop_timer_set(loop, &c[n].timer, base + n * 1000);
    for (unsigned n = 0; n < 63; n += 3)
        vgpu_loop_timer_cancel(loop, &c[n].timer);
    vgpu_loop_timer_set(loop, &c[1].timer, VGPU_NS_NEVER);
    assert_int_equal(vgpu_loop_run(loop), 0);
    unsigned next = 0;
    for (unsigned n = 0; n < 64; n++)
        if ((n % 3 || n == 63) && n != 1)
            assert_int_equal(fired[next++], n);
    assert_int_equal(next, fired_count);
    vgpu_loop_destroy(loop);
}

static struct vgpu_source sources[2];
static unsigned called;

/* Whichever comes first removes the other: that one must not be called in the same round. */
static void on_source(struct vgpu_source *source, uint32_t events)
{
    assert_true(events & EPOLLIN);
    called++;
    vgpu_loop_remove(loop, source == &sources[0] ? &sources[1] : &sources[0]);
    vgpu_loop_stop(loop);
}

static void test_remove_in_round(void **state)
{
    (void)state;
    int pair[2];
    called = 0;
    memset(sources, 0, sizeof(sources));
    loop = vgpu_loop_create();
    assert_int_equal(vgpu_net_pair(SOCK_STREAM, pair), 0);
    for (unsigned i = 0; i < 2; i++) {
        sources[i].fd = pair[i];
        sources[i].call = on_source;
        assert_int_equal(vgpu_loop_add(loop, &sources[i], EPOLLIN), 0);
        assert_int_equal(vgpu_net_send(pair[1 - i], "x", 1, NULL, 0), 1);
    }
    assert_int_equal(vgpu_loop_run(loop), 0);
    assert_int_equal(called, 1);
    vgpu_loop_destroy(loop);
    vgpu_fd_close(&pair[0]);
    vgpu_fd_close(&pair[1]);
}

static void test_uuid(void **state)
{
    static const char text[] = "GPU-00010203-0405-0607-0809-0a0b0c0d0eff";
    static const char *const wrong[] = {"",
                                        "GPU-",
                                        "gpu-00010203-0405-0607-0809-0a0b0c0d0eff",
                                        "GPU-00010203-0405-0607-0809-0a0b0c0d0ef",
                                        "GPU-00010203-0405-0607-0809-0a0b0c0d0eff0",
                                        "GPU-000102030405-0607-0809-0a0b0c0d0eff",
                                        "GPU-0001020g-0405-0607-0809-0a0b0c0d0eff",
                                        "00010203-0405-0607-0809_0a0b0c0d0eff"};
    uint8_t uuid[16] = {0};
    char back[VGPU_UUID_TEXT];
    (void)state;
    assert_int_equal(vgpu_parse_uuid(text, uuid), 0);
    assert_int_equal(uuid[14], 0x0e);
    assert_int_equal(uuid[15], 0xff);
    vgpu_uuid_write(back, uuid);
    assert_string_equal(back, text);
    assert_int_equal(vgpu_parse_uuid("FF010203-0405-0607-0809-0A0B0C0D0EFF", uuid), 0);
    assert_int_equal(uuid[0], 0xff);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(vgpu_parse_uuid(wrong[i], uuid), -EINVAL);
    assert_int_equal(uuid[0], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_numbers),         VGPU_TEST(test_uuid),
        VGPU_TEST(test_log_line),        VGPU_TEST(test_log_full_pipe),
        VGPU_TEST(test_log_limit),       VGPU_TEST(test_descriptors),
        VGPU_TEST(test_packets),         VGPU_TEST(test_connect_at),
        VGPU_TEST(test_calls),           VGPU_TEST(test_timers),
        VGPU_TEST(test_remove_in_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
