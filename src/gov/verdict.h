/* What becomes of a governance operation, and why.
 *
 * Four verdicts. What is decided for good from the operation's own bytes is refused: it enters no
 * graph, and nobody honest cites it. Everything else that cannot take effect is kept: other nodes
 * may have kept it (whoever lacks the key of a sealed operation cannot know better), so whoever
 * refused it would never be able to place what cites it. What cannot be decided yet waits, and
 * says for what. docs/design/gov.md has the table by kind of operation.
 *
 * One table: each reason has its verdict, whether an operation kept for it may be cited by ours,
 * the code for a caller, and its text. The handlers (apply_root.c, apply_group.c) give nothing but
 * a reason. Pure; any thread. */
#ifndef CAL_GOV_VERDICT_H
#define CAL_GOV_VERDICT_H

#include "calimero/error.h"
#include "calimero/identity.h"

typedef enum gov_verdict {
    GOV_APPLIED, /* in the graph, and its rows with it */
    GOV_KEPT,    /* in the graph: counts for causality, changes nothing */
    GOV_WAITING, /* not decidable yet; nothing of it is stored */
    GOV_REFUSED, /* final; nothing of it is stored */
    GOV_VERDICT_COUNT,
} gov_verdict;

/* X(name, verdict, cited, code, text). cited: of a kept operation, the reference's nodes keep it as
 * well, so our own may name it as a parent; false: they refuse it, and would never place an
 * operation of ours that cites it (see gov_heads_get). */
#define GOV_REASONS(X)                                                                             \
    X(FINE, APPLIED, true, 0, "applied")                                                           \
    /* of the bytes alone (governance.md 4) */                                                     \
    X(MALFORMED, REFUSED, false, CAL_EDECODE, "the operation is malformed")                        \
    X(VERSION, REFUSED, false, CAL_EVERSION, "the operation is of another version")                \
    X(BOUNDS, REFUSED, false, CAL_ELIMIT, "a list or text of the operation is too long")           \
    X(SIGNATURE, REFUSED, false, CAL_EVERIFY, "the operation's signature is wrong")                \
    X(NAMESPACE, REFUSED, false, CAL_EINVAL, "the operation is of another namespace")              \
    /* not yet (6, 7) */                                                                           \
    X(PARENT_LACKS, WAITING, false, CAL_ESTATE, "an operation that it cites is not here yet")      \
    X(KEY_LACKS, WAITING, false, CAL_ESTATE, "what it rests on is sealed with a key not here yet") \
    X(HISTORY_LACKS, WAITING, false, CAL_ESTATE, "the history that it rests on is not complete")   \
    X(CROWDED, WAITING, false, CAL_ELIMIT,                                                         \
      "the namespace has as many heads as an operation may cite")                                  \
    X(OBJECT_OPEN, WAITING, false, CAL_EEXISTS,                                                    \
      "another namespace is just storing an object with this id")                                  \
    /* sealed operations (6, 11; traps.md 13) */                                                   \
    X(SEALED, KEPT, true, CAL_ESTATE, "the operation is sealed with a key that is not here")       \
    X(SEAL_WRONG, KEPT, false, CAL_EVERIFY, "the operation is not sealed with the key it names")   \
    X(SEALED_UNKNOWN, KEPT, true, CAL_EDECODE, "the sealed operation is of no kind known here")    \
    X(SEALED_MALFORMED, KEPT, false, CAL_EDECODE, "the sealed operation is malformed")             \
    X(SEALED_BOUNDS, KEPT, false, CAL_ELIMIT,                                                      \
      "a list or text of the sealed operation is too long")                                        \
    X(NUMBER_USED, KEPT, true, CAL_EEXISTS, "its signer has used the operation's number before")   \
    X(BEFORE, KEPT, true, CAL_EEXISTS, "the operation was kept before, without effect")            \
    /* who signs (7.2) */                                                                          \
    X(STRANGER, KEPT, true, CAL_EDENIED, "the signing key is no member's")                         \
    X(NOT_NAMESPACE_ADMIN, KEPT, false, CAL_EDENIED, "only an admin of the namespace may do this") \
    X(NOT_ADMIN, KEPT, false, CAL_EDENIED, "only an admin of the group may do this")               \
    X(NOT_OWNER, KEPT, false, CAL_EDENIED, "only the owner of the group may do this")              \
    X(NO_CREATE_GROUP, KEPT, false, CAL_EDENIED,                                                   \
      "creating a group here needs an admin of the namespace or the right to create groups")       \
    X(NO_DELETE_GROUP, KEPT, false, CAL_EDENIED,                                                   \
      "deleting a group needs its owner, or the right to delete groups in the namespace")          \
    X(NO_MANAGE_MEMBERS, KEPT, false, CAL_EDENIED, "this needs the right to manage members")       \
    X(NO_MANAGE_APPLICATION, KEPT, false, CAL_EDENIED,                                             \
      "this needs the right to manage the application")                                            \
    X(NO_CREATE_CONTEXT, KEPT, false, CAL_EDENIED,                                                 \
      "creating a context needs the right to create contexts")                                     \
    X(NO_MANAGE_VISIBILITY, KEPT, false, CAL_EDENIED,                                              \
      "changing the visibility needs the right to manage it")                                      \
    X(NO_MANAGE_METADATA, KEPT, false, CAL_EDENIED,                                                \
      "changing names and metadata needs the right to manage them")                                \
    X(NOT_ADMIN_OR_SELF, KEPT, false, CAL_EDENIED,                                                 \
      "only an admin or the member itself may change what it follows")                             \
    X(NOT_SELF, KEPT, false, CAL_EDENIED, "a member leaves for itself only")                       \
    X(ADMIN_BY_ADMIN, KEPT, false, CAL_EDENIED, "only an admin may add or remove an admin")        \
    X(OWNER_STAYS, KEPT, false, CAL_EDENIED,                                                       \
      "the owner of a group stays; transfer the ownership first")                                  \
    X(LAST_ADMIN, KEPT, false, CAL_EDENIED,                                                        \
      "the last admin of a group stays one; make another one first")                               \
    X(ROLE_ATTESTED, KEPT, false, CAL_EDENIED, "the role of attested nodes is not given by hand")  \
    X(OWNER_NOT_ADMIN, KEPT, false, CAL_EDENIED,                                                   \
      "the new owner must be an admin of the group already")                                       \
    /* groups (4.3) */                                                                             \
    X(NO_GROUP, KEPT, false, CAL_ENOTFOUND, "the group does not exist in this namespace")          \
    X(NO_PARENT_GROUP, KEPT, false, CAL_ENOTFOUND,                                                 \
      "the parent group does not exist in this namespace")                                         \
    X(GROUP_TAKEN, KEPT, false, CAL_EEXISTS, "a group with this id exists already")                \
    X(GROUP_ADMIN_OTHER, KEPT, false, CAL_EDENIED,                                                 \
      "a group's first admin is the account that creates it")                                      \
    X(TOO_DEEP, KEPT, false, CAL_ELIMIT, "groups would nest too deep")                             \
    X(CYCLE, KEPT, false, CAL_EINVAL, "a group cannot be moved below itself")                      \
    X(NAMESPACE_STAYS, KEPT, false, CAL_EDENIED,                                                   \
      "a namespace is neither moved nor deleted by an operation")                                  \
    X(NOT_LISTED, KEPT, false, CAL_ESTATE,                                                         \
      "the deletion does not list everything below the group")                                     \
    X(NOT_EMPTY, KEPT, false, CAL_ESTATE,                                                          \
      "a group that holds contexts or groups cannot be deleted")                                   \
    X(POLICY_PLACE, KEPT, false, CAL_EINVAL, "the policy for attested nodes is the namespace's")   \
    /* accounts, devices, joining (3, 10) */                                                       \
    X(FOUNDED, KEPT, true, CAL_EEXISTS, "the namespace has its founder already")                   \
    X(FOUNDER_PARENTS, KEPT, false, CAL_EDENIED, "a namespace's first operation has no parents")   \
    X(CREDENTIAL, KEPT, false, CAL_EDENIED, "the credential does not prove the account")           \
    X(CREDENTIAL_KEY, KEPT, false, CAL_EDENIED,                                                    \
      "the credential certifies another key than the one that signs")                              \
    X(CREDENTIAL_ACCOUNT, KEPT, false, CAL_EDENIED, "the credential is another account's")         \
    X(DEVICE_REVOKED, KEPT, false, CAL_EDENIED, "the device has been revoked")                     \
    X(DEVICE_TAKEN, KEPT, false, CAL_EDENIED, "the device belongs to another account")             \
    X(DEVICE_SUPERSEDED, KEPT, false, CAL_EDENIED, "the device's certificate is superseded")       \
    X(INVITATION_SIGNATURE, KEPT, false, CAL_EDENIED, "the invitation's signature is wrong")       \
    X(INVITATION_EXPIRED, KEPT, false, CAL_EDENIED, "the invitation had expired")                  \
    X(INVITER, KEPT, false, CAL_EDENIED, "the inviter may not invite into this group")             \
    X(INVITER_ADMIN, KEPT, false, CAL_EDENIED, "only an admin may invite an admin")                \
    X(REMOVED_BEFORE, KEPT, false, CAL_EDENIED,                                                    \
      "a removed member comes back only when an admin adds it")                                    \
    X(LEFT_BEFORE, KEPT, false, CAL_EDENIED, "a former member does not come back by itself")       \
    X(ADMIN_ALREADY, KEPT, true, CAL_EEXISTS, "an admin does not join again as less than that")    \
    X(INVITATION_USED, KEPT, false, CAL_EDENIED, "this invitation has been used before")           \
    X(NOT_INHERITED, KEPT, false, CAL_EDENIED,                                                     \
      "the account does not inherit membership of this group")                                     \
    X(NO_MEMBER, KEPT, false, CAL_ENOTFOUND, "the account is not a member of this group")          \
    X(ATTESTED, KEPT, true, CAL_EUNSUPPORTED, "admission of attested nodes is not supported")      \
    X(NOT_ENDORSED, KEPT, false, CAL_EDENIED, "the device's account is not endorsed")              \
    X(ENDORSER, KEPT, false, CAL_EDENIED, "the device's account is not endorsed by a member")      \
    X(UNLINK_PROOF, KEPT, false, CAL_EDENIED,                                                      \
      "revoking a device needs its account's proof or an admin")                                   \
    X(NO_ROOT_KEY, KEPT, false, CAL_ENOTFOUND, "the account's root key is not known here")         \
    X(HANDOFF_OTHER, KEPT, false, CAL_EDENIED,                                                     \
      "an account's root key is handed over by that account only")                                 \
    X(HANDOFF, KEPT, false, CAL_EDENIED, "the handoff does not continue the account's root keys")  \
    /* keys (11; 18.2 G1) */                                                                       \
    X(KEY_UNOPENED, KEPT, true, CAL_EVERIFY, "the delivered key could not be opened")              \
    X(KEY_STRANGER, KEPT, true, CAL_EDENIED, "a key is taken from a member of the group only")     \
    /* contexts */                                                                                 \
    X(CONTEXT_TAKEN, KEPT, false, CAL_EEXISTS, "a context with this id is registered already")     \
    X(NO_CONTEXT, KEPT, false, CAL_ENOTFOUND, "the context is not in this group")

typedef enum gov_reason {
#define GOV_REASON_ENUM(name, verdict, cited, code, text) GOV_WHY_##name,
    GOV_REASONS(GOV_REASON_ENUM)
#undef GOV_REASON_ENUM
        GOV_REASON_COUNT
} gov_reason;

gov_verdict gov_reason_verdict(gov_reason reason);
bool gov_reason_cited(gov_reason reason);
int gov_reason_code(gov_reason reason); /* a CAL_E*, 0 for GOV_WHY_FINE */
const char *gov_reason_text(gov_reason reason);
const char *gov_reason_name(gov_reason reason); /* "NOT_ADMIN" */
const char *gov_verdict_text(gov_verdict verdict);

/* What would have to arrive before an operation can be decided. */
typedef enum gov_wait_kind {
    GOV_WAIT_NOTHING,
    GOV_WAIT_PARENT,  /* the operation `id` */
    GOV_WAIT_KEY,     /* the key `id` of `group` */
    GOV_WAIT_HISTORY, /* the rest of the namespace's operations, or fewer heads */
    GOV_WAIT_OBJECT,  /* the end of another namespace's change, which is storing the id `id` */
} gov_wait_kind;
typedef struct gov_wait {
    gov_wait_kind kind;
    cal_hash id;
    cal_group_id group;
} gov_wait;

#endif
