/* A chat without a server, over gossipsub: chat NAME [ADDRESS...]
 *
 * Those on one local network find each other by themselves (mDNS); anybody else is given the
 * address that one of them prints at its start. What is typed goes to everybody in the room; each
 * line is signed by its author. Needs nothing but calimero/p2p.h. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <calimero/p2p.h>

static const char room[] = "chat/example";
static cal_p2p *host;
static const char *name;

/* What others write goes to a terminal: no control characters. */
static void on_message(void *user, const cal_p2p_message *message) {
    char author[CAL_PEER_ID_TEXT_MAX];
    (void)user;
    cal_peer_id_text(&message->author, author);
    for (size_t i = 0; i < message->len; i++)
        putchar(message->data[i] < ' ' || message->data[i] == 127 ? '?' : message->data[i]);
    printf("   (%s)\n", author + strlen(author) - 6);
    fflush(stdout);
}

static void on_subscribed(void *user, const char *topic, const cal_peer_id *peer, bool hears) {
    char text[CAL_PEER_ID_TEXT_MAX];
    (void)user, (void)topic;
    cal_peer_id_text(peer, text);
    printf("* %s %s\n", text, hears ? "is here" : "left");
    fflush(stdout);
}

static void on_connected(void *user, const cal_error *err, const cal_peer_id *peer) {
    (void)user, (void)peer;
    if (err) fprintf(stderr, "* not connected: %s\n", err->message);
}

/* On the host's thread: everything that takes a host is called there. */
static void say(void *arg) {
    char *line = arg;
    size_t peers = 0;
    cal_error err;
    if (cal_p2p_publish(host, room, line, strlen(line), &peers, &err) != 0)
        fprintf(stderr, "* not sent: %s\n", err.message);
    else if (peers == 0)
        fprintf(stderr, "* nobody is here yet\n");
    free(line);
}

static void *read_lines(void *unused) {
    char line[1000];
    (void)unused;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (!line[0]) continue;
        char *text = malloc(strlen(line) + strlen(name) + 3);
        if (!text) break;
        sprintf(text, "%s: %s", name, line);
        if (cal_p2p_post(host, say, text) != 0) free(text);
    }
    cal_p2p_stop(host);
    return NULL;
}

static void print_addresses(void) {
    cal_multiaddr addresses[8];
    cal_peer_id self;
    char text[CAL_MULTIADDR_TEXT_MAX];
    size_t count = cal_p2p_addresses(host, addresses, 8);
    cal_p2p_id(host, &self);
    for (size_t i = 0; i < count && i < 8; i++) {
        if (cal_multiaddr_set_peer(&addresses[i], &self) != 0) continue;
        cal_multiaddr_text(&addresses[i], text);
        fprintf(stderr, "* reachable at %s\n", text);
    }
}

int main(int argc, char **argv) {
    static const char *const listen[] = {"/ip4/0.0.0.0/tcp/0"};
    const cal_p2p_options options = {.listen = listen, .listen_count = 1, .agent = "chat-example"};
    const cal_p2p_gossip_options gossip = {.message = on_message, .subscribed = on_subscribed};
    cal_error err;
    pthread_t reader;
    if (argc < 2) return fprintf(stderr, "usage: chat NAME [ADDRESS...]\n"), 2;
    name = argv[1];
    int rc = cal_p2p_new(&options, &host, &err);
    if (rc == 0 && (rc = cal_p2p_gossip_start(host, &gossip)) != 0)
        strcpy(err.message, cal_error_text(rc));
    if (rc == 0) rc = cal_p2p_subscribe(host, room, false, &err);
    if (rc != 0) return fprintf(stderr, "chat: %s\n", err.message), 1;
    if (cal_p2p_mdns_start(host, &err) != 0) fprintf(stderr, "* without mDNS: %s\n", err.message);
    for (int i = 2; i < argc; i++) {
        cal_multiaddr address;
        if (cal_multiaddr_parse(argv[i], &address) != 0)
            return fprintf(stderr, "chat: %s is no address\n", argv[i]), 2;
        cal_p2p_connect(host, NULL, &address, 1, on_connected, NULL);
    }
    print_addresses();
    pthread_create(&reader, NULL, read_lines, NULL);
    cal_p2p_run(host);
    pthread_join(reader, NULL);
    cal_p2p_free(host);
    return 0;
}
