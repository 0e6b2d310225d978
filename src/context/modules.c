/* The module cache, see modules.h. A MODULE row is `u32le length of the ABI || ABI JSON ||
 * artefact`, under the key `fingerprint of the engine || blob id || service`: another engine finds
 * nothing and compiles anew. */
#include "context/modules.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"

typedef struct module_entry {
    cal_list recent; /* in cal_modules.recent, most recently used last */
    cal_slice key;   /* blob id || service */
    cal_vm_module *module;
    cal_abi abi;
    uint32_t users;
    bool loading;
    uint8_t key_bytes[];
} module_entry;

struct cal_modules {
    cal_store *store;
    cal_vm *vm;
    const cal_app_blobs *blobs;
    pthread_mutex_t lock;
    pthread_cond_t loaded; /* an entry is no longer loading */
    cal_map entries;
    cal_list recent;
    uint64_t count, compiled;
};

int cal_modules_new(cal_store *store, cal_vm *vm, const cal_app_blobs *blobs, uint64_t seed,
                    cal_modules **ret_modules) {
    cal_modules *modules = calloc(1, sizeof *modules);
    if (!modules) return CAL_ENOMEM;
    *modules = (cal_modules){.store = store, .vm = vm, .blobs = blobs};
    pthread_mutex_init(&modules->lock, NULL);
    pthread_cond_init(&modules->loaded, NULL);
    cal_map_init(&modules->entries, seed);
    cal_list_init(&modules->recent);
    *ret_modules = modules;
    return 0;
}

/* Out of the map and the list; with the lock held. */
static void unlink_entry(cal_modules *modules, module_entry *entry) {
    cal_map_remove(&modules->entries, entry->key);
    cal_list_remove(&entry->recent);
    modules->count--;
}

static void free_entry(module_entry *entry) {
    cal_vm_module_unref(entry->module);
    cal_abi_deinit(&entry->abi);
    free(entry);
}

void cal_modules_free(cal_modules *modules) {
    if (!modules) return;
    while (!cal_list_empty(&modules->recent)) {
        module_entry *entry = CAL_CONTAINER_OF(modules->recent.next, module_entry, recent);
        assert(entry->users == 0);
        unlink_entry(modules, entry);
        free_entry(entry);
    }
    cal_map_deinit(&modules->entries);
    pthread_cond_destroy(&modules->loaded);
    pthread_mutex_destroy(&modules->lock);
    free(modules);
}

static int entry_key(const cal_blob_id *code, const char *service, cal_buffer *ret_key) {
    cal_buffer_append(ret_key, code->bytes, 32);
    return service ? cal_buffer_append_text(ret_key, service) : ret_key->error;
}

static int store_key(const cal_modules *modules, cal_slice key, cal_buffer *ret_key) {
    uint8_t fingerprint[32];
    cal_vm_fingerprint(modules->vm, fingerprint);
    cal_buffer_append(ret_key, fingerprint, sizeof fingerprint);
    return cal_buffer_append_slice(ret_key, key);
}

/* --- loading one, without the lock --- */

static int load_artifact(cal_modules *modules, module_entry *entry, cal_slice row, cal_error *err) {
    if (row.len < 4) return CAL_ECORRUPT;
    uint32_t abi_len = cal_read_u32le(row.data);
    if (abi_len > row.len - 4) return CAL_ECORRUPT;
    cal_slice artifact = cal_slice_of(row.data + 4 + abi_len, row.len - 4 - abi_len);
    int rc = cal_vm_load(modules->vm, artifact, &entry->module, err);
    if (rc == 0) rc = cal_abi_parse(cal_slice_of(row.data + 4, abi_len), &entry->abi, NULL);
    if (rc != 0) {
        cal_vm_module_unref(entry->module);
        entry->module = NULL;
    }
    return rc;
}

static int compile_row(cal_modules *modules, cal_slice wasm, cal_buffer *ret_row, cal_error *err) {
    cal_abi abi;
    int rc = cal_abi_read(wasm, &abi);
    if (rc != 0) return cal_fail(err, rc, "out of memory while reading the module's ABI");
    cal_slice json = abi.status == CAL_ABI_ABSENT ? (cal_slice){0} : abi.json;
    cal_buffer_append_u32le(ret_row, (uint32_t)json.len);
    cal_buffer_append_slice(ret_row, json);
    cal_abi_deinit(&abi);
    return cal_vm_compile(modules->vm, wasm, ret_row, err);
}

static int compile_and_keep(cal_modules *modules, module_entry *entry, const char *service,
                            cal_slice row_key, cal_error *err) {
    cal_blob_id code;
    memcpy(code.bytes, entry->key.data, 32);
    cal_buffer wasm, row;
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_app_load_code(modules->blobs, &code, service, &wasm, err);
    if (rc == 0) rc = compile_row(modules, cal_buffer_slice(&wasm), &row, err);
    cal_buffer_deinit(&wasm);
    if (rc == 0) rc = load_artifact(modules, entry, cal_buffer_slice(&row), err);
    if (rc == 0) {
        cal_batch *batch = cal_batch_new();
        if (batch) {
            cal_batch_put(batch, CAL_COLUMN_MODULE, row_key, cal_buffer_slice(&row));
            /* Only a cache: a full disk must not keep the application from running. */
            int kept = cal_store_commit(modules->store, batch, NULL);
            if (kept != 0)
                cal_log(CAL_LOG_WARN, "context", "a compiled module was not kept: %s",
                        cal_error_text(kept));
        }
    }
    cal_buffer_deinit(&row);
    return rc;
}

static int load_entry(cal_modules *modules, module_entry *entry, const char *service,
                      bool *ret_compiled, cal_error *err) {
    cal_buffer row_key, row;
    cal_buffer_init(&row_key, CAL_STORE_KEY_MAX);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = store_key(modules, entry->key, &row_key);
    if (rc == 0)
        rc = cal_store_get(modules->store, CAL_COLUMN_MODULE, cal_buffer_slice(&row_key), &row);
    if (rc == 0) rc = load_artifact(modules, entry, cal_buffer_slice(&row), err);
    cal_buffer_deinit(&row);
    if (rc != 0) { /* not there, damaged or of another engine: the bundle is the truth */
        *ret_compiled = true;
        rc = compile_and_keep(modules, entry, service, cal_buffer_slice(&row_key), err);
    }
    cal_buffer_deinit(&row_key);
    return rc;
}

/* --- the table --- */

static void evict(cal_modules *modules) {
    for (cal_list *at = modules->recent.next;
         at != &modules->recent && modules->count > CAL_MODULES_LOADED_MAX;) {
        module_entry *entry = CAL_CONTAINER_OF(at, module_entry, recent);
        at = at->next;
        if (entry->users > 0) continue;
        unlink_entry(modules, entry);
        free_entry(entry);
    }
}

/* The entry for the key with a user added, waiting while another thread loads it; or a fresh one
 * that the caller must load. */
static module_entry *claim(cal_modules *modules, cal_slice key, bool *ret_fresh) {
    for (;;) {
        module_entry *entry = cal_map_get(&modules->entries, key);
        if (!entry) break;
        if (!entry->loading) {
            entry->users++;
            cal_list_remove(&entry->recent);
            cal_list_push(&modules->recent, &entry->recent);
            *ret_fresh = false;
            return entry;
        }
        pthread_cond_wait(&modules->loaded, &modules->lock);
    }
    module_entry *entry = calloc(1, sizeof *entry + key.len);
    if (!entry) return NULL;
    memcpy(entry->key_bytes, key.data, key.len);
    entry->key = cal_slice_of(entry->key_bytes, key.len);
    if (cal_map_put(&modules->entries, key, entry) != 0) {
        free(entry);
        return NULL;
    }
    entry->users = 1;
    entry->loading = true;
    cal_list_push(&modules->recent, &entry->recent);
    modules->count++;
    *ret_fresh = true;
    return entry;
}

int cal_modules_get(cal_modules *modules, const cal_blob_id *code, const char *service,
                    cal_loaded_module *ret_module, cal_error *err) {
    cal_buffer key;
    cal_buffer_init(&key, CAL_STORE_KEY_MAX);
    int rc = entry_key(code, service, &key);
    bool fresh = false, compiled = false;
    pthread_mutex_lock(&modules->lock);
    module_entry *entry = rc == 0 ? claim(modules, cal_buffer_slice(&key), &fresh) : NULL;
    pthread_mutex_unlock(&modules->lock);
    cal_buffer_deinit(&key);
    if (!entry) return cal_fail(err, CAL_ENOMEM, "out of memory while loading a module");
    if (fresh) {
        rc = load_entry(modules, entry, service, &compiled, err);
        pthread_mutex_lock(&modules->lock);
        entry->loading = false;
        if (rc != 0) {
            unlink_entry(modules, entry);
        } else {
            modules->compiled += compiled;
            evict(modules);
        }
        pthread_cond_broadcast(&modules->loaded);
        pthread_mutex_unlock(&modules->lock);
        if (rc != 0) {
            free_entry(entry);
            return rc;
        }
    }
    *ret_module = (cal_loaded_module){entry->module, &entry->abi, entry};
    return 0;
}

void cal_modules_put(cal_modules *modules, cal_loaded_module *module) {
    if (!module->entry) return;
    pthread_mutex_lock(&modules->lock);
    assert(module->entry->users > 0);
    module->entry->users--;
    evict(modules);
    pthread_mutex_unlock(&modules->lock);
    *module = (cal_loaded_module){0};
}

bool cal_modules_known_view(cal_modules *modules, const cal_blob_id *code, const char *service,
                            const char *method) {
    cal_buffer key;
    cal_buffer_init(&key, CAL_STORE_KEY_MAX);
    bool view = false;
    if (entry_key(code, service, &key) == 0) {
        pthread_mutex_lock(&modules->lock);
        const module_entry *entry = cal_map_get(&modules->entries, cal_buffer_slice(&key));
        if (entry && !entry->loading) {
            const cal_abi_method *declared = cal_abi_find(&entry->abi, method);
            view = declared && declared->intent == CAL_INTENT_READ_ONLY;
        }
        pthread_mutex_unlock(&modules->lock);
    }
    cal_buffer_deinit(&key);
    return view;
}

void cal_modules_forget(cal_modules *modules, const cal_blob_id *code, cal_batch *batch) {
    uint8_t prefix[64];
    cal_vm_fingerprint(modules->vm, prefix);
    memcpy(prefix + 32, code->bytes, 32);
    cal_batch_delete_prefix(batch, CAL_COLUMN_MODULE, cal_slice_of(prefix, sizeof prefix));
}

int cal_modules_sweep(cal_modules *modules, cal_error *err) {
    uint8_t ours[32];
    cal_vm_fingerprint(modules->vm, ours);
    cal_snapshot *snapshot = NULL;
    cal_cursor *cursor = NULL;
    cal_batch *batch = cal_batch_new();
    int rc = batch ? cal_store_snapshot(modules->store, &snapshot) : CAL_ENOMEM;
    if (rc == 0)
        rc = cal_cursor_open(snapshot, CAL_COLUMN_MODULE, (cal_slice){0}, (cal_slice){0}, false,
                             &cursor);
    cal_slice key;
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, NULL)) == 0)
        if (key.len < sizeof ours || memcmp(key.data, ours, sizeof ours) != 0)
            cal_batch_delete(batch, CAL_COLUMN_MODULE, key);
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    if (rc == CAL_ENOTFOUND) rc = 0;
    if (rc == 0 && cal_batch_count(batch) > 0) return cal_store_commit(modules->store, batch, err);
    cal_batch_free(batch);
    return rc == 0
               ? 0
               : cal_fail(err, rc, "compiled modules could not be listed: %s", cal_error_text(rc));
}

void cal_modules_counts(cal_modules *modules, uint64_t *ret_loaded, uint64_t *ret_compiled) {
    pthread_mutex_lock(&modules->lock);
    *ret_loaded = modules->count;
    *ret_compiled = modules->compiled;
    pthread_mutex_unlock(&modules->lock);
}
