#!/bin/sh
# What a GPU does with Attune and with TRL (bf16, sdpa), on the same card, within ten minutes: the kernels of
# a DPO step with their rates, in f32 and with halves on matrix units where those are faster, then tokens/s and
# device memory, for random-weight models of 0.5B and 1.5B.
#   sh tests/bench/gpu.sh [PYTHON]     a Python with torch for the card, transformers, trl, peft, datasets
# Builds the release preset where .build/release has no program yet, with kernels for matrix units where
# ATTUNE_MATRIX_GLSLANG or the system's glslang knows them.
set -eu
case ${1:-} in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;; esac
cd "$(dirname "$0")/../.."
python=${1:-python3}
attune=.build/release/attune
[ -x "$attune" ] || {
    cmake --preset release ${ATTUNE_MATRIX_GLSLANG:+"-DATTUNE_MATRIX_GLSLANG=$ATTUNE_MATRIX_GLSLANG"} >/dev/null
    cmake --build --preset release >/dev/null
}
"$attune" devices
for shape in 0.5b 1.5b; do
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$python" tests/bench/side_by_side.py "$attune" - --shape $shape --make "$folder/model" >/dev/null
    "$python" tests/bench/side_by_side.py "$attune" - --rows "$folder/rows.jsonl" --steps 4 --batch 8 --words 200
    for halves in 0 time; do
        echo "$shape, ATTUNE_HALVES=$halves"
        ATTUNE_HALVES=$halves "$attune" bench --method dpo --model_name_or_path "$folder/model" \
            --train_dataset "$folder/rows.jsonl" --output_dir "$folder/out" --preset trl --use_peft true \
            --lora_target_modules all-linear --per_device_train_batch_size 8 --max_length 2048 --steps 2
    done
    rm -rf "$folder"
    "$python" tests/bench/side_by_side.py "$attune" - --shape $shape --gpu --dtype bfloat16 --python "$python" \
        --batch 8 --words 200 --steps 6
done
