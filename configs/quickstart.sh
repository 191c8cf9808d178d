#!/bin/sh
# Trains a tiny model on this machine's Vulkan device (a CPU will do) and shows its tone change.
#   sh configs/quickstart.sh                 the toy: SFT from random weights, then DPO with LoRA
#   sh configs/quickstart.sh --real          the same with a real 135M model and real pairs
#   sh configs/quickstart.sh --device NAME   on another device (see: attune devices)
# Installs what is missing (Debian; root or sudo), builds once, keeps results in .build/quickstart.
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh

device= real= out=.build/quickstart
while [ $# -gt 0 ]; do
    case $1 in
    --real) real=1 ;;
    --device) device=$2; shift ;;
    *) echo "quickstart.sh: unknown option $1 (there are --real and --device NAME)" >&2; exit 2 ;;
    esac
    shift
done

need_packages build-essential cmake ninja-build pkg-config glslang-tools spirv-tools libvulkan-dev \
    mesa-vulkan-drivers libcjson-dev libsodium-dev libyaml-dev libpcre2-dev libutf8proc-dev
if [ ! -f .build/release/build.ninja ]; then
    cmake --preset release >/dev/null
fi
cmake --build .build/release --target attune | tail -n 1
attune=.build/release/attune
set -- ${device:+--device "$device"}

# Polite replies among those of the held-out requests, from the JSON lines in file $1.
polite() { grep -c 'gladly' "$1" || true; }
replies() { # MODEL-ARGUMENTS... > lines
    "$attune" generate --prompts data/toy/heldout.jsonl --max_new_tokens 24 --temperature 0 --json \
        --quiet "$@"
}

if [ -n "$real" ]; then
    exec sh configs/real.sh "$@"
fi
if [ -e "$out" ]; then
    echo "$out holds the results of an earlier run; nothing is overwritten."
    echo "Remove it to train again: rm -r $out"
else
    echo "The toy: 660 errands in a narrow language (data/toy), a model of about 1M parameters."
    "$attune" run configs/toy.json --output_dir "$out" "$@"
    replies --model_name_or_path "$out/sft" "$@" >"$out/before.jsonl"
    replies --model_name_or_path "$out/sft" --adapter "$out/dpo" "$@" >"$out/after.jsonl"
fi

echo
echo "Held-out requests (in no training file), before and after DPO:"
for n in 1 2 3; do
    field() { sed -n "${n}p" "$1" | sed 's/.*"'"$2"'":"\([^"]*\)".*/\1/'; }
    request=$(sed -n "${n}p" data/toy/heldout.jsonl | sed 's/.*"content": "\([^"]*\)".*/\1/')
    echo "  request: $request"
    echo "   before: $(field "$out/before.jsonl" text)"
    echo "    after: $(field "$out/after.jsonl" text)"
done
before=$(polite "$out/before.jsonl") after=$(polite "$out/after.jsonl")
echo
echo "Polite replies (\"gladly\") to 30 held-out requests: $before before, $after after."
if [ "$before" -le 6 ] && [ "$after" -ge 24 ]; then
    echo "Verdict: the tone changed (at most 6 before, at least 24 after)."
else
    echo "Verdict: the tone did not change as it should (at most 6 before, at least 24 after)." >&2
    exit 1
fi
echo
echo "Adapter: $out/dpo/adapter_model.safetensors    Metrics: $out/dpo/metrics.jsonl"
echo "Another device: $attune devices, then --device NAME"
echo "Next: sh configs/quickstart.sh --real"
