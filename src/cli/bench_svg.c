/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The picture of a run: one strip for each row on a logarithmic axis, which has each row's unit and
 * its own ends. Samples are a histogram, the median a dark line, the goal a red one with the side
 * that is good shaded.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench_report.h"

#define LEFT   300.0 /* titles */
#define PLOT   560.0
#define RIGHT  250.0 /* values */
#define STRIP  44.0
#define TOP    64.0
#define BINS   112u
#define GREEN  "#2e7d32"
#define RED    "#c62828"
#define ACCENT "#3f6fb5"

/* Text of ours, or a device's name in a title. */
static void put_text(FILE *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '<')
            fputs("&lt;", out);
        else if (*c == '>')
            fputs("&gt;", out);
        else if (*c == '&')
            fputs("&amp;", out);
        else
            fputc(*c < 0x20 || *c > 0x7E ? '?' : *c, out);
    }
}

struct axis {
    double low, high; /* powers of ten that the strips of one unit share */
};

static void widen(struct axis *axis, double value)
{
    if (value <= 0)
        return;
    double low = floor(log10(value)), high = ceil(log10(value));
    if (high <= low)
        high = low + 1;
    if (axis->low >= axis->high) {
        *axis = (struct axis){low, high};
        return;
    }
    axis->low = low < axis->low ? low : axis->low;
    axis->high = high > axis->high ? high : axis->high;
}

static double place(const struct axis *axis, double value)
{
    double at = value > 0 ? (log10(value) - axis->low) / (axis->high - axis->low) : 0;
    at = at < 0 ? 0 : at > 1 ? 1 : at;
    return LEFT + at * PLOT;
}

static void draw_samples(FILE *out, const struct axis *axis, const struct bench_row *row, double y)
{
    unsigned bins[BINS] = {0}, most = 1;
    for (size_t i = 0; i < row->count; i++) {
        unsigned bin = (unsigned)((place(axis, row->samples[i]) - LEFT) / PLOT * (BINS - 1));
        bins[bin]++;
        most = bins[bin] > most ? bins[bin] : most;
    }
    for (unsigned i = 0; i < BINS; i++) {
        if (!bins[i])
            continue;
        /* The root of the share: single stragglers stay visible. */
        double height = (STRIP - 16) * sqrt((double)bins[i] / most);
        fprintf(out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"" ACCENT
                "\" fill-opacity=\"0.55\"/>\n",
                LEFT + i * PLOT / BINS, y + STRIP - 12 - height, PLOT / BINS - 0.6, height);
    }
}

static void draw_row(FILE *out, const struct axis *axis, const struct bench_row *row, double y)
{
    char value[32], goal[32];
    double x = place(axis, row->value), bottom = y + STRIP - 12;
    bench_format(value, sizeof(value), row->unit, row->value);
    if (row->kind != BENCH_NO_GOAL) {
        double at = place(axis, row->goal);
        bool least = row->kind == BENCH_AT_LEAST;
        fprintf(out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"" GREEN
                "\" fill-opacity=\"0.09\"/>\n",
                least ? at : LEFT, y + 2, least ? LEFT + PLOT - at : at - LEFT, STRIP - 14);
    }
    for (int power = (int)axis->low; power <= (int)axis->high; power++) {
        double at = place(axis, pow(10, power));
        char label[32];
        bench_format(label, sizeof(label), row->unit, pow(10, power));
        label[strcspn(label, ". ")] = 0; /* "10.0 us" is "10" and its unit */
        bench_format(goal, sizeof(goal), row->unit, pow(10, power));
        const char *unit = strrchr(goal, ' ');
        fprintf(out,
                "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#999\" "
                "stroke-width=\"0.4\"/>\n<text x=\"%.1f\" y=\"%.1f\" font-size=\"8\" "
                "fill=\"#888\" text-anchor=\"middle\">%s%s</text>\n",
                at, y + 2, at, bottom, at, bottom + 9, label, unit ? unit : "");
    }
    if (row->count)
        draw_samples(out, axis, row, y);
    else
        fprintf(out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\" fill=\"" ACCENT "\"/>\n",
                LEFT, bottom - 12, x - LEFT);
    fprintf(out,
            "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#123\" "
            "stroke-width=\"2\"/>\n",
            x, y + 4, x, bottom);
    if (row->beside > 0)
        fprintf(out,
                "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#666\" "
                "stroke-width=\"1.5\" stroke-dasharray=\"2 2\"/>\n",
                place(axis, row->beside), y + 4, place(axis, row->beside), bottom);
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 10, y + STRIP - 18);
    put_text(out, row->title);
    fprintf(out, "</text>\n<text x=\"%.1f\" y=\"%.1f\" font-weight=\"bold\">%s</text>\n",
            LEFT + PLOT + 12, y + 18, value);
    if (row->kind != BENCH_NO_GOAL) {
        bool met = bench_row_met(row);
        double at = place(axis, row->goal);
        bench_format(goal, sizeof(goal), row->unit, row->goal);
        fprintf(out,
                "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"" RED
                "\" stroke-width=\"1.5\"/>\n<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">%s, goal %s "
                "%s</text>\n",
                at, y + 1, at, bottom + 2, LEFT + PLOT + 12, y + 33, met ? GREEN : RED,
                met ? "met" : "not met", row->kind == BENCH_AT_MOST ? "at most" : "at least", goal);
    }
}

bool bench_report_svg(const struct bench_report *report, const char *path)
{
    struct axis axes[3] = {{0}};
    const double width = LEFT + PLOT + RIGHT, height = TOP + report->count * STRIP + 40;
    FILE *out = fopen(path, "w");
    if (!out) {
        fprintf(stderr, "vgpu-bench: %s cannot be written: %s\n", path, strerror(errno));
        return false;
    }
    for (unsigned i = 0; i < report->count; i++) {
        const struct bench_row *row = &report->rows[i];
        widen(&axes[row->unit], row->value);
        widen(&axes[row->unit], row->goal);
        widen(&axes[row->unit], row->beside);
        if (row->count) {
            widen(&axes[row->unit], row->min);
            widen(&axes[row->unit], row->p99);
        }
    }
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
            "font-family=\"sans-serif\" font-size=\"13\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
            "<text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"bold\">",
            width, height);
    put_text(out, report->title);
    fprintf(out, "</text>\n<text x=\"16\" y=\"46\" fill=\"#555\">dark line: median; blue: samples "
                 "(height: root of the share); red: goal, on its green side; dashes: what it is "
                 "compared with. Decades, each unit's own.</text>\n");
    for (unsigned i = 0; i < report->count; i++)
        draw_row(out, &axes[report->rows[i].unit], &report->rows[i], TOP + i * STRIP);
    fputs("</svg>\n", out);
    if (fclose(out) != 0) {
        fprintf(stderr, "vgpu-bench: %s: %s\n", path, strerror(errno));
        return false;
    }
    return true;
}
