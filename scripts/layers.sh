#!/bin/sh
# Checks that a module includes only what stands before it (docs/design/architecture.md): prints each include that points the
# wrong way and fails. crdt includes only freestanding headers; programs and examples include only include/calimero.
set -eu
cd "$(dirname "$0")/.."
awk '
BEGIN {
    split("crdt:0 base:1 os:2 codec:3 crypto:4 store:5 net:5 dag:5 vm:5 gov:6 blob:6 app:7 context:7 sync:7 node:8 api:9", rows, " ")
    for (i in rows) { split(rows[i], pair, ":"); rank[pair[1]] = pair[2] }
    # Siblings of one rank that may see each other, one way.
    may["context app"] = may["gov dag"] = may["sync context"] = 1
    free["stdint.h"] = free["stddef.h"] = free["stdbool.h"] = free["stdalign.h"] = 1
}
FNR == 1 { parts = split(FILENAME, path, "/"); module = path[2]; test = FILENAME ~ /_test\.c$/ }
/^[ \t]*#[ \t]*include[ \t]/ {
    line = $0; name = line; sub(/^[^"<]*["<]/, "", name); sub(/[">].*$/, "", name)
    system_header = line ~ /</
    if (path[1] != "src") {
        if (!system_header && name !~ /^calimero\// && name !~ /^cli\// && name ~ /\//) { print FILENAME ": includes " name ", programs see only calimero/"; bad = 1 }
        next
    }
    if (module == "crdt" && !test && system_header && !(name in free)) { print FILENAME ": includes <" name ">, crdt is freestanding"; bad = 1 }
    if (system_header || test) next
    split(name, target, "/")
    if (target[1] == "calimero") next
    if (!(target[1] in rank) || !(module in rank)) next
    if (target[1] == module || rank[target[1]] < rank[module] || ((module " " target[1]) in may)) next
    print FILENAME ": " module " includes " name; bad = 1
}
END { exit bad }
' $(find src cmd examples -name '*.[ch]' 2>/dev/null)
echo "layers: every include points down"
