#!/usr/bin/env python3
"""A run that was killed goes on as if it had not been: resume_test.py SOURCE_DIR BUILD_DIR

Killed with SIGKILL at random instants, half of them inside a save, and resumed each time, a run ends
with the adapter, metrics and pairs of the undisturbed one, byte for byte: DPO with a fresh and with a
continued adapter, full fine-tuning, SFT, dropout over packed rows. Stopped by SIGINT and SIGTERM it saves. Checkpoints that do not
fit are refused; a disk that is full harms none. ATTUNE_KILLS: instants to kill at (default 8).
"""
# labels: slow
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import harness
from harness import ATTUNE, GOLDEN, check, finish

KILLS = int(os.environ.get("ATTUNE_KILLS", "8"))
COMPARED = ("adapter_model.safetensors", "model.safetensors", "metrics.jsonl", "pairs.jsonl", "rows.jsonl")

# logging_steps 3: the sums of a line are carried over; load_best_model_at_end: so are the best values.
BASE = {
    "model_name_or_path": str(GOLDEN / "models" / "tiny_llama"),
    "train_dataset": str(GOLDEN / "data" / "pairs.jsonl"), "preset": "trl", "use_peft": True,
    "lora_r": 4, "lora_target_modules": "all-linear", "lora_dropout": 0, "learning_rate": 0.02,
    "lr_scheduler_type": "cosine", "warmup_steps": 2, "max_steps": 10, "num_train_epochs": 3,
    "per_device_train_batch_size": 3, "logging_steps": 3, "eval_split": 0.3, "eval_strategy": "steps",
    "eval_steps": 4, "load_best_model_at_end": True, "on_bad_row": "skip", "max_length": 64,
    "save_steps": 1, "save_total_limit": 2, "seed": 3,
}
RUNS = {
    "fresh": ("dpo", {}),
    "continued": ("dpo", {"adapter_name_or_path": str(GOLDEN / "dpo_continued" / "init_adapter")}),
    "full": ("dpo", {"use_peft": False, "lora_r": None, "lora_target_modules": None, "lora_dropout": None,
                     "learning_rate": 0.002}),
    "kto": ("kto", {"train_dataset": str(GOLDEN / "data" / "labelled.jsonl"),
                    "sync_ref_model": True, "ref_model_sync_steps": 2}),
    "whole": ("dpo", {"use_dora": True, "lora_modules_to_save": ["lm_head", "embed_tokens"],
                      "disable_dropout": False, "lora_dropout": 0.1}),
    # Half of the rows an epoch, the other half in the next: which ones these are goes on, too.
    "orpo": ("orpo", {"train_dataset": [{"path": str(GOLDEN / "data" / "pairs.jsonl"), "weight": 0.5}]}),
    "dropout": ("sft", {"train_dataset": str(GOLDEN / "data" / "sft_messages.jsonl"), "lora_dropout": 0.2,
                        "packing": True, "packing_strategy": "bfd_split", "max_length": 24}),
    "reward": ("reward", {}),
    # Every evaluation lowers the rate: none is better by all of its loss.
    "sft": ("sft", {"train_dataset": str(GOLDEN / "data" / "sft_messages.jsonl"), "warmup_steps": 0,
                    "lr_scheduler_type": "reduce_lr_on_plateau",
                    "lr_scheduler_kwargs": {"patience": 0, "threshold": 1, "factor": 0.5}}),
}


class Run:
    def __init__(self, folder, name):
        self.method, keys = RUNS[name]
        self.config = folder / f"{name}.json"
        config = {k: v for k, v in {**BASE, **keys}.items() if v is not None}
        self.config.write_text(json.dumps(config))

    def command(self, out, more):
        return [self.method, self.config, "--output_dir", out, *map(str, more)]

    def whole(self, out, *more, limit=None):
        def limits():
            if limit:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return harness.run(*self.command(out, more), code=None, preexec_fn=limits)

    def start(self, out, *more):
        return subprocess.Popen([ATTUNE, *self.command(out, more)], stderr=subprocess.PIPE, text=True)


def result(out):
    return {name: (out / name).read_bytes() for name in COMPARED if (out / name).exists()}


def newest(out):
    steps = [int(p.name[11:]) for p in out.glob("checkpoint-*") if p.name[11:].isdigit()]
    return max(steps, default=0)


def wait_for(process, condition, seconds=600):
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end and not condition():
        time.sleep(0.0005)


def kill_somewhere(process, out, seconds):
    """After a random time, or a random moment after a save has begun."""
    if random.random() < 0.5:
        time.sleep(random.uniform(0, seconds))
        wait_for(process, lambda: any(out.glob("*.partial")))
        time.sleep(random.uniform(0, 0.01))
    else:
        time.sleep(random.uniform(0, seconds))
    process.kill()
    process.communicate()


def has_finished(out):
    """Killed when all was written, on the way out."""
    file = out / "result.json"
    return file.exists() and json.loads(file.read_text())["complete"]


def killed_and_resumed(folder, name, kills):
    run, out = Run(folder, name), folder / f"{name}_killed"
    begin = time.monotonic()
    got = run.whole(folder / name)
    seconds = time.monotonic() - begin
    check(f"{name}: the undisturbed run", got.returncode == 0, got.stderr)
    done, in_save, chains = 0, 0, 0
    while done < kills:
        shutil.rmtree(out, ignore_errors=True)
        chains += 1
        finished = False
        while done < kills:
            process = run.start(out, "--resume_from_checkpoint", "true", "--quiet")
            kill_somewhere(process, out, seconds)
            finished = process.returncode == 0 or has_finished(out)
            if finished:
                break
            if process.returncode != -signal.SIGKILL:
                check(f"{name}: resumed after {done} kills", False, run.whole(out, "--resume_from_checkpoint", "true").stderr)
                return
            done += 1
            in_save += any(out.glob("*.partial"))
        got = None if finished else run.whole(out, "--resume_from_checkpoint", "true")
        same = result(out) == result(folder / name)
        if (got and got.returncode != 0) or not same:
            check(f"{name}: after {done} kills the files are those of the undisturbed run", False,
                  (got.stderr if got else "") + str([k for k in result(out) if result(out)[k] != result(folder / name).get(k)]))
            return
    check(f"{name}: killed at {done} instants ({in_save} inside a save) in {chains} runs, same bytes", True)
    left = sorted(p.name for p in out.glob("checkpoint-*"))
    check(f"{name}: of the checkpoints the newest two are left", left == ["checkpoint-8", "checkpoint-9"], left)


def reference_that_moves(folder):
    """A checkpoint behind several syncs has the reference: with that of step 0 the next loss would be another."""
    run, out = Run(folder, "kto"), folder / "moved"
    shutil.copytree(folder / "kto", out)
    for left in ("result.json", "run.json"):
        (out / left).unlink()
    got = run.whole(out, "--resume_from_checkpoint", out / "checkpoint-8")
    check("sync_ref_model: from behind the fourth sync on the files are those of the undisturbed run",
          got.returncode == 0 and result(out) == result(folder / "kto"), got.stderr)


def stopped_by_signals(folder):
    run, out = Run(folder, "fresh"), folder / "stopped"
    for number, code, at in ((signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 5)):
        process = run.start(out, "--resume_from_checkpoint", "true", "--save_steps", "1000")
        wait_for(process, lambda: (out / "timing.jsonl").exists() and
                 len((out / "timing.jsonl").read_text().splitlines()) >= at)
        process.send_signal(number)
        errors = process.communicate()[1]
        check(f"{number.name}: exit code {code}, the step is saved",
              process.returncode == code and newest(out) >= at, errors)
        check(f"{number.name}: the message says how to go on",
              "--resume_from_checkpoint true" in errors.splitlines()[-1], errors)
    got = run.whole(out, "--resume_from_checkpoint", "true")
    check("after both signals the files are those of the undisturbed run",
          got.returncode == 0 and result(out) == result(folder / "fresh"), got.stderr)


def pipeline(folder):
    """The stage that was killed goes on, the one before it is skipped."""
    stages = [{"name": "one", "method": "sft", "train_dataset": str(GOLDEN / "data" / "sft_messages.jsonl")},
              {"name": "two", "method": "dpo"}]
    file = folder / "pipeline.json"
    file.write_text(json.dumps({**BASE, "stages": stages}))
    command = ["run", file, "--output_dir"]
    got = harness.run(*command, folder / "pipeline", code=None)
    check("pipeline: the undisturbed run", got.returncode == 0, got.stderr)
    out = folder / "pipeline_killed"
    process = subprocess.Popen([ATTUNE, *command, out], stderr=subprocess.DEVNULL)
    wait_for(process, lambda: newest(out / "two") >= 4)
    process.kill()
    process.wait()
    got = harness.run(*command, out, code=None)
    check("pipeline: the first stage is skipped, the second goes on, same bytes",
          got.returncode == 0 and "skipped" in got.stderr and "goes on  from" in got.stderr and
          all(result(out / k) == result(folder / "pipeline" / k) for k in ("one", "two")), got.stderr)


def refused(folder):
    run, out = Run(folder, "fresh"), folder / "refused"
    shutil.copytree(folder / "fresh", out)
    (out / "run.json").unlink()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def case(what, code, text, *more):
        got = run.whole(out, "--resume_from_checkpoint", *more)
        last = got.stderr.splitlines()[-1] if got.stderr else ""
        check(f"{what}: {code}", got.returncode == code and text in last, got.stderr)

    case("another learning rate", 2, "learning_rate 0.02", "true", "--learning_rate", "0.01")
    case("other data", 77, "train_dataset", "true", "--train_dataset", GOLDEN / "data" / "pairs_plain.jsonl")
    case("another model", 77, "model", "true", "--model_name_or_path", folder / "full")
    case("no such folder", 66, "nosuch", "nosuch")
    case("a checkpoint of another folder", 2, "is not in output_dir", folder / "fresh" / "checkpoint-9")
    case("a parent adapter that it did not have", 77, "parent_adapter", "true", "--adapter_name_or_path",
         GOLDEN / "dpo_continued" / "init_adapter")
    check("refusals leave the folder as it was",
          before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()})
    for name, change in (("optimizer.bin", lambda b: b[:-4]), ("trainer_state.json", lambda b: b.replace(b"step", b"stop")),
                         ("adapter_model.safetensors", None)):
        file = out / "checkpoint-9" / name
        whole = file.read_bytes()
        if change:
            file.write_bytes(change(whole))
        else:
            file.unlink()
        case(f"{name} damaged", 77, name, "true")
        file.write_bytes(whole)
    (out / "checkpoint-9" / "manifest.json").write_text('{"format_version": 99}')
    case("a checkpoint of another version", 65, "format version 99", "true")
    (out / "checkpoint-3.partial").mkdir()
    process = run.start(out, "--resume_from_checkpoint", out / "checkpoint-8", "--save_steps", "1000", "--quiet")
    def left():
        return sorted(p.name for p in out.glob("checkpoint-*"))

    wait_for(process, lambda: left() == ["checkpoint-8"])
    process.kill()
    process.communicate()
    check("from an older checkpoint, named: later ones and remnants are gone", left() == ["checkpoint-8"], left())
    got = run.whole(out, "--resume_from_checkpoint", "true")
    check("killed then, it goes on from there to the same bytes",
          got.returncode == 0 and result(out) == result(folder / "fresh"), got.stderr)
    for more in ((), ("--resume_from_checkpoint", "true")):
        got = run.whole(folder / "fresh", *more)
        check(f"a finished run is not overwritten: 73 {' '.join(more)}",
              got.returncode == 73 and ("overwritten" in got.stderr or "finished" in got.stderr), got.stderr)


def full_disk(folder):
    """An adapter is below the limit, the arrays of a checkpoint are not."""
    run, out = Run(folder, "fresh"), folder / "disk"
    got = run.whole(out, "--max_steps", "10", limit=60000)
    if got.returncode == -signal.SIGBUS:
        print("not tried: a full disk (this driver keeps device memory in files, which the limit hits)")
        return
    check("a disk that is full at the first save: 73, named",
          got.returncode == 73 and "checkpoint" in got.stderr.splitlines()[-1] and newest(out) == 0, got.stderr)
    process = run.start(out, "--resume_from_checkpoint", "true")
    wait_for(process, lambda: newest(out) >= 3)
    process.send_signal(signal.SIGINT)
    process.communicate()
    kept = newest(out)
    got = run.whole(out, "--resume_from_checkpoint", "true", limit=60000)
    check("a disk that fills up later: 73, the last checkpoint is there",
          got.returncode == 73 and newest(out) == kept >= 3, got.stderr)
    got = run.whole(out, "--resume_from_checkpoint", "true")
    check("with room again the files are those of the undisturbed run",
          got.returncode == 0 and result(out) == result(folder / "fresh"), got.stderr)


def main():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in RUNS:
            killed_and_resumed(folder, name, -(-KILLS // len(RUNS)))
        reference_that_moves(folder)
        stopped_by_signals(folder)
        pipeline(folder)
        refused(folder)
        full_disk(folder)
    finish()


if __name__ == "__main__":
    main()
