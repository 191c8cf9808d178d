#!/bin/bash
# labels: slow
# clang-tidy 14 finds nothing in the C files of the program (.clang-tidy says what it looks for).
#     tidy_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"

if ! command -v clang-tidy-14 >/dev/null; then
    echo "clang-tidy-14 is missing (other versions find other things)"
    exit 125
fi
mapfile -t files < <(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$2/compile_commands.json" |
    grep -v /tests/ | sort -u)
if [ "${#files[@]}" -eq 0 ]; then
    echo "$2/compile_commands.json names no file of the program"
    exit 1
fi
# One file a process, the largest first: version 14 takes every va_list of a second file for uninitialised.
# gcc's own warning options are unknown to clang. Counts of suppressed findings (stderr) are not shown.
# clang-analyzer leaves a function after 50000 nodes of its graph (its own limit, 225000, takes four times
# as long).
mapfile -t files < <(ls -S "${files[@]}")
nodes='--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=max-nodes=50000'
# shellcheck disable=SC2086 # a list of words
printf '%s\0' "${files[@]}" | xargs -0 -P 2 -n 1 clang-tidy-14 -p "$2" --quiet $nodes \
    --extra-arg=-Wno-unknown-warning-option 2>/dev/null
