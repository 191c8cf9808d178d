#!/bin/sh
# The peers test group: Attune beside TRL, PEFT and transformers, on tiny models and on a real one.
#   bash tests/peers/run.sh [PART ...]     parts: golden real (default: both)
# Makes the environment of setup.sh first. ATTUNE_REAL_STEPS limits the real training (default 40).
set -eu
cd "$(dirname "$0")/../.."
peers=${ATTUNE_PEERS:-$HOME/.cache/attune/peers}
parts=${*:-golden real}
. tests/install.sh
need_packages python3 python3-venv
sh tests/peers/setup.sh
[ -f .build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build .build/release --target attune | tail -n 1
passed=0 failed=0
run() {
    name=$1
    shift
    if "$@"; then passed=$((passed + 1)); echo "ok   $name"; else failed=$((failed + 1)); echo "FAIL $name"; fi
}
case $parts in *golden*) run golden "$peers/bin/python" tests/golden/make_golden.py --random 2 ;; esac
case $parts in *real*) run real "$peers/bin/python" tests/peers/real_model.py .build/release/attune "$peers" ;; esac
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
