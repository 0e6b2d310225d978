/* DNS packets as far as mDNS needs them, see mdns.h. Names are compared without case; pointers are
 * followed only backwards and a bounded number of times, so a packet cannot make a loop. */
#include "calimero/error.h"
#include "net/mdns.h"

enum {
    HEADER = 12,
    NAME_MAX = 255,
    JUMPS_MAX = 16,
    RECORDS_MAX = 512, /* looked at in one packet */
    TYPE_PTR = 12,
    TYPE_TXT = 16,
    CLASS_IN = 1,
    CLASS_MASK = 0x7fff, /* the top bit asks for unicast, or flushes a cache */
    FLAG_ANSWER = 0x8000,
    FLAGS_OF_ANSWER = 0x8400,
    SERVICES_TTL_S = MDNS_TTL_S,
};

static const char service[] = "_p2p._udp.local";
static const char all_services[] = "_services._dns-sd._udp.local";
static const char attribute[] = "dnsaddr=";

typedef struct name {
    char text[NAME_MAX + 2]; /* labels with dots, lower case; dots inside labels become '?' */
    size_t len;
} name;

/* --- reading --- */

typedef struct reader {
    cal_slice packet;
    size_t at;
} reader;

static bool has(const reader *r, size_t len) { return len <= r->packet.len - r->at; }

static void add_label(name *out, const uint8_t *label, size_t len) {
    if (out->len) out->text[out->len++] = '.';
    for (size_t i = 0; i < len; i++) {
        uint8_t c = label[i];
        if (c >= 'A' && c <= 'Z') c = (uint8_t)(c - 'A' + 'a');
        out->text[out->len++] = c == '.' || c == 0 ? '?' : (char)c;
    }
}

static int read_name(reader *r, name *ret_name) {
    const uint8_t *bytes = r->packet.data;
    size_t at = r->at, lowest = r->at, jumps = 0;
    ret_name->len = 0;
    for (;;) {
        if (at >= r->packet.len) return CAL_EDECODE;
        size_t len = bytes[at];
        if (len >= 0xc0) {
            if (at + 2 > r->packet.len || ++jumps > JUMPS_MAX) return CAL_EDECODE;
            size_t target = (len & 0x3f) << 8 | bytes[at + 1];
            if (target >= lowest) return CAL_EDECODE; /* only back, and further each time */
            if (jumps == 1) r->at = at + 2;
            at = lowest = target;
            continue;
        }
        if (len >= 0x40 || len > r->packet.len - at - 1) return CAL_EDECODE;
        at += 1 + len;
        if (len == 0) break;
        if (ret_name->len + 1 + len > NAME_MAX) return CAL_EDECODE;
        add_label(ret_name, bytes + at - len, len);
    }
    if (jumps == 0) r->at = at;
    ret_name->text[ret_name->len] = 0;
    return 0;
}

static bool in_service(const name *n) {
    size_t len = sizeof service - 1;
    return n->len > len + 1 && n->text[n->len - len - 1] == '.' &&
           memcmp(n->text + n->len - len, service, len) == 0;
}

static int read_question(reader *r, mdns_packet *out) {
    name n;
    if (read_name(r, &n) || !has(r, 4)) return CAL_EDECODE;
    uint16_t type = cal_read_u16be(r->packet.data + r->at);
    r->at += 4;
    if (type != TYPE_PTR && type != 255) return 0;
    if (strcmp(n.text, service) == 0) out->asks_peers = true;
    if (strcmp(n.text, all_services) == 0) out->asks_services = true;
    return 0;
}

static void read_texts(cal_slice data, uint32_t ttl, mdns_packet *out) {
    for (size_t at = 0; at < data.len && out->count < MDNS_ADDRESSES_MAX;) {
        size_t len = data.data[at++];
        if (len > data.len - at) return;
        cal_slice text = {data.data + at, len};
        at += len;
        if (text.len <= sizeof attribute - 1 ||
            memcmp(text.data, attribute, sizeof attribute - 1) != 0)
            continue;
        out->addresses[out->count].text =
            (cal_slice){text.data + sizeof attribute - 1, text.len - (sizeof attribute - 1)};
        out->addresses[out->count++].ttl = ttl;
    }
}

static int read_record(reader *r, mdns_packet *out) {
    name n;
    if (read_name(r, &n) || !has(r, 10)) return CAL_EDECODE;
    const uint8_t *fixed = r->packet.data + r->at;
    uint16_t type = cal_read_u16be(fixed), len = cal_read_u16be(fixed + 8);
    r->at += 10;
    if (!has(r, len)) return CAL_EDECODE;
    cal_slice data = {r->packet.data + r->at, len};
    r->at += len;
    if (type == TYPE_TXT && in_service(&n)) read_texts(data, cal_read_u32be(fixed + 4), out);
    return 0;
}

int mdns_read(cal_slice packet, mdns_packet *ret_packet) {
    mdns_packet out = {0};
    if (packet.len < HEADER || packet.len > MDNS_PACKET_TAKEN_MAX) return CAL_EDECODE;
    reader r = {packet, HEADER};
    out.answer = cal_read_u16be(packet.data + 2) & FLAG_ANSWER;
    size_t questions = cal_read_u16be(packet.data + 4), records = 0;
    for (size_t at = 6; at < HEADER; at += 2) records += cal_read_u16be(packet.data + at);
    if (questions > RECORDS_MAX || records > RECORDS_MAX) return CAL_EDECODE;
    for (size_t i = 0; i < questions; i++)
        if (read_question(&r, &out)) return CAL_EDECODE;
    for (size_t i = 0; i < records; i++)
        if (read_record(&r, &out)) return CAL_EDECODE;
    if (out.answer)
        out.asks_peers = out.asks_services = false;
    else
        out.count = 0; /* what the asker knows already, not an announcement */
    *ret_packet = out;
    return 0;
}

/* --- writing; names without pointers, which every reader understands --- */

static void write_u16(cal_buffer *out, uint16_t value) {
    uint8_t bytes[2];
    cal_write_u16be(bytes, value);
    cal_buffer_append(out, bytes, sizeof bytes);
}

static void write_u32(cal_buffer *out, uint32_t value) {
    uint8_t bytes[4];
    cal_write_u32be(bytes, value);
    cal_buffer_append(out, bytes, sizeof bytes);
}

static void write_header(cal_buffer *out, uint16_t flags, uint16_t questions, uint16_t answers,
                         uint16_t additional) {
    const uint16_t fields[] = {0, flags, questions, answers, 0, additional};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) write_u16(out, fields[i]);
}

static void write_name(cal_buffer *out, const char *peer, const char *rest) {
    if (peer) {
        cal_buffer_append_u8(out, MDNS_NAME_LEN);
        cal_buffer_append(out, peer, MDNS_NAME_LEN);
    }
    for (const char *label = rest; *label;) {
        size_t len = strcspn(label, ".");
        cal_buffer_append_u8(out, (uint8_t)len);
        cal_buffer_append(out, label, len);
        label += len + (label[len] == '.');
    }
    cal_buffer_append_u8(out, 0);
}

/* The bytes that write_name takes for a peer's name: its label, the service's labels, the end. */
enum { PEER_NAME_SIZE = 1 + MDNS_NAME_LEN + 1 + sizeof service - 1 + 1 };

int mdns_write_query(cal_buffer *out) {
    write_header(out, 0, 1, 0, 0);
    write_name(out, NULL, service);
    write_u16(out, TYPE_PTR);
    write_u16(out, CLASS_IN);
    return out->error;
}

int mdns_write_services(cal_buffer *out) {
    write_header(out, FLAGS_OF_ANSWER, 0, 1, 0);
    write_name(out, NULL, all_services);
    write_u16(out, TYPE_PTR);
    write_u16(out, CLASS_IN);
    write_u32(out, SERVICES_TTL_S);
    write_u16(out, sizeof service - 1 + 2);
    write_name(out, NULL, service);
    return out->error;
}

int mdns_write_answer(cal_buffer *out, const char peer[MDNS_NAME_LEN], const char *const *texts,
                      size_t count, size_t *ret_used) {
    size_t start = out->len, used = 0;
    uint16_t records = 0;
    write_header(out, FLAGS_OF_ANSWER, 0, 1, 0);
    write_name(out, NULL, service);
    write_u16(out, TYPE_PTR);
    write_u16(out, CLASS_IN);
    write_u32(out, MDNS_TTL_S);
    write_u16(out, PEER_NAME_SIZE);
    write_name(out, peer, service);
    for (; used < count; used++) {
        size_t len = sizeof attribute - 1 + strlen(texts[used]);
        if (len > 255) continue;
        if (out->len - start + PEER_NAME_SIZE + 10 + 1 + len > MDNS_PACKET_MAX) break;
        write_name(out, peer, service);
        write_u16(out, TYPE_TXT);
        write_u16(out, CLASS_IN);
        write_u32(out, MDNS_TTL_S);
        write_u16(out, (uint16_t)(1 + len));
        cal_buffer_append_u8(out, (uint8_t)len);
        cal_buffer_append_text(out, attribute);
        cal_buffer_append_text(out, texts[used]);
        records++;
    }
    if (out->error) return out->error;
    cal_write_u16be(out->data + start + 10, records);
    *ret_used = used;
    return 0;
}
