/* Who may know what among the nodes of share_chaos_sim_test.c, and whether anybody knows more: keys
 * in memory and in stores, values in stores, in contexts and in answers.
 *
 * A key is hidden from a place that is no member when the rotation that brought it descends from
 * the operation that ended the membership; who never was a member has none, but for that of a group
 * it is invited to. A write is hidden with the key that it is sealed under. All that as the founder
 * has it, who is in every group. */
#ifndef CAL_TESTS_SHARE_CHAOS_KEYS_H
#define CAL_TESTS_SHARE_CHAOS_KEYS_H

#include "share_chaos_world.h"

static gov_namespace *namespace_at(place *p) {
    return node_sim_is_off(p->sim) ? NULL : gov_namespace_find(node_at(p)->gov, &c.ns);
}

static size_t scope_of_group(const uint8_t group[32]) {
    for (size_t s = 0; s < c.scope_count; s++)
        if (memcmp(c.scopes[s].group.bytes, group, 32) == 0) return s;
    return SCOPES_MAX;
}

static const known_key *key_of_id(size_t s, const uint8_t id[32]) {
    for (size_t i = 0; i < c.key_count; i++)
        if (c.keys[i].scope == s && memcmp(c.keys[i].id.bytes, id, 32) == 0) return &c.keys[i];
    return NULL;
}

static uint64_t rotation_of(const gov_view *view, size_t s, const uint8_t id[32]) {
    gov_key row = gov_key_of(ROW_KEY_EPOCH, c.scopes[s].group.bytes, id, NULL);
    cal_slice value;
    return gov_view_get(view, &row, &value) ? cal_read_u64le(value.data + 8) : 0;
}

static void note_keys(const gov_view *view, size_t s) {
    gov_walk walk = gov_walk_start(view, ROW_KEY, c.scopes[s].group.bytes, NULL);
    cal_slice rest;
    while (gov_walk_next(&walk, &rest, NULL)) {
        if (key_of_id(s, rest.data)) continue;
        CHECK(c.w, c.key_count < KEYS_MAX, "too many keys for this test");
        known_key *key = &c.keys[c.key_count++];
        *key = (known_key){.scope = s, .rotation = rotation_of(view, s, rest.data)};
        memcpy(key->id.bytes, rest.data, 32);
    }
}

/* What ended the membership, as far as something did. */
static bool ending(const gov_namespace *ns, size_t s, const cal_account_id *account,
                   gov_write *ret_write) {
    const gov_fold *fold = &ns->graph->fold;
    gov_key member = gov_key_of(ROW_MEMBER, c.scopes[s].group.bytes, account->bytes, NULL),
            left = gov_key_of((gov_row_kind)SLOT_LEFT, account->bytes, NULL, NULL);
    gov_write all;
    bool one = gov_fold_slot(fold, &member, ret_write), has_all = gov_fold_slot(fold, &left, &all);
    if (has_all && (!one || memcmp(all.rank, ret_write->rank, GOV_RANK_SIZE) > 0)) *ret_write = all;
    return one || has_all;
}

/* Of a place that is no member now: what ended it. */
static void note_ending(const gov_namespace *ns, const gov_view *view, size_t s, place *p) {
    const cal_account_id *account = &c.account[p->index];
    knowing *k = &c.knows[p->index][s];
    gov_key why = gov_key_of(ROW_REENTRY, c.scopes[s].group.bytes, account->bytes, NULL);
    gov_write write;
    cal_slice reason;
    if (!ending(ns, s, account, &write)) return;
    k->ended = write.sequence;
    k->removed = gov_view_get(view, &why, &reason) && reason.data[0] == GOV_REENTRY_REMOVED;
    memcpy(k->rank, write.rank, GOV_RANK_SIZE);
}

/* Whether one operation is the other, or descends from it. */
static bool descends(gov_change *look, uint64_t sequence, uint64_t from) {
    enum { OPS_MAX = 4096 };
    bool below[OPS_MAX] = {false};
    CHECK(c.w, sequence < OPS_MAX, "too many operations for this test");
    below[sequence] = true;
    for (uint64_t at = sequence; at > from; at--) { /* parents have smaller numbers */
        gov_node node;
        if (!below[at]) continue;
        OK(c.w, gov_graph_node(look, at, &node, NULL));
        for (uint32_t i = 0; i < node.parent_count; i++) below[node.parents[i]] = true;
        free(node.parents);
    }
    return below[from];
}

static void look_at_key(gov_change *look, known_key *key) {
    for (size_t i = 1; i < c.w->count; i++) {
        const knowing *k = &c.knows[i][key->scope];
        if (k->ended == 0 || key->looked[i] == k->ended) continue;
        key->looked[i] = k->ended;
        key->hidden[i] = key->rotation >= k->ended && descends(look, key->rotation, k->ended);
    }
}

static bool key_is_hidden(place *p, size_t s, const known_key *key) {
    const knowing *k = &c.knows[p->index][s];
    return k->ended ? key->hidden[p->index] : !k->invited;
}

/* As the founder, whose word it is, has it now. False: it is off, nothing is known. */
static bool look_at_founder(void) {
    place *founder = &c.w->places[0];
    gov_namespace *ns = namespace_at(founder);
    if (!ns) return false;
    gov_view view = gov_view_of(ns);
    for (size_t s = 0; s < c.scope_count; s++) {
        note_keys(&view, s);
        for (size_t i = 1; i < c.w->count; i++) {
            knowing *k = &c.knows[i][s];
            k->member = gov_path_of(&view, &c.scopes[s].group, &c.account[i], NULL) != 0;
            if (!k->member && c.scopes[s].keyed == s) note_ending(ns, &view, s, &c.w->places[i]);
        }
    }
    gov_change look;
    gov_look_begin(node_at(founder)->gov, ns, &look);
    for (size_t i = 0; i < c.key_count; i++) look_at_key(&look, &c.keys[i]);
    gov_look_end(&look);
    return true;
}

/* --- keys --- */

static void check_key(place *p, const uint8_t group[32], const uint8_t id[32], const char *where) {
    size_t s = scope_of_group(group);
    CHECK(c.w, s < SCOPES_MAX, "place %zu has a key of an unknown group in its %s", p->index,
          where);
    const knowing *k = &c.knows[p->index][s];
    const known_key *key = key_of_id(s, id);
    if (p->index == 0 || k->member) return;
    CHECK(c.w, key || k->ended || k->invited,
          "place %zu has a key of group %zu in its %s that the founder has not", p->index, s,
          where);
    CHECK(c.w, !key || !key_is_hidden(p, s, key),
          "place %zu is no member of group %zu since operation %llu and has in its %s a key that "
          "was made in %llu to keep it out",
          p->index, s, (unsigned long long)k->ended, where, (unsigned long long)key->rotation);
}

/* All that each place has in memory; cheap. */
static void check_keys_in_memory(void) {
    if (!look_at_founder()) return;
    for (size_t i = 1; i < c.w->count; i++) {
        gov_namespace *ns = namespace_at(&c.w->places[i]);
        if (!ns) continue;
        gov_view view = gov_view_of(ns);
        gov_walk walk = gov_walk_start(&view, ROW_KEY, NULL, NULL);
        cal_slice rest;
        while (gov_walk_next(&walk, &rest, NULL))
            check_key(&c.w->places[i], rest.data, rest.data + 32, "memory");
        c.keys_seen++;
    }
}

/* --- values --- */

static bool is_hidden(place *p, size_t write) {
    size_t s = c.scopes[c.scope_of[write]].keyed;
    const knowing *k = &c.knows[p->index][s], *whole = &c.knows[p->index][c.scope_of[write]];
    const known_key *key = key_of_id(s, c.key_of[write].bytes);
    bool kept = k->ended != 0 && c.kept_from[write][p->index] == k->ended;
    return p->index != 0 && !k->member && !whole->member &&
           (kept || (key && key_is_hidden(p, s, key)));
}

static void check_bytes(place *p, cal_slice bytes, const char *where) {
    static const size_t marker = sizeof MARKER - 1;
    while (bytes.len > marker) {
        const uint8_t *found = memmem(bytes.data, bytes.len, MARKER, marker);
        if (!found) return;
        char digits[8] = "";
        bytes.len -= (size_t)(found - bytes.data) + marker;
        bytes.data = found + marker;
        memcpy(digits, bytes.data, bytes.len < 7 ? bytes.len : 7);
        size_t write = strtoul(digits, NULL, 10);
        c.values_seen++;
        CHECK(c.w, write >= c.write_count || !is_hidden(p, write),
              "place %zu is no member and has write %zu, of place %u, in %s", p->index, write,
              c.author[write], where);
    }
}

static bool knows_all(place *p) {
    for (size_t s = 0; s < c.scope_count; s++)
        if (!c.knows[p->index][s].member) return false;
    return true;
}

static void check_row(place *p, cal_column column, cal_slice key, cal_slice value) {
    check_bytes(p, key, "a key of its store");
    check_bytes(p, value, "its store");
    if (column == CAL_COLUMN_GROUP && key.len == 32 + 1 + 64 && key.data[32] == ROW_KEY &&
        memcmp(key.data, c.ns.bytes, 32) == 0)
        check_key(p, key.data + 33, key.data + 65, "store");
    c.rows_seen++;
}

/* Every row but code and its chunks, as the store decrypts it. */
static void check_store(place *p) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_slice key, value;
    OK(c.w, cal_store_snapshot(node_at(p)->store, &snapshot));
    for (int column = 0; column < CAL_COLUMN_COUNT; column++) {
        if (column == CAL_COLUMN_MODULE || column == CAL_COLUMN_BLOB_CHUNK) continue;
        OK(c.w, cal_cursor_open(snapshot, (cal_column)column, (cal_slice){0}, (cal_slice){0}, false,
                                &cursor));
        while (cal_cursor_next(cursor, &key, &value) == 0)
            check_row(p, (cal_column)column, key, value);
        cal_cursor_free(cursor);
    }
    cal_snapshot_free(snapshot);
}

/* In the stores of all that are not members of everything. */
static void check_stores(void) {
    check_keys_in_memory();
    if (!look_at_founder()) return;
    for (size_t i = 1; i < c.w->count; i++)
        if (!node_sim_is_off(c.w->places[i].sim) && !knows_all(&c.w->places[i]))
            check_store(&c.w->places[i]);
}

static void note_shown(void *user, const cal_call_result *result) {
    check_bytes(user, cal_slice_of(result->output, result->output ? result->output_len : 0),
                "what its context shows");
}

/* What its contexts show to who asks them, as far as they do. */
static void check_contexts(void) {
    for (size_t i = 1; i < c.w->count; i++)
        for (size_t s = 0; s < c.scope_count && !knows_all(&c.w->places[i]); s++)
            cal_execute_wait(node_at(&c.w->places[i]), &c.scopes[s].context, "entries", "{}", 2,
                             note_shown, &c.w->places[i], &err);
}

/* Whose removal, the one that counts, the author knows: they must not read what it writes. (A leave
 * brings no key yet, and two removals at once bring none that keeps out both.) */
static void note_who_is_kept_out(place *author, size_t write) {
    size_t s = c.scopes[c.scope_of[write]].keyed;
    gov_namespace *ns = namespace_at(author);
    const known_key *key = key_of_id(s, c.key_of[write].bytes);
    gov_write end;
    if (!ns) return;
    gov_view view = gov_view_of(ns);
    if (gov_walk_count(&view, ROW_ROTATION_DUE, c.scopes[s].group.bytes) > 0) return;
    for (size_t i = 1; i < c.members; i++) {
        const knowing *k = &c.knows[i][s];
        if (i == author->index || k->member || !k->removed ||
            gov_path_of(&view, &c.scopes[s].group, &c.account[i], NULL) ||
            !ending(ns, s, &c.account[i], &end) || memcmp(end.rank, k->rank, GOV_RANK_SIZE) != 0)
            continue;
        c.kept_from[write][i] = k->ended;
        c.kept_out++;
        CHECK(c.w, !key || key_is_hidden(&c.w->places[i], s, key),
              "place %zu knows that place %zu was removed and writes under a key that it has",
              author->index, i);
    }
}

/* The key that it would seal a write with. */
static void note_key(place *author, size_t s, size_t write) {
    gov_write_grant grant;
    c.key_of[write] = (cal_hash){{0}};
    if (gov_context_write(node_at(author)->gov, &c.scopes[s].context, &grant, NULL)) return;
    c.key_of[write] = grant.key_id;
    cal_secret_wipe(&grant.group_key);
}

#endif
