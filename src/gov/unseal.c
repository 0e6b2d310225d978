/* Operations that were kept sealed, judged again when their key has come (governance.md 6).
 *
 * In the order of their numbers, so that whatever lies below an operation has had its turn, each
 * once. Few of them, or late ones, are judged at cuts found as for any operation. Else the whole
 * history passes by again from its start: a fold of all operations up to the one at hand, as if all
 * had been readable from the beginning, goes along, and is the cut at hand wherever the operation
 * cites all that was there; otherwise the cut differs from it by what lies beside. So the cost is
 * that of the history, once, whatever became readable.
 *
 * A change takes a bounded part of this; gov_receive goes on with the next. A key that comes
 * meanwhile is seen by what is still to come; when something behind us waits for it, we start
 * again. Signatures were verified when the operations came. Loop thread. */
#include <stdlib.h>

#include "base/error.h"
#include "gov/draft.h"

enum {
    STEP_COST = 64, /* of a change: two or three ms */
    JUDGE_COST = 4, /* of one that is judged; 1 of one that passes by */
    STEP_BYTES = 1 << 20,
    NEAR_STEPS = 2048, /* numbers that may be walked over to judge few */
    ROUNDS_MAX = 64,
};

struct gov_unsealing {
    gov_fold past; /* of the operations below `next` */
    uint64_t next;
    uint64_t *heads; /* among those: nothing below `next` cites them */
    size_t head_count, head_capacity;
};

void gov_unseal_drop(gov_namespace *ns) {
    struct gov_unsealing *u = ns->unsealing;
    if (!u) return;
    gov_fold_deinit(&u->past);
    free(u->heads);
    free(u);
    ns->unsealing = NULL;
}

/* --- what can be read --- */

static bool readable(const gov_view *view, const uint8_t *group, const uint8_t *key_id) {
    gov_key own = gov_key_of(ROW_KEY, group, key_id, NULL);
    gov_key all = gov_key_of(ROW_KEY, view->namespace_id.bytes, key_id, NULL);
    return gov_view_get(view, &own, NULL) || gov_view_get(view, &all, NULL);
}

void gov_unseal_note(gov_namespace *ns) {
    gov_view view = gov_view_of(ns);
    gov_walk walk = gov_walk_start(&view, ROW_SEALED, NULL, NULL);
    cal_slice rest, value;
    gov_unseal_drop(ns);
    ns->unseal_due = false;
    while (!ns->unseal_due && gov_walk_next(&walk, &rest, &value))
        ns->unseal_due = readable(&view, rest.data, value.data);
}

static int by_number(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static int number_of(const gov_change *change, cal_slice rest, cal_slice value,
                     uint64_t *ret_number) {
    cal_hash id;
    uint32_t generation;
    if (value.len >= 80) {
        *ret_number = cal_read_u64le(value.data + 72);
        return 0;
    }
    memcpy(id.bytes, rest.data + 32, 32);
    int result = gov_graph_locate(change, &id, ret_number, &generation);
    return result == CAL_ENOTFOUND ? CAL_ECORRUPT : result;
}

/* Numbers, ascending, of those that are kept sealed and whose key is here. Our own are none of
 * them: what we sealed we could read. */
static int collect(const gov_change *change, cal_buffer *ret_numbers) {
    gov_view view = gov_change_view(change);
    gov_walk walk = gov_walk_start(&view, ROW_SEALED, NULL, NULL);
    const uint8_t *self = change->gov->identity.sign_key.bytes;
    cal_slice rest, value;
    int result = 0;
    while (!result && gov_walk_next(&walk, &rest, &value)) {
        uint64_t number;
        if (gov_id_equal(value.data + 32, self) || !readable(&view, rest.data, value.data))
            continue;
        result = number_of(change, rest, value, &number);
        if (!result) result = cal_buffer_append(ret_numbers, &number, sizeof number);
    }
    if (!result && ret_numbers->len) qsort(ret_numbers->data, ret_numbers->len / 8, 8, by_number);
    return result;
}

/* --- one --- */

typedef struct {
    gov_node node;
    gov_verified *op;
} passing;

static void passing_free(passing *p) {
    gov_verified_free(p->op);
    free(p->node.parents);
}

static int take(const gov_change *change, uint64_t number, passing *ret) {
    cal_buffer bytes;
    passing p = {.op = NULL};
    cal_buffer_init(&bytes, GOV_OP_MAX);
    int result = gov_graph_node(change, number, &p.node, &bytes);
    if (!result) {
        result = gov_verified_again(cal_buffer_slice(&bytes), &p.op);
        if (!result && p.op->reason != GOV_WHY_FINE) result = CAL_ECORRUPT;
        if (result)
            passing_free(&p);
        else
            *ret = p;
    }
    cal_buffer_deinit(&bytes);
    return result;
}

static int failed(cal_error *err, int result) {
    return cal_fail(err, result, "a sealed operation could not be read again: %s",
                    cal_error_text(result));
}

/* --- few of them --- */

static int judge_near(gov_change *change, const cal_buffer *numbers, bool *ret_keys,
                      cal_error *err) {
    gov_view view = gov_change_view(change);
    uint64_t keys = gov_walk_count(&view, ROW_KEY, NULL);
    int result = 0;
    for (size_t at = 0; at < numbers->len && !result; at += 8) {
        uint64_t number;
        passing p;
        gov_group_op plain;
        gov_late late;
        memcpy(&number, numbers->data + at, 8);
        if ((result = take(change, number, &p))) return failed(err, result);
        result = gov_apply_late(change, p.op, NULL, &plain, &late, err);
        change->unsealed_near = change->unsealed_near || late.decided;
        passing_free(&p);
    }
    *ret_keys = gov_walk_count(&view, ROW_KEY, NULL) != keys;
    return result;
}

/* --- all of them --- */

static int start(gov_change *change, cal_error *err) {
    gov_namespace *ns = change->ns;
    gov_unseal_drop(ns);
    ns->unsealing = calloc(1, sizeof *ns->unsealing);
    if (!ns->unsealing) return cal_fail(err, CAL_ENOMEM, "no memory for what became readable");
    gov_fold_init(&ns->unsealing->past, &ns->id, NULL);
    ns->unsealing->past.judges = true;
    ns->unsealing->past.proofs = &change->gov->proofs;
    ns->unsealing->next = 1;
    change->unsealed = true;
    return 0;
}

static bool among(const uint64_t *numbers, size_t count, uint64_t number) {
    for (size_t i = 0; i < count; i++)
        if (numbers[i] == number) return true;
    return false;
}

static bool cites_all(const struct gov_unsealing *u, const gov_node *node) {
    for (size_t i = 0; i < u->head_count; i++)
        if (!among(node->parents, node->parent_count, u->heads[i])) return false;
    return true;
}

/* What cites nothing is judged by the present rows (governance.md 7). */
static int judge_passing(gov_change *change, struct gov_unsealing *u, passing *p,
                         gov_group_op *ret_plain, gov_late *ret_late, cal_error *err) {
    const gov_node *node = &p->node;
    gov_fold beside;
    if (node->parent_count == 0)
        return gov_apply_late(change, p->op, NULL, ret_plain, ret_late, err);
    if (cites_all(u, node)) {
        gov_view cut = gov_cut_of_fold(&u->past);
        return gov_apply_late(change, p->op, &cut, ret_plain, ret_late, err);
    }
    gov_fold_init(&beside, &change->ns->id, &u->past);
    int result = gov_cut_before(change, node->sequence, node->parents, node->parent_count, u->heads,
                                u->head_count, &beside);
    if (result)
        failed(err, result);
    else {
        gov_view cut = gov_cut_of_fold(&beside);
        result = gov_apply_late(change, p->op, &cut, ret_plain, ret_late, err);
    }
    gov_fold_deinit(&beside);
    return result;
}

static int open_again(const gov_change *change, passing *p, gov_group_op *ret_plain) {
    const gov_op *op = &p->op->op.op;
    gov_view view = gov_change_view(change);
    gov_group_key key;
    if (!gov_key_find(&view, &op->group_id, &op->key_id, &key) &&
        !gov_key_find(&view, &view.namespace_id, &op->key_id, &key))
        return CAL_ECORRUPT;
    int result = gov_group_op_open(op->sealed, op->nonce, &key.key, &p->op->arena, ret_plain);
    cal_secret_wipe(&key.key);
    return result;
}

/* The operation becomes part of the past. plain: of a group's that has its effect. */
static int fold(gov_change *change, struct gov_unsealing *u, const passing *p,
                const gov_group_op *plain) {
    const gov_node *node = &p->node;
    const gov_op *op = &p->op->op.op;
    gov_fold_op write = {.id = node->id,
                         .generation = node->generation,
                         .sequence = node->sequence,
                         .author = node->has_author ? &node->author : NULL,
                         .group = op->group_id,
                         .namespace_id = &change->ns->id,
                         .proofs = &change->gov->proofs};
    if (node->effect == GOV_EFFECT_FULL && op->group) write.group_op = plain;
    if (node->effect == GOV_EFFECT_FULL && !op->group) write.root = &op->root;
    if (node->effect == GOV_EFFECT_OPAQUE) write.key_id = &op->key_id;
    gov_fold_add(&u->past, &write);
    if (node->aside) return u->past.error;
    size_t kept = 0;
    for (size_t i = 0; i < u->head_count; i++)
        if (!among(node->parents, node->parent_count, u->heads[i])) u->heads[kept++] = u->heads[i];
    if (kept == u->head_capacity) {
        size_t capacity = kept ? 2 * kept : 16;
        uint64_t *grown = realloc(u->heads, capacity * sizeof *grown);
        if (!grown) return CAL_ENOMEM;
        u->heads = grown;
        u->head_capacity = capacity;
    }
    u->heads[kept++] = node->sequence;
    u->head_count = kept;
    return u->past.error;
}

static int pass_one(gov_change *change, struct gov_unsealing *u, size_t *cost, size_t *bytes,
                    cal_error *err) {
    passing p;
    gov_group_op plain;
    gov_late late = {.decided = false};
    int result = take(change, u->next, &p);
    if (result) return failed(err, result);
    const gov_op *op = &p.op->op.op;
    *cost += p.node.effect == GOV_EFFECT_OPAQUE ? JUDGE_COST : 1;
    *bytes += p.op->len;
    change->at_hand.id = p.node.id;
    change->at_hand.sequence = p.node.sequence;
    change->at_hand.generation = p.node.generation;
    if (p.node.effect == GOV_EFFECT_OPAQUE) {
        result = judge_passing(change, u, &p, &plain, &late, err);
        if (late.decided) {
            p.node.effect = late.effect;
            p.node.has_author = late.attributed;
            p.node.author = late.author;
        }
    } else if (p.node.effect == GOV_EFFECT_FULL && op->group &&
               (result = open_again(change, &p, &plain)))
        failed(err, result);
    if (!result && (result = fold(change, u, &p, &plain))) failed(err, result);
    if (!result) u->next++;
    passing_free(&p);
    return result;
}

/* What waited because it could not be read what lies below is judged again. */
static void finish(gov_change *change) {
    gov_view view = gov_change_view(change);
    gov_walk walk = gov_walk_start(&view, ROW_KEY, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_hash id;
        memcpy(id.bytes, rest.data + 32, 32);
        gov_parking_wake(&change->ns->parking, GOV_WAIT_KEY, &id);
    }
    gov_unseal_drop(change->ns);
}

/* --- a part of it --- */

static int begin(gov_change *change, cal_error *err) {
    gov_namespace *ns = change->ns;
    cal_buffer numbers;
    bool more = true;
    int result = 0;
    for (int round = 0; round < ROUNDS_MAX && more && !result; round++) {
        more = false;
        cal_buffer_init(&numbers, CAL_STORE_VALUE_MAX);
        if ((result = collect(change, &numbers))) failed(err, result);
        size_t count = numbers.len / 8;
        uint64_t first = 0;
        if (count) memcpy(&first, numbers.data, 8);
        bool pass = ns->unsealing != NULL; /* those it comes to are its own */
        if (!result && count && !(pass && first >= ns->unsealing->next)) {
            if (!pass && count * (gov_graph_top(change) - first + 1) <= NEAR_STEPS)
                result = judge_near(change, &numbers, &more, err); /* may bring the next key */
            else
                result = start(change, err);
        }
        cal_buffer_deinit(&numbers);
    }
    return result;
}

int gov_unseal_step(gov_change *change, cal_error *err) {
    gov_namespace *ns = change->ns;
    size_t cost = 0, bytes = 0;
    int result = 0;
    if (ns->unseal_due) {
        change->unsealed = true; /* due again when the change goes */
        ns->unseal_due = false;
        result = begin(change, err);
    }
    struct gov_unsealing *u = ns->unsealing;
    /* what this change has settled is not in the store yet, where a pass would read it */
    if (result || !u || change->unsealed_near) return result;
    change->unsealed = true;
    while (!result && u->next <= gov_graph_top(change) && cost < STEP_COST && bytes < STEP_BYTES)
        result = pass_one(change, u, &cost, &bytes, err);
    if (!result && u->next > gov_graph_top(change)) finish(change);
    return result;
}

int gov_apply_unsealed(gov_change *change, cal_error *err) { return begin(change, err); }
