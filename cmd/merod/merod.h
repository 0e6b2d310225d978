/* What merod's commands share: the node's home, the master key, the log. */
#ifndef MEROD_H
#define MEROD_H

#include "calimero/config.h"
#include "cli/cli.h"

enum { MEROD_PATH_MAX = 4096, MEROD_SECRET_MAX = 4096 };

/* <home>/<name>. 0 or an exit code. */
int merod_home(const cli *line, char ret_home[MEROD_PATH_MAX]);

/* Loads config.toml of the home; 0 or an exit code, having said why. */
int merod_config(const cli *line, cal_config **ret_config);

/* Sets level and format from --log-level, --log-format, CALIMERO_LOG, RUST_LOG. 0 or an exit code.
 */
int merod_log(const cli *line);

/* Fills in the passphrase that a config of kind passphrase lacks: from --key-passphrase-file,
 * --key-passphrase-stdin, CALIMERO_PASSPHRASE or the terminal. `secret` keeps it; wipe it when the
 * node is open. Nothing for other kinds. */
int merod_unlock(const cli *line, cal_node_options *node, char secret[MEROD_SECRET_MAX]);

/* The key that --PREFIXkey-file, --PREFIXkey-passphrase[-file|-stdin] or --PREFIXkey-command name;
 * a new passphrase is asked for twice. Kind file with NULL text when none is given; ret_given says
 * so. */
int merod_new_key(const cli *line, const char *prefix, cal_node_key *ret_key, bool *ret_given,
                  char secret[MEROD_SECRET_MAX]);

int merod_init_run(cli *line);
int merod_run_run(cli *line);
int merod_config_run(cli *line);
int merod_backup_run(cli *line);
int merod_check_run(cli *line);
int merod_rekey_run(cli *line);

extern const cli_option merod_init_options[];
extern const cli_option merod_run_options[];
extern const cli_option merod_unlock_options[];
extern const cli_option merod_rekey_options[];

#endif
