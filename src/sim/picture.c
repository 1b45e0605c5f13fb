/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run as a picture: who held which GPU when and how many waited (a stretch of time, drawn to
 * scale), and how long requests of each kind of VM took (how many of them took longer than a time).
 * See sim.h.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

enum { WIDTH = 960, LEFT = 130, RIGHT = 20, LANE = 14, LANES_MAX = 24, QUEUE = 60, CURVES = 220 };

static const char *const colours[] = {"#4477aa", "#ee6677", "#228833", "#ccbb44",
                                      "#66ccee", "#aa3377", "#bbbbbb", "#222255"};

static const char *colour(uint32_t number)
{
    return colours[number % (sizeof(colours) / sizeof(colours[0]))];
}

/* Text that XML takes. */
static void put_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else
            fputc(*text, out);
    }
}

static void label(FILE *out, double x, double y, const char *anchor, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    put_text(out, text);
    fputs("</text>\n", out);
}

static const char *time_text(double ns, char text[32])
{
    if (ns < 1e3)
        snprintf(text, 32, "%g ns", ns);
    else if (ns < 1e6)
        snprintf(text, 32, "%g us", ns / 1e3);
    else if (ns < 1e9)
        snprintf(text, 32, "%g ms", ns / 1e6);
    else
        snprintf(text, 32, "%g s", ns / 1e9);
    return text;
}

/* 1, 2 or 5 times a power of ten that gives about `parts` steps. */
static double step_of(double range, int parts)
{
    double power = pow(10, floor(log10(range / parts)));
    double rest = range / parts / power;
    return power * (rest < 1.5 ? 1 : rest < 3.5 ? 2 : rest < 7.5 ? 5 : 10);
}

/* The stretch of time that is drawn. */
struct window {
    double from, length, scale; /* ns, ns, pixels a ns */
};

/* As long as shows single leases, around what happens if something does. */
static struct window choose_window(const struct vgpu_sim_run *run)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    double all = (double)sc->duration_ns, length = 60.0 * (double)sc->sched.quantum_ns;
    double from = sc->event_count ? (double)sc->events[0].at_ns - length / 2 : (all - length) / 2;
    for (uint32_t i = 0; i < sc->vm_count; i++)
        if (sc->vms[i].fault_ns) {
            length = 2.0 * (double)sc->sched.watchdog_ns + 40.0 * (double)sc->sched.quantum_ns;
            from = (double)sc->vms[i].fault_ns - length / 4;
            break;
        }
    if (length > all)
        length = all;
    if (from + length > all)
        from = all - length;
    if (from < 0)
        from = 0;
    return (struct window){from, length, (WIDTH - LEFT - RIGHT) / length};
}

static double time_x(const struct window *w, uint64_t ns)
{
    double x = LEFT + ((double)ns - w->from) * w->scale;
    return x < LEFT ? LEFT : x > WIDTH - RIGHT ? WIDTH - RIGHT : x;
}

static void draw_times(const struct window *w, FILE *out, double y)
{
    char number[32];
    double step = step_of(w->length, 8);
    const unsigned count = (unsigned)(w->length / step) + 1;
    for (unsigned i = 0; i <= count; i++) {
        double t = (ceil(w->from / step) + i) * step;
        if (t > w->from + w->length)
            break;
        double x = LEFT + (t - w->from) * w->scale;
        fprintf(out, "<path d=\"M%.1f %.1fv4\" stroke=\"#444\"/>\n", x, y);
        label(out, x, y + 16, "middle", time_text(t, number));
    }
}

/* One lane for each VM if there are few, else one for each GPU. */
static double draw_leases(const struct vgpu_sim_run *run, FILE *out, double top)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    const struct window w = choose_window(run);
    bool by_vm = sc->vm_count <= LANES_MAX;
    uint32_t lanes = by_vm ? sc->vm_count : sc->sched.gpus;
    char text[64];
    snprintf(text, sizeof(text), "Who held %s", sc->sched.gpus > 1 ? "which GPU" : "the GPU");
    label(out, LEFT, top - 8, "start", text);
    for (uint32_t i = 0; i < lanes; i++) {
        snprintf(text, sizeof(text), "GPU %u", i);
        label(out, LEFT - 6, top + i * LANE + LANE - 3, "end", by_vm ? sc->vms[i].name : text);
        fprintf(out, "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%d\" fill=\"#f4f4f4\"/>\n",
                LEFT, top + i * LANE + 1, WIDTH - LEFT - RIGHT, LANE - 2);
    }
    for (size_t i = 0; i < run->trace_count; i++) {
        const struct vgpu_sim_segment *s = &run->trace[i];
        double a = time_x(&w, s->from_ns), b = time_x(&w, s->to_ns);
        if ((double)s->to_ns < w.from || (double)s->from_ns > w.from + w.length)
            continue;
        fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", a,
                top + (by_vm ? s->vm : s->gpu) * LANE + 1.0, b - a < 0.4 ? 0.4 : b - a, LANE - 2,
                colour(sc->vms[s->vm].group));
    }
    return top + lanes * LANE + 24;
}

/* How many wait for each GPU, in the same stretch of time. */
static double draw_queues(const struct vgpu_sim_run *run, FILE *out, double top)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    const struct window w = choose_window(run);
    uint64_t most = 1;
    char number[32];
    for (uint32_t g = 0; g < sc->sched.gpus; g++)
        most = run->queue_max[g] > most ? run->queue_max[g] : most;
    double height = QUEUE / (double)most;
    label(out, LEFT, top - 8, "start",
          sc->sched.gpus > 1 ? "VMs that wait, for each GPU" : "VMs that wait");
    snprintf(number, sizeof(number), "%" PRIu64, most);
    label(out, LEFT - 6, top + 8, "end", number);
    label(out, LEFT - 6, top + QUEUE, "end", "0");
    fprintf(out, "<path d=\"M%d %.1fh%dM%d %.1fh%d\" stroke=\"#ddd\"/>\n", LEFT, top,
            WIDTH - LEFT - RIGHT, LEFT, top + QUEUE, WIDTH - LEFT - RIGHT);
    for (uint32_t g = 0; g < sc->sched.gpus; g++) {
        double level = 0;
        bool begun = false;
        fprintf(out, "<path fill=\"none\" stroke=\"#444\" stroke-opacity=\"%s\" d=\"",
                sc->sched.gpus > 1 ? "0.4" : "1");
        for (size_t i = 0; i < run->queue_count; i++) {
            const struct vgpu_sim_queue *q = &run->queue[i];
            if (q->gpu != g || (double)q->at_ns > w.from + w.length)
                continue;
            if (!begun && (double)q->at_ns >= w.from) {
                fprintf(out, "M%d %.1f", LEFT, top + QUEUE - level * height);
                begun = true;
            }
            level = q->waiting;
            if (begun)
                fprintf(out, "H%.1fV%.1f", time_x(&w, q->at_ns), top + QUEUE - level * height);
        }
        if (!begun)
            fprintf(out, "M%d %.1f", LEFT, top + QUEUE - level * height);
        fprintf(out, "H%d\"/>\n", WIDTH - RIGHT);
    }
    draw_times(&w, out, top + QUEUE);
    return top + QUEUE + 30;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Every latency of a section's VMs, sorted; freed by the caller. */
static uint64_t *latencies(const struct vgpu_sim_run *run, uint32_t group, size_t *count)
{
    size_t n = 0;
    for (uint32_t i = 0; i < run->scenario->vm_count; i++)
        if (run->scenario->vms[i].group == group)
            n += run->vms[i].latency.count;
    uint64_t *all = malloc((n ? n : 1) * sizeof(*all));
    *count = 0;
    for (uint32_t i = 0; all && i < run->scenario->vm_count; i++) {
        const struct vgpu_sim_samples *s = &run->vms[i].latency;
        if (run->scenario->vms[i].group != group || !s->count)
            continue;
        memcpy(all + *count, s->value, s->count * sizeof(*all));
        *count += s->count;
    }
    if (all)
        qsort(all, *count, sizeof(*all), compare);
    return all;
}

/* For each section: the share of requests that took at least so long, both axes logarithmic. */
static double draw_latencies(const struct vgpu_sim_run *run, FILE *out, double top)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    double low = 1e3, high = 1e4, width = WIDTH - LEFT - RIGHT;
    char number[32];
    for (uint32_t i = 0; i < sc->vm_count; i++)
        while ((double)vgpu_sim_quantile(&run->vms[i].latency, 1) > high)
            high *= 10;
    label(out, LEFT, top - 8, "start", "Share of requests that took longer");
    for (int decade = 0; decade <= 4; decade++) {
        double y = top + decade * CURVES / 4.0;
        fprintf(out, "<path d=\"M%d %.1fh%.0f\" stroke=\"#ddd\"/>\n", LEFT, y, width);
        snprintf(number, sizeof(number), "%g %%", 100 * pow(10, -decade));
        label(out, LEFT - 6, y + 4, "end", number);
    }
    const unsigned decades = (unsigned)(log10(high / low) + 0.5);
    for (unsigned i = 0; i <= decades; i++) {
        double t = low * pow(10, i);
        double x = LEFT + width * log10(t / low) / log10(high / low);
        fprintf(out, "<path d=\"M%.1f %.1fv%d\" stroke=\"#ddd\"/>\n", x, top, CURVES);
        label(out, x, top + CURVES + 16, "middle", time_text(t, number));
    }
    for (uint32_t g = 0; g < sc->group_count; g++) {
        size_t count;
        uint64_t *all = latencies(run, g, &count);
        if (all && count) {
            fprintf(out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", colour(g));
            char verb = 'M';
            for (double share = 1; share >= 1e-4 && share * (double)count >= 1; share *= 0.93) {
                double t = (double)all[(size_t)((1 - share) * (double)(count - 1))];
                t = t < low ? low : t;
                fprintf(out, "%c%.1f %.1f", verb, LEFT + width * log10(t / low) / log10(high / low),
                        top - log10(share) * CURVES / 4.0);
                verb = 'L';
            }
            fputs("\"/>\n", out);
        }
        free(all);
    }
    return top + CURVES + 36;
}

static double draw_legend(const struct vgpu_sim_run *run, FILE *out, double top)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    double x = LEFT;
    for (uint32_t g = 0; g < sc->group_count; g++) {
        const char *name = "";
        for (uint32_t i = 0; i < sc->vm_count && !*name; i++)
            if (sc->vms[i].group == g)
                name = sc->vms[i].section;
        fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"11\" height=\"11\" fill=\"%s\"/>\n", x,
                top - 10, colour(g));
        label(out, x + 16, top, "start", name);
        x += 40 + 7.5 * (double)strlen(name);
    }
    return top + 24;
}

void vgpu_sim_picture(const struct vgpu_sim_run *run, FILE *out)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    uint32_t lanes = sc->vm_count <= LANES_MAX ? sc->vm_count : sc->sched.gpus;
    int height = 80 + (int)lanes * LANE + 24 + QUEUE + 64 + CURVES + 40;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\">\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
            WIDTH, height, WIDTH, height, WIDTH, height);
    fputs("<g font-size=\"14\">", out);
    label(out, LEFT, 20, "start", sc->title);
    fputs("</g>\n", out);
    double top = draw_legend(run, out, 42);
    top = draw_leases(run, out, top + 14);
    top = draw_queues(run, out, top);
    draw_latencies(run, out, top + 24);
    fputs("</svg>\n", out);
}
