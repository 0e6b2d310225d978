/* What this node's operations and deltas cite (governance.md 6): the heads, unless some of what
 * they descend from cannot be read here.
 *
 * Above an operation that nobody can read no cut answers for its group. Whoever cited it would be
 * judged by nobody; so one member that seals something under a key that does not exist would stop
 * all writes, and its own removal. So such an operation, and whatever cites it, is left out of what
 * we cite, which is then the greatest operations of the rest; others judge that at a cut that
 * answers, whatever they can read themselves.
 *
 * Not left out is what may have taken away this node's own rights, or it would go on writing beside
 * its removal: what an admin has sealed or, as long as it is a member, somebody who may remove
 * others (an admin's own operations go beside that, too); and whatever is above such a one, because
 * who its author was is not known. Its key is waited for: honest members have it. Who joins cannot
 * read who the admins are, and takes nothing away: it leaves out what those have not sealed that it
 * knows of. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gov/draft.h"

enum {
    TAINTED = 1,    /* cannot be read, or is above what cannot */
    CANDIDATE = 2,  /* a head, or cited by one that is tainted */
    BELOW = 4,      /* below one that is not tainted */
    LOOKS_MAX = 32, /* at cuts; then what was last known of an author holds */
    AUTHORS_MAX = 64,
    WALK_MAX = 65536, /* operations looked at; further down everything is taken for below */
};

typedef struct descent {
    gov_change *change;
    uint64_t top, low, first; /* numbers; the first that is tainted */
    uint8_t *marks;           /* of top - number */
    size_t open;              /* candidates that are not known to be below */
} descent;

static uint8_t *mark_of(const descent *c, uint64_t number) { return &c->marks[c->top - number]; }

/* --- what is left out --- */

typedef struct outset { /* of those that cannot be read: who is left out */
    gov_change *change;
    const cal_group_id *group;
    gov_citing citing;
    uint64_t *numbers; /* ascending */
    size_t count;
    size_t looks; /* at cuts */
    struct {
        cal_account_id author;
        bool matters;
    } known[AUTHORS_MAX]; /* what was seen last */
    size_t known_count;
} outset;

/* The place of the author among those that are known, or the next one. */
static size_t place_of(const outset *out, const cal_account_id *author) {
    for (size_t i = 0; i < out->known_count; i++)
        if (gov_id_equal(out->known[i].author.bytes, author->bytes)) return i;
    return out->known_count;
}

static int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool is_among(const uint64_t *numbers, size_t count, uint64_t number) {
    return bsearch(&number, numbers, count, sizeof number, by_number) != NULL;
}

/* Numbers of the operations, of the group and of those above it, that the cut could not read. */
static int unreadable(const gov_change *change, const gov_view *cut, const cal_group_id *group,
                      cal_buffer *ret_numbers) {
    cal_group_id at = *group;
    int result = 0;
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX && !result; steps++) {
        gov_walk marks = gov_walk_start(cut, ROW_OPAQUE, at.bytes, NULL);
        cal_slice rest, value;
        while (!result && gov_walk_next(&marks, &rest, &value)) {
            cal_hash id;
            uint64_t number;
            uint32_t generation;
            memcpy(id.bytes, rest.data, 32);
            result = gov_graph_locate(change, &id, &number, &generation);
            if (!result) result = cal_buffer_append(ret_numbers, &number, sizeof number);
        }
        if (!gov_group_parent(cut, &at, &at)) break;
    }
    return result;
}

/* Whether nothing but what is left out hides who the author was at the cut. */
static int is_clear(const outset *out, const gov_view *cut, bool *ret_clear) {
    cal_buffer numbers;
    cal_buffer_init(&numbers, CAL_STORE_VALUE_MAX);
    int result = unreadable(out->change, cut, out->group, &numbers);
    *ret_clear = true;
    for (size_t at = 0; at < numbers.len && *ret_clear; at += 8) {
        uint64_t number;
        memcpy(&number, numbers.data + at, sizeof number);
        *ret_clear = is_among(out->numbers, out->count, number);
    }
    cal_buffer_deinit(&numbers);
    return result;
}

/* Whether the operation, by who wrote it, may have taken away what others may do. */
static int matters_at(outset *out, const gov_node *node, const gov_ids *parents,
                      bool *ret_matters) {
    gov_view cut, present = gov_change_view(out->change);
    gov_wait wait;
    bool clear = true;
    out->looks++;
    int result = gov_cut_view(out->change, parents->items, parents->count, &cut, &wait);
    if (!result && out->citing != GOV_CITES_JOIN) result = is_clear(out, &cut, &clear);
    if (result) return result;
    *ret_matters = !clear || gov_admin(&cut, out->group, &node->author) ||
                   (out->citing == GOV_CITES_WRITE &&
                    gov_allowed(&cut, out->group, &node->author, GOV_MANAGE_MEMBERS) &&
                    gov_path_of(&present, out->group, &node->author, NULL) != GOV_PATH_NONE);
    return 0;
}

static int matters(outset *out, uint64_t number, bool *ret_matters) {
    gov_node node;
    gov_verified *op = NULL;
    gov_view present = gov_change_view(out->change);
    cal_buffer bytes;
    cal_buffer_init(&bytes, GOV_OP_MAX);
    int result = gov_graph_node(out->change, number, &node, &bytes);
    if (result) {
        cal_buffer_deinit(&bytes);
        return result;
    }
    free(node.parents);
    size_t place = node.has_author ? place_of(out, &node.author) : 0;
    *ret_matters = node.has_author && gov_admin(&present, out->group, &node.author);
    if (node.has_author && !*ret_matters && out->looks >= LOOKS_MAX) {
        *ret_matters = place == out->known_count || out->known[place].matters;
    } else if (node.has_author && !*ret_matters) {
        result = gov_verified_again(cal_buffer_slice(&bytes), &op);
        if (!result && op->reason != GOV_WHY_FINE) result = CAL_ECORRUPT;
        if (!result) result = matters_at(out, &node, &op->op.parents, ret_matters);
        gov_verified_free(op);
        if (place < AUTHORS_MAX) {
            out->known[place].author = node.author;
            out->known[place].matters = *ret_matters;
            out->known_count += place == out->known_count;
        }
    }
    cal_buffer_deinit(&bytes);
    return result;
}

/* From below: whether one is left out says what is known of those above it. */
static int find_out(outset *out, const gov_view *cut) {
    cal_buffer numbers;
    cal_buffer_init(&numbers, CAL_STORE_VALUE_MAX);
    int result = unreadable(out->change, cut, out->group, &numbers);
    size_t count = numbers.len / sizeof *out->numbers;
    out->numbers = malloc(numbers.len + 1);
    if (!result && !out->numbers) result = CAL_ENOMEM;
    if (!result && count) qsort(numbers.data, count, sizeof *out->numbers, by_number);
    for (size_t i = 0; i < count && !result; i++) {
        uint64_t number;
        bool is;
        memcpy(&number, numbers.data + i * sizeof number, sizeof number);
        result = matters(out, number, &is);
        if (!result && !is) out->numbers[out->count++] = number;
    }
    cal_buffer_deinit(&numbers);
    return result;
}

/* --- what is left --- */

static void candidate(descent *c, uint64_t number) {
    if (number < c->low) return;
    uint8_t *mark = mark_of(c, number);
    if (!(*mark & (CANDIDATE | BELOW))) c->open++;
    *mark |= CANDIDATE;
}

static void below(descent *c, uint64_t number) {
    if (number < c->low) return;
    uint8_t *mark = mark_of(c, number);
    if ((*mark & CANDIDATE) && !(*mark & BELOW)) c->open--;
    *mark |= BELOW;
}

/* Upwards: whatever cites a tainted one is. */
static int taint(descent *c, const outset *out) {
    int result = 0;
    for (uint64_t at = c->first; at <= c->top && !result; at++) {
        gov_node node;
        if ((result = gov_graph_node(c->change, at, &node, NULL))) break;
        bool is = is_among(out->numbers, out->count, at);
        for (uint32_t i = 0; i < node.parent_count && !is; i++)
            is = node.parents[i] >= c->first && (*mark_of(c, node.parents[i]) & TAINTED);
        if (is) *mark_of(c, at) |= TAINTED;
        free(node.parents);
    }
    return result;
}

/* Downwards, until no candidate is left. Those kept aside are neither, and cited by nobody. */
static int collect(descent *c, cal_buffer *ret_ids) {
    int result = 0;
    for (uint64_t at = c->top; at >= c->low && !result && (at >= c->first || c->open); at--) {
        gov_node node;
        uint8_t mark = *mark_of(c, at);
        if (!mark) continue;
        if ((result = gov_graph_node(c->change, at, &node, NULL))) break;
        bool tainted = mark & TAINTED, greatest = !tainted && !(mark & BELOW);
        if (greatest) c->open--;
        if (greatest) result = cal_buffer_append(ret_ids, node.id.bytes, 32);
        for (uint32_t i = 0; i < node.parent_count; i++)
            tainted ? candidate(c, node.parents[i]) : below(c, node.parents[i]);
        free(node.parents);
    }
    return result;
}

static int mark_heads(descent *c, cal_slice heads) {
    for (size_t at = 0; at < heads.len; at += 32) {
        cal_hash id;
        uint64_t number;
        uint32_t generation;
        memcpy(id.bytes, heads.data + at, 32);
        int result = gov_graph_locate(c->change, &id, &number, &generation);
        if (result) return result;
        if (!(*mark_of(c, number) & TAINTED)) candidate(c, number);
    }
    return 0;
}

static int cite_rest(const outset *out, cal_slice heads, cal_buffer *ret_ids) {
    descent c = {
        .change = out->change, .top = gov_graph_top(out->change), .first = out->numbers[0]};
    c.low = c.top > WALK_MAX ? c.top - WALK_MAX : 1;
    if (c.first < c.low) return CAL_ESTATE;
    c.marks = calloc((size_t)(c.top - c.low + 1), 1);
    if (!c.marks) return CAL_ENOMEM;
    int result = taint(&c, out);
    if (!result) result = mark_heads(&c, heads);
    if (!result) result = collect(&c, ret_ids);
    free(c.marks);
    return result || ret_ids->len ? result : CAL_ESTATE;
}

int gov_citable(gov_change *change, const cal_group_id *group, gov_citing citing,
                cal_buffer *ret_ids) {
    outset out = {.change = change, .group = group, .citing = citing};
    gov_view view = gov_change_view(change);
    cal_slice heads = gov_heads_get(&view);
    gov_view cut = gov_cut_of_fold(change->draft ? &change->draft->fold : &change->ns->graph->fold);
    gov_wait wait;
    if (!gov_cut_readable(&cut, group, &wait)) return cal_buffer_append_slice(ret_ids, heads);
    int result = find_out(&out, &cut);
    if (!result) result = out.count ? cite_rest(&out, heads, ret_ids) : CAL_ESTATE;
    free(out.numbers);
    if (result == CAL_ESTATE) {
        cal_buffer_reset(ret_ids);
        result = cal_buffer_append_slice(ret_ids, heads);
    }
    return result;
}

/* --- of writes --- */

/* As long as nothing changes it is the same for each of them. */
int gov_position_of(cal_gov *gov, gov_namespace *ns, const cal_group_id *group,
                    const cal_account_id *self, gov_position *ret_position) {
    gov_citation *kept = &ns->citation;
    gov_view rows = gov_view_of(ns), cut = gov_cut_of_fold(&ns->graph->fold);
    cal_slice heads = gov_heads_get(&rows);
    gov_wait wait;
    cal_buffer ids;
    cal_buffer_init(&ids, GOV_HEADS_MAX * 32);
    int result = 0;
    bool plain = gov_cut_readable(&cut, group, &wait) == 0;
    if (plain) {
        result = cal_buffer_append_slice(&ids, heads);
    } else if (kept->version == gov_version(gov) + 1 &&
               gov_id_equal(kept->group.bytes, group->bytes)) {
        *ret_position = kept->position;
        cal_buffer_deinit(&ids);
        return 0;
    } else {
        gov_change look;
        gov_look_begin(gov, ns, &look);
        result = gov_citable(&look, group, GOV_CITES_WRITE, &ids);
        const cal_hash *cited = (const cal_hash *)(const void *)ids.data;
        if (!result) /* who is no member there has to wait */
            result = gov_cut_view(&look, cited, (uint32_t)(ids.len / 32), &cut, &wait);
        if (!result && gov_path_of(&cut, group, self, NULL) == GOV_PATH_NONE) {
            cal_buffer_reset(&ids);
            result = cal_buffer_append_slice(&ids, heads);
        }
        gov_look_end(&look);
    }
    if (!result && ids.len > sizeof ret_position->heads) result = CAL_ELIMIT;
    if (!result) {
        ret_position->count = (uint32_t)(ids.len / 32);
        if (ids.len) memcpy(ret_position->heads, ids.data, ids.len);
        if (!plain) *kept = (gov_citation){gov_version(gov) + 1, *group, *ret_position};
    }
    cal_buffer_deinit(&ids);
    return result;
}
