/* Own and full hashes, and a walk that recomputes them all. Freestanding; see merkle.h.
 * runtime-abi.md 10. */
#include "crdt/merkle.h"

void crdt_own_hash(crdt_sha256_fn sha256, crdt_bytes entry, crdt_hash *ret_hash) {
    sha256(&entry, 1, ret_hash->bytes);
}

static int child_id_order(const void *a, const void *b) {
    return crdt_compare(&(*(const crdt_child *const *)a)->id, &(*(const crdt_child *const *)b)->id,
                        32);
}

int crdt_full_hash(const crdt_env *env, const crdt_hash *own, crdt_children children,
                   crdt_hash *ret_hash) {
    if (children.count == 0) {
        crdt_bytes part = crdt_bytes_of(own->bytes, 32);
        env->sha256(&part, 1, ret_hash->bytes);
        return 0;
    }
    size_t count = children.count;
    const crdt_child **by_id = crdt_alloc_array(&env->memory, count, sizeof *by_id);
    uint8_t *input = crdt_alloc_array(&env->memory, count + 1, 32);
    if (!by_id || !input) return CRDT_ENOMEM;
    for (size_t i = 0; i < count; i++) by_id[i] = &children.items[i];
    int result = crdt_sort(&env->memory, by_id, count, sizeof *by_id, child_id_order);
    if (result) return result;
    __builtin_memcpy(input, own->bytes, 32);
    for (size_t i = 0; i < count; i++)
        __builtin_memcpy(input + (i + 1) * 32, by_id[i]->merkle_hash.bytes, 32);
    crdt_bytes part = crdt_bytes_of(input, (count + 1) * 32);
    env->sha256(&part, 1, ret_hash->bytes);
    return 0;
}

/* --- verification --- */

const char *crdt_flaw_text(crdt_flaw flaw) {
    switch (flaw) {
    case CRDT_FLAW_ROOT_MISSING:
        return "the root has no index record";
    case CRDT_FLAW_INDEX_MISSING:
        return "a listed child has no index record";
    case CRDT_FLAW_INDEX_MALFORMED:
        return "the index record is malformed";
    case CRDT_FLAW_INDEX_ID:
        return "the index record belongs to another entity";
    case CRDT_FLAW_ENTRY_HASH:
        return "the own hash is not that of the entry";
    case CRDT_FLAW_FULL_HASH:
        return "the full hash is not that of the entity and its children";
    case CRDT_FLAW_CHILD_HASH:
        return "the parent lists another hash than the child has";
    case CRDT_FLAW_TOO_DEEP:
        return "the tree is too deep, or has a cycle";
    }
    return "unknown flaw";
}

typedef struct tree_level {
    crdt_index index;
    uint32_t next; /* child to visit */
} tree_level;

typedef struct tree_walk {
    const crdt_tree_check *check;
    crdt_tree_summary summary;
    uint32_t depth; /* levels open */
    tree_level levels[CRDT_TREE_DEPTH_MAX];
} tree_walk;

static int report(tree_walk *walk, crdt_flaw flaw, const crdt_id *id, const crdt_id *parent) {
    walk->summary.flaws++;
    return walk->check->flaw(walk->check->user, flaw, id, parent);
}

static int read_row(tree_walk *walk, uint8_t tag, const crdt_id *id, crdt_bytes *ret_value) {
    uint8_t key[32];
    crdt_storage_key(walk->check->sha256, tag, id, key);
    return walk->check->read(walk->check->user, key, ret_value);
}

/* Hashes of one record against its Entry row and its own child list. */
static int check_hashes(tree_walk *walk, const crdt_env *env, const crdt_index *index,
                        const crdt_id *parent) {
    crdt_bytes entry;
    crdt_hash hash;
    int hit = read_row(walk, CRDT_KEY_ENTRY, &index->id, &entry);
    if (hit < 0) return hit;
    if (hit == 0) {
        if (!index->is_deleted) walk->summary.placeholders++;
    } else {
        crdt_own_hash(env->sha256, entry, &hash);
        if (crdt_compare(&hash, &index->own_hash, 32) != 0) {
            int result = report(walk, CRDT_FLAW_ENTRY_HASH, &index->id, parent);
            if (result) return result;
        }
    }
    int result = crdt_full_hash(env, &index->own_hash, index->children, &hash);
    if (result) return result;
    if (crdt_compare(&hash, &index->full_hash, 32) != 0)
        return report(walk, CRDT_FLAW_FULL_HASH, &index->id, parent);
    return 0;
}

/* One decoded record against the parent that lists it and against its own rows. *ret_inside: its
 * children are to be visited too. An entity that another parent has taken over (traps.md 6) is
 * visited there, not here: else two that moved below each other would make a circle. */
static int check_entity(tree_walk *walk, const crdt_env *env, const crdt_index *index,
                        const crdt_child *listed, const crdt_id *parent, bool *ret_inside) {
    *ret_inside = false;
    if (parent && (!index->has_parent || !crdt_id_equal(&index->parent, parent))) {
        walk->summary.moved++;
        return 0;
    }
    int result = check_hashes(walk, env, index, parent);
    if (result) return result;
    if (!parent) {
        walk->summary.has_root = true;
        walk->summary.root_hash = index->full_hash;
    } else {
        if (index->is_deleted) walk->summary.deleted++;
        if (crdt_compare(&listed->merkle_hash, &index->full_hash, 32) != 0)
            result = report(walk, CRDT_FLAW_CHILD_HASH, &index->id, parent);
    }
    if (result || index->children.count == 0) return result;
    *ret_inside = walk->depth + 1 < CRDT_TREE_DEPTH_MAX;
    return *ret_inside ? 0 : report(walk, CRDT_FLAW_TOO_DEEP, &index->id, parent);
}

static int read_index(tree_walk *walk, const crdt_memory *memory, const crdt_id *id,
                      const crdt_id *parent, crdt_index *ret_index, bool *ret_sound) {
    crdt_bytes record;
    *ret_sound = false;
    int hit = read_row(walk, CRDT_KEY_INDEX, id, &record);
    if (hit < 0) return hit;
    if (hit == 0)
        return report(walk, parent ? CRDT_FLAW_INDEX_MISSING : CRDT_FLAW_ROOT_MISSING, id, parent);
    int result = crdt_index_decode(memory, record, ret_index);
    if (result == CRDT_EDECODE) return report(walk, CRDT_FLAW_INDEX_MALFORMED, id, parent);
    if (result) return result;
    *ret_sound = crdt_id_equal(&ret_index->id, id);
    return *ret_sound ? 0 : report(walk, CRDT_FLAW_INDEX_ID, id, parent);
}

/* Visits one entity and, when it has children, leaves its level open. listed and parent are NULL
 * for the root. */
static int visit(tree_walk *walk, const crdt_id *id, const crdt_child *listed,
                 const crdt_id *parent) {
    const crdt_tree_check *check = walk->check;
    if (++walk->summary.entities > check->entity_max) return CRDT_ELIMIT;
    crdt_env env = {.sha256 = check->sha256};
    int result = check->enter(check->user, &env.memory);
    if (result) return result;
    tree_level *level = &walk->levels[walk->depth];
    bool sound, inside = false;
    result = read_index(walk, &env.memory, id, parent, &level->index, &sound);
    if (!result && sound) result = check_entity(walk, &env, &level->index, listed, parent, &inside);
    if (result || !inside) {
        check->leave(check->user);
        return result;
    }
    level->next = 0;
    walk->depth++;
    return 0;
}

int crdt_tree_verify(const crdt_tree_check *check, const crdt_id *root,
                     crdt_tree_summary *ret_summary) {
    tree_walk walk = {.check = check};
    int result = visit(&walk, root, NULL, NULL);
    while (!result && walk.depth) {
        tree_level *level = &walk.levels[walk.depth - 1];
        if (level->next == level->index.children.count) {
            check->leave(check->user);
            walk.depth--;
            continue;
        }
        const crdt_child *child = &level->index.children.items[level->next++];
        result = visit(&walk, &child->id, child, &level->index.id);
    }
    for (; walk.depth; walk.depth--) check->leave(check->user);
    if (!result) *ret_summary = walk.summary;
    return result;
}
