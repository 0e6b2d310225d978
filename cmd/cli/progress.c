/* One line on a terminal that says how far long work has come. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

enum { BAR_WIDTH = 30, REDRAW_MS = 100 };

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void print_size(char *ret_text, size_t max, unsigned long long bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes;
    size_t unit = 0;
    for (; size >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++) size /= 1024;
    snprintf(ret_text, max, unit ? "%.1f %s" : "%.0f %s", size, units[unit]);
}

void cli_progress_update(void *progress, unsigned long long done, unsigned long long total) {
    cli_progress *p = progress;
    long long now = now_ms();
    if ((p->shown && now - p->last_ms < REDRAW_MS) || !isatty(STDERR_FILENO)) return;
    p->shown = true;
    p->last_ms = now;
    char have[32];
    print_size(have, sizeof have, done);
    if (total == 0) {
        static const char wheel[] = "|/-\\";
        fprintf(stderr, "\r\033[K%s %c %s", p->label, wheel[(now / REDRAW_MS) % 4],
                done ? have : "");
    } else {
        char bar[BAR_WIDTH + 1], whole[32];
        size_t full =
            done >= total ? BAR_WIDTH : (size_t)((double)done / (double)total * BAR_WIDTH);
        memset(bar, '.', BAR_WIDTH);
        memset(bar, '#', full);
        bar[BAR_WIDTH] = 0;
        print_size(whole, sizeof whole, total);
        fprintf(stderr, "\r\033[K%s [%s] %s of %s", p->label, bar, have, whole);
    }
    fflush(stderr);
}

void cli_progress_end(cli_progress *p) {
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
}
