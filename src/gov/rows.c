/* Rows of a namespace and views over them, see internal.h. Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "gov/internal.h"

gov_row gov_row_absent;

gov_key gov_key_of(gov_row_kind kind, const void *a, const void *b, const void *c) {
    gov_key key = {.bytes = {(uint8_t)kind}, .len = 1};
    const void *const parts[] = {a, b, c};
    for (size_t i = 0; i < 3 && parts[i]; i++, key.len += 32)
        memcpy(key.bytes + key.len, parts[i], 32);
    return key;
}

/* --- shapes --- */

enum {
    META_SIZE = 136,
    MEMBER_SIZE = 3,
    BINDING_SIZE = 104,
    KEY_SIZE = GOV_KEY_ROW_SIZE,
    SEALED_SIZE = 72,
    DATA_MIN = 8 + 32 + 1
};

/* A text with its NUL: u32 length that counts the NUL, bytes. */
static bool take_ctext(cal_borsh *in, const char **ret_text) {
    cal_slice text = cal_borsh_bytes(in, UINT32_MAX);
    if (in->error || text.len == 0 || text.data[text.len - 1] != 0) {
        cal_borsh_fail(in, CAL_EDECODE);
        return false;
    }
    *ret_text = (const char *)text.data;
    return true;
}

static bool data_fits(cal_slice value) {
    cal_borsh in = cal_borsh_read(value);
    const char *name;
    cal_borsh_take(&in, 8 + 32);
    if (cal_borsh_bool(&in)) take_ctext(&in, &name);
    uint32_t count = cal_borsh_count(&in, GOV_METADATA_LIST_MAX, 8);
    for (uint32_t i = 0; i < 2 * count; i++) cal_borsh_bytes(&in, GOV_METADATA_TEXT_MAX);
    return cal_borsh_end(&in) == 0;
}

static bool context_fits(cal_slice value) {
    cal_borsh in = cal_borsh_read(value);
    const char *text;
    cal_borsh_take(&in, 64);
    if (cal_borsh_bool(&in)) take_ctext(&in, &text);
    take_ctext(&in, &text);
    return cal_borsh_end(&in) == 0;
}

static bool member_fits(cal_slice value) {
    return value.len == MEMBER_SIZE && value.data[0] < GOV_ROLE_COUNT;
}
static bool visibility_fits(cal_slice value) { return value.len == 1 && value.data[0] <= 1; }
static bool heads_fit(cal_slice value) {
    return value.len >= 8 && (value.len - 8) % 32 == 0 && value.len <= 8 + GOV_HEADS_MAX * 32;
}
static bool window_fits(cal_slice value) { return value.len >= 8 && value.len % 8 == 0; }
static bool sealed_fits(cal_slice value) { /* the number came later */
    return value.len == SEALED_SIZE || value.len == SEALED_SIZE + 8;
}
static bool epoch_fits(cal_slice value) {
    return value.len == GOV_EPOCH_ROW_SIZE || value.len == 8;
}
static bool any_fits(cal_slice value) { return value.len < CAL_STORE_VALUE_MAX; }

typedef struct {
    gov_row_kind kind;
    size_t parts; /* ids in the key */
    size_t size;  /* of the value, when `fits` is NULL */
    bool (*fits)(cal_slice value);
} row_shape;

static const row_shape shapes[] = {
    {ROW_META, 1, META_SIZE, NULL},
    {ROW_MEMBER, 2, 0, member_fits},
    {ROW_CAPABILITIES, 2, 4, NULL},
    {ROW_DEFAULTS, 1, 4, NULL},
    {ROW_VISIBILITY, 1, 0, visibility_fits},
    {ROW_PARENT, 1, 32, NULL},
    {ROW_CHILD, 2, 0, NULL},
    {ROW_CONTEXT, 2, 0, context_fits},
    {ROW_CONTEXT_GROUP, 1, 32, NULL},
    {ROW_GROUP_DATA, 1, 0, data_fits},
    {ROW_MEMBER_DATA, 2, 0, data_fits},
    {ROW_CONTEXT_DATA, 2, 0, data_fits},
    {ROW_BINDING, 1, BINDING_SIZE, NULL},
    {ROW_ROOT_KEY, 2, 32, NULL},
    {ROW_REVOKED, 1, 0, NULL},
    {ROW_ENDORSER, 2, 0, NULL},
    {ROW_KEY, 2, KEY_SIZE, NULL},
    {ROW_KEY_DOUBT, 2, 32, NULL},
    {ROW_KEY_EPOCH, 2, 0, epoch_fits},
    {ROW_KEY_CLOSED, 1, 32, NULL},
    {ROW_JOINING, 0, 8, NULL},
    {ROW_HEADS, 0, 0, heads_fit},
    {ROW_NONCES, 2, 0, window_fits},
    {ROW_CONSUMED, 3, 0, NULL},
    {ROW_REENTRY, 2, 1, NULL},
    {ROW_ROTATION_DUE, 2, 0, NULL},
    {ROW_DEVICE_GONE, 2, 8, NULL},
    {ROW_POLICY, 1, 0, any_fits},
    {ROW_MIGRATION, 1, 0, any_fits},
    {ROW_CONTEXT_MASK, 3, 1, NULL},
    {ROW_ROOT_ADMIN, 0, 32, NULL},
    {ROW_SEALED, 2, 0, sealed_fits},
};

bool gov_row_fits(cal_slice key, cal_slice value) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const row_shape *shape = &shapes[i];
        if (key.len == 0 || key.data[0] != (uint8_t)shape->kind) continue;
        return key.len == 1 + 32 * shape->parts &&
               (shape->fits ? shape->fits(value) : value.len == shape->size);
    }
    return false;
}

/* --- views --- */

static const gov_row *find(const cal_sorted *map, cal_slice key) {
    return map ? cal_sorted_get(map, key) : NULL;
}

bool gov_view_get(const gov_view *view, const gov_key *key, cal_slice *ret_value) {
    cal_slice bytes = cal_slice_of(key->bytes, key->len);
    const gov_row *row = find(view->changed, bytes);
    if (!row) row = find(view->base, bytes);
    if (!row || row == &gov_row_absent) return false;
    if (ret_value) *ret_value = cal_slice_of(row->bytes, row->len);
    return true;
}

gov_walk gov_walk_start(const gov_view *view, gov_row_kind kind, const void *a, const void *b) {
    gov_walk walk = {.prefix = gov_key_of(kind, a, b, NULL)};
    cal_slice prefix = cal_slice_of(walk.prefix.bytes, walk.prefix.len);
    walk.base = cal_sorted_from(view->base, prefix);
    walk.changed = view->changed ? cal_sorted_from(view->changed, prefix) : NULL;
    return walk;
}

static bool has_prefix(const cal_sorted_node *node, const gov_key *prefix) {
    return node && node->key.len >= prefix->len &&
           memcmp(node->key.data, prefix->bytes, prefix->len) == 0;
}

bool gov_walk_next(gov_walk *walk, cal_slice *ret_rest, cal_slice *ret_value) {
    for (;;) {
        bool base = has_prefix(walk->base, &walk->prefix),
             changed = has_prefix(walk->changed, &walk->prefix);
        if (!base && !changed) return false;
        int order = !base      ? 1
                    : !changed ? -1
                               : cal_slice_compare(walk->base->key, walk->changed->key);
        const cal_sorted_node *node =
            order < 0 ? walk->base : walk->changed; /* the change's row hides the other */
        if (order <= 0) walk->base = walk->base->next[0];
        if (order >= 0) walk->changed = walk->changed->next[0];
        const gov_row *row = node->value;
        if (row == &gov_row_absent) continue;
        *ret_rest =
            cal_slice_of(node->key.data + walk->prefix.len, node->key.len - walk->prefix.len);
        if (ret_value) *ret_value = cal_slice_of(row->bytes, row->len);
        return true;
    }
}

uint64_t gov_walk_count(const gov_view *view, gov_row_kind kind, const void *a) {
    gov_walk walk = gov_walk_start(view, kind, a, NULL);
    cal_slice rest;
    uint64_t count = 0;
    while (gov_walk_next(&walk, &rest, NULL)) count++;
    return count;
}

/* --- typed rows, reading --- */

bool gov_meta_get(const gov_view *view, const cal_group_id *group, gov_meta *ret_meta) {
    gov_key key = gov_key_of(ROW_META, group->bytes, NULL, NULL);
    cal_slice value;
    if (!gov_view_get(view, &key, &value)) return false;
    assert(value.len == META_SIZE);
    if (!ret_meta) return true;
    memcpy(ret_meta->admin.bytes, value.data, 32);
    memcpy(ret_meta->owner.bytes, value.data + 32, 32);
    memcpy(ret_meta->application.bytes, value.data + 64, 32);
    memcpy(ret_meta->app_key.bytes, value.data + 96, 32);
    ret_meta->created_at_s = cal_read_u64le(value.data + 128);
    return true;
}

bool gov_member_get(const gov_view *view, const cal_group_id *group, const cal_account_id *account,
                    gov_member *ret_member) {
    gov_key key = gov_key_of(ROW_MEMBER, group->bytes, account->bytes, NULL);
    cal_slice value;
    if (!gov_view_get(view, &key, &value)) return false;
    assert(value.len == MEMBER_SIZE);
    if (ret_member)
        *ret_member = (gov_member){value.data[0], value.data[1] != 0, value.data[2] != 0};
    return true;
}

gov_binding gov_binding_read(cal_slice value) {
    gov_binding binding;
    assert(value.len == BINDING_SIZE);
    memcpy(binding.account.bytes, value.data, 32);
    memcpy(binding.sign_key, value.data + 32, 32);
    memcpy(binding.kem_key, value.data + 64, 32);
    binding.key_epoch = cal_read_u32le(value.data + 96);
    binding.device_epoch = cal_read_u32le(value.data + 100);
    return binding;
}

bool gov_binding_get(const gov_view *view, const cal_device_id *device, gov_binding *ret_binding) {
    gov_key key = gov_key_of(ROW_BINDING, device->bytes, NULL, NULL);
    cal_slice value;
    if (!gov_view_get(view, &key, &value)) return false;
    *ret_binding = gov_binding_read(value);
    return true;
}

bool gov_metadata_get(const gov_view *view, const gov_key *key, gov_metadata *ret_metadata) {
    cal_slice value;
    if (!gov_view_get(view, key, &value)) return false;
    assert(value.len >= DATA_MIN);
    cal_borsh in = cal_borsh_read(value);
    *ret_metadata = (gov_metadata){.updated_at_ms = cal_borsh_u64(&in)};
    cal_borsh_fixed(&in, ret_metadata->updated_by, 32);
    if (cal_borsh_bool(&in)) take_ctext(&in, &ret_metadata->name);
    return true;
}

gov_context_row gov_context_row_read(cal_slice value) {
    gov_context_row row = {.source = ""};
    cal_borsh in = cal_borsh_read(value);
    cal_borsh_fixed(&in, row.application.bytes, 32);
    cal_borsh_fixed(&in, row.blob.bytes, 32);
    if (cal_borsh_bool(&in)) take_ctext(&in, &row.service_name);
    take_ctext(&in, &row.source);
    return row;
}

bool gov_context_row_get(const gov_view *view, const cal_group_id *group,
                         const cal_context_id *context, gov_context_row *ret_row) {
    gov_key key = gov_key_of(ROW_CONTEXT, group->bytes, context->bytes, NULL);
    cal_slice value;
    if (!gov_view_get(view, &key, &value)) return false;
    if (ret_row) *ret_row = gov_context_row_read(value);
    return true;
}

static cal_slice heads_row(const gov_view *view) {
    gov_key key = gov_key_of(ROW_HEADS, NULL, NULL, NULL);
    cal_slice value = {0};
    gov_view_get(view, &key, &value);
    return value;
}

uint64_t gov_sequence_get(const gov_view *view) {
    cal_slice row = heads_row(view);
    return row.len ? cal_read_u64le(row.data) : 0;
}

cal_slice gov_heads_get(const gov_view *view) {
    cal_slice row = heads_row(view);
    return row.len ? cal_slice_of(row.data + 8, row.len - 8) : row;
}

/* --- typed rows, writing --- */

void gov_put_meta(gov_change *change, const cal_group_id *group, const gov_meta *meta) {
    uint8_t value[META_SIZE];
    memcpy(value, meta->admin.bytes, 32);
    memcpy(value + 32, meta->owner.bytes, 32);
    memcpy(value + 64, meta->application.bytes, 32);
    memcpy(value + 96, meta->app_key.bytes, 32);
    cal_write_u64le(value + 128, meta->created_at_s);
    gov_change_put(change, gov_key_of(ROW_META, group->bytes, NULL, NULL),
                   cal_slice_of(value, sizeof value));
}

void gov_put_member(gov_change *change, const cal_group_id *group, const cal_account_id *account,
                    const gov_member *member) {
    uint8_t value[MEMBER_SIZE] = {member->role, member->follow_contexts, member->follow_subgroups};
    gov_change_put(change, gov_key_of(ROW_MEMBER, group->bytes, account->bytes, NULL),
                   cal_slice_of(value, sizeof value));
}

void gov_put_u32(gov_change *change, gov_key key, uint32_t value) {
    uint8_t bytes[4];
    cal_write_u32le(bytes, value);
    gov_change_put(change, key, cal_slice_of(bytes, sizeof bytes));
}

void gov_put_binding(gov_change *change, const cal_device_id *device, const gov_binding *binding) {
    uint8_t value[BINDING_SIZE];
    memcpy(value, binding->account.bytes, 32);
    memcpy(value + 32, binding->sign_key, 32);
    memcpy(value + 64, binding->kem_key, 32);
    cal_write_u32le(value + 96, binding->key_epoch);
    cal_write_u32le(value + 100, binding->device_epoch);
    gov_change_put(change, gov_key_of(ROW_BINDING, device->bytes, NULL, NULL),
                   cal_slice_of(value, sizeof value));
}

static void put_ctext(cal_buffer *out, cal_slice text) {
    cal_buffer_append_u32le(out, (uint32_t)text.len + 1);
    cal_buffer_append_slice(out, text);
    cal_buffer_append_u8(out, 0);
}

/* Puts what was encoded, or notes why it could not be. */
static void put_encoded(gov_change *change, gov_key key, cal_buffer *value) {
    if (!value->error)
        gov_change_put(change, key, cal_buffer_slice(value));
    else if (!change->error)
        change->error = value->error;
    cal_buffer_deinit(value);
}

void gov_put_metadata(gov_change *change, gov_key key, gov_optional name, const gov_entries *data,
                      const uint8_t by[32]) {
    cal_buffer value;
    cal_buffer_init(&value, CAL_STORE_VALUE_MAX);
    cal_buffer_append_u64le(&value, gov_now_ms(change->gov));
    cal_buffer_append(&value, by, 32);
    cal_borsh_put_bool(&value, name.present);
    if (name.present) put_ctext(&value, name.bytes);
    cal_buffer_append_u32le(&value, data ? data->count : 0);
    for (uint32_t i = 0; data && i < data->count; i++) {
        cal_borsh_put_bytes(&value, data->items[i].key);
        cal_borsh_put_bytes(&value, data->items[i].value);
    }
    put_encoded(change, key, &value);
}

void gov_put_context(gov_change *change, const cal_group_id *group, const gov_group_op *op) {
    cal_buffer value;
    cal_buffer_init(&value, GOV_SEALED_OP_MAX);
    cal_buffer_append(&value, op->application.bytes, 32);
    cal_buffer_append(&value, op->blob.bytes, 32);
    cal_borsh_put_bool(&value, op->service_name.present);
    if (op->service_name.present) put_ctext(&value, op->service_name.bytes);
    put_ctext(&value, op->source);
    put_encoded(change, gov_key_of(ROW_CONTEXT, group->bytes, op->context.bytes, NULL), &value);
    gov_change_put(change, gov_key_of(ROW_CONTEXT_GROUP, op->context.bytes, NULL, NULL),
                   cal_slice_of(group->bytes, 32));
}

void gov_put_heads(gov_change *change, uint64_t sequence, cal_slice heads) {
    cal_buffer value;
    cal_buffer_init(&value, 8 + GOV_HEADS_MAX * 32);
    cal_buffer_append_u64le(&value, sequence);
    cal_buffer_append_slice(&value, heads);
    put_encoded(change, gov_key_of(ROW_HEADS, NULL, NULL, NULL), &value);
}
