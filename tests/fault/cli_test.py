#!/usr/bin/env python3
"""Bad input ends with one clear line and the right exit code, and nothing is lost:
cli_test.py SOURCE_DIR BUILD_DIR [NAME ...]

Each fault is made in a copy of a tiny golden model or of its data; the run must exit with the code, its
last line must be `attune: error: ...` and match the pattern, and no adapter may have been written.
What the readers refuse in detail is tested in tests/unit; here is what a user sees of it.
"""
import json
import pathlib
import resource
import shutil
import signal
import struct
import sys
import tempfile
import re

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness  # noqa: E402
from harness import GOLDEN, SOURCE, check, finish  # noqa: E402

GGUF_SEEDS = SOURCE / "tests" / "fuzz" / "corpus" / "gguf"


class Case:
    """A folder with a model and data that work, to be broken; `run` trains."""

    def __init__(self, folder):
        self.folder, self.model, self.out = folder, folder / "model", folder / "out"
        shutil.copytree(GOLDEN / "models" / "tiny_llama", self.model)
        self.data = folder / "pairs.jsonl"
        rows = [json.loads(line) for line in (GOLDEN / "data" / "pairs.jsonl").read_text().splitlines()]
        self.rows = [row for row in rows if row["chosen"] != row["rejected"]][:8]
        self.write_rows(self.rows)

    def write_rows(self, rows):
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def config(self, **changes):
        path = self.model / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def shard(self, n):
        return self.model / f"model-0000{n}-of-00003.safetensors"

    def run(self, *more, command="dpo", limit=None):
        def limits():
            if limit:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        keys = ["--method", "dpo", "--model_name_or_path", self.model, "--train_dataset", self.data,
                "--output_dir", self.out, "--preset", "trl", "--use_peft", "true", "--lora_dropout", "0",
                "--lora_r", "4", "--per_device_train_batch_size", "4", "--learning_rate", "0.01",
                "--on_bad_row", "error", "--on_long_row", "error"] if command == "dpo" else []
        return harness.run(command, *keys, *more, code=None, preexec_fn=limits)


def poison(path, name, value, place=0):
    """Sets one value of an F32 tensor, the first or another."""
    data = bytearray(path.read_bytes())
    n = struct.unpack("<Q", data[:8])[0]
    begin = json.loads(data[8:8 + n])[name]["data_offsets"][0] + 4 * place
    data[8 + n + begin:8 + n + begin + 4] = struct.pack("<f", value)
    path.write_bytes(data)


def truncate(path, n):
    path.write_bytes(path.read_bytes()[:n])


def header(path, change):
    """Changes the text of a safetensors header, keeping its length."""
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    text = change(data[8:8 + n].decode())
    path.write_bytes(data[:8] + text.encode().ljust(n)[:n] + data[8 + n:])


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def adapter(case, change):
    """A PEFT folder that fits the model, then broken."""
    folder = case.folder / "adapter"
    shutil.copytree(GOLDEN / "dpo_continued" / "init_adapter", folder)
    change(folder)


def adapter_rank(folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "r": 5}))


# name -> (exit code, pattern of the error, how to break the case, arguments, where {folder} is the case's); sorted
def faults():
    yield "a row is not JSON", 65, r"pairs\.jsonl:9:\d+", \
        lambda c: c.data.write_text(c.data.read_text() + '{"prompt": "a", \n'), ()
    yield "a row is not UTF-8", 65, r"pairs\.jsonl:1:\d+.*UTF-8", \
        lambda c: c.data.write_bytes(b'{"prompt": "\xff\xfe"}\n'), ()
    yield "a shard is cut", 65, r"model-00002.*safetensors", lambda c: truncate(c.shard(2), 3000), ()
    yield "a shard is missing", 66, r"model-00002-of-00003\.safetensors", lambda c: c.shard(2).unlink(), ()
    yield "a tensor past the end", 65, r"model-00001.*", \
        lambda c: header(c.shard(1), lambda t: re.sub(r'"data_offsets":\[(\d+),(\d)', r'"data_offsets":[\1,9', t, count=1)), ()
    yield "an adapter of another rank", 65, r"adapter_model\.safetensors: tensor .* expected 5 x \d+", \
        lambda c: adapter(c, adapter_rank), ("--adapter_name_or_path", "{folder}/adapter")
    yield "an adapter without weights", 66, r"adapter_model\.safetensors", \
        lambda c: adapter(c, lambda folder: (folder / "adapter_model.safetensors").unlink()), \
        ("--adapter_name_or_path", "{folder}/adapter")
    yield "an empty completion", 65, r"pairs\.jsonl:1.*(empty|no token)", \
        lambda c: c.write_rows([{"prompt": "a", "chosen": "", "rejected": "b"}] + c.rows), ()
    yield "an unknown architecture", 65, \
        r"mamba.*nearest is falcon.*refused for a value: .*; tensors that falcon has not: model\.", \
        lambda c: c.config(model_type="mamba", layer_norm_epsilon=1e-5, rms_norm_eps=None), ()
    yield "infinity in the configuration", 65, r'config\.json: "rope_theta" must be a number', \
        lambda c: c.config(rope_theta=float("inf"), time_step_limit=[0.0, float("nan")]), ()
    yield "a chat template with an unknown filter", 65, r"chat template: line 1: the filter \"pprint\"", \
        lambda c: (c.model / "chat_template.jinja").write_text("{{ messages | pprint }}"), ()
    yield "identical sides", 65, r"pairs\.jsonl:1.*same", \
        lambda c: c.write_rows([{"prompt": user("a"), "chosen": assistant("b"), "rejected": assistant("b")}]), ()
    yield "infinity in a weight", 70, r"step 1.*(line \d+|log-probs).*not finite", \
        lambda c: poison(c.shard(3), "model.norm.weight", float("inf")), ()
    yield "NaN in a weight", 70, r"step 1: the log-probs of line \d+.*not finite", \
        lambda c: poison(c.shard(3), "lm_head.weight", float("nan")), ()
    yield "NaN in a weight, rows held out", 70, r"step 0: eval_loss of the held-out rows is not finite", \
        lambda c: poison(c.shard(3), "lm_head.weight", float("nan")), ("--eval_split", "0.3", "--eval_strategy", "epoch")
    yield "no device memory", 69, r"MiB of device memory.*lower max_tokens_per_slab", lambda c: None, \
        ("--device_memory_limit", "100000")
    yield "no tokenizer", 66, r"tokenizer\.json", lambda c: (c.model / "tokenizer.json").unlink(), ()
    yield "only a pickle file", 65, r"pytorch_model\.bin", \
        lambda c: ([c.shard(n).unlink() for n in (1, 2, 3)], (c.model / "model.safetensors.index.json").unlink(),
                   (c.model / "pytorch_model.bin").write_bytes(b"\x80\x02.")), ()
    yield "the prompt fills max_length", 65, r"(max_length|dropped)", lambda c: None, \
        ("--max_length", "2", "--on_long_row", "cut")


def train_on_faults(folder, only):
    for name, code, pattern, change, arguments in faults():
        if only and name not in only:
            continue
        case = Case(folder / name.replace(" ", "_"))
        change(case)
        got = case.run(*(text.format(folder=case.folder) for text in arguments))
        lines = got.stderr.splitlines() or [""]
        good = (got.returncode == code and lines[-1].startswith("attune: error: ") and
                re.search(pattern, lines[-1]) is not None and
                sum(line.startswith("attune: error: ") for line in lines) == 1)
        check(f"{name}: {code}", good, f"exit code {got.returncode}: {lines[-1]}")
        written = case.out / "adapter_model.safetensors"
        if written.exists():
            data = written.read_bytes()
            n = struct.unpack("<Q", data[:8])[0]
            values = struct.unpack(f"<{(len(data) - 8 - n) // 4}f", data[8 + n:])
            check(f"{name}: what was written is finite", all(value - value == 0 for value in values))


def broken_gguf_files():
    for name in sorted(path.name for path in GGUF_SEEDS.iterdir()):
        if name in ("llama", "llama_head", "every_kind", "types", "alignment", "version_2", "no_data", "empty"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            shutil.copy(GGUF_SEEDS / name, path)
            got = harness.run("inspect", path, code=None)
            last = (got.stderr.splitlines() or [""])[-1]
            check(f"a GGUF file of the kind {name}: 65", got.returncode == 65 and "model.gguf" in last,
                  f"exit code {got.returncode}: {last}")


def metrics(case):
    return [json.loads(line) for line in (case.out / "metrics.jsonl").read_text().splitlines()]


def steps_that_are_not_finite(folder):
    """One row reads an embedding that is NaN: its steps are skipped, the others make their updates."""
    case = Case(folder / "skipped")
    width = json.loads((case.model / "config.json").read_text())["hidden_size"]
    rows = [{"prompt": f"say {c}", "chosen": f" {c}", "rejected": f" {c}{c}"} for c in "abcdefghijkl"]
    case.write_rows(rows[:9] + [{**rows[0], "prompt": "say ~"}] + rows[9:11])
    ids = harness.run("tokenize", "--model", case.model, "--json", "--no_special_tokens", input='"~"\n').stdout
    poison(case.shard(1), "model.embed_tokens.weight", float("nan"), json.loads(ids)[0] * width)
    settings = ("--max_steps", "9", "--train_sampling_strategy", "sequential", "--logging_steps", "1", "--save_steps", "1")
    got = case.run(*settings)
    lines = metrics(case)
    result = json.loads((case.out / "result.json").read_text())
    check("a row that is not finite: its steps are skipped, the run ends well", got.returncode == 0, got.stderr[-300:])
    check("the skipped steps name their row", [x["skipped_lines"] for x in lines if "skipped_lines" in x] == [[10]] * 3, str(lines))
    check("they are counted", result["skipped_steps"] == 3 and len(result["alarms"]) == 1, str(result))
    losses = [x.get("loss") for x in lines]
    check("they have no loss, the others have one", [x is None for x in losses] == [False, False, True] * 3, str(losses))

    case = Case(folder / "rolled_back")
    case.write_rows(rows[:8] + 3 * ([{**rows[8], "prompt": "say ~"}] + rows[9:12]))
    poison(case.shard(1), "model.embed_tokens.weight", float("nan"), json.loads(ids)[0] * width)
    got = case.run(*settings)
    last = (got.stderr.splitlines() or [""])[-1]
    result = json.loads((case.out / "result.json").read_text())
    check("three steps in a row: 75, and the checkpoint's state", got.returncode == 75 and "checkpoint-" in last and
          result["skipped_steps"] == 3 and result["steps"] == 2 and not result["complete"], last + str(result))
    written = (case.out / "adapter_model.safetensors").read_bytes()
    kept = (case.out / "checkpoint-2" / "adapter_model.safetensors").read_bytes()
    check("the adapter is the checkpoint's", written == kept)


def full_disk(folder):
    """The file system takes no more than some bytes a file: a log line, or the adapter, does not fit."""
    for limit, logging_steps in ((200, 1), (4096, 100)):
        case = Case(folder / f"disk{limit}")
        got = case.run("--max_steps", "4", "--logging_steps", logging_steps, limit=limit)
        last = (got.stderr.splitlines() or [""])[-1]
        if got.returncode == -signal.SIGBUS:
            print("not tried: a full disk (this driver keeps device memory in files, which the limit hits)")
            return
        check(f"a disk that takes {limit} bytes a file: 73",
              got.returncode == 73 and last.startswith("attune: error: "), f"exit code {got.returncode}: {last}")
        check("no half adapter was left", not (case.out / "adapter_model.safetensors").exists())
        check("no temporary file was left", not list(case.out.glob("*.tmp*")) if case.out.exists() else True)


def read_only_folder(folder):
    case = Case(folder / "proc")
    case.out = pathlib.Path("/proc/attune")
    got = case.run()
    last = (got.stderr.splitlines() or [""])[-1]
    check("a folder that cannot be made: 73", got.returncode == 73, f"exit code {got.returncode}: {last}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        train_on_faults(folder, sys.argv[3:])
        if not sys.argv[3:]:
            broken_gguf_files()
            steps_that_are_not_finite(folder)
            full_disk(folder)
            read_only_folder(folder)
    finish()


if __name__ == "__main__":
    main()
