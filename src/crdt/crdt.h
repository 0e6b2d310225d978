/* The CRDT core, for its neighbours: one include. See docs/design/crdt.md. */
#ifndef CAL_CRDT_CRDT_H
#define CAL_CRDT_CRDT_H

#include "crdt/action.h"
#include "crdt/apply.h"
#include "crdt/base.h"
#include "crdt/borsh.h"
#include "crdt/entity.h"
#include "crdt/hlc.h"
#include "crdt/leaf.h"
#include "crdt/merkle.h"

#endif
