/* What maps, sets, vectors, registers and counters are made of: containers, entries and walks. See
 * collections.c. */
#ifndef APP_COLLECTION_H
#define APP_COLLECTION_H

#include "runtime.h"

enum {
    BUCKET_LEVELS = 3,
    CONTAINER_TIME =
        2, /* created_at and updated_at of collections and buckets: even, before any clock */
    STAMP_SIZE = CRDT_HLC_SIZE + 32,
};

crdt_id collection_id(app_field *field);
bool collection_exists(const crdt_id *id);
const crdt_type *collection_type(int kind);
/* A collection or bucket: an entity whose bytes are its own id, made when missing, with `time` as
 * its fixed times. */
void collection_make(const crdt_id *id, const crdt_id *parent, const crdt_type *type,
                     const char *name, uint64_t time);
void collection_open(app_field *field);

/* Values: LwwRegister<bytes>. */
void collection_write_stamp(crdt_writer *writer);
app_text collection_read_value(crdt_reader *reader); /* the rest of an entry */
void collection_put(const crdt_id *id, const crdt_id *parent, const crdt_writer *writer,
                    const crdt_type *type, uint64_t time);
bool collection_get(const crdt_id *id, crdt_bytes *ret_entry);
bool collection_delete(const crdt_id *id);

typedef struct walk_level {
    crdt_index index;
    uint32_t at;
    app_scratch scratch; /* holds index */
} walk_level;

typedef struct collection_walk_state {
    int depth; /* levels open; entries are children of the last one */
    int leaf;  /* how many levels there are above entries */
    int kind;
    bool reverse;
    crdt_id entry_id;
    app_scratch scratch; /* holds the entry */
    walk_level levels[BUCKET_LEVELS + 1];
} collection_walk_state;

/* `levels` containers stand between the collection and its entries. */
collection_walk_state *collection_walk(app_field *field, int levels, bool reverse);
/* The next child of a container on the last level; NULL at the end. */
const crdt_child *collection_step(collection_walk_state *w);
/* The next container on the last level that has children, valid until the next call; NULL at the
 * end. */
const crdt_index *collection_leaf(collection_walk_state *w);
uint64_t collection_count(app_field *field, int levels);
void collection_clear(app_field *field, int levels);

#endif
