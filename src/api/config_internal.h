/* What config.c, config_check.c and config_file.c share. */
#ifndef CAL_API_CONFIG_INTERNAL_H
#define CAL_API_CONFIG_INTERNAL_H

#include <yyjson.h>

#include "base/bytes.h"
#include "calimero/config.h"

enum {
    CONFIG_FILE_MAX = 1024 * 1024,
    CONFIG_PATH_MAX = 4096,
    CONFIG_LISTEN_MAX = 16,
    CONFIG_NODES_MAX = 64,
    CONFIG_ORIGINS_MAX = 256
};

struct cal_config {
    char *home;
    yyjson_doc *doc; /* the file; all strings below live in it or in the fields here */
    yyjson_val *root;
    cal_node_options node;
    cal_server_options server;
    const char *listen[CONFIG_LISTEN_MAX];
    const char *origins[CONFIG_ORIGINS_MAX];
    const char *swarm[CONFIG_LISTEN_MAX], *boot_nodes[CONFIG_NODES_MAX];
    const char *external[CONFIG_LISTEN_MAX];
    char key_path[CONFIG_PATH_MAX];
    char url[128];
};

/* `text` as the config.toml of `home`; types are checked, ranges are not. */
int config_parse(const char *home, cal_slice text, cal_config **ret_config, cal_error *err);
/* Follows a dotted key; NULL when a part is missing. */
yyjson_val *config_at(yyjson_val *root, const char *key);

/* Parts of a multiaddr: "/ip4/HOST/tcp/PORT...". Texts are cut to fit. */
typedef struct config_address {
    char host[64];
    bool ip4, ip6, tcp, udp;
    bool exact; /* nothing follows the port */
    uint16_t port;
} config_address;
/* CAL_EDECODE when it is not /ip4|ip6|dns|dns4|dns6/HOST/tcp|udp/PORT[/...]. */
int config_address_parse(const char *text, config_address *ret_address);

#endif
