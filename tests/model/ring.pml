/* SPDX-License-Identifier: MIT */
/*
 * A channel's two rings (docs/ring.md), small: 4 units, 2 entries for completions. Both sides with
 * store buffers, as x86 has them: a plain store waits in its processor's buffer and gets to memory
 * at some later moment, in order; an exchange waits until the buffer is empty and is done at once.
 * No side loads a word that it stores itself (each trusts its own counters only), so no load ever
 * has to look into a buffer.
 *
 * What is asked, of every order of steps:
 *   - nobody sleeps for ever while there is something to do: an end of the run at which a side has
 *     not come to its own end is an "invalid end state";
 *   - an honest guest's records are taken in order, each once, and so are the answers;
 *   - the worker never looks beyond what is there, nor has more out than the rings hold, whatever
 *     the guest writes; and once it calls the channel fatal, it touches nothing until a reset.
 *
 * Defined by the runner, tests/model/run:
 *   WEAK_PUBLISH   the counters are published by plain stores       must fail
 *   WEAK_SLEEP     the wish to be woken is a plain store            must fail
 *   NO_LAST_LOOK   nobody looks once more before sleeping           must fail
 *   KEEP_UNITS     the worker sleeps without showing what it took   must fail
 *   MALICE         the guest writes anything, any time: whatever the worker loads of the guest's
 *                  may be any value, each time
 *   DOUBLE_FETCH   with it: the worker reads a length again after it checked it; must fail
 *   NO_TAIL_CHECK  with it: the worker believes submit_tail         must fail
 *   NO_HEAD_CHECK  with it: the worker believes complete_head       must fail
 *   NOT_ABSORBING  with it: the worker goes on after a bad counter  must fail
 */
#ifndef RECORDS
#define RECORDS 3
#endif
#define UNITS   4 /* of the submission ring */
#define LONGEST 2 /* units of a record */
#define ENTRIES 2
#define BUFFER  6

#ifdef MALICE
#define RESETS 2
#endif

/* ---- Memory ---- */

/* Words by number, so that a buffer can hold them. */
#define TAIL             0 /* guest's page */
#define COMPLETE_HEAD    1
#define INTERRUPT_WANTED 2
#define HEAD             3 /* worker's page */
#define DOORBELL_WANTED  4
#define SEQUENCE         5 /* of each entry */
#define ENTRY            (SEQUENCE + ENTRIES)
#define LENGTH           (ENTRY + ENTRIES) /* of a record, at its first unit */
#define BODY             (LENGTH + UNITS)
#define WORDS            (BODY + UNITS)

byte memory[WORDS];
bool doorbell, interrupt; /* eventfds */

chan guest_buffer = [BUFFER] of { byte, byte };
chan worker_buffer = [BUFFER] of { byte, byte };

#define LOAD(word)                 memory[word]
/* What the worker loads of the guest's: a counter up to beyond any that makes sense, a length, ... */
#ifdef MALICE
#define LOOK(to, word, most)       select(to : 0 .. most)
#else
#define LOOK(to, word, most)       to = LOAD(word)
#endif
#define STORE(buffer, word, value) buffer ! word, value
#define EXCHANGE(buffer, word, value)                                                              \
    atomic { empty(buffer) -> memory[word] = value }
/* A system call does no less than an exchange. */
#define SIGNAL(buffer, what) atomic { empty(buffer) -> what = true }
#define WAIT(what)           atomic { what -> what = false }

#ifdef WEAK_PUBLISH
#define PUBLISH(buffer, word, value) STORE(buffer, word, value)
#else
#define PUBLISH(buffer, word, value) EXCHANGE(buffer, word, value)
#endif
#ifdef WEAK_SLEEP
#define WISH(buffer, word) STORE(buffer, word, 1)
#else
#define WISH(buffer, word) EXCHANGE(buffer, word, 1)
#endif

active proctype guest_stores()
{
    byte word, value;
end:
    do
    :: atomic { guest_buffer ? word, value -> memory[word] = value; word = 0; value = 0 }
    od
}

active proctype worker_stores()
{
    byte word, value;
end:
    do
    :: atomic { worker_buffer ? word, value -> memory[word] = value; word = 0; value = 0 }
    od
}

/* ---- Guest ---- */

#ifndef MALICE
/* Posts RECORDS records of one or two units; every answer is waited for, asleep when there is none.
 * It posts while there is room, so that the rings fill up and the worker may run ahead or behind. */
active proctype guest()
{
    byte tail, head, posted, consumed, length, seen;
    do
    :: posted < RECORDS && posted - consumed < ENTRIES -> /* G11, with so few entries */
        if
        :: length = 1
        :: length = 2
        fi;
        do
        :: tail + length - head > UNITS -> head = LOAD(HEAD); assert(head <= tail);
            if
            :: tail + length - head > UNITS -> /* looks again later: the worker is not asleep */
                (memory[HEAD] != head)
            :: else
            fi
        :: else -> break
        od;
        STORE(guest_buffer, LENGTH + tail % UNITS, length);
        STORE(guest_buffer, BODY + (tail + length - 1) % UNITS, posted + 1);
        tail = tail + length;
        posted++;
        PUBLISH(guest_buffer, TAIL, tail);
        if
        :: LOAD(DOORBELL_WANTED) -> SIGNAL(guest_buffer, doorbell)
        :: else
        fi
    :: consumed < posted ->
        seen = LOAD(SEQUENCE + consumed % ENTRIES);
        if
        :: seen == consumed + 1 ->
            assert(LOAD(ENTRY + consumed % ENTRIES) == consumed + 1); /* in order, each once */
            consumed++;
            STORE(guest_buffer, COMPLETE_HEAD, consumed)
        :: else ->
            WISH(guest_buffer, INTERRUPT_WANTED);
#ifdef NO_LAST_LOOK
            seen = 0;
#else
            seen = LOAD(SEQUENCE + consumed % ENTRIES);
#endif
            if
            :: seen == consumed + 1
            :: else -> WAIT(interrupt)
            fi;
            STORE(guest_buffer, INTERRUPT_WANTED, 0)
        fi
    :: consumed == RECORDS -> break
    od
}
#endif

/* ---- Worker ---- */

byte w_head, w_shown, w_tail, w_completed, w_acknowledged;
bool fatal;

inline take_tail()
{
    LOOK(seen, TAIL, 2 * UNITS + 1);
#ifndef NO_TAIL_CHECK
    if
    :: seen < w_tail || seen - w_shown > UNITS -> fatal = true
    :: else -> w_tail = seen
    fi;
#else
    w_tail = seen;
#endif
    seen = 0
}

/* Room for one more answer, asked before a record is taken. */
inline look_for_room()
{
    room = true;
    if
    :: w_completed + 1 - w_acknowledged > ENTRIES ->
        LOOK(seen, COMPLETE_HEAD, 2 * ENTRIES + 3);
#ifndef NO_HEAD_CHECK
        if
        :: seen < w_acknowledged || seen > w_completed -> fatal = true; room = false
        :: else -> w_acknowledged = seen; room = (w_completed + 1 - seen <= ENTRIES)
        fi;
#else
        w_acknowledged = seen;
#endif
        seen = 0
    :: else
    fi
}

inline show_units()
{
    if
    :: w_shown != w_head -> w_shown = w_head; STORE(worker_buffer, HEAD, w_head)
    :: else
    fi
}

/* What must hold whenever the ring is read, whatever was written there. */
inline touch_ring(first, count)
{
    assert(!fatal);
    assert(count >= 1 && count <= LONGEST);
    assert(w_shown <= first && first + count <= w_tail && w_tail - w_shown <= UNITS)
}

inline answer()
{
    assert(!fatal);
    assert(w_acknowledged <= w_completed && w_completed - w_acknowledged < ENTRIES);
    STORE(worker_buffer, ENTRY + w_completed % ENTRIES, body);
    w_completed++;
    PUBLISH(worker_buffer, SEQUENCE + (w_completed - 1) % ENTRIES, w_completed);
    if
    :: LOAD(INTERRUPT_WANTED) -> SIGNAL(worker_buffer, interrupt)
    :: else
    fi
}

inline take_record()
{
    touch_ring(w_head, 1);
    LOOK(length, LENGTH + w_head % UNITS, LONGEST + 1); /* once: a copy */
    if
    :: length < 1 || length > LONGEST || length > w_tail - w_head ->
        fatal = true
    :: else ->
#ifdef DOUBLE_FETCH
        LOOK(length, LENGTH + w_head % UNITS, LONGEST + 1);
#endif
        touch_ring(w_head, length);
        LOOK(body, BODY + (w_head + length - 1) % UNITS, 0);
        w_head = w_head + length;
        taken++;
#ifndef MALICE
        assert(body == taken); /* in order, each once, written whole */
#endif
        if
        :: show_units() /* any time after the copy */
        :: skip
        fi;
        answer()
    fi;
    length = 0;
    body = 0
}

active proctype worker()
{
    byte length, body, seen, taken;
    bool room;
#ifdef MALICE
    byte resets;
#endif
    do
    :: taken == RECORDS -> break
    :: fatal ->
#ifdef MALICE
        if
        :: resets == RESETS -> break
        :: else -> /* the reset: everything begins anew */
            atomic {
                empty(worker_buffer) -> resets++;
                fatal = false;
                w_head = 0; w_shown = 0; w_tail = 0; w_completed = 0; w_acknowledged = 0
            }
        fi
#else
        assert(false) /* the guest keeps the rules */
#endif
    :: !fatal && taken < RECORDS ->
        if
        :: w_head == w_tail -> take_tail()
        :: else
        fi;
        if
        :: !fatal -> look_for_room()
        :: else
        fi;
        if
        :: fatal
#ifdef NOT_ABSORBING
        :: fatal && w_head != w_tail -> take_record()
#endif
        :: !fatal && w_head != w_tail && room -> take_record()
        :: !fatal && w_head != w_tail && !room ->
#ifdef MALICE
            skip /* G16: looks again later */
#else
            assert(false) /* a guest that keeps G11 leaves room */
#endif
        :: !fatal && w_head == w_tail ->
#ifndef KEEP_UNITS
            show_units();
#endif
            WISH(worker_buffer, DOORBELL_WANTED);
#ifndef NO_LAST_LOOK
            take_tail();
#endif
#ifndef MALICE /* that guest may ring at any time */
            if
            :: w_head == w_tail -> WAIT(doorbell)
            :: else
            fi;
#endif
            STORE(worker_buffer, DOORBELL_WANTED, 0)
        fi
    od
}
