#!/bin/bash
# labels: slow
# gcc -fanalyzer finds nothing in the C files of the program, each compiled as the build does.
#     analyzer_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"

if ! gcc --version >/dev/null 2>&1; then
    echo "gcc is missing"
    exit 125
fi
python3 - "$2/compile_commands.json" <<'PYTHON'
import concurrent.futures
import json
import shlex
import subprocess
import sys

# Three checkers of gcc 12 cannot tell that a count and a pointer belong together (n > 0 means not
# NULL) or that TRY left the function; clang-analyzer looks for the same and is kept.
OFF = ["null-dereference", "null-argument", "use-of-uninitialized-value"]


def analyze(entry):
    words = shlex.split(entry["command"])
    words[0] = "gcc"
    words[words.index("-o") + 1] = "/dev/null"
    words += ["-fanalyzer", "-Werror"] + [f"-Wno-analyzer-{name}" for name in OFF]
    done = subprocess.run(words, cwd=entry["directory"], text=True, capture_output=True)
    return done.stderr if done.returncode else ""


entries = [e for e in json.load(open(sys.argv[1])) if "/tests/" not in e["file"]]
if not entries:
    sys.exit("compile_commands.json names no file of the program")
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    found = [text for text in pool.map(analyze, entries) if text]
print("\n".join(found))
sys.exit(1 if found else 0)
PYTHON
