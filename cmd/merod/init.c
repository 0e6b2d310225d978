/* merod init: a new node home. Protocol: http-api.md 11, 12. */
#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calimero/maintenance.h"
#include "merod.h"

enum { HOSTS_MAX = 8, NODES_MAX = 64 };

/* A list from a repeated option whose values may hold commas; owns one copy of each value. */
typedef struct list {
    const char *items[NODES_MAX];
    size_t count;
    char *copies[NODES_MAX];
    size_t copy_count;
} list;

static void list_free(list *l) {
    for (size_t i = 0; i < l->copy_count; i++) free(l->copies[i]);
}

static int list_read(const cli *line, const char *option, size_t max, list *ret_list) {
    size_t position = 0;
    const char *value;
    while ((value = cli_each(line, option, &position))) {
        char *copy = strdup(value), *rest = copy, *item;
        if (!copy || ret_list->copy_count == max) {
            free(copy);
            return cli_usage(line, "--%s is given more than %zu times", option, max);
        }
        ret_list->copies[ret_list->copy_count++] = copy;
        while ((item = strsep(&rest, ","))) {
            if (!item[0]) continue;
            if (ret_list->count == max)
                return cli_usage(line, "--%s names more than %zu", option, max);
            ret_list->items[ret_list->count++] = item;
        }
    }
    return 0;
}

static int check_hosts(const cli *line, const char *option, const list *hosts) {
    struct in6_addr address;
    for (size_t i = 0; i < hosts->count; i++)
        if (inet_pton(AF_INET, hosts->items[i], &address) != 1 &&
            inet_pton(AF_INET6, hosts->items[i], &address) != 1)
            return cli_usage(line, "--%s is '%s' but must be an IP address", option,
                             hosts->items[i]);
    return 0;
}

static int check_multiaddrs(const cli *line, const char *option, const list *addresses) {
    cal_error why;
    for (size_t i = 0; i < addresses->count; i++)
        if (cal_multiaddr_dialable(addresses->items[i], &why) == CAL_EINVAL)
            return cli_usage(line, "--%s: %s", option, why.message);
    return 0;
}

/* Public boot nodes of the networks that can be joined by name. */
static void add_network(const cli *line, list *nodes) {
    static const char *const dev[] = {
        "/ip4/63.181.86.34/tcp/4001/p2p/12D3KooWR5V4zmisVtVdGE6i8jfFwtgRNq5t8eDGxfckKuhXu7Eh"};
    static const char *const ipfs[] = {
        "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
        "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
        "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
        "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
        "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ"};
    const char *network = cli_get(line, "boot-network");
    if (!network) return;
    bool is_dev = strcmp(network, "calimero-dev") == 0;
    const char *const *from = is_dev ? dev : ipfs;
    size_t count = is_dev ? sizeof dev / sizeof *dev : sizeof ipfs / sizeof *ipfs;
    for (size_t i = 0; i < count && nodes->count < NODES_MAX; i++)
        nodes->items[nodes->count++] = from[i];
}

static int read_numbers(const cli *line, cal_config_defaults *d) {
    unsigned long long server, swarm, rendezvous, relay, probe, candidates;
    if (!cli_number(line, "server-port", 1, UINT16_MAX, 2528, &server) ||
        !cli_number(line, "swarm-port", 1, UINT16_MAX, 2428, &swarm) ||
        !cli_number(line, "rendezvous-registrations-limit", 1, 100, 3, &rendezvous) ||
        !cli_number(line, "relay-registrations-limit", 1, 100, 3, &relay) ||
        !cli_number(line, "autonat-probe-interval", 1, 86400, 10, &probe) ||
        !cli_number(line, "autonat-max-candidates", 1, 1000, 5, &candidates))
        return CLI_USAGE;
    d->server_port = (uint16_t)server;
    d->swarm_port = (uint16_t)swarm;
    d->rendezvous_registrations_limit = (uint32_t)rendezvous;
    d->relay_registrations_limit = (uint32_t)relay;
    d->autonat_probe_interval_s = (uint32_t)probe;
    d->autonat_max_candidates = (uint32_t)candidates;
    return 0;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

/* --force: everything that init made, and nothing else that may lie in the folder. */
static int remove_node(const cli *line, const char *home) {
    static const char *const names[] = {"data", "blobs", "master.key", "config.toml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[MEROD_PATH_MAX + 16];
        snprintf(path, sizeof path, "%s/%s", home, names[i]);
        if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
            return cli_fail(line, "%s cannot be removed: %s", path, strerror(errno));
    }
    return 0;
}

static int write_peer_id(const char *home, const cal_peer_id *id, cal_error *err) {
    char text[CAL_PEER_ID_TEXT_MAX], pair[CAL_PEER_ID_TEXT_MAX + 32];
    const char *const pairs[] = {pair};
    cal_peer_id_text(id, text);
    snprintf(pair, sizeof pair, "identity.peer_id=\"%s\"", text);
    return cal_config_set(home, pairs, 1, err);
}

/* Writes config.toml, then the store; a store that fails takes the file with it, so that init can
 * be run again. */
static int create(const cli *line, const char *home, const cal_config_defaults *defaults) {
    cal_error err = {0};
    cal_config *config = NULL;
    cal_peer_id id;
    if (cal_config_create(home, defaults, &err) != 0) return cli_fail(line, "%s", err.message);
    int error = cal_config_load(home, &config, &err);
    if (error == 0) {
        if (defaults->key.kind == CAL_NODE_KEY_PASSPHRASE)
            cal_config_node(config)->key = defaults->key;
        error = cal_node_init(cal_config_node(config), &id, &err);
    }
    cal_config_free(config);
    if (error == 0) error = write_peer_id(home, &id, &err);
    if (error == 0) return 0;
    char path[MEROD_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/config.toml", home);
    unlink(path);
    return cli_fail(line, "%s", err.message);
}

/* Authentication belongs to a later version: what would silently leave the node open is refused. */
static int check_authentication(const cli *line) {
    static const char *const later[] = {"auth-storage", "auth-storage-path", "admin-user",
                                        "admin-password-file", "admin-password-stdin"};
    const char *mode = cli_get(line, "auth-mode");
    if (mode && strcmp(mode, "embedded") == 0)
        return cli_fail(line, "--auth-mode embedded is not there yet: this version serves programs "
                              "on this machine only, or "
                              "stands behind a proxy that authenticates (--auth-mode proxy)");
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (cli_flag(line, later[i]))
            fprintf(stderr, "merod: --%s has no effect with --auth-mode proxy\n", later[i]);
    return 0;
}

static int prepare(const cli *line, const char *home, bool *ret_nothing_to_do) {
    *ret_nothing_to_do = false;
    if (!cal_config_exists(home)) return 0;
    if (cli_flag(line, "force")) return remove_node(line, home);
    fprintf(
        stderr,
        "merod: %s is a node already; nothing was changed (--force destroys it and starts anew)\n",
        home);
    *ret_nothing_to_do = true;
    return 0;
}

static void print_next(const cli *line, const char *home) {
    const char *base = cli_get(line, "home");
    printf("Made a node in %s\nStart it with: merod %s%s%s--node %s run\n", home,
           base ? "--home " : "", base ? base : "", base ? " " : "", cli_get(line, "node"));
}

static int run_with(const cli *line, const char *home, cal_config_defaults *d, list lists[4]) {
    static const char *const names[] = {"server-host", "swarm-host", "boot-nodes",
                                        "external-address"};
    const char *mode = cli_get(line, "mode"), *durability = cli_get(line, "durability");
    char secret[MEROD_SECRET_MAX];
    bool given, nothing_to_do;
    int code = 0;
    for (size_t i = 0; code == 0 && i < 4; i++) {
        code = list_read(line, names[i], i < 2 ? HOSTS_MAX : NODES_MAX, &lists[i]);
        if (code == 0)
            code = i < 2 ? check_hosts(line, names[i], &lists[i])
                         : check_multiaddrs(line, names[i], &lists[i]);
    }
    if (code == 0) code = read_numbers(line, d);
    if (code == 0) code = check_authentication(line);
    if (code == 0) code = prepare(line, home, &nothing_to_do);
    if (code || nothing_to_do) return code;
    add_network(line, &lists[2]);
    d->server_hosts = lists[0].items;
    d->server_host_count = lists[0].count;
    d->swarm_hosts = lists[1].items;
    d->swarm_host_count = lists[1].count;
    d->boot_nodes = lists[2].items;
    d->boot_node_count = lists[2].count;
    d->external_addresses = lists[3].items;
    d->external_address_count = lists[3].count;
    d->mdns = cli_flag(line, "mdns") && !cli_flag(line, "no-mdns");
    d->advertise_address = cli_flag(line, "advertise-address");
    d->read_only = mode && strcmp(mode, "read-only") == 0;
    d->durability = durability && strcmp(durability, "process") == 0 ? CAL_NODE_DURABLE_PROCESS
                                                                     : CAL_NODE_DURABLE_FULL;
    code = merod_new_key(line, "", &d->key, &given, secret);
    if (code == 0) code = create(line, home, d);
    explicit_bzero(secret, sizeof secret);
    if (code == 0) print_next(line, home);
    return code;
}

int merod_init_run(cli *line) {
    char home[MEROD_PATH_MAX];
    cal_config_defaults defaults = {0};
    list *lists = calloc(4, sizeof *lists);
    int code = lists ? merod_home(line, home) : CLI_FAILED;
    if (code == 0) code = run_with(line, home, &defaults, lists);
    for (size_t i = 0; lists && i < 4; i++) list_free(&lists[i]);
    free(lists);
    return code;
}

const cli_option merod_init_options[] = {
    {"server-host", 0, "ADDRESS,...", "Where the API listens (default: 127.0.0.1,::1)"},
    {"server-port", 0, "PORT", "Port of the API (default: 2528)"},
    {"swarm-host", 0, "ADDRESS,...", "Where other nodes reach this one (default: 0.0.0.0,::)"},
    {"swarm-port", 0, "PORT", "Port for other nodes (default: 2428)"},
    {"boot-nodes", 0, "MULTIADDR", "A node to find others through; repeat"},
    {"boot-network", 0, "calimero-dev|ipfs",
     "Find others through this public network (default: none)"},
    {"external-address", 0, "MULTIADDR", "An address of this node as others see it; repeat"},
    {"mdns", 0, NULL, "Find nodes on the local network"},
    {"no-mdns", 0, NULL, "Do not (the default)"},
    {"advertise-address", 0, NULL, "Tell others this node's public address"},
    {"rendezvous-registrations-limit", 0, "COUNT", "Rendezvous points to register at (default: 3)"},
    {"relay-registrations-limit", 0, "COUNT", "Relays to register at (default: 3)"},
    {"autonat-probe-interval", 0, "SECONDS", "How often reachability is probed (default: 10)"},
    {"autonat-max-candidates", 0, "COUNT", "Addresses probed at once (default: 5)"},
    {"mode", 0, "standard|read-only",
     "Whether the node takes calls that write (default: standard)"},
    {"durability", 0, "full|process",
     "What an acknowledged write survives: power loss, or the death of merod (default: full)"},
    {"key-file", 0, "FILE",
     "Open the store with the key in this file, made when missing (default: master.key in the "
     "home)"},
    {"key-passphrase", 0, NULL, "Open the store with a passphrase, asked for at every start"},
    {"key-passphrase-file", 0, "FILE", "The passphrase is this file's first line"},
    {"key-passphrase-stdin", 0, NULL, "The passphrase is the first line of standard input"},
    {"key-command", 0, "COMMAND", "Open the store with what this shell command prints"},
    {"auth-mode", 0, "proxy|embedded", "Who authenticates clients (default: proxy)"},
    {"auth-storage", 0, "persistent|memory", "For --auth-mode embedded"},
    {"auth-storage-path", 0, "PATH", "For --auth-mode embedded"},
    {"admin-user", 0, "NAME", "For --auth-mode embedded"},
    {"admin-password-file", 0, "FILE", "For --auth-mode embedded"},
    {"admin-password-stdin", 0, NULL, "For --auth-mode embedded"},
    {"no-admin", 0, NULL, "For --auth-mode embedded"},
    {"force", 0, NULL, "Destroy the node that is there, with all its data, and start anew"},
    {0}};
