/* The figures: a table for people as they come, a JSON document at the end. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "bench.h"

enum { FIGURES_MAX = 192, TEXT_MAX = 200 };

typedef struct figure {
    char section[64], name[64], unit[16], formula[TEXT_MAX];
    double value, limit; /* limit NAN: none */
    verdict judged;
} figure;

static figure figures[FIGURES_MAX];
static size_t figure_count;
static char section[64];

static const char *const verdict_texts[] = {"", "pass", "MISS", "other limit", "disturbed"};

void report_section(const char *title) {
    snprintf(section, sizeof section, "%s", title);
    printf("\n%s\n", title);
    printf("  %-38s %12s %12s %-6s %s\n", "", "measured", "limit", "", "");
}

static void number(char ret_text[32], double value) {
    if (isnan(value))
        ret_text[0] = '\0';
    else
        snprintf(ret_text, 32, "%.*f", fabs(value) < 10 ? 2 : fabs(value) < 1000 ? 1 : 0, value);
}

void report_verdict(const char *name, double value, double limit, const char *unit, verdict judged,
                    const char *formula) {
    char value_text[32], limit_text[32];
    if (figure_count == FIGURES_MAX) bench_die("too many figures");
    figure *f = &figures[figure_count++];
    *f = (figure){.value = value, .limit = limit, .judged = judged};
    snprintf(f->section, sizeof f->section, "%s", section);
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->unit, sizeof f->unit, "%s", unit);
    snprintf(f->formula, sizeof f->formula, "%s", formula ? formula : "");
    number(value_text, value);
    number(limit_text, limit);
    printf("  %-38s %12s %12s %-6s %-5s %s\n", name, value_text, limit_text, unit,
           verdict_texts[judged], f->formula);
    fflush(stdout);
}

void report_value(const char *name, double value, const char *unit, const char *note) {
    report_verdict(name, value, NAN, unit, VERDICT_NONE, note);
}

void report_limit(const char *name, double value, double limit, const char *unit,
                  const char *formula) {
    report_verdict(name, value, limit, unit, value <= limit ? VERDICT_PASS : VERDICT_MISS, formula);
}

unsigned report_count(verdict judged) {
    unsigned count = 0;
    for (size_t i = 0; i < figure_count; i++) count += figures[i].judged == judged;
    return count;
}

void report_json(const char *path) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *list = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_val(doc, root, "figures", list);
    for (size_t i = 0; i < figure_count; i++) {
        const figure *f = &figures[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_str(doc, item, "section", f->section);
        yyjson_mut_obj_add_str(doc, item, "name", f->name);
        yyjson_mut_obj_add_real(doc, item, "value", f->value);
        yyjson_mut_obj_add_str(doc, item, "unit", f->unit);
        if (!isnan(f->limit)) yyjson_mut_obj_add_real(doc, item, "limit", f->limit);
        if (f->judged) yyjson_mut_obj_add_str(doc, item, "verdict", verdict_texts[f->judged]);
        if (f->formula[0]) yyjson_mut_obj_add_str(doc, item, "note", f->formula);
    }
    yyjson_write_err error;
    if (!yyjson_mut_write_file(path, doc, YYJSON_WRITE_PRETTY, NULL, &error))
        bench_die("%s: %s", path, error.msg);
    yyjson_mut_doc_free(doc);
}
