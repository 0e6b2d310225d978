/* The reasons' table, see verdict.h. */
#include "gov/verdict.h"

#include <assert.h>

static const struct {
    const char *name, *text;
    gov_verdict verdict;
    int code;
    bool cited;
} reasons[GOV_REASON_COUNT] = {
#define GOV_REASON_ROW(name, verdict, cited, code, text)                                           \
    [GOV_WHY_##name] = {#name, text, GOV_##verdict, code, cited},
    GOV_REASONS(GOV_REASON_ROW)
#undef GOV_REASON_ROW
};

gov_verdict gov_reason_verdict(gov_reason reason) {
    assert(reason < GOV_REASON_COUNT);
    return reasons[reason].verdict;
}

bool gov_reason_cited(gov_reason reason) {
    assert(reason < GOV_REASON_COUNT);
    return reasons[reason].cited;
}

int gov_reason_code(gov_reason reason) {
    assert(reason < GOV_REASON_COUNT);
    return reasons[reason].code;
}

const char *gov_reason_text(gov_reason reason) {
    assert(reason < GOV_REASON_COUNT);
    return reasons[reason].text;
}

const char *gov_reason_name(gov_reason reason) {
    assert(reason < GOV_REASON_COUNT);
    return reasons[reason].name;
}

const char *gov_verdict_text(gov_verdict verdict) {
    static const char *const texts[GOV_VERDICT_COUNT] = {"applied", "kept", "waiting", "refused"};
    assert(verdict < GOV_VERDICT_COUNT);
    return texts[verdict];
}
