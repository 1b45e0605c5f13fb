/* SPDX-License-Identifier: MIT */
/*
 * A channel between two pages that nobody may touch, and both its ends. The buffer that records are
 * taken to is from the heap and just large enough, so that AddressSanitizer watches it.
 */
#ifndef RING_RIG_H
#define RING_RIG_H

#include "vgpu_test.h"

#include <stdbool.h>
#include <string.h>

#include "ring/ring.h"

#define RECORD_BYTES ((size_t)VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT)

struct ring_rig {
    uint8_t *channel;
    uint8_t *record; /* RECORD_BYTES */
    struct vgpu_ring_client client;
    struct vgpu_ring_server server;
};

/* Memory that processes share: VGPU_CHANNEL_BYTES with a guard on either side; NULL: none to be
 * had. */
uint8_t *rig_channel_map(void);
void rig_channel_unmap(uint8_t *channel);

/* cmocka's way: *state is the rig. */
int rig_setup(void **state);
int rig_teardown(void **state);
#define RING_TEST(f) VGPU_TEST_F(f, rig_setup, rig_teardown)

/* Both ends begin anew. */
void rig_reset(struct ring_rig *r);

struct vgpu_ring_guest *rig_guest_page(struct ring_rig *r);
struct vgpu_ring_worker *rig_worker_page(struct ring_rig *r);
struct vgpu_ring_completion *rig_entry(struct ring_rig *r, uint64_t count);
/* The unit where the worker's next record begins. */
struct vgpu_ring_record *rig_next_record(struct ring_rig *r);

/* Writes a record, with a body whose bytes follow from its token; false: no room. */
bool rig_write(struct ring_rig *r, uint32_t token, uint32_t length);
/* The same, published. */
void rig_post(struct ring_rig *r, uint32_t token, uint32_t length);
/* Takes a record, which must be this one. */
void rig_expect(struct ring_rig *r, uint32_t token, uint32_t length);
/* The channel is fatal for this reason, on both ends, and stays so whatever the worker tries. */
void rig_expect_fatal(struct ring_rig *r, enum vgpu_channel_error error);

/* Pseudo-random, the same in every run. */
uint32_t rig_random(uint32_t *state);
/* What a body holds at this place. */
uint8_t rig_byte(uint32_t token, uint32_t at);

#endif
