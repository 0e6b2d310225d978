/* key.json: the database key, wrapped by the master key.
 *
 * Canonical text, one field a line; `sum` is SHA-256 over everything before its line. So three
 * refusals can be told apart:
 *  - the text is not exactly what this file writes, or the sum differs: key.json is damaged
 * (CAL_ECORRUPT);
 *  - the text is sound but `check` (derived from the master key and the salt) differs: the master
 * key is wrong (CAL_EKEY);
 *  - the master key is right but the sealed key does not open: somebody changed fields and the sum
 * (CAL_ECORRUPT). A database that then does not open under the database key is itself damaged. The
 * seal's associated data is everything before the `nonce` line. The database key never changes; a
 * new master key rewrites this file alone, atomically.
 *
 * A passphrase goes through Argon2id (3 passes over 64 MiB; both numbers are in the file, bounded
 * when read). */
#include "store/internal.h"

#include "codec/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

enum {
    KEY_VERSION = 1,
    KEY_JSON_MAX = 4096,
    KEY_CHECK_SIZE = 16,
    KEY_SEALED_SIZE = CAL_KEY_SIZE + CAL_AEAD_TAG_SIZE,
    KEY_PASSES = 3,
    KEY_PASSES_MAX = 64,
    KEY_MEMORY_KIB = 64 * 1024,
    KEY_MEMORY_KIB_MAX = 4 * 1024 * 1024,
    KEY_MEMORY_KIB_MIN = 8,
    KEY_TEXT_MAX = 4096, /* a passphrase, or what a command prints */
};

typedef struct key_record {
    cal_key_kind kind;
    bool passphrase; /* the master key comes out of Argon2id */
    uint32_t passes, memory_kib;
    uint8_t salt[CAL_SALT_SIZE];
    uint8_t check[KEY_CHECK_SIZE];
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
    uint8_t sealed[KEY_SEALED_SIZE];
} key_record;

static const char *const key_kinds[] = {
    [CAL_KEY_FILE] = "file", [CAL_KEY_PASSPHRASE] = "passphrase", [CAL_KEY_COMMAND] = "command"};

/* --- the text --- */

static void key_put_hex(cal_buffer *json, const char *name, const uint8_t *bytes, size_t len) {
    char text[2 * KEY_SEALED_SIZE + 1];
    cal_hex_encode(cal_slice_of(bytes, len), text);
    cal_buffer_printf(json, "  \"%s\": \"%.*s\",\n", name, (int)(2 * len), text);
}

/* The part that the seal authenticates. */
static void key_write_public(const key_record *record, cal_buffer *json) {
    cal_buffer_printf(
        json, "{\n  \"version\": %d,\n  \"kind\": \"%s\",\n  \"cipher\": \"aes-256-gcm\",\n",
        KEY_VERSION, key_kinds[record->kind]);
    cal_buffer_printf(json, "  \"kdf\": \"%s\",\n  \"passes\": %u,\n  \"memory_kib\": %u,\n",
                      record->passphrase ? "argon2id" : "none", record->passes, record->memory_kib);
    key_put_hex(json, "salt", record->salt, sizeof record->salt);
    key_put_hex(json, "check", record->check, sizeof record->check);
}

static void key_write(const key_record *record, cal_buffer *json) {
    key_write_public(record, json);
    key_put_hex(json, "nonce", record->nonce, sizeof record->nonce);
    key_put_hex(json, "key", record->sealed, sizeof record->sealed);
    uint8_t sum[CAL_HASH_SIZE];
    char text[2 * CAL_HASH_SIZE + 1];
    cal_sha256(cal_buffer_slice(json), sum);
    cal_hex_encode(cal_slice_of(sum, sizeof sum), text);
    cal_buffer_printf(json, "  \"sum\": \"%.*s\"\n}\n", 2 * CAL_HASH_SIZE, text);
}

static bool key_read_hex(yyjson_val *root, const char *name, uint8_t *ret_bytes, size_t len) {
    yyjson_val *value = yyjson_obj_get(root, name);
    const char *text = yyjson_get_str(value);
    return text && cal_hex_decode(cal_slice_of(text, yyjson_get_len(value)), ret_bytes, len) == 0;
}

static bool key_read_number(yyjson_val *root, const char *name, uint32_t max,
                            uint32_t *ret_number) {
    yyjson_val *value = yyjson_obj_get(root, name);
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > max) return false;
    *ret_number = (uint32_t)yyjson_get_uint(value);
    return true;
}

static bool key_read_kind(yyjson_val *root, cal_key_kind *ret_kind) {
    const char *text = yyjson_get_str(yyjson_obj_get(root, "kind"));
    for (size_t i = 0; text && i < sizeof key_kinds / sizeof *key_kinds; i++) {
        if (strcmp(text, key_kinds[i]) == 0) {
            *ret_kind = (cal_key_kind)i;
            return true;
        }
    }
    return false;
}

static bool key_read_fields(yyjson_val *root, key_record *record) {
    const char *kdf = yyjson_get_str(yyjson_obj_get(root, "kdf"));
    if (!kdf || !key_read_kind(root, &record->kind)) return false;
    record->passphrase = strcmp(kdf, "argon2id") == 0;
    if (!record->passphrase && strcmp(kdf, "none") != 0) return false;
    if (!key_read_number(root, "passes", KEY_PASSES_MAX, &record->passes)) return false;
    if (!key_read_number(root, "memory_kib", KEY_MEMORY_KIB_MAX, &record->memory_kib)) return false;
    if (record->passphrase && (record->passes < 1 || record->memory_kib < KEY_MEMORY_KIB_MIN))
        return false;
    return key_read_hex(root, "salt", record->salt, sizeof record->salt) &&
           key_read_hex(root, "check", record->check, sizeof record->check) &&
           key_read_hex(root, "nonce", record->nonce, sizeof record->nonce) &&
           key_read_hex(root, "key", record->sealed, sizeof record->sealed);
}

/* Every version ends its text with this line, so that a newer file can be told from a damaged one.
 */
static bool key_sum_fits(cal_slice json) {
    static const char start[] = "  \"sum\": \"", end[] = "\"\n}\n";
    const size_t digits = (size_t)2 * CAL_HASH_SIZE,
                 line = sizeof start - 1 + digits + sizeof end - 1;
    if (json.len < line) return false;
    const uint8_t *at = json.data + json.len - line;
    uint8_t written[CAL_HASH_SIZE], sum[CAL_HASH_SIZE];
    if (memcmp(at, start, sizeof start - 1) != 0) return false;
    if (cal_hex_decode(cal_slice_of(at + sizeof start - 1, digits), written, sizeof written) != 0)
        return false;
    cal_sha256(cal_slice_of(json.data, json.len - line), sum);
    return memcmp(sum, written, sizeof sum) == 0;
}

static int key_parse(cal_slice json, const char *path, key_record *ret_record, cal_error *err) {
    key_record record = {0};
    bool sound = key_sum_fits(json);
    yyjson_doc *doc = sound ? yyjson_read((const char *)json.data, json.len, 0) : NULL;
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *version = yyjson_obj_get(root, "version");
    bool newer = yyjson_is_uint(version) && yyjson_get_uint(version) > KEY_VERSION;
    bool read = !newer && key_read_fields(root, &record);
    yyjson_doc_free(doc);
    if (read) { /* only what this program would have written itself is undamaged */
        cal_buffer again;
        cal_buffer_init(&again, KEY_JSON_MAX);
        key_write(&record, &again);
        read = !again.error && cal_slice_equal(cal_buffer_slice(&again), json);
        cal_buffer_deinit(&again);
    }
    if (newer)
        return cal_fail(err, CAL_EVERSION,
                        "the key file %s was written by a newer version: use that program", path);
    if (!read)
        return cal_fail(err, CAL_ECORRUPT, "the key file %s is damaged: put it back from a backup",
                        path);
    *ret_record = record;
    return 0;
}

static int key_load(const cal_os *os, const char *folder, key_record *ret_record, cal_error *err) {
    char path[STORE_PATH_MAX];
    int error = store_path(folder, STORE_KEY, path);
    if (error) return cal_fail(err, error, "the path of the folder %.60s... is too long", folder);
    cal_buffer json;
    cal_buffer_init(&json, KEY_JSON_MAX);
    error = cal_os_read_file(os, path, KEY_JSON_MAX, &json, err);
    if (error == CAL_ELIMIT)
        cal_fail(err, error = CAL_ECORRUPT, "the key file %s is damaged: put it back from a backup",
                 path);
    if (!error) error = key_parse(cal_buffer_slice(&json), path, ret_record, err);
    cal_buffer_deinit(&json);
    return error;
}

int cal_key_kind_read(const cal_os *os, const char *folder, cal_key_kind *ret_kind,
                      cal_error *err) {
    key_record record;
    int error = key_load(os ? os : cal_os_posix(), folder, &record, err);
    if (!error) *ret_kind = record.kind;
    return error;
}

/* --- where the master key comes from --- */

static cal_slice key_trim(cal_slice text) {
    while (text.len && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.len--;
    return text;
}

static int key_file_read(const cal_os *os, const char *path, cal_secret *ret_master,
                         cal_error *err) {
    cal_os_stat stat;
    int error = os->stat(os->user, path, &stat);
    if (error) {
        if (error == CAL_ENOTFOUND) error = CAL_EKEY;
        return cal_fail(err, error,
                        "the master key file %s cannot be found: put it there, or name another",
                        path);
    }
    if (stat.mode & 077)
        return cal_fail(err, CAL_EDENIED, "others may read the master key file %s: chmod 600 it",
                        path);
    uint8_t bytes[KEY_TEXT_MAX];
    cal_buffer text;
    cal_buffer_init(&text, sizeof bytes);
    error = cal_os_read_file(os, path, sizeof bytes, &text, err);
    cal_slice digits = key_trim(cal_buffer_slice(&text));
    if (error == CAL_ELIMIT ||
        (!error && cal_hex_decode(digits, ret_master->bytes, CAL_KEY_SIZE) != 0))
        error = cal_fail(err, CAL_EKEY,
                         "the master key file %s does not hold 64 hexadecimal digits", path);
    if (text.data) cal_wipe(text.data, text.len);
    cal_buffer_deinit(&text);
    return error;
}

/* Writes a new master key into the locked file and gives it its name. */
static int key_file_fill(const cal_os *os, cal_os_file *file, const char *name, const char *path) {
    cal_secret master;
    char text[2 * CAL_KEY_SIZE + 2], folder[STORE_PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    cal_random(os, master.bytes, sizeof master.bytes);
    cal_hex_encode(cal_slice_of(master.bytes, CAL_KEY_SIZE), text);
    text[2 * CAL_KEY_SIZE] = '\n';
    int error = os->truncate(file, 0);
    if (!error) error = os->write_at(file, 0, text, 2 * CAL_KEY_SIZE + 1);
    if (!error) error = os->sync(file);
    if (!error) error = os->rename(os->user, name, path);
    if (!error) error = os->sync_dir(os->user, folder);
    cal_secret_wipe(&master);
    cal_wipe(text, sizeof text);
    return error;
}

/* Makes the master key file, unless it is there. Several stores may share one and be created at the
 * same time: who has the lock of its new neighbour makes it, and nobody ever replaces one. */
static int key_file_make(const cal_os *os, const char *path, cal_error *err) {
    char name[STORE_PATH_MAX];
    cal_os_stat stat;
    cal_os_file *file;
    if ((size_t)snprintf(name, sizeof name, "%s.new", path) >= sizeof name)
        return cal_fail(err, CAL_EINVAL, "the path %.60s... is too long", path);
    if (os->stat(os->user, path, &stat) != CAL_ENOTFOUND) return 0;
    int error = os->open(os->user, name, CAL_OS_WRITE | CAL_OS_CREATE, &file); /* mode 0600 */
    if (error) return cal_fail(err, error, "cannot create %s: %s", name, cal_error_text(error));
    error = os->lock(file);
    if (!error && os->stat(os->user, path, &stat) == CAL_ENOTFOUND) {
        error = key_file_fill(os, file, name, path);
        if (error) os->remove(os->user, name);
    } else if (!error) {
        os->remove(os->user, name); /* another was quicker */
    }
    os->close(file);
    if (error == CAL_EBUSY)
        return cal_fail(err, error, "the master key file %s is being made: try again", path);
    return error ? cal_fail(err, error, "cannot write %s: %s", path, cal_error_text(error)) : 0;
}

/* The command's standard output, one line. The shell is the user's own; nothing of ours is put into
 * the command. */
static int key_command_run(const char *command, cal_buffer *ret_line, cal_error *err) {
    FILE *pipe = popen(command, "re");
    if (!pipe) return cal_fail(err, CAL_EKEY, "the key command could not be started");
    char bytes[512];
    size_t got;
    int error = 0;
    while ((got = fread(bytes, 1, sizeof bytes, pipe)) > 0)
        error = cal_buffer_append(ret_line, bytes, got);
    cal_wipe(bytes, sizeof bytes);
    int status = pclose(pipe);
    if (status != 0)
        return cal_fail(err, CAL_EKEY, "the key command failed: run it by hand to see why");
    cal_slice line = key_trim(cal_buffer_slice(ret_line));
    if (error || line.len == 0 || memchr(line.data, '\n', line.len))
        return cal_fail(err, CAL_EKEY, "the key command must print one line of at most %d bytes",
                        KEY_TEXT_MAX);
    ret_line->len = line.len;
    return 0;
}

static int key_from_passphrase(const key_record *record, cal_slice text, cal_secret *ret_master,
                               cal_error *err) {
    if (text.len == 0) return cal_fail(err, CAL_EKEY, "the passphrase is empty");
    if (text.len > KEY_TEXT_MAX)
        return cal_fail(err, CAL_EKEY, "the passphrase is longer than %d bytes", KEY_TEXT_MAX);
    if (cal_kdf_passphrase(text, record->salt, record->passes, record->memory_kib, ret_master))
        return cal_fail(err, CAL_ENOMEM,
                        "deriving the key from the passphrase needs %u MiB of memory",
                        record->memory_kib / 1024);
    return 0;
}

/* With `fresh` the record is being made: the source decides whether Argon2id is used. */
static int key_master(const cal_os *os, const cal_key_source *source, key_record *record,
                      bool fresh, cal_secret *ret_master, cal_error *err) {
    switch (source->kind) {
    case CAL_KEY_FILE:
        if (fresh) record->passphrase = false;
        return key_file_read(os, source->text, ret_master, err);
    case CAL_KEY_PASSPHRASE:
        if (fresh) record->passphrase = true;
        return key_from_passphrase(record, cal_slice_text(source->text), ret_master, err);
    case CAL_KEY_COMMAND:
        break;
    }
    cal_buffer line;
    cal_buffer_init(&line, KEY_TEXT_MAX);
    int error = key_command_run(source->text, &line, err);
    if (!error) {
        cal_slice text = cal_buffer_slice(&line);
        bool digits = cal_hex_decode(text, ret_master->bytes, CAL_KEY_SIZE) == 0;
        if (fresh) record->passphrase = !digits;
        if (record->passphrase)
            error = key_from_passphrase(record, text, ret_master, err);
        else if (!digits)
            error = cal_fail(err, CAL_EKEY,
                             "the key command must print 64 hexadecimal digits for this store");
    }
    if (line.data) cal_wipe(line.data, line.len);
    cal_buffer_deinit(&line);
    return error;
}

/* --- wrapping --- */

static void key_check_value(const cal_secret *master, const key_record *record,
                            uint8_t ret_check[KEY_CHECK_SIZE]) {
    cal_secret check;
    cal_hkdf(cal_slice_of(master->bytes, CAL_KEY_SIZE),
             cal_slice_of(record->salt, sizeof record->salt), "calimero store key check", &check);
    memcpy(ret_check, check.bytes, KEY_CHECK_SIZE);
    cal_secret_wipe(&check);
}

static void key_wrapping(const cal_secret *master, const key_record *record, cal_secret *ret_key) {
    cal_hkdf(cal_slice_of(master->bytes, CAL_KEY_SIZE),
             cal_slice_of(record->salt, sizeof record->salt), "calimero store key wrap", ret_key);
}

int key_wrap(const cal_os *os, const cal_key_source *source, const cal_secret *key,
             cal_buffer *ret_json, cal_error *err) {
    key_record record = {.kind = source->kind, .passes = KEY_PASSES, .memory_kib = KEY_MEMORY_KIB};
    cal_random(os, record.salt, sizeof record.salt);
    cal_random(os, record.nonce, sizeof record.nonce);
    cal_secret master, wrapping;
    int error = source->kind == CAL_KEY_FILE ? key_file_make(os, source->text, err) : 0;
    if (!error) error = key_master(os, source, &record, true, &master, err);
    if (error) return error;
    key_check_value(&master, &record, record.check);
    key_wrapping(&master, &record, &wrapping);
    cal_secret_wipe(&master);

    cal_buffer public_part, sealed;
    cal_buffer_init(&public_part, KEY_JSON_MAX);
    cal_buffer_init(&sealed, KEY_SEALED_SIZE);
    key_write_public(&record, &public_part);
    error = cal_seal(&wrapping, record.nonce, cal_buffer_slice(&public_part),
                     cal_slice_of(key->bytes, CAL_KEY_SIZE), &sealed);
    cal_secret_wipe(&wrapping);
    if (!error && sealed.len == sizeof record.sealed) {
        memcpy(record.sealed, sealed.data, sizeof record.sealed);
        key_write(&record, ret_json);
        error = ret_json->error;
    }
    cal_buffer_deinit(&public_part);
    cal_buffer_deinit(&sealed);
    return error
               ? cal_fail(err, error, "cannot wrap the key of the store: %s", cal_error_text(error))
               : 0;
}

int key_create(const cal_os *os, const cal_key_source *source, cal_secret *ret_key,
               cal_buffer *ret_json, cal_error *err) {
    cal_random(os, ret_key->bytes, sizeof ret_key->bytes);
    return key_wrap(os, source, ret_key, ret_json, err);
}

static int key_unwrap(const key_record *record, const cal_secret *master, cal_secret *ret_key) {
    cal_secret wrapping;
    cal_buffer public_part, plain;
    cal_buffer_init(&public_part, KEY_JSON_MAX);
    cal_buffer_init(&plain, KEY_SEALED_SIZE);
    key_write_public(record, &public_part);
    key_wrapping(master, record, &wrapping);
    int error = cal_open(&wrapping, record->nonce, cal_buffer_slice(&public_part),
                         cal_slice_of(record->sealed, sizeof record->sealed), &plain);
    if (!error && plain.len != CAL_KEY_SIZE) error = CAL_EVERIFY;
    if (!error) memcpy(ret_key->bytes, plain.data, CAL_KEY_SIZE);
    if (plain.data) cal_wipe(plain.data, plain.len);
    cal_secret_wipe(&wrapping);
    cal_buffer_deinit(&public_part);
    cal_buffer_deinit(&plain);
    return error;
}

int key_open(const cal_os *os, const char *folder, const cal_key_source *source,
             cal_secret *ret_key, cal_error *err) {
    key_record record;
    int error = key_load(os, folder, &record, err);
    if (error) return error;
    if (record.kind != source->kind) {
        return cal_fail(err, CAL_EKEY,
                        "the store in %s takes its master key from a %s, not from a %s", folder,
                        key_kinds[record.kind], key_kinds[source->kind]);
    }
    cal_secret master;
    uint8_t check[KEY_CHECK_SIZE];
    error = key_master(os, source, &record, false, &master, err);
    if (error) return error;
    key_check_value(&master, &record, check);
    if (!cal_equal_secret(check, record.check, sizeof check)) {
        error = cal_fail(err, CAL_EKEY, "wrong %s for the store in %s",
                         source->kind == CAL_KEY_PASSPHRASE ? "passphrase" : "master key", folder);
    } else {
        error = key_unwrap(&record, &master, ret_key);
        if (error == CAL_ENOMEM)
            error = cal_fail(err, error, "no memory to open the key of the store");
        else if (error)
            error = cal_fail(err, CAL_ECORRUPT,
                             "the key file in %s was altered: put it back from a backup", folder);
    }
    cal_secret_wipe(&master);
    return error;
}
