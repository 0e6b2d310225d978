/* The tree over a context's entities (runtime-abi.md 10): own hash of the Entry bytes, full hash
 * over the children. */
#ifndef CAL_CRDT_MERKLE_H
#define CAL_CRDT_MERKLE_H

#include "crdt/entity.h"

void crdt_own_hash(crdt_sha256_fn sha256, crdt_bytes entry, crdt_hash *ret_hash);
/* SHA-256(own || each child's merkle hash in ascending order of child id). CRDT_ENOMEM. */
int crdt_full_hash(const crdt_env *env, const crdt_hash *own, crdt_children children,
                   crdt_hash *ret_hash);

/* Rows of one context by 32-byte key. 1 hit (value stays valid until the operation ends), 0 miss,
 * negative: ends the operation with that code. */
typedef int (*crdt_read_fn)(void *user, const uint8_t key[32], crdt_bytes *ret_value);

typedef enum crdt_flaw {
    CRDT_FLAW_ROOT_MISSING,  /* no Index record of the root */
    CRDT_FLAW_INDEX_MISSING, /* a listed child has no Index record */
    CRDT_FLAW_INDEX_MALFORMED,
    CRDT_FLAW_INDEX_ID,   /* the record is another entity's */
    CRDT_FLAW_ENTRY_HASH, /* own hash is not that of the Entry row */
    CRDT_FLAW_FULL_HASH,  /* full hash is not that of own hash and children */
    CRDT_FLAW_CHILD_HASH, /* the parent lists another full hash than the child has */
    CRDT_FLAW_TOO_DEEP,   /* deeper than CRDT_TREE_DEPTH_MAX, or a cycle */
} crdt_flaw;

enum { CRDT_TREE_DEPTH_MAX = 64 };

const char *crdt_flaw_text(crdt_flaw flaw);

typedef struct crdt_tree_check {
    crdt_sha256_fn sha256;
    void *user;
    /* Memory for one record: `enter` opens it, `leave` drops it, last opened first, at most
     * CRDT_TREE_DEPTH_MAX + 1 open. */
    int (*enter)(void *user, crdt_memory *ret_memory); /* 0 or negative */
    void (*leave)(void *user);
    crdt_read_fn read; /* the value need only live until the matching leave */
    /* Returns 0 to go on, a negative code to stop with it. parent is NULL for the root. */
    int (*flaw)(void *user, crdt_flaw flaw, const crdt_id *id, const crdt_id *parent);
    uint64_t entity_max; /* visits before CRDT_ELIMIT; bounds cycles (the number of rows is a good
                            value) */
} crdt_tree_check;

typedef struct crdt_tree_summary {
    uint64_t entities, flaws;
    uint64_t
        placeholders; /* Index without Entry: known only as an ancestor (traps.md 8), no flaw */
    uint64_t deleted; /* listed tombstones: their parent was deleted and came back, no flaw */
    uint64_t moved; /* listed by a parent that is not theirs (traps.md 6): not compared, no flaw */
    bool has_root;
    crdt_hash root_hash; /* the root's recorded full hash */
} crdt_tree_summary;

/* Recomputes every own and full hash from the root down. 0 also when flaws were found; negative
 * only when it could not go on. */
int crdt_tree_verify(const crdt_tree_check *check, const crdt_id *root,
                     crdt_tree_summary *ret_summary);

#endif
