/* Every stated maximum of the node, in one place (architecture.md, rule 5). Reaching one is an
 * error and a counter. Limits that the protocol fixes for a single module (runtime-abi.md 15) stand
 * in that module's header. */
#ifndef CAL_BASE_LIMITS_H
#define CAL_BASE_LIMITS_H

enum {
    CAL_HTTP_CONNECTIONS_MAX = 10240,
    CAL_HTTP_BODY_MAX = 2 * 1024 * 1024,      /* JSON bodies, http-api.md 1 */
    CAL_HTTP_HEADERS_MAX = 64 * 1024,         /* bytes of request line and headers */
    CAL_BLOB_UPLOAD_MAX = 1024 * 1024 * 1024, /* PUT /blobs */
    CAL_BLOB_CHUNK_SIZE = 1024 * 1024,        /* network-sync.md 10 */
    CAL_WS_MESSAGE_MAX = 16 * 1024 * 1024,    /* message and frame */
    CAL_WS_QUEUE_MAX = 32,                    /* events waiting for one slow client */
    CAL_WS_REQUESTS_MAX = 32,                 /* frames of one connection worked on at once */
    CAL_SSE_SESSIONS_MAX = 4096,
    CAL_CALL_QUEUE_MAX = 1024,                   /* calls waiting in one context */
    CAL_CALLS_MAX = 16384,                       /* calls waiting in the node */
    CAL_CALL_QUEUE_BYTES_MAX = 64 * 1024 * 1024, /* that the calls waiting in one context hold */
    CAL_CALLS_BYTES_MAX = 256 * 1024 * 1024,     /* and all of the node */
    CAL_APPLY_DELTAS_MAX = 256,                  /* received deltas in one turn */
    CAL_APPLY_BYTES_MAX = 4 * 1024 * 1024,       /* of artifacts, when they are more than one */
    CAL_MERGE_ITEMS_MAX = 1000,                  /* leaves and tombstones in one turn */
    CAL_MERGE_BYTES_MAX = 8 * 1024 * 1024,       /* of their values */
    CAL_HANDLERS_MAX = 16384,                    /* of received events, waiting in the node */
    CAL_HANDLERS_BYTES_MAX = 64 * 1024 * 1024,   /* that these hold */
    CAL_HANDLERS_OPEN_MAX = 256,                 /* of one context among the calls that wait */
    CAL_TURNS_RUN_MAX = 32,                      /* turns of a context in a row on one worker */
    CAL_TURNS_RUN_NS = 5000000,                  /* and the time after which no other one begins */
    CAL_TURNS_FLIGHT_MAX = 256, /* turns of a context that have run and are not durable yet */
    CAL_TURNS_TIP_BYTES_MAX = 16 * 1024 * 1024, /* that their rows and outcomes hold */
    CAL_CALL_ARGS_MAX = 10 * 1024 * 1024,
    CAL_INIT_PARAMS_MAX = 1024 * 1024,
    CAL_CALL_DEADLINE_MS = 10000,
    CAL_GUEST_MEMORY_MAX = 64 * 1024 * 1024,
    CAL_MODULES_LOADED_MAX = 32, /* compiled modules kept in memory */
    CAL_APP_DOWNLOAD_MAX = 512 * 1024 * 1024,
    CAL_APP_METADATA_MAX = 64 * 1024,
    CAL_XCALL_DEPTH_MAX = 3,
    CAL_STORE_BATCHES_PER_TRANSACTION = 256,
};

#endif
