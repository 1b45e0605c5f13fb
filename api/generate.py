#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes C from the description of the CUDA calls.

    generate.py KIND cuda.calls OUTPUT

KIND: calls-h, calls-c (both sides), prototypes-h, api-h, guest-h, guest-c, map (guest), worker-h, worker-c, driver-h (backend),
table (docs). Writes OUTPUT only when it is complete; exit status 1 and a line with file and line number otherwise.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import calls as description  # noqa: E402
from calls import HANDLES, SCALARS, SIGNED32  # noqa: E402

HEAD = "/* SPDX-License-Identifier: MIT */\n/* Made by api/generate.py from api/cuda.calls: change those. */\n"
HEAD_GPL = HEAD.replace("MIT", "GPL-2.0-or-later")


API_VERSION = 12040  # what our <cuda.h> says it is


def ctype(param):
    return SCALARS[param.ctype]


def crossing(calls):
    return [c for c in calls if c.crosses]


# ---- Both sides ----

def calls_h(calls):
    out = [HEAD, "#ifndef VGPU_CUDA_CALLS_H\n#define VGPU_CUDA_CALLS_H\n",
           "#include <stdbool.h>\n#include <stdint.h>\n",
           "/* Kinds of handles. */", "enum vgpu_kind {", "    VGPU_KIND_NONE,"]
    out += ["    VGPU_KIND_%s," % kind.upper() for kind in HANDLES.values()]
    out += ["    VGPU_KIND_COUNT", "};\n", "/* Opcodes. */", "enum vgpu_call_opcode {"]
    out += ["    VGPU_CALL_%s = 0x%04x," % (c.name.upper(), c.opcode) for c in crossing(calls)]
    out += ["};\n", "#define VGPU_CALL_SLOTS_MAX %du" % description.MAX_SLOTS,
            "#define VGPU_CALL_TEXT_MAX  512u",
            "#define VGPU_CALL_FILL_MAX  %du\n" % description.FILL_LIMIT,
            "enum vgpu_call_payload { VGPU_PAYLOAD_NONE, VGPU_PAYLOAD_BYTES, VGPU_PAYLOAD_TEXT };\n",
            "/* What both sides have to know of a call to carry it. */",
            "struct vgpu_call_info {",
            "    const char *name;",
            "    uint16_t opcode;",
            "    uint16_t undo;        /* opcode that takes back what the first out slot names; 0: none */",
            "    uint16_t fill_bytes;  /* at most so many bytes after the slots of the answer */",
            "    int8_t fill_slot;     /* or as many as this slot of the request says; -1: no such slot */",
            "    int8_t stage_slot;    /* the slot that may name a stage; -1: none */",
            "    bool window;          /* names bytes of the window: on a channel only */",
            "    uint8_t in_count;     /* slots of the request, */",
            "    uint8_t out_count;    /* of the answer */",
            "    uint8_t payload;      /* enum vgpu_call_payload */",
            "    bool posted;          /* no reply */",
            "    bool reports;         /* hands out the deferred error */",
            "    bool context_free;    /* needs no current context */",
            "};\n",
            "/* NULL: no such call. */",
            "const struct vgpu_call_info *vgpu_call_info(uint32_t opcode);\n", "#endif", ""]
    return "\n".join(out)


def calls_c(calls):
    out = [HEAD, '#include "vgpu_cuda_calls.h"\n\n#include <stddef.h>\n',
           "static const struct vgpu_call_info table[] = {"]
    for c in crossing(calls):
        fill_bytes, fill_slot = 0, -1
        if c.fill:
            if c.fill.size.isdigit():
                fill_bytes = int(c.fill.size)
            else:
                fill_bytes = description.FILL_LIMIT - 8 * len(c.outputs)
                fill_slot = [p.name for p in c.inputs].index(c.fill.size)
        fields = ['.name = "%s"' % c.name, ".opcode = 0x%04x" % c.opcode,
                  ".in_count = %d" % len(c.inputs), ".out_count = %d" % len(c.outputs),
                  ".fill_bytes = %d" % fill_bytes, ".fill_slot = %d" % fill_slot,
                  ".stage_slot = %d" % next((i for i, p in enumerate(c.inputs) if p.role == "stage"), -1)]
        if c.payload:
            fields.append(".payload = VGPU_PAYLOAD_%s" % c.payload.role.upper())
        if c.undo:
            fields.append(".undo = VGPU_CALL_%s" % c.undo.upper())
        for flag, on in (("posted", c.klass == "posted"), ("reports", c.reports), ("context_free", c.context),
                         ("window", c.windows)):
            if on:
                fields.append(".%s = true" % flag)
        out.append("    [0x%02x] = {%s}," % (c.opcode - description.FIRST, ", ".join(fields)))
    out += ["};\n", "const struct vgpu_call_info *vgpu_call_info(uint32_t opcode)", "{",
            "    uint32_t at = opcode - 0x%xu;" % description.FIRST,
            "    if (at >= sizeof(table) / sizeof(table[0]) || !table[at].name)",
            "        return NULL;", "    return &table[at];", "}", ""]
    return "\n".join(out)


# ---- Guest ----

def api_params(call):
    """The C parameters of an exported call."""
    if call.form == "guest":
        return call.c_params or "void"
    if call.form == "none":
        return "void"
    out = []
    for p in call.params:
        if p.role in ("use", "use0", "drop"):
            out.append("%s %s" % (p.ctype, p.name))
        elif p.role == "new":
            out.append("%s *%s" % (p.ctype, p.name))
        elif p.role == "in":
            out.append("%s %s" % ({"u32": "unsigned int", "u64": "cuuint64_t"}.get(p.ctype, p.ctype), p.name))
        elif p.role == "out":
            out.append("%s *%s" % (p.ctype, p.name))
        else:
            raise description.DescriptionError("%s: a call that is exported as it stands has no %s"
                                               % (call.name, p.role))
    return ", ".join(out) or "void"


def argument_names(call):
    if call.form == "call":
        return [p.name for p in call.params]
    text = api_params(call)
    if text == "void":
        return []
    return [part.split()[-1].lstrip("*") for part in text.split(",")]


def prototypes_h(calls):
    out = [HEAD, "#ifndef VGPU_CUDA_PROTOTYPES_H\n#define VGPU_CUDA_PROTOTYPES_H\n", '#include "vgpu/cuda.h"\n',
           '#define VGPU_CUDA_API __attribute__((visibility("default")))\n']
    for c in calls:
        if c.exported:
            out += ["VGPU_CUDA_API CUresult %s(%s);" % (symbol, api_params(c)) for symbol in c.symbols]
    out += ["\n#endif", ""]
    return "\n".join(out)


def api_h(calls):
    """A <cuda.h> for programs: newest names without their ending, as CUDA's own header has them."""
    out = [HEAD, "/*",
           " * The CUDA driver API for programs that link with -lcuda: what vgpu's libcuda.so.1 exports. A program written",
           " * for NVIDIA's cuda.h compiles with either, as long as it uses what is here.", " */",
           "#ifndef VGPU_API_CUDA_H\n#define VGPU_API_CUDA_H\n", "#define CUDA_VERSION %d\n" % API_VERSION,
           "#ifdef __cplusplus", 'extern "C" {', "#endif\n", "#include <vgpu/cuda.h>\n"]
    for c in calls:
        if c.exported and c.form != "none":
            out.append("CUresult %s(%s);" % (c.name, api_params(c)))
    out.append("")
    newest = {}
    for c in calls:
        if c.exported and c.form != "none" and (c.named or c.since) <= API_VERSION:
            newest.setdefault(base_of(c.name), []).append((c.since, c.name))
    out += ["#define %s %s" % (base, max(found)[1]) for base, found in newest.items() if max(found)[1] != base]
    out += ["", "#ifdef __cplusplus", "}", "#endif\n", "#endif", ""]
    return "\n".join(out)


def wire_params(call):
    """C parameters of the guest's encoder: names of handles are numbers here."""
    out = ["uint64_t context_"]
    for p in call.params:
        if p.role == "in":
            out.append("%s %s" % (ctype(p), p.name))
        elif p.role == "stage":
            out.append("uint32_t %s" % p.name)
        elif p.role in ("use", "use0", "new", "drop", "reads", "writes"):
            out.append("uint64_t %s" % p.name)
        elif p.role == "out":
            out.append("%s *%s" % (ctype(p), p.name))
        elif p.role in ("bytes", "text"):
            out += ["const void *%s" % p.name, "uint32_t %s_length" % p.name]
        elif p.role == "fill":
            out += ["void *%s" % p.name, "uint32_t %s_capacity" % p.name, "uint32_t *%s_length" % p.name]
    return ", ".join(out)


def guest_h(calls):
    out = [HEAD, "#ifndef VGPU_CUDA_GUEST_H\n#define VGPU_CUDA_GUEST_H\n",
           '#include "vgpu/cuda.h"\n#include "vgpu_cuda_calls.h"\n',
           "/* One for each call that crosses: context is the name of the one it is made in (0: none), handles are",
           " * names, bytes of the window are offsets. Thread-safe. */"]
    out += ["CUresult vgpu_call_%s(%s);" % (c.name, wire_params(c)) for c in crossing(calls)]
    out += ["", "/* Every exported name, in alphabetical order, for cuGetProcAddress. */",
            "struct vgpu_cuda_symbol {",
            "    const char *name; /* as exported */",
            "    const char *base; /* without _vN, _ptsz and _ptds */",
            "    int since;        /* CUDA version, 12040 is 12.4 */",
            "    int call_since;   /* the same without regard to per-thread streams: orders a call's versions */",
            "    bool thread_stream;",
            "    bool none; /* answers CUDA_ERROR_NOT_SUPPORTED */",
            "    void (*function)(void);",
            "};",
            "extern const struct vgpu_cuda_symbol vgpu_cuda_symbols[];",
            "extern const unsigned vgpu_cuda_symbol_count;", "", "#endif", ""]
    return "\n".join(out)


def slot_of(p):
    """C expression: the 64-bit slot of a value."""
    if p.role != "in":
        return p.name
    if p.ctype in SIGNED32:
        return "(uint64_t)(int64_t)%s" % p.name
    if p.ctype == "f32":
        return "vgpu_slot_of_float(%s)" % p.name
    return "(uint64_t)%s" % p.name


def from_slot(ptype, slot):
    """C expression: the value in a slot that the other side filled; only its low bits count."""
    if ptype == "f32":
        return "vgpu_float_of_slot(%s)" % slot
    return "(%s)%s" % (SCALARS[ptype], slot)


def encoder(c):
    out = ["CUresult vgpu_call_%s(%s)" % (c.name, wire_params(c)), "{"]
    if c.inputs:
        out.append("    const uint64_t in_[] = {%s};" % ", ".join(slot_of(p) for p in c.inputs))
    if c.outputs:
        out.append("    uint64_t out_[%d] = {0};" % len(c.outputs))
    args = ["VGPU_CALL_%s" % c.name.upper(), "context_", "in_" if c.inputs else "NULL",
            c.payload.name if c.payload else "NULL", c.payload.name + "_length" if c.payload else "0",
            "out_" if c.outputs else "NULL"]
    args += [c.fill.name, c.fill.name + "_capacity", c.fill.name + "_length"] if c.fill else ["NULL", "0", "NULL"]
    call = "vgpu_cuda_exchange(%s)" % ", ".join(args)
    if not c.outputs:
        out += ["    return %s;" % call, "}", ""]
        return out
    out += ["    CUresult result_ = %s;" % call, "    if (result_ != CUDA_SUCCESS)", "        return result_;"]
    out += ["    *%s = %s;" % (p.name, from_slot(p.ctype, "out_[%d]" % i)) for i, p in enumerate(c.outputs)]
    out += ["    return CUDA_SUCCESS;", "}", ""]
    return out


def stub(c):
    """An exported call that crosses as it stands."""
    out = ["CUresult %s(%s)" % (c.name, api_params(c)), "{", "    uint64_t context_;",
           "    CUresult result_ = vgpu_cuda_enter(&context_);"]
    handles = c.having("use", "use0", "drop")
    out += ["    uint64_t %s_name_ = 0;" % p.name for p in handles]
    for p in handles:
        out += ["    if (result_ == CUDA_SUCCESS)",
                "        result_ = vgpu_cuda_name_of(VGPU_KIND_%s, %s, %s, &%s_name_);"
                % (p.kind.upper(), p.name, "true" if p.role == "use0" else "false", p.name)]
    pointers = [p.name for p in c.outputs]
    if pointers:
        out += ["    if (result_ == CUDA_SUCCESS && (%s))" % " || ".join("!" + p for p in pointers),
                "        result_ = CUDA_ERROR_INVALID_VALUE;"]
    args = ["context_"]
    for p in c.params:
        args.append(p.name + "_name_" if p in handles else p.name)
    out += ["    if (result_ != CUDA_SUCCESS)", "        return result_;",
            "    return vgpu_call_%s(%s);" % (c.name, ", ".join(args)), "}", ""]
    return out


def aliases(c):
    """The other names of a call. Those for per-thread streams put the thread's own in NULL's place."""
    out = []
    names = argument_names(c)
    for symbol in c.symbols[1:]:
        args = list(names)
        if c.form == "none":
            out += ["CUresult %s(void)" % symbol, "{", "    return %s();" % c.name, "}", ""]
        elif symbol.endswith("_ptsz"):
            # The launch configuration holds its stream; everything else has it as a parameter.
            if "hStream" in args:
                args[args.index("hStream")] = "vgpu_cuda_thread_stream(hStream)"
                out += ["CUresult %s(%s)" % (symbol, api_params(c)), "{",
                        "    return %s(%s);" % (c.name, ", ".join(args)), "}", ""]
            else:
                out += ["CUresult %s(%s)" % (symbol, api_params(c)), "{",
                        "    return vgpu_cuda_on_thread_stream_%s(%s);" % (c.name, ", ".join(args)), "}", ""]
        elif symbol.endswith("_ptds"):
            # No stream among the parameters: what the call uses without saying so is the thread's own.
            out += ["CUresult %s(%s)" % (symbol, api_params(c)), "{", "    vgpu_cuda_use_thread_stream(true);",
                    "    CUresult result_ = %s(%s);" % (c.name, ", ".join(args)),
                    "    vgpu_cuda_use_thread_stream(false);", "    return result_;", "}", ""]
        else:
            out += ["CUresult %s(%s)" % (symbol, api_params(c)), "{",
                    "    return %s(%s);" % (c.name, ", ".join(args)), "}", ""]
    return out


def base_of(symbol):
    symbol = re.sub(r"_(ptsz|ptds)$", "", symbol)
    return re.sub(r"_v\d+$", "", symbol)


def guest_c(calls):
    out = [HEAD, '#include "vgpu_cuda_guest.h"\n\n#include "guest/cuda/internal.h"\n#include "vgpu_cuda_prototypes.h"\n']
    for c in crossing(calls):
        out += encoder(c)
    for c in calls:
        if c.form == "call":
            out += stub(c)
        elif c.form == "none":
            out += ["CUresult %s(void)" % c.name, "{", '    return vgpu_cuda_not_supported("%s");' % c.name, "}", ""]
        if c.exported:
            out += aliases(c)
    symbols = []
    for c in calls:
        if c.exported:
            for s in c.symbols:
                thread = s.endswith(("_ptsz", "_ptds"))
                symbols.append((s, '{"%s", "%s", %d, %d, %s, %s, (void (*)(void))%s}'
                                % (s, base_of(s), max(c.since, 7000 if thread else 0), c.since, "true" if thread else "false",
                                   "true" if c.form == "none" else "false", s)))
    out += ["const struct vgpu_cuda_symbol vgpu_cuda_symbols[] = {"]
    out += ["    %s," % text for _, text in sorted(symbols)]
    out += ["};", "const unsigned vgpu_cuda_symbol_count = sizeof(vgpu_cuda_symbols) / sizeof(vgpu_cuda_symbols[0]);", ""]
    return "\n".join(out)


def version_map(calls):
    names = sorted(s for c in calls if c.exported for s in c.symbols)
    return "\n".join(["/* SPDX-License-Identifier: MIT */", "/* Made by api/generate.py. NVIDIA's library gives its symbols no version, so ours has none. */",
                      "{", "    global:"] + ["        %s;" % n for n in names] + ["    local:", "        *;", "};", ""])


# ---- Backend and worker ----

def driver_params(call):
    out = ["struct vgpu_driver *driver"]
    for p in call.params:
        if p.role == "in":
            out.append("%s %s" % (ctype(p), p.name))
        elif p.role in ("use", "use0", "drop"):
            out.append("struct vgpu_driver_%s *%s" % (p.kind, p.name))
        elif p.role == "new":
            out.append("struct vgpu_driver_%s **%s" % (p.kind, p.name))
        elif p.role == "out":
            out.append("%s *%s" % (ctype(p), p.name))
        elif p.role in ("reads", "writes"):
            out.append("%svoid *%s" % ("const " if p.role == "reads" else "", p.name))
        elif p.role == "bytes":
            out += ["const void *%s" % p.name, "size_t %s_length" % p.name]
        elif p.role == "text":
            out.append("const char *%s" % p.name)
        elif p.role == "fill":
            out += ["void *%s" % p.name, "uint32_t %s_capacity" % p.name, "uint32_t *%s_length" % p.name]
    return ", ".join(out)


def driver_h(calls):
    out = [HEAD_GPL, "#ifndef VGPU_DRIVER_OPS_H\n#define VGPU_DRIVER_OPS_H\n",
           '#include <stddef.h>\n#include <stdint.h>\n\n#include "vgpu/cuda.h"\n#include "vgpu_cuda_calls.h"\n',
           "struct vgpu_driver;"]
    out += ["struct vgpu_driver_%s;" % kind for kind in HANDLES.values()]
    out += ["", "/*",
            " * What executes the calls that cross, one function each: see src/backend/driver.h. Handles are the",
            " * driver's own objects, already looked up; text ends in NUL; fill is at most its capacity. What a call reads",
            " * or writes of the window is NULL when that is 0 bytes.", " */",
            "struct vgpu_driver_ops {",
            "    /* Makes a context current for the calls that follow; NULL: none. */",
            "    CUresult (*context_use)(struct vgpu_driver *driver, struct vgpu_driver_context *context);"]
    for c in crossing(calls):
        out.append("    CUresult (*%s)(%s);" % (c.name, driver_params(c)))
    out += ["};", "", "#endif", ""]
    return "\n".join(out)


def worker_h(calls):
    return "\n".join([HEAD_GPL, "#ifndef VGPU_WORKER_CALLS_H\n#define VGPU_WORKER_CALLS_H\n",
                      '#include "worker/calls.h"\n',
                      "/*",
                      " * Executes one decoded call: checks each slot's range, looks handles up, calls the driver, names what is",
                      " * new. Slots are in host order and as many as the call's info says. The engine thread's.", " */",
                      "CUresult vgpu_calls_execute(struct vgpu_calls *calls, struct vgpu_call_frame *frame);", "", "#endif", ""])


def execute_case(c):
    out = ["static CUresult execute_%s(struct vgpu_calls *calls, struct vgpu_call_frame *frame)" % c.name, "{"]
    if c.inputs:
        out.append("    const uint64_t *in = frame->in;")
    for i, p in enumerate(c.inputs):
        if p.role != "in":
            continue
        slot = "in[%d]" % i
        if p.ctype in SIGNED32:
            out += ["    if ((uint64_t)(int64_t)(int32_t)%s != %s)" % (slot, slot), "        return vgpu_calls_bad_value(frame, \"%s\");" % p.name]
        elif p.ctype in ("u32", "f32"):
            out += ["    if (%s > UINT32_MAX)" % slot, "        return vgpu_calls_bad_value(frame, \"%s\");" % p.name]
    index = {p.name: i for i, p in enumerate(c.inputs)}
    for p in c.windows:
        size = "in[%d]" % index[p.size]
        out += ["    %svoid *%s = vgpu_calls_window(calls, frame, in[%d], %s, %s);"
                % ("const " if p.role == "reads" else "", p.name, index[p.name], size,
                   "true" if p.role == "writes" else "false"),
                "    if (%s && !%s)" % (size, p.name), "        return CUDA_ERROR_INVALID_VALUE;"]
    for i, p in enumerate(c.inputs):
        if p.role in ("use", "use0"):
            out += ["    struct vgpu_driver_%s *%s = NULL;" % (p.kind, p.name)]
            look = "vgpu_calls_find(calls, VGPU_KIND_%s, in[%d])" % (p.kind.upper(), i)
            if p.role == "use0":
                out += ["    if (in[%d] && !(%s = %s))" % (i, p.name, look)]
            else:
                out += ["    if (!(%s = %s))" % (p.name, look)]
            out += ["        return vgpu_calls_bad_handle(frame, VGPU_KIND_%s, \"%s\");" % (p.kind.upper(), p.name)]
        elif p.role == "drop":
            out += ["    struct vgpu_driver_%s *%s = vgpu_calls_find(calls, VGPU_KIND_%s, in[%d]);"
                    % (p.kind, p.name, p.kind.upper(), i), "    if (!%s)" % p.name,
                    "        return vgpu_calls_bad_handle(frame, VGPU_KIND_%s, \"%s\");" % (p.kind.upper(), p.name)]
        elif p.role == "new":
            out += ["    struct vgpu_driver_%s *%s = NULL;" % (p.kind, p.name),
                    "    CUresult room_%s = vgpu_calls_reserve(calls, frame, VGPU_KIND_%s, in[%d]);" % (p.name, p.kind.upper(), i),
                    "    if (room_%s != CUDA_SUCCESS)" % p.name, "        return room_%s;" % p.name]
    for p in c.outputs:
        out.append("    %s %s = 0;" % (ctype(p), p.name))
    if c.fill:
        out += ["    uint32_t %s_length = 0;" % c.fill.name]
    args = ["calls->driver"]
    for p in c.params:
        if p.role == "in":
            args.append(from_slot(p.ctype, "in[%d]" % index[p.name]))
        elif p.role in ("use", "use0", "drop", "reads", "writes"):
            args.append(p.name)
        elif p.role in ("new", "out"):
            args.append("&" + p.name)
        elif p.role == "bytes":
            args += ["frame->payload", "frame->payload_length"]
        elif p.role == "text":
            args.append("(const char *)frame->payload")
        elif p.role == "fill":
            args += ["frame->fill", "frame->fill_capacity", "&%s_length" % p.name]
    for i, p in enumerate(c.inputs):
        if p.role == "drop":  # gone whatever the driver answers
            out.append("    vgpu_calls_forget(calls, VGPU_KIND_%s, in[%d]);" % (p.kind.upper(), i))
    out.append("    CUresult result_ = calls->ops->%s(%s);" % (c.name, ", ".join(args)))
    for i, p in enumerate(c.inputs):
        if p.role == "new":
            out += ["    if (result_ == CUDA_SUCCESS)",
                    "        vgpu_calls_name(calls, frame, VGPU_KIND_%s, in[%d], %s);" % (p.kind.upper(), i, p.name),
                    "    else",
                    "        vgpu_calls_forget(calls, VGPU_KIND_%s, in[%d]);" % (p.kind.upper(), i)]
    if c.outputs or c.fill:
        out += ["    if (result_ != CUDA_SUCCESS)", "        return result_;"]
    for i, p in enumerate(c.outputs):
        value = ("vgpu_slot_of_float(%s)" if p.ctype == "f32" else
                 "(uint64_t)(int64_t)%s" if p.ctype in SIGNED32 else "(uint64_t)%s") % p.name
        out.append("    frame->out[%d] = %s;" % (i, value))
    if c.fill:
        out.append("    frame->fill_length = %s_length;" % c.fill.name)
    out += ["    return %s;" % ("CUDA_SUCCESS" if c.outputs or c.fill else "result_"), "}", ""]
    return out


def worker_c(calls):
    out = [HEAD_GPL, '#include "vgpu_worker_calls.h"\n\n#include <stddef.h>\n']
    for c in crossing(calls):
        out += execute_case(c)
    out += ["CUresult vgpu_calls_execute(struct vgpu_calls *calls, struct vgpu_call_frame *frame)", "{",
            "    switch (frame->info->opcode) {"]
    for c in crossing(calls):
        out += ["    case VGPU_CALL_%s:" % c.name.upper(), "        return execute_%s(calls, frame);" % c.name]
    out += ["    default:", "        return CUDA_ERROR_NOT_SUPPORTED;", "    }", "}", ""]
    out += ["/* Ends an object whose name the guest never gave back: with its kind's own call. */",
            "void vgpu_calls_end(struct vgpu_calls *calls, enum vgpu_kind kind, void *object)", "{", "    switch (kind) {"]
    done = set()
    for c in crossing(calls):
        drops = c.having("drop")
        if drops and len(c.inputs) == 1 and drops[0].kind not in done:
            done.add(drops[0].kind)
            out += ["    case VGPU_KIND_%s:" % drops[0].kind.upper(),
                    "        (void)calls->ops->%s(calls->driver, object);" % c.name, "        return;"]
    out += ["    default: /* belongs to another object and ends with it */", "        return;", "    }", "}", ""]
    return "\n".join(out)


# ---- Docs ----

def table_input(p):
    """One input, as a line of the table has it."""
    if p.role in ("reads", "writes"):
        return "window %s (%s, %s bytes)" % (p.name, "read" if p.role == "reads" else "written", p.size)
    note = {"use0": " (0: none)", "new": " (new)"}.get(p.role, "")
    return "%s %s%s" % (p.kind or p.ctype or p.role, p.name, note)


def table(calls):
    how = {"guest": "in the guest, or made of wire calls", "none": "not supported"}
    out = ["<!-- Made by api/generate.py from api/cuda.calls: change those. -->",
           "| exported | also as | since | class |", "| --- | --- | --- | --- |"]
    for c in calls:
        if c.exported:
            also = ", ".join("`%s`" % s for s in c.symbols[1:])
            klass = how.get(c.form) or "%s, 0x%04x" % (c.klass, c.opcode)
            out.append("| `%s` | %s | %d.%d | %s |" % (c.name, also, c.since // 1000, c.since % 1000 // 10, klass))
    out += ["", "| opcode | wire call | class | request | answer |", "| --- | --- | --- | --- | --- |"]
    for c in crossing(calls):
        ins = [table_input(p) for p in c.inputs]
        if c.payload:
            ins.append("%s %s" % (c.payload.role, c.payload.name))
        outs = ["%s %s" % (p.ctype, p.name) for p in c.outputs]
        if c.fill:
            outs.append("bytes %s" % c.fill.name)
        klass = c.klass + (", reports" if c.reports else "")
        out.append("| 0x%04x | `%s` | %s | %s | %s |" % (c.opcode, c.name, klass, ", ".join(ins) or "-", ", ".join(outs) or "-"))
    return "\n".join(out) + "\n"


KINDS = {"calls-h": calls_h, "calls-c": calls_c, "prototypes-h": prototypes_h, "api-h": api_h, "guest-h": guest_h, "guest-c": guest_c,
         "map": version_map, "worker-h": worker_h, "worker-c": worker_c, "driver-h": driver_h, "table": table}


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    try:
        text = KINDS[sys.argv[1]](description.load(sys.argv[2]))
    except (OSError, description.DescriptionError) as e:
        sys.exit("generate.py: %s" % e)
    with open(sys.argv[3], "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
