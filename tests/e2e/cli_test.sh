#!/bin/bash
# The command line: exit codes, messages, JSON, pipelines; training on the tiny models of tests/golden.
#     cli_test.sh SOURCE_DIR BUILD_DIR [TEST]
set -u
source_dir=$(cd "$1" && pwd) build_dir=$(cd "$2" && pwd)
attune=$build_dir/attune
golden=$source_dir/tests/golden
if [ ! -x "$attune" ]; then
    echo "$attune was not built"
    exit 1
fi
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
failures=0 checks=0

fail() {
    echo "FAIL $*"
    sed 's/^/    /' "$work/err" | tail -n 5
    failures=$((failures + 1))
}

# run EXPECTED-CODE ARGUMENTS...: stdout in $work/out, stderr in $work/err. A failure ends with one
# error line, a success has none.
run() {
    local want=$1 got=0 errors
    shift
    checks=$((checks + 1))
    "$attune" "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    [ "$got" = "$want" ] || fail "attune $*: exit code $got, want $want"
    errors=$(grep -c '^attune: error: ' "$work/err")
    if [ "$want" = 0 ]; then
        [ "$errors" = 0 ] || fail "attune $*: an error line and exit code 0"
    else
        [ "$errors" = 1 ] || fail "attune $*: $errors error lines"
        tail -n 1 "$work/err" | grep -q '^attune: error: ' || fail "attune $*: not the last line"
    fi
    if LC_ALL=C grep -q $'\033' "$work/out" "$work/err"; then
        fail "attune $*: escape codes without a terminal"
    fi
}
# says FILE PATTERN: what the last run wrote to out or err
says() {
    grep -Eq -- "$2" "$work/$1" || fail "$1 does not say: $2"
}
# json EXPRESSION: holds for `d`, the last run's stdout as JSON (`lines`: a list, one a line)
json() {
    python3 - "$work/out" "$1" <<'PY' || fail "json: $1"
import json, sys
text = open(sys.argv[1]).read()
lines = [json.loads(line) for line in text.splitlines()] if "lines" in sys.argv[2] else None
d = json.loads(text) if lines is None else None
sys.exit(0 if eval(sys.argv[2]) else 1)
PY
}

help_answers_at_once_without_a_gpu() {
    local best=1000000 took user system limit=50 TIMEFORMAT='%3U %3S' # ms of processor time: the machine may be busy
    grep -q '^CMAKE_C_FLAGS:.*-fsanitize' "$build_dir/CMakeCache.txt" && limit=250 # of which sanitizers take 35
    for word in --help --version 'sft --help' 'help dpo'; do
        # shellcheck disable=SC2086
        VK_DRIVER_FILES=/none VK_ICD_FILENAMES=/none run 0 $word
        [ -s "$work/out" ] || fail "attune $word: nothing on stdout"
    done
    for _ in 1 2 3 4 5 6 7 8; do
        read -r user system <<<"$({ time "$attune" --help >/dev/null; } 2>&1)"
        took=$((10#${user/./} + 10#${system/./}))
        best=$((took < best ? took : best))
    done
    [ "$best" -lt "$limit" ] || fail "--help takes $best ms"
    run 0 sft --help
    says out '--learning_rate'
    if grep -q -- '--beta' "$work/out"; then
        fail "sft --help lists a key that it does not read"
    fi
    says out '--loss_type dft[|]nll '
    for word in 'data --help' 'help data' 'config -h'; do
        # shellcheck disable=SC2086
        run 0 $word
        says out "^  (data lint|config keys) +[a-z]"
    done
}

usage_errors_are_2() {
    run 2 sfx
    says err 'did you mean `attune sft`'
    run 2 sign
    says err 'sign is not built in this version'
    run 2 data
    says err 'a command is missing, one of: data convert, data coverage, data lint, data show, data split, data stats$'
    run 2 data lnt
    says err 'did you mean `attune data lint`[?] There are: data convert, data coverage, data lint, data show, data split, data stats$'
    run 2 data nothing --like_it
    says err 'unknown command data nothing; there are: data convert'
    run 2 dpo "$golden/dpo_sigmoid/config.json" --use_dora yes --output_dir "$work/x"
    says err '^attune: error: --use_dora: true or false expected, found "yes"'
    run 2 dpo "$golden/dpo_sigmoid/config.json" --use_dora=yes --output_dir "$work/x"
    says err 'use_dora: true or false expected'
    run 2 sft --lerning_rate 1
    says err 'did you mean --learning_rate'
    run 2 sft --lora_r 0
    says err 'lora_r: a whole number in 1\.\.1024'
    run 2 sft --learning_rate
    says err 'needs a value'
    run 2 sft --beta 0.1 --output_dir "$work/x"
    says err 'beta is not read by sft'
    run 2 devices --nope
    run 2 devices surplus
    run 2 sft --model_name_or_path "$golden/models/tiny_llama"
    says err 'output_dir is missing'
    run 2 dpo "$golden/sft_full/config.json" --output_dir "$work/x"
    says err 'method: sft'
    run 2 score "$golden/reward/config.json" --tokens
    says err 'leave --tokens out'
    run 2 generate "$golden/models/tiny_llama" --prompt a --temperature hot
    run 2 generate "$golden/models/tiny_llama"
    says err 'prompt is missing'
    run 2
    says err 'a command is missing; usage: attune COMMAND .arguments.$'
    says out '^  sft '
    says out '^0 ok .*, 1 verdict: worse or over budget, 2 usage,$'
    says out '75 try again .resumable.'
    run 2 bench
    says err 'method is missing: name a CONFIG that has one, or with --method one of cpo.dpo'
    run 2 dpo "$golden/dpo_sigmoid/config.json" --loss_type sigmoidd --output_dir "$work/x"
    says err 'error: --loss_type: unknown loss "sigmoidd"; did you mean sigmoid[?] dpo takes aot, .* or sppo_hard, or file:PATH.h$'
    run 2 dpo "$golden/dpo_sigmoid/config.json" --learning_rate nan --output_dir "$work/x"
    says err 'a number in 0\.\.100 expected, found nan$'
}

# What does not fit a command says which one it fits.
data_of_another_method_is_named() {
    local model=$golden/models/tiny_llama
    run 65 dpo --model_name_or_path "$model" --train_dataset "$source_dir/data/toy/sft.jsonl" --output_dir "$work/x"
    says err 'sft.jsonl:1: the key "chosen" is missing.*; a row like this one is trained with sft$'
    says err '738 of 738 rows cannot be used .the first are named above.'
    run 0 sft --model_name_or_path "$model" --train_dataset "$golden/data/pairs.jsonl" --max_steps 1 \
        --output_dir "$work/of_pairs"
    says err '^ +24 of them are pairs, of which sft trains on chosen alone; dpo trains on both sides$'
    says err '^done     1 step in '
    run 0 sft --model_name_or_path "$model" --train_dataset "$golden/data/sft_messages.jsonl" --max_steps 1 \
        --output_dir "$work/of_messages"
    grep -q 'are pairs' "$work/err" && fail "rows of messages are called pairs"
    echo '{"a": 1}' >"$work/a.json"
    run 65 bench --compare "$work/a.json" "$work/a.json"
    says err 'a.json: this is no result of `attune bench CONFIG --json`$'
}

# An adapter's record names its base as the training did.
a_base_elsewhere_is_named() {
    cp -r "$golden/models/tiny_llama" "$work/base"
    (cd "$work" && "$attune" dpo --model_name_or_path base --train_dataset "$golden/data/pairs.jsonl" --max_steps 1 \
        --output_dir adapter --quiet 2>"$work/err") || fail "dpo with a relative base"
    run 66 dial "$work/adapter"
    says err 'adapter was trained on the model base, which is not here .a path that starts where the training did.; name it with --model_name_or_path MODEL$'
    run 66 eval --adapter "$work/adapter"
    says err 'name it with --model_name_or_path MODEL$'
    (cd "$work" && "$attune" eval --adapter adapter --n_replies 0 >"$work/out" 2>"$work/err")
    [ $? = 3 ] || fail "eval where the training was"
}

missing_input_is_66() {
    run 66 dpo "$work/none.json"
    says err 'none.json'
    run 66 dpo --model_name_or_path "$work/none" --train_dataset a.jsonl --output_dir "$work/x"
    says err "$work/none"
    run 66 dpo "$golden/dpo_sigmoid/config.json" --train_dataset "$work/none.jsonl" \
        --output_dir "$work/x"
    run 66 inspect "$work/none"
}

bad_data_is_65() {
    echo '{"a": 1,}' >"$work/bad.json"
    run 65 dpo "$work/bad.json"
    says err 'bad.json:1:9'
    echo '{"prompt": "a"' >"$work/bad.jsonl"
    run 65 data show "$golden/dpo_sigmoid/config.json" --train_dataset "$work/bad.jsonl"
    says err 'bad.jsonl:1'
    echo '{"prompt": "a", "chosen": "b"}' >"$work/bad.jsonl"
    run 65 data show "$golden/dpo_sigmoid/config.json" --train_dataset "$work/bad.jsonl"
    says err 'rejected'
    printf 'GGUFxxxx' >"$work/bad.gguf"
    run 65 inspect "$work/bad.gguf"
    mkdir -p "$work/pickle"
    cp "$golden/models/tiny_llama/"*.json "$work/pickle"
    rm "$work/pickle/model.safetensors.index.json"
    touch "$work/pickle/pytorch_model.bin"
    "$attune" inspect "$work/pickle" >"$work/out" 2>"$work/err" && fail "a pickle file was read"
}

no_device_is_69() {
    VK_DRIVER_FILES=/none VK_ICD_FILENAMES=/none run 69 devices
    VK_DRIVER_FILES=/none VK_ICD_FILENAMES=/none run 69 score "$golden/dpo_sigmoid/config.json"
    run 69 score "$golden/dpo_sigmoid/config.json" --device nosuchdevice
    says err 'nosuchdevice'
    run 69 dpo "$golden/dpo_sigmoid/config.json" --device_memory_limit 1e6 --output_dir "$work/mem"
    says err 'weights 0, trainable state 0, slab [0-9]+. and device_memory_limit is 0[.]95 MiB; lower '
    [ -z "$(ls -A "$work/mem" 2>/dev/null)" ] || fail "a run that does not fit left files"
}

unwritable_output_is_73() {
    mkdir -p "$work/full"
    touch "$work/full/file"
    run 73 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/full"
    says err 'nothing is overwritten'
    run 73 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/full" --train_dataset "$work/none.jsonl"
    says err 'nothing is overwritten'
    touch "$work/file"
    run 73 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/file/out" --train_dataset "$work/none.jsonl"
    says err "file/out: cannot be written: Not a directory"
    run 73 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/file" --train_dataset "$work/none.jsonl"
    says err "file is a file, not a folder"
    run 66 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/not/made" --train_dataset "$work/none.jsonl"
    [ -e "$work/not" ] && fail "a run without rows made its folder"
    if [ -d /proc/tty/ldisc ]; then # empty, and takes no files: no kernel is timed before it fails
        run 73 dpo "$golden/dpo_sigmoid/config.json" --output_dir /proc/tty/ldisc --profile
    fi
}

devices_and_inspect_print_json() {
    run 0 devices --json
    json 'len(d["devices"]) > 0 and d["devices"][0]["index"] == 0 and d["devices"][0]["memory_bytes"] > 0'
    run 0 inspect "$golden/models/tiny_llama" --json
    json 'd["model"]["family"] == "llama" and d["model"]["vocabulary"] == 197 and "F32" in d["types"]'
    json 'd["tokenizer"]["vocabulary"] == 197 and d["tokenizer"]["eos"]["text"] and d["chat_template"]["end_of_turn"]'
    mkdir -p "$work/bare"
    cp "$golden/models/tiny_llama/"{config.json,model*} "$work/bare"
    run 0 inspect "$work/bare" --json
    json '"tokenizer.json" in d["tokenizer"]["problem"] and "chat_template" not in d and d["model"]["family"] == "llama"'
    cp "$golden/models/tiny_llama/"tokenizer*.json "$work/bare"
    sed -i 's/"chat_template": *"/&{% nonsense %}/' "$work/bare/tokenizer_config.json"
    run 0 inspect "$work/bare" --json
    json '"nonsense" in d["chat_template"]["problem"] and "end_of_turn" not in d["chat_template"]'
    run 0 inspect "$golden/dpo_sigmoid/init_adapter" --json --tensors
    json 'd["kind"] == "adapter" and d["adapter"]["r"] == 4 and len(d["tensor_list"]) == d["tensors"]'
}

inspect_prints_foreign_text_plainly() {
    mkdir -p "$work/foreign"
    cp "$golden/dpo_sigmoid/init_adapter/adapter_model.safetensors" "$work/foreign"
    echo '{"tensor_list": [1, "x"], "na\u001bme": "a\u001b[31mb\u007f", "inner": {"tensor_list": {"a": 1}}, "none": {},
        "base_model_name_or_path": "m"}' \
        >"$work/foreign/adapter_config.json"
    run 0 inspect "$work/foreign"
    says out '^  na[?]me +a[?]\[31mb[?]$'
    says out '^  tensor_list +\[1,"x"\]$'
    says out '^  inner$'
    says out '^  none {20}[{][}]$' # behind the longest name
    says out '^  base_model_name_or_path m$'
    run 0 inspect "$work/foreign" --tensors
    says out '^  base_model\..*lora_A.weight +F32 +\['
}

tokenize_goes_there_and_back() {
    local model=$golden/models/tiny_llama
    printf '"where is the tea"\n"yes, please"\n' | "$attune" tokenize --model "$model" --json \
        >"$work/ids" 2>"$work/err" || fail "tokenize"
    "$attune" tokenize --model "$model" --decode --json <"$work/ids" >"$work/out" 2>"$work/err" ||
        fail "tokenize --decode"
    says out '^"(<[^>]*>)?where is the tea'
    printf '{"messages":[{"role":"user","content":"hi"}]}\n' | "$attune" tokenize --model "$model" \
        --chat --add_generation_prompt --render >"$work/out" 2>"$work/err" || fail "tokenize --chat"
    json 'all("hi" in line for line in lines)'
    printf '""\n' | "$attune" tokenize --model "$golden/models/tiny_qwen2" --json >"$work/out" 2>"$work/err"
    [ "$(cat "$work/out")" = '[]' ] || fail "tokenize: an empty string has ids"
    printf 'x\n' | "$attune" tokenize --model "$model" --json >"$work/out" 2>"$work/err"
    [ $? = 65 ] || fail "tokenize: a line that is not JSON"
}

data_show_equals_trl() {
    run 0 data show --method dpo --model_name_or_path "$golden/models/tiny_llama" --train_dataset "$golden/data/pairs.jsonl" --n 1
    says err 'next       attune plan --method .*--model_name_or_path '
    run 0 data show "$golden/dpo_sigmoid/config.json" --json --n 2
    python3 - "$work/out" "$golden/dpo_sigmoid/expect.json" <<'PY' || fail "data show: other ids"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
want = {row["row"]: row for row in json.load(open(sys.argv[2]))["rows"]}
assert len(rows) == 2
for row in rows:
    for side in ("chosen", "rejected"):
        assert row[side]["input_ids"] == want[row["row"]][side]["ids"], side
        assert sum(row[side]["completion_mask"]) == want[row["row"]][side]["n_tokens"], side
PY
}

plan_counts_rows_and_bytes() {
    run 0 plan "$golden/dpo_sigmoid/config.json" --json
    json 'd["fits"] and d["steps"] == 6 and d["device_bytes"]["total"] > 0 and d["rows"]["read"] > 0'
    run 0 plan "$golden/dpo_sigmoid/config.json"
    says out '^memory '
}

an_empty_list_holds_out_nothing() {
    local keys=(--method dpo --model_name_or_path "$golden/models/tiny_llama" --train_dataset "$golden/data/pairs.jsonl"
        --on_bad_row keep --eval_dataset '[]' --json)
    run 0 plan "${keys[@]}"
    json 'd["rows"]["eval"] == 0 and d["rows"]["train"] == d["rows"]["read"] > 0'
    says err 'nothing is held out .eval_split is 0 and eval_dataset is an empty list.'
    run 0 plan "${keys[@]}" --eval_split 0.1
    json 'd["rows"]["eval"] > 0'
}

packed_rows_are_shown() {
    local packed="$golden/sft_pack_bfd/config.json"
    run 0 plan "$packed" --json
    json 'd["packed"]["train"] == {"rows": 15, "tokens": 507, "fill": 507 / 600} and d["rows_per_step"] == 4'
    run 0 plan "$packed" --eval_split 0.3
    says out '^packed   12 rows as 12 of up to 40 tokens, 83[.]3 % full; held out 4 rows as 4 '
    run 0 data show "$packed" --n 15
    says out '^packed row 1: 40 of 40 tokens$'
    says err '^packed   16 rows as 15 of up to 40 tokens, 84[.]5 % full$'
    run 0 data show "$packed" --n 15 --json
    json 'len(lines) == 16 and sum(len(line["completion"]["input_ids"]) for line in lines) == 507 and lines[-1]["packed_row"] == 14'
    run 0 score "$packed" --json
    json '[line["row"] for line in lines] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15]'
    run 0 sft "$packed" --output_dir "$work/packed"
    says err '^packed   16 rows as 15 '
    run 2 plan "$packed" --max_length 0
    says err 'packing needs max_length'
    run 2 plan "$golden/dpo_sigmoid/config.json" --packing true
    says err 'packing is not read by dpo'
    run 2 plan "$packed" --packing_strategy wrapped --eval_split 0.3 --eval_packing false
    says err 'give eval_dataset'
    run 65 plan "$packed" --max_length 8
    says err 'raise max_length'
    run 0 plan "$packed" --packing_strategy wrapped --on_long_row drop --eval_packing true
    says err 'on_long_row has no effect'
    says err 'eval_packing has no effect'
    run 65 data lint "$packed"
    run 0 data lint "$packed" --packing_strategy bfd_split
}

training_tells_what_it_did() {
    run 0 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/dpo"
    for word in '^device ' '^rows ' '^memory ' '^trains ' '^step 6/6 ' '^files ' '^next '; do
        says err "$word"
    done
    [ -s "$work/out" ] && fail "training wrote to stdout"
    run 0 dpo "$golden/dpo_sigmoid/config.json" --eval_split 0.3 --on_bad_row skip --output_dir "$work/held"
    says err '^eval at step 0  [0-9]+ held-out rows  loss 0\.6931  chosen likelier a token in [0-9.]+ %  drift 0 nats a token  in [0-9.]+ s$'
    says err '^eval at step 6 '
    for file in adapter_model.safetensors adapter_config.json metrics.jsonl timing.jsonl result.json \
        run.json tokenizer.json; do
        [ -s "$work/dpo/$file" ] || fail "dpo: $file is missing"
    done
    run 73 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/dpo"
    run 0 dpo "$golden/dpo_sigmoid/config.json" --output_dir "$work/again" --quiet
    grep -vq '^attune: ' "$work/err" && fail "--quiet: more than warnings on stderr"
    for file in adapter_model.safetensors metrics.jsonl; do
        cmp -s "$work/dpo/$file" "$work/again/$file" || fail "two runs differ in $file"
    done
}

generate_is_reproducible() {
    local model=$golden/models/tiny_llama
    run 0 generate "$model" --adapter "$work/dpo" --prompt 'where is the tea' --prompt 'help' \
        --max_new_tokens 8 --json
    json 'len(lines) == 2 and all(line["n_tokens"] <= 8 for line in lines)'
    cp "$work/out" "$work/first"
    run 0 generate "$model" --adapter "$work/dpo" --prompt 'where is the tea' --prompt 'help' \
        --max_new_tokens 8 --json
    cmp -s "$work/out" "$work/first" || fail "greedy replies differ"
    run 0 generate "$model" --prompt help --temperature 1 --seed 1 --max_new_tokens 12 --json
    cp "$work/out" "$work/first"
    run 0 generate "$model" --prompt help --temperature 1 --seed 2 --max_new_tokens 12 --json
    cmp -s "$work/out" "$work/first" && fail "seeds do not matter"
    run 0 generate "$model" --prompt help --max_new_tokens 12 --json
    cp "$work/out" "$work/first"
    run 0 generate "$model" --adapter "$work/dpo" --adapter_scale 0 --prompt help \
        --max_new_tokens 12 --json
    cmp -s "$work/out" "$work/first" || fail "an adapter at scale 0 changes the reply"
    run 65 generate "$model" --prompts "$work/bad.json"
    printf '\xef\xbb\xbf{"prompt": "help"}\r\n \t\r\n\n{"prompt": "tea"}\n' >"$work/prompts.jsonl"
    run 0 generate "$model" --prompts "$work/prompts.jsonl" --max_new_tokens 1 --json
    json 'len(lines) == 2'
}

pipeline_resumes_and_never_overwrites() {
    cat >"$work/pipeline.json" <<EOF
{"output_dir": "pipeline", "model_name_or_path": "$golden/models/tiny_llama", "beta": 0.2,
 "max_steps": 3, "lora_r": 4, "eval_split": 0.2, "on_bad_row": "skip", "on_long_row": "cut",
 "stages": [
  {"name": "sft", "method": "sft", "train_dataset": "$golden/data/sft_messages.jsonl"},
  {"name": "dpo", "method": "dpo", "train_dataset": "$golden/data/pairs.jsonl"}]}
EOF
    run 0 run "$work/pipeline.json" --dry_run
    [ -e "$work/pipeline" ] && fail "--dry_run wrote something"
    run 0 run "$work/pipeline.json"
    says err 'stage +2 of 2: dpo'
    says err 'on a frozen adapter'
    run 0 run "$work/pipeline.json"
    [ "$(grep -c 'skipped' "$work/err")" = 2 ] || fail "finished stages were not skipped"
    run 0 run "$work/../${work##*/}/pipeline.json" --output_dir "$work/./pipeline/" --dry_run
    [ "$(grep -c 'skipped' "$work/err")" = 2 ] || fail "stages of a folder that is spelt otherwise were not skipped"
    run 0 inspect "$work/pipeline/dpo" --json
    json 'd["adapter"]["r"] == 8'
    run 73 run "$work/pipeline.json" --beta 0.3
    says err 'with other inputs'
    rm -r "$work/pipeline/dpo"
    run 0 run "$work/pipeline.json" --beta 0.3
    [ "$(grep -c 'skipped' "$work/err")" = 1 ] || fail "the first stage was not skipped"
    run 2 run "$golden/dpo_sigmoid/config.json"
    says err 'stages'
    cat "$work/pipeline/dpo/split_train.jsonl" "$work/pipeline/dpo/split_eval.jsonl" | sort >"$work/split"
    sort "$golden/data/pairs.jsonl" | cmp -s - "$work/split" || fail "the split's files are not the data set"
}

# Everything that can be known is known before the first stage is trained, with --dry_run too.
pipeline_checks_all_stages_first() {
    local stage
    pipeline_of() {
        cat >"$work/early.json" <<EOF
{"output_dir": "early", "model_name_or_path": "$golden/models/tiny_llama", "max_steps": 1,
 "on_bad_row": "skip", "on_long_row": "cut", "stages": [
  {"name": "one", "method": "sft", "train_dataset": "$golden/data/sft_messages.jsonl"},
  {"name": "two", "method": "sft", $1}]}
EOF
    }
    refuses() {
        run "$1" run "$work/early.json" --dry_run
        says err "$2"
        run "$1" run "$work/early.json"
        says err "stage two: .*$2"
        [ -e "$work/early/one" ] && fail "the first stage was trained: $2"
    }
    stage="\"train_dataset\": \"$golden/data/sft_messages.jsonl\""
    pipeline_of '"train_dataset": "none.jsonl"'
    refuses 66 'none.jsonl: no such file'
    pipeline_of "$stage, \"eval_dataset\": \"none.jsonl\""
    refuses 66 'none.jsonl: no such file'
    pipeline_of "$stage, \"tokenizer\": \"none\""
    refuses 66 'none: no such file'
    pipeline_of '"max_steps": 2'
    refuses 2 'train_dataset is missing'
    pipeline_of "$stage, \"use_peft\": false"
    refuses 2 'needs use_peft: true'
    pipeline_of "$stage, \"init_from_scratch\": true"
    refuses 2 'init_from_scratch needs use_peft: false'
    pipeline_of "$stage, \"metric_for_best_model\": \"nothing\", \"eval_split\": 0.3, \"eval_strategy\": \"epoch\""
    refuses 2 'evaluations have no eval_nothing'
    pipeline_of "$stage, \"lora_modules_to_save\": [\"norm\"]"
    refuses 2 '"norm" is not trained in full'
    pipeline_of "$stage, \"device_memory_limit\": 100000"
    refuses 69 'MiB of device memory'
    { head -n 3 "$golden/data/sft_messages.jsonl"; echo '{"messages": '; } >"$work/broken.jsonl"
    pipeline_of '"train_dataset": "broken.jsonl"'
    refuses 65 'broken.jsonl:4:'
    pipeline_of "$stage, \"max_length\": 2"
    refuses 65 'all 16 were dropped'
    sed 's/"output_dir": "early"/"output_dir": "file"/' "$work/early.json" >"$work/nowhere.json"
    touch "$work/file"
    run 73 run "$work/nowhere.json" --dry_run
    says err 'file/one: cannot be written'
    pipeline_of "$stage"
    mkdir -p "$work/early/two"
    echo '{"inputs": ""}' >"$work/early/two/stage.json"
    refuses 73 'nothing is overwritten'
}

# Stages that judge: what would end them after hours of training is said before it.
pipeline_refuses_judges_that_cannot_judge() {
    judged() { # the stages, the exit code, what is said
        echo "{\"output_dir\": \"judged\", \"model_name_or_path\": \"$golden/models/tiny_llama\", \"stages\": [$1]}" \
            >"$work/judged.json"
        run "$2" run "$work/judged.json" --dry_run
        says err "$3"
    }
    dpo="\"name\": \"dpo\", \"method\": \"dpo\", \"lora_r\": 4, \"eval_split\": 0"
    rows="\"train_dataset\": \"$golden/data/pairs.jsonl\""
    judged "{\"name\": \"base\", \"method\": \"baseline\", \"target\": 0.9}, {$dpo, \"eval_dataset\": \"$golden/data/pairs.jsonl\"}" \
        2 'train_dataset of stage dpo is missing'
    judged "{$dpo, $rows}, {\"name\": \"judge\", \"method\": \"eval\"}" 2 'stage dpo has no single file of held-out pairs'
    judged "{$dpo, $rows}, {\"name\": \"judge\", \"method\": \"eval\", \"eval_dataset\": \"pairs.jsonl\"}" \
        2 'stage dpo has no single file of held-out pairs'
    judged "{$dpo, $rows}, {\"name\": \"judge\", \"method\": \"eval\", \"rows\": \"none\", \"eval_dataset\": \"pairs.jsonl\"}" \
        2 'a stage that judges has its file of pairs as rows'
    judged "{$dpo, $rows}, {\"name\": \"judge\", \"method\": \"compare\", \"rows\": \"$golden/data/pairs.jsonl\", \"against\": \"none\"}" \
        66 '/none: no such file or folder'
}

# What a stage before has yet to write is checked as what that is made from, and warned of once.
pipeline_checks_what_is_not_there_yet() {
    cat >"$work/chain.json" <<EOF
{"output_dir": "chain", "max_steps": 1, "on_bad_row": "skip", "on_long_row": "cut", "eval_split": 0, "stages": [
  {"name": "one", "method": "sft", "model_name_or_path": "$golden/models/tiny_llama", "use_peft": false,
   "init_from_scratch": true, "train_dataset": "$golden/data/sft_messages.jsonl"},
  {"name": "two", "method": "sft", "use_peft": false, "train_dataset": "$golden/data/sft_messages.jsonl"},
  {"name": "three", "method": "dpo", "lora_r": 4, "train_dataset": "$golden/data/pairs.jsonl"},
  {"name": "four", "method": "dpo", "lora_r": 4, "train_dataset": "$golden/data/pairs.jsonl"}]}
EOF
    run 0 run "$work/chain.json" --dry_run
    [ -e "$work/chain" ] && fail "--dry_run wrote something"
    run 0 run "$work/chain.json"
    [ "$(grep -c 'warning: .*nothing is held out' "$work/err")" = 4 ] || fail "not a warning a stage"
    run 0 inspect "$work/chain/four" --json
    json 'd["adapter"]["r"] == 8'
}

pipeline_sees_changed_files_and_shared_keys() {
    cp -r "$golden/models/tiny_llama" "$work/model"
    chmod -R u+w "$work/model"
    cat >"$work/shared.json" <<EOF
{"output_dir": "shared", "model_name_or_path": "model", "max_steps": 1, "lora_r": 4,
 "adapter_start": "continue", "on_bad_row": "skip", "on_long_row": "cut", "stages": [
  {"name": "sft", "method": "sft", "train_dataset": "$golden/data/sft_messages.jsonl"},
  {"name": "dpo", "method": "dpo", "train_dataset": "$golden/data/pairs.jsonl"}]}
EOF
    run 0 run "$work/shared.json"
    run 0 inspect "$work/shared/dpo" --json
    json 'd["adapter"]["r"] == 4'
    for file in tokenizer_config.json config.json model-00001-of-00003.safetensors; do
        cp "$work/model/$file" "$work/kept"
        echo >>"$work/model/$file"
        run 73 run "$work/shared.json" --dry_run
        says err 'with other inputs'
        cp "$work/kept" "$work/model/$file"
    done
    run 0 run "$work/shared.json" --dry_run
    [ "$(grep -c 'skipped' "$work/err")" = 2 ] || fail "unchanged stages were not skipped"
    sed -i '/adapter_start/s/"adapter_start": "continue", //' "$work/shared.json"
    rm -r "$work/shared"
    run 0 run "$work/shared.json" --adapter_start continue
    run 0 inspect "$work/shared/dpo" --json
    json 'd["adapter"]["r"] == 4'
}

keys_without_effect_are_told() {
    local sft=(--model_name_or_path "$golden/models/tiny_llama" --method sft --on_bad_row skip
        --train_dataset "$golden/data/sft_messages.jsonl" --on_long_row cut)
    run 0 plan "$golden/dpo_sigmoid/config.json"
    grep -q 'lora_.*has no effect' "$work/err" && fail "values of the adapter are said to be ignored"
    run 0 plan "$golden/dpo_sigmoid/config.json" --lora_r 8 --lora_alpha 4 --use_rslora true \
        --lora_target_modules q_proj
    for key in lora_r lora_alpha use_rslora lora_target_modules; do
        says err "^attune: warning: $key has no effect because the adapter"
    done
    run 0 plan "${sft[@]}" --adapter_start stack
    says err '^attune: warning: adapter_start has no effect'
    run 2 plan "${sft[@]}" --use_peft true --lora_modules_to_save norm
    says err '"norm" is not trained in full beside an adapter in this version; lm_head and embed_tokens are'
    run 2 plan "${sft[@]}" --method reward --use_peft true --lora_modules_to_save lm_head \
        --train_dataset "$golden/data/pairs.jsonl"
    says err 'a reward model has no lm_head'
    run 2 plan "$golden/dpo_modules/config.json" --sync_ref_model true
    says err 'not built for modules that lora_modules_to_save'
    run 2 plan "$golden/dpo_dora/config.json" --adapter_start stack
    says err 'an adapter with DoRA cannot be stacked'
    run 2 plan "$golden/dpo_dora/config.json" --sync_ref_model true
    says err 'not built for the magnitudes of DoRA'
    run 0 plan "${sft[@]}" --use_peft false --lora_alpha 8 --base_model_name_or_path org/base
    says err '^attune: warning: lora_alpha has no effect because use_peft is false'
    says err '^attune: warning: base_model_name_or_path has no effect'
}

interrupt_is_130_and_keeps_the_state() {
    timeout --foreground --kill-after=300 600 "$attune" dpo "$golden/dpo_sigmoid/config.json" \
        --output_dir "$work/stopped" --max_steps 100000 >"$work/out" 2>"$work/err" &
    local pid=$! code=0
    for _ in $(seq 6000); do
        if [ -s "$work/stopped/metrics.jsonl" ] || ! kill -0 "$pid"; then break; fi
        sleep 0.05
    done
    kill -INT "$pid"
    wait "$pid" || code=$?
    [ "$code" = 130 ] || fail "interrupted: exit code $code"
    says err '^attune: error: stopped by a signal'
    [ -s "$work/stopped/adapter_model.safetensors" ] || fail "interrupted: no adapter was written"
    grep -q '"complete": false' "$work/stopped/result.json" || fail "interrupted: result.json"
}

config_import_lists_what_changed() {
    cat >"$work/trl.yaml" <<'EOF'
model_name_or_path: org/model
dataset_name: org/data
bf16: true
beta: 0.05
learning_rate: 5.0e-6
warmup_ratio: 0.1
gradient_checkpointing: true
EOF
    run 0 config import "$work/trl.yaml"
    json 'd["method"] == "dpo" and d["preset"] == "trl" and d["warmup_steps"] == 0.1'
    json '"bf16" not in d and "dataset_name" not in d and d["beta"] == 0.05'
    says err '^bf16: '
    says err '^warmup_ratio: is now warmup_steps'
    says err '^method dpo: beta says so'
    printf 'loss_type: simpo\nmax_completion_length: null\ngenerate_during_eval: false\n' >"$work/trl.yaml"
    run 0 config import "$work/trl.yaml"
    json 'd["method"] == "cpo" and d["loss_type"] == "simpo" and "generate_during_eval" not in d'
    says err '^method cpo: its loss_type says so'
    printf 'loss_type: sigmoid\nsimpo_gamma: 0.5\ncpo_alpha: 1.0\n' >"$work/trl.yaml"
    run 0 config import "$work/trl.yaml"
    json 'd["method"] == "cpo"'
    printf 'beta: 0.1\npadding_value: 0\n' >"$work/trl.yaml"
    run 0 config import "$work/trl.yaml" --method orpo
    json 'd["method"] == "orpo" and d["beta"] == 0.1'
    printf 'undesirable_weight: 1.5\nlearning_rate: 1e-6\n' >"$work/trl.yaml"
    run 0 config import "$work/trl.yaml"
    json 'd["method"] == "kto" and d["undesirable_weight"] == 1.5'
    printf 'center_rewards_coefficient: 0.01\nmax_length: 512\n' >"$work/trl.yaml"
    run 0 config import "$work/trl.yaml"
    json 'd["method"] == "reward" and d["center_rewards_coefficient"] == 0.01 and d["reward_token"] == "last_not_pad"'
    printf 'num_generations: 4\nbeta: 0.04\nmax_completion_length: 64\nmax_new_tokens: 64\n' >"$work/trl.yaml"
    run 0 config import "$work/trl.yaml"
    json 'd["method"] == "grpo" and d["num_generations"] == 4 and d["max_completion_length"] == 64'
    says err '^method grpo: num_generations says so'
    run 0 config import "$work/trl.yaml" --method dpo
    json '"max_completion_length" not in d and "num_generations" not in d'
    says err '^max_new_tokens: left out, dpo does not read max_completion_length'
    printf 'epsilon: 0.2\n' >"$work/trl.yaml" # whose key it is cannot be told
    run 0 config import "$work/trl.yaml"
    json 'd["epsilon"] == 0.2 and "method" not in d'
    echo 'bteaa: 1' >"$work/trl.yaml"
    run 2 config import "$work/trl.yaml" --method dpo
    says err 'unknown key bteaa'
}

bench_names_the_biggest() {
    run 0 bench "$golden/dpo_sigmoid/config.json" --steps 1
    says err '^bench    1 step like the training.s 6, after one that is not timed$'
    says out '^1 step of 4 rows: '
    run 0 bench "$golden/dpo_sigmoid/config.json" --steps 1 --json
    json 'd["biggest"] == d["kernels"][0]["kernel"] and abs(sum(k["share"] for k in d["kernels"]) - 1) < 1e-6'
    json 'all(a["time_s"] >= b["time_s"] for a, b in zip(d["kernels"], d["kernels"][1:]))'
    run 0 sft "$golden/sft_messages/config.json" --output_dir "$work/profile" --profile
    says err '^biggest: '
    says err '^in it: training steps; `attune bench` times steps alone$'
    run 0 dpo "$golden/dpo_sigmoid/config.json" --eval_dataset "$golden/data/pairs.jsonl" --max_steps 1 \
        --output_dir "$work/profile_dpo" --profile
    says err '^in it: training steps, all evaluations .of 24 held-out rows., passes of the reference over rows of these; '
    run 0 dpo "$golden/dpo_other/config.json" --max_steps 1 --output_dir "$work/profile_other" --profile
    says err '^in it: training steps; not in it: passes of ref_model_name_or_path before the first step; '
    local code=0
    timeout --foreground --preserve-status --kill-after=300 3 "$attune" bench "$golden/dpo_sigmoid/config.json" \
        --steps 100000 >"$work/out" 2>"$work/err" || code=$?
    [ "$code" = 143 ] || fail "bench terminated: exit code $code"
    says err '^attune: error: stopped by a signal after'
}

# A reward model is trained, gives the rewards it had at the end, goes on from its files, and is refused
# where a language model is needed; so is a language model's adapter where a reward model is.
reward_models_are_no_language_models() {
    local keys=(--output_dir "$work/reward" --preset balanced --max_steps 4 --learning_rate 0.01 --max_length 64)
    local full=("${keys[@]}" --output_dir "$work/reward_full")
    run 0 reward "$golden/reward/config.json" "${keys[@]}"
    says err 'chosen rewarded higher'
    says err 'attune score CONFIG --method reward'
    cp "$work/reward/result.json" "$work/out"
    json 'd["eval_accuracy"]["after"]["n"] == 5 and "before" in d["eval_margin"] and "eval_logps/chosen" not in d'
    run 0 score "$golden/reward/config.json" --adapter_name_or_path "$work/reward" --preset balanced \
        --eval_split 0 --max_length 64 --train_dataset "$work/reward/split_eval.jsonl" --json
    python3 - "$work/out" "$work/reward" <<'PY' || fail "score: not the rewards of the last evaluation"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
best = json.load(open(sys.argv[2] + "/result.json"))["best_step"]
pairs = [json.loads(line) for line in open(sys.argv[2] + "/pairs.jsonl")]
pairs = [p for p in pairs if p["step"] == best]
got = [(r["chosen"]["reward"], r["rejected"]["reward"]) for r in rows]
sys.exit(not pairs or got != [(p["chosen_reward"], p["rejected_reward"]) for p in pairs])
PY
    run 0 score "$golden/reward/config.json" --adapter_name_or_path "$work/reward"
    says out 'chosen +rejected'
    run 0 score "$golden/reward/config.json" --adapter_name_or_path "$golden/dpo_sigmoid/init_adapter" \
        --adapter_start stack
    says err 'warning: the value head is random'
    run 0 score "$golden/reward/config.json" --adapter_name_or_path "$work/reward" --json \
        --train_dataset "$golden/data/sft_prompt_completion.jsonl" --max_length 64
    json 'len(lines) == 16 and all(list(line["completion"]) == ["reward"] for line in lines)'
    run 0 data show "$golden/reward/config.json" --json --n 16 --max_length 64 \
        --train_dataset "$golden/data/sft_prompt_completion.jsonl"
    json 'len(lines) == 16 and all(sum(line["completion"]["completion_mask"]) == 1 for line in lines)'
    run 65 reward "$golden/reward/config.json" --train_dataset "$golden/data/sft_prompt_completion.jsonl" \
        --output_dir "$work/never"
    says err 'the key "chosen" is missing'
    run 65 reward "$golden/reward/config.json" --adapter_name_or_path "$golden/dpo_sigmoid/init_adapter" \
        --output_dir "$work/never"
    says err 'holds no base_model.model.score.weight: it is not the adapter of a reward model'
    run 65 dpo "$golden/dpo_sigmoid/config.json" --adapter_name_or_path "$work/reward" --output_dir "$work/never"
    says err 'the adapter of a reward model'
    run 65 generate "$golden/models/tiny_llama" --adapter "$work/reward" --prompt hi
    says err 'the adapter of a reward model'
    run 0 reward "$golden/reward_full/config.json" "${full[@]}"
    run 65 generate "$work/reward_full" --prompt hi
    says err 'is a reward model'
    run 65 sft "$golden/sft_full/config.json" --model_name_or_path "$work/reward_full" --output_dir "$work/never"
    says err 'is a reward model'
    run 2 reward "$golden/reward/config.json" --beta 0.1 --output_dir "$work/never"
    says err 'beta is not read by reward'
    run 2 reward "$golden/reward/config.json" --loss_type sigmoid --output_dir "$work/never"
    says err 'does not fit reward, which takes bradley_terry'
    cat >"$work/judge.json" <<EOF
{"output_dir": "judge", "model_name_or_path": "$golden/models/tiny_llama", "train_dataset": "$golden/data/pairs.jsonl",
 "stages": [{"name": "one", "method": "reward"}, {"name": "two", "method": "dpo"}]}
EOF
    run 2 run "$work/judge.json" --dry_run
    says err 'stage two: .*the reward model of stage one'
}

kto_takes_labels_and_pairs() {
    local keys=(--method kto --model_name_or_path "$golden/models/tiny_llama" --eval_split 0)
    local labelled="$golden/data/labelled.jsonl"
    run 0 score "${keys[@]}" --train_dataset "$golden/data/pairs.jsonl" --json
    json '[(line["row"], line["label"]) for line in lines] == [(i // 2, i % 2 == 0) for i in range(48)]'
    run 0 score "${keys[@]}" --train_dataset "$labelled"
    says out '^ +2 +not desirable '
    grep -q 'pull' "$work/err" && fail "score judges the balance of a data set that it does not train on"
    run 0 data show "${keys[@]}" --train_dataset "$labelled" --n 2
    says out '^line 2, not desirable'
    run 0 plan "${keys[@]}" --train_dataset "$labelled" --output_dir "$work/never"
    says err '14 rows are desirable and 6 are not.* pull 2.33 times as hard.* desirable_weight 0.49 does that'
    run 0 plan "${keys[@]}" --train_dataset "$labelled" --output_dir "$work/never" --desirable_weight 0.49
    grep -q 'pull' "$work/err" && fail "what is advised is warned of"
    run 0 plan "${keys[@]}" --train_dataset "$labelled" --output_dir "$work/never" --undesirable_weight 0
    says err 'undesirable_weight is 0: the 6 undesirable rows count for nothing'
    sed -n 2p "$labelled" >"$work/one.jsonl"
    run 0 kto "${keys[@]}" --train_dataset "$labelled" --eval_dataset "$work/one.jsonl" --max_steps 1 \
        --output_dir "$work/kto"
    says err '1 held-out rows'
    run 65 kto "${keys[@]}" --train_dataset "$work/one.jsonl" --output_dir "$work/never"
    says err 'there is only one'
}

warnings_are_counted() {
    run 0 plan "$golden/dpo_sigmoid/config.json" --bf16 --push_to_hub
    says err '^attune: warning: --bf16 has no effect because'
    says err '^attune: [0-9]+ warnings$'
}

key_reference_is_current() {
    run 0 config keys --markdown
    cmp -s "$work/out" "$source_dir/configs/README.md" ||
        fail "configs/README.md: make it again with: attune config keys --markdown"
}

run_files_are_read() {
    run 2 run "$source_dir/configs/tone.json" --dry_run --output_dir "$work/none"
    says err 'stage sft: model_name_or_path is missing'
    for file in "$source_dir"/configs/*.json; do
        if grep -q '"stages"' "$file"; then
            run 0 run "$file" --dry_run --model_name_or_path "$golden/models/tiny_llama" \
                --output_dir "$work/dry"
        else
            run 66 "$(sed -n 's/.*"method": "\(.*\)".*/\1/p' "$file")" "$file" \
                --model_name_or_path "$work/none" --output_dir "$work/dry"
            says err "$work/none"
        fi
    done
}

for test in help_answers_at_once_without_a_gpu usage_errors_are_2 missing_input_is_66 bad_data_is_65 \
    data_of_another_method_is_named a_base_elsewhere_is_named \
    no_device_is_69 unwritable_output_is_73 devices_and_inspect_print_json \
    inspect_prints_foreign_text_plainly tokenize_goes_there_and_back data_show_equals_trl plan_counts_rows_and_bytes an_empty_list_holds_out_nothing packed_rows_are_shown \
    training_tells_what_it_did generate_is_reproducible pipeline_resumes_and_never_overwrites \
    pipeline_checks_all_stages_first pipeline_checks_what_is_not_there_yet pipeline_refuses_judges_that_cannot_judge pipeline_sees_changed_files_and_shared_keys \
    keys_without_effect_are_told interrupt_is_130_and_keeps_the_state config_import_lists_what_changed bench_names_the_biggest \
    reward_models_are_no_language_models kto_takes_labels_and_pairs warnings_are_counted key_reference_is_current run_files_are_read; do
    [ -z "${3-}" ] || [ "$3" = "$test" ] || continue
    before=$failures
    $test
    [ "$failures" = "$before" ] && echo "ok   $test"
done
echo "$checks commands, $failures failures"
[ "$failures" = 0 ]
