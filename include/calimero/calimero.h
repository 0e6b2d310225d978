/* All of libcalimero's public API. */
#ifndef CALIMERO_CALIMERO_H
#define CALIMERO_CALIMERO_H

#include "calimero/app.h"
#include "calimero/blob.h"
#include "calimero/bundle.h"
#include "calimero/client.h"
#include "calimero/config.h"
#include "calimero/context.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "calimero/log.h"
#include "calimero/maintenance.h"
#include "calimero/members.h"
#include "calimero/network.h"
#include "calimero/node.h"
#include "calimero/p2p.h"
#include "calimero/server.h"
#include "calimero/share.h"

#endif
