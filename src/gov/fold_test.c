/* The fold against scope.json: streaming states forwards and backwards, and questions at cuts of a
 * small DAG. */
#include "gov/fold.h"

#include "golden.h"

enum { OPS_MAX = 32 };

/* Recorded operations, decoded. Their signers are unattributed, as where they were recorded. */
typedef struct {
    cal_arena arena;
    size_t count;
    gov_fold_op ops[OPS_MAX];
    gov_signed_op signed_ops[OPS_MAX];
    gov_root_op roots[OPS_MAX];
    gov_group_op groups[OPS_MAX];
} recorded;

static void load(recorded *r, yyjson_val *list) {
    memset(r, 0, sizeof *r);
    cal_arena_init(&r->arena, 1 << 20);
    assert_true(yyjson_arr_size(list) <= OPS_MAX);
    for (; r->count < yyjson_arr_size(list); r->count++) {
        yyjson_val *item = yyjson_arr_get(list, r->count);
        size_t i = r->count;
        gov_fold_op *op = &r->ops[i];
        cal_slice bytes = golden_hex(item, "op"), wrapped = golden_hex(item, "signed_namespace_op");
        cal_slice kept = cal_slice_of(cal_arena_copy(&r->arena, bytes.data, bytes.len), bytes.len);
        golden_bytes(item, "id", op->id.bytes, 32);
        if (strcmp(yyjson_get_str(yyjson_obj_get(item, "plane")), "root") == 0) {
            assert_int_equal(gov_root_op_decode(kept, &r->arena, &r->roots[i]), 0);
            op->root = &r->roots[i];
        } else {
            assert_int_equal(gov_group_op_decode(kept, &r->arena, &r->groups[i]), 0);
            op->group_op = &r->groups[i];
            golden_bytes(item, "group_id", op->group.bytes, 32);
        }
        const uint8_t *copy = cal_arena_copy(&r->arena, wrapped.data, wrapped.len);
        assert_int_equal(
            gov_signed_op_decode(cal_slice_of(copy, wrapped.len), &r->arena, &r->signed_ops[i]), 0);
        golden_free(bytes);
        golden_free(wrapped);
    }
}

static void check_state(const gov_fold *fold, yyjson_val *in, yyjson_val *state) {
    cal_hash governance, acl, entities, root;
    assert_int_equal(gov_fold_hash(fold, &governance), 0);
    golden_equal(cal_slice_of(governance.bytes, 32), state, "governance_hash");
    golden_bytes(state, "acl_hash", acl.bytes, 32);
    golden_bytes(in, "entities_root", entities.bytes, 32);
    gov_scope_root(&entities, &acl, &governance, &root);
    golden_equal(cal_slice_of(root.bytes, 32), state, "scope_root");
}

/* The first `count` operations, or all from the last to the first. */
static void fold_ops(gov_fold *fold, const recorded *r, size_t count, bool backwards,
                     const cal_group_id *ns) {
    gov_fold_init(fold, ns, NULL);
    for (size_t i = 0; i < count; i++) gov_fold_add(fold, &r->ops[backwards ? count - 1 - i : i]);
    assert_int_equal(gov_fold_finish(fold, NULL), 0);
}

static void test_streaming_states(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("scope.json");
    yyjson_val *item;
    size_t seen = 0;
    cal_group_id ns;
    memset(ns.bytes, 0x20, 32);
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "scope/", &index));) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *after = yyjson_obj_get(item, "after");
        if (strstr(golden_name(item), "acl_"))
            continue; /* writers of objects are the storage plane's */
        static recorded r;
        gov_fold fold;
        load(&r, yyjson_obj_get(in, "ops"));
        for (size_t i = 0; i < yyjson_arr_size(after); i++) {
            fold_ops(&fold, &r, i + 1, false, &ns);
            check_state(&fold, in, yyjson_arr_get(after, i));
            gov_fold_deinit(&fold);
        }
        for (int backwards = 0; backwards < 2; backwards++) {
            fold_ops(&fold, &r, r.count, backwards, &ns);
            check_state(&fold, in, yyjson_obj_get(item, "state"));
            gov_fold_deinit(&fold);
        }
        cal_arena_deinit(&r.arena);
        seen++;
    }
    assert_int_equal(seen, 7);
    yyjson_doc_free(doc);
}

static void test_scope_root(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("scope.json");
    yyjson_val *item = golden_find(yyjson_doc_get_root(doc), "scope_root/123"),
               *in = yyjson_obj_get(item, "inputs");
    cal_hash entities, acl, governance, root;
    golden_bytes(in, "entities_root", entities.bytes, 32);
    golden_bytes(in, "acl_hash", acl.bytes, 32);
    golden_bytes(in, "governance_hash", governance.bytes, 32);
    gov_scope_root(&entities, &acl, &governance, &root);
    golden_equal(cal_slice_of(root.bytes, 32), item, "hash");
    yyjson_doc_free(doc);
}

/* --- cuts --- */

static void check_answers(const gov_view *view, yyjson_val *accounts, yyjson_val *answers,
                          const char *cut) {
    for (size_t i = 0; i < yyjson_arr_size(answers); i++) {
        yyjson_val *answer = yyjson_arr_get(answers, i), *path = yyjson_obj_get(answer, "path");
        cal_group_id group;
        cal_account_id account;
        gov_role role = GOV_ROLE_COUNT;
        golden_bytes(answer, "group", group.bytes, 32);
        golden_bytes(accounts, yyjson_get_str(yyjson_obj_get(answer, "account")), account.bytes,
                     32);
        gov_path found = gov_path_of(view, &group, &account, &role);
        yyjson_val *direct = yyjson_obj_get(path, "direct");
        gov_path expected = direct                ? GOV_PATH_DIRECT
                            : yyjson_is_obj(path) ? GOV_PATH_INHERITED
                                                  : GOV_PATH_NONE;
        static const char *const roles[] = {"Admin", "Member", "ReadOnly", "ReadOnlyTee", "none"};
        if (found != expected || (direct && strcmp(roles[role], yyjson_get_str(direct)) != 0) ||
            gov_admin(view, &group, &account) !=
                yyjson_get_bool(yyjson_obj_get(answer, "authorized_admin")) ||
            gov_capabilities_of(view, &group, &account) !=
                yyjson_get_uint(yyjson_obj_get(answer, "capability")))
            fail_msg("cut %s, answer %zu: path %d role %s admin %d capability %u", cut, i, found,
                     roles[role], gov_admin(view, &group, &account),
                     gov_capabilities_of(view, &group, &account));
    }
}

static void check_devices(const gov_view *view, yyjson_val *devices) {
    gov_walk walk = gov_walk_start(view, ROW_BINDING, NULL, NULL);
    cal_slice device, value;
    size_t live = 0;
    while (gov_walk_next(&walk, &device, &value)) {
        gov_binding binding = gov_binding_read(value);
        if (!gov_device_live(view, device, &binding)) continue;
        yyjson_val *expected = yyjson_arr_get(devices, live++);
        golden_equal(device, expected, "device");
        golden_equal(cal_slice_of(binding.account.bytes, 32), expected, "account");
        golden_equal(cal_slice_of(binding.sign_key, 32), expected, "sign_pk");
    }
    assert_int_equal(live, yyjson_arr_size(devices));
}

static size_t op_of(const recorded *r, const cal_hash *id) {
    size_t at = 0;
    while (at < r->count && memcmp(&r->ops[at].id, id, sizeof *id) != 0) at++;
    return at;
}

/* What the heads are or descend from; the log has parents before children. false: one of them is
 * not in it. */
static bool mark_ancestors(const recorded *r, const cal_hash *heads, size_t count,
                           bool *ret_marked) {
    memset(ret_marked, 0, r->count * sizeof *ret_marked);
    for (size_t i = 0; i < count; i++) {
        size_t at = op_of(r, &heads[i]);
        if (at == r->count) return false;
        ret_marked[at] = true;
    }
    for (size_t i = r->count; i-- > 0;)
        for (uint32_t k = 0; ret_marked[i] && k < r->signed_ops[i].parents.count; k++) {
            size_t parent = op_of(r, &r->signed_ops[i].parents.items[k]);
            if (parent < r->count) ret_marked[parent] = true;
        }
    return true;
}

/* The longest path from an operation without parents. */
static uint32_t generation_of(const recorded *r, size_t at) {
    uint32_t generation = 0;
    for (uint32_t k = 0; k < r->signed_ops[at].parents.count; k++) {
        size_t parent = op_of(r, &r->signed_ops[at].parents.items[k]);
        uint32_t above = parent < r->count ? generation_of(r, parent) + 1 : 0;
        if (above > generation) generation = above;
    }
    return generation;
}

static void check_cut(const recorded *r, yyjson_val *accounts, yyjson_val *cut) {
    yyjson_val *parents = yyjson_obj_get(cut, "parents");
    cal_hash heads[8];
    bool marked[OPS_MAX];
    size_t head_count = yyjson_arr_size(parents);
    cal_group_id ns;
    cal_account_id founder;
    assert_true(head_count <= 8);
    for (size_t i = 0; i < head_count; i++) {
        cal_slice id = golden_hex_value(yyjson_arr_get(parents, i));
        memcpy(heads[i].bytes, id.data, 32);
        golden_free(id);
    }
    memset(ns.bytes, 0x20, 32);
    golden_bytes(accounts, "a1", founder.bytes, 32);
    bool complete = mark_ancestors(r, heads, head_count, marked);
    assert_int_equal(complete, yyjson_get_bool(yyjson_obj_get(cut, "complete")));
    for (int known = 0; known < 2 && complete; known++) { /* without and with what live rows add */
        gov_fold fold;
        gov_fold_init(&fold, &ns, NULL);
        for (size_t i = 0; i < r->count; i++) {
            gov_fold_op op = r->ops[i];
            op.generation = generation_of(r, i);
            if (marked[i]) gov_fold_add(&fold, &op);
        }
        assert_int_equal(gov_fold_finish(&fold, known ? &founder : NULL), 0);
        gov_view view = gov_fold_view(&fold, known ? 4 : 0);
        check_answers(&view, accounts,
                      yyjson_obj_get(cut, known ? "members_base4_root_a1" : "members_base0"),
                      yyjson_get_str(yyjson_obj_get(cut, "cut")));
        check_devices(&view, yyjson_obj_get(cut, "devices"));
        gov_fold_deinit(&fold);
    }
}

static void test_cuts(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("scope.json");
    yyjson_val *item = golden_find(yyjson_doc_get_root(doc), "cut/small_dag"),
               *in = yyjson_obj_get(item, "inputs");
    static recorded r;
    load(&r, yyjson_obj_get(in, "log"));
    yyjson_val *cuts = yyjson_obj_get(item, "cuts");
    assert_int_equal(yyjson_arr_size(cuts), 11);
    for (size_t i = 0; i < yyjson_arr_size(cuts); i++)
        check_cut(&r, yyjson_obj_get(in, "accounts"), yyjson_arr_get(cuts, i));
    cal_arena_deinit(&r.arena);
    yyjson_doc_free(doc);
}

/* --- the group's state hash, over rows laid out by hand --- */

static void put(cal_sorted *rows, gov_key key, const void *value, size_t len) {
    gov_row *row = malloc(sizeof *row + len);
    assert_non_null(row);
    row->len = len;
    memcpy(row->bytes, value, len);
    assert_int_equal(cal_sorted_put(rows, cal_slice_of(key.bytes, key.len), row, NULL), 0);
}

static void test_group_state_hash(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("scope.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0;
         (item = golden_next(yyjson_doc_get_root(doc), "group_state_hash/", &index)); seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *members = yyjson_obj_get(in, "members");
        cal_sorted rows;
        cal_group_id group;
        cal_account_id removed;
        cal_hash hash;
        uint8_t meta[136] = {0};
        cal_sorted_init(&rows);
        golden_bytes(in, "group_id", group.bytes, 32);
        golden_bytes(in, "removed", removed.bytes, 32);
        golden_bytes(in, "admin", meta, 32);
        golden_bytes(in, "owner", meta + 32, 32);
        golden_bytes(in, "target_application_id", meta + 64, 32);
        put(&rows, gov_key_of(ROW_META, group.bytes, NULL, NULL), meta, sizeof meta);
        for (size_t i = 0; i < yyjson_arr_size(members); i++) {
            cal_slice account = golden_hex_value(yyjson_arr_get(yyjson_arr_get(members, i), 0));
            const char *role = yyjson_get_str(yyjson_arr_get(yyjson_arr_get(members, i), 1));
            uint8_t value[3] = {strcmp(role, "Admin") == 0    ? 0
                                : strcmp(role, "Member") == 0 ? 1
                                                              : 2,
                                1, 0};
            put(&rows, gov_key_of(ROW_MEMBER, group.bytes, account.data, NULL), value,
                sizeof value);
            golden_free(account);
        }
        gov_view view = {.base = &rows, .namespace_id = group};
        assert_int_equal(gov_group_hash_of(&view, &group, NULL, &hash), 0);
        golden_equal(cal_slice_of(hash.bytes, 32), item, "hash");
        assert_int_equal(gov_group_hash_of(&view, &group, &removed, &hash), 0);
        golden_equal(cal_slice_of(hash.bytes, 32), item, "hash_after_remove");
        for (cal_sorted_node *node = cal_sorted_from(&rows, (cal_slice){0}); node;
             node = node->next[0])
            free(node->value);
        cal_sorted_deinit(&rows);
    }
    assert_int_equal(seen, 3);
    yyjson_doc_free(doc);
}

/* T14: forged handoffs neither displace nor freeze an account's rotation. */
static void test_forged_handoffs(void **state) {
    (void)state;
    cal_secret root = {{1}}, next = {{2}};
    gov_credential credential = {.genesis = {.version = GOV_GENESIS_VERSION}};
    cal_group_id ns = {{3}};
    cal_sign_public_key(&root, credential.genesis.root_key);
    gov_cert *cert = &credential.cert;
    gov_account_id(&credential.genesis, &cert->account);
    gov_cert_sign(cert, &root);
    gov_handoff real = {.account = cert->account};
    cal_sign_public_key(&next, real.new_root_key);
    gov_handoff_sign(&real, &root);
    gov_root_op genesis = {
        .kind = GOV_NAMESPACE_CREATED, .account = cert->account, .credential = credential};
    gov_fold fold;
    gov_fold_init(&fold, &ns, NULL);
    gov_fold_add(&fold, &(gov_fold_op){.id = {{1}}, .root = &genesis});
    gov_group_op rotate = {.kind = GOV_ACCOUNT_KEYS_ROTATED, .handoff = real};
    cal_account_id stranger = {{9}};
    gov_fold_add(&fold, &(gov_fold_op){.id = {{2}}, .group_op = &rotate, .author = &cert->account});
    for (uint8_t i = 0; i < 20;
         i++) { /* low keys would push the real one out, if strangers could add them */
        gov_group_op forged = {.kind = GOV_ACCOUNT_KEYS_ROTATED,
                               .handoff = {.account = cert->account}};
        forged.handoff.new_root_key[31] = i;
        gov_fold_add(&fold, &(gov_fold_op){.id = {{3, i}},
                                           .group_op = &forged,
                                           .author = i % 2 ? &stranger : NULL});
    }
    assert_int_equal(gov_fold_finish(&fold, NULL), 0);
    gov_view view = gov_fold_view(&fold, 0);
    uint8_t key[32];
    assert_int_equal(gov_root_epoch(&view, &cert->account, key), 1);
    assert_memory_equal(key, real.new_root_key, 32);
    gov_fold_deinit(&fold);
}

enum { HANDOFFS = 6 };

static gov_handoff handed_on(const cal_account_id *account, uint32_t epoch, uint8_t from,
                             uint8_t to) {
    gov_handoff handoff = {.account = *account, .from_epoch = epoch};
    cal_secret outgoing = {{from}}, incoming = {{to}};
    cal_sign_public_key(&incoming, handoff.new_root_key);
    gov_handoff_sign(&handoff, &outgoing);
    return handoff;
}

/* At each epoch the lowest of those given that the key before has signed. */
static void check_chain(const gov_fold *fold, const gov_handoff *handoffs, unsigned given,
                        const gov_genesis *genesis) {
    gov_view view = gov_fold_view(fold, 0);
    uint8_t key[32], found[32] = {0};
    uint32_t epoch = 0;
    memcpy(key, genesis->root_key, 32);
    for (;; epoch++) {
        const gov_handoff *best = NULL;
        for (size_t i = 0; i < HANDOFFS; i++) {
            const gov_handoff *h = &handoffs[i];
            if (!(given >> i & 1) || h->from_epoch != epoch || !gov_handoff_verify(h, key, NULL))
                continue;
            if (!best || memcmp(h->new_root_key, best->new_root_key, 32) < 0) best = h;
        }
        if (!best) break;
        memcpy(key, best->new_root_key, 32);
    }
    assert_int_equal(gov_root_epoch(&view, &handoffs[0].account, found), epoch);
    assert_memory_equal(found, key, 32);
    assert_int_equal(gov_walk_count(&view, ROW_ROOT_KEY, handoffs[0].account.bytes), epoch + 1);
}

/* Over the fold, as for a change that is dropped: the rest, beginning anywhere. */
static void check_over(const gov_fold *fold, const gov_handoff *handoffs, unsigned first,
                       const gov_genesis *genesis) {
    for (unsigned from = 0; from < 2 * HANDOFFS; from++) {
        unsigned given = first;
        gov_fold over;
        gov_fold_init(&over, &fold->namespace_id, fold);
        for (unsigned i = 0; i < HANDOFFS; i++) {
            unsigned at = from < HANDOFFS ? (from + i) % HANDOFFS : (from - i) % HANDOFFS;
            gov_group_op op = {.kind = GOV_ACCOUNT_KEYS_ROTATED, .handoff = handoffs[at]};
            if (given >> at & 1) continue;
            given |= 1u << at;
            gov_fold_add(&over, &(gov_fold_op){.id = {{(uint8_t)at}},
                                               .group_op = &op,
                                               .author = &op.handoff.account});
            check_chain(&over, handoffs, given, genesis);
        }
        gov_fold_deinit(&over);
    }
}

/* Over the fold, as for a cut that does not have them: one is taken away. */
static void check_without(const gov_fold *fold, const gov_handoff *handoffs, unsigned first,
                          const gov_genesis *genesis) {
    cal_sorted_node *node = cal_sorted_from(&fold->slots, (cal_slice){0});
    for (; node; node = node->next[0]) {
        gov_key key = {.len = node->key.len};
        unsigned left = first;
        gov_fold over;
        if (node->key.data[0] != SLOT_HANDOFF) continue;
        memcpy(key.bytes, node->key.data, node->key.len);
        for (unsigned i = 0; i < HANDOFFS; i++)
            if (memcmp(key.bytes + key.len - 64, handoffs[i].signature, 64) == 0)
                left &= ~(1u << i);
        gov_fold_init(&over, &fold->namespace_id, fold);
        gov_fold_set(&over, &key, NULL);
        gov_fold_settle(&over, &key);
        check_chain(&over, handoffs, left, genesis);
        gov_fold_deinit(&over);
    }
}

/* Chains that part and come together again, handoffs given in any order and taken away again. */
static void test_chains_that_part(void **state) {
    (void)state;
    cal_group_id ns = {{3}};
    cal_secret root = {{1}};
    gov_credential c = {.genesis = {.version = GOV_GENESIS_VERSION}};
    cal_sign_public_key(&root, c.genesis.root_key);
    gov_account_id(&c.genesis, &c.cert.account);
    gov_cert_sign(&c.cert, &root);
    const cal_account_id *a = &c.cert.account;
    const gov_handoff handoffs[HANDOFFS] = {handed_on(a, 0, 1, 10),  handed_on(a, 0, 1, 20),
                                            handed_on(a, 1, 10, 11), handed_on(a, 1, 20, 21),
                                            handed_on(a, 1, 20, 11), handed_on(a, 2, 11, 12)};
    gov_root_op genesis = {.kind = GOV_NAMESPACE_CREATED, .account = *a, .credential = c};
    for (unsigned first = 0; first < 1u << HANDOFFS; first++) {
        gov_fold fold;
        gov_fold_init(&fold, &ns, NULL);
        for (uint8_t i = 0; i < 2 * HANDOFFS; i++) { /* forwards or backwards */
            uint8_t at = first & 1 ? i : (uint8_t)(2 * HANDOFFS - 1 - i);
            gov_group_op op = {.kind = GOV_ACCOUNT_KEYS_ROTATED};
            if (at == HANDOFFS) gov_fold_add(&fold, &(gov_fold_op){.id = {{99}}, .root = &genesis});
            if (at >= HANDOFFS || !(first >> at & 1)) continue;
            op.handoff = handoffs[at];
            gov_fold_add(&fold, &(gov_fold_op){.id = {{at}}, .group_op = &op, .author = a});
        }
        check_chain(&fold, handoffs, first, &c.genesis);
        check_over(&fold, handoffs, first, &c.genesis);
        check_without(&fold, handoffs, first, &c.genesis);
        gov_fold_deinit(&fold);
    }
}

/* A device that two accounts certify belongs to the first, in any order of arrival, and follows
 * only that one's epochs. */
static void test_device_of_two(void **state) {
    (void)state;
    cal_group_id ns = {{3}};
    gov_root_op ops[3];
    for (int i = 0; i < 3;
         i++) { /* the first account's, another's last of all, the first one's next epoch */
        cal_secret root = {{(uint8_t)(i == 1 ? 2 : 1)}};
        gov_credential credential = {.genesis = {.version = GOV_GENESIS_VERSION}};
        cal_sign_public_key(&root, credential.genesis.root_key);
        gov_account_id(&credential.genesis, &credential.cert.account);
        credential.cert.device.bytes[0] = 7;
        credential.cert.device_epoch = i == 1 ? 9 : (uint32_t)i;
        gov_cert_sign(&credential.cert, &root);
        ops[i] = (gov_root_op){.kind = GOV_MEMBER_JOINED_OPEN,
                               .account = credential.cert.account,
                               .credential = credential};
    }
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t order = 0; order < 6; order++) {
        gov_fold fold;
        gov_binding binding;
        gov_fold_init(&fold, &ns, NULL);
        for (int i = 0; i < 3; i++) {
            int at = orders[order][i];
            gov_fold_op op = {.id = {{(uint8_t)(9 - at)}}, .generation = at ? 3 - (uint32_t)at : 0};
            op.root = &ops[at];
            gov_fold_add(&fold, &op);
        }
        assert_int_equal(gov_fold_finish(&fold, NULL), 0);
        gov_view view = gov_fold_view(&fold, 0);
        assert_true(gov_binding_get(&view, &ops[0].credential.cert.device, &binding));
        assert_memory_equal(&binding.account, &ops[0].account, 32);
        assert_int_equal(binding.device_epoch, 2);
        gov_fold_deinit(&fold);
    }
}

/* Of two who found the namespace at once every node takes the same, in any order of arrival; and
 * whoever was named since governs all the same. */
static void test_two_founders(void **state) {
    (void)state;
    cal_group_id ns = {{3}};
    const cal_account_id low = {{1}}, high = {{2}}, named = {{4}};
    gov_root_op ops[] = {{.kind = GOV_NAMESPACE_CREATED, .account = low},
                         {.kind = GOV_NAMESPACE_CREATED, .account = high},
                         {.kind = GOV_ADMIN_CHANGED, .account = named}};
    for (int first = 0; first < 2; first++) {
        gov_fold fold;
        gov_fold_init(&fold, &ns, NULL);
        fold.judges = true;
        for (int i = 0; i < 3; i++) {
            int at = i < 2 ? i ^ first : i;
            gov_fold_add(&fold, &(gov_fold_op){.id = {{(uint8_t)(at + 1)}},
                                               .generation = i == 2,
                                               .namespace_id = &ns,
                                               .root = &ops[at]});
            gov_view view = gov_fold_view(&fold, 0);
            if (i == 1) {
                assert_true(gov_admin(&view, &ns, &low) && gov_owner(&view, &ns, &low));
                assert_false(gov_admin(&view, &ns, &high) || gov_owner(&view, &ns, &high));
            }
            if (i == 2) assert_true(gov_admin(&view, &ns, &named) && !gov_admin(&view, &ns, &low));
        }
        assert_int_equal(gov_fold_finish(&fold, NULL), 0);
        gov_fold_deinit(&fold);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streaming_states),
        cmocka_unit_test(test_scope_root),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_group_state_hash),
        cmocka_unit_test(test_forged_handoffs),
        cmocka_unit_test(test_device_of_two),
        cmocka_unit_test(test_chains_that_part),
        cmocka_unit_test(test_two_founders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
