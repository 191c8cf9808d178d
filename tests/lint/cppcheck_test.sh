#!/bin/bash
# labels: slow
# cppcheck finds nothing in the C files that are built. A finding that is wrong is marked on its line:
# /* cppcheck-suppress id; reason */.
#     cppcheck_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"

if ! command -v cppcheck >/dev/null; then
    echo "cppcheck is missing"
    exit 125
fi
# Not asked, because cppcheck loses the thread there (gcc and clang-tidy see both):
#   uninitvar, legacyUninitvar   variables that TRY assigns before its goto
#   nullPointerRedundantCheck    pointers that were checked with FAIL, which leaves the function
#   ctunullpointer               arguments of which one or the other may be NULL
#   zerodiv                      divisors that AT_REQUIRE has checked
#   unknownMacro                 string literals made of macros, in tests
#   arrayIndexOutOfBoundsCond    loops that a call which does not return (AT_BUG) ends
mkdir -p "$2/cppcheck"
cppcheck -j 2 --project="$2/compile_commands.json" --cppcheck-build-dir="$2/cppcheck" \
    --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --quiet --template=gcc \
    --suppress=uninitvar --suppress=legacyUninitvar --suppress=nullPointerRedundantCheck \
    --suppress=ctunullpointer --suppress=zerodiv --suppress=unknownMacro \
    --suppress=arrayIndexOutOfBoundsCond
