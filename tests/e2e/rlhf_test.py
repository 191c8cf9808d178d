#!/usr/bin/env python3
"""configs/rlhf.json on a tiny model and few rows: rlhf_test.py SOURCE_DIR BUILD_DIR

SFT, DPO, a reward model and RLOO over the SFT, RLHF compared with DPO on the same held-out prompts, by two judges, a report: in one file, whose
stages name each other; called again, nothing is done again, and of a stage that was removed it and what started from it.
"""
import json
import pathlib
import shutil
import tempfile

import harness
from harness import GOLDEN, SOURCE, check, finish


def chat(prompt, **sides):
    return {"prompt": [{"role": "user", "content": prompt}], **{side: [{"role": "assistant", "content": text}]
                                                                for side, text in sides.items()}}


def main():
    config = json.loads((SOURCE / "configs" / "rlhf.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        train = [chat(text, chosen="it is here , kind", rejected="a a a") for text in ("hi", "where is it", "may i", "once more", "you", "here")]
        held = [chat(text, chosen="you are kind", rejected="it") for text in ("is it", "where", "kind", "more")]
        files = {"sft_train.jsonl": [{"messages": row["prompt"] + row["chosen"]} for row in train + held], "tone_train.jsonl": train,
                 "tone_eval.jsonl": held}
        for file, rows in files.items():
            (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        for stage in config["stages"]:
            for key in ("train_dataset", "eval_dataset"):
                if key in stage:
                    stage[key] = pathlib.Path(stage[key]).name
            if stage["name"] == "compare":
                stage.update(n_replies=4, max_new_tokens=4)
            if stage["method"] == "rloo":
                stage.update(max_completion_length=6, per_device_train_batch_size=8, eval_steps=1)
        pipeline, out = folder / "rlhf.json", folder / "out"

        def run(*flags, **changes):
            pipeline.write_text(json.dumps({**config, **changes}))
            return harness.run("run", pipeline, "--model_name_or_path", GOLDEN / "models" / "tiny_llama", "--output_dir", out,
                               "--max_steps", 2, "--lora_r", 4, "--save_strategy", "no", *flags, code=None)

        def read(path):
            return json.loads((out / path).read_text()) if (out / path).exists() else {}

        first = run()
        if first.returncode not in (0, 1, 3):
            check("the pipeline runs", False, first.stderr)
            finish()
        accuracy = read("reward/result.json").get("eval_accuracy", {}).get("after", {})
        check("the reward model's held-out accuracy has an interval", accuracy.get("n") == 4
              and accuracy["low"] <= accuracy["value"] <= accuracy["high"] and accuracy["low"] < accuracy["high"] and "chosen rewarded higher [95 %]" in first.stderr,
              (read("reward/result.json"), first.stderr))
        record, reward = (read(f"{stage}/run.json") for stage in ("rloo", "reward"))
        start = str(out / "sft")
        check("reward model and RLOO start from the SFT, and RLOO has that reward model",
              [part.get("config", {}).get("adapter_name_or_path", {}).get("value") for part in (record, reward)] == [start, start]
              and "reward/reward" in record["digests"], (record.get("config"), record.get("digests")))
        rows = [json.loads(line) for line in (out / "rloo" / "metrics.jsonl").read_text().splitlines()]
        check("rewards of the reward model, and held-out pairs, in every line", len(rows) == 2 and all(
              "rewards/reward/mean" in row and "eval_logps/accuracies" in row for row in rows), rows)
        compared, page = read("rloo/compare.json"), (out / "rloo" / "report.html").read_text()
        check("RLHF is compared with DPO on the held-out pairs, in the report: not by the reward that it trained on alone",
              compared.get("judge") == "logp" and "dpo" in json.dumps(compared) and f"{out / 'dpo'}" in page, compared)
        check("the verdict of the reward model stands beside it, there, too", (out / "compare" / "compare.jsonl").exists()
              and "wins" in read("compare/stage.json").get("said", "") and [one["judge"] for one in compared.get("others", [])] == ["reward"]
              and "judged by reward" in page and "judged by logp" in page, (read("compare/stage.json"), compared))
        again = run()
        check("nothing is done again", again.returncode == first.returncode and again.stderr.count("finished earlier, skipped") == 6
              and "step 1/2" not in again.stderr, again.stderr)
        shutil.rmtree(out / "reward")
        again = run("--dry_run")
        check("of a stage that was removed what it was made with is refused", again.returncode == 73
              and "rloo holds stage rloo with other inputs" in again.stderr, again.stderr)
        for what, key, value, says in (("a stage that is not there", "adapter_name_or_path", "stage:stf", "no stage before this one is called stf"),
                                       ("one that comes later", "reward_funcs", ["max_words:3", "stage:compare"], "is called compare")):
            stages = [{**stage, key: value} if stage["name"] == "rloo" else stage for stage in config["stages"]]
            again = run("--dry_run", stages=stages)
            check(f"refused: {what}", again.returncode == 2 and says in again.stderr and "stage rloo" in again.stderr, again.stderr)
    finish()


if __name__ == "__main__":
    main()
