/* The released layout: files that were written once and are checked in (tests/formats/store-1) must
 * open for ever, and each field altered, with the sum made right again, must not.
 *
 * store-1 holds store.db of schema 1 and its database key wrapped three times: key.json by
 * master.key, key-passphrase.json by the passphrase and key-command.json by the command below. A
 * released layout is never written anew; a new one is another folder, made by
 * CAL_FORMAT_WRITE=folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "os/sim/sim.h"
#include "store/engine_internal.h"
#include "store/internal.h"

#include "codec/text.h"

#include <stdio.h>
#include <stdlib.h>

static const char passphrase[] = "correct horse battery staple",
                  command[] = "echo a line of a command";
static const cal_key_source sources[] = {
    [CAL_KEY_FILE] = {CAL_KEY_FILE, "/home/master.key"},
    [CAL_KEY_PASSPHRASE] = {CAL_KEY_PASSPHRASE, passphrase},
    [CAL_KEY_COMMAND] = {CAL_KEY_COMMAND, command},
};
static const char *const key_files[] = {
    [CAL_KEY_FILE] = "key.json",
    [CAL_KEY_PASSPHRASE] = "key-passphrase.json",
    [CAL_KEY_COMMAND] = "key-command.json",
};

enum { FILE_SIZE_MAX = 4 * 1024 * 1024, ROWS = 3, LONG_VALUE = 5000 };

typedef struct fixture {
    cal_sim *sim;
    const cal_os *os;
    cal_store_options options;
    cal_buffer key_json;
} fixture;

static void must(int result, const cal_error *err) {
    if (result) print_error("%s: %s\n", cal_error_name(result), err ? err->message : "");
    assert_int_equal(result, 0);
}

static void read_recorded(const char *name, cal_buffer *ret_content) {
    char path[512];
    cal_error err = {0};
    snprintf(path, sizeof path, "%s/tests/formats/store-1/%s", CAL_SOURCE_DIR, name);
    cal_buffer_reset(ret_content);
    must(cal_os_read_file(cal_os_posix(), path, FILE_SIZE_MAX, ret_content, &err), &err);
}

static void put_file(fixture *f, const char *path, cal_slice content) {
    must(cal_os_write_file(f->os, path, content, NULL), NULL);
}

static void use_key_file(fixture *f, cal_key_kind kind) {
    read_recorded(key_files[kind], &f->key_json);
    put_file(f, "/home/key.json", cal_buffer_slice(&f->key_json));
    f->options.key = &sources[kind];
}

/* The recorded files on a disk where they may be spoilt. */
static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    cal_buffer content;
    f->sim = cal_sim_new(1);
    f->os = cal_sim_os(f->sim);
    f->options = (cal_store_options){.os = f->os, .folder = "/home", .stepped = true};
    cal_buffer_init(&f->key_json, FILE_SIZE_MAX);
    cal_buffer_init(&content, FILE_SIZE_MAX);
    f->os->make_dir(f->os->user, "/home");
    read_recorded("store.db", &content);
    put_file(f, "/home/store.db", cal_buffer_slice(&content));
    read_recorded("master.key", &content);
    put_file(f, "/home/master.key", cal_buffer_slice(&content));
    use_key_file(f, CAL_KEY_FILE);
    cal_buffer_deinit(&content);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_buffer_deinit(&f->key_json);
    cal_sim_free(f->sim);
    free(f);
    return 0;
}

/* What each column holds: a row with an empty value, a short one, and in a table of each shape one
 * over several pages. */
static cal_slice row_key(int column, int row, char text[32]) {
    snprintf(text, 32, "column %d row %d", column, row);
    return cal_slice_text(text);
}

static size_t row_value(int column, int row, uint8_t ret_value[LONG_VALUE]) {
    bool spans = row == 2 && (column == CAL_COLUMN_STATE || column == CAL_COLUMN_BLOB_CHUNK);
    size_t len = row == 0 ? 0 : spans ? LONG_VALUE : 20;
    for (size_t i = 0; i < len; i++) ret_value[i] = (uint8_t)((size_t)(column * 31 + row) + i);
    return len;
}

static void expect_rows(cal_store *store) {
    uint8_t expected[LONG_VALUE];
    char text[32];
    cal_buffer value;
    cal_buffer_init(&value, LONG_VALUE);
    for (int column = 0; column < 14; column++) { /* the columns of schema 1, in this order */
        for (int row = 0; row < ROWS; row++) {
            size_t len = row_value(column, row, expected);
            cal_buffer_reset(&value);
            must(cal_store_get(store, (cal_column)column, row_key(column, row, text), &value),
                 NULL);
            assert_true(cal_slice_equal(cal_buffer_slice(&value), cal_slice_of(expected, len)));
        }
    }
    cal_buffer_deinit(&value);
}

static void test_recorded_opens(void **state) {
    fixture *f = *state;
    for (int kind = CAL_KEY_FILE; kind <= CAL_KEY_COMMAND; kind++) {
        cal_error err = {0};
        cal_store *store;
        cal_key_kind read;
        use_key_file(f, (cal_key_kind)kind);
        must(cal_key_kind_read(f->os, "/home", &read, &err), &err);
        assert_int_equal(read, kind);
        must(cal_store_open(&f->options, &store, &err), &err);
        expect_rows(store);
        must(cal_store_verify(store, NULL, NULL, &err), &err);
        cal_batch *batch = cal_batch_new(); /* and goes on */
        cal_batch_put(batch, CAL_COLUMN_NODE, cal_slice_text("new"), cal_slice_text("row"));
        must(cal_store_commit(store, batch, &err), &err);
        cal_store_close(store);
        must(cal_store_open(&f->options, &store, &err), &err);
        must(cal_store_get(store, CAL_COLUMN_NODE, cal_slice_text("new"), NULL), NULL);
        expect_rows(store);
        cal_store_close(store);
    }
}

/* --- key.json --- */

/* Replaces `from` by `to` in the text, makes the sum right, and opens. */
static int open_altered(fixture *f, const char *from, const char *to) {
    cal_buffer text;
    cal_buffer_init(&text, FILE_SIZE_MAX);
    const char *all = cal_buffer_cstr(&f->key_json), *at = strstr(all, from),
               *sum = strstr(all, "  \"sum\"");
    assert_non_null(at);
    assert_true(at < sum);
    cal_buffer_append(&text, all, (size_t)(at - all));
    cal_buffer_append_text(&text, to);
    cal_buffer_append(&text, at + strlen(from), (size_t)(sum - at) - strlen(from));
    uint8_t hash[CAL_HASH_SIZE];
    char digits[2 * CAL_HASH_SIZE + 1];
    cal_sha256(cal_buffer_slice(&text), hash);
    cal_hex_encode(cal_slice_of(hash, sizeof hash), digits);
    cal_buffer_printf(&text, "  \"sum\": \"%.*s\"\n}\n", 2 * CAL_HASH_SIZE, digits);
    put_file(f, "/home/key.json", cal_buffer_slice(&text));
    cal_buffer_deinit(&text);
    cal_store *store = NULL;
    int error = cal_store_open(&f->options, &store, NULL);
    if (!error) cal_store_close(store);
    return error;
}

/* The digit after the start of a field becomes another. */
static int open_other_digit(fixture *f, const char *field) {
    char from[64], to[64];
    const char *at = strstr(cal_buffer_cstr(&f->key_json), field);
    assert_non_null(at);
    snprintf(from, sizeof from, "%.*s", (int)strlen(field) + 1, at);
    snprintf(to, sizeof to, "%s%c", field, from[strlen(field)] == '0' ? '1' : '0');
    return open_altered(f, from, to);
}

static void test_key_fields_altered(void **state) {
    fixture *f = *state;
    static const struct {
        const char *from, *to;
        int error;
    } altered[] = {
        {"\"version\": 1", "\"version\": 2", CAL_EVERSION},
        {"\"version\": 1", "\"version\": 0", CAL_ECORRUPT},
        {"\"kind\": \"file\"", "\"kind\": \"passphrase\"", CAL_EKEY},
        {"\"kind\": \"file\"", "\"kind\": \"command\"", CAL_EKEY},
        {"\"kind\": \"file\"", "\"kind\": \"other\"", CAL_ECORRUPT},
        {"aes-256-gcm", "aes-128-gcm", CAL_ECORRUPT},
        {"\"kdf\": \"none\"", "\"kdf\": \"argon2id\"", CAL_ECORRUPT},
        {"\"kdf\": \"none\"", "\"kdf\": \"scrypt\"", CAL_ECORRUPT},
        {"\"passes\": 3", "\"passes\": 4", CAL_ECORRUPT},
        {"\"passes\": 3", "\"passes\": 65", CAL_ECORRUPT},
        {"\"passes\": 3", "\"passes\": -3", CAL_ECORRUPT},
        {"\"memory_kib\": 65536", "\"memory_kib\": 65537", CAL_ECORRUPT},
        {"\"memory_kib\": 65536", "\"memory_kib\": 4194305", CAL_ECORRUPT},
        {"  \"passes\": 3,\n", "", CAL_ECORRUPT},
        {"  \"passes\": 3,\n", "  \"passes\": 3,\n  \"passes\": 3,\n", CAL_ECORRUPT},
        {"  \"passes\": 3,\n", "  \"passes\": 3,\n  \"more\": 3,\n", CAL_ECORRUPT},
        {"  \"passes\": 3,\n", "  \"passes\":  3,\n", CAL_ECORRUPT},
    };
    assert_int_equal(open_altered(f, "file", "file"), 0); /* the sum is made as it should be */
    for (size_t i = 0; i < sizeof altered / sizeof *altered; i++) {
        int error = open_altered(f, altered[i].from, altered[i].to);
        if (error != altered[i].error)
            print_error("%s as %s: %s\n", altered[i].from, altered[i].to, cal_error_name(error));
        assert_int_equal(error, altered[i].error);
    }
    assert_int_equal(open_other_digit(f, "\"salt\": \""), CAL_EKEY);
    assert_int_equal(open_other_digit(f, "\"check\": \""), CAL_EKEY);
    assert_int_equal(open_other_digit(f, "\"nonce\": \""), CAL_ECORRUPT);
    assert_int_equal(open_other_digit(f, "\"key\": \""), CAL_ECORRUPT);
}

/* With a passphrase the derivation's numbers and salt make another key. */
static void test_passphrase_fields_altered(void **state) {
    fixture *f = *state;
    use_key_file(f, CAL_KEY_PASSPHRASE);
    assert_int_equal(open_altered(f, "\"passes\": 3", "\"passes\": 2"), CAL_EKEY);
    assert_int_equal(open_altered(f, "\"passes\": 3", "\"passes\": 0"), CAL_ECORRUPT);
    assert_int_equal(open_altered(f, "\"memory_kib\": 65536", "\"memory_kib\": 32768"), CAL_EKEY);
    assert_int_equal(open_altered(f, "\"memory_kib\": 65536", "\"memory_kib\": 7"), CAL_ECORRUPT);
    assert_int_equal(open_altered(f, "\"kdf\": \"argon2id\"", "\"kdf\": \"none\""), CAL_ECORRUPT);
    assert_int_equal(open_other_digit(f, "\"salt\": \""), CAL_EKEY);
    assert_int_equal(open_other_digit(f, "\"key\": \""), CAL_ECORRUPT);
    f->options.key = &sources[CAL_KEY_COMMAND]; /* another kind, though it prints the passphrase */
    use_key_file(f, CAL_KEY_PASSPHRASE);
    cal_key_source printing = {CAL_KEY_COMMAND, "echo correct horse battery staple"};
    f->options.key = &printing;
    assert_int_equal(open_altered(f, "\"kind\": \"passphrase\"", "\"kind\": \"command\""),
                     CAL_ECORRUPT);
}

/* --- the database --- */

/* Runs a statement in the closed store, under its own key. */
static void alter_database(fixture *f, const char *sql) {
    cal_secret key;
    const cal_engine *engine = cal_engine_sqlcipher();
    cal_engine_db *db;
    cal_engine_conn *conn;
    must(key_open(f->os, "/home", f->options.key, &key, NULL), NULL);
    cal_engine_config config = {
        .os = f->os, .path = "/home/store.db", .key = &key, .sync_full = true, .cache_kib = 256};
    must(engine->attach(&config, &db, NULL), NULL);
    must(engine->connect(db, CAL_ENGINE_WRITER, &conn, NULL), NULL);
    must(engine_exec(conn, sql), NULL);
    engine->disconnect(conn);
    engine->detach(db);
}

static int open_once(fixture *f) {
    cal_store *store = NULL;
    int error = cal_store_open(&f->options, &store, NULL);
    if (!error) cal_store_close(store);
    return error;
}

static void test_database_fields_altered(void **state) {
    fixture *f = *state;
    static const struct {
        const char *sql;
        int error;
    } altered[] = {
        {"PRAGMA user_version = 2", CAL_EVERSION},
        {"PRAGMA user_version = 2147483647", CAL_EVERSION},
        {"PRAGMA user_version = -1", CAL_EVERSION},
        {"PRAGMA user_version = 0", CAL_ECORRUPT},
        {"PRAGMA user_version = 1", 0},
        {"PRAGMA application_id = 1", CAL_ECORRUPT},
        {"PRAGMA application_id = 1128353869", 0},
    };
    for (size_t i = 0; i < sizeof altered / sizeof *altered; i++) {
        alter_database(f, altered[i].sql);
        int error = open_once(f);
        if (error != altered[i].error)
            print_error("%s: %s\n", altered[i].sql, cal_error_name(error));
        assert_int_equal(error, altered[i].error);
    }
}

/* A key file that is sound and opens with the same master key, of another store. */
static void test_key_of_another_store(void **state) {
    fixture *f = *state;
    cal_store_options other = f->options;
    other.folder = "/other";
    f->os->make_dir(f->os->user, "/other");
    must(cal_store_create(&other, NULL), NULL);
    cal_buffer json;
    cal_buffer_init(&json, FILE_SIZE_MAX);
    must(cal_os_read_file(f->os, "/other/key.json", FILE_SIZE_MAX, &json, NULL), NULL);
    put_file(f, "/home/key.json", cal_buffer_slice(&json));
    cal_buffer_deinit(&json);
    assert_int_equal(open_once(f), CAL_ECORRUPT);
}

/* --- writing a layout --- */

static void write_layout(const char *folder) {
    char path[512], key_path[512];
    cal_error err = {0};
    snprintf(path, sizeof path, "%s/key.json", folder);
    snprintf(key_path, sizeof key_path, "%s/master.key", folder);
    cal_key_source file = {CAL_KEY_FILE, key_path};
    cal_store_options options = {.folder = folder, .key = &file, .stepped = true};
    cal_store *store;
    must(cal_os_make_dirs(cal_os_posix(), folder, &err), &err);
    must(cal_store_create(&options, &err), &err);
    must(cal_store_open(&options, &store, &err), &err);
    cal_batch *batch = cal_batch_new();
    for (int column = 0; column < CAL_COLUMN_COUNT; column++) {
        for (int row = 0; row < ROWS; row++) {
            uint8_t value[LONG_VALUE];
            char text[32];
            size_t len = row_value(column, row, value);
            cal_batch_put(batch, (cal_column)column, row_key(column, row, text),
                          cal_slice_of(value, len));
        }
    }
    must(cal_store_commit(store, batch, &err), &err);
    cal_store_close(store);
    cal_buffer original;
    cal_buffer_init(&original, FILE_SIZE_MAX);
    must(cal_os_read_file(cal_os_posix(), path, FILE_SIZE_MAX, &original, &err), &err);
    for (int kind = CAL_KEY_PASSPHRASE; kind <= CAL_KEY_COMMAND; kind++) {
        char name[512];
        cal_buffer json;
        cal_buffer_init(&json, FILE_SIZE_MAX);
        must(cal_store_rekey(&options, &sources[kind], &err), &err);
        must(cal_os_read_file(cal_os_posix(), path, FILE_SIZE_MAX, &json, &err), &err);
        snprintf(name, sizeof name, "%s/%s", folder, key_files[kind]);
        must(cal_os_write_file(cal_os_posix(), name, cal_buffer_slice(&json), &err), &err);
        must(cal_os_write_file(cal_os_posix(), path, cal_buffer_slice(&original), &err), &err);
        cal_buffer_deinit(&json);
    }
    cal_buffer_deinit(&original);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_recorded_opens),
        TEST(test_key_fields_altered),
        TEST(test_passphrase_fields_altered),
        TEST(test_database_fields_altered),
        TEST(test_key_of_another_store),
    };
    const char *folder = getenv("CAL_FORMAT_WRITE");
    if (folder) {
        write_layout(folder);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
