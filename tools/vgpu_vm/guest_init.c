/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The first process in a guest of tools/vgpu-vm: mounts what a program expects, runs the one
 * program named in
 * /.vgpu-vm, and carries its standard streams, its signals and its exit status over a serial port.
 *
 * Owns: the guest's half of the channel (channel.py is the other one). Refuses to know what the
 * program is, and where the kernel's own messages go. Static, so that it needs nothing else in the
 * guest.
 *
 * A frame is 0x7e, type, payload, CRC-32 of both (little-endian), 0x7e; 0x7d escapes: the byte
 * after it is xor 0x20. A frame cut short by a reset of the guest fails its CRC and is dropped, and
 * the next flag starts afresh. To the host: H hello, S started, O stdout, E stderr, A stdin taken,
 * F cannot run (text), X exit (kind, value). From the host: I stdin, Z end of stdin, K signal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define CHANNEL     "/dev/ttyS1"
#define CONFIG_DIR  "/.vgpu-vm/"
#define PAYLOAD_MAX 1024u
#define FLAG        0x7eu
#define ESCAPE      0x7du
#define ESCAPE_XOR  0x20u

/* What poll() watches, in this order. */
enum { WATCH_CHANNEL, WATCH_CHILD, WATCH_STDOUT, WATCH_STDERR, WATCH_STDIN, WATCH_COUNT };

struct guest {
    int channel;
    int child_fd; /* signalfd for SIGCHLD */
    int out_fd;   /* the program's stdout, read end; -1 once closed */
    int err_fd;
    int in_fd; /* the program's stdin, write end; -1 once closed */
    pid_t program;
    int ended;  /* the program has been reaped */
    int status; /* its wait status */
    uint32_t crc_table[256];
    /* The frame being received, unescaped. */
    uint8_t rx[PAYLOAD_MAX + 5];
    size_t rx_len;
    int rx_escaped;
    int rx_bad; /* too long: skip to the next flag */
    /* Input taken from the host that the program has not read. One frame at most: the host waits
     * for its A. */
    uint8_t input[PAYLOAD_MAX];
    size_t input_len;
    size_t input_off;
};

static void crc_init(struct guest *g)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int bit = 0; bit < 8; bit++) {
            c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        }
        g->crc_table[i] = c;
    }
}

static uint32_t crc_of(const struct guest *g, const uint8_t *p, size_t n)
{
    uint32_t c = 0xffffffffu;

    for (size_t i = 0; i < n; i++) {
        c = g->crc_table[(c ^ p[i]) & 0xff] ^ (c >> 8);
    }
    return c ^ 0xffffffffu;
}

static void write_all(int fd, const uint8_t *p, size_t n)
{
    while (n) {
        ssize_t done = write(fd, p, n);

        if (done < 0) {
            if (errno == EINTR) {
                continue;
            }
            return; /* nobody is left to tell */
        }
        p += done;
        n -= (size_t)done;
    }
}

static void send_frame(const struct guest *g, char type, const void *payload, size_t n)
{
    uint8_t raw[1 + PAYLOAD_MAX + 4];
    uint8_t out[2 * sizeof(raw) + 2];
    size_t len = 0, used = 0;
    uint32_t crc;

    raw[len++] = (uint8_t)type;
    memcpy(raw + len, payload, n);
    len += n;
    crc = crc_of(g, raw, len);
    for (int i = 0; i < 4; i++) {
        raw[len++] = (uint8_t)(crc >> (8 * i));
    }
    out[used++] = FLAG;
    for (size_t i = 0; i < len; i++) {
        if (raw[i] == FLAG || raw[i] == ESCAPE) {
            out[used++] = ESCAPE;
            out[used++] = raw[i] ^ ESCAPE_XOR;
        } else {
            out[used++] = raw[i];
        }
    }
    out[used++] = FLAG;
    write_all(g->channel, out, used);
}

static void send_failure(const struct guest *g, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void send_failure(const struct guest *g, const char *format, ...)
{
    char text[PAYLOAD_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    send_frame(g, 'F', text, strlen(text));
}

/* The host ends the VM once it has the last frame. If it does not, -no-reboot makes a restart the
 * end. */
static void finish(const struct guest *g)
{
    tcdrain(g->channel);
    sleep(30);
    reboot(RB_AUTOBOOT);
    for (;;) {
        pause();
    }
}

/* A file of strings, each ended by NUL, as a vector. The memory is the process's for good. */
static char **read_vector(const char *path, size_t *count)
{
    struct stat st;
    char *data;
    char **vector;
    size_t len = 0, n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0) {
        return NULL;
    }
    data = malloc((size_t)st.st_size + 1);
    vector = calloc((size_t)st.st_size + 2, sizeof(*vector));
    if (!data || !vector) {
        return NULL;
    }
    while (len < (size_t)st.st_size) {
        ssize_t got = read(fd, data + len, (size_t)st.st_size - len);

        if (got <= 0) {
            break;
        }
        len += (size_t)got;
    }
    close(fd);
    data[len] = '\0';
    for (size_t off = 0; off < len; off += strlen(data + off) + 1) {
        vector[n++] = data + off;
    }
    *count = n;
    return vector;
}

static void mount_all(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/tmp", 01777);
    mkdir("/run", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mkdir("/dev/shm", 01777);
    mkdir("/dev/pts", 0755);
    mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666");
    /* What udev does elsewhere. */
    if (symlink("/proc/self/fd", "/dev/fd") < 0 || symlink("/proc/self/fd/0", "/dev/stdin") < 0 ||
        symlink("/proc/self/fd/1", "/dev/stdout") < 0 ||
        symlink("/proc/self/fd/2", "/dev/stderr") < 0) {
        /* Present already: nothing to do. */
    }
}

static int open_channel(void)
{
    struct termios tio;
    int fd = open(CHANNEL, O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 || tcgetattr(fd, &tio) < 0) {
        return -1;
    }
    cfmakeraw(&tio);
    tio.c_cflag |= CLOCAL | CREAD;
    tio.c_cc[VMIN] = 1;
    tio.c_cc[VTIME] = 0;
    /* The port has no real speed; a high one keeps the UART's time-outs short. */
    cfsetspeed(&tio, B115200);
    return tcsetattr(fd, TCSANOW, &tio) < 0 ? -1 : fd;
}

/* Start the program. Returns 0, or -1 after having told the host why not. */
static int start_program(struct guest *g)
{
    int in[2], out[2], err[2], failed[2];
    size_t argc = 0, envc = 0, dirs = 0;
    char **argv = read_vector(CONFIG_DIR "argv", &argc);
    char **envp = read_vector(CONFIG_DIR "env", &envc);
    char **dir = read_vector(CONFIG_DIR "cwd", &dirs);
    int reason = 0;

    /* argv[0] of the file is what to execute, the rest is the program's own argument vector. */
    if (!argv || argc < 2 || !envp || !dir || dirs != 1) {
        send_failure(g, "the initramfs does not say what to run");
        return -1;
    }
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ||
        pipe2(failed, O_CLOEXEC) < 0) {
        send_failure(g, "pipe: %s", strerror(errno));
        return -1;
    }
    g->program = fork();
    if (g->program < 0) {
        send_failure(g, "fork: %s", strerror(errno));
        return -1;
    }
    if (g->program == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        setsid();
        if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0 || chdir(dir[0]) < 0) {
            reason = errno;
        } else {
            execve(argv[0], argv + 1, envp);
            reason = errno;
        }
        write_all(failed[1], (const uint8_t *)&reason, sizeof(reason));
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    close(failed[1]);
    g->in_fd = in[1];
    g->out_fd = out[0];
    g->err_fd = err[0];
    if (read(failed[0], &reason, sizeof(reason)) == (ssize_t)sizeof(reason)) {
        send_failure(g, "cannot run %s: %s", argv[0], strerror(reason));
        return -1;
    }
    close(failed[0]);
    fcntl(g->in_fd, F_SETFL, O_NONBLOCK);
    send_frame(g, 'S', "", 0);
    return 0;
}

static void close_input(struct guest *g)
{
    if (g->in_fd >= 0) {
        close(g->in_fd);
        g->in_fd = -1;
    }
}

/* Give the program what it has room for; tell the host when all of the frame is gone, or nobody
 * reads any more. */
static void feed_input(struct guest *g)
{
    while (g->input_off < g->input_len && g->in_fd >= 0) {
        ssize_t done = write(g->in_fd, g->input + g->input_off, g->input_len - g->input_off);

        if (done < 0 && errno == EAGAIN) {
            return;
        }
        if (done < 0 && errno != EINTR) {
            close_input(g);
        }
        g->input_off += done > 0 ? (size_t)done : 0;
    }
    if (g->input_len) {
        g->input_len = 0;
        g->input_off = 0;
        send_frame(g, 'A', "", 0);
    }
}

static void handle_frame(struct guest *g, const uint8_t *frame, size_t n)
{
    switch (frame[0]) {
    case 'I':
        if (g->input_len == 0 && n > 1) {
            memcpy(g->input, frame + 1, n - 1);
            g->input_len = n - 1;
            g->input_off = 0;
            feed_input(g);
        }
        break;
    case 'Z':
        close_input(g);
        break;
    case 'K':
        if (n == 2 && !g->ended) {
            kill(-g->program, frame[1]);
        }
        break;
    default:
        break; /* from a newer host: not for us */
    }
}

static void receive(struct guest *g)
{
    uint8_t chunk[512];
    ssize_t got = read(g->channel, chunk, sizeof(chunk));

    for (ssize_t i = 0; i < got; i++) {
        uint8_t byte = chunk[i];

        if (byte == FLAG) {
            if (!g->rx_bad && g->rx_len >= 5) {
                size_t n = g->rx_len - 4;
                const uint8_t *c = g->rx + n;
                uint32_t crc =
                    c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24;

                if (crc == crc_of(g, g->rx, n)) {
                    handle_frame(g, g->rx, n);
                }
            }
            g->rx_len = 0;
            g->rx_escaped = 0;
            g->rx_bad = 0;
        } else if (byte == ESCAPE) {
            g->rx_escaped = 1;
        } else if (g->rx_len < sizeof(g->rx)) {
            g->rx[g->rx_len++] = g->rx_escaped ? (uint8_t)(byte ^ ESCAPE_XOR) : byte;
            g->rx_escaped = 0;
        } else {
            g->rx_bad = 1;
        }
    }
}

static void forward(const struct guest *g, int *fd, char type)
{
    uint8_t chunk[PAYLOAD_MAX];
    ssize_t got = read(*fd, chunk, sizeof(chunk));

    if (got > 0) {
        send_frame(g, type, chunk, (size_t)got);
    } else if (got == 0 || errno != EINTR) {
        close(*fd);
        *fd = -1;
    }
}

static void reap(struct guest *g)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    if (read(g->child_fd, &info, sizeof(info)) < 0) {
        return;
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == g->program) {
            g->ended = 1;
            g->status = status;
            /* What it left behind would hold its output open for ever. */
            kill(-1, SIGKILL);
        }
    }
}

static void run(struct guest *g)
{
    while (!g->ended || g->out_fd >= 0 || g->err_fd >= 0) {
        struct pollfd watch[WATCH_COUNT] = {
            [WATCH_CHANNEL] = {.fd = g->channel, .events = POLLIN},
            [WATCH_CHILD] = {.fd = g->child_fd, .events = POLLIN},
            [WATCH_STDOUT] = {.fd = g->out_fd, .events = POLLIN},
            [WATCH_STDERR] = {.fd = g->err_fd, .events = POLLIN},
            [WATCH_STDIN] = {.fd = g->input_len ? g->in_fd : -1, .events = POLLOUT},
        };
        int ready = poll(watch, WATCH_COUNT, g->ended ? 2000 : -1);

        if (ready < 0) {
            continue;
        }
        if (ready == 0) {
            break; /* ended, and whoever still holds its output cannot be killed */
        }
        if (watch[WATCH_STDOUT].revents) {
            forward(g, &g->out_fd, 'O');
        }
        if (watch[WATCH_STDERR].revents) {
            forward(g, &g->err_fd, 'E');
        }
        if (watch[WATCH_CHILD].revents) {
            reap(g);
        }
        if (watch[WATCH_STDIN].revents) {
            feed_input(g);
        }
        if (watch[WATCH_CHANNEL].revents) {
            receive(g);
        }
    }
}

int main(void)
{
    static struct guest g;
    sigset_t set;
    uint8_t result[2];

    mount_all();
    crc_init(&g);
    g.in_fd = g.out_fd = g.err_fd = -1;
    g.channel = open_channel();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    g.child_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (g.channel < 0 || g.child_fd < 0) {
        fprintf(stderr, "vgpu-vm: cannot open %s: %s\n", CHANNEL, strerror(errno));
        return 1; /* the kernel panics, which the runner reports with this line */
    }
    send_frame(&g, 'H', "1", 1);
    if (start_program(&g) < 0) {
        finish(&g);
    }
    run(&g);
    result[0] = WIFSIGNALED(g.status) ? 1 : 0;
    result[1] = (uint8_t)(WIFSIGNALED(g.status) ? WTERMSIG(g.status) : WEXITSTATUS(g.status));
    send_frame(&g, 'X', result, sizeof(result));
    finish(&g);
    return 1;
}
