/* Counters, gauges and histograms, and their text for a Prometheus scraper (http-api.md 4).
 *
 * A family is a name, a help line and a kind; a series is a family with labels. Series are made
 * once and kept, so counting is one addition. What is cheaper to ask than to count comes from
 * collectors, which write when a scrape asks. Loop thread only. */
#ifndef CAL_API_METRICS_H
#define CAL_API_METRICS_H

#include "base/buffer.h"

typedef struct metrics_registry metrics_registry;
typedef struct metrics_series metrics_series;

typedef enum metrics_kind { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM } metrics_kind;

enum { METRICS_BUCKETS = 15, METRICS_SERIES_MAX = 4096, METRICS_TEXT_MAX = 4 * 1024 * 1024 };

metrics_registry *metrics_new(void); /* NULL: memory */
void metrics_free(metrics_registry *registry);

/* The series of this name and these labels (`method="GET",path="/x"`, values escaped by
 * metrics_label; "" for none). Counters are rendered with `_total` behind the name. name and help:
 * static storage. NULL: too many series, or memory; the functions below take NULL and do nothing.
 */
metrics_series *metrics_get(metrics_registry *registry, metrics_kind kind, const char *name,
                            const char *help, const char *labels);
void metrics_add(metrics_series *series, uint64_t amount); /* counter */
void metrics_set(metrics_series *series, double value);    /* gauge */
void metrics_observe(metrics_series *series,
                     double seconds); /* histogram: 1 ms doubled, METRICS_BUCKETS of them */

/* Collectors write whole families: head once, then values. */
typedef void (*metrics_collector)(void *user, cal_buffer *out);
int metrics_collect(metrics_registry *registry, metrics_collector collector,
                    void *user); /* CAL_ENOMEM, CAL_ELIMIT */
void metrics_write_head(cal_buffer *out, metrics_kind kind, const char *name, const char *help);
void metrics_write_value(cal_buffer *out, metrics_kind kind, const char *name, const char *labels,
                         double value);
void metrics_label(cal_buffer *out, const char *name,
                   const char *value); /* `name="value"`, with a comma before it if not first */

void metrics_render(const metrics_registry *registry, cal_buffer *out);

/* process_*: memory, threads, open files. */
void metrics_collect_process(void *user, cal_buffer *out);

#endif
