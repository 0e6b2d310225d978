/* Prometheus text, see metrics.h. */
#include "api/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "base/list.h"
#include "base/map.h"
#include "calimero/error.h"

enum { COLLECTORS_MAX = 16, FAMILIES_MAX = 256, KEY_MAX = 1024, PROC_TEXT_MAX = 4096 };

static const double BUCKET_FIRST = 0.001; /* seconds; each next one is twice as wide */

typedef struct metrics_family {
    const char *name, *help;
    metrics_kind kind;
    cal_list series;
} metrics_family;

struct metrics_series {
    cal_list node;
    char *labels;
    uint64_t count; /* counter: its value; histogram: observations */
    double sum;     /* gauge: its value */
    uint64_t buckets[];
};

struct metrics_registry {
    cal_map by_key; /* name, NUL, labels -> metrics_series */
    metrics_family families[FAMILIES_MAX];
    size_t family_count;
    struct {
        metrics_collector collect;
        void *user;
    } collectors[COLLECTORS_MAX];
    size_t collector_count;
};

metrics_registry *metrics_new(void) {
    metrics_registry *registry = calloc(1, sizeof *registry);
    if (registry) cal_map_init(&registry->by_key, 0); /* names of our own */
    return registry;
}

void metrics_free(metrics_registry *registry) {
    if (!registry) return;
    for (size_t i = 0; i < registry->family_count; i++)
        for (cal_list *node; (node = cal_list_pop(&registry->families[i].series));) {
            metrics_series *series = CAL_CONTAINER_OF(node, metrics_series, node);
            free(series->labels);
            free(series);
        }
    cal_map_deinit(&registry->by_key);
    free(registry);
}

static metrics_family *family_of(metrics_registry *registry, metrics_kind kind, const char *name,
                                 const char *help) {
    for (size_t i = 0; i < registry->family_count; i++)
        if (strcmp(registry->families[i].name, name) == 0) return &registry->families[i];
    if (registry->family_count == FAMILIES_MAX) return NULL;
    metrics_family *family = &registry->families[registry->family_count++];
    *family = (metrics_family){.name = name, .help = help, .kind = kind};
    cal_list_init(&family->series);
    return family;
}

metrics_series *metrics_get(metrics_registry *registry, metrics_kind kind, const char *name,
                            const char *help, const char *labels) {
    char key[KEY_MAX];
    int len = snprintf(key, sizeof key, "%s%c%s", name, 0, labels);
    if (len < 0 || (size_t)len >= sizeof key) return NULL;
    cal_slice slice = cal_slice_of(key, (size_t)len);
    metrics_series *series = cal_map_get(&registry->by_key, slice);
    if (series) return series;
    if (registry->by_key.count >= METRICS_SERIES_MAX) return NULL;
    metrics_family *family = family_of(registry, kind, name, help);
    size_t buckets = kind == METRICS_HISTOGRAM ? METRICS_BUCKETS : 0;
    series = family ? calloc(1, sizeof *series + buckets * sizeof(uint64_t)) : NULL;
    char *copy = series ? strdup(labels) : NULL;
    if (!copy || cal_map_put(&registry->by_key, slice, series) != 0) {
        free(copy);
        free(series);
        return NULL;
    }
    series->labels = copy;
    cal_list_push(&family->series, &series->node);
    return series;
}

void metrics_add(metrics_series *series, uint64_t amount) {
    if (series) series->count += amount;
}

void metrics_set(metrics_series *series, double value) {
    if (series) series->sum = value;
}

void metrics_observe(metrics_series *series, double seconds) {
    if (!series) return;
    double limit = BUCKET_FIRST;
    series->count++;
    series->sum += seconds;
    for (size_t i = 0; i < METRICS_BUCKETS; i++, limit *= 2)
        if (seconds <= limit) series->buckets[i]++;
}

int metrics_collect(metrics_registry *registry, metrics_collector collector, void *user) {
    if (registry->collector_count == COLLECTORS_MAX) return CAL_ELIMIT;
    registry->collectors[registry->collector_count].collect = collector;
    registry->collectors[registry->collector_count++].user = user;
    return 0;
}

/* --- text --- */

void metrics_label(cal_buffer *out, const char *name, const char *value) {
    cal_buffer_printf(out, "%s%s=\"", out->len ? "," : "", name);
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            cal_buffer_append_text(out, "\\n");
        else {
            if (*c == '"' || *c == '\\') cal_buffer_append_u8(out, '\\');
            cal_buffer_append_u8(out, (uint8_t)*c);
        }
    }
    cal_buffer_append_u8(out, '"');
}

static const char *suffix(metrics_kind kind) { return kind == METRICS_COUNTER ? "_total" : ""; }

void metrics_write_head(cal_buffer *out, metrics_kind kind, const char *name, const char *help) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    cal_buffer_printf(out, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix(kind), help, name,
                      suffix(kind), kinds[kind]);
}

void metrics_write_value(cal_buffer *out, metrics_kind kind, const char *name, const char *labels,
                         double value) {
    const char *open = labels[0] ? "{" : "", *close = labels[0] ? "}" : "";
    cal_buffer_printf(out, "%s%s%s%s%s %.17g\n", name, suffix(kind), open, labels, close, value);
}

static void render_histogram(cal_buffer *out, const char *name, const metrics_series *series) {
    const char *comma = series->labels[0] ? "," : "";
    const char *open = series->labels[0] ? "{" : "", *close = series->labels[0] ? "}" : "";
    double limit = BUCKET_FIRST;
    for (size_t i = 0; i < METRICS_BUCKETS; i++, limit *= 2)
        cal_buffer_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, series->labels, comma,
                          limit, (unsigned long long)series->buckets[i]);
    cal_buffer_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, series->labels, comma,
                      (unsigned long long)series->count);
    cal_buffer_printf(out, "%s_sum%s%s%s %g\n%s_count%s%s%s %llu\n", name, open, series->labels,
                      close, series->sum, name, open, series->labels, close,
                      (unsigned long long)series->count);
}

void metrics_render(const metrics_registry *registry, cal_buffer *out) {
    for (size_t i = 0; i < registry->family_count; i++) {
        const metrics_family *family = &registry->families[i];
        metrics_write_head(out, family->kind, family->name, family->help);
        for (const cal_list *node = family->series.next; node != &family->series;
             node = node->next) {
            const metrics_series *series = CAL_CONTAINER_OF(node, metrics_series, node);
            if (family->kind == METRICS_HISTOGRAM)
                render_histogram(out, family->name, series);
            else
                metrics_write_value(out, family->kind, family->name, series->labels,
                                    family->kind == METRICS_COUNTER ? (double)series->count
                                                                    : series->sum);
        }
    }
    for (size_t i = 0; i < registry->collector_count; i++)
        registry->collectors[i].collect(registry->collectors[i].user, out);
}

/* --- the process --- */

static void write_gauge(cal_buffer *out, const char *name, const char *help, double value) {
    metrics_write_head(out, METRICS_GAUGE, name, help);
    metrics_write_value(out, METRICS_GAUGE, name, "", value);
}

static size_t count_folder(const char *path) {
    uv_fs_t request;
    size_t count = 0;
    if (uv_fs_scandir(NULL, &request, path, 0, NULL) >= 0) {
        uv_dirent_t entry;
        while (uv_fs_scandir_next(&request, &entry) != UV_EOF) count++;
    }
    uv_fs_req_cleanup(&request);
    return count;
}

void metrics_collect_process(void *user, cal_buffer *out) {
    (void)user;
    size_t resident = 0;
    unsigned long virtual_pages = 0;
    if (uv_resident_set_memory(&resident) == 0)
        write_gauge(out, "process_resident_memory_bytes", "Memory of the process in use.",
                    (double)resident);
    FILE *file = fopen("/proc/self/statm", "re");
    if (file && fscanf(file, "%lu", &virtual_pages) == 1)
        write_gauge(out, "process_virtual_memory_bytes", "Address space of the process.",
                    (double)virtual_pages * (double)sysconf(_SC_PAGESIZE));
    if (file) fclose(file);
    write_gauge(out, "process_threads", "Threads of the process.",
                (double)count_folder("/proc/self/task"));
    write_gauge(out, "process_open_fds", "Open file descriptors.",
                (double)count_folder("/proc/self/fd"));
}
