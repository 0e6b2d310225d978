/* Invitations, in both their forms: include/calimero/share.h. */
#include <stdlib.h>
#include <string.h>

#include "calimero/share.h"
#include "gov/invitation_code.h"
#include "gov/members.h"
#include "node/internal.h"

_Static_assert((int)CAL_INVITATION_ADDRESSES_MAX == (int)GOV_CODE_ADDRESSES_MAX, "the same");

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

int cal_invitation_addresses(const char *invitation, void (*visit)(void *user, const char *address),
                             void *user, cal_error *err) {
    gov_invitation_code *code = calloc(1, sizeof *code);
    if (!code) return cal_fail(err, CAL_ENOMEM, "out of memory");
    int rc = gov_invitation_code_read_any(cal_slice_text(invitation), code, err);
    for (size_t i = 0; rc == 0 && i < code->address_count; i++) {
        const cal_multiaddr *address = &code->addresses[i];
        cal_multiaddr checked; /* nobody signed them */
        char text[CAL_MULTIADDR_TEXT_MAX];
        if (cal_multiaddr_from_bytes(address->bytes, address->len, &checked) != 0) continue;
        cal_multiaddr_text(&checked, text);
        visit(user, text);
    }
    free(code);
    return rc;
}

/* --- one form in the other --- */

/* The text of a buffer, taken out of it; free() it. */
static int take_text(cal_buffer *buffer, int rc, char **ret_text, cal_error *err) {
    const char *text = rc == 0 ? cal_buffer_cstr(buffer) : NULL;
    char *copy = text ? strdup(text) : NULL;
    cal_buffer_deinit(buffer);
    if (rc == 0 && !copy) return cal_fail(err, CAL_ENOMEM, "out of memory");
    if (rc == 0) *ret_text = copy;
    return rc;
}

int cal_invitation_to_json(const char *invitation, char **ret_json, cal_error *err) {
    cal_buffer json;
    gov_invitation_code *code = calloc(1, sizeof *code);
    if (!code) return cal_fail(err, CAL_ENOMEM, "out of memory");
    cal_buffer_init(&json, GOV_INVITATION_JSON_MAX);
    int rc = gov_invitation_code_read_any(cal_slice_text(invitation), code, err);
    if (rc == 0 && (rc = gov_invitation_write_json(&code->invitation, &json)) != 0)
        cal_fail(err, rc, "the invitation cannot be written as JSON: %s", cal_error_text(rc));
    free(code);
    return take_text(&json, rc, ret_json, err);
}

static bool has_address(const gov_invitation_code *code, const cal_multiaddr *address) {
    for (size_t i = 0; i < code->address_count; i++)
        if (code->addresses[i].len == address->len &&
            memcmp(code->addresses[i].bytes, address->bytes, address->len) == 0)
            return true;
    return false;
}

static int add_address(gov_invitation_code *code, const char *text, cal_error *err) {
    cal_multiaddr address;
    cal_peer_id peer;
    int rc = cal_multiaddr_dialable(text, err);
    if (rc == 0 && (rc = cal_multiaddr_parse(text, &address)) != 0)
        cal_fail(err, rc, "'%s' is no address: %s", text, cal_error_text(rc));
    if (rc != 0) return rc;
    if (cal_multiaddr_peer(&address, &peer))
        return cal_fail(err, CAL_EINVAL,
                        "'%s' does not say whom to expect there: it ends with /p2p/ and the node's "
                        "peer id, see `meroctl network status`",
                        text);
    if (has_address(code, &address)) return 0;
    if (code->address_count == GOV_CODE_ADDRESSES_MAX)
        return cal_fail(err, CAL_ELIMIT, "an invitation has room for %d addresses",
                        (int)GOV_CODE_ADDRESSES_MAX);
    code->addresses[code->address_count++] = address;
    return 0;
}

int cal_invitation_to_code(const char *invitation, const char *const *addresses, size_t count,
                           char **ret_code, cal_error *err) {
    cal_buffer text;
    gov_invitation_code *code = calloc(1, sizeof *code);
    if (!code) return cal_fail(err, CAL_ENOMEM, "out of memory");
    cal_buffer_init(&text, GOV_CODE_TEXT_MAX + 1);
    int rc = gov_invitation_code_read_any(cal_slice_text(invitation), code, err);
    for (size_t i = 0; rc == 0 && i < count; i++) rc = add_address(code, addresses[i], err);
    if (rc == 0) rc = gov_invitation_code_write(code, &text, err);
    free(code);
    return take_text(&text, rc, ret_code, err);
}

bool cal_invitation_is_code(const char *invitation) {
    return gov_invitation_code_is(cal_slice_text(invitation));
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
