# SPDX-License-Identifier: MIT
"""The description of the CUDA calls (cuda.calls) as objects: reads and checks it. Knows nothing of what is generated."""
import re

# C type in the description -> (C type of the wire's value, how a slot becomes one). Slots are 64 bits.
SCALARS = {
    "u32": "uint32_t", "i32": "int32_t", "u64": "uint64_t", "f32": "float",
    "int": "int", "size_t": "size_t", "CUdeviceptr": "CUdeviceptr",
    "CUlimit": "int", "CUfunction_attribute": "int", "CUmemPool_attribute": "int",
}
# Of these a number of bytes may be.
SIZES = {"u32", "u64", "size_t"}
SIGNED32 = {"i32", "int", "CUlimit", "CUfunction_attribute", "CUmemPool_attribute"}
# C type of a handle -> its kind's name. The order gives the kinds their numbers on both sides.
HANDLES = {
    "CUcontext": "context", "CUmodule": "module", "CUfunction": "function", "CUstream": "stream",
    "CUevent": "event", "CUarray": "array", "CUmemoryPool": "pool",
}
FIRST, LAST = 0x1000, 0x1FFF
MAX_SLOTS = 32
FILL_LIMIT = 960  # bytes; with the most `out` slots still inside one mailbox response


class Param:
    def __init__(self, role, ctype, name, size=None):
        self.role, self.ctype, self.name, self.size = role, ctype, name, size
        self.kind = HANDLES.get(ctype)


class Call:
    """One line. `form` is call, wire, guest or none; `c_params` is the text of a guest line's C parameters."""

    def __init__(self, form, name):
        self.form, self.name = form, name
        self.opcode = self.klass = self.c_params = self.undo = None
        self.params = []
        self.since = 0
        self.named = 0  # CUDA version whose header means this one by the name without _vN; 0: since
        self.bare = self.reports = self.context = False
        self.thread_stream = None  # "ptsz" or "ptds"

    @property
    def crosses(self):
        return self.form in ("call", "wire")

    @property
    def exported(self):
        return self.form != "wire"

    def having(self, *roles):
        return [p for p in self.params if p.role in roles]

    @property
    def inputs(self):
        """What has a slot in the request."""
        return self.having("in", "use", "use0", "new", "drop", "stage", "reads", "writes")

    @property
    def outputs(self):
        return self.having("out")

    @property
    def payload(self):
        found = self.having("bytes", "text")
        return found[0] if found else None

    @property
    def windows(self):
        """Bytes of the window that the call names."""
        return self.having("reads", "writes")

    @property
    def fill(self):
        found = self.having("fill")
        return found[0] if found else None

    @property
    def symbols(self):
        """Every name it is exported under."""
        names = [self.name]
        if self.bare:
            names.append(re.sub(r"_v\d+$", "", self.name))
        if self.thread_stream:
            names += ["%s_%s" % (n, self.thread_stream) for n in list(names)]
        return names


class DescriptionError(Exception):
    pass


def parse_param(text):
    words = text.split()
    role = words[0]
    if role in ("bytes", "text", "stage") and len(words) == 2:
        return Param(role, None, words[1])
    if role in ("fill", "reads", "writes") and len(words) == 3:
        return Param(role, None, words[1], words[2])
    if role in ("in", "out") and len(words) == 3 and words[1] in SCALARS:
        return Param(role, words[1], words[2])
    if role in ("use", "use0", "new", "drop") and len(words) == 3 and words[1] in HANDLES:
        return Param(role, words[1], words[2])
    raise DescriptionError("'%s' is no parameter" % text)


def parse_attributes(call, words):
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "since" and words:
            call.since = int(words.pop(0))
        elif word == "named" and words:
            call.named = int(words.pop(0))
        elif word == "undo" and words:
            call.undo = words.pop(0)
        elif word in ("bare", "reports", "context"):
            setattr(call, word, True)
        elif word in ("ptsz", "ptds"):
            call.thread_stream = word
        else:
            raise DescriptionError("'%s' is no attribute" % word)


def parse_line(line):
    form = line.split()[0]
    if form in ("call", "wire"):
        m = re.match(r"\w+\s+(0x[0-9a-f]+)\s+(posted|sync)\s+(\w+)\((.*)\)(.*)$", line)
        if not m:
            raise DescriptionError("want: %s OPCODE CLASS NAME(PARAMS) ATTRIBUTES" % form)
        call = Call(form, m.group(3))
        call.opcode, call.klass = int(m.group(1), 16), m.group(2)
        call.params = [parse_param(p) for p in m.group(4).split(",") if p.strip()]
        rest = m.group(5)
    elif form == "guest":
        m = re.match(r"guest\s+(\w+)\((.*)\)(.*)$", line)
        if not m:
            raise DescriptionError("want: guest NAME(C parameters) ATTRIBUTES")
        call = Call(form, m.group(1))
        call.c_params = m.group(2).strip()
        rest = m.group(3)
    elif form == "none":
        m = re.match(r"none\s+(\w+)(.*)$", line)
        if not m:
            raise DescriptionError("want: none NAME ATTRIBUTES")
        call = Call(form, m.group(1))
        rest = m.group(2)
    else:
        raise DescriptionError("'%s' is none of call, wire, guest, none" % form)
    parse_attributes(call, rest.split())
    return call


def check(call, by_name, opcodes):
    if call.name in by_name:
        raise DescriptionError("%s is there twice" % call.name)
    if call.exported and not call.since:
        raise DescriptionError("%s: since which version?" % call.name)
    if not call.crosses:
        return
    if not FIRST <= call.opcode <= LAST or call.opcode in opcodes:
        raise DescriptionError("%s: opcode 0x%x is taken or out of range" % (call.name, call.opcode))
    if len(call.inputs) > MAX_SLOTS or len(call.outputs) > MAX_SLOTS:
        raise DescriptionError("%s: more than %d slots" % (call.name, MAX_SLOTS))
    if len(call.having("bytes", "text")) > 1 or len(call.having("fill")) > 1:
        raise DescriptionError("%s: at most one of bytes and text, one fill" % call.name)
    if call.klass == "posted" and (call.outputs or call.fill or call.reports):
        raise DescriptionError("%s: a posted call answers nothing" % call.name)
    if call.having("stage") and not (call.payload and call.payload.role == "bytes"):
        raise DescriptionError("%s: a stage stands for bytes, and there are none" % call.name)
    for p in call.windows:
        if p.size not in {q.name for q in call.having("in") if q.ctype in SIZES}:
            raise DescriptionError("%s: %s %s of %s bytes?" % (call.name, p.role, p.name, p.size))
    if call.windows and (call.form != "wire" or call.having("new", "drop")):
        raise DescriptionError("%s: names bytes of the window: only a wire call that makes and ends nothing may"
                               % call.name)
    if call.fill:
        ins = {p.name for p in call.inputs if p.role == "in"}
        if not call.fill.size.isdigit() and call.fill.size not in ins:
            raise DescriptionError("%s: fill %s of %s bytes?" % (call.name, call.fill.name, call.fill.size))
        if call.fill.size.isdigit() and 8 * len(call.outputs) + int(call.fill.size) > FILL_LIMIT:
            raise DescriptionError("%s: the answer is too large for a mailbox" % call.name)


def load(path):
    """[Call] in the order of the file. Raises DescriptionError with file and line."""
    result, by_name, opcodes = [], {}, {}
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            try:
                call = parse_line(line)
                check(call, by_name, opcodes)
            except DescriptionError as e:
                raise DescriptionError("%s:%d: %s" % (path, number, e)) from e
            by_name[call.name] = call
            if call.crosses:
                opcodes[call.opcode] = call
            result.append(call)
    for call in result:
        if call.undo and (call.undo not in by_name or len(by_name[call.undo].inputs) != 1):
            raise DescriptionError("%s: %s: undo %s takes not one input" % (path, call.name, call.undo))
    return result
