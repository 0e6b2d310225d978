/* The node of api_jsonrpc_fuzz.c, second half: members, groups, devices, invitations, keeping in
 * step. What the API promises of its arguments is asserted. */
#include "api_jsonrpc_node.h"

static const cal_account_id some_account = {{9}};
/* A number that the input decides. */
static size_t some(size_t below) { return bytes->len % below; }

/* --- words --- */

static const char *const roles[] = {"Admin", "Member", "ReadOnly", "ReadOnlyTee"};
const char *cal_role_text(cal_role role) { return roles[role]; }
int cal_role_parse(const char *word, cal_role *ret_role) {
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(word, roles[i]) == 0) {
            *ret_role = (cal_role)i;
            return 0;
        }
    return CAL_EDECODE;
}
const char *cal_sync_state_text(cal_sync_state state) {
    assert(state <= CAL_SYNC_WAITING);
    return text;
}

/* --- members --- */

int cal_member_each(cal_node *node, const cal_group_id *group,
                    void (*visit)(void *, const cal_member_info *), void *user) {
    (void)node, (void)group;
    const cal_member_info info = {
        .account = some_account, .role = (cal_role)some(4), .name = refuse ? NULL : text};
    for (size_t i = some(3); i > 0; i--) visit(user, &info);
    return code();
}
int cal_member_self(cal_node *node, const cal_group_id *group, cal_account_id *ret_account,
                    cal_role *ret_role, bool *ret_inherited) {
    (void)node, (void)group;
    if (ret_account) *ret_account = some_account;
    if (ret_role) *ret_role = (cal_role)some(4);
    if (ret_inherited) *ret_inherited = some(2);
    return code();
}
int cal_member_capabilities(cal_node *node, const cal_group_id *group,
                            const cal_account_id *account, uint32_t *ret_capabilities) {
    (void)node, (void)group, (void)account;
    if (!refuse) *ret_capabilities = UINT32_MAX - (uint32_t)bytes->len;
    return code();
}
int cal_member_account(cal_node *node, const cal_group_id *group, const cal_public_key *key,
                       cal_account_id *ret_account) {
    (void)node, (void)group, (void)key;
    *ret_account = some_account;
    return some(3) == 2 ? CAL_ENOTFOUND : 0;
}
void cal_members_add(cal_node *node, const cal_group_id *group, const cal_member_spec *members,
                     size_t count, cal_simple_done done, void *user) {
    (void)node, (void)group;
    assert(count <= 256);
    for (size_t i = 0; i < count; i++) assert(members[i].role < CAL_ROLE_READ_ONLY_TEE);
    done(user, outcome());
}
void cal_members_remove(cal_node *node, const cal_group_id *group, const cal_account_id *accounts,
                        size_t count, cal_simple_done done, void *user) {
    (void)node, (void)group;
    assert(count <= 256);
    unsigned read = 0;
    for (size_t i = 0; i < count; i++) read += accounts[i].bytes[31];
    assert(read <= 255 * count);
    done(user, outcome());
}
void cal_member_set_role(cal_node *node, const cal_group_id *group, const cal_account_id *account,
                         cal_role role, cal_simple_done done, void *user) {
    (void)node, (void)group, (void)account;
    assert(role < CAL_ROLE_READ_ONLY_TEE);
    done(user, outcome());
}
void cal_member_set_capabilities(cal_node *node, const cal_group_id *group,
                                 const cal_account_id *account, uint32_t capabilities,
                                 cal_simple_done done, void *user) {
    (void)node, (void)group, (void)account, (void)capabilities;
    done(user, outcome());
}
void cal_member_set_follow(cal_node *node, const cal_group_id *group, const cal_account_id *account,
                           bool contexts, bool subgroups, cal_simple_done done, void *user) {
    (void)node, (void)group, (void)account, (void)contexts, (void)subgroups;
    done(user, outcome());
}
void cal_group_leave(cal_node *node, const cal_group_id *group, cal_simple_done done, void *user) {
    (void)node, (void)group;
    done(user, outcome());
}
void cal_group_join_open(cal_node *node, const cal_group_id *group, cal_group_joined done,
                         void *user) {
    (void)node, (void)group;
    done(user, outcome(), some(2));
}

struct cal_member_watch {
    cal_group_id group;
    void (*handler)(void *user, const cal_member_event *event);
    void *user;
};
static cal_member_watch *watched; /* the last one */
cal_member_watch *cal_member_watch_start(cal_node *node, const cal_group_id *group,
                                         void (*handler)(void *, const cal_member_event *),
                                         void *user) {
    (void)node;
    watched = some(7) ? calloc(1, sizeof *watched) : NULL;
    if (watched) *watched = (cal_member_watch){*group, handler, user};
    return watched;
}
void cal_member_watch_stop(cal_node *node, cal_member_watch *watch) {
    (void)node;
    if (watch == watched) watched = NULL;
    free(watch);
}
void member_came(void) {
    if (!watched) return;
    const cal_member_event event = {.type =
                                        (cal_member_event_type)some(CAL_MEMBER_ROLE_CHANGED + 1),
                                    .group = watched->group,
                                    .account = some_account,
                                    .role = (cal_role)some(4)};
    watched->handler(watched->user, &event);
}

/* --- groups --- */

int cal_group_get(cal_node *node, const cal_group_id *group,
                  void (*visit)(void *, const cal_group_details *), void *user) {
    (void)node;
    const cal_group_details info = {.id = *group,
                                    .parent = {{(uint8_t)some(256)}},
                                    .created_at_s = UINT64_MAX,
                                    .name = some(2) ? NULL : text,
                                    .open = some(3),
                                    .members = bytes->len};
    if (!refuse) visit(user, &info);
    return code();
}
void cal_group_create_as(cal_node *node, const cal_group_options *options, cal_group_done done,
                         void *user) {
    (void)node;
    assert(options->parent || options->application);
    const cal_group_id id = options->id ? *options->id : (cal_group_id){{6}};
    done(user, outcome(), &id);
}
void cal_group_delete(cal_node *node, const cal_group_id *group, cal_simple_done done, void *user) {
    (void)node, (void)group;
    done(user, outcome());
}
void cal_group_reparent(cal_node *node, const cal_group_id *group, const cal_group_id *parent,
                        cal_simple_done done, void *user) {
    (void)node, (void)group, (void)parent;
    done(user, outcome());
}
void cal_group_transfer(cal_node *node, const cal_group_id *group, const cal_account_id *owner,
                        cal_simple_done done, void *user) {
    (void)node, (void)group, (void)owner;
    done(user, outcome());
}
void cal_group_set_open(cal_node *node, const cal_group_id *group, bool open, cal_simple_done done,
                        void *user) {
    (void)node, (void)group, (void)open;
    done(user, outcome());
}
void cal_group_set_default_capabilities(cal_node *node, const cal_group_id *group,
                                        uint32_t capabilities, cal_simple_done done, void *user) {
    (void)node, (void)group, (void)capabilities;
    done(user, outcome());
}
void cal_context_detach(cal_node *node, const cal_group_id *group, const cal_context_id *context,
                        cal_simple_done done, void *user) {
    (void)node, (void)group, (void)context;
    done(user, outcome());
}

/* --- metadata --- */

int cal_metadata_get(cal_node *node, const cal_metadata_key *key,
                     void (*visit)(void *, const cal_metadata *), void *user) {
    (void)node;
    assert(key->of <= CAL_METADATA_CONTEXT);
    size_t len = some(65);
    const char *words = (const char *)bytes->data;
    const cal_metadata_entry entries[] = {{text, words, strlen(text), bytes->len},
                                          {words, text, len, strlen(text)}};
    const cal_metadata record = {.name = some(2) ? NULL : text,
                                 .entries = entries,
                                 .entry_count = some(3),
                                 .updated_at_ms = UINT64_MAX};
    if (!refuse) visit(user, some(5) ? &record : NULL);
    return code();
}
void cal_metadata_set(cal_node *node, const cal_metadata_key *key, const char *name,
                      const cal_metadata_entry *entries, size_t count, cal_simple_done done,
                      void *user) {
    (void)node;
    assert(key->of <= CAL_METADATA_CONTEXT);
    size_t len = name ? strlen(name) : 0;
    for (size_t i = 0; i < count; i++) {
        assert(entries[i].key && entries[i].value);
        len += entries[i].key_len + entries[i].value_len;
    }
    assert(len <= bytes->len); /* all of it was in the body */
    done(user, outcome());
}

/* --- devices --- */

int cal_device_each(cal_node *node, const cal_group_id *group,
                    void (*visit)(void *, const cal_device_info *), void *user) {
    (void)node, (void)group;
    for (size_t i = 0; i < some(5); i++) {
        const cal_device_info info = {.account = {{(uint8_t)(i / 2)}}, .device = {{(uint8_t)i}}};
        visit(user, &info);
    }
    return code();
}
void cal_pair_begin(cal_node *node, const cal_public_key *account_root_key, cal_pair_begun done,
                    void *user) {
    (void)node;
    const cal_pairing pairing = {.sign_key = *account_root_key, .code = "0123-4567-89AB-CDEF"};
    done(user, outcome(), refuse ? NULL : &pairing);
}
void cal_pair_complete(cal_node *node, const cal_group_id *namespace_id, const cal_pairing *pairing,
                       cal_pair_completed done, void *user) {
    (void)node, (void)namespace_id;
    assert(memchr(pairing->code, 0, sizeof pairing->code));
    const cal_pairing completed = *pairing;
    done(user, outcome(), refuse ? NULL : &completed, some(2));
}
void cal_device_revoke(cal_node *node, const cal_group_id *namespace_id,
                       const cal_device_id *device, const uint8_t *proof, size_t proof_len,
                       cal_revoke_done done, void *user) {
    (void)node;
    unsigned read = 0;
    for (size_t i = 0; i < proof_len; i++) read += proof[i];
    assert(read <= 255 * proof_len && 2 * proof_len <= bytes->len);
    const cal_revoked_in in[] = {{*namespace_id, some(2)}, {*namespace_id, some(3)}};
    const cal_revoked revoked = {some_account, *device, in, some(3)};
    done(user, outcome(), refuse ? NULL : &revoked);
}
int cal_device_revocation(cal_node *node, const cal_device_id *device,
                          void (*visit)(void *user, const uint8_t *proof, size_t len), void *user) {
    (void)node;
    if (refuse) return code();
    visit(user, device->bytes, some(sizeof device->bytes));
    return 0;
}
int cal_ownership_prove(cal_node *node, const cal_ownership_claim *claim,
                        void (*visit)(void *, const cal_ownership_proof *), void *user,
                        cal_error *err) {
    (void)node;
    assert(claim->audience[0] && claim->subject[0] && strlen(claim->nonce) >= 8);
    const cal_ownership_proof proof = {.payload = (const char *)bytes->data,
                                       .payload_len = bytes->len};
    if (refuse) return cal_fail(err, code(), "%s", text);
    visit(user, &proof);
    return 0;
}

/* --- inviting and joining --- */

void cal_invite(cal_node *node, const cal_group_id *group, const cal_invite_options *options,
                void (*visit)(void *, const cal_invitation *), cal_simple_done done, void *user) {
    (void)node;
    assert(!options->role || *options->role < CAL_ROLE_READ_ONLY_TEE);
    const cal_invitation invitation = {*group, some(2) ? NULL : text, "{}", text};
    if (!refuse) visit(user, &invitation);
    for (size_t i = options->recursive ? some(4) : 0; i > 0; i--) visit(user, &invitation);
    done(user, outcome());
}
int cal_invitation_group(const char *invitation, cal_group_id *ret_group, cal_error *err) {
    assert(strlen(invitation) < API_TEXT_MAX);
    if (some(3) == 2) return cal_fail(err, CAL_EDECODE, "%s", text);
    *ret_group = (cal_group_id){{6}};
    return 0;
}
void cal_namespace_join(cal_node *node, const char *invitation, const char *name,
                        cal_join_done done, void *user) {
    (void)node;
    assert(strlen(invitation) < API_TEXT_MAX && (!name || strlen(name) <= bytes->len));
    const cal_joined joined = {.account = some_account};
    done(user, outcome(), refuse ? NULL : &joined);
}

/* --- keeping in step --- */

int cal_context_sync_status(cal_node *node, const cal_context_id *context,
                            cal_sync_status *ret_status) {
    (void)node, (void)context;
    if (refuse) return code();
    *ret_status = (cal_sync_status){.state = (cal_sync_state)some(CAL_SYNC_WAITING + 1),
                                    .compared_ms = UINT64_MAX,
                                    .waiting = bytes->len};
    if (some(2)) cal_peer_id_of_key((const uint8_t[32]){7}, &ret_status->peer);
    snprintf(ret_status->why, sizeof ret_status->why, "%s", text);
    return 0;
}
void cal_context_sync(cal_node *node, const cal_context_id *context, cal_simple_done done,
                      void *user) {
    (void)node, (void)context;
    done(user, outcome());
}
void cal_context_leave(cal_node *node, const cal_context_id *context, cal_simple_done done,
                       void *user) {
    (void)node, (void)context;
    done(user, outcome());
}
void cal_context_join(cal_node *node, const cal_context_id *context, cal_simple_done done,
                      void *user) {
    (void)node, (void)context;
    done(user, outcome());
}
