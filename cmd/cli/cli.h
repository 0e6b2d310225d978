/* A command line as a table: {name, operands, options, function, help}, nested. Parsing, --help at
 * every level and the completion of three shells all read the same table, so that none of them can
 * lag behind.
 *
 * Options may stand anywhere after the command that declares them, also after deeper commands;
 * `--name=value`, `--name value`,
 * `-n value`, `-nvalue`, `--` ends them. Exit codes: 0, CLI_FAILED, CLI_USAGE, CLI_CLIENT (protocol
 * http-api.md 13). */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CLIENT = 101 };

/* One option. The table ends with a NULL name. */
typedef struct cli_option {
    const char *name;  /* without its dashes */
    char letter;       /* 0: none */
    const char *value; /* what help calls its value; NULL: a flag. PATH, FILE and DIR complete to
                          files; "a|b" to these words */
    const char *help;
} cli_option;

typedef struct cli cli;

/* One command. A table of commands ends with a NULL name. A command has either children or a
 * function. */
typedef struct cli_command {
    const char *name;
    const char *alias;    /* another name, or NULL */
    const char *operands; /* "NAME [OTHER] [MORE...]"; NULL: none */
    const char *help;     /* one line */
    const char *more;     /* further lines for its own --help, with examples; NULL: none */
    const cli_option *options;
    const struct cli_command *commands;
    int (*run)(cli *line); /* returns the exit code */
} cli_command;

enum { CLI_DEPTH_MAX = 8, CLI_VALUES_MAX = 256 };

/* A parsed command line; texts are argv's. */
struct cli {
    const cli_command *path[CLI_DEPTH_MAX]; /* from the program itself to the command that runs */
    size_t depth;
    struct {
        const cli_option *option;
        const char *value;
    } values[CLI_VALUES_MAX];
    size_t value_count;
    const char **operands;
    size_t operand_count;
};

/* Parses and runs; returns the exit code. `version` is what --version prints. */
int cli_main(const cli_command *program, const char *version, int argc, char **argv);

const char *cli_get(const cli *line, const char *option); /* the last one given; NULL: absent */
const char *cli_each(const cli *line, const char *option,
                     size_t *position); /* from position 0 on; NULL: no more */
bool cli_flag(const cli *line, const char *option);
const char *cli_operand(const cli *line, size_t index); /* NULL: absent */
/* A whole number within bounds. `absent` when not given; false, with a message printed, when it is
 * no such number. */
bool cli_number(const cli *line, const char *option, unsigned long long min, unsigned long long max,
                unsigned long long absent, unsigned long long *ret_number);

/* "merod: MESSAGE" on standard error, and CLI_FAILED or CLI_USAGE with a pointer to --help. */
int cli_fail(const cli *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_usage(const cli *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

void cli_help(const cli *line, FILE *out); /* of the last command in path */

/* Completion for "bash", "zsh" or "fish" on standard output. */
int cli_completion(const cli_command *program, const char *shell, FILE *out);
int cli_run_completion(cli *line); /* the function of a `completion SHELL` command */

/* A progress line on standard error; nothing when that is no terminal. Total 0: unknown. */
typedef struct cli_progress {
    const char *label;
    bool shown;
    long long last_ms;
} cli_progress;
void cli_progress_update(void *progress, unsigned long long done, unsigned long long total);
void cli_progress_end(cli_progress *progress); /* clears the line */

#endif
