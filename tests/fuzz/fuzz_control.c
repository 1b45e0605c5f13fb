/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: a line of a control client, all the way to the rows that a change would write.
 * What comes out has to be in range, whatever went in.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/control_request.h"
#include "registry/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition)
        abort();
}

static void check_row(const struct vgpu_registry_vm *row)
{
    check(row->weight <= 10000 && row->rate <= 1000 && row->burst_ms <= 60000);
    check(row->memory <= 1ull << 46 && row->sessions <= 1024 && row->queue <= 65536);
    check(row->priority >= -1 && row->priority <= 2);
    check(!row->pool || (row->pool >= 'A' && row->pool <= 'Z'));
    check(memchr(row->name, 0, sizeof(row->name)) && !memchr(row->name, '\n', strlen(row->name)));
    check(row->quarantine.until_ms >= 0 && row->drain.until_ms >= 0);
}

static void plan(const struct vgpu_change *change)
{
    static const struct vgpu_plan_facts facts;
    const struct vgpu_plan_who who = {.time_ms = 5, .uid = 1, .pid = 2, .default_seconds = 300};
    struct vgpu_registry_state state = {0};
    struct vgpu_registry_txn txn = {0};
    struct vgpu_change_error error;
    for (uint32_t vm = 5; vm < 9; vm++) {
        struct vgpu_registry_vm row;
        vgpu_registry_vm_init(&row, vm);
        row.registered = vm < 8;
        row.quarantine.until_ms = vm == 7 ? VGPU_REGISTRY_FOREVER : 0;
        check(!vgpu_registry_add_vm(&state, &row));
    }
    if (!vgpu_plan(&state, change, &facts, &who, &txn, &error)) {
        check(txn.vm_count == change->vm_count && txn.audit_count == change->vm_count);
        for (uint32_t i = 0; i < txn.vm_count; i++)
            check_row(&txn.vms[i].row);
        if (!vgpu_registry_reserve(&state, &txn))
            vgpu_registry_apply(&state, &txn);
        for (uint32_t i = 1; i < state.vm_count; i++)
            check(state.vms[i - 1].vm < state.vms[i].vm);
    }
    vgpu_registry_txn_free(&txn);
    vgpu_registry_state_free(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vgpu_control_request request;
    struct vgpu_change_error error;
    enum vgpu_change_op op;
    if (size > VGPU_CONTROL_LINE)
        return 0;
    if (!vgpu_control_request_read(&request, (const char *)data, size, &error)) {
        struct vgpu_change change;
        uint64_t n = 0;
        bool b = false;
        (void)vgpu_control_request_number(&request, "limit", 1, 1000, &n, &error);
        check(n <= 1000);
        (void)vgpu_control_request_bool(&request, "follow", &b, &error);
        if (vgpu_change_find(request.op, &op)) {
            if (!vgpu_change_read(&change, op, request.json, &error))
                plan(&change);
            vgpu_change_free(&change);
        }
    }
    vgpu_control_request_free(&request);
    return 0;
}
