/* What an admin node owes its namespaces: the next key after a leave or a revocation
 * (governance.md 11), and one operation that cites all heads when there are many (18.2, G2).
 *
 * Any admin may pay, and paying twice does no harm; so each waits a random while first, in which
 * another one's payment may come. What cannot be paid now keeps nothing else from being paid: it
 * is tried again when all others were. The tick looks only when governance moved on since it
 * looked last. Loop thread. */
#include <stdlib.h>

#include "calimero/members.h"
#include "crypto/crypto.h"
#include "node/change.h"

enum { WAIT_MAX_MS = 4000, FAILED_MS = 30000, DEBTS_MAX = 64 /* of a namespace, at once */ };

typedef struct payment {
    node_change base;
    bool merges; /* heads, instead of a debt */
    gov_debt debt;
} payment;

static uint64_t now_ms(const cal_node *node) { return node->os->mono_ns(node->os->user) / 1000000; }

static int prepare(node_change *base, cal_error *err) {
    payment *pays = CAL_CONTAINER_OF(base, payment, base);
    cal_gov *gov = node_change_gov(base);
    if (!pays->merges) return gov_rotate(gov, &pays->debt, &base->commit.change, err);
    if (!gov_heads_merge_due(gov, &base->group)) return cal_fail(err, CAL_ENOTFOUND, "not due");
    return gov_heads_merge(gov, &base->group, &base->commit.change, err);
}

static payment *new_payment(const cal_group_id *namespace_id, const gov_debt *debt,
                            void (*answer)(node_change *, const cal_error *), void *user) {
    payment *pays = node_change_new(sizeof *pays, namespace_id, prepare, NULL, user);
    if (!pays) return NULL;
    pays->merges = debt == NULL;
    if (debt) pays->debt = *debt;
    pays->base.answer = answer;
    return pays;
}

/* --- by itself --- */

typedef struct search {
    cal_gov *gov;
    size_t passed, count; /* how many that failed are passed over, of how many */
    bool found, merges;
    cal_group_id namespace_id;
    gov_debt debt;
} search;

static void found(search *s, const cal_group_id *namespace_id, const gov_debt *debt) {
    if (s->count++ != s->passed) return;
    s->found = true;
    s->merges = debt == NULL;
    s->namespace_id = *namespace_id;
    if (debt) s->debt = *debt;
}

static void look(void *user, const gov_group_info *info) {
    search *s = user;
    gov_debt debts[DEBTS_MAX];
    if (info->joining) return;
    size_t count = gov_rotation_due(s->gov, &info->id, debts, DEBTS_MAX);
    for (size_t i = 0; i < count; i++) found(s, &info->id, &debts[i]);
    if (gov_heads_merge_due(s->gov, &info->id)) found(s, &info->id, NULL);
}

static void answer_tick(node_change *base, const cal_error *err) {
    cal_node *node = base->operation.node;
    node->debts.busy = false;
    node->debts.version = 0; /* there may be more */
    bool failed = err && err->code != CAL_ENOTFOUND && err->code != CAL_ECANCELED;
    node->debts.due_ms = now_ms(node);
    node->debts.failed += failed;
    if (failed)
        cal_log(CAL_LOG_WARN, "node", "a key that is due could not be made: %s", err->message);
}

void node_debts_tick(cal_node *node) {
    node_debts *debts = &node->debts;
    uint64_t version = gov_version(node->gov) + 1, now = now_ms(node);
    search s = {.gov = node->gov, .passed = debts->failed};
    bool looks = debts->due_ms ? now >= debts->due_ms : version != debts->version;
    if (debts->busy || node->stopping || node->options.read_only || !looks) return;
    bool waited = debts->due_ms != 0;
    debts->version = version;
    debts->due_ms = 0;
    gov_namespace_each(node->gov, look, &s);
    if (!s.found) {
        if (debts->failed > 0 && s.count > 0) debts->due_ms = now + FAILED_MS;
        debts->failed = 0;
        return;
    }
    uint32_t random;
    if (!waited) {
        cal_random(node->os, &random, sizeof random);
        debts->due_ms = now + 1 + random % WAIT_MAX_MS;
        return;
    }
    payment *pays = new_payment(&s.namespace_id, s.merges ? NULL : &s.debt, answer_tick, NULL);
    if (!pays) {
        debts->due_ms = now + FAILED_MS;
        return;
    }
    debts->busy = true;
    node_change_run(node, &pays->base);
}

/* --- when asked --- */

struct rotation {
    node_operation operation;
    cal_group_id namespace_id;
    size_t rotated, failed;
    cal_error err; /* of the first that failed */
    cal_rotate_done done;
    void *user;
};

static void next(struct rotation *rotation);

static void finish(struct rotation *rotation, const cal_error *err) {
    cal_node *node = rotation->operation.node;
    rotation->done(rotation->user, err, rotation->rotated);
    free(rotation);
    node_end(node);
}

static void answer_asked(node_change *base, const cal_error *err) {
    struct rotation *rotation = base->user;
    if (!err) rotation->rotated++;
    if (err && err->code != CAL_ENOTFOUND && rotation->failed++ == 0) rotation->err = *err;
    next(rotation);
}

static void next(struct rotation *rotation) {
    cal_node *node = rotation->operation.node;
    gov_debt debts[DEBTS_MAX];
    size_t count = gov_rotation_due(node->gov, &rotation->namespace_id, debts, DEBTS_MAX);
    if (count <= rotation->failed) {
        finish(rotation, rotation->failed ? &rotation->err : NULL);
        return;
    }
    payment *pays =
        new_payment(&rotation->namespace_id, &debts[rotation->failed], answer_asked, rotation);
    if (pays) {
        node_change_run(node, &pays->base);
        return;
    }
    cal_error err;
    cal_fail(&err, CAL_ENOMEM, "out of memory");
    finish(rotation, &err);
}

static void start(node_operation *operation) {
    struct rotation *rotation = CAL_CONTAINER_OF(operation, struct rotation, operation);
    cal_group_id found;
    cal_error err;
    if (gov_group_namespace(operation->node->gov, &rotation->namespace_id, &found) == 0 &&
        memcmp(&found, &rotation->namespace_id, sizeof found) == 0) {
        next(rotation);
        return;
    }
    cal_fail(&err, CAL_ENOTFOUND, "no such namespace on this node");
    finish(rotation, &err);
}

void cal_namespace_rotate(cal_node *node, const cal_group_id *namespace_id, cal_rotate_done done,
                          void *user) {
    struct rotation *rotation = calloc(1, sizeof *rotation);
    if (!rotation) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, 0);
        return;
    }
    *rotation = (struct rotation){.namespace_id = *namespace_id, .done = done, .user = user};
    node_begin(node, &rotation->operation, start);
}
