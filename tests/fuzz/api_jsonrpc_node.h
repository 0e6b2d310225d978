/* What the two halves of the node of api_jsonrpc_fuzz.c share: how this input has it answer. */
#ifndef CAL_FUZZ_API_JSONRPC_NODE_H
#define CAL_FUZZ_API_JSONRPC_NODE_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/api.h"
#include "base/error.h"
#include "calimero/members.h"
#include "calimero/share.h"

extern bool refuse;            /* flags & 1: the node says no; flags >> 3 & 7: with which code */
extern char text[256];         /* what the node says: the start of the input */
extern const cal_slice *bytes; /* what others brought to the node: the input */
const cal_error *outcome(void);
int code(void);
void member_came(void); /* tells whoever watches the members of a group */

#endif
