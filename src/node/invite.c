/* Invitations, in both their forms: include/calimero/share.h. */
#include <stdlib.h>
#include <string.h>

#include "calimero/share.h"
#include "gov/invitation_code.h"
#include "gov/members.h"
#include "node/internal.h"

struct invite {
    node_operation operation;
    cal_group_id id;
    gov_role role;
    uint64_t valid_s;
    bool recursive;
    void (*visit)(void *user, const cal_invitation *invitation);
    cal_simple_done done;
    void *user;
    int result;
    cal_error err;
};

/* Those of the options first: they are reachable from everywhere. */
static void add_addresses(const cal_node *node, gov_invitation_code *code) {
    size_t count = cal_p2p_addresses(node->network.host, code->addresses, GOV_CODE_ADDRESSES_MAX);
    if (count > GOV_CODE_ADDRESSES_MAX) count = GOV_CODE_ADDRESSES_MAX;
    for (size_t i = 0; i < count; i++) {
        cal_multiaddr *address = &code->addresses[code->address_count];
        *address = code->addresses[i];
        if (cal_multiaddr_set_peer(address, &node->network.id) == 0) code->address_count++;
    }
}

static int write_code(const cal_node *node, const gov_invitation *invitation, const char *name,
                      cal_buffer *out, cal_error *err) {
    gov_invitation_code *code = calloc(1, sizeof *code);
    if (!code) return cal_fail(err, CAL_ENOMEM, "out of memory");
    code->invitation = *invitation;
    code->invitation.signature =
        cal_slice_of(code->invitation.signature_text, invitation->signature.len);
    if (name && strlen(name) <= GOV_CODE_NAME_MAX) strcpy(code->name, name);
    if (node->network.host) add_addresses(node, code);
    int rc = gov_invitation_code_write(code, out, err);
    free(code);
    return rc;
}

static void invite_one(struct invite *invite, const cal_group_id *group) {
    cal_node *node = invite->operation.node;
    gov_invitation made;
    cal_invitation shown = {.group = *group};
    cal_buffer json, code;
    cal_buffer_init(&json, GOV_INVITATION_JSON_MAX);
    cal_buffer_init(&code, GOV_CODE_TEXT_MAX + 1);
    int rc = gov_invite_as(node->gov, group, invite->role, invite->valid_s, &made,
                           &shown.group_name, &invite->err);
    if (rc == 0) rc = gov_invitation_write_json(&made, &json);
    if (rc == 0) rc = write_code(node, &made, shown.group_name, &code, &invite->err);
    shown.json = rc == 0 ? cal_buffer_cstr(&json) : NULL;
    shown.code = rc == 0 ? cal_buffer_cstr(&code) : NULL;
    if (shown.json && shown.code)
        invite->visit(invite->user, &shown);
    else
        invite->result = rc ? rc : CAL_ENOMEM;
    cal_buffer_deinit(&json);
    cal_buffer_deinit(&code);
}

static void invite_below(void *user, const gov_group_info *group) {
    struct invite *invite = user;
    if (invite->result == 0) invite_one(invite, &group->id);
}

static void start_invite(node_operation *operation) {
    struct invite *invite = CAL_CONTAINER_OF(operation, struct invite, operation);
    cal_node *node = operation->node;
    invite_one(invite, &invite->id);
    if (invite->result == 0 && invite->recursive)
        invite->result = gov_group_below(node->gov, &invite->id, invite_below, invite);
    if (invite->result != 0 && invite->err.code == 0)
        cal_fail(&invite->err, invite->result, "the invitation could not be made: %s",
                 cal_error_text(invite->result));
    invite->done(invite->user, invite->result == 0 ? NULL : &invite->err);
    free(invite);
    node_end(node);
}

void cal_invite(cal_node *node, const cal_group_id *group, const cal_invite_options *options,
                void (*visit)(void *user, const cal_invitation *invitation), cal_simple_done done,
                void *user) {
    struct invite *invite = calloc(1, sizeof *invite);
    if (!invite) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    *invite = (struct invite){.id = *group,
                              .role = options->role ? (gov_role)*options->role : GOV_ROLE_MEMBER,
                              .valid_s = options->valid_s,
                              .recursive = options->recursive,
                              .visit = visit,
                              .done = done,
                              .user = user};
    node_begin(node, &invite->operation, start_invite);
}

struct invite_wait {
    node_waiter waiter;
    char *code;
    int result;
    cal_error *err;
};

static void keep_code(void *user, const cal_invitation *invitation) {
    struct invite_wait *wait = user;
    if (!wait->code) wait->code = strdup(invitation->code);
}

static void invite_wait_done(void *user, const cal_error *err) {
    struct invite_wait *wait = user;
    wait->result = err ? err->code : 0;
    if (err && wait->err) *wait->err = *err;
    node_waiter_finish(&wait->waiter);
}

int cal_invite_wait(cal_node *node, const cal_group_id *group, const cal_invite_options *options,
                    char **ret_code, cal_error *err) {
    static const cal_invite_options defaults;
    cal_invite_options one = options ? *options : defaults;
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct invite_wait wait = {.err = err};
    one.recursive = false;
    node_waiter_init(&wait.waiter, node);
    cal_invite(node, group, &one, keep_code, invite_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    if (wait.result == 0 && !wait.code) return cal_fail(err, CAL_ENOMEM, "out of memory");
    *ret_code = wait.code;
    return wait.result;
}

int cal_invitation_group(const char *invitation, cal_group_id *ret_group, cal_error *err) {
    gov_invitation_code *code = calloc(1, sizeof *code);
    if (!code) return cal_fail(err, CAL_ENOMEM, "out of memory");
    int rc = gov_invitation_code_read_any(cal_slice_text(invitation), code, err);
    if (rc == 0) *ret_group = code->invitation.group;
    free(code);
    return rc;
}

/* --- the JSON form alone, of node.h --- */

struct json_invite {
    cal_invitation_visitor visit;
    cal_simple_done done;
    void *user;
};

static void show_json(void *user, const cal_invitation *invitation) {
    struct json_invite *invite = user;
    invite->visit(invite->user, &invitation->group, invitation->group_name, invitation->json);
}

static void json_done(void *user, const cal_error *err) {
    struct json_invite *invite = user;
    invite->done(invite->user, err);
    free(invite);
}

void cal_namespace_invite(cal_node *node, const cal_group_id *id, uint64_t valid_s, bool recursive,
                          cal_invitation_visitor visit, cal_simple_done done, void *user) {
    struct json_invite *invite = calloc(1, sizeof *invite);
    if (!invite) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    *invite = (struct json_invite){visit, done, user};
    cal_invite(node, id, &(cal_invite_options){.valid_s = valid_s, .recursive = recursive},
               show_json, json_done, invite);
}
