/* The hot entities of one context: the latest durable value of recently used state rows, so that
 * a call does not pay for a page's decryption a row at a time.
 *
 * The cache knows the state of exactly one version. Commits move it to the next one; a view whose
 * snapshot is of another version gets no answer and reads the store. Whoever holds the context's
 * place reads it at any time (CAL_CACHE_HOLDER): it asks here only for rows that none of the turns
 * under way has written, and their value is the same before and after those. Any thread. */
#ifndef CAL_CONTEXT_CACHE_H
#define CAL_CONTEXT_CACHE_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "context/row.h"

typedef struct cal_context_cache cal_context_cache;

enum { CAL_CACHE_UNKNOWN = 2 };

/* seed of its hash maps, random. NULL: out of memory; version 0. */
cal_context_cache *cal_context_cache_new(size_t max_bytes, uint64_t seed);
void cal_context_cache_free(cal_context_cache *cache); /* NULL allowed */

/* 1 and the value appended, 0 known to be absent, CAL_CACHE_UNKNOWN, or CAL_E* of the buffer. */
int cal_context_cache_get(cal_context_cache *cache, uint64_t version, cal_slice key,
                          cal_buffer *ret_value);
/* Remembers what a snapshot of this version holds (value NULL: nothing). Ignored when the version
 * has moved on. */
void cal_context_cache_add(cal_context_cache *cache, uint64_t version, cal_slice key,
                           const cal_slice *value);

/* The version to read under, asked before a snapshot is taken and confirmed after: CAL_CACHE_NONE
 * while a commit is on its way, when nobody can tell which version a snapshot sees. */
#define CAL_CACHE_NONE UINT64_MAX
uint64_t cal_context_cache_version(cal_context_cache *cache);

/* As a version: the reader holds the context's place, and no turn under way has written the row. */
#define CAL_CACHE_HOLDER (UINT64_MAX - 1)

/* Commits in three steps, by whoever holds the context's place: begin, before the first batch is
 * submitted, moves to the next version and closes the cache for views; put gives rows that are
 * durable, and takes them; end, when nothing is under way any more, opens it again. After a failed
 * commit: clear, then end. */
void cal_context_cache_commit_begin(cal_context_cache *cache);
void cal_context_cache_commit_put(cal_context_cache *cache, cal_slice key, cal_row *row);
void cal_context_cache_commit_end(cal_context_cache *cache);

size_t cal_context_cache_bytes(cal_context_cache *cache);
void cal_context_cache_clear(cal_context_cache *cache);

#endif
