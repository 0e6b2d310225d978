/* Governance of this node: who it is, its namespaces and groups, who may do what in them, and which
 * contexts they hold.
 *
 * Every change is a real signed operation (governance.md 4, 6): built, validated by the same
 * function that a received operation goes through, and stored in the namespace's DAG together with
 * the rows that follow from it. A change is not applied at once: gov_* functions that take a
 * `gov_change **` only prepare it. The caller puts gov_change_batch into its own store transaction,
 * and once that is durable calls gov_change_commit, which makes it visible here, or
 * gov_change_abort. One change at a time for each namespace: a second gives CAL_EBUSY, and
 * gov_when_idle says when to try again.
 *
 * Queries answer from memory: rows loaded at open and moved forward only by gov_change_commit, so
 * they never show what is not durable.
 *
 * Thread: the loop thread, for everything that takes a cal_gov, unless marked "any thread". Nothing
 * here blocks but gov_open. */
#ifndef CAL_GOV_H
#define CAL_GOV_H

#include "base/buffer.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "crypto/crypto.h"
#include "gov/account.h"
#include "gov/delta.h"
#include "gov/invitation.h"
#include "gov/verdict.h"
#include "os/os.h"
#include "store/removal.h"
#include "store/store.h"

/* Capability bits (governance.md 8); unknown bits are kept. */
enum {
    GOV_CAN_CREATE_CONTEXT = 0x001,
    GOV_CAN_INVITE_MEMBERS = 0x002,
    GOV_CAN_JOIN_OPEN_SUBGROUPS = 0x004,
    GOV_MANAGE_MEMBERS = 0x008,
    GOV_MANAGE_APPLICATION = 0x010,
    GOV_CAN_CREATE_SUBGROUP = 0x020,
    GOV_CAN_DELETE_SUBGROUP = 0x040,
    GOV_CAN_MANAGE_VISIBILITY = 0x080,
    GOV_CAN_MANAGE_METADATA = 0x100,
    GOV_CAPABILITIES_ALL = 0x1FF,
    GOV_CAPABILITIES_DEFAULT = GOV_CAN_JOIN_OPEN_SUBGROUPS,
};

enum {
    GOV_NAME_MAX = 64, /* bytes of a metadata name, at least 1 */
    GOV_METADATA_ENTRIES_MAX = 64,
    GOV_METADATA_KEY_MAX = 64,
    GOV_METADATA_VALUE_MAX = 4096,
    GOV_DEPTH_MAX = 16, /* of the tree of groups */
};

typedef enum gov_role {
    GOV_ROLE_ADMIN,
    GOV_ROLE_MEMBER,
    GOV_ROLE_READ_ONLY,
    GOV_ROLE_READ_ONLY_TEE,
    GOV_ROLE_COUNT
} gov_role;

typedef struct cal_gov cal_gov;
typedef struct gov_change gov_change;

/* --- this node --- Secrets are wiped by gov_close. */
typedef struct gov_identity {
    cal_secret root_seed, sign_seed, kem_secret; /* root_seed: the one in force */
    uint8_t device_nonce[GOV_DEVICE_NONCE_SIZE];
    cal_account_id account;
    cal_device_id device;
    cal_public_key root_key, /* the first one, which names the account */
        sign_key;            /* the executor, author and signer of everything */
    uint8_t kem_key[32];
    gov_credential credential; /* what a join or a genesis carries; with the handoffs so far */
} gov_identity;

/* Loads all rows and, on the first open of a store, mints the identity (commits; blocks).
 * CAL_ECORRUPT, CAL_EIO, CAL_ENOMEM. */
int gov_open(cal_store *store, const cal_os *os, cal_gov **ret_gov, cal_error *err);
void gov_close(cal_gov *gov);                     /* no change may be open; NULL allowed */
const gov_identity *gov_self(const cal_gov *gov); /* any thread; constant until gov_close */
/* Moves on with every change that becomes visible: what was read under the same version still
 * holds. Any thread. */
uint64_t gov_version(const cal_gov *gov);
/* Ed25519 with the node's signing key. Any thread. */
void gov_sign(const cal_gov *gov, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]);

/* --- changes --- */
cal_batch *gov_change_batch(gov_change *change); /* take its content with cal_batch_merge, once */
size_t gov_change_ops(const gov_change *change); /* how many signed operations it adds */
/* The i-th, encoded: borsh(SignedNamespaceOp), for gossip after the commit. */
cal_slice gov_change_op(const gov_change *change, size_t i);
const cal_group_id *gov_change_namespace(const gov_change *change);
void gov_change_commit(gov_change *change); /* the batch is durable; frees it */
void gov_change_abort(gov_change *change);  /* nothing happened; frees it; NULL allowed */
/* fn runs once no change is open in the namespace: at once, or from a later commit or abort. One
 * waiter at a time, in order. A namespace that does not exist is idle. CAL_ENOMEM. */
int gov_when_idle(cal_gov *gov, const cal_group_id *namespace_id, void (*fn)(void *user),
                  void *user);

/* --- operations of others --- */

/* An operation as it came, decoded and verified. */
typedef struct gov_verified gov_verified;
enum {
    /* Of one call, and decided in one change: some 3 ms of the loop. */
    GOV_RECEIVE_OPS_MAX = 64,
    GOV_RECEIVE_BYTES_MAX = 16 * 1024 * 1024,
};

/* Decodes borsh(SignedNamespaceOp) and verifies version, bounds and signature. What is wrong with
 * it is noted in the result; gov_receive refuses it. Any thread, pure but for memory. CAL_ENOMEM.
 */
int gov_verify(cal_slice bytes, gov_verified **ret_op);
void gov_verified_free(gov_verified *op);                /* NULL allowed */
gov_reason gov_verified_reason(const gov_verified *op);  /* GOV_WHY_FINE or a refusal */
const cal_hash *gov_verified_id(const gov_verified *op); /* zero when it is malformed */

/* What became of one operation. */
typedef struct gov_receipt {
    cal_hash id;
    gov_verdict verdict;
    gov_reason reason;
    gov_wait wait; /* of a waiting one */
    bool known;    /* it was in the graph, or waiting, before */
    uint64_t sender;
} gov_receipt;

/* Judges operations of a namespace, in any order, and prepares one change with all that have a
 * place in its graph; those that wait are parked in memory, and are judged again by the call (or
 * the later one) that brings what they wait for, never by time. sender: whoever brought them (a
 * hash of its id), which bounds what waits for it.
 *
 * Takes the operations, and sets each to NULL, unless it fails: then they stay the caller's.
 * CAL_EBUSY (another change is open), CAL_EINVAL (more than GOV_RECEIVE_OPS_MAX operations or
 * GOV_RECEIVE_BYTES_MAX), CAL_EEXISTS (the id is that of another namespace's group), CAL_ENOMEM,
 * CAL_EIO, CAL_ECORRUPT. With count 0: only what waited and can be judged now. One call judges as
 * many of those as the bounds leave room for; gov_receive_pending says whether some are left. */
int gov_receive(cal_gov *gov, const cal_group_id *namespace_id, gov_verified **ops, size_t count,
                uint64_t sender, gov_change **ret_change, cal_error *err);
/* What became of those given, in their order, and then of those that had waited. */
const gov_receipt *gov_change_receipts(const gov_change *change, size_t *ret_count);
/* The change brings nothing to store: commit it without. */
bool gov_change_empty(const gov_change *change);
/* Something that waited can be judged: call gov_receive. */
bool gov_receive_pending(cal_gov *gov, const cal_group_id *namespace_id);
/* The namespace's history is complete as far as anybody here knows: what waited for it is judged
 * with the next gov_receive. */
void gov_history_complete(cal_gov *gov, const cal_group_id *namespace_id);
typedef struct gov_waiting_info {
    size_t count, bytes;
    uint64_t evicted; /* gave way to others, since the start */
} gov_waiting_info;
gov_waiting_info gov_waiting(cal_gov *gov, const cal_group_id *namespace_id);
/* Ids of operations that some waiting one cites and that are neither here nor waiting, up to max:
 * what to fetch. Their number. */
size_t gov_missing(cal_gov *gov, const cal_group_id *namespace_id, cal_hash *ret_ids, size_t max);

/* --- namespaces and groups --- Names: 1 to GOV_NAME_MAX bytes of UTF-8, CAL_EINVAL otherwise;
 * NULL: none. */
typedef struct gov_namespace_spec {
    const cal_group_id *id; /* NULL: random */
    cal_application_id application;
    cal_blob_id app_key; /* blob id of the exact code version; not zero */
    const char *name;
} gov_namespace_spec;
int gov_namespace_create(cal_gov *gov, const gov_namespace_spec *spec, cal_group_id *ret_id,
                         gov_change **ret_change, cal_error *err); /* CAL_EEXISTS */
/* Local purge of the namespace, its groups, operations and keys; publishes nothing. From the commit
 * on it is not known any more; its rows go in steps (gov_removal), what memory holds by gov_sweep.
 * Contexts' own rows are the caller's. CAL_ENOTFOUND, CAL_EDENIED (not its admin). */
int gov_namespace_delete(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                         cal_error *err);

/* The rows of deleted namespaces. Those of its contexts go first: gov_stored_contexts, which also
 * reads a deleted namespace, is how they are found. */
extern const cal_removal gov_removal;
/* Frees a bounded part of what deleted namespaces hold in memory; whether there is more. */
bool gov_sweep(cal_gov *gov);

typedef struct gov_group_spec {
    const cal_group_id *id; /* NULL: random */
    cal_group_id parent;    /* the namespace, or a group in it */
    const char *name;
    bool open; /* visibility; false: restricted */
} gov_group_spec;
int gov_group_create(cal_gov *gov, const gov_group_spec *spec, cal_group_id *ret_id,
                     gov_change **ret_change, cal_error *err);
/* The group, the groups below it and their contexts' registrations (GroupDeleted). Never a
 * namespace. */
int gov_group_delete(cal_gov *gov, const cal_group_id *group, gov_change **ret_change,
                     cal_error *err);

/* Settings and members: one signed operation each. CAL_ENOTFOUND, CAL_EDENIED, CAL_EINVAL. */
int gov_group_set_metadata(cal_gov *gov, const cal_group_id *group, const char *name,
                           gov_change **ret_change, cal_error *err);
int gov_group_set_visibility(cal_gov *gov, const cal_group_id *group, bool open,
                             gov_change **ret_change, cal_error *err);
int gov_group_set_default_capabilities(cal_gov *gov, const cal_group_id *group,
                                       uint32_t capabilities, gov_change **ret_change,
                                       cal_error *err);
int gov_group_set_target(cal_gov *gov, const cal_group_id *group,
                         const cal_application_id *application, const cal_blob_id *app_key,
                         gov_change **ret_change, cal_error *err);
int gov_member_set_capabilities(cal_gov *gov, const cal_group_id *group,
                                const cal_account_id *account, uint32_t capabilities,
                                gov_change **ret_change, cal_error *err);

/* --- contexts --- */
/* What a context in this group would be, and whether this node may create one. CAL_ENOTFOUND (no
 * such group), CAL_EDENIED (not a member, or without GOV_CAN_CREATE_CONTEXT), CAL_ESTATE (no key of
 * the group yet). */
typedef struct gov_context_plan {
    cal_group_id group, namespace_id;
    cal_application_id application; /* the group's target: what the context will run */
    cal_blob_id app_key;
    cal_account_id account; /* of this node, as the guest sees it */
} gov_context_plan;
int gov_context_prepare(cal_gov *gov, const cal_group_id *group, gov_context_plan *ret_plan,
                        cal_error *err);

typedef struct gov_context_spec {
    cal_context_id context;
    cal_group_id group;
    cal_application_id application;
    cal_blob_id blob;         /* of the code: the application's bytecode blob */
    const char *source;       /* where the application came from, "" allowed */
    const char *service_name; /* NULL: none */
    const char *name;         /* NULL: none */
} gov_context_spec;
/* ContextRegistered, then ContextMetadataSet when it has a name. As gov_context_prepare, and
 * CAL_EEXISTS. */
int gov_context_register(cal_gov *gov, const gov_context_spec *spec, gov_change **ret_change,
                         cal_error *err);
/* ContextDetached; deleting a context is this and the caller's own rows, in one transaction.
 * CAL_ENOTFOUND, CAL_EDENIED. */
int gov_context_detach(cal_gov *gov, const cal_context_id *context, gov_change **ret_change,
                       cal_error *err);

/* CAL_ENOTFOUND when the context is in no group. */
int gov_context_group(cal_gov *gov, const cal_context_id *context, cal_group_id *ret_group,
                      cal_group_id *ret_namespace);

/* What a call that may write needs. CAL_ENOTFOUND, CAL_EDENIED (no member, or read-only),
 * CAL_ESTATE (no key; more than GOV_POSITION_HEADS_MAX heads). */
typedef struct gov_write_grant {
    cal_group_id group, namespace_id;
    cal_account_id account;
    gov_position position; /* the governance heads, for the delta's edge */
    cal_blob_id app_key;   /* producing_app_key */
    cal_secret group_key;  /* seals the delta; wipe it after use */
    cal_hash key_id;
} gov_write_grant;
int gov_context_write(cal_gov *gov, const cal_context_id *context, gov_write_grant *ret_grant,
                      cal_error *err);
/* Whether this node may read the context: CAL_ENOTFOUND, CAL_EDENIED. */
int gov_context_read(cal_gov *gov, const cal_context_id *context, cal_account_id *ret_account,
                     cal_error *err);

/* --- queries --- Strings are valid until the next change is committed. Visitors must not start or
 * end a change. */
typedef struct gov_group_info {
    cal_group_id id, namespace_id, parent; /* parent == id for a namespace */
    cal_application_id application;
    cal_blob_id app_key;
    cal_account_id admin, owner;
    uint64_t created_at_s;
    const char *name; /* NULL: none */
    bool open;
    bool joining; /* of a namespace: this node is in none of it yet (gov/share.h) */
    uint32_t default_capabilities;
    uint64_t members, contexts,
        subgroups; /* direct ones; of a namespace: in its root group, in all, in all */
} gov_group_info;
int gov_group_get(cal_gov *gov, const cal_group_id *group,
                  gov_group_info *ret_info); /* namespaces too; CAL_ENOTFOUND */
/* The code that the group runs; for every call, so without the rest. CAL_ENOTFOUND. */
int gov_group_code(cal_gov *gov, const cal_group_id *group, cal_blob_id *ret_app_key);
typedef void (*gov_group_visitor)(void *user, const gov_group_info *info);
void gov_namespace_each(cal_gov *gov, gov_group_visitor visit, void *user); /* ascending ids */
int gov_group_children(cal_gov *gov, const cal_group_id *parent, gov_group_visitor visit,
                       void *user); /* direct; CAL_ENOTFOUND */
int gov_group_below(cal_gov *gov, const cal_group_id *parent, gov_group_visitor visit,
                    void *user); /* all levels, parents first */
int gov_group_namespace(cal_gov *gov, const cal_group_id *group,
                        cal_group_id *ret_namespace); /* CAL_ENOTFOUND */
/* H(group || admin || owner || application || (account || role)*), the group's state hash. */
int gov_group_hash(cal_gov *gov, const cal_group_id *group, cal_hash *ret_hash);

typedef struct gov_context_info {
    cal_context_id id;
    cal_group_id group;
    cal_application_id application;
    cal_blob_id blob; /* the code that it was registered with */
    const char *name; /* NULL: none */
    const char *service_name;
    const char *source; /* where that came from; "" */
} gov_context_info;
typedef void (*gov_context_visitor)(void *user, const gov_context_info *info);
int gov_context_get(cal_gov *gov, const cal_context_id *context,
                    gov_context_info *ret_info); /* CAL_ENOTFOUND */
int gov_group_contexts(cal_gov *gov, const cal_group_id *group, gov_context_visitor visit,
                       void *user); /* direct; CAL_ENOTFOUND */
int gov_namespace_contexts(cal_gov *gov, const cal_group_id *namespace_id,
                           gov_context_visitor visit, void *user); /* all groups */
/* The same in parts: up to `max` of them behind the place, which moves on; zeroed it is before the
 * first. What is registered in front of the place meanwhile is not seen. How many there were: fewer
 * than `max` at the end. */
typedef struct gov_context_place {
    cal_group_id group;
    cal_context_id context;
} gov_context_place;
size_t gov_namespace_contexts_from(cal_gov *gov, const cal_group_id *namespace_id,
                                   gov_context_place *place, size_t max, gov_context_visitor visit,
                                   void *user);

/* The contexts that the stored rows of a namespace register, a page at a time so that no snapshot
 * grows old; visit returns 0 to go on. Any thread. */
int gov_stored_contexts(cal_store *store, const cal_group_id *namespace_id,
                        int (*visit)(void *user, const cal_context_id *context), void *user);

typedef struct gov_member_info {
    cal_account_id account;
    gov_role role;
    uint32_t capabilities; /* its own row; has_capabilities says whether there is one */
    bool has_capabilities;
    const char *name; /* NULL: none */
} gov_member_info;
typedef void (*gov_member_visitor)(void *user, const gov_member_info *info);
int gov_group_members(cal_gov *gov, const cal_group_id *group, gov_member_visitor visit,
                      void *user); /* direct rows; CAL_ENOTFOUND */

typedef enum gov_path { GOV_PATH_NONE, GOV_PATH_DIRECT, GOV_PATH_INHERITED } gov_path;
/* How an account is a member of a group (governance.md 7.2); ret_role may be NULL. */
gov_path gov_member_path(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                         gov_role *ret_role);
bool gov_member_admin(cal_gov *gov, const cal_group_id *group,
                      const cal_account_id *account); /* or of an open ancestor */
bool gov_member_can(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                    uint32_t capability); /* admin, or a member with the bit */
uint32_t gov_member_capabilities(cal_gov *gov, const cal_group_id *group,
                                 const cal_account_id *account); /* effective */

/* --- invitations --- valid_s 0: 365 days. CAL_ENOTFOUND, CAL_EDENIED. Not a change. ret_name (may
 * be NULL): the group's. */
int gov_invite(cal_gov *gov, const cal_group_id *group, uint64_t valid_s,
               gov_invitation *ret_invitation, const char **ret_name, cal_error *err);

/* For `merod check`: every operation is decoded, its signature and id verified, its parents looked
 * up; sequence and heads must be those of the operations, and the rows must refer to one another.
 * `report` gets one line for each finding. 0 when clean, CAL_ECORRUPT otherwise, or why it could
 * not be checked. Any thread while nothing changes; blocks. */
int gov_check(cal_gov *gov, cal_snapshot *snapshot, void (*report)(void *user, const char *finding),
              void *user);

#endif
