#!/bin/sh
# The peers test group: Attune beside TRL, PEFT and transformers, on tiny models and on a real one.
#   bash tests/peers/run.sh [PART ...]     parts: golden text weights real (default: all)
# Makes the environment of setup.sh first. ATTUNE_REAL_STEPS limits the real training (default 3).
set -eu
cd "$(dirname "$0")/../.."
peers=${ATTUNE_PEERS:-$HOME/.cache/attune/peers}
parts=${*:-golden text weights real}
for part in $parts; do
    case $part in
    golden | text | weights | real) ;;
    *) echo "tests/peers/run.sh: unknown part $part (there are golden, text, weights, real)" >&2; exit 2 ;;
    esac
done
. tests/install.sh
need_packages python3 python3-venv
sh tests/peers/setup.sh
[ -f .build/release/build.ninja ] || cmake --preset release >/dev/null
build .build/release attune
passed=0 failed=0 skipped=0
run() {
    name=$1 status=0
    shift
    "$@" || status=$?
    case $status in
    0) passed=$((passed + 1)); echo "ok   $name" ;;
    125) skipped=$((skipped + 1)); echo "skip $name" ;;
    *) failed=$((failed + 1)); echo "FAIL $name" ;;
    esac
}
case $parts in *golden*)
    run golden "$peers/bin/python" tests/golden/make_golden.py --random 2
    run schedules "$peers/bin/python" tests/golden/make_schedules.py --check
    run adapters "$peers/bin/python" tests/peers/adapters_peer.py .build/release/attune
    run merge "$peers/bin/python" tests/peers/merge_peer.py .build/release/attune "$peers"
    run families "$peers/bin/python" tests/peers/families_peer.py .build/release/attune
    run tensorboard "$peers/bin/python" tests/peers/tensorboard_peer.py .build/release/attune
    run rewards "$peers/bin/python" tests/peers/rewards_peer.py .build/release/attune
    ;;
esac
case $parts in *text*)
    run chats "$peers/bin/python" tests/peers/chats_peer.py .build/release/attune "$peers"
    run tokenizer_model "$peers/bin/python" tests/peers/tokenizers_peer.py .build/release/attune "$peers" model
    run tokenizers_shared "$peers/bin/python" tests/peers/tokenizers_peer.py .build/release/attune "$peers" shared
    run tokenizer_names "$peers/bin/python" tests/peers/pre_peer.py .build/release/attune "$peers"
    [ -f .build/dev/build.ninja ] || cmake --preset dev >/dev/null
    build .build/dev unit_judge
    run judge "$peers/bin/python" tests/peers/judge_peer.py .build/dev/tests/unit_judge
    run sentencepiece "$peers/bin/python" tests/peers/sentencepiece_peer.py .build/release/attune
    ;;
esac
case $parts in *weights*)
    [ -f .build/dev/build.ninja ] || cmake --preset dev >/dev/null
    build .build/dev bench_load
    run weights "$peers/bin/python" tests/peers/weights_peer.py .build/dev/tests/bench_load "$peers"
    run quants "$peers/bin/python" tests/peers/quants_peer.py .build/dev/tests/bench_load
    ;;
esac
case $parts in *real*)
    run llama_cpp "$peers/bin/python" tests/peers/llama_cpp_peer.py .build/release/attune "$peers"
    run tutorial "$peers/bin/python" tests/peers/tutorial_peer.py .build/release/attune "$peers"
    run greedy "$peers/bin/python" tests/peers/greedy_peer.py .build/release/attune "$peers"
    run real "$peers/bin/python" tests/peers/real_model.py .build/release/attune "$peers"
    ;;
esac
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
