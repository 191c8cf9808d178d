#!/bin/sh
# Installs what is missing, builds the dev preset and runs the tests.
#   sh tests/run.sh            all tests
#   sh tests/run.sh NAME ...   tests whose name contains one of the words (regular expressions)
#   sh tests/run.sh --quick    the label quick
#   sh tests/run.sh --peers    the peers group (Python: torch, transformers, trl, peft)
#   sh tests/run.sh --ci       as CI does: installs linters too, and on Debian 12 requires them
# ATTUNE_PRESET=asan builds and tests that preset (without lint, which looks at sources only).
# Ends with one line: N passed, N failed, N skipped. A skip that tests/allowed_skips does not name fails.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh

label='' filter='' peers='' ci=''
for word in "$@"; do
    case $word in
    --quick) label=quick ;;
    --peers) peers=1 ;;
    --ci) ci=1 ;;
    -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' tests/run.sh; exit ;;
    -*) echo "tests/run.sh: unknown option $word" >&2; exit 2 ;;
    *) filter="${filter:+$filter|}$word" ;;
    esac
done
need_packages build-essential cmake ninja-build pkg-config git python3 glslang-tools glslang-dev \
    spirv-tools libvulkan-dev vulkan-validationlayers mesa-vulkan-drivers libcjson-dev \
    libsodium-dev libyaml-dev libpcre2-dev libutf8proc-dev libcmocka-dev zlib1g-dev libzstd-dev \
    libmicrohttpd-dev universal-ctags
if [ -n "$peers" ]; then
    exec sh tests/peers/run.sh
fi
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null || true)
strict=''
if [ -n "$ci" ]; then
    need_packages chromium-driver cppcheck groff-base shellcheck
    if [ "$codename" = bookworm ]; then
        need_packages clang-format-14 clang-tidy-14
        strict=--strict
    fi
fi

preset=${ATTUNE_PRESET:-dev}
build=.build/$preset
if [ ! -f "$build/build.ninja" ]; then
    # Debian 12's glslang knows no matrix units: those kernels come from the one of tests/forky.sh.
    set --
    if [ -n "$ci" ] && forky=$(sh tests/forky.sh); then set -- "-DATTUNE_MATRIX_GLSLANG=$forky/attune/glslangValidator"; fi
    mkdir -p .build
    cmake --preset "$preset" "$@" >"$build.log"
fi
cmake --build "$build" -- -k 1 >"$build/build.log" || { tail -n 40 "$build/build.log"; exit 1; }
tail -n 1 "$build/build.log"
set -- --test-dir "$build" --output-on-failure --output-log "$build/tests.log" -j 2
[ -n "$label" ] && set -- "$@" -L "$label"
[ -n "$filter" ] && set -- "$@" -R "$filter"
[ "$preset" = asan ] && set -- "$@" -LE lint
# What these compute runs on the device, where no sanitizer looks (e2e.determinism: the runs of the goldens
# again, compared by their bits), and what measures memory; named, they are run.
[ "$preset" = asan ] && [ -n "$label" ] &&
    set -- "$@" -E '^(parity\.(activation|attention|dora|dropout|families|gemm|head|linear|load|norm|quant|rope|value)|e2e\.determinism$)'
status=0
ctest "$@" || status=$?
python3 tests/summary.py "$build/tests.log" $strict || status=1
exit $status
