/* --help, from the table. */
#include <string.h>

#include "cli/cli.h"

enum { NAME_WIDTH = 30, NAME_MAX_TEXT = 128 };

static void print_row(FILE *out, const char *name, const char *help) {
    fprintf(out, "  %-*s", NAME_WIDTH, name);
    if (strlen(name) > NAME_WIDTH - 1) fprintf(out, "\n  %*s", NAME_WIDTH, "");
    fprintf(out, "%s\n", help);
}

static void print_options(FILE *out, const cli_option *options) {
    for (const cli_option *o = options; o && o->name; o++) {
        char name[NAME_MAX_TEXT], letter[5] = "";
        if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(name, sizeof name, "%s--%s%s%s", letter, o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        print_row(out, name, o->help);
    }
}

void cli_help(const cli *line, FILE *out) {
    const cli_command *command = line->path[line->depth - 1];
    fprintf(out, "%s\n\nUsage:", command->help);
    for (size_t i = 0; i < line->depth; i++) fprintf(out, " %s", line->path[i]->name);
    bool own = command->options != NULL;
    if (own) fputs(" [OPTIONS]", out);
    if (command->commands) fputs(" COMMAND", out);
    if (command->operands) fprintf(out, " %s", command->operands);
    fputc('\n', out);
    if (command->alias) fprintf(out, "Also: %s\n", command->alias);
    if (command->commands) {
        fputs("\nCommands:\n", out);
        for (const cli_command *c = command->commands; c->name; c++) {
            char name[NAME_MAX_TEXT];
            snprintf(name, sizeof name, "%s%s%s", c->name, c->operands ? " " : "",
                     c->operands ? c->operands : "");
            print_row(out, name, c->help);
        }
    }
    if (own) {
        fputs("\nOptions:\n", out);
        print_options(out, command->options);
    }
    for (size_t i = line->depth - 1; i > 0; i--) {
        if (!line->path[i - 1]->options) continue;
        fprintf(out, "\nOptions of %s:\n", line->path[i - 1]->name);
        print_options(out, line->path[i - 1]->options);
    }
    if (command->more) fprintf(out, "\n%s\n", command->more);
    if (command->commands) {
        fputs("\nSay '", out);
        for (size_t i = 0; i < line->depth; i++) fprintf(out, "%s ", line->path[i]->name);
        fputs("COMMAND --help' for more about one.\n", out);
    }
}
