/* The calls that JSON-RPC and WebSocket share: decoding of params, running, and the body of the
 * reply.
 *
 * A reply body is what stands beside the id: `"result":{...}` or `"error":{...}`. Specification:
 * http-api.md 6 and 14. Loop thread. */
#ifndef CAL_API_RPC_H
#define CAL_API_RPC_H

#include <yyjson.h>

#include "api/api.h"
#include "calimero/context.h"

enum { RPC_ID_TEXT_MAX = 32, RPC_REASON_MAX = 512 };

typedef void (*rpc_done)(void *user, cal_slice body);

/* Reads JSON with numbers kept as they are written: arguments may hold any. NULL: not JSON. */
yyjson_doc *rpc_read(cal_slice text);

/* A number of such a document; false: not an unsigned 64-bit integer. */
bool rpc_u64(yyjson_val *value, uint64_t *ret_value);

/* done is called once, now or later. `params` may be freed when this returns. */
void rpc_execute(api_state *state, yyjson_val *params, rpc_done done, void *user);
void rpc_sync_status(api_state *state, yyjson_val *params, rpc_done done, void *user);
void rpc_set_ephemeral(api_state *state, yyjson_val *params, rpc_done done, void *user);

/* syncState, failureCount and lastError of http-api.md 6, of a context that is here. */
void rpc_write_sync_status(json_out *out, yyjson_mut_val *object, cal_node *node,
                           const cal_context_id *context, bool initialised);

void rpc_parse_error(const char *reason, rpc_done done, void *user);

/* A list of ids; a missing list is empty. false: `reason` says why. At most `max` are kept in
 * ret_ids. */
bool rpc_ids(yyjson_val *params, const char *name, uint8_t (*ret_ids)[32], size_t max,
             size_t *ret_count, char reason[RPC_REASON_MAX]);

/* The beginning of a JSON-RPC reply, for fuzzing as well: checks the envelope. 0, or the status of
 * the plain-text refusal in `reason`. ret_head: `{"jsonrpc":"2.0","id":...,`. */
int rpc_envelope(yyjson_val *root, cal_buffer *ret_head, char reason[RPC_REASON_MAX]);

#endif
