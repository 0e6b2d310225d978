#!/bin/sh
# Checks that each test that docs/design/attacks.md names stands where it says, and is run there.
set -eu
cd "$(dirname "$0")/.."
grep -o '`[a-z_/]*_test\.c: [a-z_0-9]*`' docs/design/attacks.md | tr -d '`' | sort -u | while IFS=': ' read -r file test; do
  for path in "src/$file" "tests/$file"; do
    # its definition, and its place in the list
    if [ -f "$path" ] && [ "$(grep -cw "$test" "$path")" -ge 2 ]; then continue 2; fi
  done
  echo "docs/design/attacks.md: no test $test in $file"
done | awk '{ print; bad = 1 } END { exit bad }'
echo "attacks: every test that is named is there"
