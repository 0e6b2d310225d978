/* Shell completion, from the table.
 *
 * Each script holds one function that walks the words typed so far to the command they name, and a
 * list for each command: its commands and its options with their help. Values complete to files
 * where the table calls them PATH, FILE or DIR. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_MAX_TEXT = 256 };

typedef void (*visitor)(FILE *out, const cli_command *const *path, size_t depth, const char *name);

/* Calls visit for every command; `name` is its path in words, without the program. */
static void walk(FILE *out, const cli_command **path, size_t depth, const char *name,
                 visitor visit) {
    visit(out, path, depth, name);
    for (const cli_command *c = path[depth - 1]->commands; c && c->name && depth < CLI_DEPTH_MAX;
         c++) {
        char child[PATH_MAX_TEXT];
        snprintf(child, sizeof child, "%s%s%s", name, name[0] ? " " : "", c->name);
        path[depth] = c;
        walk(out, path, depth + 1, child, visit);
    }
}

/* Text inside single quotes; \ and ' written as the shell wants. */
static void print_quoted(FILE *out, const char *text, const char *quote) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs(quote, out);
        else
            fputc(*text, out);
    }
}

static bool takes_file(const char *value) {
    return value && (strstr(value, "PATH") || strstr(value, "FILE") || strstr(value, "DIR"));
}

/* case "$at" in rows that turn a word into the next path; shared by bash and zsh. */
static void print_step(FILE *out, const cli_command *const *path, size_t depth, const char *name) {
    for (const cli_command *c = path[depth - 1]->commands; c && c->name; c++) {
        fprintf(out, "      '%s/%s'", name, c->name);
        if (c->alias) fprintf(out, "|'%s/%s'", name, c->alias);
        fprintf(out, ") at='%s%s%s';;\n", name, name[0] ? " " : "", c->name);
    }
}

static void print_value_options(FILE *out, const cli_command *const *path, size_t depth,
                                const char *name) {
    (void)name;
    for (const cli_option *o = path[depth - 1]->options; o && o->name; o++) {
        if (!o->value) continue;
        fprintf(out, "--%s|", o->name);
        if (o->letter) fprintf(out, "-%c|", o->letter);
    }
}

static void print_bash_words(FILE *out, const cli_command *const *path, size_t depth,
                             const char *name) {
    fprintf(out, "    '%s') words='", name);
    for (const cli_command *c = path[depth - 1]->commands; c && c->name; c++)
        fprintf(out, "%s ", c->name);
    for (size_t i = 0; i < depth; i++)
        for (const cli_option *o = path[i]->options; o && o->name; o++)
            fprintf(out, "--%s ", o->name);
    fputs("--help';;\n", out);
}

static void print_bash(FILE *out, const cli_command *program) {
    const cli_command *path[CLI_DEPTH_MAX + 1] = {program};
    const char *p = program->name;
    fprintf(out, "# bash completion of %s; made by '%s completion bash'\n_%s() {\n", p, p, p);
    fputs("  local at='' words='' skip='' i\n  local cur=\"${COMP_WORDS[COMP_CWORD]}\"\n"
          "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "    if [ -n \"$skip\" ]; then skip=''; continue; fi\n"
          "    case \"${COMP_WORDS[i]}\" in ",
          out);
    walk(out, path, 1, "", print_value_options);
    fputs("--) skip=1; continue;; -*) continue;; esac\n    case \"$at/${COMP_WORDS[i]}\" in\n",
          out);
    walk(out, path, 1, "", print_step);
    fputs("    esac\n  done\n"
          "  if [ -n \"$skip\" ]; then COMPREPLY=($(compgen -f -- \"$cur\")); return; fi\n"
          "  case \"$at\" in\n",
          out);
    walk(out, path, 1, "", print_bash_words);
    fputs("  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\n",
          out);
    fprintf(out, "complete -o filenames -F _%s %s\n", p, p);
}

static void print_zsh_words(FILE *out, const cli_command *const *path, size_t depth,
                            const char *name) {
    fprintf(out, "    '%s') words_here=(", name);
    for (const cli_command *c = path[depth - 1]->commands; c && c->name; c++) {
        fprintf(out, "'%s:", c->name);
        print_quoted(out, c->help, "'\\''");
        fputs("' ", out);
    }
    for (size_t i = 0; i < depth; i++)
        for (const cli_option *o = path[i]->options; o && o->name; o++) {
            fprintf(out, "'--%s:", o->name);
            print_quoted(out, o->help, "'\\''");
            fputs("' ", out);
        }
    fputs("'--help:Explain this command');;\n", out);
}

static void print_zsh(FILE *out, const cli_command *program) {
    const cli_command *path[CLI_DEPTH_MAX + 1] = {program};
    const char *p = program->name;
    fprintf(out, "#compdef %s\n# zsh completion of %s; made by '%s completion zsh'\n_%s() {\n", p,
            p, p, p);
    fputs("  local skip='' word\n  local -a words_here\n  local at=''\n"
          "  for word in \"${(@)words[2,CURRENT-1]}\"; do\n"
          "    if [[ -n $skip ]]; then skip=''; continue; fi\n    case \"$word\" in ",
          out);
    walk(out, path, 1, "", print_value_options);
    fputs("--) skip=1; continue;; -*) continue;; esac\n    case \"$at/$word\" in\n", out);
    walk(out, path, 1, "", print_step);
    fputs("    esac\n  done\n  if [[ -n $skip ]]; then _files; return; fi\n  case \"$at\" in\n",
          out);
    walk(out, path, 1, "", print_zsh_words);
    fprintf(out, "  esac\n  _describe '%s' words_here || _files\n}\n", p);
    fprintf(out, "if [ \"$funcstack[1]\" = \"_%s\" ]; then _%s \"$@\"; else compdef _%s %s; fi\n",
            p, p, p, p);
}

static void print_fish_step(FILE *out, const cli_command *const *path, size_t depth,
                            const char *name) {
    for (const cli_command *c = path[depth - 1]->commands; c && c->name; c++) {
        fprintf(out, "      case '%s/%s'", name, c->name);
        if (c->alias) fprintf(out, " '%s/%s'", name, c->alias);
        fprintf(out, "\n        set path '%s%s%s'\n", name, name[0] ? " " : "", c->name);
    }
}

static void print_fish_value_options(FILE *out, const cli_command *const *path, size_t depth,
                                     const char *name) {
    (void)name;
    for (const cli_option *o = path[depth - 1]->options; o && o->name; o++) {
        if (!o->value) continue;
        fprintf(out, " --%s", o->name);
        if (o->letter) fprintf(out, " -%c", o->letter);
    }
}

static void print_fish_words(FILE *out, const cli_command *const *path, size_t depth,
                             const char *name) {
    const char *p = path[0]->name;
    for (const cli_command *c = path[depth - 1]->commands; c && c->name; c++) {
        fprintf(out, "complete -c %s -f -n 'test (__%s_path) = \"%s\"' -a %s -d '", p, p, name,
                c->name);
        print_quoted(out, c->help, "\\'");
        fputs("'\n", out);
    }
    for (const cli_option *o = path[depth - 1]->options; o && o->name; o++) {
        fprintf(out, "complete -c %s -n 'string match -q \"%s*\" -- (__%s_path)' -l %s", p, name, p,
                o->name);
        if (o->letter) fprintf(out, " -s %c", o->letter);
        if (o->value) fputs(takes_file(o->value) ? " -r -F" : " -x", out);
        if (o->value && strchr(o->value, '|')) {
            fputs(" -a '", out);
            for (const char *v = o->value; *v; v++) fputc(*v == '|' ? ' ' : *v, out);
            fputc('\'', out);
        }
        fputs(" -d '", out);
        print_quoted(out, o->help, "\\'");
        fputs("'\n", out);
    }
}

static void print_fish(FILE *out, const cli_command *program) {
    const cli_command *path[CLI_DEPTH_MAX + 1] = {program};
    const char *p = program->name;
    fprintf(out, "# fish completion of %s; made by '%s completion fish'\nfunction __%s_path\n", p,
            p, p);
    fputs("  set -l path ''\n  set -l skip 0\n  for word in (commandline -opc)[2..-1]\n"
          "    if test $skip = 1\n      set skip 0\n      continue\n    end\n"
          "    switch $word\n      case --",
          out);
    walk(out, path, 1, "", print_fish_value_options);
    fputs("\n        set skip 1\n        continue\n      case '-*'\n        continue\n    end\n    "
          "switch \"$path/$word\"\n",
          out);
    walk(out, path, 1, "", print_fish_step);
    fputs("    end\n  end\n  echo \"$path\"\nend\n", out);
    walk(out, path, 1, "", print_fish_words);
}

int cli_completion(const cli_command *program, const char *shell, FILE *out) {
    if (strcmp(shell, "bash") == 0)
        print_bash(out, program);
    else if (strcmp(shell, "zsh") == 0)
        print_zsh(out, program);
    else if (strcmp(shell, "fish") == 0)
        print_fish(out, program);
    else
        return CLI_USAGE;
    return CLI_OK;
}

int cli_run_completion(cli *line) {
    const char *shell = cli_operand(line, 0);
    if (cli_completion(line->path[0], shell, stdout) == CLI_OK) return CLI_OK;
    return cli_usage(line, "no completion for '%s': use bash, zsh or fish", shell);
}
