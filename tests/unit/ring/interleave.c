/* SPDX-License-Identifier: MIT */
#include "interleave.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS    96u /* accesses of one program */
#define WORDS    16u
#define BUFFERED 16u
#define MOVES    4u /* a step of either program, or a store of either leaving its buffer */
#define TABLE    (1u << 22)

struct access {
    enum access_kind kind;
    const void *word;
    uint64_t value;
};

/* Everything that a state is; a program's own memory follows from its results. */
struct state {
    struct {
        uint64_t results[STEPS];
        uint32_t count;
        struct {
            uint32_t word;
            uint64_t value;
        } buffer[BUFFERED];
        uint32_t buffered;
    } side[2];
    uint64_t memory[WORDS];
};

struct interleave_weakness interleave_weak;

static interleave_program programs[2];
static enum machine machine;
static const void *words[WORDS];
static struct interleave_result result;
static bool telling;
static uint64_t *visited; /* of states: a hash of 64 bits, which a few million do not share */
static struct {
    char text[4 * STEPS][96];
    unsigned count;
} path;

/* The program that runs, up to its next access. */
static struct {
    const uint64_t *results;
    uint32_t count, at;
    struct access next;
    bool wrong;
    jmp_buf out;
} run;

uint64_t interleave_access(enum access_kind kind, const void *word, uint64_t value)
{
    if (run.at < run.count)
        return run.results[run.at++];
    run.next = (struct access){kind, word, value};
    longjmp(run.out, 1);
}

void interleave_wrong(void)
{
    run.wrong = true;
}

/* What this program does next; false: it has ended. */
static bool next_access(const struct state *s, unsigned side, struct access *next)
{
    run.results = s->side[side].results;
    run.count = s->side[side].count;
    run.at = 0;
    run.wrong = false;
    if (setjmp(run.out) == 0) {
        programs[side]();
        return false;
    }
    *next = run.next;
    return true;
}

static uint32_t word_index(const void *word)
{
    for (uint32_t i = 0; i < WORDS; i++) {
        if (!words[i])
            words[i] = word;
        if (words[i] == word)
            return i;
    }
    fprintf(stderr, "interleave: more than %u words\n", WORDS);
    abort();
}

static void flush(struct state *s, unsigned side)
{
    s->memory[s->side[side].buffer[0].word] = s->side[side].buffer[0].value;
    s->side[side].buffered--;
    memmove(s->side[side].buffer, s->side[side].buffer + 1,
            s->side[side].buffered * sizeof(s->side[side].buffer[0]));
    memset(&s->side[side].buffer[s->side[side].buffered], 0, sizeof(s->side[side].buffer[0]));
}

/* A load sees what its own buffer holds, the newest first. */
static uint64_t load(const struct state *s, unsigned side, uint32_t word)
{
    for (uint32_t i = s->side[side].buffered; i > 0; i--)
        if (s->side[side].buffer[i - 1].word == word)
            return s->side[side].buffer[i - 1].value;
    return s->memory[word];
}

/* Does the access, if it can be done now. */
static bool step(struct state *s, unsigned side, const struct access *a)
{
    uint32_t word = word_index(a->word), n = s->side[side].buffered;
    uint64_t got = 0;
    if (s->side[side].count == STEPS || n == BUFFERED) {
        fprintf(stderr, "interleave: a program of more than %u accesses\n", STEPS);
        abort();
    }
    switch (a->kind) {
    case ACCESS_LOAD:
        got = load(s, side, word);
        break;
    case ACCESS_STORE:
        if (machine == TOTAL_STORE_ORDER) {
            s->side[side].buffer[n].word = word;
            s->side[side].buffer[n].value = a->value;
            s->side[side].buffered++;
            break;
        }
        /* fall through */
    case ACCESS_EXCHANGE:
    case ACCESS_SIGNAL:
        if (n)
            return false;
        s->memory[word] = a->value;
        break;
    case ACCESS_WAIT:
        if (n || !s->memory[word])
            return false;
        s->memory[word] = 0;
        break;
    }
    s->side[side].results[s->side[side].count++] = got;
    return true;
}

/* Answers whether the state is new, and remembers it. */
static bool visit(const struct state *s)
{
    uint64_t hash = 0xcbf29ce484222325u, word;
    for (size_t at = 0; at + sizeof(word) <= sizeof(*s); at += sizeof(word)) {
        memcpy(&word, (const uint8_t *)s + at, sizeof(word));
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    hash |= 1;
    for (uint32_t i = (uint32_t)(hash >> 20) % TABLE;; i = (i + 1) % TABLE) {
        if (visited[i] == hash)
            return false;
        if (!visited[i]) {
            visited[i] = hash;
            if (++result.states > TABLE / 2) {
                fprintf(stderr, "interleave: too many states\n");
                abort();
            }
            return true;
        }
    }
}

static void note(unsigned side, const struct access *a, uint64_t got)
{
    static const char *const names[] = {"loads", "stores", "exchanges", "signals", "waits for"};
    char *to = path.text[path.count++];
    if (a)
        snprintf(to, sizeof(path.text[0]), "program %u %s word %u: %llu", side + 1, names[a->kind],
                 word_index(a->word),
                 (unsigned long long)(a->kind == ACCESS_LOAD ? got : a->value));
    else
        snprintf(to, sizeof(path.text[0]), "a store of program %u gets to memory", side + 1);
}

static void tell(const char *what)
{
    if (!telling)
        return;
    telling = false;
    for (unsigned i = 0; i < path.count; i++)
        printf("  %2u  %s\n", i + 1, path.text[i]);
    printf("      %s\n", what);
}

static void explore(const struct state *s)
{
    struct access next[2];
    bool running[2], moved = false, wrong = false;
    if (!visit(s))
        return;
    for (unsigned side = 0; side < 2; side++) {
        running[side] = next_access(s, side, &next[side]);
        wrong |= run.wrong;
    }
    if (wrong) {
        result.wrong++;
        tell("wrong: taken out of order, twice or too early");
        return;
    }
    for (unsigned move = 0; move < MOVES; move++) {
        unsigned side = move % 2;
        struct state after = *s;
        if (move < 2) {
            if (!running[side] || !step(&after, side, &next[side]))
                continue;
            note(side, &next[side], after.side[side].results[after.side[side].count - 1]);
        } else {
            if (!after.side[side].buffered)
                continue;
            flush(&after, side);
            note(side, NULL, 0);
        }
        moved = true;
        explore(&after);
        path.count--;
    }
    if (!moved && (running[0] || running[1])) {
        result.stuck++;
        tell("stuck: neither goes on");
    }
}

struct interleave_result interleave_explore(enum machine which, interleave_program first,
                                            interleave_program second, bool tell_first)
{
    static struct state start;
    visited = calloc(TABLE, sizeof(*visited));
    if (!visited)
        abort();
    result = (struct interleave_result){0};
    memset(words, 0, sizeof(words));
    programs[0] = first;
    programs[1] = second;
    machine = which;
    telling = tell_first;
    path.count = 0;
    explore(&start);
    free(visited);
    return result;
}
