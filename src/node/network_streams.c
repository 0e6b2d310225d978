/* The network's own streams, as far as this node answers them: both protocols are accepted, with
 * the framing, limits and times of network-sync.md 2, and each request is declined in the
 * protocol's own words. What can be served comes with shared contexts. Loop thread. */
#include "net/messages.h"
#include "node/internal.h"

/* StreamMessage 2, OpaqueError: "no", and no more is said (network-sync.md 2). */
static const uint8_t opaque_error[] = {2};
/* network-sync.md 10, path B. */
static const char not_found[] = "{\"found\":false,\"size\":null}";

static bool decline(cal_node *node, net_messages *messages, cal_slice answer) {
    node->network.stats.requests_declined++;
    if (net_messages_send(messages, answer) == 0) return true;
    net_messages_reset(messages);
    return false;
}

static void on_request(void *user, net_messages *messages, cal_slice bytes) {
    (void)bytes;
    decline(user, messages, cal_slice_of(opaque_error, sizeof opaque_error));
}

/* One stream may carry many requests, one after the other. */
static void on_declined(void *user, net_messages *messages) {
    (void)user;
    net_messages_expect(messages, NET_REQUEST_TIMEOUT_MS);
}

static void on_blob_request(void *user, net_messages *messages, cal_slice bytes) {
    (void)bytes;
    if (decline(user, messages, cal_slice_text(not_found))) net_messages_finish(messages);
}

static void on_ended(void *user, net_messages *messages, int reason) {
    (void)user, (void)messages, (void)reason;
}

static const net_messages_events request_events = {
    .message = on_request, .sent = on_declined, .ended = on_ended};
static const net_messages_events blob_events = {.message = on_blob_request, .ended = on_ended};

int node_streams_serve(cal_node *node) {
    net_messages_protocol *requests = &node->network.requests, *blobs = &node->network.blobs;
    *requests =
        (net_messages_protocol){.id = NET_STREAM_PROTOCOL, .events = &request_events, .user = node};
    *blobs = (net_messages_protocol){.id = NET_BLOB_PROTOCOL,
                                     .session_ms = NET_BLOB_SERVE_TIMEOUT_MS,
                                     .events = &blob_events,
                                     .user = node};
    int rc = net_messages_serve(node->network.host, requests);
    return rc ? rc : net_messages_serve(node->network.host, blobs);
}
