/* Inside gov/: rows, views over them, changes.
 *
 * A namespace is a set of rows, small keys and values that stand in the store's GROUP column under
 * its id and, the same, in memory. A view reads rows with a change's own rows laid over them; every
 * question about members and rights is a function of a view, so the same functions answer for the
 * present, for a change being built, and for a fold of operations at some cut.
 *
 * Row keys are a kind byte and up to three ids. Rows are checked when they are loaded
 * (gov_row_fits) and when they are written, so reading one asserts its size. Loop thread. */
#ifndef CAL_GOV_INTERNAL_H
#define CAL_GOV_INTERNAL_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "base/sorted.h"
#include "gov/gov.h"
#include "gov/members.h"
#include "gov/op.h"
#include "gov/parking.h"
#include "gov/proofs.h"

typedef enum gov_row_kind {
    ROW_META = 'M',          /* group -> gov_meta */
    ROW_MEMBER = 'R',        /* group, account -> gov_member */
    ROW_CAPABILITIES = 'C',  /* group, account -> u32 */
    ROW_DEFAULTS = 'D',      /* group -> u32 */
    ROW_VISIBILITY = 'V',    /* group -> 0 open, 1 restricted; absent: restricted */
    ROW_PARENT = 'P',        /* group -> parent */
    ROW_CHILD = 'S',         /* parent, group -> nothing */
    ROW_CONTEXT = 'X',       /* group, context -> application, blob, service, source */
    ROW_CONTEXT_GROUP = 'x', /* context -> group */
    ROW_GROUP_DATA = 'G',    /* group -> metadata */
    ROW_MEMBER_DATA = 'E',   /* group, account -> metadata */
    ROW_CONTEXT_DATA = 'T',  /* group, context -> metadata */
    ROW_BINDING = 'B',       /* device -> gov_binding */
    ROW_ROOT_KEY = 'O',      /* account, epoch in the last bytes -> root key */
    ROW_REVOKED = 'Z',       /* device -> nothing; terminal */
    ROW_ENDORSER = 'Y',      /* account, member account -> nothing */
    ROW_KEY =
        'K', /* group, key id -> key, epoch, order: secret, only ever in the encrypted store */
    ROW_KEY_DOUBT = 'd',  /* group, key id -> the key that sealed it for us: not confirmed yet */
    ROW_KEY_EPOCH = 'n',  /* group, key id -> the epoch that an admin's rotation gives it, here or
                             not; number of the operation, its author */
    ROW_KEY_CLOSED = 'y', /* group -> key id: the highest that nobody has who is gone (closed.c) */
    ROW_JOINING = 'J',    /* -> when this node began to join; gone once it is a member */
    ROW_HEADS = 'H',      /* -> sequence, heads */
    ROW_NONCES = 'W',     /* group, signer -> window */
    ROW_CONSUMED = 'I',   /* group, account, invitation nonce -> nothing */
    ROW_REENTRY = 'Q',    /* group, account -> gov_reentry: why a former member may not come back */
    ROW_ROTATION_DUE =
        'u', /* group, account or device -> nothing: a key rotation that some admin owes */
    ROW_DEVICE_GONE = 'q',  /* group, device -> number of the operation: revoked, and its account
                               had the key */
    ROW_POLICY = 'U',       /* group -> TEE policy as it stood in the operation */
    ROW_MIGRATION = 'g',    /* group -> bytes */
    ROW_CONTEXT_MASK = 'k', /* group, context, account -> u8 */
    ROW_ROOT_ADMIN =
        'A', /* -> account named by AdminChanged: an admin in every group of the namespace */
    ROW_SEALED = 'L', /* group, operation -> key id, signer, nonce: kept until its key arrives */
    ROW_OWNER = 'w',  /* group -> account; only inside a fold: present rows have it in their meta */
    ROW_OPAQUE = 'o', /* group, operation -> key id: nobody could read it; only inside a fold */
} gov_row_kind;

enum {
    GOV_KEY_MAX = 1 + 32 + 4 + 32 + 64, /* a handoff's slot in a fold; rows have at most 3 ids */
    GOV_KEY_ROW_SIZE = 32 + 8 + 8,      /* key, epoch, order */
    GOV_EPOCH_ROW_SIZE = 8 + 8 + 32,    /* epoch, number, author; once it was the epoch alone */
    GOV_ROOT_WALK_MAX = GOV_DEPTH_MAX + 1,
    GOV_HEADS_MAX = DAG_HEADS_MAX,
};
/* The epoch of a key that a rotation brought is this and the generation of the operation: the same
 * on every node (governance.md 18.2, G6), and above what was counted before there was this bit. */
#define GOV_EPOCH_CAUSAL (UINT64_C(1) << 63)

typedef struct gov_key {
    uint8_t bytes[GOV_KEY_MAX];
    size_t len;
} gov_key;
gov_key gov_key_of(gov_row_kind kind, const void *a, const void *b,
                   const void *c); /* NULL: no such part */

typedef struct gov_row {
    size_t len;
    uint8_t bytes[];
} gov_row;
extern gov_row gov_row_absent; /* in a map: no row, though the key has a place */
bool gov_row_fits(cal_slice key,
                  cal_slice value); /* the key's and value's shape is that of its kind */

typedef struct gov_view {
    const cal_sorted *base;
    const cal_sorted *changed; /* NULL: none */
    cal_group_id namespace_id;
    uint32_t capability_base; /* of a fold: what counts when the rows give no capability; 0 for the
                                 present rows */
} gov_view;

bool gov_view_get(const gov_view *view, const gov_key *key,
                  cal_slice *ret_value); /* ret_value may be NULL */
typedef struct gov_walk {
    const cal_sorted_node *base, *changed;
    gov_key prefix;
} gov_walk;
gov_walk gov_walk_start(const gov_view *view, gov_row_kind kind, const void *a, const void *b);
/* Keys without the prefix. */
bool gov_walk_next(gov_walk *walk, cal_slice *ret_rest, cal_slice *ret_value);
uint64_t gov_walk_count(const gov_view *view, gov_row_kind kind, const void *a);

/* --- typed rows --- */
typedef struct gov_meta {
    cal_account_id admin, owner; /* all zero: nobody yet */
    cal_application_id application;
    cal_blob_id app_key;
    uint64_t created_at_s;
} gov_meta;
bool gov_meta_get(const gov_view *view, const cal_group_id *group, gov_meta *ret_meta);

typedef struct gov_member {
    uint8_t role;
    bool follow_contexts, follow_subgroups;
} gov_member;
bool gov_member_get(const gov_view *view, const cal_group_id *group, const cal_account_id *account,
                    gov_member *ret_member);

typedef struct gov_binding {
    cal_account_id account;
    uint8_t sign_key[32], kem_key[32];
    uint32_t key_epoch, device_epoch;
} gov_binding;
bool gov_binding_get(const gov_view *view, const cal_device_id *device, gov_binding *ret_binding);
gov_binding gov_binding_read(cal_slice value);

typedef struct gov_metadata {
    const char *name; /* NULL: none; in the row */
    uint64_t updated_at_ms;
    uint8_t updated_by[32];
} gov_metadata;
bool gov_metadata_get(const gov_view *view, const gov_key *key, gov_metadata *ret_metadata);

typedef struct gov_context_row {
    cal_application_id application;
    cal_blob_id blob;
    const char *service_name, *source; /* service_name NULL: none */
} gov_context_row;
bool gov_context_row_get(const gov_view *view, const cal_group_id *group,
                         const cal_context_id *context, gov_context_row *ret_row);
gov_context_row gov_context_row_read(cal_slice value);

/* Removed: comes back only when an admin adds it; left: with a fresh invitation. */
typedef enum gov_reentry { GOV_REENTRY_REMOVED = 1, GOV_REENTRY_LEFT = 2 } gov_reentry;

uint64_t gov_sequence_get(const gov_view *view);
cal_slice gov_heads_get(const gov_view *view); /* count * 32 bytes */
/* The one to seal with: never a key that is not confirmed (governance.md 18.2, G1), nor one that
 * somebody has who is gone, while there is another (closed.c). False also when that one, or one
 * that a later rotation has brought, is not here yet: what is sealed under the one before can be
 * read by whoever was removed. */
bool gov_key_current(const gov_view *view, const cal_group_id *group, gov_group_key *ret_key);
/* The highest that is here, whoever has it. False: there is none. */
bool gov_key_highest(const gov_view *view, const cal_group_id *group, cal_hash *ret_key_id);
bool gov_key_find(const gov_view *view, const cal_group_id *group, const cal_hash *key_id,
                  gov_group_key *ret_key);
/* An operation that may remove the account from the group is kept sealed: of an admin of it, or of
 * the account itself (NULL: of nobody), which may have left. group NULL: from any that this node is
 * in. */
bool gov_removal_unread(const cal_gov *gov, const gov_view *view, const cal_group_id *group,
                        const cal_account_id *account);
/* Whether all that decides who may have the group's key has been read: the rotation that made it,
 * or, for one that no rotation made as far as is known here, every operation that may be the
 * removal it was made for. account (may be NULL): of who asks. */
bool gov_key_settled(const cal_gov *gov, const gov_view *view, const cal_group_id *group,
                     const cal_hash *key_id, const cal_account_id *account);

/* --- questions (governance.md 7.2) --- */
bool gov_id_zero(const uint8_t id[32]);
bool gov_id_equal(const uint8_t a[32], const uint8_t b[32]);
bool gov_group_open(const gov_view *view,
                    const cal_group_id *group); /* of itself; the namespace never is */
bool gov_group_parent(const gov_view *view, const cal_group_id *group, cal_group_id *ret_parent);
bool gov_admin_direct(const gov_view *view, const cal_group_id *group,
                      const cal_account_id *account);
bool gov_admin(const gov_view *view, const cal_group_id *group, const cal_account_id *account);
bool gov_owner(const gov_view *view, const cal_group_id *group, const cal_account_id *account);
gov_path gov_path_of(const gov_view *view, const cal_group_id *group, const cal_account_id *account,
                     gov_role *ret_role);
uint32_t gov_capabilities_of(const gov_view *view, const cal_group_id *group,
                             const cal_account_id *account);
bool gov_allowed(const gov_view *view, const cal_group_id *group, const cal_account_id *account,
                 uint32_t capability);
bool gov_last_admin(const gov_view *view, const cal_group_id *group, const cal_account_id *account);
/* Whose key this is by the live binding; false: unattributed. */
bool gov_account_of_key(const gov_view *view, const uint8_t sign_key[32],
                        cal_account_id *ret_account);
/* Not revoked, certified under the root key in force, and the lowest of those that share its clock
 * seed. */
bool gov_device_live(const gov_view *view, cal_slice device, const gov_binding *binding);
uint32_t gov_root_epoch(const gov_view *view, const cal_account_id *account,
                        uint8_t *ret_root_key); /* ret may be NULL */
/* The group's state hash; without (may be NULL): as if that account had no row. CAL_ENOMEM. */
int gov_group_hash_of(const gov_view *view, const cal_group_id *group,
                      const cal_account_id *without, cal_hash *ret_hash);
/* The group whose key seals this group's operations and deltas: the namespace on a fully open
 * chain, else itself. */
cal_group_id gov_key_group(const gov_view *view, const cal_group_id *group);

/* --- the node's state --- */
typedef struct gov_counts {
    uint64_t members, contexts, subgroups; /* direct ones */
} gov_counts;

enum { GOV_WISHES_MAX = 64 };
typedef struct gov_wish { /* a key that a delta waits for */
    cal_group_id group;
    cal_account_id author; /* of the delta */
    cal_hash key_id;
} gov_wish;

typedef struct gov_citation { /* what a write cites while the heads cannot be read */
    uint64_t version;         /* of governance, and 1 */
    cal_group_id group;
    gov_position position;
} gov_citation;

typedef struct gov_namespace {
    cal_group_id id;
    cal_sorted rows;
    cal_sorted counts;               /* group id -> gov_counts of its rows (count.c) */
    gov_counts total;                /* of all groups */
    struct gov_graph *graph;         /* of its operations, see graph.h */
    gov_change *change;              /* the open one */
    cal_list waiting;                /* of struct gov_waiter */
    gov_parking parking;             /* received operations that are not decided yet */
    struct gov_unsealing *unsealing; /* what became readable is being judged again (unseal.c) */
    bool unseal_due;                 /* something may have become readable */
    gov_wish wishes[GOV_WISHES_MAX]; /* oldest first */
    size_t wish_count;
    gov_citation citation; /* citable.c; memory of the last one */
    bool retired;          /* deleted: indexes may still lead here, and must not be followed */
    cal_list retired_link;
} gov_namespace;

struct cal_gov {
    cal_store *store;
    const cal_os *os;
    gov_identity identity;
    cal_arena identity_arena;     /* the handoffs of its credential */
    gov_proofs proofs;            /* what operations have proven lately */
    atomic_uint_fast64_t version; /* of the rows; see gov_version */
    cal_sorted namespaces;        /* id -> gov_namespace */
    cal_map groups; /* group id -> gov_namespace; the group exists if it has a meta row there */
    cal_map
        contexts; /* context id -> gov_namespace; registered if it has a ROW_CONTEXT_GROUP there */
    cal_list retired;                    /* namespaces that are deleted and not yet taken apart */
    const struct gov_observer *observer; /* NULL: nobody watches */
    void *observer_user;
    cal_account_id paired[GOV_PAIRED_MAX]; /* whose device this node offered to be (devices.c) */
    size_t paired_count;
};

gov_namespace *gov_namespace_find(const cal_gov *gov,
                                  const cal_group_id *id); /* NULL; may have no rows yet */
gov_namespace *gov_namespace_add(cal_gov *gov,
                                 const cal_group_id *id); /* finds or makes; NULL out of memory */
void gov_namespace_drop(cal_gov *gov, gov_namespace *ns);
/* The same in steps: out of sight now, and taken apart by gov_sweep. shrink: up to max rows go;
 * whether some are left. */
void gov_namespace_retire(cal_gov *gov, gov_namespace *ns);
bool gov_namespace_shrink(cal_gov *gov, gov_namespace *ns, size_t max);
void gov_namespace_free(gov_namespace *ns); /* without rows */
/* The namespace of an existing group, with its view; NULL. */
gov_namespace *gov_find_group(const cal_gov *gov, const cal_group_id *group, gov_view *ret_view);
gov_view gov_view_of(const gov_namespace *ns);
/* count.c: what the rows of each group add up to. Room first (CAL_ENOMEM), then counting cannot
 * fail. */
int gov_count_reserve(gov_namespace *ns, cal_slice row_key);
void gov_count_row(gov_namespace *ns, cal_slice row_key, bool added);
gov_counts gov_counts_of(const gov_namespace *ns, const cal_group_id *group);
void gov_counts_free(gov_namespace *ns);
/* The context's namespace and group; NULL when it is in none. */
gov_namespace *gov_find_context(const cal_gov *gov, const cal_context_id *context,
                                gov_view *ret_view, cal_group_id *ret_group);
/* Where an object that a row brings into being is known in the whole node: groups for a meta row,
 * contexts for a context's; NULL for other rows. */
cal_map *gov_index_of_row(cal_gov *gov, cal_slice key);
/* The account that this node's signing key speaks for in the view: its own unless it was paired. */
cal_account_id gov_acting(const cal_gov *gov, const gov_view *view);
/* As gov_envelope_open, with any of the names that this node has. */
int gov_open_envelope(const cal_gov *gov, const gov_envelope *envelope, const cal_group_id *group,
                      const uint8_t *sender, cal_secret *ret_key);
/* The identity as it is from the next start on. */
int gov_identity_put(const gov_identity *self, cal_batch *batch);
int gov_paired_load(cal_gov *gov, cal_snapshot *snapshot, cal_error *err);
uint64_t gov_now_s(const cal_gov *gov);
uint64_t gov_now_ms(const cal_gov *gov);

/* --- changes --- */
typedef struct gov_logged {
    cal_list link;
    size_t len;
    uint8_t bytes[];
} gov_logged;

struct gov_change {
    cal_gov *gov;
    gov_namespace *ns;
    cal_batch *batch;
    cal_sorted changed;
    cal_sorted covered; /* inside a savepoint: the rows of `changed` as they stood before it */
    bool guarded;       /* inside a savepoint */
    cal_list ops;       /* of gov_logged, oldest first: those of this node */
    size_t op_count;
    cal_list taken; /* of gov_parked: decided in this change, back to the parking when it fails */
    gov_receipt *receipts;
    size_t receipt_count, receipt_capacity;
    bool purge;         /* the namespace goes */
    bool unsealed_near; /* it judged again what was sealed, without ns->unsealing */
    bool unsealed;      /* it moved ns->unsealing on, which is of no use when the change goes */
    bool visible;       /* committed: the rows of `changed` are where they belong */
    int error;          /* first failure to note a row; sticks */
    gov_ids beside;     /* what its operations cite; none: the heads */
    cal_arena arena;
    struct { /* the operation at hand, when its number is known: sequence 0: none */
        cal_hash id;
        uint64_t sequence;
        uint32_t generation;
    } at_hand;
    struct gov_draft *draft; /* what it adds to the graph, see graph.h; NULL: nothing yet */
};

/* CAL_EBUSY while another is open. */
int gov_change_begin(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                     cal_error *err);
/* Gives every new row its place in memory, so that the commit cannot fail. Frees the change when it
 * fails. */
int gov_change_finish(gov_change *change, int result, gov_change **ret_change, cal_error *err);
/* A change that changes nothing, for questions about what is committed while another may be open:
 * on the caller's stack, for gov_cut_view and gov_graph_*. Cuts that it found are kept. */
void gov_look_begin(cal_gov *gov, gov_namespace *ns, gov_change *ret_look);
void gov_look_end(gov_change *look);
/* Begins one in the namespace of a group. CAL_ENOTFOUND, CAL_EBUSY. */
int gov_change_begin_in(cal_gov *gov, const cal_group_id *group, gov_change **ret_change,
                        cal_error *err);
gov_view gov_change_view(const gov_change *change);
void gov_change_put(gov_change *change, gov_key key, cal_slice value);
void gov_change_delete(gov_change *change, gov_key key);
/* So that a sealed operation is found when its key arrives. */
void gov_change_put_sealed(gov_change *change, const gov_signed_op *op, const cal_hash *id);
/* One operation's part of a change. Between gov_savepoint and its end every row that is put or
 * deleted can be undone, without a trace; they do not nest. */
void gov_savepoint(gov_change *change);
void gov_savepoint_keep(gov_change *change);
void gov_savepoint_undo(gov_change *change);
void gov_savepoint_revert(gov_change *change, cal_slice key); /* one row, as before it */

void gov_put_meta(gov_change *change, const cal_group_id *group, const gov_meta *meta);
void gov_put_member(gov_change *change, const cal_group_id *group, const cal_account_id *account,
                    const gov_member *member);
void gov_put_u32(gov_change *change, gov_key key, uint32_t value);
void gov_put_binding(gov_change *change, const cal_device_id *device, const gov_binding *binding);
void gov_put_metadata(gov_change *change, gov_key key, gov_optional name, const gov_entries *data,
                      const uint8_t by[32]);
void gov_put_context(gov_change *change, const cal_group_id *group, const gov_group_op *op);
void gov_put_heads(gov_change *change, uint64_t sequence, cal_slice heads);
/* One that is confirmed, by whoever gave it. epoch 0: what a rotation said, if any did. */
void gov_put_key(gov_change *change, const cal_group_id *group, const cal_secret *key,
                 uint64_t epoch);
/* One that `sender` gave us, of whom nothing may be known: it opens what others sealed, and seals
 * nothing before gov_key_confirm or gov_keys_settle. old: asked for by its id, to read history: it
 * never comes before a key that is current. */
void gov_put_key_doubtful(gov_change *change, const cal_group_id *group, const cal_secret *key,
                          const uint8_t sender[32], bool old);
void gov_key_confirm(gov_change *change, const cal_group_id *group, const cal_hash *key_id);
/* An admin's rotation names the key, whether it is here or not. */
void gov_note_rotation(gov_change *change, const cal_group_id *group, const cal_hash *key_id,
                       uint64_t epoch, uint64_t sequence, const cal_account_id *author);
/* What the rows say now: doubtful keys whose sender is a member of their group are confirmed, and
 * a join that came to its end is one no more. After operations were judged. */
void gov_keys_settle(gov_change *change);

/* --- operations --- */
int gov_verified_again(cal_slice bytes, gov_verified **ret_op); /* signature and bounds are known */
struct gov_verified {
    gov_reason reason; /* FINE, or why it is refused; then op and id may say nothing */
    cal_hash id;
    gov_signed_op op;  /* borrows from bytes and the arena */
    gov_proofs proofs; /* what its inside proves */
    cal_arena arena;
    size_t len;
    uint8_t bytes[];
};

/* An operation being judged. */
typedef struct gov_apply {
    gov_change *change;
    const gov_signed_op *op;
    gov_view view; /* rows with the change's own */
    gov_view cut;  /* where authority is asked: the rows at the operation's parents */
    cal_hash id;
    bool opened;     /* it was sealed, and a key that is here opened it */
    bool attributed; /* signer is whom the signing key speaks for, at the cut */
    cal_account_id signer;
} gov_apply;

typedef struct gov_judgement {
    gov_reason reason;
    bool known; /* it was in the graph before */
    gov_wait wait;
} gov_judgement;

/* Judges an operation and gives it its place in the change, or leaves nothing of it there: the one
 * way into a namespace, our own operations too. 0 with a judgement; otherwise it could not be
 * judged, and the change must be aborted: CAL_ENOMEM, CAL_EIO, CAL_ECORRUPT. */
int gov_apply_op(gov_change *change, gov_verified *op, gov_judgement *ret_judgement,
                 cal_error *err);
/* A key has come: judges again what was kept sealed and can be read now, of whatever group
 * (governance.md 6). When it is much, a part of it; gov_receive goes on. */
int gov_apply_unsealed(gov_change *change, cal_error *err);

/* Gates and effects of one kind of operation. What they put is undone unless they give FINE. */
gov_reason gov_apply_root(gov_apply *apply, const gov_root_op *op);
gov_reason gov_apply_group(gov_apply *apply, const cal_group_id *group, const gov_group_op *op);
/* The operation is this node's own joining. */
bool gov_joins_itself(const gov_apply *apply);
gov_reason gov_link_device(gov_apply *apply, const gov_credential *credential);
void gov_delete_group_rows(gov_apply *apply, const cal_group_id *group);
/* FINE, or why an object of this id cannot come into being: it is in this or another namespace, or
 * another one's change is storing it (governance.md 18.1, T26). */
gov_reason gov_group_free(const gov_apply *apply, const cal_group_id *group);
gov_reason gov_context_free(const gov_apply *apply, const cal_context_id *context);

/* Builds, signs and applies one operation at the heads. */
int gov_author_root(gov_change *change, const gov_root_op *op, cal_error *err);
int gov_author_group(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                     cal_error *err);
int gov_author_sealed(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                      const gov_rotation *rotation, cal_error *err);
/* One that makes the whole change. */
int gov_group_change(cal_gov *gov, const cal_group_id *group, const gov_group_op *op,
                     gov_change **ret_change, cal_error *err);
int gov_check_name(const char *name, cal_error *err);
int gov_check_role(gov_role role, cal_error *err); /* one that is given by hand */
gov_optional gov_optional_text(const char *text);
int gov_group_missing(cal_error *err);

/* --- closed.c --- */
/* Of which groups an operation may change who knows the key. */
typedef struct gov_rekeying {
    bool one, all;
    cal_group_id group; /* one */
} gov_rekeying;
/* Before the operation has its place; of a sealed one its plain text. */
gov_rekeying gov_rekeys(const gov_apply *apply, const gov_group_op *plain);
/* When it has: which key is closed, and what is owed. CAL_EIO, CAL_ECORRUPT, CAL_ENOMEM. */
int gov_rekeying_settle(gov_change *change, const gov_rekeying *what);

/* --- rotation.c --- */
/* The number that the operation has, or is about to get. */
int gov_apply_place(const gov_apply *apply, uint64_t *ret_sequence);
bool gov_has_own_key(const gov_view *view, const cal_group_id *group);
/* gov_author_group with the next key of the group beside the operation, for the devices of its
 * direct members; without: an account that is about to go (NULL: none); without_device: likewise.
 * CAL_EDENIED when this node is no admin at the heads: nobody would take the key. */
int gov_author_rotating(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                        const cal_account_id *without, const cal_device_id *without_device,
                        cal_error *err);
/* What rides beside an operation that applies: the key is taken from an admin only, if it is for us
 * and is what it says (governance.md 11). */
void gov_take_rotation(gov_apply *apply, const cal_group_id *group, const gov_rotation *rotation);
/* KeyDelivery of the group's current key to each live device of the account but `device`'s others
 * (NULL: to all). ret_count counts on. */
int gov_author_delivery(gov_change *change, const cal_group_id *group,
                        const cal_account_id *account, const cal_device_id *device,
                        size_t *ret_count, cal_error *err);

#endif
