/* Hashes of a fold (governance.md 7.3), see fold.h. */
#include "gov/fold.h"

static gov_key key1(int kind, const void *a) {
    return gov_key_of((gov_row_kind)kind, a, NULL, NULL);
}

static void feed(cal_sha256_stream *stream, const void *bytes, size_t len) {
    cal_sha256_feed(stream, cal_slice_of(bytes, len));
}

static void hash_members(const gov_view *view, cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    uint8_t group[32];
    bool first = true;
    while (gov_walk_next(&walk, &rest, &value)) {
        if (first || memcmp(group, rest.data, 32) != 0) feed(stream, rest.data, 32);
        memcpy(group, rest.data, 32);
        first = false;
        feed(stream, rest.data + 32, 32);
        feed(stream, value.data, 1);
    }
}

static void hash_settings(const gov_view *view, cal_sha256_stream *stream) {
    gov_key admin = key1(ROW_ROOT_ADMIN, NULL), rules = key1(ROW_RULES, NULL);
    cal_slice value = {0}, rest;
    uint8_t some = gov_view_get(view, &admin, &value), len[8];
    feed(stream, &some, 1);
    if (some) feed(stream, value.data, 32);
    value = (cal_slice){0};
    gov_view_get(view, &rules, &value);
    cal_write_u64le(len, value.len);
    feed(stream, len, sizeof len);
    cal_sha256_feed(stream, value);
    gov_walk walk = gov_walk_start(view, (gov_row_kind)ROW_EXISTS, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value)) {
        gov_key parent = key1(ROW_PARENT, rest.data), visibility = key1(ROW_VISIBILITY, rest.data);
        cal_slice found;
        if (!value.data[0]) continue;
        feed(stream, rest.data, 32);
        if (gov_view_get(view, &parent, &found)) feed(stream, found.data, 32);
        if (gov_view_get(view, &visibility, &found)) feed(stream, found.data, 1);
    }
}

/* Key parts and value of every row of a kind, as they lie. */
static void hash_rows(const gov_view *view, gov_row_kind kind, size_t value_len,
                      cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, kind, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_sha256_feed(stream, rest);
        feed(stream, value.data, value_len);
    }
}

static void hash_accounts(const gov_view *view, cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_ROOT_KEY, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_account_id account;
        uint8_t key[32], epoch[4];
        if (cal_read_u32be(rest.data + 60) != 0) continue; /* once for each account */
        memcpy(account.bytes, rest.data, 32);
        cal_write_u32le(epoch, gov_root_epoch(view, &account, key));
        feed(stream, account.bytes, 32);
        feed(stream, epoch, sizeof epoch);
        feed(stream, key, 32);
    }
}

static void hash_devices(const gov_view *view, cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_BINDING, NULL, NULL);
    cal_slice device, value;
    while (gov_walk_next(&walk, &device, &value)) {
        gov_binding binding = gov_binding_read(value);
        uint8_t epoch[4];
        if (!gov_device_live(view, device, &binding)) continue;
        cal_write_u32le(epoch, binding.device_epoch);
        feed(stream, device.data, 32);
        feed(stream, binding.account.bytes, 32);
        feed(stream, binding.sign_key, 32);
        feed(stream, binding.kem_key, 32);
        feed(stream, epoch, sizeof epoch);
    }
    hash_rows(view, ROW_REVOKED, 0, stream);
}

/* The admins that GroupCreated named; the founder is none of them. */
static void hash_group_admins(const gov_fold *fold, const gov_view *view,
                              cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_META, NULL, NULL);
    cal_slice group, value;
    while (gov_walk_next(&walk, &group, &value)) {
        gov_key key = key1(ROW_META, group.data);
        gov_write slot;
        if (!gov_fold_slot(fold, &key, &slot)) continue;
        feed(stream, group.data, 32);
        feed(stream, value.data, 32);
    }
}

int gov_fold_hash(const gov_fold *fold, cal_hash *ret_hash) {
    gov_view view = gov_fold_view(fold, 0);
    cal_sha256_stream stream;
    int result = cal_sha256_begin(&stream);
    if (result) return result;
    hash_members(&view, &stream);
    hash_settings(&view, &stream);
    hash_rows(&view, ROW_DEFAULTS, 4, &stream);
    hash_rows(&view, ROW_CAPABILITIES, 4, &stream);
    hash_accounts(&view, &stream);
    hash_devices(&view, &stream);
    hash_group_admins(fold, &view, &stream);
    cal_sha256_end(&stream, ret_hash->bytes);
    return 0;
}

void gov_scope_root(const cal_hash *entities, const cal_hash *acl, const cal_hash *governance,
                    cal_hash *ret_root) {
    const cal_slice parts[] = {{entities->bytes, 32}, {acl->bytes, 32}, {governance->bytes, 32}};
    cal_sha256_parts(parts, 3, ret_root->bytes);
}
