/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line; see options.h. */
#include "worker/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>

#include "common/parse.h"
#include "vgpu/account.h"

enum option_id {
    OPT_FD = 256,
    OPT_ACCOUNT_FD,
    OPT_ACCOUNT_SLOT,
    OPT_VM,
    OPT_SESSION,
    OPT_BACKEND,
    OPT_GPU,
    OPT_MEMORY,
    OPT_THREADS,
    OPT_QUEUE,
    OPT_LAUNCH_INSTRUCTIONS,
    OPT_ALLOW_PAGEABLE,
    OPT_UID,
    OPT_GID,
    OPT_LOG_LEVEL,
    OPT_PROBE,
    OPT_HELP,
    OPT_VERSION,
};

static const struct option long_options[] = {
    {"fd", required_argument, NULL, OPT_FD},
    {"account-fd", required_argument, NULL, OPT_ACCOUNT_FD},
    {"account-slot", required_argument, NULL, OPT_ACCOUNT_SLOT},
    {"vm", required_argument, NULL, OPT_VM},
    {"session", required_argument, NULL, OPT_SESSION},
    {"backend", required_argument, NULL, OPT_BACKEND},
    {"gpu", required_argument, NULL, OPT_GPU},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"queue", required_argument, NULL, OPT_QUEUE},
    {"launch-instructions", required_argument, NULL, OPT_LAUNCH_INSTRUCTIONS},
    {"allow-pageable-access", no_argument, NULL, OPT_ALLOW_PAGEABLE},
    {"uid", required_argument, NULL, OPT_UID},
    {"gid", required_argument, NULL, OPT_GID},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"probe", no_argument, NULL, OPT_PROBE},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

const char *vgpu_worker_usage(void)
{
    return "usage: vgpu-worker --fd N --vm ID --session ID --backend NAME [--gpu N|GPU-UUID]\n"
           "                   [--memory BYTES [--account-fd N --account-slot N]] [--threads N]\n"
           "                   [--queue N] [--uid N --gid N]\n"
           "                   [--log-level error|warn|info|debug]\n"
           "                   [--launch-instructions N] [--allow-pageable-access]\n"
           "       vgpu-worker --probe [--backend NAME]\n"
           "\n"
           "Serves one session of one VM on a GPU. The mediator starts it; descriptor N is its "
           "end\n"
           "of a SOCK_SEQPACKET pair; the account is what all sessions of the VM share their\n"
           "memory by. --probe prints a line of JSON for each GPU that could be\n"
           "used, and exits. --allow-pageable-access takes a GPU whose kernels can reach the "
           "memory\n"
           "of this process: only where every guest is trusted.\n";
}

static int set_option(struct vgpu_worker_options *o, int id, const char *text)
{
    uint32_t n;
    int rc;
    switch (id) {
    case OPT_FD:
        if ((rc = vgpu_parse_u32(text, 3, INT_MAX, &n)))
            return rc;
        o->fd = (int)n;
        return 0;
    case OPT_VM:
        o->has_vm = true;
        return vgpu_parse_u32(text, 0, UINT32_MAX, &o->vm);
    case OPT_SESSION:
        o->has_session = true;
        return vgpu_parse_u64(text, 0, UINT64_MAX, &o->session);
    case OPT_BACKEND:
        o->backend = text;
        return 0;
    case OPT_ACCOUNT_FD:
        if ((rc = vgpu_parse_u32(text, 3, INT_MAX, &n)))
            return rc;
        o->account_fd = (int)n;
        return 0;
    case OPT_ACCOUNT_SLOT:
        return vgpu_parse_u32(text, 0, VGPU_ACCOUNT_SLOTS - 1, &o->account_slot);
    case OPT_GPU:
        o->config.has_gpu_uuid = !vgpu_parse_uuid(text, o->config.gpu_uuid);
        return o->config.has_gpu_uuid ? 0 : vgpu_parse_u32(text, 0, 1023, &o->config.gpu);
    case OPT_MEMORY:
        return vgpu_parse_size(text, 1, UINT64_MAX, &o->config.memory_bytes);
    case OPT_THREADS:
        return vgpu_parse_u32(text, 1, 1024, &o->config.threads);
    case OPT_QUEUE:
        return vgpu_parse_u32(text, 1, 65536, &o->queue);
    case OPT_LAUNCH_INSTRUCTIONS:
        return vgpu_parse_u64(text, 1, UINT64_MAX, &o->config.launch_instructions);
    case OPT_ALLOW_PAGEABLE:
        o->config.allow_pageable_access = true;
        return 0;
    case OPT_UID:
        /* The highest number means "leave it" to setresuid. */
        if ((rc = vgpu_parse_u32(text, 0, UINT32_MAX - 1, &n)))
            return rc;
        o->identity.uid = n;
        return 0;
    case OPT_GID:
        if ((rc = vgpu_parse_u32(text, 0, UINT32_MAX - 1, &n)))
            return rc;
        o->identity.gid = n;
        return 0;
    case OPT_LOG_LEVEL:
        return vgpu_log_level_parse(text, &o->log_level);
    case OPT_PROBE:
        o->probe = true;
        return 0;
    case OPT_HELP:
        o->help = true;
        return 0;
    case OPT_VERSION:
        o->version = true;
        return 0;
    default:
        return -EINVAL;
    }
}

int vgpu_worker_options_parse(int argc, char **argv, struct vgpu_worker_options *out, char *why,
                              unsigned long why_size)
{
    bool uid = false, gid = false, slot = false;
    *out = (struct vgpu_worker_options){.fd = -1, .account_fd = -1, .log_level = VGPU_LOG_INFO};
    optind = 1;
    opterr = 0;
    for (;;) {
        int index = -1;
        int id = getopt_long(argc, argv, "", long_options, &index);
        if (id < 0)
            break;
        if (id == '?') {
            snprintf(why, why_size, "%s: unknown, or without its value", argv[optind - 1]);
            return -EINVAL;
        }
        if (set_option(out, id, optarg)) {
            snprintf(why, why_size, "--%s: '%s' is not a value for it", long_options[index].name,
                     optarg);
            return -EINVAL;
        }
        uid |= id == OPT_UID;
        gid |= id == OPT_GID;
        slot |= id == OPT_ACCOUNT_SLOT;
    }
    if (out->help || out->version)
        return 0;
    const char *missing = NULL;
    if (optind < argc)
        missing = "no arguments besides options are taken";
    else if (uid != gid)
        missing = "--uid and --gid go together";
    else if (!out->probe && out->fd < 0)
        missing = "--fd is missing: the mediator starts this program, not a person";
    else if (!out->probe && (!out->has_vm || !out->has_session || !out->backend))
        missing = "--vm, --session and --backend must be given";
    else if (slot != (out->account_fd >= 0) || (slot && !out->config.memory_bytes))
        missing = "--account-fd and --account-slot go together, and with --memory";
    else if (slot && out->account_fd == out->fd)
        missing = "--account-fd and --fd have to differ";
    if (missing) {
        snprintf(why, why_size, "%s", missing);
        return -EINVAL;
    }
    out->identity.given = uid;
    return 0;
}
