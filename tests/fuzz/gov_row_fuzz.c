/* Rows as they come from the disk: what passes the check of its shape can be read by everything
 * that reads rows. Input: rows of one byte key length, the key, two bytes value length, the value.
 * The same rows are tried as slots of a fold, as nodes and as index rows of the graph. */
#include <stdlib.h>
#include <string.h>

#include "calimero/error.h"
#include "gov/draft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS_MAX = 64 };

static void load(cal_sorted *rows, const uint8_t *data, size_t size) {
    size_t at = 0;
    for (int count = 0; count < ROWS_MAX && size - at >= 3; count++) {
        size_t key_len = data[at++];
        if (key_len > GOV_KEY_MAX || size - at < key_len + 2) return;
        cal_slice key = {data + at, key_len};
        at += key_len;
        size_t value_len = (size_t)(data[at] | data[at + 1] << 8);
        at += 2;
        if (size - at < value_len) return;
        cal_slice value = {data + at, value_len};
        at += value_len;
        if (!gov_row_fits(key, value)) continue;
        gov_row *row = malloc(sizeof *row + value_len);
        void *old = NULL;
        if (!row) abort();
        row->len = value_len;
        if (value_len) memcpy(row->bytes, value.data, value_len);
        if (cal_sorted_put(rows, key, row, &old)) abort();
        free(old);
    }
}

static size_t text_len(const char *text) { return text ? strlen(text) : 0; }

static size_t ask(const gov_view *view, cal_slice key, cal_slice value) {
    cal_group_id group = {{0}};
    cal_account_id account = {{0}};
    gov_metadata data = {0};
    gov_group_key group_key;
    gov_role role;
    size_t sum = 0;
    gov_key whole = {.len = key.len};
    memcpy(whole.bytes, key.data, key.len);
    if (key.len > 32) memcpy(group.bytes, key.data + 1, 32);
    if (key.len > 64) memcpy(account.bytes, key.data + 33, 32);
    sum += gov_admin(view, &group, &account) + (size_t)gov_path_of(view, &group, &account, &role);
    sum += gov_allowed(view, &group, &account, 1) + gov_last_admin(view, &group, &account);
    sum += gov_account_of_key(view, account.bytes, &account) + gov_root_epoch(view, &account, NULL);
    sum += gov_key_current(view, &group, &group_key) + gov_heads_get(view).len +
           gov_sequence_get(view);
    group = gov_key_group(view, &group);
    switch (key.data[0]) {
    case ROW_GROUP_DATA:
    case ROW_MEMBER_DATA:
    case ROW_CONTEXT_DATA:
        if (gov_metadata_get(view, &whole, &data)) sum += text_len(data.name);
        break;
    case ROW_CONTEXT: {
        gov_context_row row = gov_context_row_read(value);
        sum += text_len(row.service_name) + text_len(row.source);
        break;
    }
    default:
        break;
    }
    return sum;
}

static void check(bool condition) {
    if (!condition) abort();
}

/* A slot that fits is kept as it was, and rows follow from any set of slots. */
static void try_slot(gov_fold *fold, cal_slice key, cal_slice value) {
    gov_write write;
    if (!gov_slot_fits(key, value)) return;
    gov_slot_read(key, value, &write);
    gov_row *again = gov_slot_new(&write);
    if (!again) abort();
    check(cal_slice_equal(cal_slice_of(again->bytes, again->len), value));
    free(again);
    if (gov_fold_put(fold, &write)) gov_fold_settle(fold, &write.key);
}

static void try_node(cal_slice value) {
    gov_node node;
    cal_buffer again;
    uint64_t sequence = 0;
    uint32_t generation;
    if (gov_index_read(value, &sequence, &generation) == 0) check(sequence > 0);
    int result = gov_node_read(value, 1u << 16, &node);
    check(result == 0 || result == CAL_ECORRUPT);
    if (result) return;
    cal_buffer_init(&again, 1 << 20);
    check(gov_node_write(&node, &again) == 0);
    check(cal_slice_equal(cal_buffer_slice(&again), value));
    cal_buffer_deinit(&again);
    free(node.parents);
}

static size_t try_graph(const uint8_t *data, size_t size) {
    static const cal_group_id ns = {{1}};
    gov_fold fold, over;
    size_t at = 0, sum = 0;
    gov_fold_init(&fold, &ns, NULL);
    fold.judges = size & 1;
    gov_fold_init(&over, &ns, &fold);
    for (int count = 0; count < ROWS_MAX && size - at >= 3; count++) {
        size_t key_len = data[at++];
        if (size - at < key_len + 2) break;
        cal_slice key = {data + at, key_len};
        at += key_len;
        size_t value_len = (size_t)(data[at] | data[at + 1] << 8);
        at += 2;
        if (size - at < value_len) break;
        cal_slice value = {data + at, value_len};
        at += value_len;
        try_slot(count % 3 ? &fold : &over, key, value);
        try_node(value);
    }
    gov_view view = gov_fold_view(&over, 0);
    for (cal_sorted_node *node = cal_sorted_from(&fold.rows, (cal_slice){0}); node;
         node = node->next[0]) {
        const gov_row *row = node->value;
        sum += ask(&view, node->key, cal_slice_of(row->bytes, row->len));
    }
    gov_fold_deinit(&over);
    gov_fold_deinit(&fold);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_sorted rows;
    size_t sum = try_graph(data, size);
    cal_sorted_init(&rows);
    load(&rows, data, size);
    gov_view view = {.base = &rows};
    for (cal_sorted_node *node = cal_sorted_from(&rows, (cal_slice){0}); node;
         node = node->next[0]) {
        const gov_row *row = node->value;
        sum += ask(&view, node->key, cal_slice_of(row->bytes, row->len));
    }
    for (cal_sorted_node *node = cal_sorted_from(&rows, (cal_slice){0}); node; node = node->next[0])
        free(node->value);
    cal_sorted_deinit(&rows);
    return sum == SIZE_MAX;
}
