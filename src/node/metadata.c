/* Records of groups, members and contexts: members.h. */
#include "calimero/members.h"

#include <assert.h>

#include "node/change.h"

static_assert((int)CAL_METADATA_GROUP == GOV_METADATA_GROUP &&
                  (int)CAL_METADATA_MEMBER == GOV_METADATA_MEMBER &&
                  (int)CAL_METADATA_CONTEXT == GOV_METADATA_CONTEXT,
              "kinds are handed on as they are");

static gov_metadata_key gov_key_for(const cal_metadata_key *key) {
    return (gov_metadata_key){.of = (gov_metadata_of)key->of,
                              .group = key->group,
                              .account = key->account,
                              .context = key->context};
}

struct record_look {
    cal_node *node;
    gov_metadata_key key;
    void (*visit)(void *user, const cal_metadata *record);
    void *user;
    int result;
};

static int show(struct record_look *look, gov_record *record) {
    cal_arena arena;
    cal_slice key, value;
    size_t count = 0;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_metadata_entry *entries =
        cal_arena_alloc_array(&arena, record->entries ? record->entries : 1, sizeof *entries);
    while (entries && gov_record_next(record, &key, &value))
        entries[count++] = (cal_metadata_entry){.key = (const char *)key.data,
                                                .value = (const char *)value.data,
                                                .key_len = key.len,
                                                .value_len = value.len};
    if (entries)
        look->visit(look->user, &(cal_metadata){.name = record->name,
                                                .entries = entries,
                                                .entry_count = count,
                                                .updated_at_ms = record->updated_at_ms,
                                                .updated_by = record->updated_by});
    cal_arena_deinit(&arena);
    return entries ? 0 : CAL_ENOMEM;
}

static void look_at_record(void *arg) {
    struct record_look *look = arg;
    cal_group_id namespace_id;
    gov_record record;
    look->result = gov_group_namespace(look->node->gov, &look->key.group, &namespace_id);
    if (look->result != 0) return;
    if (gov_metadata_read(look->node->gov, &look->key, &record) == 0)
        look->result = show(look, &record);
    else
        look->visit(look->user, NULL);
}

int cal_metadata_get(cal_node *node, const cal_metadata_key *key,
                     void (*visit)(void *user, const cal_metadata *record), void *user) {
    struct record_look look = {.node = node, .key = gov_key_for(key), .visit = visit, .user = user};
    cal_node_run(node, look_at_record, &look);
    return look.result;
}

struct record_change {
    node_change base;
    gov_metadata_key key;
    const char *name;
    gov_entry *entries;
    size_t count;
};

static int prepare(node_change *base, cal_error *err) {
    struct record_change *change = CAL_CONTAINER_OF(base, struct record_change, base);
    return gov_metadata_set(node_change_gov(base), &change->key, change->name, change->entries,
                            change->count, &base->commit.change, err);
}

static bool copy_text(cal_arena *arena, const char *text, size_t len, cal_slice *ret_copy) {
    void *copy = len ? cal_arena_copy(arena, text, len) : NULL;
    *ret_copy = cal_slice_of(copy, copy ? len : 0);
    return copy || len == 0;
}

static bool copy_record(struct record_change *change, const char *name,
                        const cal_metadata_entry *entries, size_t count) {
    cal_arena *arena = &change->base.arena;
    change->entries = cal_arena_alloc_array(arena, count ? count : 1, sizeof *change->entries);
    bool fine = change->entries != NULL;
    if (name) fine = fine && (change->name = cal_arena_text(arena, cal_slice_text(name))) != NULL;
    for (size_t i = 0; fine && i < count; i++)
        fine = copy_text(arena, entries[i].key, entries[i].key_len, &change->entries[i].key) &&
               copy_text(arena, entries[i].value, entries[i].value_len, &change->entries[i].value);
    change->count = count;
    return fine;
}

void cal_metadata_set(cal_node *node, const cal_metadata_key *key, const char *name,
                      const cal_metadata_entry *entries, size_t count, cal_simple_done done,
                      void *user) {
    struct record_change *change =
        node_change_new(sizeof *change, &key->group, prepare, done, user);
    if (!change) return;
    change->key = gov_key_for(key);
    if (count > GOV_METADATA_ENTRIES_MAX)
        node_change_refuse(node, &change->base, CAL_EINVAL, "metadata has at most 64 entries");
    else if (copy_record(change, name, entries, count))
        node_change_run(node, &change->base);
    else
        node_change_refuse(node, &change->base, CAL_ENOMEM,
                           "the metadata is too large, or memory ran out");
}
