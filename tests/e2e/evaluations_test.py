#!/usr/bin/env python3
"""What evaluations are told of while and after they run: evaluations_test.py SOURCE_DIR BUILD_DIR

The time that is left has the evaluations that are left, at the time that those before took. Where stderr is no terminal an
evaluation that takes long tells how far it is, and its end how long it took.
"""
# labels: gpu
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

SOURCE, BUILD = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
ATTUNE, GOLDEN = BUILD / "attune", SOURCE / "tests" / "golden"
DATA, MODELS = GOLDEN / "data", GOLDEN / "models"
PAIRS = DATA / "pairs.jsonl"
LORA = ("--use_peft", "true", "--lora_target_modules", "all-linear", "--lora_dropout", 0)
os.environ["ATTUNE_VALIDATE"] = "0"  # every pass here is made elsewhere with it
failures = 0


def check(what, good, more=""):
    global failures
    print(f"{'ok  ' if good else 'FAIL'} {what}{'' if good else ' ' + str(more)[-1200:]}")
    failures += not good


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def keys_of(*more):
    return ("--preset", "trl", "--model_name_or_path", MODELS / "tiny_llama", "--train_dataset", PAIRS,
            "--per_device_train_batch_size", 4, "--on_bad_row", "keep", "--save_strategy", "no", *LORA, *more)


def told_of(work):
    """A training that is held up in its first evaluation: what a file has of it, and what time is left."""
    rows, out, err = work / "many.jsonl", work / "told", work / "told.err"
    rows.write_text(PAIRS.read_text() * 4)
    with err.open("w") as file:
        run = subprocess.Popen([ATTUNE, "dpo", *map(str, keys_of("--eval_dataset", rows, "--max_steps", 3, "--eval_strategy",
                                "steps", "--eval_steps", 2, "--output_dir", out))], stdout=subprocess.DEVNULL, stderr=file)
        end = time.monotonic() + 60
        while run.poll() is None and time.monotonic() < end and not (out / "metrics.jsonl").exists():
            time.sleep(0.01)
        for _ in range(3):
            if run.poll() is None and " of 96 held-out rows" not in err.read_text():
                time.sleep(0.1)
                run.send_signal(signal.SIGSTOP)
                time.sleep(5.1)
                run.send_signal(signal.SIGCONT)
        check("it ends well", run.wait(timeout=300) == 0, err.read_text())
    said = err.read_text()
    check("an evaluation that takes long says how far it is", re.search(r"^eval at step 0  \d+ of 96 held-out rows$", said, re.M), said)
    took = [float(s) for s in re.findall(r"^eval at step \d  96 held-out rows .*  in (\d+\.\d) s$", said, re.M)]
    left = [line["eta_s"] for line in lines(out / "timing.jsonl")]
    check("each says what it took", len(took) == 3 and took[0] > 5, (took, said))
    if len(took) != 3 or len(left) != 3:
        return
    check(f"the time left before the last one is theirs: {left[2]:.1f} s", abs(left[2] - (took[0] + took[1]) / 2) < 0.1, (left, took))
    check(f"the first one's has two: {left[0]:.1f} s", left[0] > 2 * took[0] - 0.2, (left, took))
    check("and so has the line", not re.search(r"step 3/3 .* ETA 0\.0 s$", said, re.M) and "step 3/3 " in said, said)


with tempfile.TemporaryDirectory() as place:
    work = pathlib.Path(place)
    told_of(work)
print(f"{failures} failures")
sys.exit(failures > 0)
