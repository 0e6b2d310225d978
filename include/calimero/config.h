/* config.toml: how a node and its server are set up (protocol http-api.md 11).
 *
 * A home is a folder that holds config.toml, 0600, and the node's data. Unknown keys are ignored,
 * so that files of other versions load. Blocking; a cal_config belongs to one thread at a time and
 * owns every string it gives out. */
#ifndef CALIMERO_CONFIG_H
#define CALIMERO_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "calimero/error.h"
#include "calimero/node.h"
#include "calimero/server.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cal_config cal_config;

/* What a new config.toml says. Zero-initialise, then set what differs. */
typedef struct cal_config_defaults {
    const char *const *server_hosts; /* IP addresses; default 127.0.0.1 and ::1 */
    size_t server_host_count;
    uint16_t server_port;           /* default 2528 */
    const char *const *swarm_hosts; /* default 0.0.0.0 and :: */
    size_t swarm_host_count;
    uint16_t swarm_port;           /* default 2428 */
    const char *const *boot_nodes; /* multiaddrs; default none: a new node calls nobody */
    size_t boot_node_count;
    const char *const *external_addresses; /* multiaddrs */
    size_t external_address_count;
    bool mdns, advertise_address;
    bool read_only;                          /* mode = "readonly" */
    uint32_t rendezvous_registrations_limit; /* default 3 */
    uint32_t relay_registrations_limit;      /* default 3 */
    uint32_t autonat_probe_interval_s;       /* default 10 */
    uint32_t autonat_max_candidates;         /* default 5 */
    cal_node_key key; /* a passphrase is not written: only that there is one */
    cal_node_durability durability;
} cal_config_defaults;

/* Writes home/config.toml; makes the folder, 0700. CAL_EEXISTS when there is one. */
int cal_config_create(const char *home, const cal_config_defaults *defaults, cal_error *err);
bool cal_config_exists(const char *home);

/* Reads home/config.toml. CAL_ENOTFOUND, CAL_EDECODE (no TOML), CAL_EINVAL with the key and what it
 * may be. */
int cal_config_load(const char *home, cal_config **ret_config, cal_error *err);
void cal_config_free(cal_config *config); /* NULL allowed */

/* Everything that must hold before a node starts: ports that clash, folders that cannot be written,
 * values out of range. CAL_EINVAL with the key, its value and the allowed range. Logs warnings
 * about keys that have no effect. */
int cal_config_check(const cal_config *config, cal_error *err);

/* Sets "dotted.key=TOML value" pairs, keeping comments and order; writes only when all of the
 * result passes cal_config_check. */
int cal_config_set(const char *home, const char *const *pairs, size_t count, cal_error *err);

/* Valid as long as the config. The program may change them before it starts anything: key.text of a
 * passphrase is NULL. */
cal_node_options *cal_config_node(cal_config *config);
cal_server_options *cal_config_server(cal_config *config);
/* "http://127.0.0.1:2528" of the first server.listen address; NULL when there is none. */
const char *cal_config_url(const cal_config *config);
/* server.auth_mode is "embedded". */
bool cal_config_wants_authentication(const cal_config *config);

/* --- for the files of programs beside the node --- */

/* A TOML file as JSON text; free() it. CAL_ENOTFOUND, CAL_ELIMIT over `max` bytes, CAL_EDECODE with
 * line and reason. */
int cal_toml_file_to_json(const char *path, size_t max, char **ret_json, cal_error *err);
/* Atomic, durable, 0600. */
int cal_config_write_file(const char *path, const char *text, size_t len, cal_error *err);

#ifdef __cplusplus
}
#endif
#endif
