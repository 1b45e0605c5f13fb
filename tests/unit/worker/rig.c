/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test rig; see rig.h. */
#include "rig.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/sys.h"
#include "vgpu/account.h"
#include "vgpu_test.h"

static void respond(void *context, uint64_t seq, uint32_t error_code, const uint8_t *bytes,
                    uint32_t length)
{
    struct rig *r = context;
    assert_true(r->count < RIG_RESPONSES);
    assert_null(rig_response(r, seq)); /* W2: exactly one */
    parse_response(seq, error_code, bytes, length, &r->responses[r->count++]);
}

static uint64_t rig_now(void *context)
{
    return ((struct rig *)context)->now_ns;
}

static bool gate_is_open(void *context)
{
    enum vgpu_gate gate = vgpu_lease_gate(&((struct rig *)context)->lease);
    return gate != VGPU_GATE_CLOSED && gate != VGPU_GATE_RETURNED;
}

static int open_account(struct rig *r)
{
    struct vgpu_account_page head = {.magic = VGPU_ACCOUNT_MAGIC, .slot_count = 2};
    int fd = vgpu_memfd_create("account", VGPU_MFD_CLOEXEC);
    int rc = fd < 0 || ftruncate(fd, VGPU_ACCOUNT_FILE_BYTES) || pwrite(fd, &head, 64, 0) != 64 ||
             vgpu_account_open(fd, 0, RIG_QUOTA, &r->account) ||
             vgpu_account_open(fd, 1, RIG_QUOTA, &r->neighbour);
    void *page =
        rc ? MAP_FAILED : mmap(NULL, VGPU_ACCOUNT_FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    r->page = page;
    return page == MAP_FAILED ? -1 : 0;
}

static int make(void **state, const struct vgpu_backend_ops *ops, struct vgpu_backend *backend,
                uint64_t session, bool account)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct vgpu_device_info info;
    if (!r || (account && open_account(r)))
        return -1;
    r->ops = ops;
    r->backend = backend;
    if (ops == &fake_ops)
        fake_set_hook(r->backend, gate_is_open, r);
    vgpu_lease_init(&r->lease);
    vgpu_lease_grant(&r->lease, 1);
    ops->device_info(r->backend, &info);
    if (vgpu_engine_create(ops, r->backend, r->account, &r->lease, &r->engine))
        return -1;
    vgpu_dispatch_init(&r->dispatcher, r->engine, &info, session);
    vgpu_mailbox_init(&r->mailbox, &(struct vgpu_mailbox_config){.dispatcher = &r->dispatcher,
                                                                 .respond = respond,
                                                                 .now_ns = rig_now,
                                                                 .context = r});
    r->now_ns = 1000000000;
    *state = r;
    return 0;
}

int rig_setup_on(void **state, const struct vgpu_backend_ops *ops, struct vgpu_backend *backend,
                 uint64_t session)
{
    return make(state, ops, backend, session, false);
}

int rig_setup_on_account(void **state, const struct vgpu_backend_ops *ops,
                         struct vgpu_backend *backend, uint64_t session)
{
    return make(state, ops, backend, session, true);
}

static int setup(void **state, uint64_t session, bool account)
{
    struct vgpu_backend *backend;
    char why[100];
    if (fake_ops.open(&(struct vgpu_backend_config){0}, &backend, why, sizeof(why)))
        return -1;
    return make(state, &fake_ops, backend, session, account);
}

int rig_setup(void **state)
{
    return setup(state, 0, false);
}

int rig_setup_account(void **state)
{
    return setup(state, 0, true);
}

int rig_setup_session(void **state)
{
    return setup(state, RIG_SESSION, false);
}

int rig_teardown(void **state)
{
    struct rig *r = *state;
    vgpu_engine_destroy(r->engine);
    vgpu_mailbox_destroy(&r->mailbox);
    vgpu_dispatch_destroy(&r->dispatcher);
    int rc = r->ops == &fake_ops && fake_violations(r->backend) ? -1 : 0;
    if (rc)
        print_error("the backend was entered when it might not\n");
    r->ops->close(r->backend);
    if (r->page)
        munmap((void *)(uintptr_t)r->page, VGPU_ACCOUNT_FILE_BYTES);
    vgpu_account_close(r->account);
    vgpu_account_close(r->neighbour);
    free(r);
    return rc;
}

uint64_t rig_submit_as(struct rig *r, const struct request *request, uint32_t request_id)
{
    uint64_t seq = ++r->seq;
    vgpu_mailbox_request(&r->mailbox, seq, request_id, request->bytes, request->length);
    return seq;
}

uint64_t rig_submit(struct rig *r, const struct request *request)
{
    return rig_submit_as(r, request, ++r->request_id);
}

const struct response *rig_response(struct rig *r, uint64_t seq)
{
    for (unsigned i = 0; i < r->count; i++) {
        if (r->responses[i].seq == seq)
            return &r->responses[i];
    }
    return NULL;
}

const struct response *rig_wait(struct rig *r, uint64_t seq)
{
    const struct response *response;
    while (!(response = rig_response(r, seq))) {
        struct pollfd p = {.fd = vgpu_engine_fd(r->engine), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 20000), 1);
        vgpu_dispatch_collect(&r->dispatcher);
    }
    return response;
}

const struct response *rig_call(struct rig *r, struct request request)
{
    return rig_wait(r, rig_submit(r, &request));
}

void rig_forget(struct rig *r)
{
    r->count = 0;
}

struct settle_sink {
    struct vgpu_sink sink; /* first */
    bool done;
};

static void settled(struct vgpu_sink *sink, void *tag, const struct vgpu_answer *answer)
{
    (void)tag, (void)answer;
    ((struct settle_sink *)sink)->done = true;
}

static void settle_once(struct rig *r)
{
    /* A copy that fails without effect goes through the queue: what was before it is done when it
     * is. Past the mailbox, which must not see it. */
    struct request probe = req_dtod(0, 0, 1);
    if (r->dispatcher.session.id)
        probe = req_wrap(r->dispatcher.session.id, &probe);
    struct settle_sink s = {.sink.answer = settled};
    struct vgpu_answer answer;
    if (!vgpu_dispatch_submit(&r->dispatcher, probe.bytes, probe.length, &s.sink, NULL, &answer))
        s.done = true; /* sticky: the queue empties by itself */
    for (int i = 0; i < 2000 && (!s.done || vgpu_engine_has_work(r->engine)); i++) {
        struct pollfd p = {.fd = vgpu_engine_fd(r->engine), .events = POLLIN};
        (void)poll(&p, 1, 10);
        vgpu_dispatch_collect(&r->dispatcher);
    }
    assert_true(s.done);
}

void rig_settle(struct rig *r)
{
    settle_once(r);
    settle_once(r); /* what the first round gave up is undone behind its own probe */
}

void rig_advance(struct rig *r, uint64_t ns)
{
    r->now_ns += ns;
    vgpu_mailbox_tick(&r->mailbox);
}

/* A request of the named kind for this rig's session, or the bare one for session 0. */
static struct request for_session(struct rig *r, struct request request)
{
    uint64_t session = r->dispatcher.session.id;
    return session ? req_wrap(session, &request) : request;
}

uint64_t rig_alloc(struct rig *r, uint64_t size)
{
    const struct response *response = rig_call(r, for_session(r, req_alloc(size)));
    expect_ok(response);
    assert_int_equal(response->result_count, 2);
    return result64(response, 0);
}

uint64_t rig_load(struct rig *r)
{
    const struct response *response = rig_call(r, req_load(r->dispatcher.session.id, 0, "ok"));
    expect_ok(response);
    assert_int_equal(response->result_count, 2);
    return result64(response, 0);
}

uint64_t rig_kernel(struct rig *r, uint64_t module, const char *name)
{
    const struct response *response =
        rig_call(r, req_module_kernel(r->dispatcher.session.id, module, 0, name));
    expect_ok(response);
    assert_int_equal(response->result_count, 7);
    return result64(response, 0);
}
