/* The hybrid logical clock. Freestanding; see hlc.h. runtime-abi.md 14. */
#include "crdt/hlc.h"

enum { NANOS_PER_SECOND = 1000000000, DRIFT_SECONDS = 5 };

static const uint64_t COUNTER_MASK = 0xFFFF;

static uint64_t ntp_of(uint64_t wall_ns) {
    uint64_t seconds = wall_ns / NANOS_PER_SECOND;
    if (seconds > UINT32_MAX) seconds = UINT32_MAX;
    uint64_t fraction = ((wall_ns % NANOS_PER_SECOND) << 32) / NANOS_PER_SECOND;
    return seconds << 32 | fraction;
}

void crdt_clock_init(crdt_clock *clock, const uint8_t id[16]) {
    *clock = (crdt_clock){0};
    bool zero = true;
    for (int i = 0; i < 16; i++) {
        clock->id[i] = id[i];
        if (id[i]) zero = false;
    }
    if (zero) clock->id[0] = 1;
}

void crdt_clock_init_device(crdt_clock *clock, crdt_sha256_fn sha256, const uint8_t device[32]) {
    uint8_t hash[32];
    crdt_bytes part = crdt_bytes_of(device, 32);
    sha256(&part, 1, hash);
    crdt_clock_init(clock, hash);
}

/* The next timestamp at `physical` whose counter is past `counter`. */
static void set_after(crdt_clock *clock, uint64_t physical, uint16_t counter) {
    if (counter < COUNTER_MASK) {
        clock->last = physical;
        clock->counter = (uint16_t)(counter + 1);
    } else {
        clock->last = (physical + COUNTER_MASK + 1) & ~COUNTER_MASK;
        clock->counter = 0;
    }
}

crdt_hlc crdt_clock_tick(crdt_clock *clock, uint64_t wall_ns) {
    uint64_t physical = ntp_of(wall_ns) & ~COUNTER_MASK;
    if (physical > clock->last) {
        clock->last = physical;
        clock->counter = 0;
    } else {
        set_after(clock, clock->last, clock->counter);
    }
    crdt_hlc hlc = {.time = clock->last | clock->counter};
    __builtin_memcpy(hlc.id, clock->id, 16);
    return hlc;
}

int crdt_clock_observe(crdt_clock *clock, const crdt_hlc *remote, uint64_t wall_ns) {
    uint64_t physical = remote->time & ~COUNTER_MASK;
    uint16_t counter = (uint16_t)(remote->time & COUNTER_MASK);
    uint64_t now = ntp_of(wall_ns);
    uint64_t drift = (uint64_t)DRIFT_SECONDS << 32;
    uint64_t latest = now > UINT64_MAX - drift ? UINT64_MAX : now + drift;
    if (physical > latest) return CRDT_ELIMIT;
    now &= ~COUNTER_MASK;
    uint64_t top = clock->last > physical ? clock->last : physical;
    if (now > top) top = now;
    if (top == clock->last) {
        bool both = top == physical && counter > clock->counter;
        set_after(clock, top, both ? counter : clock->counter);
    } else if (top == physical) {
        set_after(clock, top, counter);
    } else {
        clock->last = top;
        clock->counter = 0;
    }
    return 0;
}

void crdt_clock_raise(crdt_clock *clock, uint64_t time) {
    uint64_t physical = time & ~COUNTER_MASK;
    uint16_t counter = (uint16_t)(time & COUNTER_MASK);
    if (physical < clock->last || (physical == clock->last && counter <= clock->counter)) return;
    clock->last = physical;
    clock->counter = counter;
}

int crdt_hlc_compare(const crdt_hlc *a, const crdt_hlc *b) {
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    for (int i = 15; i >= 0; i--)
        if (a->id[i] != b->id[i]) return a->id[i] < b->id[i] ? -1 : 1;
    return 0;
}

uint64_t crdt_hlc_physical_seconds(const crdt_hlc *hlc) { return hlc->time >> 32; }

void crdt_read_hlc(crdt_reader *reader, crdt_hlc *ret_hlc) {
    ret_hlc->time = crdt_read_u64(reader);
    crdt_read_fixed(reader, ret_hlc->id, 16);
    uint8_t any = 0;
    for (int i = 0; i < 16; i++) any |= ret_hlc->id[i];
    if (!any) crdt_read_fail(reader, CRDT_EDECODE);
}

void crdt_write_hlc(crdt_writer *writer, const crdt_hlc *hlc) {
    crdt_write_u64(writer, hlc->time);
    crdt_write_fixed(writer, hlc->id, 16);
}

int crdt_hlc_decode(crdt_bytes bytes, crdt_hlc *ret_hlc) {
    crdt_reader reader = crdt_reader_of(bytes, NULL);
    crdt_hlc hlc;
    crdt_read_hlc(&reader, &hlc);
    int result = crdt_read_end(&reader);
    if (!result) *ret_hlc = hlc;
    return result;
}

void crdt_hlc_encode(const crdt_hlc *hlc, uint8_t ret_bytes[CRDT_HLC_SIZE]) {
    for (int i = 0; i < 8; i++) ret_bytes[i] = (uint8_t)(hlc->time >> (8 * i));
    __builtin_memcpy(ret_bytes + 8, hlc->id, 16);
}
