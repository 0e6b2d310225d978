/* A change of one namespace: rows prepared beside the present ones, made visible when the store has
 * them. See gov.h.
 *
 * Before a change is handed out every new row gets its place in memory (an absent row), so that
 * committing allocates nothing and cannot fail half way. Rows go into the batch then as well, each
 * once, as it stands at the end: so a savepoint only has to know what rows it covered, and undoing
 * one leaves nothing behind. Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "gov/draft.h"
#include "gov/share.h"

enum { CHANGE_ARENA_MAX = 64 * 1024 * 1024 };

struct gov_waiter {
    cal_list link;
    void (*fn)(void *user);
    void *user;
};

static gov_row row_none; /* covered by a savepoint: the change had no such row before */

static gov_row *row_new(cal_slice value) {
    gov_row *row = malloc(sizeof *row + value.len);
    if (!row) return NULL;
    row->len = value.len;
    if (value.len) memcpy(row->bytes, value.data, value.len);
    return row;
}

static void row_free(gov_row *row) {
    if (!row || row == &gov_row_absent || row == &row_none) return;
    cal_wipe(row->bytes, row->len); /* keys are among them */
    free(row);
}

static void rows_free(cal_sorted *rows) {
    for (cal_sorted_node *node = cal_sorted_from(rows, (cal_slice){0}); node; node = node->next[0])
        row_free(node->value);
    cal_sorted_deinit(rows);
}

/* --- namespaces in memory --- */

gov_namespace *gov_namespace_find(const cal_gov *gov, const cal_group_id *id) {
    return cal_sorted_get(&gov->namespaces, cal_slice_of(id->bytes, 32));
}

gov_namespace *gov_namespace_add(cal_gov *gov, const cal_group_id *id) {
    gov_namespace *ns = gov_namespace_find(gov, id);
    if (ns) return ns;
    ns = calloc(1, sizeof *ns);
    if (!ns) return NULL;
    ns->id = *id;
    cal_sorted_init(&ns->rows);
    cal_sorted_init(&ns->counts);
    cal_list_init(&ns->waiting);
    cal_list_init(&ns->retired_link);
    ns->graph = gov_graph_new(id, &gov->proofs);
    uint64_t seed;
    gov->os->random(gov->os->user, &seed, sizeof seed);
    gov_parking_init(&ns->parking, seed);
    if (!ns->graph || cal_sorted_put(&gov->namespaces, cal_slice_of(id->bytes, 32), ns, NULL)) {
        gov_graph_free(ns->graph);
        free(ns);
        return NULL;
    }
    return ns;
}

static void index_remove(cal_map *index, cal_slice id, const gov_namespace *ns) {
    if (cal_map_get(index, id) == ns) cal_map_remove(index, id);
}

cal_map *gov_index_of_row(cal_gov *gov, cal_slice key) {
    return key.data[0] == ROW_META            ? &gov->groups
           : key.data[0] == ROW_CONTEXT_GROUP ? &gov->contexts
                                              : NULL;
}

bool gov_namespace_shrink(cal_gov *gov, gov_namespace *ns, size_t max) {
    cal_sorted_node *node;
    for (; max > 0 && (node = cal_sorted_from(&ns->rows, (cal_slice){0})); max--) {
        cal_map *index = gov_index_of_row(gov, node->key);
        if (index) index_remove(index, cal_slice_of(node->key.data + 1, 32), ns);
        row_free(cal_sorted_remove(&ns->rows, node->key));
    }
    return gov_graph_shrink(ns->graph, max) || ns->rows.count > 0;
}

void gov_namespace_free(gov_namespace *ns) {
    assert(!ns->change && cal_list_empty(&ns->waiting) && ns->rows.count == 0);
    cal_sorted_deinit(&ns->rows);
    gov_counts_free(ns);
    gov_unseal_drop(ns);
    gov_graph_free(ns->graph);
    gov_parking_deinit(&ns->parking);
    free(ns);
}

void gov_namespace_drop(cal_gov *gov, gov_namespace *ns) {
    gov_namespace_shrink(gov, ns, SIZE_MAX);
    cal_sorted_remove(&gov->namespaces, cal_slice_of(ns->id.bytes, 32));
    gov_namespace_free(ns);
}

gov_view gov_view_of(const gov_namespace *ns) {
    return (gov_view){.base = &ns->rows, .namespace_id = ns->id};
}

uint64_t gov_version(const cal_gov *gov) { return atomic_load(&gov->version); }

gov_namespace *gov_find_group(const cal_gov *gov, const cal_group_id *group, gov_view *ret_view) {
    gov_namespace *ns = cal_map_get(&gov->groups, cal_slice_of(group->bytes, 32));
    if (!ns || ns->retired) return NULL;
    *ret_view = gov_view_of(ns);
    return gov_meta_get(ret_view, group, NULL) ? ns : NULL;
}

/* --- building --- */

int gov_change_begin(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                     cal_error *err) {
    gov_namespace *ns = gov_namespace_add(gov, namespace_id);
    if (!ns) return cal_fail(err, CAL_ENOMEM, "no memory for a change of a namespace");
    if (ns->change)
        return cal_fail(err, CAL_EBUSY,
                        "another change of this namespace is being stored; try again");
    gov_change *change = calloc(1, sizeof *change);
    cal_batch *batch = cal_batch_new();
    if (!change || !batch) {
        free(change);
        cal_batch_free(batch);
        return cal_fail(err, CAL_ENOMEM, "no memory for a change of a namespace");
    }
    change->gov = gov;
    change->ns = ns;
    change->batch = batch;
    cal_sorted_init(&change->changed);
    cal_sorted_init(&change->covered);
    cal_list_init(&change->ops);
    cal_list_init(&change->taken);
    cal_arena_init(&change->arena, CHANGE_ARENA_MAX);
    ns->change = change;
    *ret_change = change;
    return 0;
}

void gov_look_begin(cal_gov *gov, gov_namespace *ns, gov_change *ret_look) {
    *ret_look = (gov_change){.gov = gov, .ns = ns};
    cal_sorted_init(&ret_look->changed);
}

void gov_look_end(gov_change *look) {
    assert(look->changed.count == 0 && !look->batch);
    if (look->draft) gov_cuts_keep(look->ns->graph, look->draft);
    gov_graph_forget(look);
    cal_sorted_deinit(&look->changed);
}

gov_view gov_change_view(const gov_change *change) {
    return (gov_view){
        .base = &change->ns->rows, .changed = &change->changed, .namespace_id = change->ns->id};
}

static void note_error(gov_change *change, int error) {
    if (error && !change->error) change->error = error;
}

/* Inside a savepoint the first row that is covered is kept, to be put back. */
static int cover(gov_change *change, const gov_key *key, gov_row *old) {
    cal_slice bytes = cal_slice_of(key->bytes, key->len);
    if (!change->guarded || cal_sorted_get(&change->covered, bytes)) {
        row_free(old);
        return 0;
    }
    int result = cal_sorted_put(&change->covered, bytes, old ? old : &row_none, NULL);
    if (result) row_free(old);
    return result;
}

static void note_row(gov_change *change, const gov_key *key, gov_row *row) {
    void *old = NULL;
    if (cal_sorted_put(&change->changed, cal_slice_of(key->bytes, key->len), row, &old)) {
        row_free(row);
        note_error(change, CAL_ENOMEM);
        return;
    }
    note_error(change, cover(change, key, old));
}

void gov_change_put(gov_change *change, gov_key key, cal_slice value) {
    if (change->error) return;
    assert(gov_row_fits(cal_slice_of(key.bytes, key.len), value));
    gov_row *row = row_new(value);
    if (row)
        note_row(change, &key, row);
    else
        note_error(change, CAL_ENOMEM);
}

void gov_change_delete(gov_change *change, gov_key key) {
    gov_view view = gov_change_view(change);
    if (change->error || !gov_view_get(&view, &key, NULL)) return;
    note_row(change, &key, &gov_row_absent);
}

/* --- savepoints --- */

void gov_savepoint(gov_change *change) {
    assert(!change->guarded && change->covered.count == 0);
    change->guarded = true;
}

void gov_savepoint_keep(gov_change *change) {
    assert(change->guarded);
    change->guarded = false;
    rows_free(&change->covered);
}

static void put_back(gov_change *change, cal_slice key, gov_row *covered) {
    void *old = NULL;
    if (covered == &row_none)
        old = cal_sorted_remove(&change->changed, key);
    else {
        int result = cal_sorted_put(&change->changed, key, covered, &old);
        assert(result == 0); /* the key has its place */
        (void)result;
    }
    row_free(old);
}

void gov_savepoint_undo(gov_change *change) {
    assert(change->guarded);
    change->guarded = false;
    for (cal_sorted_node *node; (node = cal_sorted_from(&change->covered, (cal_slice){0}));) {
        put_back(change, node->key, node->value);
        cal_sorted_remove(&change->covered, node->key);
    }
}

/* The key may be the covered node's own, which goes last. */
void gov_savepoint_revert(gov_change *change, cal_slice key) {
    gov_row *covered = cal_sorted_get(&change->covered, key);
    assert(change->guarded && covered);
    put_back(change, key, covered);
    cal_sorted_remove(&change->covered, key);
}

/* --- handing out --- */

static int batch_row(gov_change *change, const cal_sorted_node *node) {
    uint8_t bytes[32 + GOV_KEY_MAX];
    memcpy(bytes, change->ns->id.bytes, 32);
    memcpy(bytes + 32, node->key.data, node->key.len);
    cal_slice key = cal_slice_of(bytes, 32 + node->key.len);
    const gov_row *row = node->value;
    return row == &gov_row_absent ? cal_batch_delete(change->batch, CAL_COLUMN_GROUP, key)
                                  : cal_batch_put(change->batch, CAL_COLUMN_GROUP, key,
                                                  cal_slice_of(row->bytes, row->len));
}

/* Gives every key a place in memory and its row a place in the batch. */
static int reserve(gov_change *change) {
    gov_namespace *ns = change->ns;
    for (cal_sorted_node *node = cal_sorted_from(&change->changed, (cal_slice){0}); node;
         node = node->next[0]) {
        if (!cal_sorted_get(&ns->rows, node->key) &&
            cal_sorted_put(&ns->rows, node->key, &gov_row_absent, NULL))
            return CAL_ENOMEM;
        if (node->value != &gov_row_absent && gov_count_reserve(ns, node->key)) return CAL_ENOMEM;
        cal_map *index =
            node->value == &gov_row_absent ? NULL : gov_index_of_row(change->gov, node->key);
        if (index && cal_map_put(index, cal_slice_of(node->key.data + 1, 32), ns))
            return CAL_ENOMEM;
        int result = batch_row(change, node);
        if (result) return result;
    }
    return 0;
}

int gov_change_finish(gov_change *change, int result, gov_change **ret_change, cal_error *err) {
    if (!result && change->error)
        result = cal_fail(err, change->error, "the change could not be prepared");
    int reserved = result ? 0 : reserve(change);
    if (!result && !reserved) reserved = gov_graph_reserve(change);
    if (reserved) result = cal_fail(err, reserved, "the change could not be prepared");
    if (!result)
        *ret_change = change;
    else
        gov_change_abort(change);
    return result;
}

/* --- outside --- */

cal_batch *gov_change_batch(gov_change *change) { return change->batch; }
size_t gov_change_ops(const gov_change *change) { return change->op_count; }
const cal_group_id *gov_change_namespace(const gov_change *change) { return &change->ns->id; }

cal_slice gov_change_op(const gov_change *change, size_t i) {
    assert(i < change->op_count);
    cal_list *link = change->ops.next;
    while (i--) link = link->next;
    const gov_logged *op = CAL_CONTAINER_OF(link, gov_logged, link);
    return cal_slice_of(op->bytes, op->len);
}

static void run_waiter(cal_list *link) {
    struct gov_waiter waiter = *CAL_CONTAINER_OF(link, struct gov_waiter, link);
    free(CAL_CONTAINER_OF(link, struct gov_waiter, link));
    waiter.fn(waiter.user);
}

/* Without rows, and nothing waits in it, or nothing can come of what waits: its id is a group's. */
static bool is_idle(const cal_gov *gov, const gov_namespace *ns) {
    const gov_namespace *other = cal_map_get(&gov->groups, cal_slice_of(ns->id.bytes, 32));
    return !ns->change && cal_list_empty(&ns->waiting) && ns->rows.count == 0 &&
           (ns->parking.count == 0 || (other && other != ns && !other->retired));
}

/* Lets waiters try until one of them has opened a change. The namespace may come and go meanwhile:
 * it is looked up again. */
static void wake(cal_gov *gov, const cal_group_id *id) {
    for (;;) {
        gov_namespace *ns = gov_namespace_find(gov, id);
        if (!ns || ns->change) return;
        cal_list *link = cal_list_pop(&ns->waiting);
        if (!link) {
            if (is_idle(gov, ns)) gov_namespace_drop(gov, ns);
            return;
        }
        run_waiter(link);
    }
}

/* What waited and was decided goes, or comes back when the change failed. */
static void settle_taken(gov_change *change, bool committed) {
    for (cal_list *link; (link = cal_list_pop(&change->taken));) {
        gov_parked *parked = CAL_CONTAINER_OF(link, gov_parked, queue);
        if (committed)
            gov_parked_free(parked);
        else
            gov_parking_return(&change->ns->parking, parked);
    }
}

/* What waited for a key that the change brought, or for the end of a change that was storing an
 * object. */
static void wake_parked(const gov_change *change) {
    cal_sorted_node *node = cal_sorted_from(&change->changed, (cal_slice){0});
    for (; node; node = node->next[0]) {
        cal_hash id;
        if (node->key.data[0] == ROW_KEY) {
            memcpy(id.bytes, node->key.data + 33, 32);
            gov_parking_wake(&change->ns->parking, GOV_WAIT_KEY, &id);
        }
        if (!gov_index_of_row(change->gov, node->key)) continue;
        memcpy(id.bytes, node->key.data + 1, 32);
        cal_sorted_node *other = cal_sorted_from(&change->gov->namespaces, (cal_slice){0});
        for (; other; other = other->next[0]) {
            gov_namespace *ns = other->value;
            if (ns->parking.count) gov_parking_wake(&ns->parking, GOV_WAIT_OBJECT, &id);
        }
    }
}

/* The rows of the change, and with it the change, are gone afterwards. */
static void change_free(gov_change *change, bool committed) {
    change->ns->change = NULL;
    if (change->unsealed && !committed) gov_unseal_note(change->ns);
    wake_parked(change);
    settle_taken(change, committed);
    gov_graph_forget(change);
    rows_free(&change->changed);
    rows_free(&change->covered);
    for (cal_list *link; (link = cal_list_pop(&change->ops));)
        free(CAL_CONTAINER_OF(link, gov_logged, link));
    free(change->receipts);
    cal_batch_free(change->batch);
    cal_arena_deinit(&change->arena);
    free(change);
}

static void purge(cal_gov *gov, gov_namespace *ns) {
    cal_list waiting;
    cal_list_init(&waiting);
    for (cal_list *link; (link = cal_list_pop(&ns->waiting));) cal_list_push(&waiting, link);
    cal_group_id id = ns->id;
    gov_namespace_retire(gov, ns);
    if (gov->observer) gov->observer->purged(gov->observer_user, &id);
    for (cal_list *link; (link = cal_list_pop(&waiting));) run_waiter(link);
}

/* A row moves from the change into the namespace; nothing here allocates. */
static void move_row(cal_gov *gov, gov_namespace *ns, cal_sorted_node *node) {
    void *old = NULL;
    if (node->value != &gov_row_absent) {
        int result = cal_sorted_put(&ns->rows, node->key, node->value, &old);
        assert(result == 0); /* its place was reserved */
        (void)result;
        node->value = &gov_row_absent;
        if (!old || old == &gov_row_absent) gov_count_row(ns, node->key, true);
    } else {
        cal_map *index = gov_index_of_row(gov, node->key);
        if (index) index_remove(index, cal_slice_of(node->key.data + 1, 32), ns);
        old = cal_sorted_remove(&ns->rows, node->key);
        if (old && old != &gov_row_absent) gov_count_row(ns, node->key, false);
    }
    row_free(old);
}

/* What waited because there were too many heads. */
static void wake_crowded(const gov_change *change) {
    gov_view view = gov_view_of(change->ns);
    gov_key heads = gov_key_of(ROW_HEADS, NULL, NULL, NULL);
    if (cal_sorted_get(&change->changed, cal_slice_of(heads.bytes, heads.len)) &&
        gov_heads_get(&view).len < (size_t)GOV_HEADS_MAX * 32)
        gov_parking_wake(&change->ns->parking, GOV_WAIT_HISTORY, &(cal_hash){{0}});
}

/* What waited under the id of a group that the change made. */
static void drop_idle(const gov_change *change) {
    cal_slice prefix = cal_slice_of((const uint8_t[]){ROW_META}, 1);
    for (cal_sorted_node *node = cal_sorted_from(&change->changed, prefix);
         node && node->key.data[0] == ROW_META; node = node->next[0]) {
        gov_namespace *ns =
            cal_sorted_get(&change->gov->namespaces, cal_slice_of(node->key.data + 1, 32));
        if (ns && ns != change->ns && is_idle(change->gov, ns)) gov_namespace_drop(change->gov, ns);
    }
}

void gov_change_commit(gov_change *change) {
    cal_gov *gov = change->gov;
    gov_namespace *ns = change->ns;
    cal_group_id id = ns->id;
    bool purged = change->purge;
    for (cal_sorted_node *node = cal_sorted_from(&change->changed, (cal_slice){0}); node && !purged;
         node = node->next[0])
        move_row(gov, ns, node);
    atomic_fetch_add(&gov->version, 1);
    if (!purged) gov_graph_commit(change);
    if (!purged) wake_crowded(change);
    if (!purged) drop_idle(change);
    change->visible = true;
    if (!purged && gov->observer) gov->observer->committed(gov->observer_user, change);
    change_free(change, true);
    if (purged)
        purge(gov, ns);
    else
        wake(gov, &id);
}

void gov_change_abort(gov_change *change) {
    if (!change) return;
    cal_gov *gov = change->gov;
    gov_namespace *ns = change->ns;
    cal_group_id id = ns->id;
    for (cal_sorted_node *node = cal_sorted_from(&change->changed, (cal_slice){0}); node;
         node = node->next[0]) {
        if (cal_sorted_get(&ns->rows, node->key) != &gov_row_absent) continue;
        cal_map *index = gov_index_of_row(gov, node->key);
        if (index) index_remove(index, cal_slice_of(node->key.data + 1, 32), ns);
        cal_sorted_remove(&ns->rows, node->key);
    }
    change_free(change, false);
    wake(gov, &id);
}

int gov_when_idle(cal_gov *gov, const cal_group_id *namespace_id, void (*fn)(void *user),
                  void *user) {
    gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns || !ns->change) {
        fn(user);
        return 0;
    }
    struct gov_waiter *waiter = malloc(sizeof *waiter);
    if (!waiter) return CAL_ENOMEM;
    *waiter = (struct gov_waiter){.fn = fn, .user = user};
    cal_list_push(&ns->waiting, &waiter->link);
    return 0;
}
