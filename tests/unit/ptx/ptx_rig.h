/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the software backend share: a session, a module from text, one kernel over
 * buffers, and a runner that tries one instruction against a plain C function on many values.
 */
#ifndef VGPU_TEST_PTX_RIG_H
#define VGPU_TEST_PTX_RIG_H

#include "vgpu_test.h"

#include <stdbool.h>

#include "backend/backend.h"

struct rig {
    const struct vgpu_backend_ops *o;
    struct vgpu_backend *b;
    struct vgpu_backend_module *m;
    char log[512];
};

/* A session with `threads` threads and default limits; fails the test when there is none. */
void rig_open(struct rig *r, unsigned threads);
void rig_open_config(struct rig *r, const struct vgpu_backend_config *config);
void rig_close(struct rig *r);

#define PTX_HEAD ".version 7.0\n.target sm_75\n.address_size 64\n"

/* Loads text with PTX_HEAD in front of it, expecting `want`; r->log has what was said. */
void rig_load(struct rig *r, const char *text, CUresult want);
CUresult rig_load_raw(struct rig *r, const char *text, size_t bytes);
void rig_unload(struct rig *r);

/* Launches kernel `name` of the module, grid x block threads, with up to six 64-bit parameters. */
CUresult rig_launch(struct rig *r, const char *name, uint32_t grid, uint32_t block, uint32_t shared,
                    unsigned params, const uint64_t *values);

/* Loads a module and runs its kernel k, which takes the address of RIG_WORDS words, over `threads`
 * threads of one block; fetches the words when it ran. */
#define RIG_WORDS 1024
CUresult rig_words(struct rig *r, const char *module, uint32_t threads, uint32_t got[RIG_WORDS]);

/* A file of the source tree, NUL-terminated; the caller frees it. */
char *rig_read(const char *path, size_t *bytes);

/*
 * One instruction against a reference. `text` works on registers by kind: inputs %ra %rb %rc (32
 * bit), %la.. (64), %ha.. (16), %fa.. (f32), %da.. (f64), made of the low bits of a, b, c; the
 * result goes to %rx, %lx, %hx, %fx, %dx or %px, as `kind` ('r' 'l' 'h' 'f' 'd' 'p') says. It runs
 * on every pair of edge values and on random ones, with all lanes and with every other lane guarded
 * off (whose results must stay), at each instruction set level.
 */
typedef uint64_t (*rig_ref)(uint64_t a, uint64_t b, uint64_t c);
void rig_op(const char *text, char kind, rig_ref ref);

/* The same over the given triples only. */
void rig_op_on(const char *text, char kind, rig_ref ref, const uint64_t (*abc)[3], size_t n);

static inline uint32_t bits_of(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    return v.u;
}
static inline float f32_of(uint64_t u)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)u};
    return v.f;
}
static inline uint64_t bits64_of(double f)
{
    union {
        double f;
        uint64_t u;
    } v = {.f = f};
    return v.u;
}
static inline double f64_of(uint64_t u)
{
    union {
        uint64_t u;
        double f;
    } v = {.u = u};
    return v.f;
}

#endif
