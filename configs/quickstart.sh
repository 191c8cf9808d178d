#!/bin/sh
# Trains a model on this machine's Vulkan device (a CPU will do) and shows its tone change.
#   sh configs/quickstart.sh                 the toy: SFT from random weights, then DPO with LoRA
#   sh configs/quickstart.sh --real          a real 135M model and real pairs (about 20 minutes on 2 cores)
#   sh configs/quickstart.sh --device NAME   on another device (see: attune devices)
#   sh configs/quickstart.sh --output_dir DIR   results there, not in .build/quickstart (or
#                                               .build/quickstart_real)
# Installs what is missing (Debian; root or sudo), builds once, overwrites no results.
set -eu
called_from=$PWD
cd "$(dirname "$0")/.."
. tests/install.sh

device='' real='' out=''
needs_value() { # OPTION WHAT COUNT-OF-WORDS
    [ "$3" -gt 1 ] || { echo "quickstart.sh: $1 needs $2" >&2; exit 2; }
}
while [ $# -gt 0 ]; do
    case $1 in
    --real) real=1 ;;
    --device)
        needs_value "$1" "a number or a part of a name" $#
        device=$2
        shift
        ;;
    --output_dir)
        needs_value "$1" "a folder" $#
        case $2 in
        /*) out=$2 ;;
        *) out=$called_from/$2 ;;
        esac
        shift
        ;;
    *)
        echo "quickstart.sh: unknown option $1 (there are --real, --device NAME, --output_dir DIR)" >&2
        exit 2
        ;;
    esac
    shift
done

need_packages build-essential cmake ninja-build pkg-config glslang-tools glslang-dev spirv-tools libvulkan-dev \
    mesa-vulkan-drivers libcjson-dev libsodium-dev libyaml-dev libpcre2-dev libutf8proc-dev \
    zlib1g-dev libzstd-dev
if [ ! -f .build/release/build.ninja ]; then
    cmake --preset release >/dev/null
fi
build .build/release attune
attune=.build/release/attune

# Every command takes the device that was asked for.
run_attune() {
    command=$1
    shift
    "$attune" "$command" "$@" ${device:+--device "$device"}
}
replies() { # MODEL-ARGUMENTS... > lines
    run_attune generate --temperature 0 --json --quiet "$@"
}
# JSON text as one plain line: what stands between quotes after the pattern $1.
text_after() {
    sed -e "s/.*$1"'"\(\([^"\\]\|\\.\)*\)".*/\1/' -e 's/\\n/ /g' -e 's/\\"/"/g'
}
# Three requests of file $1 with the replies before ($2) and after ($3).
show_three() {
    for n in 1 2 3; do
        sed -n "${n}p" "$1" | sed 's/"chosen".*//' | text_after '"user", "content": ' | sed 's/^/  request: /'
        sed -n "${n}p" "$2" | text_after '"text":' | sed 's/^/   before: /'
        sed -n "${n}p" "$3" | text_after '"text":' | sed 's/^/    after: /'
    done
}
# Text after $1 in file $2 and replies of file $3: how many line pairs (a, b) satisfy the awk rule $4.
count_pairs() {
    { text_after "$1" <"$2"; echo "--"; text_after '"text":' <"$3"; } | awk '
        $0 == "--" { first = NR; next }
        !first { line[NR] = $0; next }
        { a = line[NR - first]; b = $0; split(a, word, " "); n += ('"$4"') }
        END { print n + 0 }'
}
# In how many replies of file $2 colour and thing are those of the request in file $1.
count_copied() {
    count_pairs '"user", "content": ' "$1" "$2" 'index(" " b " ", " " word[3] " " word[4] " ") > 0'
}
# In how many replies of file $2 nothing but "gladly , " was put before the one of file $1.
count_kept() {
    count_pairs '"text":' "$1" "$2" 'b == "gladly , " a'
}
refuse_to_overwrite() {
    echo "$1 holds the results of an earlier run; nothing is trained or overwritten."
    echo "Remove it to train again: rm -r $1"
}
show_next() { # FOLDER of the adapter, next command
    echo
    echo "Adapter: $1/adapter_model.safetensors    Metrics: $1/metrics.jsonl"
    echo "Another device: $attune devices, then --device NAME"
    echo "Next: $2"
}

run_toy() {
    out=${out:-.build/quickstart} requests=data/toy/heldout.jsonl
    if [ -e "$out/after.jsonl" ]; then
        refuse_to_overwrite "$out"
    else
        echo "The toy: errands in a narrow language (data/toy), a model of about 1M parameters."
        run_attune run configs/toy.json --output_dir "$out"
        set -- --prompts "$requests" --max_new_tokens 24 --model_name_or_path "$out/sft"
        replies "$@" >"$out/before.jsonl"
        replies "$@" --adapter "$out/dpo" >"$out/after.part"
        mv "$out/after.part" "$out/after.jsonl"
    fi
    echo
    echo "Held-out requests (in no training file), before and after DPO:"
    show_three "$requests" "$out/before.jsonl" "$out/after.jsonl"
    before=$(grep -c '"text":"gladly , ' "$out/before.jsonl" || true)
    after=$(grep -c '"text":"gladly , ' "$out/after.jsonl" || true)
    right_before=$(count_copied "$requests" "$out/before.jsonl")
    right_after=$(count_copied "$requests" "$out/after.jsonl")
    kept=$(count_kept "$out/before.jsonl" "$out/after.jsonl")
    echo
    echo "Of 30 replies to held-out requests"
    printf '  %-44s %2d before, %2d after\n' "are polite (\"gladly , \")" "$before" "$after" \
        "name the request's colour and thing" "$right_before" "$right_after"
    printf '  %-44s            %2d after\n' "are as before, with \"gladly , \" in front" "$kept"
    if [ "$before" -gt 6 ] || [ "$after" -lt 24 ]; then
        echo "Verdict: the tone did not change as it should (at most 6 before, at least 24 after)." >&2
        exit 1
    fi
    echo "Verdict: the tone changed (at most 6 before, at least 24 after)."
    show_next "$out/dpo" "sh configs/quickstart.sh --real"
}

run_real() {
    out=${out:-.build/quickstart_real} requests=data/samples/tone_eval.jsonl
    model=${ATTUNE_PEERS:-$HOME/.cache/attune/peers}/SmolLM2-135M-Instruct.Q4_1.gguf
    need_packages python3 python3-venv
    sh tests/peers/setup.sh --model
    if [ -e "$out/after.jsonl" ]; then
        refuse_to_overwrite "$out"
    else
        echo "A real model: SmolLM2-135M-Instruct, 300 tone pairs of data/samples, 120 held out."
        # a run that was trained goes on with its replies
        if ! grep -q '"complete": true' "$out/result.json" 2>/dev/null; then
            run_attune dpo configs/dpo.json --model_name_or_path "$model" --output_dir "$out"
        fi
        head -n 3 "$requests" >"$out/requests.jsonl"
        set -- --prompts "$out/requests.jsonl" --max_new_tokens 80 --model_name_or_path "$model"
        replies "$@" >"$out/before.jsonl"
        replies "$@" --adapter "$out" >"$out/after.part"
        mv "$out/after.part" "$out/after.jsonl"
    fi
    echo
    echo "Held-out requests, before and after DPO:"
    show_three "$requests" "$out/before.jsonl" "$out/after.jsonl"
    show_next "$out" "$attune generate --model_name_or_path $model --adapter $out --prompt TEXT"
}

if [ -n "$real" ]; then
    run_real
else
    run_toy
fi
