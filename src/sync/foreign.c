/* What others speak or run that does not fit what this node does: named in the log, once each, and
 * in the status of every context that it concerns, for as long as it is so. There is no negotiation
 * of versions (network-sync.md 2): who does not fit is not understood, and somebody must update. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gov/members.h"
#include "sync/context.h"

enum { THEIRS_MAX = 160 }; /* of what a peer says of itself */

static const char stream_prefix[] = "/calimero/stream/";

static void add(char *why, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add(char *why, size_t size, const char *format, ...) {
    size_t len = strlen(why);
    va_list args;
    if (len > 0 && len + 2 < size) len += (size_t)snprintf(why + len, size - len, "; ");
    va_start(args, format);
    vsnprintf(why + len, size - len, format, args);
    va_end(args);
}

/* --- governance operations --- */

void sync_foreign_op(sync_namespace *ns, const cal_peer_id *peer, uint8_t version) {
    char text[CAL_PEER_ID_TEXT_MAX];
    bool newer = version > GOV_NAMESPACE_OP_VERSION;
    uint8_t *noted = newer ? &ns->newer_version : &ns->older_version;
    if (*noted == version || (newer && version < *noted)) return;
    *noted = version;
    if (newer) ns->newer_peer = *peer;
    cal_peer_id_text(peer, text);
    cal_log(CAL_LOG_WARN, "sync",
            "peer %s sends governance operations of version %u, this node reads version %d: one of "
            "both must be updated",
            text, version, GOV_NAMESPACE_OP_VERSION);
}

static void tell_version(const sync_namespace *ns, char *why, size_t size) {
    char peer[CAL_PEER_ID_TEXT_MAX];
    if (!ns || ns->newer_version <= GOV_NAMESPACE_OP_VERSION) return;
    cal_peer_id_text(&ns->newer_peer, peer);
    add(why, size,
        "peer %s sends governance operations of version %u, this node reads version %d: update it",
        peer, ns->newer_version, GOV_NAMESPACE_OP_VERSION);
}

/* --- application code --- */

static int code_of(const sync_context *context, cal_blob_id *ret_code, gov_group_info *ret_group) {
    cal_gov *gov = context->sync->options.gov;
    cal_group_id group, ns;
    int rc = gov_context_group(gov, &context->id, &group, &ns);
    if (rc == 0) rc = gov_group_code(gov, &group, ret_code);
    return rc == 0 ? gov_group_get(gov, &group, ret_group) : rc;
}

static bool has_foreign_code(const sync_context *context) {
    static const cal_blob_id none;
    return memcmp(&context->foreign_code, &none, sizeof none) != 0;
}

static void tell_code(const sync_context *context, char *why, size_t size) {
    const cal_sync_options *options = &context->sync->options;
    char theirs[CAL_ID_TEXT_MAX], ours[CAL_ID_TEXT_MAX], author[CAL_ID_TEXT_MAX], version[80] = "";
    gov_group_info group;
    cal_blob_id code;
    if (!has_foreign_code(context) || code_of(context, &code, &group) ||
        memcmp(&code, &context->foreign_code, sizeof code) == 0)
        return;
    cal_id_to_base58(context->foreign_code.bytes, theirs);
    cal_id_to_base58(code.bytes, ours);
    cal_id_to_base58(context->foreign_author.bytes, author);
    if (options->code_version)
        options->code_version(options->user, &group.application, &code, version, sizeof version);
    add(why, size, "member %s runs application code %s, this node %s%s%s%s", author, theirs, ours,
        version[0] ? " (version " : "", version, version[0] ? ")" : "");
}

/* Its deltas may mean something else there. */
void sync_foreign_code(const sync_delta *delta) {
    sync_context *context = delta->context;
    const cal_delta_record *record = &delta->record;
    char why[CAL_SYNC_WHY_MAX] = "";
    gov_group_info group;
    cal_blob_id code;
    if (!record->has_app_key || code_of(context, &code, &group)) return;
    if (memcmp(&code, &record->app_key, sizeof code) == 0) {
        if (memcmp(&context->foreign_author, &record->author, sizeof record->author) == 0)
            context->foreign_code = (cal_blob_id){{0}}; /* it has changed */
        return;
    }
    bool known = memcmp(&context->foreign_code, &record->app_key, sizeof code) == 0;
    context->foreign_code = record->app_key;
    context->foreign_author = record->author;
    if (known) return;
    tell_code(context, why, sizeof why);
    cal_log(CAL_LOG_WARN, "sync", "context %s: %s", context->topic, why);
}

/* --- streams --- */

/* What it says of itself is anything at all. */
static void add_foreign(char *text, const char *said) {
    size_t len = strlen(text);
    if (len > 0 && len + 1 < THEIRS_MAX) text[len++] = ' ';
    for (; *said && len + 1 < THEIRS_MAX; said++)
        text[len++] = isprint((uint8_t)*said) ? *said : '?';
    text[len] = 0;
}

typedef struct self_said {
    char versions[THEIRS_MAX], agent[THEIRS_MAX];
} self_said;

static void note_said(void *user, const cal_p2p_peer *peer) {
    self_said *said = user;
    for (size_t i = 0; i < peer->protocol_count; i++)
        if (strncmp(peer->protocols[i], stream_prefix, sizeof stream_prefix - 1) == 0)
            add_foreign(said->versions, peer->protocols[i]);
    add_foreign(said->agent, peer->agent);
}

static void tell_peer(cal_sync *sync, const cal_peer_id *peer, char *why, size_t size) {
    char text[CAL_PEER_ID_TEXT_MAX];
    self_said said = {{0}, {0}};
    cal_p2p_peer_get(sync->options.host, peer, note_said, &said);
    cal_peer_id_text(peer, text);
    add(why, size, "peer %s speaks none of our stream versions (ours: %s; its: %s; agent %s)", text,
        NET_STREAM_PROTOCOL, said.versions[0] ? said.versions : "none",
        said.agent[0] ? said.agent : "unknown");
}

static cal_peer_id *mute_find(cal_sync *sync, const cal_peer_id *peer) {
    for (size_t i = 0; i < SYNC_MUTE_MAX; i++)
        if (sync->mute[i].len && cal_peer_id_equal(&sync->mute[i], peer)) return &sync->mute[i];
    return NULL;
}

void sync_foreign_mute(cal_sync *sync, const cal_peer_id *peer) {
    char why[CAL_SYNC_WHY_MAX] = "";
    if (sync->stopping || mute_find(sync, peer)) return;
    sync->mute[sync->mute_at++ % SYNC_MUTE_MAX] = *peer;
    tell_peer(sync, peer, why, sizeof why);
    cal_log(CAL_LOG_WARN, "sync", "%s: one of both must be updated", why);
}

void sync_foreign_speaks(cal_sync *sync, const cal_peer_id *peer) {
    cal_peer_id *mute = mute_find(sync, peer);
    if (mute) mute->len = 0;
}

struct mute_look {
    const sync_context *context;
    const cal_peer_id *found;
};

static void look_at_hearer(void *user, const cal_peer_id *peer, bool mesh) {
    struct mute_look *look = user;
    const cal_peer_id *mute = mute_find(look->context->sync, peer);
    (void)mesh;
    if (mute && (!look->found || cal_peer_id_equal(mute, &look->context->tried)))
        look->found = mute;
}

/* One is named: the one that failed last, or else any that hears the context. */
static const cal_peer_id *mute_of(const sync_context *context) {
    const cal_sync *sync = context->sync;
    struct mute_look look = {.context = context};
    if (sync->mute_at > 0)
        cal_p2p_topic_peers(sync->options.host, context->topic, look_at_hearer, &look);
    return look.found;
}

/* --- the status --- */

void sync_foreign_tell(const sync_context *context, cal_sync_status *status) {
    cal_sync *sync = context->sync;
    char *why = status->why;
    if (sync->stopping) return;
    const cal_peer_id *mute = mute_of(context);
    if (mute) {
        /* Why the last comparison failed is then said better. */
        if (status->failures > 0 && cal_peer_id_equal(mute, &context->tried)) why[0] = 0;
        tell_peer(sync, mute, why, sizeof status->why);
    }
    tell_version(sync_namespace_of(sync, &context->id), why, sizeof status->why);
    tell_code(context, why, sizeof status->why);
}
