/* multistream-select 1.0: two ends agree on the name of a protocol (connections specification). A
 * filter: takes bytes, appends bytes, does no I/O. */
#ifndef CAL_NET_MULTISTREAM_H
#define CAL_NET_MULTISTREAM_H

#include "base/buffer.h"
#include "calimero/p2p.h"

enum {
    MULTISTREAM_MESSAGE_MAX = 256, /* a longer one fails the negotiation */
    MULTISTREAM_TRIES_MAX = 32,    /* proposals that a listener answers */
    MULTISTREAM_CHOICES_MAX = 8,   /* proposals that a dialer has */
};

enum multistream_state { MULTISTREAM_GOING, MULTISTREAM_AGREED, MULTISTREAM_FAILED };

/* The name as the listener knows it, living as long as the protocol; NULL: not spoken. */
typedef const char *(*multistream_match)(void *user, cal_slice name);

typedef struct multistream {
    enum multistream_state state;
    int failure;          /* CAL_EUNSUPPORTED: no common protocol; CAL_EDECODE */
    const char *agreed;   /* the listener's or dialer's own string */
    bool dialer, greeted; /* greeted: the other end's header came */
    const char *choices[MULTISTREAM_CHOICES_MAX]; /* dialer; not copied */
    size_t choice_count, tries;
    multistream_match match; /* listener */
    void *user;
    size_t have, want; /* bytes of the message under way; want 0: its length is not known yet */
    uint8_t message[MULTISTREAM_MESSAGE_MAX];
} multistream;

/* Appends the header and the first proposal. count is 1 to MULTISTREAM_CHOICES_MAX. */
void multistream_dial(multistream *negotiation, const char *const *choices, size_t count,
                      cal_buffer *out);
void multistream_listen(multistream *negotiation, multistream_match match, void *user);

/* Takes bytes until the state is no longer GOING: those behind belong to the protocol. Answers are
 * appended to out. */
size_t multistream_feed(multistream *negotiation, const uint8_t *bytes, size_t len,
                        cal_buffer *out);

#endif
