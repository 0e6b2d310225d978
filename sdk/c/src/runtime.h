/* What the files of the SDK share: the running call. One instance, one call, one thread. */
#ifndef APP_RUNTIME_H
#define APP_RUNTIME_H

#include "calimero_app.h"
#include "crdt/crdt.h"
#include "host.h"

typedef struct app_runtime {
    crdt_env env;
    crdt_store *store;
    crdt_clock clock;
    const crdt_memory
        *row_memory; /* where rows read from the node go: the call's memory, or a walk's */
    crdt_id context, account, device;
    bool has_context, has_account, has_device, has_clock;
    bool failed;  /* the application answered with an error */
    bool touched; /* something other than state changed that only a commit keeps or announces */
    uint64_t now_ns, writes;
    app_json result;
} app_runtime;

extern app_runtime app;

/* Memory that is used again and again, for walks: what `get` gave lives until `rewind`. */
typedef struct app_scratch_block {
    struct app_scratch_block *next;
    size_t capacity;
} app_scratch_block;

typedef struct app_scratch {
    crdt_memory memory;
    app_scratch_block *first, *at;
    size_t used;
} app_scratch;

void app_scratch_init(app_scratch *scratch);
void app_scratch_rewind(app_scratch *scratch);

void app_memory_reset(void);
void app_sha256(const crdt_bytes *parts, size_t count, uint8_t ret_hash[32]);

host_buffer app_buffer(const void *data, size_t len);
uint64_t app_address(const void *object);
crdt_bytes app_register_read(const crdt_memory *memory); /* the register all calls use */
enum { APP_REGISTER = 0 };

/* Panics on any failure of crdt/: what it can meet here is damaged or exhausted. */
void app_must(int result);

void app_open_store(void);
void app_commit(void);
uint64_t app_write_time(void); /* even, grows with every write of a call */
crdt_hlc app_tick(void);
void app_return(uint64_t tag, app_text payload);

/* --- JSON, read --- */

typedef struct app_json_reader {
    const char *at, *end;
    const char *error; /* the first one; NULL: fine */
} app_json_reader;

void app_read_args(const app_method_info *info, app_text input, void *args);

/* --- collections --- */

void app_create_state(const app_method_info *info);
void app_field_open(app_field *field);
app_text app_text_from(crdt_bytes bytes);
crdt_bytes app_bytes_from(app_text text);

#endif
