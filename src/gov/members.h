/* Authoring what changes who is in a group and what it may read: members, metadata, key rotation,
 * devices, invitations (governance.md 2, 3, 4, 8, 9, 11).
 *
 * As in gov.h each function with a `gov_change **` prepares one change of real signed operations,
 * which go through the function that judges everybody's; what the reference would refuse is refused
 * here, with words, before or while it is prepared, and nothing of it stays. CAL_ENOTFOUND (no such
 * group, member, device), CAL_EDENIED, CAL_EINVAL, CAL_ESTATE (no key of the group here yet),
 * CAL_EBUSY, CAL_ENOMEM.
 *
 * Loop thread. */
#ifndef CAL_GOV_MEMBERS_H
#define CAL_GOV_MEMBERS_H

#include "gov/gov.h"
#include "gov/op.h"

enum {
    GOV_MEMBERS_CALL_MAX = 256,  /* accounts in one call */
    GOV_REMOVAL_ROOTS_MAX = 128, /* context roots that a removal carries; more are left out */
    GOV_HEADS_MERGE = 8,         /* with more heads than this a member merges them */
    GOV_PAIRED_MAX = 16,         /* accounts that this node offered to be a device of */
};

/* --- members --- */

typedef struct gov_member_spec {
    cal_account_id account;
    gov_role role; /* not GOV_ROLE_READ_ONLY_TEE */
} gov_member_spec;
/* MemberAdded for each. Who was a member gets the role; CAL_EINVAL without any, or with one twice.
 */
int gov_members_add(cal_gov *gov, const cal_group_id *group, const gov_member_spec *members,
                    size_t count, gov_change **ret_change, cal_error *err);
/* MemberRemoved for each, in this order. Where the group has a key of its own each operation brings
 * the next one, sealed for the devices of whoever stays; then only an admin may (else nobody would
 * take the key). `roots`: of the group's contexts, in any order, as this node has them; peers
 * compare. */
int gov_members_remove(cal_gov *gov, const cal_group_id *group, const cal_account_id *accounts,
                       size_t count, gov_context_roots roots, gov_change **ret_change,
                       cal_error *err);
/* MemberLeft by this node's account. Of a namespace: with all groups in it. The owner and the last
 * admin stay, and whoever inherits its membership. The next key is an admin's to make
 * (gov_rotation_due). */
int gov_leave(cal_gov *gov, const cal_group_id *group, gov_context_roots roots,
              gov_change **ret_change, cal_error *err);
int gov_member_set_role(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                        gov_role role, gov_change **ret_change, cal_error *err);

typedef struct gov_follow {
    bool contexts, subgroups;
} gov_follow;
int gov_member_follow(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                      gov_follow *ret_follow); /* CAL_ENOTFOUND */
int gov_member_set_follow(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                          gov_follow follow, gov_change **ret_change, cal_error *err);
/* How many invitations to the group the account has used. */
size_t gov_member_joins(cal_gov *gov, const cal_group_id *group, const cal_account_id *account);
/* To an admin of the group (TransferOwnership). */
int gov_group_transfer(cal_gov *gov, const cal_group_id *group, const cal_account_id *owner,
                       gov_change **ret_change, cal_error *err);
/* AdminChanged: the namespace's named admin, a member of it. */
int gov_namespace_set_admin(cal_gov *gov, const cal_group_id *namespace_id,
                            const cal_account_id *admin, gov_change **ret_change, cal_error *err);
int gov_group_reparent(cal_gov *gov, const cal_group_id *group, const cal_group_id *parent,
                       gov_change **ret_change, cal_error *err);
/* The account that this node acts for in the group's namespace: its own, unless it was paired to
 * another there. */
int gov_acting_account(cal_gov *gov, const cal_group_id *group, cal_account_id *ret_account);
/* The device that it is there: what a request for a key names. */
int gov_acting_device(cal_gov *gov, const cal_group_id *group, cal_device_id *ret_device);

/* --- metadata --- A record is replaced as a whole. Names as in gov.h; up to
 * GOV_METADATA_ENTRIES_MAX entries, keys unique, 1 to GOV_METADATA_KEY_MAX bytes, values up to
 * GOV_METADATA_VALUE_MAX, all UTF-8. */

typedef enum gov_metadata_of {
    GOV_METADATA_GROUP,
    GOV_METADATA_MEMBER,
    GOV_METADATA_CONTEXT,
} gov_metadata_of;
typedef struct gov_metadata_key {
    gov_metadata_of of;
    cal_group_id group;     /* of a context too: the group that holds it */
    cal_account_id account; /* of a member */
    cal_context_id context; /* of a context */
} gov_metadata_key;
typedef struct gov_record {
    const char *name; /* NULL: none */
    uint64_t updated_at_ms;
    cal_public_key updated_by; /* a signing key */
    uint32_t entries;
    cal_slice rest; /* of the entries, for gov_record_next */
} gov_record;
/* Valid until the next change is committed. CAL_ENOTFOUND: none was set. */
int gov_metadata_read(cal_gov *gov, const gov_metadata_key *key, gov_record *ret_record);
bool gov_record_next(gov_record *record, cal_slice *ret_key, cal_slice *ret_value);
int gov_metadata_set(cal_gov *gov, const gov_metadata_key *key, const char *name,
                     const gov_entry *entries, size_t count, gov_change **ret_change,
                     cal_error *err);

/* --- keys --- */

typedef struct gov_debt { /* a rotation that an admin of the group owes */
    cal_group_id group;
    bool of_device;
    uint8_t subject[32]; /* the account that left, or the device that was revoked */
} gov_debt;
/* What this node, as an admin, may pay in the namespace, up to max; their number. Any admin pays,
 * and paying twice does no harm: callers wait a while of random length first. */
size_t gov_rotation_due(cal_gov *gov, const cal_group_id *namespace_id, gov_debt *ret_debts,
                        size_t max);
/* GroupKeyRotated or GroupKeyRotatedForDevice with the next key. CAL_ENOTFOUND: it is paid. */
int gov_rotate(cal_gov *gov, const gov_debt *debt, gov_change **ret_change, cal_error *err);

/* --- heads --- */

/* More than GOV_HEADS_MERGE of them, and this node can merge them (18.2, G2). */
bool gov_heads_merge_due(cal_gov *gov, const cal_group_id *namespace_id);
/* A Noop that cites them. CAL_ESTATE: not in a group whose key is here. */
int gov_heads_merge(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                    cal_error *err);

/* --- devices --- */

/* What a device shows to the account it wants to belong to. */
typedef struct gov_pairing {
    cal_account_id account;
    cal_device_id device;
    uint8_t kem_key[32];
    cal_public_key sign_key;
    uint8_t statement[CAL_SIGNATURE_SIZE]; /* by sign_key */
    char code[GOV_PAIRING_CODE_MAX];       /* two people compare it */
} gov_pairing;
/* The new device's side: this node as a device of the account that began with this root key. From
 * now on it opens what is sealed for that device; *ret_batch says so in the store, for the caller's
 * transaction. CAL_EINVAL (no key of the curve, or this node's own), CAL_ELIMIT (GOV_PAIRED_MAX).
 */
int gov_pair_begin(cal_gov *gov, const cal_public_key *root_key, gov_pairing *ret_pairing,
                   cal_batch **ret_batch, cal_error *err);
/* The account's side: verifies statement and code, certifies the device and hands it the keys of
 * every group that it may read: AccountDeviceLinked, then a KeyDelivery for each. ret_keys (may be
 * NULL): how many. pairing->account is not looked at: it is this node's. CAL_EVERIFY. */
int gov_pair_complete(cal_gov *gov, const cal_group_id *namespace_id, const gov_pairing *pairing,
                      size_t *ret_keys, gov_change **ret_change, cal_error *err);
/* Pure. CAL_EVERIFY with words. */
int gov_pairing_verify(const gov_pairing *pairing, cal_error *err);

/* AccountDeviceUnlinked in the namespace, and in each group whose own key the device may have. With
 * a proof (by the account's root; of this node's own account made here), else by an admin. A group
 * in which this node is an admin gets its next key in the same operation; in others a rotation is
 * due. ret_rotated (may be NULL): whether the namespace's key was. CAL_ENOTFOUND, CAL_EDENIED,
 * CAL_EVERIFY. */
int gov_device_revoke(cal_gov *gov, const cal_group_id *namespace_id, const cal_device_id *device,
                      const gov_revocation_proof *proof, bool *ret_rotated, gov_change **ret_change,
                      cal_error *err);
/* The proof for a device of this node's account, which another node may publish. */
void gov_device_revocation(const cal_gov *gov, const cal_device_id *device,
                           gov_revocation_proof *ret_proof);

/* A new root key for this node's account. *ret_batch stores it; it is in force from the next
 * gov_open on (the identity does not change while a node runs), and is then due in every namespace
 * (gov_handoff_due). CAL_ELIMIT. */
int gov_handoff_make(cal_gov *gov, cal_batch **ret_batch, cal_error *err);
bool gov_handoff_due(cal_gov *gov, const cal_group_id *namespace_id);
/* A certificate by the new root key for each live device of the account (AccountDeviceLinked), and
 * AccountKeysRotated. CAL_EEXISTS: not due. */
int gov_handoff_publish(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                        cal_error *err);

typedef struct gov_device_info {
    cal_account_id account;
    cal_device_id device;
    cal_public_key sign_key;
    uint8_t kem_key[32];
} gov_device_info;
typedef void (*gov_device_visitor)(void *user, const gov_device_info *info);
/* Live devices of the group's direct members, account by account. `account` (may be NULL): only of
 * this one. CAL_ENOTFOUND. */
int gov_group_devices(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                      gov_device_visitor visit, void *user);

/* --- invitations --- As gov_invite, with a role: an admin only by an admin, never
 * GOV_ROLE_READ_ONLY_TEE. */
int gov_invite_as(cal_gov *gov, const cal_group_id *group, gov_role role, uint64_t valid_s,
                  gov_invitation *ret_invitation, const char **ret_name, cal_error *err);

#endif
