/* A database with governance as the first release wrote it (tests/formats/gov-0: one namespace,
 * three groups of which one was deleted, members, contexts, 55 operations) opens, and nothing of it
 * is lost. */
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "golden.h"
#include "gov/draft.h"
#include "store/key.h"

enum { OPERATIONS = 55, FILE_MAX = 1024 * 1024 };

static const cal_group_id ns = {{0x20}}, open_group = {{0x21}}, closed = {{0x22}}, gone = {{0x23}};

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static void copy_file(const char *folder, const char *name) {
    static uint8_t bytes[FILE_MAX];
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/tests/formats/gov-0/%s", CAL_SOURCE_DIR, name);
    snprintf(to, sizeof to, "%s/%s", folder, name);
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    size_t len = fread(bytes, 1, sizeof bytes, in);
    assert_true(len > 0 && len < sizeof bytes);
    assert_int_equal(fwrite(bytes, 1, len, out), len);
    fclose(in);
    fclose(out);
    assert_int_equal(chmod(to, 0600), 0);
}

static cal_account_id account_of(uint8_t number) {
    gov_genesis genesis = {.version = GOV_GENESIS_VERSION};
    cal_secret root = {{(uint8_t)(0x30 + number)}};
    cal_account_id account;
    cal_sign_public_key(&root, genesis.root_key);
    gov_account_id(&genesis, &account);
    return account;
}

static void print_finding(void *user, const char *finding) {
    (void)user;
    print_error("%s\n", finding);
}

static void check_present(cal_gov *gov) {
    gov_group_info info;
    gov_role role;
    cal_account_id first = account_of(0), second = account_of(1), third = account_of(2);
    assert_int_equal(gov_group_get(gov, &ns, &info), 0);
    assert_string_equal(info.name, "team");
    assert_int_equal(info.contexts, 2);
    assert_int_equal(info.default_capabilities, 5);
    assert_memory_equal(&info.admin, &first, 32);
    assert_int_equal(gov_group_get(gov, &closed, &info), 0);
    assert_true(info.open);
    assert_int_equal(gov_group_get(gov, &open_group, &info), 0);
    assert_int_equal(gov_group_get(gov, &gone, &info), CAL_ENOTFOUND);
    assert_int_equal(gov_member_path(gov, &ns, &second, &role), GOV_PATH_DIRECT);
    assert_int_equal(role, GOV_ROLE_MEMBER);
    assert_int_equal(gov_member_path(gov, &ns, &third, &role), GOV_PATH_NONE);
}

/* The same, asked of the fold that was made from its operations. */
static void check_folded(cal_gov *gov) {
    gov_change *change;
    gov_view cut;
    gov_wait wait;
    gov_role role;
    cal_hash head;
    cal_account_id first = account_of(0), second = account_of(1), third = account_of(2);
    assert_int_equal(gov_change_begin(gov, &ns, &change, NULL), 0);
    gov_view view = gov_change_view(change);
    assert_int_equal(gov_sequence_get(&view), OPERATIONS);
    assert_int_equal(gov_heads_get(&view).len, 32);
    memcpy(head.bytes, gov_heads_get(&view).data, 32);
    assert_int_equal(gov_cut_view(change, &head, 1, &cut, &wait), 0);
    assert_int_equal(gov_cut_readable(&cut, &ns, &wait), 0);
    assert_true(gov_admin(&cut, &ns, &first) && gov_admin(&cut, &closed, &first));
    assert_int_equal(gov_path_of(&cut, &ns, &second, &role), GOV_PATH_DIRECT);
    assert_int_equal(gov_path_of(&cut, &ns, &third, &role), GOV_PATH_NONE);
    assert_int_equal(gov_path_of(&cut, &closed, &third, &role), GOV_PATH_DIRECT);
    assert_int_equal(gov_capabilities_of(&cut, &ns, &second),
                     gov_capabilities_of(&view, &ns, &second));
    assert_int_equal(cut.capability_base, 5);
    assert_true(gov_group_open(&cut, &closed));
    assert_false(gov_group_parent(&cut, &gone, &(cal_group_id){{0}}));
    gov_change_abort(change);
}

static void test_first_release_opens(void **state) {
    (void)state;
    char folder[64] = "/tmp/cal_gov_format_XXXXXX", key_file[96];
    assert_non_null(mkdtemp(folder));
    snprintf(key_file, sizeof key_file, "%s/master.key", folder);
    copy_file(folder, "store.db");
    copy_file(folder, "key.json");
    copy_file(folder, "master.key");
    cal_key_source key = {CAL_KEY_FILE, key_file};
    cal_store_options options = {.folder = folder, .durability = CAL_DURABLE_PROCESS, .key = &key};
    for (int round = 0; round < 2; round++) { /* brought forward, then as it is */
        cal_store *store;
        cal_gov *gov;
        cal_snapshot *snapshot;
        cal_error err = {.code = 0};
        int result = cal_store_open(&options, &store, &err);
        if (!result) result = gov_open(store, cal_os_posix(), &gov, &err);
        if (result) print_error("%s\n", err.message);
        assert_int_equal(result, 0);
        check_present(gov);
        check_folded(gov);
        assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
        assert_int_equal(gov_check(gov, snapshot, print_finding, NULL), 0);
        cal_snapshot_free(snapshot);
        gov_close(gov);
        cal_store_close(store);
    }
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_release_opens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
