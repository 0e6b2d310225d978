/* Who shares a namespace, and as what: members, roles, metadata, groups, devices, proofs. Threads,
 * errors and pointers as node.h says; arguments are copied.
 *
 * Each change is one or several signed operations. `done` comes once they are durable here; others
 * hear of them by themselves. Every change may answer CAL_ENOTFOUND (no such group, member, device
 * on this node), CAL_EDENIED (this node may not; the message says who may), CAL_EINVAL, CAL_ESTATE
 * (the group's key has not come yet; the namespace is being deleted) and CAL_ENOMEM.
 *
 * A namespace is a group: where a group is asked for, its id will do. An account is a member; the
 * devices that act for it are keys. */
#ifndef CALIMERO_MEMBERS_H
#define CALIMERO_MEMBERS_H

#include "calimero/node.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- members --- */

typedef enum cal_role {
    CAL_ROLE_ADMIN,
    CAL_ROLE_MEMBER,
    CAL_ROLE_READ_ONLY,
    CAL_ROLE_READ_ONLY_TEE, /* attested: shown, never given */
} cal_role;
const char *cal_role_text(cal_role role);                 /* "Admin", "ReadOnly" */
int cal_role_parse(const char *text, cal_role *ret_role); /* CAL_EDECODE */

enum { /* bits of capabilities; others are kept as they are */
       CAL_CAN_CREATE_CONTEXT = 0x001,
       CAL_CAN_INVITE_MEMBERS = 0x002,
       CAL_CAN_JOIN_OPEN_SUBGROUPS = 0x004,
       CAL_CAN_MANAGE_MEMBERS = 0x008,
       CAL_CAN_MANAGE_APPLICATION = 0x010,
       CAL_CAN_CREATE_SUBGROUP = 0x020,
       CAL_CAN_DELETE_SUBGROUP = 0x040,
       CAL_CAN_MANAGE_VISIBILITY = 0x080,
       CAL_CAN_MANAGE_METADATA = 0x100,
};

typedef struct cal_member_info {
    cal_account_id account;
    cal_role role;
    uint32_t capabilities; /* what it may do, its own bits or the group's default */
    bool follows_contexts, follows_subgroups;
    const char *name; /* NULL: none */
} cal_member_info;
/* Those with a row of their own in the group; who inherits its membership is not listed. */
int cal_member_each(cal_node *node, const cal_group_id *group,
                    void (*visit)(void *user, const cal_member_info *info), void *user);
/* How this node's own account is a member: 0 and the role, or CAL_EDENIED; CAL_ENOTFOUND: no such
 * group. `ret_inherited` (may be NULL): by way of the group above. */
int cal_member_self(cal_node *node, const cal_group_id *group, cal_account_id *ret_account,
                    cal_role *ret_role, bool *ret_inherited);
/* What a member may do; one that inherits its membership too. CAL_ENOTFOUND. */
int cal_member_capabilities(cal_node *node, const cal_group_id *group,
                            const cal_account_id *account, uint32_t *ret_capabilities);
/* The account that a signing key speaks for in the group's namespace. CAL_ENOTFOUND. */
int cal_member_account(cal_node *node, const cal_group_id *group, const cal_public_key *key,
                       cal_account_id *ret_account);

typedef struct cal_member_spec {
    cal_account_id account;
    cal_role role;
} cal_member_spec;
/* Who is a member already gets the role. At most 256. */
void cal_members_add(cal_node *node, const cal_group_id *group, const cal_member_spec *members,
                     size_t count, cal_simple_done done, void *user);
int cal_members_add_wait(cal_node *node, const cal_group_id *group, const cal_member_spec *members,
                         size_t count, cal_error *err);
/* From then on they cannot read what is written: the group gets a new key. Admins only, where it
 * has one of its own. */
void cal_members_remove(cal_node *node, const cal_group_id *group, const cal_account_id *accounts,
                        size_t count, cal_simple_done done, void *user);
int cal_members_remove_wait(cal_node *node, const cal_group_id *group,
                            const cal_account_id *accounts, size_t count, cal_error *err);
void cal_member_set_role(cal_node *node, const cal_group_id *group, const cal_account_id *account,
                         cal_role role, cal_simple_done done, void *user);
int cal_member_set_role_wait(cal_node *node, const cal_group_id *group,
                             const cal_account_id *account, cal_role role, cal_error *err);
void cal_member_set_capabilities(cal_node *node, const cal_group_id *group,
                                 const cal_account_id *account, uint32_t capabilities,
                                 cal_simple_done done, void *user);
/* `contexts`: whether new contexts of the group are taken part in without being asked, and those of
 * open groups below in which the member's row here is what its membership is inherited from.
 * `subgroups` is kept and told to everybody; no node acts on it, nor does the reference. */
void cal_member_set_follow(cal_node *node, const cal_group_id *group, const cal_account_id *account,
                           bool contexts, bool subgroups, cal_simple_done done, void *user);
/* This node's account leaves; of a namespace, with all groups in it. The owner and the last admin
 * stay (CAL_EDENIED). An admin then makes the next key. */
void cal_group_leave(cal_node *node, const cal_group_id *group, cal_simple_done done, void *user);
int cal_group_leave_wait(cal_node *node, const cal_group_id *group, cal_error *err);
/* Others hear that this node takes part in an open group whose membership it inherits, and its key
 * comes by itself. It stays inherited: `was_inherited`. Who has a row of its own is told so without
 * an error. */
typedef void (*cal_group_joined)(void *user, const cal_error *err, bool was_inherited);
void cal_group_join_open(cal_node *node, const cal_group_id *group, cal_group_joined done,
                         void *user);
/* The group's owner hands it over to one of its admins. */
void cal_group_transfer(cal_node *node, const cal_group_id *group, const cal_account_id *owner,
                        cal_simple_done done, void *user);
/* Another member becomes the namespace's named admin. */
void cal_namespace_set_admin(cal_node *node, const cal_group_id *namespace_id,
                             const cal_account_id *admin, cal_simple_done done, void *user);
/* Pays the key rotations that the namespace owes its leavers and revoked devices, as far as this
 * node may; a node does so by itself within seconds. `rotated`: how many. */
typedef void (*cal_rotate_done)(void *user, const cal_error *err, size_t rotated);
void cal_namespace_rotate(cal_node *node, const cal_group_id *namespace_id, cal_rotate_done done,
                          void *user);

/* Changes of who is in a group. Handlers run on the loop thread, within a quarter of a second. */
typedef enum cal_member_event_type {
    CAL_MEMBER_ADDED,
    CAL_MEMBER_JOINED,  /* added, and has used an invitation */
    CAL_MEMBER_REMOVED, /* or has left */
    CAL_MEMBER_ROLE_CHANGED,
} cal_member_event_type;
typedef struct cal_member_event {
    cal_member_event_type type;
    cal_group_id group;
    cal_account_id account;
    cal_role role; /* of one removed: the last one */
} cal_member_event;
typedef struct cal_member_watch cal_member_watch;
/* NULL when out of memory. A group that is not known yet has no members. */
cal_member_watch *cal_member_watch_start(cal_node *node, const cal_group_id *group,
                                         void (*handler)(void *user, const cal_member_event *event),
                                         void *user);
/* No handler runs after this returns, unless it is called from one. NULL allowed. */
void cal_member_watch_stop(cal_node *node, cal_member_watch *watch);

/* --- groups --- */

typedef struct cal_group_details {
    cal_group_id id, namespace_id, parent; /* parent == id: a namespace */
    cal_application_id application;
    cal_blob_id app_key;
    cal_account_id admin, owner;
    uint64_t created_at_s;
    const char *name; /* NULL: none */
    bool open;
    uint32_t default_capabilities;
    uint64_t members, contexts, subgroups; /* direct ones; of a namespace: contexts, subgroups in
                                              all of it */
    cal_hash state_hash;                   /* equal on nodes that agree on its members */
} cal_group_details;
int cal_group_get(cal_node *node, const cal_group_id *group,
                  void (*visit)(void *user, const cal_group_details *info), void *user);

typedef struct cal_group_options {
    const cal_group_id *parent; /* a namespace, or a group in one; NULL: makes a namespace */
    const cal_group_id *id;     /* NULL: random */
    const char *name;           /* NULL: none */
    bool open;                  /* visibility; not of a namespace */
    /* What runs in it. Of a namespace: required, app_key NULL is the installed version. Of a group:
     * NULL, or what its parent runs. */
    const cal_application_id *application;
    const cal_blob_id *app_key;
} cal_group_options;
/* CAL_EEXISTS: the id is in use. */
void cal_group_create_as(cal_node *node, const cal_group_options *options, cal_group_done done,
                         void *user);
int cal_group_create_wait(cal_node *node, const cal_group_options *options, cal_group_id *ret_id,
                          cal_error *err);
/* With the groups below it; their contexts stay on the nodes that have them, registered nowhere.
 * Never a namespace (CAL_EINVAL): cal_namespace_delete. */
void cal_group_delete(cal_node *node, const cal_group_id *group, cal_simple_done done, void *user);
void cal_group_reparent(cal_node *node, const cal_group_id *group, const cal_group_id *parent,
                        cal_simple_done done, void *user);
void cal_group_set_open(cal_node *node, const cal_group_id *group, bool open, cal_simple_done done,
                        void *user);
void cal_group_set_default_capabilities(cal_node *node, const cal_group_id *group,
                                        uint32_t capabilities, cal_simple_done done, void *user);
/* Ends the context's registration in its group; the rows stay here until cal_context_delete. */
void cal_context_detach(cal_node *node, const cal_group_id *group, const cal_context_id *context,
                        cal_simple_done done, void *user);

/* --- metadata --- A record has a name and up to 64 entries: keys of 1 to 64 bytes, each once,
 * values of at most 4096, all UTF-8. It is replaced as a whole. */

typedef enum cal_metadata_of {
    CAL_METADATA_GROUP,
    CAL_METADATA_MEMBER,
    CAL_METADATA_CONTEXT,
} cal_metadata_of;
typedef struct cal_metadata_key {
    cal_metadata_of of;
    cal_group_id group;     /* of a context: the group that holds it */
    cal_account_id account; /* of a member */
    cal_context_id context; /* of a context */
} cal_metadata_key;
typedef struct cal_metadata_entry {
    const char *key, *value;
    size_t key_len, value_len;
} cal_metadata_entry;
typedef struct cal_metadata {
    const char *name; /* NULL: none */
    const cal_metadata_entry *entries;
    size_t entry_count;
    uint64_t updated_at_ms;    /* Unix */
    cal_public_key updated_by; /* the signing key */
} cal_metadata;
/* `visit` gets NULL when none was ever set. CAL_ENOTFOUND: no such group. */
int cal_metadata_get(cal_node *node, const cal_metadata_key *key,
                     void (*visit)(void *user, const cal_metadata *record), void *user);
void cal_metadata_set(cal_node *node, const cal_metadata_key *key, const char *name,
                      const cal_metadata_entry *entries, size_t count, cal_simple_done done,
                      void *user);

/* --- devices --- */

typedef struct cal_device_info {
    cal_account_id account;
    cal_device_id device;
    cal_public_key sign_key;
} cal_device_info;
/* Live devices of the group's members, account by account, as far as this node may see them: an
 * admin all, a member its own; CAL_EDENIED: nobody's. */
int cal_device_each(cal_node *node, const cal_group_id *group,
                    void (*visit)(void *user, const cal_device_info *info), void *user);

/* What a device shows to the account that it wants to act for. Two people compare the code. */
typedef struct cal_pairing {
    cal_account_id account;
    cal_device_id device;
    uint8_t kem_key[32];
    cal_public_key sign_key;
    uint8_t statement[64]; /* by sign_key */
    char code[20];         /* "0123-4567-89AB-CDEF" */
} cal_pairing;
/* The new device: this node offers to act for the account that began with this root key. */
typedef void (*cal_pair_begun)(void *user, const cal_error *err, const cal_pairing *pairing);
void cal_pair_begin(cal_node *node, const cal_public_key *account_root_key, cal_pair_begun done,
                    void *user);
/* The account's own node: certifies the device in the namespace and hands it the keys of the groups
 * that the account may read. pairing->account is not looked at. CAL_EVERIFY: code or statement are
 * not this device's. `keys`: how many were handed over. */
typedef void (*cal_pair_completed)(void *user, const cal_error *err, const cal_pairing *pairing,
                                   size_t keys);
void cal_pair_complete(cal_node *node, const cal_group_id *namespace_id, const cal_pairing *pairing,
                       cal_pair_completed done, void *user);
/* The device is no longer the account's, for good: in the namespace, and then in the others of this
 * node that know it. `proof` (len 0: none): what cal_device_revocation gave on a node with the
 * account's root key; without one this node's own account proves it, or an admin decides. */
typedef struct cal_revoked_in {
    cal_group_id namespace_id;
    bool key_rotated; /* false: an admin of it still has to make the next key */
} cal_revoked_in;
typedef struct cal_revoked {
    cal_account_id account;
    cal_device_id device;
    const cal_revoked_in *namespaces; /* the one that was named is the first */
    size_t namespace_count;
} cal_revoked;
typedef void (*cal_revoke_done)(void *user, const cal_error *err, const cal_revoked *revoked);
void cal_device_revoke(cal_node *node, const cal_group_id *namespace_id,
                       const cal_device_id *device, const uint8_t *proof, size_t proof_len,
                       cal_revoke_done done, void *user);
/* The proof for a device of this node's account. */
int cal_device_revocation(cal_node *node, const cal_device_id *device,
                          void (*visit)(void *user, const uint8_t *proof, size_t len), void *user);

/* --- ownership proofs --- What an admin of a group says to a third party about a subject, signed.
 *
 * Who checks one must: verify `signature` over "calimero.ownership-claim.v1", a NUL, and payload;
 * find the signer in it, and among the group's admins; find itself in it as the audience; be within
 * its times; have seen the nonce never before. */
typedef struct cal_ownership_claim {
    cal_group_id group;
    const cal_context_id *context; /* in the group, or a group below it; NULL: of a namespace */
    const char *audience;          /* 1 to 256 bytes, no control characters */
    const char *subject;           /* the same */
    const char *nonce;             /* 8 to 256 bytes */
    uint64_t expires_at_ms;        /* Unix; five minutes from now at most are given */
} cal_ownership_claim;
typedef struct cal_ownership_proof {
    cal_public_key signer;
    const char *payload; /* JSON */
    size_t payload_len;
    uint8_t signature[64];
} cal_ownership_proof;
/* CAL_EDENIED: not a direct admin of the group. CAL_ENOTFOUND. */
int cal_ownership_prove(cal_node *node, const cal_ownership_claim *claim,
                        void (*visit)(void *user, const cal_ownership_proof *proof), void *user,
                        cal_error *err);

#ifdef __cplusplus
}
#endif
#endif
