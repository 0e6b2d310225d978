/* Judging a state that was received whole, see snapshot.h.
 *
 * One walk over the entities in the order in which they lie, because finding them one by one would
 * read a page of the store for each. Mostly it was done as they came: it is done over the staged
 * ones when anything may have come twice (keys that are not in order, an answer that broke off),
 * when sums do not agree, or when an entity has to be judged by others.
 *   - every record's hashes were recomputed when it came: its own of its Entry, its full one of
 * what it lists. So the state is the announced one if each entity's parent lists it with its full
 *     hash, and nothing else is listed. Both lists of triples (parent, entity, full hash), what is
 *     listed and what there is, are summed up under a secret key; equal sums of equally many are
 *     equal lists, for nobody can aim at sums that he cannot compute;
 *   - who signed what needs a signature must have had a right to.
 *
 * When the lists differ, a walk down the tree (crdt_tree_verify) finds out why. Two differences are
 * honest: an entity that was moved stands below its old parent, too (traps.md 6); and what was
 * newer than the deletion of its collection, or frozen (traps.md 7), lives on outside of the tree
 * and belongs to the state. But behind a wrong parent another content could hide, so a state with
 * moved entities must be reached whole.
 *
 * What stands in hashes is content and shape. Metadata does not (network-sync.md 9.3), so a
 * signature is what protects an entity of a user; and the writers of a Shared entity are those that
 * its record, its parent's entry for it, or its rotation log name (traps.md 5: its record keeps the
 * first ones), each of which may be the one that the stored signature was made for. */
#include <stdio.h>
#include <stdlib.h>

#include "sync/snapshot_internal.h"

enum { RECORD_MEMORY_MAX = 256 * 1024 * 1024 };

typedef struct verify {
    sync_snapshot *intake;
    cal_snapshot *snapshot;
    cal_error *err;
    staged_sums sums;
    /* of the walk down */
    cal_arena records[CRDT_TREE_DEPTH_MAX + 1]; /* one for each on the way from the root */
    size_t open;
    uint8_t entry_key[32]; /* of the entity read last */
    cal_slice entry;
} verify;

static void entity_text(const crdt_id *id, char ret_text[CAL_ID_TEXT_MAX]) {
    cal_id_to_base58(id->bytes, ret_text);
}

static int refuse(verify *v, const crdt_id *id, const char *why) {
    char text[CAL_ID_TEXT_MAX];
    entity_text(id, text);
    return cal_fail(v->err, CAL_EVERIFY, "the snapshot does not verify: entity %s: %s", text, why);
}

/* --- the tree --- */

static int enter_record(void *user, crdt_memory *ret_memory) {
    verify *v = user;
    cal_arena *arena = &v->records[v->open++];
    cal_arena_init(arena, RECORD_MEMORY_MAX);
    *ret_memory = cal_crdt_memory(arena);
    return 0;
}

static void leave_record(void *user) {
    verify *v = user;
    v->entry = (cal_slice){0};
    cal_arena_deinit(&v->records[--v->open]);
}

/* The walk asks for an entity's Index row and then for its Entry row. */
static int read_record(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    verify *v = user;
    staged_entity entity;
    if (v->entry.data && memcmp(key, v->entry_key, 32) == 0) {
        *ret_value = crdt_bytes_of(v->entry.data, v->entry.len);
        return 1;
    }
    int hit = staged_read(v->intake, v->snapshot, key, &v->records[v->open - 1], &entity);
    v->entry = (cal_slice){0};
    if (hit <= 0) return hit;
    v->entry = entity.entry;
    staged_row_key(CRDT_KEY_ENTRY, entity.index.data, v->entry_key);
    *ret_value = crdt_bytes_of(entity.index.data, entity.index.len);
    return 1;
}

static int flaw(void *user, crdt_flaw kind, const crdt_id *id, const crdt_id *parent) {
    (void)parent;
    return refuse(user, id, crdt_flaw_text(kind));
}

static int verify_tree(verify *v, crdt_tree_summary *ret_summary) {
    const sync_snapshot *intake = v->intake;
    crdt_id root;
    cal_arena unused;
    cal_arena_init(&unused, 0);
    memcpy(root.bytes, intake->options.context.bytes, 32);
    crdt_tree_check check = {
        .sha256 = cal_crdt_env(&unused).sha256,
        .user = v,
        .enter = enter_record,
        .leave = leave_record,
        .read = read_record,
        .flaw = flaw,
        /* each entity once, and once more where it was moved from (traps.md 6); more is a circle */
        .entity_max = 2 * intake->figures.records + 2,
    };
    int rc = crdt_tree_verify(&check, &root, ret_summary);
    if (rc == CRDT_ELIMIT) return refuse(v, &root, "its tree lists entities again and again");
    if (rc == CRDT_ENOMEM) return staged_failed(rc, v->err);
    if (rc && rc != CAL_EVERIFY) return staged_failed(rc, v->err);
    if (rc) return rc;
    if (memcmp(&ret_summary->root_hash, &intake->options.root, 32) != 0)
        return refuse(v, &root, "its root is not the one that was announced");
    return 0;
}

/* --- signatures --- */

/* One entity in one arena. */
typedef struct subject {
    verify *verify;
    cal_arena *arena;
    crdt_env env;
    crdt_index index;
    crdt_bytes entry;
} subject;

/* Another one, by its id: 1, 0 there is none, or a CAL_E*. */
static int read_entity(subject *s, const crdt_id *id, staged_entity *ret_entity) {
    uint8_t key[32];
    staged_row_key(CRDT_KEY_INDEX, id->bytes, key);
    return staged_read(s->verify->intake, s->verify->snapshot, key, s->arena, ret_entity);
}

static int read_index(subject *s, const crdt_id *id, crdt_index *ret_index) {
    staged_entity entity;
    int hit = read_entity(s, id, &entity);
    if (hit <= 0) return hit;
    int rc = crdt_index_decode(&s->env.memory, crdt_bytes_of(entity.index.data, entity.index.len),
                               ret_index);
    return rc ? rc : 1;
}

/* Whether a storage type's signature is one over the entity as it stands; 1, 0, CAL_E*. */
static int signature_holds(const subject *s, const crdt_storage_type *storage) {
    uint8_t payload[32];
    if (!storage->signature || !storage->signature->has_signer) return 0;
    crdt_action action = {.kind = CRDT_ACTION_ADD,
                          .id = s->index.id,
                          .data = s->entry,
                          .metadata = {.storage = *storage}};
    if (crdt_action_is_placeholder(&action)) return 0;
    if (crdt_action_payload(&s->env, &action, payload)) return CAL_ENOMEM;
    return cal_verify_lax(storage->signature->signer.bytes, cal_slice_of(payload, sizeof payload),
                          storage->signature->signature);
}

/* How the parent lists the entity; 1, 0, CAL_E*. */
static int read_listing(subject *s, const crdt_index *entity, crdt_storage_type *ret_storage) {
    crdt_index parent;
    if (!entity->has_parent) return 0;
    int hit = read_index(s, &entity->parent, &parent);
    if (hit <= 0) return hit;
    for (uint32_t i = 0; i < parent.children.count; i++) {
        if (!crdt_id_equal(&parent.children.items[i].id, &entity->id)) continue;
        *ret_storage = parent.children.items[i].metadata.storage;
        return 1;
    }
    return 0;
}

/* An entry of a rotation log: delta id twice, hlc, signer, signature, payload, writers, nonce, id
 * (runtime-abi.md 9). */
static int read_log_entry(subject *s, crdt_bytes bytes, crdt_storage_type *ret_storage) {
    enum { HLC = 24 };
    crdt_reader in = crdt_reader_of(bytes, &s->env.memory);
    crdt_signature *signature = crdt_alloc_array(&s->env.memory, 1, sizeof *signature);
    if (!signature) return CAL_ENOMEM;
    *signature = (crdt_signature){0};
    *ret_storage = (crdt_storage_type){.kind = CRDT_SHARED};
    crdt_read_take(&in, 32 + 32 + HLC);
    signature->has_signer = crdt_read_bool(&in);
    if (signature->has_signer) crdt_read_fixed(&in, signature->signer.bytes, 32);
    bool has_signature = crdt_read_bool(&in);
    if (has_signature) crdt_read_fixed(&in, signature->signature, 64);
    if (crdt_read_bool(&in)) crdt_read_take(&in, 32);
    crdt_read_grants(&in, &ret_storage->writers);
    signature->nonce = crdt_read_u64(&in);
    crdt_read_take(&in, 32);
    if (crdt_read_end(&in)) return in.error == CRDT_ENOMEM ? CAL_ENOMEM : 0;
    if (has_signature) ret_storage->signature = signature;
    return 1;
}

/* Every storage type that an anchor had, as far as the state tells: visit answers 0 to go on. */
typedef int (*storage_visit)(subject *s, const crdt_storage_type *storage, void *user);

static int each_storage(subject *s, const crdt_index *anchor, storage_visit visit, void *user) {
    static const char name[] = "__calimero_rotation_log__";
    crdt_storage_type storage;
    crdt_index log;
    crdt_id id;
    int rc = visit(s, &anchor->metadata.storage, user);
    if (rc) return rc;
    int hit = read_listing(s, anchor, &storage);
    if (hit == 1 && (rc = visit(s, &storage, user))) return rc;
    if (hit < 0) return hit;
    crdt_entry_id(s->env.sha256, &anchor->id, crdt_bytes_of(name, sizeof name - 1), &id);
    hit = read_index(s, &id, &log);
    for (uint32_t i = 0; hit == 1 && i < log.children.count; i++) {
        staged_entity entry;
        int found = read_entity(s, &log.children.items[i].id, &entry);
        if (found == 1)
            found = read_log_entry(s, crdt_bytes_of(entry.entry.data, entry.entry.len), &storage);
        if (found < 0) return found;
        if (found == 1 && (rc = visit(s, &storage, user))) return rc;
    }
    return hit < 0 ? hit : 0;
}

static int visit_holds(subject *s, const crdt_storage_type *storage, void *user) {
    if (storage->kind != CRDT_SHARED) return 0;
    int holds = signature_holds(s, storage);
    if (holds == 1) *(const crdt_signature **)user = storage->signature;
    return holds;
}

static int visit_writes(subject *s, const crdt_storage_type *storage, void *user) {
    (void)s;
    if (storage->kind != CRDT_SHARED) return 0;
    const crdt_grant *grant = crdt_grants_find(storage->writers, user);
    return grant && (grant->mask & CRDT_MASK_WRITE);
}

/* The account that signed; 1, 0 nobody's device, CAL_E*. */
static int signer_account(const subject *s, const crdt_signature *signature, crdt_id *ret_account) {
    const sync_snapshot_options *options = &s->verify->intake->options;
    cal_public_key device;
    cal_account_id account;
    memcpy(device.bytes, signature->signer.bytes, 32);
    int rc = options->account(options->user, &device, &account);
    if (rc) return rc == CAL_ENOTFOUND ? 0 : rc;
    memcpy(ret_account->bytes, account.bytes, 32);
    return 1;
}

static int judge_user(subject *s) {
    const crdt_storage_type *storage = &s->index.metadata.storage;
    crdt_storage_type listed;
    crdt_id account;
    int holds = signature_holds(s, storage);
    if (holds == 0 && (holds = read_listing(s, &s->index, &listed)) == 1) {
        bool same = crdt_storage_type_same(storage, &listed);
        holds = same ? signature_holds(s, &listed) : 0;
        storage = &listed;
    }
    if (holds < 0) return holds;
    if (holds == 0) return refuse(s->verify, &s->index.id, "its owner has not signed it");
    int known = signer_account(s, storage->signature, &account);
    if (known < 0) return known;
    if (known == 0 || !crdt_id_equal(&account, &storage->subject))
        return refuse(s->verify, &s->index.id, "it is signed by somebody who is not its owner");
    return 0;
}

/* A Shared entity, or a member of one. */
static int judge_shared(subject *s) {
    const crdt_storage_type *own = &s->index.metadata.storage;
    const crdt_signature *signature = NULL;
    crdt_storage_type listed;
    crdt_index anchor = s->index;
    crdt_id account;
    int rc;
    if (own->kind == CRDT_SHARED) {
        rc = each_storage(s, &s->index, visit_holds, &signature);
    } else {
        rc = signature_holds(s, own);
        if (rc == 1) signature = own->signature;
        if (rc == 0 && (rc = read_listing(s, &s->index, &listed)) == 1 &&
            crdt_storage_type_same(own, &listed) && (rc = signature_holds(s, &listed)) == 1)
            signature = listed.signature;
        int hit = rc < 0 ? rc : read_index(s, &own->subject, &anchor);
        if (hit < 0) return hit;
        if (hit == 0 || anchor.metadata.storage.kind != CRDT_SHARED)
            return refuse(s->verify, &s->index.id, "what it belongs to is not there");
    }
    if (rc < 0) return rc;
    if (!signature) return refuse(s->verify, &s->index.id, "no writer has signed it");
    int known = signer_account(s, signature, &account);
    if (known == 1) known = each_storage(s, &anchor, visit_writes, &account);
    if (known < 0) return known;
    return known ? 0
                 : refuse(s->verify, &s->index.id, "it is signed by somebody who may not write");
}

/* The hash of the value, the value, the id. */
static int judge_frozen(const subject *s) {
    uint8_t hash[32];
    bool holds = s->entry.len >= 64;
    if (holds) {
        cal_sha256(cal_slice_of(s->entry.data + 32, s->entry.len - 64), hash);
        holds = memcmp(hash, s->entry.data, 32) == 0;
    }
    return holds ? 0 : refuse(s->verify, &s->index.id, "it is frozen, and is another value");
}

/* --- the one walk --- */

static void triple_hash(const uint8_t secret[32], const crdt_id *parent, const crdt_id *id,
                        const crdt_hash *full_hash, uint8_t ret_hash[CAL_HASH_SIZE]) {
    uint8_t parts[4 * 32];
    memcpy(parts, secret, 32);
    memcpy(parts + 32, parent, 32);
    memcpy(parts + 64, id, 32);
    memcpy(parts + 96, full_hash, 32);
    cal_sha256(cal_slice_of(parts, sizeof parts), ret_hash);
}

static void add_triple(const uint8_t secret[32], staged_triples *to, const crdt_id *parent,
                       const crdt_id *id, const crdt_hash *full_hash) {
    uint8_t hash[CAL_HASH_SIZE];
    triple_hash(secret, parent, id, full_hash, hash);
    for (size_t i = 0; i < SUM_WORDS; i++) to->sum[i] += cal_read_u64le(hash + 8 * i);
    to->count++;
}

void staged_sums_begin(staged_sums *sums, const cal_os *os) {
    *sums = (staged_sums){0};
    os->random(os->user, sums->secret, sizeof sums->secret);
}

void staged_sums_add(staged_sums *sums, const sync_snapshot_options *options,
                     const crdt_index *index) {
    sums->entities++;
    if (memcmp(&index->id, &options->context, 32) == 0)
        sums->root_seen = !index->has_parent && memcmp(&index->full_hash, &options->root, 32) == 0;
    if (index->has_parent)
        add_triple(sums->secret, &sums->present, &index->parent, &index->id, &index->full_hash);
    for (uint32_t i = 0; i < index->children.count; i++)
        add_triple(sums->secret, &sums->listed, &index->id, &index->children.items[i].id,
                   &index->children.items[i].merkle_hash);
}

bool staged_sums_agree(const staged_sums *sums) {
    return sums->root_seen && sums->present.count == sums->entities - 1 &&
           memcmp(&sums->present, &sums->listed, sizeof sums->present) == 0;
}

static int judge_entity(verify *v, const staged_entity *entity) {
    cal_arena arena;
    cal_arena_init(&arena, RECORD_MEMORY_MAX);
    subject s = {.verify = v, .arena = &arena, .env = cal_crdt_env(&arena)};
    s.entry = crdt_bytes_of(entity->entry.data, entity->entry.len);
    int rc = crdt_index_decode(&s.env.memory, crdt_bytes_of(entity->index.data, entity->index.len),
                               &s.index);
    if (rc == 0) {
        staged_sums_add(&v->sums, &v->intake->options, &s.index);
        switch (s.index.metadata.storage.kind) {
        case CRDT_PUBLIC:
            break;
        case CRDT_USER:
            rc = judge_user(&s);
            break;
        case CRDT_FROZEN:
            rc = judge_frozen(&s);
            break;
        default:
            rc = judge_shared(&s);
        }
    }
    cal_arena_deinit(&arena);
    return rc == 0 || rc == CAL_EVERIFY ? rc : staged_failed(rc, v->err);
}

static int judge_all(verify *v) {
    cal_cursor *cursor = NULL;
    const uint8_t *key;
    staged_entity entity;
    int rc = staged_cursor(v->intake, v->snapshot, &cursor);
    if (rc) return staged_failed(rc, v->err);
    while ((rc = staged_next(cursor, &key, &entity)) == 0) {
        rc = judge_entity(v, &entity);
        if (rc) {
            cal_cursor_free(cursor);
            return rc;
        }
    }
    cal_cursor_free(cursor);
    return rc == CAL_ENOTFOUND ? 0 : staged_failed(rc, v->err);
}

/* --- what stands outside of the tree --- */

/* Numbers in order; of triples and ids, under the secret key. */
typedef struct numbers {
    uint64_t *items;
    size_t count, capacity;
    bool short_of_memory;
} numbers;

static void add_number(numbers *to, uint64_t number) {
    if (to->count == to->capacity) {
        size_t capacity = to->capacity ? 2 * to->capacity : 1024;
        uint64_t *items = realloc(to->items, capacity * sizeof *items);
        if (!items) {
            to->short_of_memory = true;
            return;
        }
        to->items = items;
        to->capacity = capacity;
    }
    to->items[to->count++] = number;
}

static int compare_numbers(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort_numbers(numbers *list) {
    if (list->count) qsort(list->items, list->count, sizeof *list->items, compare_numbers);
}

static bool has_number(const numbers *list, uint64_t number) {
    return list->count &&
           bsearch(&number, list->items, list->count, sizeof *list->items, compare_numbers);
}

static uint64_t triple_number(const verify *v, const crdt_id *parent, const crdt_id *id,
                              const crdt_hash *full_hash) {
    uint8_t hash[CAL_HASH_SIZE];
    triple_hash(v->sums.secret, parent, id, full_hash, hash);
    return cal_read_u64le(hash);
}

static uint64_t id_number(const verify *v, const crdt_id *id) {
    static const crdt_hash none;
    return triple_number(v, id, id, &none);
}

typedef struct outside {
    verify *verify;
    numbers listed;  /* triples */
    numbers orphans; /* ids: known before this walk */
    numbers found;   /* and in it */
    cal_batch *batch;
    uint64_t kept;
} outside;

static void note_listed(outside *o, const crdt_index *index) {
    for (uint32_t i = 0; i < index->children.count; i++)
        add_number(&o->listed, triple_number(o->verify, &index->id, &index->children.items[i].id,
                                             &index->children.items[i].merkle_hash));
}

/* Its parent does not list it, or is outside itself. */
static bool is_outside(const outside *o, const crdt_index *index) {
    if (!index->has_parent) return memcmp(&index->id, &o->verify->intake->options.context, 32) != 0;
    return !has_number(&o->listed,
                       triple_number(o->verify, &index->parent, &index->id, &index->full_hash)) ||
           has_number(&o->orphans, id_number(o->verify, &index->parent));
}

static void note_outside(outside *o, const crdt_index *index) {
    if (is_outside(o, index)) add_number(&o->found, id_number(o->verify, &index->id));
}

/* What nobody signed and no hash holds is what anybody might have put there. */
static void remove_outside(outside *o, const crdt_index *index) {
    uint8_t key[32], row[STAGED_KEY];
    if (!is_outside(o, index)) return;
    if (index->metadata.storage.kind != CRDT_PUBLIC) {
        o->kept++;
        return;
    }
    staged_row_key(CRDT_KEY_INDEX, index->id.bytes, key);
    memcpy(row, o->verify->intake->staging, 32);
    memcpy(row + 32, key, 32);
    cal_batch_delete(o->batch, CAL_COLUMN_STATE, cal_slice_of(row, sizeof row));
}

static int each_index(outside *o, void (*visit)(outside *o, const crdt_index *index)) {
    cal_cursor *cursor = NULL;
    const uint8_t *key;
    staged_entity entity;
    int rc = staged_cursor(o->verify->intake, o->verify->snapshot, &cursor);
    while (!rc && (rc = staged_next(cursor, &key, &entity)) == 0) {
        cal_arena arena;
        crdt_index index;
        cal_arena_init(&arena, RECORD_MEMORY_MAX);
        crdt_env env = cal_crdt_env(&arena);
        rc = crdt_index_decode(&env.memory, crdt_bytes_of(entity.index.data, entity.index.len),
                               &index);
        if (!rc) visit(o, &index);
        cal_arena_deinit(&arena);
    }
    cal_cursor_free(cursor);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

/* Walk after walk finds those below the ones found before, until there are no more. */
static int find_outside(outside *o) {
    int rc = each_index(o, note_listed);
    sort_numbers(&o->listed);
    for (bool more = true; !rc && more;) {
        o->found.count = 0;
        rc = each_index(o, note_outside);
        sort_numbers(&o->found);
        more = o->found.count > o->orphans.count;
        numbers last = o->orphans;
        o->orphans = o->found;
        o->found = last;
    }
    if (o->listed.short_of_memory || o->found.short_of_memory || o->orphans.short_of_memory)
        rc = CAL_ENOMEM;
    return rc;
}

static int drop_outside(verify *v, sync_snapshot_figures *figures) {
    outside o = {.verify = v, .batch = cal_batch_new()};
    int rc = o.batch ? find_outside(&o) : CAL_ENOMEM;
    if (!rc) rc = each_index(&o, remove_outside);
    if (rc) {
        cal_batch_free(o.batch);
    } else {
        figures->orphans = o.kept;
        figures->dropped = cal_batch_count(o.batch);
        rc = cal_store_commit(v->intake->options.store, o.batch, NULL);
    }
    free(o.listed.items);
    free(o.orphans.items);
    free(o.found.items);
    return rc ? staged_failed(rc, v->err) : 0;
}

/* Why the lists do not agree. */
static int look_closer(verify *v, sync_snapshot_figures *figures) {
    crdt_tree_summary summary = {0};
    int rc = verify_tree(v, &summary);
    if (rc) return rc;
    uint64_t reached = summary.entities - summary.moved;
    if (reached > v->sums.entities || (summary.moved && reached != v->sums.entities))
        return cal_fail(v->err, CAL_EVERIFY,
                        "the snapshot does not verify: %llu entities came, its tree holds %llu, "
                        "%llu of them under another parent, too",
                        (unsigned long long)v->sums.entities, (unsigned long long)reached,
                        (unsigned long long)summary.moved);
    figures->entities = reached;
    figures->moved = summary.moved;
    return reached < v->sums.entities ? drop_outside(v, figures) : 0;
}

static int verify_all(verify *v) {
    sync_snapshot *intake = v->intake;
    int rc = staged_flush(intake, v->err);
    if (rc) return rc;
    intake->figures.moved = intake->figures.orphans = intake->figures.dropped = 0;
    intake->figures.entities = intake->sums.entities;
    intake->figures.walked = intake->looks_again || !staged_sums_agree(&intake->sums);
    if (!intake->figures.walked) return 0;
    staged_sums_begin(&v->sums, intake->options.os);
    rc = cal_store_snapshot(intake->options.store, &v->snapshot);
    if (rc) return staged_failed(rc, v->err);
    rc = judge_all(v);
    intake->figures.entities = v->sums.entities;
    if (!rc && !staged_sums_agree(&v->sums)) rc = look_closer(v, &intake->figures);
    cal_snapshot_free(v->snapshot);
    return rc;
}

int sync_snapshot_verify(sync_snapshot *intake, cal_error *err) {
    cal_error own = {0};
    verify *v = calloc(1, sizeof *v);
    if (!v) return staged_failed(CAL_ENOMEM, err);
    v->intake = intake;
    v->err = err ? err : &own;
    int rc = verify_all(v);
    free(v);
    intake->verified = rc == 0;
    return rc;
}
