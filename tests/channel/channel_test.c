/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "channel_test.h"

#include "cli/cli.h"
#include "guest/deadline.h"
#include "guest/guest.h"

struct vgpu *channel_test_gpu;

int channel_test_fail(const char *what)
{
    printf("FAILED %s: %s\n", what, vgpu_last_error_text());
    return 1;
}

bool channel_test_options(int argc, char **argv, struct channel_test_options *options)
{
    const char *value;
    *options = (struct channel_test_options){.seconds = 5, .seed = 1};
    for (int i = 2; i < argc; i++) {
        bool good = false;
        if (cli_text_option(argc, argv, &i, "--device", &value))
            good = (options->device = value) != NULL;
        else if (cli_option(argc, argv, &i, "--seconds", &value))
            good = cli_number(value, 1, 3600, &options->seconds);
        else if (cli_option(argc, argv, &i, "--seed", &value))
            good = cli_number(value, 1, UINT32_MAX, &options->seed);
        if (!good) {
            fprintf(stderr, "wrong argument '%s'\n", argv[i < argc ? i : argc - 1]);
            return false;
        }
    }
    return true;
}

bool channel_test_open(const struct channel_test_options *options)
{
    struct vgpu_options device = VGPU_OPTIONS_INIT;
    device.device = options->device;
    setvbuf(stdout, NULL, _IOLBF, 0);
    return vgpu_init(&device, &channel_test_gpu) == 0 || !channel_test_fail("vgpu_init");
}

int channel_test_request(uint64_t session, uint32_t opcode, const void *prefix, uint32_t length)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    struct vgpu_call call = {
        .what = "a session", .opcode = opcode, .prefix = prefix, .prefix_length = length};
    return vgpu_mailbox_call(channel_test_gpu, session, &call,
                             vgpu_deadline_ns(CHANNEL_TEST_PATIENCE_MS), &response, &answer);
}
