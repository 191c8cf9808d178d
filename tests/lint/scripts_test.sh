#!/bin/bash
# Scripts: shellcheck finds nothing in the tracked shell scripts, and every Python file compiles.
#     scripts_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"

mapfile -t python < <(find configs data tests -name '*.py')
for file in "${python[@]}"; do
    python3 -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")' "$file"
done
if ! command -v shellcheck >/dev/null; then
    echo "shellcheck is missing"
    exit 125
fi
mapfile -t shell < <(find configs data tests -name '*.sh')
# SC1007: "a= b=" sets two variables; SC2016: single quotes are meant.
shellcheck --external-sources --exclude=SC1007,SC2016 .ci/run "${shell[@]}"
