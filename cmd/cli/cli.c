/* Parsing a command line by its table, see cli.h. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { BUILTIN_HELP, BUILTIN_VERSION };
static const cli_option builtin[] = {
    {"help", 'h', NULL, "Explain this command"}, {"version", 'V', NULL, "Print the version"}, {0}};

/* --- errors --- */

static void print_path(const cli *line, FILE *out) {
    for (size_t i = 0; i < line->depth; i++)
        fprintf(out, "%s%s", i ? " " : "", line->path[i]->name);
}

static void print_message(const cli *line, const char *format, va_list args) {
    fprintf(stderr, "%s: ", line->path[0]->name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int cli_fail(const cli *line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message(line, format, args);
    va_end(args);
    return CLI_FAILED;
}

int cli_usage(const cli *line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message(line, format, args);
    va_end(args);
    fputs("See '", stderr);
    print_path(line, stderr);
    fputs(" --help'.\n", stderr);
    return CLI_USAGE;
}

/* --- "did you mean" --- */

enum { WORD_MAX = 32, CLOSE_ENOUGH = 2 };

/* How many letters must be changed, added or removed to get from a to b. */
static size_t distance(const char *a, const char *b) {
    size_t row[WORD_MAX + 1], a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD_MAX || b_len > WORD_MAX) return WORD_MAX;
    for (size_t j = 0; j <= b_len; j++) row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_len];
}

static void closest(const char *word, const char *candidate, size_t *best, const char **ret_name) {
    size_t d = distance(word, candidate);
    if (d <= CLOSE_ENOUGH && d < *best) {
        *best = d;
        *ret_name = candidate;
    }
}

static int unknown_command(const cli *line, const char *word) {
    size_t best = WORD_MAX;
    const char *name = NULL;
    for (const cli_command *c = line->path[line->depth - 1]->commands; c->name; c++)
        closest(word, c->name, &best, &name);
    if (name) return cli_usage(line, "unknown command '%s'; did you mean '%s'?", word, name);
    return cli_usage(line, "unknown command '%s'", word);
}

static int unknown_option(const cli *line, const char *word) {
    size_t best = WORD_MAX;
    const char *name = NULL;
    for (size_t i = 0; i < line->depth; i++)
        for (const cli_option *o = line->path[i]->options; o && o->name; o++)
            closest(word, o->name, &best, &name);
    if (name) return cli_usage(line, "unknown option '--%s'; did you mean '--%s'?", word, name);
    return cli_usage(line, "unknown option '%s%s'", word[1] ? "--" : "-", word);
}

/* --- options --- */

static const cli_option *in_table(const cli_option *options, const char *name, size_t len,
                                  char letter) {
    for (const cli_option *o = options; o && o->name; o++) {
        if (letter && o->letter == letter) return o;
        if (name && strlen(o->name) == len && memcmp(o->name, name, len) == 0) return o;
    }
    return NULL;
}

/* The deepest command's options first: they may take a letter from those above. */
static const cli_option *find_option(const cli *line, const char *name, size_t len, char letter) {
    for (size_t i = line->depth; i > 0; i--) {
        const cli_option *o = in_table(line->path[i - 1]->options, name, len, letter);
        if (o) return o;
    }
    return in_table(builtin, name, len, letter);
}

static int add_value(cli *line, const cli_option *option, const char *value) {
    if (line->value_count == CLI_VALUES_MAX)
        return cli_usage(line, "more than %d options", CLI_VALUES_MAX);
    line->values[line->value_count].option = option;
    line->values[line->value_count++].value = value;
    return 0;
}

/* One argument that starts with a dash; *i moves past its value. 0 or an exit code. */
static int parse_option(cli *line, int argc, char **argv, int *i) {
    const char *arg = argv[*i];
    const cli_option *option = NULL;
    const char *value = NULL;
    if (arg[1] == '-') {
        const char *equals = strchr(arg, '=');
        size_t len = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
        option = find_option(line, arg + 2, len, 0);
        if (!option) return unknown_option(line, arg + 2);
        value = equals ? equals + 1 : NULL;
        if (!option->value && value) return cli_usage(line, "--%s takes no value", option->name);
    } else {
        for (const char *p = arg + 1; *p; p++) {
            char letter[2] = {*p, 0};
            option = find_option(line, NULL, 0, *p);
            if (!option) return unknown_option(line, letter);
            if (option->value) {
                value = p[1] == '=' ? p + 2 : p[1] ? p + 1 : NULL;
                break;
            }
            if (!p[1]) break;
            int code = add_value(line, option, "");
            if (code) return code;
        }
    }
    if (!option->value) return add_value(line, option, "");
    if (!value) {
        if (*i + 1 >= argc)
            return cli_usage(line, "--%s needs a value (%s)", option->name, option->value);
        value = argv[++*i];
    }
    if (strchr(option->value, '|')) { /* one of a few words */
        size_t len = strlen(value);
        const char *at = strstr(option->value, value);
        while (at && !((at == option->value || at[-1] == '|') && (at[len] == 0 || at[len] == '|')))
            at = strstr(at + 1, value);
        if (!at || len == 0)
            return cli_usage(line, "--%s is '%s' but must be one of %s", option->name, value,
                             option->value);
    }
    return add_value(line, option, value);
}

/* --- operands --- */

/* Reads "NAME [OTHER] [MORE...]". */
static void operand_bounds(const char *operands, size_t *ret_min, size_t *ret_max) {
    *ret_min = *ret_max = 0;
    for (const char *p = operands; p && *p;) {
        size_t len = strcspn(p, " ");
        if (*p != '[') ++*ret_min;
        ++*ret_max;
        if (len >= 3 && memmem(p, len, "...", 3)) *ret_max = (size_t)-1;
        p += len + strspn(p + len, " ");
    }
}

static int check_operands(const cli *line) {
    const cli_command *command = line->path[line->depth - 1];
    size_t min, max;
    operand_bounds(command->operands, &min, &max);
    if (line->operand_count < min) {
        const char *p = command->operands;
        for (size_t i = 0; i < line->operand_count; i++) p += strcspn(p, " ") + 1;
        return cli_usage(line, "%.*s is missing", (int)strcspn(p, " "), p);
    }
    if (line->operand_count > max)
        return cli_usage(line, "unexpected argument '%s'", line->operands[max]);
    return 0;
}

static const cli_command *find_command(const cli_command *parent, const char *name) {
    for (const cli_command *c = parent->commands; c && c->name; c++)
        if (strcmp(c->name, name) == 0 || (c->alias && strcmp(c->alias, name) == 0)) return c;
    return NULL;
}

/* A word that is no option: a command while there are some below, otherwise an operand. */
static int parse_word(cli *line, const char *word) {
    const cli_command *here = line->path[line->depth - 1];
    if (!here->commands) {
        line->operands[line->operand_count++] = word;
        return 0;
    }
    const cli_command *next = find_command(here, word);
    if (!next) return unknown_command(line, word);
    if (line->depth == CLI_DEPTH_MAX) return cli_usage(line, "commands nest too deeply");
    line->path[line->depth++] = next;
    return 0;
}

static int parse(cli *line, int argc, char **argv) {
    bool options_ended = false, asked_help = argc > 1 && strcmp(argv[1], "help") == 0;
    for (int i = asked_help ? 2 : 1; i < argc; i++) {
        int code;
        if (!options_ended && strcmp(argv[i], "--") == 0) {
            options_ended = true;
            continue;
        }
        bool dashed = !options_ended && argv[i][0] == '-' && argv[i][1];
        code = dashed ? parse_option(line, argc, argv, &i) : parse_word(line, argv[i]);
        if (code) return code;
    }
    return asked_help ? add_value(line, &builtin[BUILTIN_HELP], "") : 0;
}

/* A command may have a --version of its own: only the table's built-in options count. */
static bool asked(const cli *line, const cli_option *option) {
    for (size_t i = 0; i < line->value_count; i++)
        if (line->values[i].option == option) return true;
    return false;
}

int cli_main(const cli_command *program, const char *version, int argc, char **argv) {
    cli *c = calloc(1, sizeof *c);
    const char **operands = calloc((size_t)argc + 1, sizeof *operands);
    int code = CLI_FAILED;
    if (!c || !operands) goto out;
    c->path[c->depth++] = program;
    c->operands = operands;
    code = parse(c, argc, argv);
    if (code) goto out;
    const cli_command *command = c->path[c->depth - 1];
    if (asked(c, &builtin[BUILTIN_VERSION])) {
        printf("%s %s\n", program->name, version);
    } else if (asked(c, &builtin[BUILTIN_HELP])) {
        cli_help(c, stdout);
    } else if (command->commands) {
        cli_help(c, stderr);
        code = CLI_USAGE;
    } else {
        code = check_operands(c);
        if (code == 0) code = command->run(c);
    }
    if (fflush(stdout) != 0 && code == 0) code = CLI_FAILED;
out:
    free(operands);
    free(c);
    return code;
}

/* --- access --- */

const char *cli_each(const cli *line, const char *option, size_t *position) {
    while (*position < line->value_count) {
        size_t i = (*position)++;
        if (strcmp(line->values[i].option->name, option) == 0) return line->values[i].value;
    }
    return NULL;
}

const char *cli_get(const cli *line, const char *option) {
    size_t position = 0;
    const char *last = NULL, *value;
    while ((value = cli_each(line, option, &position))) last = value;
    return last;
}

bool cli_flag(const cli *line, const char *option) { return cli_get(line, option) != NULL; }

const char *cli_operand(const cli *line, size_t index) {
    return index < line->operand_count ? line->operands[index] : NULL;
}

bool cli_number(const cli *line, const char *option, unsigned long long min, unsigned long long max,
                unsigned long long absent, unsigned long long *ret_number) {
    const char *text = cli_get(line, option);
    if (!text) {
        *ret_number = absent;
        return true;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && number >= min &&
        number <= max) {
        *ret_number = number;
        return true;
    }
    cli_usage(line, "--%s is '%s' but must be a number from %llu to %llu", option, text, min, max);
    return false;
}
