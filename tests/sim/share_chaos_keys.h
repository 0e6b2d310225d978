/* Who may know what among the nodes of share_chaos_sim_test.c, and whether anybody knows more: keys
 * in memory and in stores, values in stores, in contexts and in answers.
 *
 * Every key is the founder's, who is the only admin: what it makes later has a greater epoch. From
 * when on keys are hidden from a place that is no member follows from the operation that ended its
 * membership; a write is hidden with the key that it is sealed under. */
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

static void note_keys(const gov_view *view, size_t s) {
    gov_walk walk = gov_walk_start(view, ROW_KEY, c.scopes[s].group.bytes, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        if (key_of_id(s, rest.data)) continue;
        CHECK(c.w, c.key_count < KEYS_MAX, "too many keys for this test");
        known_key *key = &c.keys[c.key_count++];
        *key = (known_key){.scope = s, .epoch = cal_read_u64le(value.data + 32)};
        memcpy(key->id.bytes, rest.data, 32);
        if (key->epoch > c.newest[s]) c.newest[s] = key->epoch;
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

/* Of a place that is no member now: the epoch from which on keys are hidden from it. Of a removal
 * it is that of the key that it brought; after a leave, that of the next key, or of the newest when
 * it was made before this was looked at. */
static void note_ending(const gov_namespace *ns, const gov_view *view, size_t s, place *p) {
    const cal_account_id *account = &c.account[p->index];
    knowing *k = &c.knows[p->index][s];
    gov_key why = gov_key_of(ROW_REENTRY, c.scopes[s].group.bytes, account->bytes, NULL),
            due = gov_key_of(ROW_ROTATION_DUE, c.scopes[s].group.bytes, account->bytes, NULL);
    gov_write write;
    cal_slice reason;
    if (!ending(ns, s, account, &write) || !gov_view_get(view, &why, &reason)) return;
    if (write.sequence == k->ended) return;
    k->ended = write.sequence;
    k->removed = reason.data[0] == GOV_REENTRY_REMOVED;
    memcpy(k->rank, write.rank, GOV_RANK_SIZE);
    if (k->removed)
        k->hidden_from = GOV_EPOCH_CAUSAL | cal_read_u32be(write.rank + 4);
    else
        k->hidden_from = c.newest[s] + gov_view_get(view, &due, NULL);
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
    CHECK(c.w, key, "place %zu has a key of group %zu in its %s that the founder has not", p->index,
          s, where);
    CHECK(c.w, key->epoch < k->hidden_from,
          "place %zu is no member of group %zu and has a key of epoch %llx, hidden from %llx, in "
          "its %s",
          p->index, s, (unsigned long long)key->epoch, (unsigned long long)k->hidden_from, where);
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
    bool kept = k->ended != 0 && c.kept_from[write][p->index] == k->ended;
    return p->index != 0 && !k->member && !whole->member &&
           (kept || c.epoch_of[write] >= k->hidden_from);
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
              "place %zu is no member and has write %zu, of place %u under a key of epoch %llx, "
              "hidden from %llx, in %s",
              p->index, write, c.author[write], (unsigned long long)c.epoch_of[write],
              (unsigned long long)c.knows[p->index][c.scopes[c.scope_of[write]].keyed].hidden_from,
              where);
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
 * brings no key yet.) */
static void note_who_is_kept_out(place *author, size_t write) {
    size_t s = c.scopes[c.scope_of[write]].keyed;
    gov_namespace *ns = namespace_at(author);
    gov_write end;
    if (!ns) return;
    gov_view view = gov_view_of(ns);
    for (size_t i = 1; i < c.members; i++) {
        const knowing *k = &c.knows[i][s];
        if (i == author->index || k->member || !k->removed ||
            gov_path_of(&view, &c.scopes[s].group, &c.account[i], NULL) ||
            !ending(ns, s, &c.account[i], &end) || memcmp(end.rank, k->rank, GOV_RANK_SIZE) != 0)
            continue;
        c.kept_from[write][i] = k->ended;
        CHECK(c.w, c.epoch_of[write] == 0 || c.epoch_of[write] >= k->hidden_from,
              "place %zu knows that place %zu was removed and writes under a key that it has",
              author->index, i);
    }
}

/* The newest key that it would seal a write with. */
static uint64_t sealing_epoch(place *p, size_t s) {
    gov_write_grant grant;
    if (gov_context_write(node_at(p)->gov, &c.scopes[s].context, &grant, NULL)) return 0;
    const known_key *key = key_of_id(c.scopes[s].keyed, grant.key_id.bytes);
    cal_secret_wipe(&grant.group_key);
    return key ? key->epoch : 0;
}

#endif
