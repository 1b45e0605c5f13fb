/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A table of buckets; see ledger.h. */
#include "mediator/ledger.h"

#include "common/clock.h"

#define START_INTERVAL_NS (20 * VGPU_NS_PER_MS)
#define START_BURST       100
#define ALL_TOGETHER      4
#define SAY_INTERVAL_NS   (100 * VGPU_NS_PER_MS)
#define SAY_BURST         60

uint64_t vgpu_ledger_key(bool local, uint32_t number)
{
    return (uint64_t)local << 32 | number;
}

struct vgpu_account *vgpu_ledger_account(struct vgpu_ledger *ledger, uint64_t key, uint64_t now_ns)
{
    /* The upper bits of the product depend on all of the key's. */
    uint64_t hash = (key + 1) * 0x9e3779b97f4a7c15ull;
    struct vgpu_account *set = ledger->accounts[(hash >> 40) % VGPU_LEDGER_SETS];
    struct vgpu_account *found = &set[0];
    for (uint32_t i = 0; i < VGPU_LEDGER_WAYS; i++) {
        struct vgpu_account *a = &set[i];
        if (a->used && a->key == key) {
            a->heard_ns = now_ns;
            return a;
        }
        if (found->used && (!a->used || a->heard_ns < found->heard_ns))
            found = a;
    }
    *found = (struct vgpu_account){.used = true, .key = key, .heard_ns = now_ns};
    return found;
}

/* The bucket is full again at credit_ns; each taken was one interval, so with burst - 1 taken there
 * is one left. */
static bool has_credit(uint64_t credit_ns, uint64_t now_ns, uint64_t interval_ns, uint64_t burst)
{
    return credit_ns <= now_ns || credit_ns - now_ns <= (burst - 1) * interval_ns;
}

static void take(uint64_t *credit_ns, uint64_t now_ns, uint64_t interval_ns)
{
    *credit_ns = (*credit_ns > now_ns ? *credit_ns : now_ns) + interval_ns;
}

bool vgpu_ledger_start(struct vgpu_ledger *ledger, uint64_t key, uint64_t now_ns)
{
    struct vgpu_account *a = vgpu_ledger_account(ledger, key, now_ns);
    if (!has_credit(a->start_credit_ns, now_ns, START_INTERVAL_NS, START_BURST) ||
        !has_credit(ledger->start_credit_ns, now_ns, START_INTERVAL_NS / ALL_TOGETHER,
                    ALL_TOGETHER * START_BURST))
        return false;
    take(&a->start_credit_ns, now_ns, START_INTERVAL_NS);
    take(&ledger->start_credit_ns, now_ns, START_INTERVAL_NS / ALL_TOGETHER);
    return true;
}

bool vgpu_ledger_say(struct vgpu_ledger *ledger, uint64_t key, uint64_t now_ns)
{
    struct vgpu_account *a = vgpu_ledger_account(ledger, key, now_ns);
    if (!has_credit(a->say_credit_ns, now_ns, SAY_INTERVAL_NS, SAY_BURST))
        return false;
    take(&a->say_credit_ns, now_ns, SAY_INTERVAL_NS);
    return true;
}
