/* merod run: the node and its server until a signal, the end of a file descriptor, or the loss of
 * its data.
 *
 * The main thread only waits; the node has its own loop. SIGTERM and SIGINT are blocked before any
 * thread is made and read from a descriptor, so that no code runs inside a signal. A second one
 * ends the process at once. Protocol: http-api.md 1, 12. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "merod.h"

enum { DATA_CHECK_MS = 5000, FD_MAX = 1 << 20 };

/* Tells systemd ("READY=1"); nothing without NOTIFY_SOCKET. */
static void notify(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (len < 2 || len >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') address.sun_path[0] = 0; /* a name without a file */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address, size) < 0)
        fprintf(stderr, "merod: systemd was not told: %s\n", strerror(errno));
    close(fd);
}

static int open_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_sigmask(SIG_BLOCK, &signals, NULL) != 0) return -1;
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

/* From here on a signal ends the process as if nothing had been arranged. */
static void restore_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
}

/* --- waiting for the end --- */

typedef struct watch {
    int signals, eof; /* descriptors; eof -1: none */
    char data[MEROD_PATH_MAX + 8];
    struct stat before;
} watch;

static bool data_is_there(const watch *w) {
    struct stat now;
    return stat(w->data, &now) == 0 && now.st_dev == w->before.st_dev &&
           now.st_ino == w->before.st_ino;
}

/* true when the other end of --exit-on-eof is gone; what is written to it meanwhile is dropped. */
static bool reached_eof(int fd) {
    char bytes[256];
    ssize_t len = read(fd, bytes, sizeof bytes);
    return len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR);
}

/* Why the node stops; NULL: its data is gone. */
static const char *wait_for_end(const watch *w) {
    struct pollfd polled[2] = {{.fd = w->signals, .events = POLLIN},
                               {.fd = w->eof, .events = POLLIN}};
    for (;;) {
        int n = poll(polled, w->eof >= 0 ? 2 : 1, DATA_CHECK_MS);
        if (n < 0 && errno != EINTR) return strerror(errno);
        if (n > 0 && polled[0].revents) {
            struct signalfd_siginfo info;
            if (read(w->signals, &info, sizeof info) != sizeof info) return "a signal";
            return info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT";
        }
        if (n > 0 && w->eof >= 0 && polled[1].revents && reached_eof(w->eof))
            return "the end of --exit-on-eof";
        if (!data_is_there(w)) return NULL;
    }
}

static void say(const cli *line, const char *format, const char *detail) {
    const char *log_format = cli_get(line, "log-format");
    if (log_format && strcmp(log_format, "json") == 0) {
        char text[512];
        snprintf(text, sizeof text, format, detail);
        fprintf(stderr, "{\"level\":\"info\",\"area\":\"merod\",\"message\":\"%s\"}\n", text);
        return;
    }
    fprintf(stderr, "merod: ");
    fprintf(stderr, format, detail);
    fputc('\n', stderr);
}

struct place {
    const cli *line;
    cal_node *node;
};

/* How other nodes reach this one, in the form that their lists of boot nodes take. */
static void say_addresses(void *arg) {
    enum { SHOWN_MAX = 16 };
    const struct place *place = arg;
    cal_peer_id id;
    cal_multiaddr addresses[SHOWN_MAX];
    char text[CAL_MULTIADDR_TEXT_MAX];
    cal_p2p *host = cal_node_p2p(place->node);
    size_t count = cal_p2p_addresses(host, addresses, SHOWN_MAX);
    cal_p2p_id(host, &id);
    for (size_t i = 0; i < count && i < SHOWN_MAX; i++) {
        if (cal_multiaddr_set_peer(&addresses[i], &id) != 0) continue;
        cal_multiaddr_text(&addresses[i], text);
        say(place->line, "other nodes reach it at %s", text);
    }
}

static void say_network(const cli *line, cal_node *node) {
    cal_node_run(node, say_addresses, &(struct place){line, node});
}

/* Serves a started node until the end. */
static int serve(const cli *line, cal_node *node, cal_config *config, watch *w) {
    cal_server *server = NULL;
    cal_error err = {0};
    cal_server_options *options = cal_config_server(config);
    options->allow_unauthenticated = cli_flag(line, "allow-unauthenticated");
    if (cal_server_start(node, options, &server, &err) != 0)
        return cli_fail(line, "%s", err.message);
    const char *address;
    for (size_t i = 0; (address = cal_server_address(server, i)); i++)
        say(line, "listening on %s", address);
    say_network(line, node);
    notify("READY=1");
    say(line, "version %s is ready", cal_version());
    const char *reason = wait_for_end(w);
    notify("STOPPING=1");
    restore_signals();
    if (reason) say(line, "stopping: %s", reason);
    cal_server_stop(server);
    return reason ? CLI_OK : cli_fail(line, "%s was replaced or removed: stopped", w->data);
}

/* A private key in config.toml is in the node's store now: only its peer id stays in the file. */
static void move_keypair(const cli *line, cal_node *node, const char *home) {
    cal_peer_id id;
    cal_error err = {0};
    char text[CAL_PEER_ID_TEXT_MAX], pair[CAL_PEER_ID_TEXT_MAX + 32];
    const char *const pairs[] = {pair};
    cal_node_peer_id(node, &id);
    cal_peer_id_text(&id, text);
    snprintf(pair, sizeof pair, "identity={ peer_id = \"%s\" }", text);
    if (cal_config_set(home, pairs, 1, &err) != 0)
        say(line, "the private key stays in config.toml, too: %s", err.message);
    else
        say(line, "the private key of config.toml was moved into the store (%s)", text);
}

static int start(const cli *line, cal_config *config, watch *w) {
    char secret[MEROD_SECRET_MAX];
    cal_error err = {0};
    cal_node *node = NULL;
    cal_node_options *options = cal_config_node(config);
    int code = merod_unlock(line, options, secret);
    if (code) return code;
    int error = cal_node_start(options, &node, &err);
    explicit_bzero(secret, sizeof secret);
    options->key.text = NULL;
    if (error) return cli_fail(line, "%s", err.message);
    if (options->network.keypair) {
        move_keypair(line, node, options->home);
        explicit_bzero((char *)(uintptr_t)options->network.keypair,
                       strlen(options->network.keypair));
    }
    snprintf(w->data, sizeof w->data, "%s/data", options->home);
    if (stat(w->data, &w->before) != 0)
        code = cli_fail(line, "%s: %s", w->data, strerror(errno));
    else
        code = serve(line, node, config, w);
    cal_node_stop(node);
    return code;
}

static int check(const cli *line, const cal_config *config) {
    cal_error err = {0};
    const char *mode = cli_get(line, "auth-mode");
    if (cal_config_check(config, &err) != 0) return cli_fail(line, "%s", err.message);
    if (mode ? strcmp(mode, "embedded") == 0 : cal_config_wants_authentication(config))
        return cli_fail(line, "server.auth_mode is \"embedded\", which this version does not have: "
                              "it would leave the API open. "
                              "Set it to \"proxy\" once that is what you want: merod config "
                              "'server.auth_mode=\"proxy\"'");
    return 0;
}

int merod_run_run(cli *line) {
    unsigned long long fd;
    cal_config *config = NULL;
    watch w = {.signals = -1, .eof = -1};
    if (!cli_number(line, "exit-on-eof", 0, FD_MAX, FD_MAX, &fd)) return CLI_USAGE;
    if (cli_flag(line, "exit-on-eof")) w.eof = (int)fd;
    int code = merod_log(line);
    if (code == 0) code = merod_config(line, &config);
    if (code == 0) code = check(line, config);
    if (code == 0) {
        w.signals = open_signals();
        code = w.signals < 0 ? cli_fail(line, "signals cannot be read: %s", strerror(errno))
                             : start(line, config, &w);
    }
    if (w.signals >= 0) close(w.signals);
    cal_config_free(config);
    return code;
}

const cli_option merod_run_options[] = {
    {"allow-unauthenticated", 0, NULL, "Listen on any address although nobody is authenticated"},
    {"auth-mode", 0, "proxy|embedded", "Instead of server.auth_mode in config.toml"},
    {"exit-on-eof", 0, "FD", "Stop when the other end of this file descriptor is closed"},
    {"key-passphrase-file", 0, "FILE", "The passphrase is this file's first line"},
    {"key-passphrase-stdin", 0, NULL, "The passphrase is the first line of standard input"},
    {0}};
