/* The rows at a cut of a namespace's graph, see graph.h and draft.h.
 *
 * The present cut is the fold that is kept up to date: asking it costs nothing. Another cut is what
 * differs from it. Operations that are not below the cut are found by one walk down the numbers,
 * which ends where everything further down is below the cut: its length is how long the branches
 * have been apart, not how much history there is. Slots that one of them won take what stood there
 * without it. A cut is kept for those who ask again, and follows the operations that are placed
 * upon it, so a branch that arrives operation by operation is walked once.
 *
 * What is still dear: the first question about a cut long gone (a walk over all numbers given
 * since), and finding the slots (a look at every slot of the present fold). Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "gov/draft.h"

/* --- keeping cuts --- */

static int by_bytes(const void *a, const void *b) { return memcmp(a, b, sizeof(cal_hash)); }

void gov_cut_key(const cal_hash *parents, uint32_t count, cal_hash *ret_key) {
    cal_hash *sorted = malloc(count * sizeof *sorted + 1);
    size_t kept = 0;
    *ret_key = (cal_hash){{0}}; /* without memory: a key that no cut has */
    if (!sorted) return;
    for (uint32_t i = 0; i < count; i++)
        if (!gov_id_zero(parents[i].bytes)) sorted[kept++] = parents[i];
    qsort(sorted, kept, sizeof *sorted, by_bytes);
    size_t unique = 0;
    for (size_t i = 0; i < kept; i++)
        if (i == 0 || by_bytes(&sorted[i], &sorted[unique - 1]) != 0) sorted[unique++] = sorted[i];
    cal_sha256(cal_slice_of(sorted, unique * sizeof *sorted), ret_key->bytes);
    free(sorted);
}

gov_cut *gov_cut_find(const cal_list *cuts, const cal_hash *key) {
    if (gov_id_zero(key->bytes)) return NULL;
    for (cal_list *link = cuts->prev; link != cuts; link = link->prev) {
        gov_cut *cut = CAL_CONTAINER_OF(link, gov_cut, link);
        if (gov_id_equal(cut->key.bytes, key->bytes)) return cut;
    }
    return NULL;
}

void gov_cut_free(gov_cut *cut) {
    if (!cut) return;
    gov_fold_deinit(&cut->fold);
    free(cut);
}

void gov_cuts_free(cal_list *cuts, size_t *count) {
    for (cal_list *link; (link = cal_list_pop(cuts));)
        gov_cut_free(CAL_CONTAINER_OF(link, gov_cut, link));
    *count = 0;
}

static void drop_cut(gov_cut *cut, size_t *count) {
    cal_list_remove(&cut->link);
    gov_cut_free(cut);
    --*count;
}

static void keep_cut(cal_list *cuts, size_t *count, gov_cut *cut) {
    cal_list_push(cuts, &cut->link);
    if (++*count > GOV_CUTS_MAX) drop_cut(CAL_CONTAINER_OF(cuts->next, gov_cut, link), count);
}

static gov_cut *cut_new(const gov_change *change, const cal_hash *key) {
    gov_cut *cut = calloc(1, sizeof *cut);
    if (!cut) return NULL;
    cut->key = *key;
    cal_list_init(&cut->link);
    gov_fold_init(&cut->fold, &change->ns->id, &change->ns->graph->fold);
    return cut;
}

static int copy_row(cal_sorted *to, cal_slice key, const gov_row *row) {
    gov_row *copy = &gov_row_absent;
    if (row && row != &gov_row_absent) {
        copy = malloc(sizeof *copy + row->len);
        if (!copy) return CAL_ENOMEM;
        copy->len = row->len;
        memcpy(copy->bytes, row->bytes, row->len);
    }
    int result = cal_sorted_put(to, key, copy, NULL);
    if (result && copy != &gov_row_absent) free(copy);
    return result;
}

static int copy_rows(cal_sorted *to, const cal_sorted *from) {
    int result = 0;
    cal_sorted_node *node = cal_sorted_from(from, (cal_slice){0});
    for (; node && !result; node = node->next[0]) result = copy_row(to, node->key, node->value);
    return result;
}

static gov_cut *cut_copy(const gov_change *change, const gov_cut *cut) {
    gov_cut *copy = cut_new(change, &cut->key);
    if (!copy) return NULL;
    if (copy_rows(&copy->fold.slots, &cut->fold.slots) ||
        copy_rows(&copy->fold.rows, &cut->fold.rows)) {
        gov_cut_free(copy);
        return NULL;
    }
    return copy;
}

static int put_write(gov_fold *fold, const gov_draft_write *kept) {
    gov_write write;
    gov_slot_read(cal_slice_of(kept->key.bytes, kept->key.len),
                  cal_slice_of(kept->slot->bytes, kept->slot->len), &write);
    if (gov_fold_put(fold, &write) && !fold->error) gov_fold_settle(fold, &write.key);
    return fold->error;
}

/* Keeping a cut is a favour: what fails here is walked again. */
void gov_cut_follow(gov_change *change, const gov_noted *noted, size_t first) {
    gov_draft *draft = change->draft;
    cal_hash key;
    gov_cut_key(noted->op->parents.items, noted->op->parents.count, &key);
    gov_cut *cut = gov_cut_find(&draft->cuts, &key);
    if (cut) {
        cal_list_remove(&cut->link);
        draft->cut_count--;
    } else if (!draft->settled && (cut = gov_cut_find(&change->ns->graph->cuts, &key)))
        cut = cut_copy(change, cut);
    if (!cut) return;
    for (size_t i = first; i < draft->write_count && !cut->fold.error; i++)
        put_write(&cut->fold, &draft->writes[i]);
    gov_cut_key(&noted->id, 1, &cut->key);
    if (cut->fold.error || cut->fold.slots.count > GOV_CUT_SLOTS_MAX)
        gov_cut_free(cut);
    else
        keep_cut(&draft->cuts, &draft->cut_count, cut);
}

/* What the change overwrites in the present fold still stands at the cut. */
static int keep_old(cal_sorted *cut, const cal_sorted *base, const cal_sorted *over) {
    int result = 0;
    cal_sorted_node *node = cal_sorted_from(over, (cal_slice){0});
    for (; node && !result; node = node->next[0])
        if (!cal_sorted_get(cut, node->key))
            result = copy_row(cut, node->key, cal_sorted_get(base, node->key));
    return result;
}

void gov_cuts_commit(gov_graph *graph, gov_draft *draft) {
    if (draft->settled) gov_cuts_free(&graph->cuts, &graph->cut_count);
    for (cal_list *link; (link = cal_list_pop(&draft->cuts));) {
        gov_cut *cut = CAL_CONTAINER_OF(link, gov_cut, link), *same;
        if ((same = gov_cut_find(&graph->cuts, &cut->key))) drop_cut(same, &graph->cut_count);
        cut->idle = 0;
        keep_cut(&graph->cuts, &graph->cut_count, cut);
    }
    draft->cut_count = 0;
    for (cal_list *link = graph->cuts.next, *next; link != &graph->cuts; link = next) {
        gov_cut *cut = CAL_CONTAINER_OF(link, gov_cut, link);
        next = link->next;
        if (++cut->idle > GOV_CUT_IDLE_MAX || cut->fold.slots.count > GOV_CUT_SLOTS_MAX ||
            keep_old(&cut->fold.slots, &graph->fold.slots, &draft->fold.slots) ||
            keep_old(&cut->fold.rows, &graph->fold.rows, &draft->fold.rows))
            drop_cut(cut, &graph->cut_count);
    }
}

void gov_cuts_keep(gov_graph *graph, gov_draft *draft) {
    for (cal_list *link; (link = cal_list_pop(&draft->cuts));)
        keep_cut(&graph->cuts, &graph->cut_count, CAL_CONTAINER_OF(link, gov_cut, link));
    draft->cut_count = 0;
}

/* --- what lies below a cut --- */

enum { BELOW = 1, CANDIDATE = 2 };

/* Numbers from `low` up are below the cut if they are marked so; all smaller ones are. */
typedef struct {
    const gov_change *change;
    cal_snapshot *snapshot;
    cal_cursor *cursor; /* over nodes, downwards */
    uint64_t top, low;
    uint8_t *marks; /* of top - number */
    size_t capacity;
    size_t open; /* candidates that are not known to be below the cut, and not visited */
} scope;

static uint8_t *mark_of(scope *s, uint64_t sequence) {
    size_t at = (size_t)(s->top - sequence);
    if (at >= s->capacity) {
        size_t next = s->capacity ? s->capacity : 256;
        while (next <= at) next *= 2;
        uint8_t *grown = realloc(s->marks, next);
        if (!grown) return NULL;
        memset(grown + s->capacity, 0, next - s->capacity);
        s->marks = grown;
        s->capacity = next;
    }
    return &s->marks[at];
}

static int mark_below(scope *s, uint64_t sequence) {
    uint8_t *mark = mark_of(s, sequence);
    if (!mark) return CAL_ENOMEM;
    if ((*mark & CANDIDATE) && !(*mark & BELOW)) s->open--;
    *mark |= BELOW;
    return 0;
}

static int mark_candidate(scope *s, uint64_t sequence) {
    uint8_t *mark = mark_of(s, sequence);
    if (!mark) return CAL_ENOMEM;
    if (!*mark) s->open++;
    *mark |= CANDIDATE;
    return 0;
}

static bool is_below(const scope *s, uint64_t sequence) {
    if (sequence > s->top) return false;
    return sequence < s->low || (s->marks[s->top - sequence] & BELOW);
}

static int open_cursor(scope *s) {
    uint8_t low[GOV_GRAPH_KEY_MAX], high[GOV_GRAPH_KEY_MAX];
    const cal_group_id *ns = &s->change->ns->id;
    uint64_t top = s->change->ns->graph->count;
    if (s->top < top) top = s->top;
    int result = cal_store_snapshot(s->change->gov->store, &s->snapshot);
    if (result) return result;
    return cal_cursor_open(s->snapshot, CAL_COLUMN_GOVERNANCE,
                           gov_graph_number_key(ns, GRAPH_NODE, 0, low),
                           gov_graph_number_key(ns, GRAPH_NODE, top + 1, high), true, &s->cursor);
}

/* The node with this number, each time one less than before. Parents: to be freed. */
static int next_node(scope *s, uint64_t sequence, gov_node *ret_node) {
    const gov_draft *draft = s->change->draft;
    uint64_t committed = s->change->ns->graph->count;
    cal_slice key, value;
    uint8_t expected[GOV_GRAPH_KEY_MAX];
    if (sequence > committed) {
        const gov_node *own = &draft->ops[sequence - committed - 1].node;
        assert(own->sequence == sequence);
        *ret_node = *own;
        ret_node->parents = malloc(own->parent_count * sizeof *own->parents + 1);
        if (!ret_node->parents) return CAL_ENOMEM;
        memcpy(ret_node->parents, own->parents, own->parent_count * sizeof *own->parents);
        return 0;
    }
    int result = s->cursor ? 0 : open_cursor(s);
    if (!result) result = cal_cursor_next(s->cursor, &key, &value);
    if (result == CAL_ENOTFOUND) return CAL_ECORRUPT;
    if (result) return result;
    if (!cal_slice_equal(key,
                         gov_graph_number_key(&s->change->ns->id, GRAPH_NODE, sequence, expected)))
        return CAL_ECORRUPT;
    return gov_node_read(value, sequence, ret_node);
}

/* Every operation is a head or somebody's parent (those kept aside write nothing), so going down
 * the numbers all that is not below the cut shows as a candidate before it is reached. */
static int walk_down(scope *s) {
    int result = 0;
    uint64_t at = s->top;
    for (; at > 0 && s->open > 0 && !result; at--) {
        gov_node node;
        if ((result = next_node(s, at, &node))) break;
        uint8_t *mark = mark_of(s, at);
        if (!mark) result = CAL_ENOMEM;
        bool below = mark && (*mark & BELOW), candidate = mark && (*mark & CANDIDATE);
        for (uint32_t i = 0; i < node.parent_count && !result; i++)
            result = below       ? mark_below(s, node.parents[i])
                     : candidate ? mark_candidate(s, node.parents[i])
                                 : 0;
        if (candidate && !below) s->open--;
        free(node.parents);
    }
    s->low = at + 1;
    return result;
}

static int find_scope(scope *s, const uint64_t *parents, size_t count) {
    gov_view view = gov_change_view(s->change);
    cal_slice heads = gov_heads_get(&view);
    int result = 0;
    s->top = gov_graph_top(s->change);
    for (size_t i = 0; i < count && !result; i++) result = mark_below(s, parents[i]);
    for (size_t at = 0; at < heads.len && !result; at += 32) {
        cal_hash id;
        uint64_t sequence;
        uint32_t generation;
        memcpy(id.bytes, heads.data + at, 32);
        result = gov_graph_locate(s->change, &id, &sequence, &generation);
        if (result == CAL_ENOTFOUND || (!result && sequence > s->top)) result = CAL_ECORRUPT;
        if (!result) result = mark_candidate(s, sequence);
    }
    return result ? result : walk_down(s);
}

static void scope_deinit(scope *s) {
    cal_cursor_free(s->cursor);
    cal_snapshot_free(s->snapshot);
    free(s->marks);
}

/* --- folding a cut --- */

/* What stands in the slot when operations that are not below the cut are left out. */
static int set_past(scope *s, gov_fold *fold, const gov_key *key) {
    uint8_t prefix[GOV_GRAPH_KEY_MAX];
    cal_slice low = gov_graph_key(&s->change->ns->id, GRAPH_PAST, key->bytes, key->len, prefix);
    cal_buffer end;
    cal_cursor *cursor;
    cal_slice stored_key, value;
    bool found = false;
    cal_buffer_init(&end, GOV_GRAPH_KEY_MAX);
    cal_prefix_end(low, &end);
    int result = end.error;
    if (!result && !s->snapshot) result = cal_store_snapshot(s->change->gov->store, &s->snapshot);
    if (!result)
        result = cal_cursor_open(s->snapshot, CAL_COLUMN_GOVERNANCE, low, cal_buffer_slice(&end),
                                 true, &cursor);
    cal_buffer_deinit(&end);
    if (result) return result;
    while (!found && (result = cal_cursor_next(cursor, &stored_key, &value)) == 0) {
        gov_write write;
        cal_slice slot = cal_slice_of(key->bytes, key->len);
        if (!gov_slot_fits(slot, value)) {
            result = CAL_ECORRUPT;
            break;
        }
        gov_slot_read(slot, value, &write);
        if (write.sequence > s->change->ns->graph->count || !is_below(s, write.sequence)) continue;
        gov_fold_set(fold, key, &write);
        found = true;
    }
    cal_cursor_free(cursor);
    if (result && result != CAL_ENOTFOUND) return result;
    if (!found) gov_fold_set(fold, key, NULL);
    return fold->error;
}

/* Chooses the winner of every key in `fold`, then adds what this change has written below. */
static int settle(scope *s, gov_fold *fold) {
    const gov_draft *draft = s->change->draft;
    int result = 0;
    cal_sorted_node *node = cal_sorted_from(&fold->slots, (cal_slice){0});
    for (; node && !result; node = node->next[0]) {
        gov_key key = {.len = node->key.len};
        memcpy(key.bytes, node->key.data, node->key.len);
        gov_fold_settle(fold, &key);
        result = fold->error;
    }
    for (size_t i = 0; draft && i < draft->write_count && !result; i++) {
        const gov_row *slot = draft->writes[i].slot;
        gov_write write;
        gov_slot_read(cal_slice_of(draft->writes[i].key.bytes, draft->writes[i].key.len),
                      cal_slice_of(slot->bytes, slot->len), &write);
        if (is_below(s, write.sequence)) result = put_write(fold, &draft->writes[i]);
    }
    return result;
}

static int fold_cut(scope *s, gov_fold *fold) {
    const gov_graph *graph = s->change->ns->graph;
    bool all = s->low > graph->count;
    int result = 0;
    cal_sorted_node *node = all ? NULL : cal_sorted_from(&graph->fold.slots, (cal_slice){0});
    for (; node && !result; node = node->next[0]) {
        const gov_row *row = node->value;
        gov_write write;
        if (row == &gov_row_absent) continue;
        gov_slot_read(node->key, cal_slice_of(row->bytes, row->len), &write);
        if (!is_below(s, write.sequence)) result = set_past(s, fold, &write.key);
    }
    return result ? result : settle(s, fold);
}

static int make_cut(gov_change *change, const uint64_t *parents, size_t count, const cal_hash *key,
                    gov_cut **ret_cut) {
    scope s = {.change = change};
    gov_cut *cut = cut_new(change, key);
    if (!cut) return CAL_ENOMEM;
    int result = find_scope(&s, parents, count);
    if (!result) result = fold_cut(&s, &cut->fold);
    scope_deinit(&s);
    if (result)
        gov_cut_free(cut);
    else
        *ret_cut = cut;
    return result;
}

/* --- a cut below a number --- */

/* The committed winner is no past write yet when this change has pushed it out. */
static int set_before(scope *s, gov_fold *fold, const gov_key *key) {
    gov_write write;
    int result = set_past(s, fold, key);
    if (!result && gov_fold_slot(&s->change->ns->graph->fold, key, &write) &&
        is_below(s, write.sequence))
        gov_fold_put(fold, &write);
    return result ? result : fold->error;
}

/* As fold_cut, over what stands in `past` instead of the present. */
static int fold_before(scope *s, const gov_fold *past, gov_fold *fold) {
    int result = 0;
    cal_sorted_node *node = cal_sorted_from(&past->slots, (cal_slice){0});
    for (; node && !result; node = node->next[0]) {
        const gov_row *row = node->value;
        gov_write write;
        if (row == &gov_row_absent) continue;
        gov_slot_read(node->key, cal_slice_of(row->bytes, row->len), &write);
        if (!is_below(s, write.sequence)) result = set_before(s, fold, &write.key);
    }
    return result ? result : settle(s, fold);
}

int gov_cut_before(gov_change *change, uint64_t sequence, const uint64_t *parents, size_t count,
                   const uint64_t *heads, size_t head_count, gov_fold *ret_fold) {
    scope s = {.change = change, .top = sequence - 1};
    int result = 0;
    for (size_t i = 0; i < count && !result; i++) result = mark_below(&s, parents[i]);
    for (size_t i = 0; i < head_count && !result; i++) result = mark_candidate(&s, heads[i]);
    if (!result) result = walk_down(&s);
    if (!result) result = fold_before(&s, ret_fold->base, ret_fold);
    scope_deinit(&s);
    return result;
}

/* --- asking --- */

/* What counts where the rows give no capability: the namespace's default as of the cut. */
gov_view gov_cut_of_fold(const gov_fold *fold) {
    gov_view view = gov_fold_view(fold, GOV_CAPABILITIES_DEFAULT);
    gov_key defaults = gov_key_of(ROW_DEFAULTS, fold->namespace_id.bytes, NULL, NULL);
    cal_slice value;
    if (gov_view_get(&view, &defaults, &value)) view.capability_base = cal_read_u32le(value.data);
    return view;
}

static bool cites_all_heads(const gov_view *view, const cal_hash *parents, uint32_t count) {
    cal_slice heads = gov_heads_get(view);
    if (heads.len / 32 > count) return false;
    for (size_t at = 0; at < heads.len; at += 32) {
        bool cited = false;
        for (uint32_t i = 0; i < count && !cited; i++)
            cited = gov_id_equal(heads.data + at, parents[i].bytes);
        if (!cited) return false;
    }
    return true;
}

/* Ids are unique: as many as there are heads, and all of them, are nothing but the heads. */
bool gov_cut_present(const gov_namespace *ns, const cal_hash *parents, uint32_t count,
                     gov_view *ret_view) {
    gov_view rows = gov_view_of(ns);
    if (count == 0 || gov_heads_get(&rows).len != (size_t)count * 32 ||
        !cites_all_heads(&rows, parents, count))
        return false;
    *ret_view = gov_cut_of_fold(&ns->graph->fold);
    return true;
}

/* Numbers of the parents that are there; ESTATE with the first that is not. */
static int locate_all(const gov_change *change, const cal_hash *parents, uint32_t count,
                      uint64_t *ret_sequences, size_t *ret_count, gov_wait *ret_wait) {
    size_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t generation;
        if (gov_id_zero(parents[i].bytes)) continue;
        int result = gov_graph_locate(change, &parents[i], &ret_sequences[found++], &generation);
        if (result == CAL_ENOTFOUND) {
            *ret_wait = (gov_wait){.kind = GOV_WAIT_PARENT, .id = parents[i]};
            return CAL_ESTATE;
        }
        if (result) return result;
    }
    *ret_count = found;
    return 0;
}

static gov_cut *known_cut(gov_change *change, const cal_hash *key) {
    gov_graph *graph = change->ns->graph;
    gov_draft *draft = change->draft;
    gov_cut *cut = draft ? gov_cut_find(&draft->cuts, key) : NULL;
    if (cut || (draft && draft->settled)) return cut;
    if (!(cut = gov_cut_find(&graph->cuts, key))) return NULL;
    cut->idle = 0;
    cal_list_remove(&cut->link);
    cal_list_push(&graph->cuts, &cut->link);
    return cut;
}

/* NULL without parents. */
static int find_fold(gov_change *change, const cal_hash *parents, uint32_t count,
                     const gov_fold **ret_fold, gov_wait *ret_wait) {
    size_t found = 0;
    cal_hash key;
    uint64_t *sequences = malloc(count * sizeof *sequences + 1);
    gov_draft *draft = gov_draft_of(change);
    gov_view rows = gov_change_view(change);
    int result = sequences && draft ? 0 : CAL_ENOMEM;
    if (!result) result = locate_all(change, parents, count, sequences, &found, ret_wait);
    *ret_fold = NULL;
    if (!result && found > 0 && cites_all_heads(&rows, parents, count))
        *ret_fold = &draft->fold;
    else if (!result && found > 0) {
        gov_cut_key(parents, count, &key);
        gov_cut *cut = known_cut(change, &key);
        if (!cut && !(result = make_cut(change, sequences, found, &key, &cut)))
            keep_cut(&draft->cuts, &draft->cut_count, cut);
        if (!result) *ret_fold = &cut->fold;
    }
    free(sequences);
    return result;
}

int gov_cut_view(gov_change *change, const cal_hash *parents, uint32_t count, gov_view *ret_view,
                 gov_wait *ret_wait) {
    const gov_fold *fold;
    int result = find_fold(change, parents, count, &fold, ret_wait);
    if (!result) *ret_view = fold ? gov_cut_of_fold(fold) : gov_change_view(change);
    return result;
}

int gov_cut_at(gov_change *change, uint64_t sequence, const gov_fold **ret_fold) {
    gov_node node;
    gov_wait wait;
    int result = gov_graph_node(change, sequence, &node, NULL);
    if (result) return result;
    free(node.parents);
    return find_fold(change, &node.id, 1, ret_fold, &wait);
}

int gov_cut_readable(const gov_view *cut, const cal_group_id *group, gov_wait *ret_wait) {
    cal_group_id at = *group;
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX; steps++) {
        gov_walk walk = gov_walk_start(cut, ROW_OPAQUE, at.bytes, NULL);
        cal_slice id, key_id;
        if (gov_walk_next(&walk, &id, &key_id)) {
            *ret_wait = (gov_wait){.kind = GOV_WAIT_KEY, .group = at};
            memcpy(ret_wait->id.bytes, key_id.data, 32);
            return CAL_ESTATE;
        }
        if (!gov_group_parent(cut, &at, &at)) break;
    }
    return 0;
}
