/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * docs/cuda-images.md, "Which entry is taken" and "Before a driver sees it", against NVIDIA's
 * driver itself, where there is one (the test is skipped elsewhere): it takes the entries that
 * vgpu_fatbin_choose takes, and lives through every damaged fatbin that vgpu_image_check lets pass.
 *
 * The driver is called in a child, which notes what it is at in shared memory.
 */
#include "image_rig.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/unpack.h"

#define CHOICES      4000u
#define DAMAGES      8000u
#define MAX_ENTRIES  5u
#define NO_DRIVER    77
#define MAJOR_NUMBER 75 /* CUdevice_attribute */
#define MINOR_NUMBER 76

struct driver {
    int (*init)(unsigned flags);
    int (*get)(int *device, int ordinal);
    int (*attribute)(int *value, int attribute, int device);
    int (*retain)(void **context, int device);
    int (*set_current)(void *context);
    int (*load)(void **module, const void *image);
    int (*function)(void **function, void *module, const char *name);
    int (*unload)(void *module);
    uint32_t sm;
};

/* What the child tells. */
struct notes {
    uint32_t at; /* the case it is at */
    uint32_t accepted, loaded;
    char wrong[200]; /* the first disagreement */
};

static bool find_symbol(void *library, const char *name, void *slot)
{
    void *symbol = dlsym(library, name);
    memcpy(slot, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static bool open_driver(struct driver *d)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *context;
    int device, major, minor;
    if (!library || !find_symbol(library, "cuInit", &d->init) ||
        !find_symbol(library, "cuDeviceGet", &d->get) ||
        !find_symbol(library, "cuDeviceGetAttribute", &d->attribute) ||
        !find_symbol(library, "cuDevicePrimaryCtxRetain", &d->retain) ||
        !find_symbol(library, "cuCtxSetCurrent", &d->set_current) ||
        !find_symbol(library, "cuModuleLoadData", &d->load) ||
        !find_symbol(library, "cuModuleGetFunction", &d->function) ||
        !find_symbol(library, "cuModuleUnload", &d->unload))
        return false;
    if (d->init(0) || d->get(&device, 0) || d->attribute(&major, MAJOR_NUMBER, device) ||
        d->attribute(&minor, MINOR_NUMBER, device) || d->retain(&context, device) ||
        d->set_current(context))
        return false;
    d->sm = (uint32_t)(major * 10 + minor);
    return true;
}

static uint64_t seed;

static uint32_t pick(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 16) % below);
}

static void start_case(uint32_t number)
{
    seed = 0x9e3779b97f4a7c15ull * (number + 1);
    for (unsigned i = 0; i < 4; i++)
        (void)pick(2);
}

/* Entries for any architecture, in any order. The text's own target is one that every card has. */
static void make_choice(struct fatbin *f, uint32_t number)
{
    static const uint32_t sms[] = {50, 60, 70, 75, 80, 86, 87, 89, 90, 100, 103, 120, 121};
    start_case(number);
    fatbin_begin(f);
    unsigned entries = 1 + pick(MAX_ENTRIES);
    for (unsigned i = 0; i < entries; i++) {
        char text[128];
        uint32_t sm = sms[pick(sizeof(sms) / sizeof(sms[0]))];
        uint64_t flags = sm >= 90 && pick(3) == 0    ? VGPU_FATBIN_F_ARCH
                         : sm >= 100 && pick(3) == 0 ? VGPU_FATBIN_F_FAMILY
                                                     : 0;
        int n = snprintf(text, sizeof(text),
                         ".version 7.0\n.target sm_75\n.address_size 64\n"
                         ".visible .entry k%u() { ret; }\n",
                         i);
        fatbin_add(f, VGPU_FATBIN_PTX, sm, flags, text, (size_t)n + 1, 0);
    }
}

/* Which entry the driver took must be the one that we would. */
static void try_choice(const struct driver *d, struct notes *notes, uint32_t number)
{
    struct fatbin f;
    struct vgpu_fatbin_walk w;
    struct vgpu_fatbin_entry e, next;
    char name[16] = "";
    void *module, *function;
    make_choice(&f, number);
    int ours = vgpu_fatbin_choose(f.bytes, f.size, d->sm,
                                  1u << VGPU_FATBIN_PTX | 1u << VGPU_FATBIN_ELF, &e, NULL);
    int theirs = d->load(&module, f.bytes);
    vgpu_fatbin_walk_start(&w, f.bytes, f.size);
    for (unsigned i = 0; ours == 0 && vgpu_fatbin_walk_next(&w, &next) > 0; i++)
        if (next.data == e.data)
            snprintf(name, sizeof(name), "k%u", i);
    bool agree = ours == 0 ? theirs == 0 && d->function(&function, module, name) == 0
                           : theirs == CUDA_ERROR_NO_BINARY_FOR_GPU;
    if (!agree && !notes->wrong[0])
        snprintf(notes->wrong, sizeof(notes->wrong),
                 "case %u on sm_%u: the driver answers %d, and we choose '%s'", number, d->sm,
                 theirs, name);
    if (theirs == 0)
        d->unload(module);
    notes->loaded += theirs == 0;
}

static const char *const files[] = {
    "tiny.plain.fatbin",    "tiny.lz4.fatbin", "tiny.zstd.fatbin", "named.fatbin",
    "kernels.lz4.fatbin",   "lto.fatbin",      "variants.fatbin",  "machine-code.fatbin",
    "kernels.plain.fatbin", "large.fatbin"};
#define FILES (sizeof(files) / sizeof(files[0]))

static struct {
    uint8_t *bytes;
    size_t size;
} images[FILES];

/*
 * A few bytes of the headers changed; not of what is in the entries, since no check of ours keeps a
 * driver alive that gets damaged machine code. There are zeros behind the image: what a driver
 * reads there is not why it dies.
 */
static size_t make_damage(uint8_t *out, uint32_t number)
{
    static const uint8_t values[] = {0, 1, 2, 4, 8, 16, 64, 72, 80, 127, 128, 255};
    start_case(number);
    unsigned file = pick(FILES);
    size_t size = images[file].size;
    memcpy(out, images[file].bytes, size);
    for (unsigned hits = 1 + pick(3); hits > 0; hits--) {
        struct vgpu_fatbin_walk w;
        struct vgpu_fatbin_entry e;
        size_t header = 16;
        vgpu_fatbin_walk_start(&w, images[file].bytes, size);
        for (unsigned skip = pick(4); skip > 0 && vgpu_fatbin_walk_next(&w, &e) > 0; skip--)
            header = w.at < size ? w.at : 16;
        uint32_t header_bytes;
        memcpy(&header_bytes, images[file].bytes + header + AT_HEADER, sizeof(header_bytes));
        size_t at = pick(8) == 0 ? pick(16) : header + pick(header_bytes);
        if (at >= size)
            at = 0;
        switch (pick(3)) {
        case 0:
            out[at] = values[pick(sizeof(values))];
            break;
        case 1:
            out[at] ^= (uint8_t)(1u << pick(8));
            break;
        default:
            out[at] = (uint8_t)(out[at] + (pick(2) ? 1 : 255));
        }
    }
    return size;
}

static void try_damage(const struct driver *d, struct notes *notes, uint32_t number)
{
    static uint8_t image[65536];
    void *module;
    memset(image, 0, sizeof(image));
    size_t size = make_damage(image, number);
    if (vgpu_image_check(image, size, NULL, 0) != CUDA_SUCCESS)
        return;
    notes->accepted++;
    if (d->load(&module, image) == 0) {
        notes->loaded++;
        d->unload(module);
    }
}

static bool skipped;

/* Runs cases in a child. Where it dies, the case is noted. */
static void run_cases(void (*one)(const struct driver *, struct notes *, uint32_t), uint32_t cases,
                      struct notes *out)
{
    struct notes *notes =
        mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    assert_true(notes != MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct driver d;
        signal(SIGSEGV, SIG_DFL); /* cmocka's would go on in its own way */
        if (!open_driver(&d))
            _exit(NO_DRIVER);
        for (notes->at = 0; notes->at < cases; notes->at++)
            one(&d, notes, notes->at);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    *out = *notes;
    munmap(notes, sizeof(*notes));
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_DRIVER) {
        print_message("no NVIDIA driver or no GPU here\n");
        skipped = true;
        skip();
    }
    if (WIFSIGNALED(status))
        print_error("signal %d in case %u\n", WTERMSIG(status), out->at);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_choice(void **state)
{
    (void)state;
    struct notes notes;
    run_cases(try_choice, CHOICES, &notes);
    if (notes.wrong[0])
        print_error("%s\n", notes.wrong);
    assert_int_equal(notes.wrong[0], 0);
    assert_in_range(notes.loaded, CHOICES / 4, CHOICES);
}

static void test_damage(void **state)
{
    (void)state;
    struct notes notes;
    for (unsigned i = 0; i < FILES; i++)
        images[i].bytes = image_read(files[i], &images[i].size);
    run_cases(try_damage, DAMAGES, &notes);
    for (unsigned i = 0; i < FILES; i++)
        free(images[i].bytes);
    assert_in_range(notes.accepted, DAMAGES / 20, DAMAGES);
    assert_in_range(notes.loaded, 1, notes.accepted);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        VGPU_TEST(test_choice),
        VGPU_TEST(test_damage),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed || !skipped ? failed : 77; /* to meson: cannot run here */
}
