/* Answers from memory: groups, contexts, members, and what a call may do (gov.h). Loop thread. */
#include "base/error.h"
#include "gov/graph.h"

static void fill_group(const gov_namespace *ns, const gov_view *view, const cal_group_id *group,
                       gov_group_info *info) {
    bool root = gov_id_equal(group->bytes, view->namespace_id.bytes);
    gov_counts counts = gov_counts_of(ns, group);
    gov_meta meta = {0};
    gov_metadata data = {0};
    gov_key name = gov_key_of(ROW_GROUP_DATA, group->bytes, NULL, NULL);
    gov_key defaults = gov_key_of(ROW_DEFAULTS, group->bytes, NULL, NULL);
    gov_key joining = gov_key_of(ROW_JOINING, NULL, NULL, NULL);
    cal_slice value;
    gov_meta_get(view, group, &meta);
    gov_metadata_get(view, &name, &data);
    *info = (gov_group_info){
        .id = *group,
        .namespace_id = view->namespace_id,
        .parent = *group,
        .application = meta.application,
        .app_key = meta.app_key,
        .admin = meta.admin,
        .owner = meta.owner,
        .created_at_s = meta.created_at_s,
        .name = data.name,
        .open = gov_group_open(view, group),
        .joining = gov_view_get(view, &joining, NULL),
        .members = counts.members,
        .contexts = root ? ns->total.contexts : counts.contexts,
        .subgroups = root ? ns->total.subgroups : counts.subgroups,
    };
    gov_group_parent(view, group, &info->parent);
    if (gov_view_get(view, &defaults, &value))
        info->default_capabilities = cal_read_u32le(value.data);
}

int gov_group_get(cal_gov *gov, const cal_group_id *group, gov_group_info *ret_info) {
    gov_view view;
    const gov_namespace *ns = gov_find_group(gov, group, &view);
    if (!ns) return CAL_ENOTFOUND;
    fill_group(ns, &view, group, ret_info);
    return 0;
}

int gov_group_code(cal_gov *gov, const cal_group_id *group, cal_blob_id *ret_app_key) {
    gov_view view;
    gov_meta meta;
    if (!gov_find_group(gov, group, &view)) return CAL_ENOTFOUND;
    gov_meta_get(&view, group, &meta);
    *ret_app_key = meta.app_key;
    return 0;
}

void gov_namespace_each(cal_gov *gov, gov_group_visitor visit, void *user) {
    cal_sorted_node *node = cal_sorted_from(&gov->namespaces, (cal_slice){0});
    for (; node; node = node->next[0]) {
        const gov_namespace *ns = node->value;
        gov_view view = gov_view_of(ns);
        gov_group_info info;
        if (!gov_meta_get(&view, &ns->id, NULL)) continue; /* being created */
        fill_group(ns, &view, &ns->id, &info);
        visit(user, &info);
    }
}

static void visit_children(const gov_namespace *ns, const gov_view *view,
                           const cal_group_id *parent, bool deep, gov_group_visitor visit,
                           void *user) {
    gov_walk walk = gov_walk_start(view, ROW_CHILD, parent->bytes, NULL);
    cal_slice id;
    while (gov_walk_next(&walk, &id, NULL)) {
        cal_group_id child;
        gov_group_info info;
        memcpy(child.bytes, id.data, 32);
        fill_group(ns, view, &child, &info);
        visit(user, &info);
        if (deep) visit_children(ns, view, &child, deep, visit, user);
    }
}

int gov_group_children(cal_gov *gov, const cal_group_id *parent, gov_group_visitor visit,
                       void *user) {
    gov_view view;
    const gov_namespace *ns = gov_find_group(gov, parent, &view);
    if (!ns) return CAL_ENOTFOUND;
    visit_children(ns, &view, parent, false, visit, user);
    return 0;
}

int gov_group_below(cal_gov *gov, const cal_group_id *parent, gov_group_visitor visit, void *user) {
    gov_view view;
    const gov_namespace *ns = gov_find_group(gov, parent, &view);
    if (!ns) return CAL_ENOTFOUND;
    visit_children(ns, &view, parent, true, visit, user);
    return 0;
}

int gov_group_namespace(cal_gov *gov, const cal_group_id *group, cal_group_id *ret_namespace) {
    gov_view view;
    if (!gov_find_group(gov, group, &view)) return CAL_ENOTFOUND;
    *ret_namespace = view.namespace_id;
    return 0;
}

/* governance.md 4.3: over direct rows; the walk gives accounts in ascending order. */
int gov_group_hash_of(const gov_view *view, const cal_group_id *group,
                      const cal_account_id *without, cal_hash *ret_hash) {
    gov_meta meta = {0};
    cal_sha256_stream stream;
    gov_meta_get(view, group, &meta);
    int result = cal_sha256_begin(&stream);
    if (result) return result;
    cal_sha256_feed(&stream, cal_slice_of(group->bytes, 32));
    cal_sha256_feed(&stream, cal_slice_of(meta.admin.bytes, 32));
    cal_sha256_feed(&stream, cal_slice_of(meta.owner.bytes, 32));
    cal_sha256_feed(&stream, cal_slice_of(meta.application.bytes, 32));
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, group->bytes, NULL);
    cal_slice account, value;
    while (gov_walk_next(&walk, &account, &value)) {
        if (without && gov_id_equal(without->bytes, account.data)) continue;
        cal_sha256_feed(&stream, account);
        cal_sha256_feed(&stream, cal_slice_of(value.data, 1));
    }
    cal_sha256_end(&stream, ret_hash->bytes);
    return 0;
}

int gov_group_hash(cal_gov *gov, const cal_group_id *group, cal_hash *ret_hash) {
    gov_view view;
    return gov_find_group(gov, group, &view) ? gov_group_hash_of(&view, group, NULL, ret_hash)
                                             : CAL_ENOTFOUND;
}

/* --- contexts --- */

gov_namespace *gov_find_context(const cal_gov *gov, const cal_context_id *context,
                                gov_view *ret_view, cal_group_id *ret_group) {
    gov_namespace *ns = cal_map_get(&gov->contexts, cal_slice_of(context->bytes, 32));
    gov_key key = gov_key_of(ROW_CONTEXT_GROUP, context->bytes, NULL, NULL);
    cal_slice group;
    if (!ns || ns->retired) return NULL;
    *ret_view = gov_view_of(ns);
    if (!gov_view_get(ret_view, &key, &group)) return NULL;
    memcpy(ret_group->bytes, group.data, 32);
    return ns;
}

int gov_context_group(cal_gov *gov, const cal_context_id *context, cal_group_id *ret_group,
                      cal_group_id *ret_namespace) {
    gov_view view;
    cal_group_id group;
    if (!gov_find_context(gov, context, &view, &group)) return CAL_ENOTFOUND;
    if (ret_group) *ret_group = group;
    if (ret_namespace) *ret_namespace = view.namespace_id;
    return 0;
}

static void fill_context(const gov_view *view, const cal_group_id *group, const uint8_t context[32],
                         cal_slice value, gov_context_info *info) {
    gov_context_row row = gov_context_row_read(value);
    gov_metadata data = {0};
    gov_key name = gov_key_of(ROW_CONTEXT_DATA, group->bytes, context, NULL);
    gov_metadata_get(view, &name, &data);
    *info = (gov_context_info){.group = *group,
                               .application = row.application,
                               .blob = row.blob,
                               .name = data.name,
                               .service_name = row.service_name,
                               .source = row.source};
    memcpy(info->id.bytes, context, 32);
}

int gov_context_get(cal_gov *gov, const cal_context_id *context, gov_context_info *ret_info) {
    gov_view view;
    cal_group_id group;
    cal_slice value;
    if (!gov_find_context(gov, context, &view, &group)) return CAL_ENOTFOUND;
    gov_key key = gov_key_of(ROW_CONTEXT, group.bytes, context->bytes, NULL);
    if (!gov_view_get(&view, &key, &value)) return CAL_ENOTFOUND;
    fill_context(&view, &group, context->bytes, value, ret_info);
    return 0;
}

static void visit_contexts(const gov_view *view, const cal_group_id *group, bool deep,
                           gov_context_visitor visit, void *user) {
    gov_walk contexts = gov_walk_start(view, ROW_CONTEXT, group->bytes, NULL);
    gov_walk children = gov_walk_start(view, ROW_CHILD, group->bytes, NULL);
    cal_slice id, value;
    while (gov_walk_next(&contexts, &id, &value)) {
        gov_context_info info;
        fill_context(view, group, id.data, value, &info);
        visit(user, &info);
    }
    while (deep && gov_walk_next(&children, &id, NULL)) {
        cal_group_id child;
        memcpy(child.bytes, id.data, 32);
        visit_contexts(view, &child, deep, visit, user);
    }
}

int gov_group_contexts(cal_gov *gov, const cal_group_id *group, gov_context_visitor visit,
                       void *user) {
    gov_view view;
    if (!gov_find_group(gov, group, &view)) return CAL_ENOTFOUND;
    visit_contexts(&view, group, false, visit, user);
    return 0;
}

int gov_namespace_contexts(cal_gov *gov, const cal_group_id *namespace_id,
                           gov_context_visitor visit, void *user) {
    gov_view view;
    if (!gov_find_group(gov, namespace_id, &view)) return CAL_ENOTFOUND;
    visit_contexts(&view, namespace_id, true, visit, user);
    return 0;
}

size_t gov_namespace_contexts_from(cal_gov *gov, const cal_group_id *namespace_id,
                                   gov_context_place *place, size_t max, gov_context_visitor visit,
                                   void *user) {
    gov_view view;
    cal_slice ids, value;
    size_t count = 0;
    if (!gov_find_group(gov, namespace_id, &view)) return 0;
    gov_key after = gov_key_of(ROW_CONTEXT, place->group.bytes, place->context.bytes, NULL);
    gov_walk walk = gov_walk_start(&view, ROW_CONTEXT, NULL, NULL);
    walk.base = cal_sorted_from(view.base, cal_slice_of(after.bytes, after.len));
    if (view.changed)
        walk.changed = cal_sorted_from(view.changed, cal_slice_of(after.bytes, after.len));
    while (count < max && gov_walk_next(&walk, &ids, &value)) {
        gov_context_place at;
        gov_context_info info;
        memcpy(at.group.bytes, ids.data, 32);
        memcpy(at.context.bytes, ids.data + 32, 32);
        if (memcmp(&at, place, sizeof at) == 0) continue; /* the one before */
        fill_context(&view, &at.group, at.context.bytes, value, &info);
        *place = at;
        count++;
        visit(user, &info);
    }
    return count;
}

int gov_context_read(cal_gov *gov, const cal_context_id *context, cal_account_id *ret_account,
                     cal_error *err) {
    gov_view view;
    cal_group_id group;
    if (!gov_find_context(gov, context, &view, &group))
        return cal_fail(err, CAL_ENOTFOUND, "the context is in no group of this node");
    cal_account_id self = gov_acting(gov, &view);
    if (gov_path_of(&view, &group, &self, NULL) == GOV_PATH_NONE)
        return cal_fail(err, CAL_EDENIED, "this node is not a member of the context's group");
    if (ret_account) *ret_account = self;
    return 0;
}

int gov_context_write(cal_gov *gov, const cal_context_id *context, gov_write_grant *ret_grant,
                      cal_error *err) {
    gov_view view;
    cal_group_id group;
    gov_role role;
    gov_meta meta;
    gov_group_key key;
    gov_namespace *ns = gov_find_context(gov, context, &view, &group);
    if (!ns) return cal_fail(err, CAL_ENOTFOUND, "the context is in no group of this node");
    cal_account_id self = gov_acting(gov, &view);
    if (gov_path_of(&view, &group, &self, &role) == GOV_PATH_NONE)
        return cal_fail(err, CAL_EDENIED, "this node is not a member of the context's group");
    if (role == GOV_ROLE_READ_ONLY || role == GOV_ROLE_READ_ONLY_TEE)
        return cal_fail(err, CAL_EDENIED, "this node may only read in the context's group");
    gov_position position;
    int result = gov_position_of(gov, ns, &group, &self, &position);
    if (result == CAL_ELIMIT)
        return cal_fail(err, CAL_ESTATE, "the namespace has more heads than a write may cite");
    if (result)
        return cal_fail(err, result, "the namespace's history could not be read: %s",
                        cal_error_text(result));
    cal_group_id sealing = gov_key_group(&view, &group);
    if (!gov_key_current(&view, &sealing, &key))
        return cal_fail(err, CAL_ESTATE,
                        "this node has no key of the group yet; wait until a member delivers it");
    gov_meta_get(&view, &group, &meta);
    *ret_grant = (gov_write_grant){
        .group = group,
        .namespace_id = view.namespace_id,
        .account = self,
        .position = position,
        .app_key = meta.app_key,
        .group_key = key.key,
        .key_id = key.id,
    };
    cal_secret_wipe(&key.key);
    return 0;
}

/* --- stored --- */

enum { STORED_PAGE = 256 };

/* A page of ids from the key `from` on, which moves behind them. */
static int stored_page(cal_store *store, cal_buffer *from, cal_slice end,
                       cal_context_id ret_page[STORED_PAGE], size_t *ret_count) {
    cal_snapshot *snapshot = NULL;
    cal_cursor *cursor = NULL;
    cal_slice key;
    *ret_count = 0;
    int rc = cal_store_snapshot(store, &snapshot);
    if (rc == 0)
        rc = cal_cursor_open(snapshot, CAL_COLUMN_GROUP, cal_buffer_slice(from), end, false,
                             &cursor);
    while (rc == 0 && *ret_count < STORED_PAGE && (rc = cal_cursor_next(cursor, &key, NULL)) == 0) {
        if (key.len != 32 + 1 + 32) rc = CAL_ECORRUPT;
        if (rc == 0) memcpy(ret_page[(*ret_count)++].bytes, key.data + 33, 32);
    }
    if (rc == 0) { /* a full page: there may be more */
        cal_buffer_reset(from);
        cal_buffer_append_slice(from, key);
        rc = cal_buffer_append_u8(from, 0);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

int gov_stored_contexts(cal_store *store, const cal_group_id *namespace_id,
                        int (*visit)(void *user, const cal_context_id *context), void *user) {
    cal_context_id page[STORED_PAGE];
    size_t count = STORED_PAGE;
    cal_buffer from, end;
    cal_buffer_init(&from, 128);
    cal_buffer_init(&end, 128);
    cal_buffer_append(&from, namespace_id->bytes, 32);
    cal_buffer_append_u8(&from, ROW_CONTEXT_GROUP);
    cal_prefix_end(cal_buffer_slice(&from), &end);
    int rc = from.error ? from.error : end.error;
    while (rc == 0 && count == STORED_PAGE) {
        rc = stored_page(store, &from, cal_buffer_slice(&end), page, &count);
        for (size_t i = 0; i < count && rc == 0; i++) rc = visit(user, &page[i]);
    }
    cal_buffer_deinit(&from);
    cal_buffer_deinit(&end);
    return rc;
}

/* --- members --- */

int gov_group_members(cal_gov *gov, const cal_group_id *group, gov_member_visitor visit,
                      void *user) {
    gov_view view;
    if (!gov_find_group(gov, group, &view)) return CAL_ENOTFOUND;
    gov_walk walk = gov_walk_start(&view, ROW_MEMBER, group->bytes, NULL);
    cal_slice account, value, own;
    while (gov_walk_next(&walk, &account, &value)) {
        gov_metadata data = {0};
        gov_key name = gov_key_of(ROW_MEMBER_DATA, group->bytes, account.data, NULL);
        gov_key capabilities = gov_key_of(ROW_CAPABILITIES, group->bytes, account.data, NULL);
        gov_metadata_get(&view, &name, &data);
        gov_member_info info = {.role = (gov_role)value.data[0], .name = data.name};
        memcpy(info.account.bytes, account.data, 32);
        info.has_capabilities = gov_view_get(&view, &capabilities, &own);
        if (info.has_capabilities) info.capabilities = cal_read_u32le(own.data);
        visit(user, &info);
    }
    return 0;
}

gov_path gov_member_path(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                         gov_role *ret_role) {
    gov_view view;
    return gov_find_group(gov, group, &view) ? gov_path_of(&view, group, account, ret_role)
                                             : GOV_PATH_NONE;
}

bool gov_member_admin(cal_gov *gov, const cal_group_id *group, const cal_account_id *account) {
    gov_view view;
    return gov_find_group(gov, group, &view) && gov_admin(&view, group, account);
}

bool gov_member_can(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                    uint32_t capability) {
    gov_view view;
    return gov_find_group(gov, group, &view) && gov_allowed(&view, group, account, capability);
}

uint32_t gov_member_capabilities(cal_gov *gov, const cal_group_id *group,
                                 const cal_account_id *account) {
    gov_view view;
    return gov_find_group(gov, group, &view) ? gov_capabilities_of(&view, group, account) : 0;
}
