#!/usr/bin/env python3
"""The alarm of likelihood displacement: displacement_test.py SOURCE_DIR BUILD_DIR

Planted: the head's row of the rejected token is four times the chosen one's, so that whatever lowers the
rejected reply lowers the chosen one more than it is raised ("No" beside "Never": Razin et al. 2024, arXiv
2410.08847). DPO on such pairs raises the margin, lets the chosen log-prob fall and must raise the alarm, on
the screen and in result.json, once; with an SFT term on it must not, nor on pairs whose tokens have nothing
in common. KTO's desirable replies are watched, too.
"""
# labels: slow
import array
import json
import pathlib
import tempfile

from harness import GOLDEN, check, finish, run
import tiny_model

TOKENIZER = GOLDEN / "models" / "tiny_llama"
CHOSEN, REJECTED, OTHER = "N", "V", "k"
BASE = {
    "model_name_or_path": "model", "preset": "trl", "use_peft": True, "lora_r": 4, "lora_target_modules": "all-linear",
    "train_dataset": "planted.jsonl", "eval_dataset": "planted.jsonl", "learning_rate": 0.005, "max_steps": 12,
    "per_device_train_batch_size": 8, "logging_steps": 4, "eval_strategy": "steps", "eval_steps": 4, "save_steps": 4,
    "beta": 0.1, "seed": 3,
}


def make_model(folder):
    tiny_model.plain_folder(folder / "model", TOKENIZER)
    path = folder / "model" / "model.safetensors"
    ids = json.loads((TOKENIZER / "tokenizer.json").read_text())["model"]["vocab"]
    data = bytearray(path.read_bytes())
    n = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:8 + n])["lm_head.weight"]["data_offsets"]
    head = array.array("f", data[8 + n + begin:8 + n + end])
    width = len(head) // tiny_model.VOCABULARY

    def row(token):
        return slice(ids[token] * width, (ids[token] + 1) * width)

    head[row(REJECTED)] = array.array("f", [4 * x for x in head[row(CHOSEN)]])
    data[8 + n + begin:8 + n + end] = head.tobytes()
    path.write_bytes(data)


def make_data(folder):
    def pairs(rejected):
        return "".join(json.dumps({"prompt": f"say {c}", "chosen": CHOSEN, "rejected": rejected}) + "\n"
                       for c in "abcdefgh")

    (folder / "planted.jsonl").write_text(pairs(REJECTED))
    (folder / "clean.jsonl").write_text(pairs(OTHER))


def train(folder, name, method="dpo", **keys):
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**BASE, "output_dir": name, **keys}))
    stderr = run(method, path).stderr
    evals = [json.loads(x) for x in (folder / name / "metrics.jsonl").read_text().splitlines() if "eval_loss" in x]
    return stderr, json.loads((folder / name / "result.json").read_text()), evals


def alarms(result):
    return [a for a in result["alarms"] if "likelihood displacement" in a]


def test_planted(folder):
    screen, result, evals = train(folder, "planted")
    logps = [e["eval_logps/chosen"] for e in evals]
    first = next((i for i, x in enumerate(logps) if x < 1.25 * logps[0]), 0)
    check("the margin rises while the chosen log-prob falls", evals[-1]["eval_rewards/margins"] > 0.1 and
          logps[-1] < 1.25 * logps[0] < 0, logps)
    check("result.json has the alarm, with its step and values", len(alarms(result)) == 1 and
          f"{logps[0]:.2f} to {logps[first]:.2f} at step {evals[first]['step']}" in alarms(result)[0], result)
    check("the screen warns once and shows it at the end", screen.count("attune: warning: step") == 1 and
          f"warning: step {evals[first]['step']}: the chosen log-probs" in screen and "alarm    chosen" in screen, screen)
    check("eval_drift/chosen is by the token, from the start", evals[0]["eval_drift/chosen"] == 0 and
          abs(evals[-1]["eval_drift/chosen"] - (logps[-1] - logps[0]) / 2) < 1e-9, evals[-1])
    for left in "result.json", "run.json":
        (folder / "planted" / left).unlink()
    again, resumed, _ = train(folder, "planted", resume_from_checkpoint=str(folder / "planted" / "checkpoint-8"))
    check("a run that goes on keeps the alarm and does not warn again", alarms(resumed) == alarms(result) and
          "warning: step" not in again, again)


def test_held(folder):
    for name, keys in ("anchored", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1, 1]}), \
            ("clean", {"train_dataset": "clean.jsonl", "eval_dataset": "clean.jsonl"}):
        screen, result, evals = train(folder, name, **keys)
        check(f"{name}: it learns, without an alarm", evals[-1]["eval_loss"] < evals[0]["eval_loss"] and
              not result["alarms"] and "displacement" not in screen and "alarm" not in screen, (result, screen))


def test_labelled(folder):
    rows = [{"prompt": f"say {c}", "completion": x, "label": x == CHOSEN} for c in "abcdefgh"
            for x in (CHOSEN, REJECTED)]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {"train_dataset": "labelled.jsonl", "eval_dataset": "labelled.jsonl", "undesirable_weight": 3}
    _, result, evals = train(folder, "kto", method="kto", **keys)
    check("KTO: desirable replies that fall raise it", len(alarms(result)) == 1, result)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_model(folder)
        make_data(folder)
        for test in (test_planted, test_held, test_labelled):
            test(folder)
    finish()


if __name__ == "__main__":
    main()
