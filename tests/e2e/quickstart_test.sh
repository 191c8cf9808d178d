#!/bin/bash
# The quickstart as a newcomer types it: what it prints, its verdict over 30 held-out requests, the
# files it leaves; a second run trains and overwrites nothing. Its own build is .build/release.
#     quickstart_test.sh SOURCE_DIR BUILD_DIR
# labels: gpu;slow
set -u
script=$1/configs/quickstart.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "FAIL $*"
    failures=$((failures + 1))
}
# quickstart EXPECTED-CODE ARGUMENTS...: stdout in out.txt, stderr in err.txt, seconds in $took
quickstart() {
    local want=$1 got=0 begin=$SECONDS
    shift
    sh "$script" "$@" >out.txt 2>err.txt </dev/null || got=$?
    took=$((SECONDS - begin))
    [ "$got" = "$want" ] || fail "quickstart.sh $*: exit code $got, want $want: $(tail -n 3 err.txt)"
}
# says FILE PATTERN [TIMES]: that many lines match (without TIMES: at least one)
says() {
    local n
    n=$(grep -Ec -- "$2" "$1.txt")
    if [ "$n" != "${3:-$n}" ] || [ "$n" = 0 ]; then
        fail "$1: $n lines match: $2 (want ${3:-some})"
    fi
}
# at_least COUNT NAME PATTERN: the number that PATTERN's group finds in out.txt
at_least() {
    local n
    n=$(sed -n "s/.*$3.*/\1/p" out.txt)
    [ "${n:-0}" -ge "$1" ] || fail "$2: ${n:-none} of 30, want at least $1"
}

trains_and_changes_the_tone() {
    quickstart 0 --output_dir here
    echo "first run: $took s"
    says err '^device +.*; another: --device' 2
    says err '^step [0-9]+/[0-9]+ .* tokens/s .* ETA '
    says err '^trains +1\.[0-9]+ million values'
    says out '^  request: [a-z]+ the [a-z]+ [a-z]+$' 3
    says out '^   before: [a-z ]+ \.$' 3
    says out '^    after: gladly , [a-z ]+ \.$' 3
    says out '^Verdict: the tone changed'
    at_least 24 "polite after" 'are polite .* before, *\([0-9]*\) after'
    at_least 27 "right before" 'colour and thing *\([0-9]*\) before'
    at_least 27 "right after" 'colour and thing .* before, *\([0-9]*\) after'
    at_least 27 "sentences kept" 'in front *\([0-9]*\) after'
    for file in sft/model.safetensors dpo/adapter_model.safetensors dpo/adapter_config.json \
        dpo/metrics.jsonl; do
        [ -s "here/$file" ] || fail "no $file"
    done
    says out "^Adapter: $work/here/dpo/adapter_model.safetensors .*/dpo/metrics.jsonl$"
    says out '^Next: sh configs/quickstart.sh --real$'
}

# Every word of the language is one token: 4 of the request, 8 of the template.
requests_have_a_token_a_word() {
    cp here/before.jsonl replies.txt
    says replies '"n_prompt":12,' 30
}

second_run_overwrites_nothing() {
    local before
    before=$(find here -type f -exec sha256sum {} + | sort)
    quickstart 0 --output_dir here
    says out "^$work/here holds the results of an earlier run; nothing is trained or overwritten"
    says out '^Verdict: the tone changed'
    if grep -q '^step ' err.txt; then
        fail "the second run trains"
    fi
    [ "$before" = "$(find here -type f -exec sha256sum {} + | sort)" ] || fail "files changed"
}

# Stored replies stand in for a model that did not learn.
verdict_counts_replies() {
    cp here/before.jsonl here/after.jsonl
    quickstart 1 --output_dir here
    says err '^Verdict: the tone did not change'
    says out 'are polite .* ([0-9]+) before, +\1 after$'
    says out 'in front +0 after$'
    sed 's/"text":"[^"]*"/"text":"gladly , here is the pink elephant ."/' here/before.jsonl >here/after.jsonl
    quickstart 0 --output_dir here
    says out 'are polite .* before, +30 after$'
    says out 'colour and thing .* before, +0 after$'
    says out 'in front +0 after$'
}

usage_errors_are_2() {
    quickstart 2 --nope
    says err '^quickstart.sh: unknown option --nope'
    quickstart 2 --device
    says err '^quickstart.sh: --device needs '
    quickstart 2 --output_dir
    says err '^quickstart.sh: --output_dir needs '
}

usage_errors_are_2
trains_and_changes_the_tone
requests_have_a_token_a_word
second_run_overwrites_nothing
verdict_counts_replies
[ "$failures" = 0 ] && echo "quickstart: all checks passed"
exit $((failures > 0))
