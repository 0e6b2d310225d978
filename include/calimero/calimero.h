/* All of libcalimero's public API. */
#ifndef CALIMERO_CALIMERO_H
#define CALIMERO_CALIMERO_H

#include "calimero/app.h"
#include "calimero/blob.h"
#include "calimero/context.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "calimero/log.h"
#include "calimero/maintenance.h"
#include "calimero/node.h"

#endif
