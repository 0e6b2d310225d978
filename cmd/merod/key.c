/* Where the master key comes from: options, the environment, a file, the terminal without echo. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "merod.h"

/* The first line of a stream, without its end. false: empty or unreadable. */
static bool read_line(FILE *file, char ret_text[MEROD_SECRET_MAX]) {
    if (!fgets(ret_text, MEROD_SECRET_MAX, file)) return false;
    ret_text[strcspn(ret_text, "\r\n")] = 0;
    return ret_text[0] != 0;
}

/* Asks on the controlling terminal, even when standard input is something else. */
static int ask(const cli *line, const char *question, char ret_text[MEROD_SECRET_MAX]) {
    FILE *terminal = fopen("/dev/tty", "r+");
    struct termios before, silent;
    if (!terminal || tcgetattr(fileno(terminal), &before) != 0) {
        if (terminal) fclose(terminal);
        return cli_fail(line, "the passphrase is needed and there is no terminal to ask on: set "
                              "CALIMERO_PASSPHRASE, or give "
                              "--key-passphrase-file or --key-passphrase-stdin");
    }
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    fputs(question, terminal);
    fflush(terminal);
    tcsetattr(fileno(terminal), TCSAFLUSH, &silent);
    bool read = read_line(terminal, ret_text);
    tcsetattr(fileno(terminal), TCSAFLUSH, &before);
    fputc('\n', terminal);
    fclose(terminal);
    return read ? 0 : cli_fail(line, "no passphrase was typed");
}

static int from_file(const cli *line, const char *path, char ret_text[MEROD_SECRET_MAX]) {
    FILE *file = fopen(path, "r");
    if (!file) return cli_fail(line, "%s: %s", path, strerror(errno));
    bool read = read_line(file, ret_text);
    fclose(file);
    return read ? 0 : cli_fail(line, "%s holds no passphrase on its first line", path);
}

/* From --PREFIXkey-passphrase-file or -stdin; *ret_found says whether one was given. */
static int from_options(const cli *line, const char *prefix, char ret_text[MEROD_SECRET_MAX],
                        bool *ret_found) {
    char file_option[48], stdin_option[48];
    snprintf(file_option, sizeof file_option, "%skey-passphrase-file", prefix);
    snprintf(stdin_option, sizeof stdin_option, "%skey-passphrase-stdin", prefix);
    const char *file = cli_get(line, file_option);
    *ret_found = file || cli_flag(line, stdin_option);
    if (file) return from_file(line, file, ret_text);
    if (!*ret_found) return 0;
    return read_line(stdin, ret_text)
               ? 0
               : cli_fail(line, "standard input holds no passphrase on its first line");
}

/* An environment variable is readable by everything that this process starts: taken out once read.
 */
static bool from_environment(char ret_text[MEROD_SECRET_MAX]) {
    const char *value = getenv("CALIMERO_PASSPHRASE");
    if (!value || !value[0]) return false;
    snprintf(ret_text, MEROD_SECRET_MAX, "%s", value);
    unsetenv("CALIMERO_PASSPHRASE");
    return true;
}

int merod_unlock(const cli *line, cal_node_options *node, char secret[MEROD_SECRET_MAX]) {
    if (node->key.kind != CAL_NODE_KEY_PASSPHRASE) return 0;
    bool found;
    int code = from_options(line, "", secret, &found);
    if (code) return code;
    if (!found && !from_environment(secret)) code = ask(line, "Passphrase: ", secret);
    node->key.text = secret;
    return code;
}

static int ask_twice(const cli *line, char secret[MEROD_SECRET_MAX]) {
    char again[MEROD_SECRET_MAX];
    int code = ask(line, "New passphrase: ", secret);
    if (code == 0) code = ask(line, "The same again: ", again);
    if (code == 0 && strcmp(secret, again) != 0)
        code = cli_fail(line, "the two passphrases differ");
    explicit_bzero(again, sizeof again);
    return code;
}

int merod_new_key(const cli *line, const char *prefix, cal_node_key *ret_key, bool *ret_given,
                  char secret[MEROD_SECRET_MAX]) {
    char file_option[48], command_option[48], passphrase_option[48];
    snprintf(file_option, sizeof file_option, "%skey-file", prefix);
    snprintf(command_option, sizeof command_option, "%skey-command", prefix);
    snprintf(passphrase_option, sizeof passphrase_option, "%skey-passphrase", prefix);
    const char *file = cli_get(line, file_option), *command = cli_get(line, command_option);
    bool typed;
    int code = from_options(line, prefix, secret, &typed);
    if (code) return code;
    bool passphrase = typed || cli_flag(line, passphrase_option);
    if ((file != NULL) + (command != NULL) + passphrase > 1)
        return cli_usage(line, "--%s, --%s and --%s exclude each other", file_option,
                         passphrase_option, command_option);
    *ret_given = file || command || passphrase;
    *ret_key = (cal_node_key){CAL_NODE_KEY_FILE, file};
    if (command) *ret_key = (cal_node_key){CAL_NODE_KEY_COMMAND, command};
    if (!passphrase) return 0;
    if (!typed && !(prefix[0] == 0 && from_environment(secret))) code = ask_twice(line, secret);
    *ret_key = (cal_node_key){CAL_NODE_KEY_PASSPHRASE, secret};
    return code;
}
