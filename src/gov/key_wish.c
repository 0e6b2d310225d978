/* Keys that this node lacks and asks members for (governance.md 11; share.h).
 *
 * What it lacks follows from its rows: groups in which it has a row and no key, operations that it
 * keeps sealed. Only what deltas wait for is told, and kept in memory: they ask again. A group on
 * an open chain is sealed with the namespace's key, so that is asked for first; but it may have
 * been restricted when the operation was sealed, so the group's own is asked for as well.
 *
 * Anybody can invent the name of a key. So a name counts only from somebody who was a member once,
 * and whoever names many crowds out nobody: there is room for each, and each has its turn, in the
 * next question if not in this one. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gov/draft.h"
#include "gov/share.h"

enum { NAMED_MAX = 256 };

typedef struct named { /* a key, by whoever sealed something with it */
    gov_key_want want;
    uint8_t author[32]; /* an account or its key; zero: this node's own need */
    size_t place;       /* among those of the author */
    size_t turn;        /* when it is asked for, as turns go now */
} named;

typedef struct {
    const gov_view *view;
    named all[NAMED_MAX];
    size_t count;
} list;

static bool has_key(const gov_view *view, const cal_group_id *group, const cal_hash *key_id) {
    gov_key own = gov_key_of(ROW_KEY, group->bytes, key_id->bytes, NULL);
    gov_key all = gov_key_of(ROW_KEY, view->namespace_id.bytes, key_id->bytes, NULL);
    return gov_view_get(view, &own, NULL) || gov_view_get(view, &all, NULL);
}

static bool same_want(const gov_key_want *one, const gov_key_want *other) {
    return one->any == other->any && gov_id_equal(one->group.bytes, other->group.bytes) &&
           gov_id_equal(one->key_id.bytes, other->key_id.bytes);
}

/* An author may have as many as are still free, so the next one always finds room. */
static void name(list *l, const gov_key_want *want, const uint8_t author[32]) {
    size_t own = 0;
    if (!want->any && has_key(l->view, &want->group, &want->key_id)) return;
    for (size_t i = 0; i < l->count; i++) {
        if (same_want(&l->all[i].want, want)) return;
        own += gov_id_equal(l->all[i].author, author);
    }
    if (own >= NAMED_MAX - l->count) return;
    named *added = &l->all[l->count++];
    *added = (named){.want = *want, .place = own};
    memcpy(added->author, author, sizeof added->author);
}

/* --- sources --- */

/* Groups with a key of their own in which the account has a row. */
static void name_of_groups(list *l, const cal_account_id *account) {
    static const uint8_t nobody[32];
    gov_walk walk = gov_walk_start(l->view, ROW_META, NULL, NULL);
    cal_slice id, value;
    while (gov_walk_next(&walk, &id, &value)) {
        cal_group_id group, keyed;
        gov_group_key key;
        memcpy(group.bytes, id.data, 32);
        keyed = gov_key_group(l->view, &group);
        if (!gov_id_equal(keyed.bytes, group.bytes) ||
            gov_path_of(l->view, &group, account, NULL) != GOV_PATH_DIRECT)
            continue;
        bool found = gov_key_current(l->view, &group, &key);
        if (found) cal_secret_wipe(&key.key);
        if (!found) name(l, &(gov_key_want){.group = group, .any = true}, nobody);
    }
}

/* Revoked devices and former members have written what others still have to read. */
static bool was_bound(const gov_view *view, const uint8_t sign_key[32]) {
    gov_walk walk = gov_walk_start(view, ROW_BINDING, NULL, NULL);
    cal_slice device, value;
    while (gov_walk_next(&walk, &device, &value)) {
        gov_binding binding = gov_binding_read(value);
        if (gov_id_equal(binding.sign_key, sign_key)) return true;
    }
    return false;
}

static void name_of_sealed(list *l) {
    gov_walk walk = gov_walk_start(l->view, ROW_SEALED, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        gov_key_want want = {.any = false};
        const uint8_t *signer = value.data + 32;
        memcpy(want.group.bytes, rest.data, 32);
        memcpy(want.key_id.bytes, value.data, 32);
        if (was_bound(l->view, signer)) name(l, &want, signer);
    }
}

/* --- turns --- */

static size_t turns_of(const list *l, const uint8_t author[32]) {
    size_t count = 0;
    for (size_t i = 0; i < l->count; i++) count += gov_id_equal(l->all[i].author, author);
    return count;
}

static size_t emit(const gov_view *view, const gov_key_want *want, gov_key_want *ret_wants,
                   size_t count, size_t max) {
    gov_key_want both[2] = {*want, *want};
    both[0].group = want->any ? want->group : gov_key_group(view, &want->group);
    for (size_t k = 0; k < 2; k++) {
        bool known = false;
        for (size_t i = 0; i < count && !known; i++) known = same_want(&ret_wants[i], &both[k]);
        if (!known && count < max) ret_wants[count++] = both[k];
    }
    return count;
}

/* One of each author, then the next of each. With the next turn others come first, of the authors
 * and of what an author named. */
static size_t in_turn(list *l, uint64_t turn, gov_key_want *ret_wants, size_t max) {
    size_t count = 0;
    for (size_t i = 0; i < l->count; i++) {
        named *one = &l->all[i];
        size_t turns = turns_of(l, one->author);
        one->turn = (one->place + turns - (size_t)(turn % turns)) % turns;
    }
    for (size_t round = 0; round < l->count && count < max; round++) {
        for (size_t k = 0; k < l->count; k++) {
            const named *one = &l->all[(k + (size_t)(turn % l->count)) % l->count];
            if (one->turn == round) count = emit(l->view, &one->want, ret_wants, count, max);
        }
    }
    return count;
}

size_t gov_keys_wanted(cal_gov *gov, const cal_group_id *namespace_id, uint64_t turn,
                       gov_key_want *ret_wants, size_t max) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns) return 0;
    gov_view view = gov_view_of(ns);
    list *l = calloc(1, sizeof *l);
    if (!l) return 0;
    l->view = &view;
    cal_account_id self = gov_acting(gov, &view);
    name_of_groups(l, &self);
    for (size_t i = 0; i < ns->wish_count; i++) {
        const gov_wish *wish = &ns->wishes[i];
        name(l, &(gov_key_want){.group = wish->group, .key_id = wish->key_id}, wish->author.bytes);
    }
    name_of_sealed(l);
    size_t count = in_turn(l, turn, ret_wants, max);
    free(l);
    return count;
}

bool gov_keys_lacking(cal_gov *gov, const cal_group_id *namespace_id) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns) return false;
    gov_view view = gov_view_of(ns);
    gov_walk walk = gov_walk_start(&view, ROW_SEALED, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_group_id group;
        cal_hash key_id;
        memcpy(group.bytes, rest.data, 32);
        memcpy(key_id.bytes, value.data, 32);
        group = gov_key_group(&view, &group);
        if (gov_id_equal(group.bytes, namespace_id->bytes) && !has_key(&view, &group, &key_id) &&
            was_bound(&view, value.data + 32))
            return true;
    }
    return false;
}

/* --- wishes --- */

/* The oldest of whoever has most of them. */
static size_t weakest(const gov_namespace *ns) {
    size_t found = 0, most = 0;
    for (size_t i = 0; i < ns->wish_count; i++) {
        size_t own = 0;
        for (size_t k = i; k < ns->wish_count; k++)
            own += gov_id_equal(ns->wishes[i].author.bytes, ns->wishes[k].author.bytes);
        if (own <= most) continue;
        found = i;
        most = own;
    }
    return found;
}

void gov_key_wish(cal_gov *gov, const cal_context_id *context, const cal_account_id *author,
                  const cal_hash *key_id) {
    gov_view view;
    cal_group_id group;
    gov_namespace *ns = gov_find_context(gov, context, &view, &group);
    if (!ns || has_key(&view, &group, key_id)) return;
    size_t kept = 0;
    for (size_t i = 0; i < ns->wish_count; i++) { /* those that came true go */
        const gov_wish wish = ns->wishes[i];
        bool same = gov_id_equal(wish.key_id.bytes, key_id->bytes) &&
                    gov_id_equal(wish.group.bytes, group.bytes);
        if (!same && !has_key(&view, &wish.group, &wish.key_id)) ns->wishes[kept++] = wish;
    }
    ns->wish_count = kept;
    if (kept == GOV_WISHES_MAX) {
        size_t out = weakest(ns);
        ns->wish_count--;
        memmove(ns->wishes + out, ns->wishes + out + 1,
                (ns->wish_count - out) * sizeof *ns->wishes);
    }
    ns->wishes[ns->wish_count++] = (gov_wish){group, *author, *key_id};
}
