/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-registers [--device D] [--pool LETTER] [--priority 0|1|2] [--vm-id N] [--attached 0|1]
 *
 * The register map as a guest's loads and stores see it through the hypervisor, past the library.
 * What only the host can bring about (R9, R12, R14) is tested elsewhere. The options say what the
 * registers should show; without them any sensible value will do.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "guest/deadline.h"
#include "guest_test.h"
#include "vgpu/ring.h"

static volatile uint8_t *bar;

/* ---- Accesses of each width ---- */

static uint8_t read8(uint32_t at)
{
    return bar[at];
}

static uint16_t read16(uint32_t at)
{
    return *(volatile uint16_t *)(volatile void *)(bar + at);
}

static uint32_t read32(uint32_t at)
{
    return *(volatile uint32_t *)(volatile void *)(bar + at);
}

static uint64_t read64(uint32_t at)
{
    return *(volatile uint64_t *)(volatile void *)(bar + at);
}

static void write8(uint32_t at, uint8_t value)
{
    bar[at] = value;
}

static void write16(uint32_t at, uint16_t value)
{
    *(volatile uint16_t *)(volatile void *)(bar + at) = value;
}

static void write32(uint32_t at, uint32_t value)
{
    *(volatile uint32_t *)(volatile void *)(bar + at) = value;
}

static void write64(uint32_t at, uint64_t value)
{
    *(volatile uint64_t *)(volatile void *)(bar + at) = value;
}

static uint32_t settle(void)
{
    uint64_t deadline_ns = vgpu_deadline_ns(60000);
    struct vgpu_backoff backoff = {0};
    uint32_t status;
    do {
        status = read32(VGPU_REG_STATUS);
    } while (status == VGPU_STATUS_BUSY && vgpu_backoff_wait(&backoff, deadline_ns));
    return status;
}

/* A request that the device answers by itself whatever the link does: REQUEST_LEN 0, error 9. */
static void fail_by_device(void)
{
    write32(VGPU_REG_REQUEST_LEN, 0);
    write32(VGPU_REG_DOORBELL, 1);
}

/* ---- Clauses ---- */

static void test_words(void)
{
    write32(VGPU_REG_SCRATCH, 0xA1B2C3D4);
    guest_check(read32(VGPU_REG_SCRATCH) == 0xA1B2C3D4, "R2", "SCRATCH keeps a word");
    guest_check(read8(VGPU_REG_SCRATCH) == 0xD4 && read8(VGPU_REG_SCRATCH + 3) == 0xA1 &&
                    read16(VGPU_REG_SCRATCH + 2) == 0xA1B2,
                "R4", "parts of SCRATCH read its bytes, little-endian");
    write8(VGPU_REG_SCRATCH, 0xFF);
    write16(VGPU_REG_SCRATCH + 2, 0xFFFF);
    guest_check(read32(VGPU_REG_SCRATCH) == 0xA1B2C3D4, "R4", "a write of a part is ignored");
    write64(VGPU_REG_TIMESTAMP_HI, 0x1122334455667788ull);
    guest_check(read32(VGPU_REG_SCRATCH) == 0x11223344, "R2",
                "eight bytes are two words: the second reaches SCRATCH");
    guest_check(read32(VGPU_REG_TIMESTAMP_HI) != 0x55667788, "R5",
                "the first, to a read-only register, does nothing");
    /* Aligned to its width: emulation hands other accesses to the device byte by byte. */
    write64(VGPU_REG_REQUEST_ID, 0xFFFFFFFF0BADCAFEull);
    guest_check(read64(VGPU_REG_REQUEST_ID) >> 32 == read32(VGPU_REG_TIMESTAMP_LO), "R2",
                "eight bytes read two words");
    guest_check(read32(VGPU_REG_REQUEST_ID) == 0x0BADCAFE, "R2", "REQUEST_ID keeps a word");
}

static void test_buffers(void)
{
    uint8_t pattern[VGPU_MAILBOX_BYTES];
    bool same = true;
    for (uint32_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i * 7 + 3);
    for (uint32_t i = 0; i < sizeof(pattern);) {
        uint32_t width = 1u << (i / 8 % 4); /* 1, 2, 4, 8 and round again */
        uint32_t left = (uint32_t)sizeof(pattern) - i;
        if (width > left || i % width)
            width = 1;
        uint64_t value = 0;
        memcpy(&value, pattern + i, width);
        if (width == 1)
            write8(VGPU_REG_REQUEST_BUF + i, (uint8_t)value);
        else if (width == 2)
            write16(VGPU_REG_REQUEST_BUF + i, (uint16_t)value);
        else if (width == 4)
            write32(VGPU_REG_REQUEST_BUF + i, (uint32_t)value);
        else
            write64(VGPU_REG_REQUEST_BUF + i, value);
        i += width;
    }
    for (uint32_t i = 0; i < sizeof(pattern); i++)
        same = same && read8(VGPU_REG_REQUEST_BUF + i) == pattern[i];
    guest_check(same, "R3", "REQUEST_BUF keeps what accesses of 1, 2, 4 and 8 bytes wrote");
    same = true;
    for (uint32_t i = 0; i + 8 <= sizeof(pattern); i += 8) {
        uint64_t want;
        memcpy(&want, pattern + i, 8);
        same = same && read64(VGPU_REG_REQUEST_BUF + i) == want;
    }
    guest_check(same, "R3", "and reads it back eight bytes at a time");
    write32(VGPU_REG_RESPONSE_BUF, 0x5A5A5A5A);
    guest_check(read32(VGPU_REG_RESPONSE_BUF) == 0, "R5", "RESPONSE_BUF ignores writes");
}

static void test_read_only(void)
{
    static const uint32_t offsets[] = {
        VGPU_REG_STATUS,         VGPU_REG_POOL_ID,       VGPU_REG_PRIORITY,
        VGPU_REG_VM_ID,          VGPU_REG_ERROR_CODE,    VGPU_REG_RESPONSE_LEN,
        VGPU_REG_PROTOCOL_VER,   VGPU_REG_CAPABILITIES,  VGPU_REG_TIMESTAMP_LO,
        VGPU_REG_TIMESTAMP_HI,   VGPU_REG_GENERATION,    VGPU_REG_LINK_STATE,
        VGPU_REG_WINDOW_SIZE_LO, VGPU_REG_CHANNEL_COUNT,
    };
    bool same = true;
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        uint32_t before = read32(offsets[i]);
        write32(offsets[i], ~before);
        same = same && read32(offsets[i]) == before;
    }
    guest_check(same, "R5", "read-only registers ignore writes");
    bool zero = true;
    uint32_t channels_end = VGPU_REG_CHANNEL_OWNER(read32(VGPU_REG_CHANNEL_COUNT));
    for (uint32_t at = VGPU_REG_LINK_STATE + 4; at < VGPU_BAR0_SIZE; at += 4) {
        if (at == VGPU_REG_CHANNEL_OWNER(0) && at < channels_end)
            at = channels_end; /* t-window has those */
        if (at % 64 == 0)
            write32(at, 0xFFFFFFFF);
        zero = zero && read32(at) == 0;
    }
    guest_check(zero, "R5", "the rest of BAR0 reads 0 and ignores writes");
    guest_check(read32(VGPU_REG_DOORBELL) == 0, "R6", "DOORBELL reads 0");
    write32(VGPU_REG_INTERRUPT_CTRL, 0xFFFFFFFE);
    guest_check(read32(VGPU_REG_INTERRUPT_CTRL) == 0, "R5",
                "reserved bits of INTERRUPT_CTRL read 0");
}

static void test_own_completions(void)
{
    write32(VGPU_REG_INTERRUPT_STATUS, 1);
    guest_check(read32(VGPU_REG_INTERRUPT_STATUS) == 0, "R11", "INTERRUPT_STATUS is cleared by 1");
    fail_by_device();
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_ERROR &&
                    read32(VGPU_REG_ERROR_CODE) == VGPU_ERR_INVALID_LENGTH,
                "R6", "REQUEST_LEN 0 is error 9");
    guest_check(read32(VGPU_REG_INTERRUPT_STATUS) == 1, "R11",
                "the completion sets INTERRUPT_STATUS though INTERRUPT_CTRL is 0");
    write32(VGPU_REG_INTERRUPT_STATUS, 0xFFFFFFFE);
    guest_check(read32(VGPU_REG_INTERRUPT_STATUS) == 1, "R11", "writing 0 there clears nothing");
    guest_check(read16(VGPU_REG_RESPONSE_LEN) == 0 && read32(VGPU_REG_STATUS) == VGPU_STATUS_ERROR,
                "R10", "reading a part of RESPONSE_LEN does not acknowledge");
    uint32_t low = read32(VGPU_REG_TIMESTAMP_LO);
    uint64_t first = (uint64_t)read32(VGPU_REG_TIMESTAMP_HI) << 32 | low;
    guest_check(first != 0, "R13", "the completion has a time: %" PRIu64 " ns", first);
    guest_check(read32(VGPU_REG_RESPONSE_LEN) == 0 && read32(VGPU_REG_STATUS) == VGPU_STATUS_IDLE,
                "R10", "reading a RESPONSE_LEN of 0 acknowledges");
    guest_check(read32(VGPU_REG_ERROR_CODE) == VGPU_ERR_INVALID_LENGTH, "R10",
                "and changes nothing but STATUS");

    write32(VGPU_REG_REQUEST_LEN, VGPU_MAILBOX_BYTES + 1);
    write32(VGPU_REG_DOORBELL, 1);
    guest_check(read32(VGPU_REG_ERROR_CODE) == VGPU_ERR_REQUEST_TOO_LARGE, "R6",
                "REQUEST_LEN 1025 is error 2");
    low = read32(VGPU_REG_TIMESTAMP_LO);
    uint64_t second = (uint64_t)read32(VGPU_REG_TIMESTAMP_HI) << 32 | low;
    guest_check(second >= first, "R13", "time does not go back");
    write32(VGPU_REG_REQUEST_LEN, 0xFFFFFFFF);
    write32(VGPU_REG_DOORBELL, 1);
    guest_check(read32(VGPU_REG_ERROR_CODE) == VGPU_ERR_REQUEST_TOO_LARGE, "R6",
                "REQUEST_LEN 0xFFFFFFFF is error 2");
    write32(VGPU_REG_DOORBELL, 0);
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_IDLE, "R10",
                "DOORBELL with bit 0 clear acknowledges");
    write8(VGPU_REG_DOORBELL, 1);
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_IDLE, "R4", "a byte rings no doorbell");
    write32(VGPU_REG_DOORBELL, 0xFFFFFFFE);
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_IDLE, "R6",
                "reserved bits of DOORBELL ring nothing");
    fail_by_device();
    fail_by_device();
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_ERROR, "R10",
                "a doorbell acknowledges the request before");
    write32(VGPU_REG_DOORBELL, 0);
}

/* A NOP, from the doorbell to its completion. Returns STATUS. */
static uint32_t run_nop(bool scribble)
{
    struct vgpu_request_header nop = {.version = VGPU_PROTOCOL_VERSION, .opcode = VGPU_OP_NOP};
    for (uint32_t i = 0; i < sizeof(nop); i += 4) {
        uint32_t word;
        memcpy(&word, (uint8_t *)&nop + i, 4);
        write32(VGPU_REG_REQUEST_BUF + i, word);
    }
    write32(VGPU_REG_REQUEST_LEN, sizeof(nop));
    write32(VGPU_REG_REQUEST_ID, (uint32_t)vgpu_now_ns() | 1);
    write32(VGPU_REG_DOORBELL, 1);
    if (scribble) {
        write32(VGPU_REG_REQUEST_BUF, 0xDEADBEEF);
        write32(VGPU_REG_REQUEST_BUF + 4, 0xDEADBEEF);
        write32(VGPU_REG_REQUEST_LEN, 3);
        write32(VGPU_REG_REQUEST_ID, 0);
    }
    return settle();
}

static void test_mediated_completions(void)
{
    uint32_t status = run_nop(false);
    if (!guest_check(status == VGPU_STATUS_DONE, "R8",
                     "a NOP is DONE (STATUS %" PRIu32 ", ERROR_CODE %" PRIu32 ")", status,
                     read32(VGPU_REG_ERROR_CODE)))
        return;
    uint32_t length = read32(VGPU_REG_RESPONSE_LEN);
    guest_check(length == 32 && read32(VGPU_REG_STATUS) == VGPU_STATUS_DONE, "R10",
                "reading RESPONSE_LEN %" PRIu32 " does not acknowledge when it is not 0", length);
    guest_check(read32(VGPU_REG_ERROR_CODE) == 0, "R8", "DONE has ERROR_CODE 0");
    guest_check(read32(VGPU_REG_RESPONSE_BUF) == VGPU_PROTOCOL_VERSION &&
                    read32(VGPU_REG_STATUS) == VGPU_STATUS_DONE,
                "R10", "reading the first word does not acknowledge");
    guest_check(read32(VGPU_REG_RESPONSE_BUF + length) == 0 &&
                    read32(VGPU_REG_RESPONSE_BUF + VGPU_MAILBOX_BYTES - 4) == 0,
                "R8", "bytes past the response are 0");
    (void)read8(VGPU_REG_RESPONSE_BUF + length - 1);
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_IDLE, "R10",
                "reading the last byte acknowledges");
    guest_check(read32(VGPU_REG_RESPONSE_LEN) == length &&
                    read32(VGPU_REG_RESPONSE_BUF) == VGPU_PROTOCOL_VERSION,
                "R10", "and leaves the response where it is");
    run_nop(false);
    (void)read64(VGPU_REG_RESPONSE_BUF + length - 8);
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_IDLE, "R10",
                "eight bytes that cover the last one acknowledge too");
    status = run_nop(true);
    guest_check(status == VGPU_STATUS_DONE, "R7",
                "what is written while BUSY does not change the request");
    fail_by_device();
    guest_check(read32(VGPU_REG_RESPONSE_LEN) == 0 && read32(VGPU_REG_RESPONSE_BUF) == 0, "R6",
                "a doorbell forgets the response before");
    write32(VGPU_REG_DOORBELL, 0);
}

static void test_unattached(void)
{
    uint32_t status = run_nop(false);
    guest_check(status == VGPU_STATUS_ERROR &&
                    read32(VGPU_REG_ERROR_CODE) == VGPU_ERR_MEDIATOR_UNAVAILABLE,
                "R6", "without a mediator a request is error 3");
    guest_check(read32(VGPU_REG_RESPONSE_LEN) == 0, "R8", "with no response");
    write32(VGPU_REG_DOORBELL, 0);
}

static void test_reset(const char *dir)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/reset", dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        guest_say("note   R15  no reset file in sysfs: %s", strerror(errno));
        return;
    }
    uint32_t generation = read32(VGPU_REG_GENERATION), link = read32(VGPU_REG_LINK_STATE);
    uint32_t pool = read32(VGPU_REG_POOL_ID);
    write32(VGPU_REG_SCRATCH, 0x77777777);
    write32(VGPU_REG_REQUEST_BUF, 0x77777777);
    fail_by_device();
    ssize_t n = write(fd, "1", 1);
    int err = errno;
    close(fd);
    if (!guest_check(n == 1, "R15", "the kernel resets the device%s%s", n == 1 ? "" : ": ",
                     n == 1 ? "" : strerror(err)))
        return;
    guest_check(read32(VGPU_REG_STATUS) == VGPU_STATUS_IDLE && read32(VGPU_REG_SCRATCH) == 0 &&
                    read32(VGPU_REG_REQUEST_BUF) == 0 && read32(VGPU_REG_ERROR_CODE) == 0 &&
                    read32(VGPU_REG_TIMESTAMP_LO) == 0 && read32(VGPU_REG_INTERRUPT_STATUS) == 0,
                "R15", "a reset gives registers their reset values");
    guest_check(read32(VGPU_REG_GENERATION) > generation, "R17",
                "and moves GENERATION: %" PRIu32 " to %" PRIu32, generation,
                read32(VGPU_REG_GENERATION));
    guest_check(read32(VGPU_REG_LINK_STATE) == link && read32(VGPU_REG_POOL_ID) == pool, "R16",
                "and keeps LINK_STATE and POOL_ID");
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    const char *value, *pool = NULL;
    uint64_t priority = UINT64_MAX, vm_id = UINT64_MAX, attached = UINT64_MAX;
    for (int i = 1; i < argc; i++) {
        bool good = true;
        if (cli_option(argc, argv, &i, "--device", &value))
            good = (options.device = value) != NULL;
        else if (cli_option(argc, argv, &i, "--pool", &value))
            good = (pool = value) != NULL;
        else if (cli_option(argc, argv, &i, "--priority", &value))
            good = cli_number(value, 0, 2, &priority);
        else if (cli_option(argc, argv, &i, "--vm-id", &value))
            good = cli_number(value, 0, UINT32_MAX, &vm_id);
        else if (cli_option(argc, argv, &i, "--attached", &value))
            good = cli_number(value, 0, 1, &attached);
        else
            good = false;
        if (!good) {
            fprintf(stderr, "t-registers: wrong arguments; see the top of t-registers.c\n");
            return 2;
        }
    }
    struct vgpu *gpu = guest_open("t-registers", &options);
    bar = guest_map("t-registers", gpu);
    if (settle() != VGPU_STATUS_IDLE)
        write32(VGPU_REG_DOORBELL, 0);
    uint32_t letter = read32(VGPU_REG_POOL_ID), level = read32(VGPU_REG_PRIORITY);
    guest_check(letter >= 'A' && letter <= 'Z' && (!pool || letter == (uint32_t)pool[0]), "R16",
                "POOL_ID is %" PRIu32, letter);
    guest_check(level <= 2 && (priority == UINT64_MAX || level == priority), "R16",
                "PRIORITY is %" PRIu32, level);
    guest_check(vm_id == UINT64_MAX || read32(VGPU_REG_VM_ID) == vm_id, "R16", "VM_ID is %" PRIu32,
                read32(VGPU_REG_VM_ID));
    bool is_attached = read32(VGPU_REG_LINK_STATE) & VGPU_LINK_ATTACHED;
    guest_check(attached == UINT64_MAX || is_attached == (attached == 1), "R16",
                "LINK_STATE is %" PRIu32, read32(VGPU_REG_LINK_STATE));
    guest_check(read32(VGPU_REG_PROTOCOL_VER) == VGPU_PROTOCOL_VERSION, "R1",
                "PROTOCOL_VER is 0x%08" PRIx32, read32(VGPU_REG_PROTOCOL_VER));
    uint32_t capabilities = read32(VGPU_REG_CAPABILITIES);
    guest_check((capabilities & ~(VGPU_CAP_INTERRUPT | VGPU_CAP_WINDOW)) == VGPU_CAP_MAILBOX, "R1",
                "CAPABILITIES is 0x%" PRIx32, capabilities);
    bool window = capabilities & VGPU_CAP_WINDOW;
    guest_check(window == (read64(VGPU_REG_WINDOW_SIZE_LO) != 0) &&
                    window == (read32(VGPU_REG_CHANNEL_COUNT) != 0) &&
                    read32(VGPU_REG_CHANNEL_SIZE) == (window ? VGPU_CHANNEL_BYTES : 0),
                "R20", "there is %s window, and all registers say so", window ? "a" : "no");
    test_words();
    test_buffers();
    test_read_only();
    test_own_completions();
    if (is_attached)
        test_mediated_completions();
    else
        test_unattached();
    test_reset(guest_sysfs_dir(gpu));
    vgpu_cleanup(gpu);
    return guest_finish("t-registers", is_attached ? "attached=1" : "attached=0");
}
