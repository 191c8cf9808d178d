#!/bin/bash
# Format: clang-format 14 would change nothing in the tracked C files.
#     format_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"

if ! command -v clang-format-14 >/dev/null; then
    echo "clang-format-14 is missing (other versions format differently)"
    exit 125
fi
if ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    echo "this is not a git work tree: which files are tracked is unknown"
    exit 125
fi

mapfile -d '' files < <(git ls-files -z -- \
    'engine/*.[ch]' 'data/*.[ch]' 'losses/*.[ch]' 'tests/*.[ch]')
present=()
for file in "${files[@]}"; do
    if [ -f "$file" ]; then
        present+=("$file")
    fi
done
if [ "${#present[@]}" -eq 0 ]; then
    echo "no tracked C file was found"
    exit 1
fi
clang-format-14 --style=file --dry-run --Werror "${present[@]}"
