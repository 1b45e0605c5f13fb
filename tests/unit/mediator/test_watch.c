/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a watched directory in parts while room comes and goes (watch.h; docs/mediator.md). The
 * endpoints are the test's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "mediator/endpoint.h"
#include "mediator/watch.h"
#include "vgpu_test.h"

#define SOCKETS    600u /* more than two rounds of the loop read */
#define PATIENCE_S 30u

struct vgpu_endpoint {
    bool there;
};

static struct {
    struct vgpu_mediator m;
    struct vgpu_timer patience;
    struct vgpu_endpoint endpoint[SOCKETS];
    uint32_t count, room;
    uint32_t refused;     /* so far */
    uint32_t room_behind; /* after this many room is made, 0: never */
    bool late;
} world;

struct vgpu_endpoint *vgpu_endpoint_find(struct vgpu_mediator *m, uint32_t place, uint32_t vm_id)
{
    (void)m;
    (void)place;
    return vm_id < SOCKETS && world.endpoint[vm_id].there ? &world.endpoint[vm_id] : NULL;
}

struct vgpu_endpoint *vgpu_endpoint_create(struct vgpu_mediator *m, uint32_t vm_id,
                                           const char *directory, const char *name, int dir_fd,
                                           uint32_t place)
{
    (void)directory;
    (void)name;
    (void)dir_fd;
    if (vm_id >= SOCKETS)
        return NULL;
    if (world.count == world.room) {
        if (++world.refused == world.room_behind) { /* another one goes, in the middle of it */
            world.room = SOCKETS;
            vgpu_watch_room(m, place);
        }
        return NULL;
    }
    world.endpoint[vm_id].there = true;
    if (++world.count == SOCKETS)
        vgpu_loop_stop(m->loop);
    return &world.endpoint[vm_id];
}

void vgpu_endpoint_appeared(struct vgpu_endpoint *e, int dir_fd)
{
    (void)e;
    (void)dir_fd;
}

void vgpu_endpoint_vanished(struct vgpu_endpoint *e)
{
    (void)e;
}

void vgpu_endpoint_vanish_all(struct vgpu_mediator *m, uint32_t place)
{
    (void)m;
    (void)place;
}

static void on_patience(struct vgpu_timer *timer)
{
    (void)timer;
    world.late = true;
    vgpu_loop_stop(world.m.loop);
}

static void watch(uint32_t room, uint32_t room_behind)
{
    char folder[] = "/tmp/watch-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    for (uint32_t i = 0; i < SOCKETS; i++) {
        snprintf(path, sizeof(path), "%s/vm-%u.sock", folder, i);
        assert_int_equal(mknod(path, S_IFSOCK | 0600, 0), 0);
    }
    memset(&world, 0, sizeof(world));
    world.room = room;
    world.room_behind = room_behind;
    world.m.loop = vgpu_loop_create();
    assert_non_null(world.m.loop);
    vgpu_list_init(&world.m.watches);
    world.patience.call = on_patience;
    vgpu_loop_timer_set(world.m.loop, &world.patience,
                        vgpu_clock_ns() + PATIENCE_S * VGPU_NS_PER_S);
    assert_int_equal(vgpu_watch_add(&world.m, 0, folder), 0);
    assert_int_equal(vgpu_loop_run(world.m.loop), 0);
    vgpu_watch_free_all(&world.m);
    vgpu_loop_timer_cancel(world.m.loop, &world.patience);
    vgpu_loop_destroy(world.m.loop);
    for (uint32_t i = 0; i < SOCKETS; i++) {
        snprintf(path, sizeof(path), "%s/vm-%u.sock", folder, i);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
    assert_false(world.late);
    assert_int_equal(world.count, SOCKETS);
}

static void test_room_for_all(void **state)
{
    (void)state;
    watch(SOCKETS, 0);
    assert_int_equal(world.refused, 0);
}

/* Sockets that were passed over while a directory is read get the room that is made meanwhile, even
 * if nothing else ever goes. */
static void test_room_made_meanwhile(void **state)
{
    (void)state;
    watch(300, 250);
    assert_int_equal(world.refused, 250);
    watch(300, 20);
    assert_int_equal(world.refused, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_room_for_all),
        VGPU_TEST(test_room_made_meanwhile),
    };
    vgpu_log_set_level(VGPU_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
