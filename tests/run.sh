#!/bin/sh
# Installs what is missing, builds the dev preset and runs the tests.
#   sh tests/run.sh            all tests
#   sh tests/run.sh NAME ...   tests whose name contains one of the words (regular expressions)
#   sh tests/run.sh --quick    the label quick
#   sh tests/run.sh --peers    the peers group (Python: torch, transformers, trl, peft)
# Ends with one line: N passed, N failed, N skipped. A skip that tests/allowed_skips does not name fails.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh

need_packages build-essential cmake ninja-build pkg-config git python3 glslang-tools glslang-dev \
    spirv-tools libvulkan-dev vulkan-validationlayers mesa-vulkan-drivers libcjson-dev \
    libsodium-dev libyaml-dev libpcre2-dev libutf8proc-dev libcmocka-dev zlib1g-dev \
    universal-ctags

label= filter= peers=
for word in "$@"; do
    case $word in
    --quick) label=quick ;;
    --peers) peers=1 ;;
    -*) echo "tests/run.sh: unknown option $word" >&2; exit 2 ;;
    *) filter="${filter:+$filter|}$word" ;;
    esac
done
if [ -n "$peers" ]; then
    exec bash tests/peers/run.sh
fi
preset=${ATTUNE_PRESET:-dev}
build=.build/$preset
[ -f "$build/build.ninja" ] || cmake --preset "$preset" >/dev/null
cmake --build "$build" -- -k 1 | tail -n 3
set -- --test-dir "$build" --output-on-failure --output-log "$build/tests.log" -j 2
[ -n "$label" ] && set -- "$@" -L "$label"
[ -n "$filter" ] && set -- "$@" -R "$filter"
status=0
ctest "$@" || status=$?
python3 tests/summary.py "$build/Testing/Temporary/LastTest.log" "$build/tests.log" || status=1
exit $status
