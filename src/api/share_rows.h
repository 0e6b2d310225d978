/* What the rows of groups, members, devices and invitations share: http-api.md 5.4 and 5.5. */
#ifndef CAL_API_SHARE_ROWS_H
#define CAL_API_SHARE_ROWS_H

#include "api/api.h"
#include "calimero/context.h"
#include "calimero/members.h"
#include "calimero/share.h"

/* A path parameter; false: answered with 400. A group: 64 hex digits, base58 tolerated. An account:
 * 64 hex digits, or the base58 of a signing key that speaks for one in the group's namespace. */
bool api_param_group(http_exchange *exchange, const char *name, cal_group_id *ret_id);
bool api_param_account(http_exchange *exchange, const cal_group_id *group,
                       cal_account_id *ret_account);

/* The document, or the refusal that goes with a code; whether it was the document. */
bool api_reply_listing(http_exchange *exchange, json_out *out, int error, const char *missing);
void api_done_empty(void *exchange, const cal_error *err); /* {} */

/* Fields at the top of a body. `ret_given` may be NULL. */
void json_group_id(json_in *in, const char *name, bool required, bool *ret_given,
                   cal_group_id *ret_id);
bool json_u32(json_in *in, const char *name, uint32_t *ret_value);

#endif
