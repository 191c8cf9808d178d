#!/bin/sh
# Runs the GPU tests on unlike devices that need no hardware and prints one table.
#   sh tests/devices.sh            every device
#   sh tests/devices.sh NAME ...   llvmpipe, llvmpipe-128, llvmpipe-256, llvmpipe-512, llvmpipe-forky,
#                                  swiftshader
# llvmpipe is as `attune` opens it; the numbers are its vectors' bits: subgroups of 4, 8 and 16 lanes,
# each with kernels of its own. SwiftShader is a second compiler and scheduler with
# subgroups of 4 and without 16-bit types; Debian has it in the package chromium-common, of which two
# files are kept in ~/.cache/attune/swiftshader (ATTUNE_SWIFTSHADER: another folder with them).
# llvmpipe-forky is Debian testing's, which has matrix units of 8 x 8 x 8 (tests/forky.sh): what the tests
# of halves and of attention compute there comes from the kernels for such units.
# The dev preset must be built (sh tests/run.sh). Its validation layer is on: a message fails the test.
# Ends with one line: N passed, N failed, N skipped.
set -eu
cd "$(dirname "$0")/.."
build=.build/${ATTUNE_PRESET:-dev}
swiftshader=${ATTUNE_SWIFTSHADER:-$HOME/.cache/attune/swiftshader}
table=$build/devices.txt
passed=0 failed=0 skipped=0

skip() {
    printf '%-14s %s\n' "$1" "skipped: $2" >>"$table"
    skipped=$((skipped + 1))
}

fetch_swiftshader() {
    [ -f "$swiftshader/libvk_swiftshader.so" ] && return 0
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    part=$swiftshader/part
    rm -rf "$part"
    mkdir -p "$part"
    echo "devices: fetching SwiftShader (package chromium-common, 30 MB)"
    (cd "$part" && apt-get download -q chromium-common >/dev/null 2>&1 && dpkg -x chromium-common*.deb .) ||
        return 1
    mv "$part"/usr/lib/chromium/vk_swiftshader_icd.json "$swiftshader"/ &&
        mv "$part"/usr/lib/chromium/libvk_swiftshader.so "$swiftshader"/ || return 1
    rm -rf "$part"
}

# device NAME EXPECTED TESTS [VARIABLE=VALUE ...]: the tests (a regular expression of names) of the
# label gpu with this environment. EXPECTED must stand in what `attune devices` says of the first one.
device() {
    name=$1 expected=$2 tests=$3
    shift 3
    found=$(env "$@" "$build/attune" devices --quiet 2>&1 | head -n 2 | tr -s ' \n' ' ' || true)
    case $found in
    *$expected*) ;;
    *)
        printf '%-14s wanted "%s", the first device is: %s\n' "$name" "$expected" "$found" >>"$table"
        failed=$((failed + 1))
        return 0
        ;;
    esac
    log=$build/devices-$name.log
    rm -f "$log"
    begin=$(date +%s)
    env "$@" ctest --test-dir "$build" -j 2 -L gpu -R "$tests" --output-on-failure --output-log "$log" || true
    end=$(date +%s)
    count=$(python3 tests/summary.py "$log" | tee /dev/stderr | tail -n 1)
    read -r p _ f _ s _ <<COUNT
$count
COUNT
    [ "$((p + f))" != 0 ] || f=1 # no test ran
    printf '%-14s %6s %6s %7s %7s   %s\n' "$name" "$p" "$f" "$s" $((end - begin)) "$found" >>"$table"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# The tests of halves with Debian testing's loader, libraries and driver.
forky_device() {
    forky=$(sh tests/forky.sh 2>"$build/forky.log") || {
        skip llvmpipe-forky "$(tail -n 1 "$build/forky.log")"
        return 0
    }
    mkdir -p "$build/forky"
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$forky/attune/run" "$(pwd)/$build/attune" >"$build/forky/attune"
    chmod +x "$build/forky/attune"
    found=$(LP_NATIVE_VECTOR_WIDTH=256 "$build/forky/attune" devices --quiet 2>&1 | head -n 2 | tr -s ' \n' ' ' || true)
    begin=$(date +%s)
    p=0 f=0
    for test in parity.halves parity.peaks parity.attention e2e.halves; do
        case $test in
        parity.halves | parity.peaks) set -- "$forky/attune/run" "$build/tests/$(echo "$test" | tr . _)" ;;
        parity.attention)
            set -- ATTUNE_HALVES=1 ATTUNE_TEST_FEW=1 "$forky/attune/run" "$build/tests/parity_attention"
            ;;
        *) set -- python3 tests/e2e/halves_test.py . "$build/forky" ;;
        esac
        log=$build/devices-llvmpipe-forky-$test.log
        status=0
        # Not vectors of 512 bits: at_llvmpipe_check_width() in engine/gpu/vk.h.
        env CI=1 LP_NATIVE_VECTOR_WIDTH=256 "$@" >"$log" 2>&1 || status=$?
        if [ $status = 0 ] && grep -q "^[a-z]* by matrix units" "$log"; then
            p=$((p + 1))
        else
            f=$((f + 1))
            echo "FAIL $test on llvmpipe-forky (exit status $status, or not by matrix units):" >&2
            tail -n 20 "$log" >&2
        fi
    done
    printf '%-14s %6s %6s %7s %7s   %s\n' llvmpipe-forky $p $f 0 $(($(date +%s) - begin)) "$found" >>"$table"
    passed=$((passed + p)) failed=$((failed + f))
}

wanted() {
    case " $names " in
    "  " | *" $1 "*) return 0 ;;
    *) return 1 ;;
    esac
}

names=$*
for name in $names; do
    case $name in
    llvmpipe | llvmpipe-128 | llvmpipe-256 | llvmpipe-512 | llvmpipe-forky | swiftshader) ;;
    *) echo "tests/devices.sh: unknown device $name" >&2; exit 2 ;;
    esac
done
[ -x "$build/attune" ] || {
    echo "tests/devices.sh: $build/attune is missing; build it with sh tests/run.sh" >&2
    exit 2
}
printf '%-14s %6s %6s %7s %7s   %s\n' device passed failed skipped seconds is >"$table"
if wanted llvmpipe; then device llvmpipe "llvmpipe" .; fi
# What has kernels of its own for each number of lanes.
lanes='^(parity\.(activation|added|attention|gemm|head|linear|losses|norm|quant|rope)|golden\.(dpo_accum|sft_full)$)'
# The same beside the kernels that know no lanes, for another compiler.
others='^(parity\.(losses|model|upload|value)|golden\.dpo_dora$|e2e\.three_steps$)'
for bits in 128 256 512; do
    if ! wanted llvmpipe-$bits; then
        continue
    elif [ $bits = 512 ] && ! grep -qw avx512f /proc/cpuinfo; then
        skip llvmpipe-$bits "this processor has no AVX-512"
    else
        device llvmpipe-$bits "subgroup $((bits / 32))" "$lanes" "LP_NATIVE_VECTOR_WIDTH=$bits" ATTUNE_TEST_FEW=1
    fi
done
if wanted llvmpipe-forky; then forky_device; fi
if ! wanted swiftshader; then
    :
elif fetch_swiftshader; then
    # Without parity.attention, which takes minutes there; the goldens and e2e.three_steps compute it.
    device swiftshader "SwiftShader" "$(echo "$lanes" | sed 's/attention|//')|$others" \
        "VK_ICD_FILENAMES=$swiftshader/vk_swiftshader_icd.json" \
        "VK_DRIVER_FILES=$swiftshader/vk_swiftshader_icd.json"
elif [ -n "${CI:-}" ]; then
    printf '%-14s %s\n' swiftshader "failed: chromium-common cannot be downloaded" >>"$table"
    failed=$((failed + 1))
else
    skip swiftshader "chromium-common cannot be downloaded"
fi
cat "$table"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
