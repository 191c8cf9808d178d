#!/usr/bin/env python3
"""Lines of single rows, and losses that read no reference: rows_test.py SOURCE_DIR BUILD_DIR

rows.jsonl and pairs.jsonl at step 0 have TRL's log-probs of every row (1e-4); their means are the evaluation's
numbers. DPO whose losses read no reference computes none, trains as with one that counts for nothing, and
refuses the reference's keys. Masks that no row has are refused. TPO is CPO where its third side is the chosen one.
"""
# labels: gpu
import json
import math
import pathlib
import tempfile

import harness
from harness import GOLDEN, check, finish

DATA = {"kto": "labelled", "sft_prompt_completion": "sft_prompt_completion", "orpo": "pairs", "dpo_sigmoid": "pairs", "tpo": "triples"}


def attune(golden, out, *more, code=0):
    config = GOLDEN / golden / "config.json"
    method = json.loads(config.read_text())["method"]
    return harness.run(method, config, "--output_dir", out, "--save_strategy", "no", *more, code=code).stderr


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def mean(rows, name, weight=None):
    """Of the rows' numbers, as the evaluation has it: by rows, or by a count of theirs."""
    total = sum(row[weight] if weight else 1 for row in rows)
    return sum(row[name] * (row[weight] if weight else 1) for row in rows) / total


def near(a, b, relative=1e-5):
    return math.isclose(a, b, rel_tol=relative, abs_tol=1e-6)


def evaluated(folder, golden, *more):
    """The evaluation at step 0 and its rows' lines, of the golden's training rows held out."""
    out = folder / f"rows_{golden}"
    data = GOLDEN / "data" / f"{DATA[golden]}.jsonl"
    attune(golden, out, "--eval_dataset", data, "--max_steps", 1, *more)
    first = lines(out / "metrics.jsonl")[0]
    name = "pairs.jsonl" if (out / "pairs.jsonl").exists() else "rows.jsonl"
    rows = lines(out / name)
    check(f"{golden}: each evaluation has a line a row", [sum(r["step"] == s for r in rows) for s in (0, 1)] ==
          [first["n"]] * 2)
    return first, [row for row in rows if row["step"] == 0]


def expected(golden):
    rows = json.loads((GOLDEN / golden / "expect.json").read_text())["rows"]
    return [row for row in rows if not row.get("dropped")]


def test_rows(folder):
    first, rows = evaluated(folder, "kto")
    want = {(w["row"], w.get("label")): w["completion"] for w in expected("kto")}
    kinds = {(w["row"], w.get("label")) for w in expected("kto")}
    got = {(r["line"] - 1, r["label"] if (r["line"] - 1, r["label"]) in kinds else None): r for r in rows}
    check("kto: TRL's log-probs", set(got) == set(want) and
          all(near(got[k]["logp"], want[k]["logp"], 1e-4) and got[k]["tokens"] == want[k]["n_tokens"] for k in want),
          (got, want))
    good = [row for row in rows if row["label"]]
    check("kto: means are the evaluation's", near(mean(rows, "loss"), first["eval_loss"]) and
          near(mean(good, "reward"), first["eval_rewards/chosen"]) and near(mean(good, "logp"), first["eval_logps/chosen"]) and
          near(mean(rows, "kl"), first["eval_kl"]), first)
    last = [row for row in lines(folder / "rows_kto" / "rows.jsonl") if row["step"] == 1]
    check("kto: a reward is beta times what both log-probs differ by", any(abs(row["reward"]) > 0.01 for row in last) and
          all(math.isclose(row["reward"], 0.1 * (row["logp"] - row["ref_logp"]), abs_tol=1e-5) for row in last), last[:2])

    first, rows = evaluated(folder, "sft_prompt_completion")
    want = {w["row"]: w["completion"] for w in expected("sft_prompt_completion")}
    check("sft: TRL's log-probs", len(rows) == len(want) and all(
        near(-row["nll"] * row["tokens"], want[row["line"] - 1]["logp"], 1e-4) and
        row["tokens"] == want[row["line"] - 1]["n_tokens"] for row in rows), rows[:2])
    check("sft: means are the evaluation's", near(mean(rows, "nll", "tokens"), first["eval_loss"]) and
          near(mean(rows, "accuracy", "tokens"), first["eval_mean_token_accuracy"]) and
          near(mean(rows, "entropy", "tokens"), first["eval_entropy"]), first)

    first, rows = evaluated(folder, "orpo")
    want = {w["row"]: w for w in expected("orpo")}
    check("orpo: TRL's log-probs", len(rows) == len(want) and all(
        near(row[f"{side}_logp"], want[row["line"] - 1][side]["logp"], 1e-4) for row in rows
        for side in ("chosen", "rejected")))
    check("orpo: means are the evaluation's", near(mean(rows, "loss"), first["eval_loss"]) and
          near(mean(rows, "log_odds"), first["eval_log_odds_chosen"]) and
          near(mean(rows, "margin"), first["eval_rewards/margins"]), first)


def test_triples(folder):
    first, rows = evaluated(folder, "tpo")
    want = {w["row"]: w for w in expected("tpo")}
    check("tpo: TRL's log-probs of three sides", len(rows) == len(want) and all(
        near(row[f"{side}_logp"], want[row["line"] - 1][side]["logp"], 1e-4) and
        row[f"{side}_tokens"] == want[row["line"] - 1][side]["n_tokens"] for row in rows
        for side in ("chosen", "rejected", "reference")), rows[:2])
    check("tpo: means are the evaluation's", near(mean(rows, "loss"), first["eval_loss"]) and near(
        -sum(row["reference_logp"] for row in rows), first["eval_nll_loss"] * sum(row["reference_tokens"] for row in rows)))

    def run(golden, name, data, *more):
        out = folder / name
        attune(golden, out, "--train_dataset", data, "--max_steps", 2, "--beta", 0.1, *more)
        return lines(out / "metrics.jsonl")

    pairs, own = GOLDEN / "data" / "pairs.jsonl", folder / "own.jsonl"
    own.write_text("".join(json.dumps({**row, "reference": row["chosen"]}) + "\n" for row in lines(pairs)))
    check("tpo_alpha 0 is cpo without cross-entropy, of pairs", run("tpo", "tpo_0", pairs, "--tpo_alpha", 0) ==
          run("cpo_sigmoid", "cpo_0", pairs, "--cpo_alpha", 0, "--adapter_name_or_path", GOLDEN / "tpo" / "init_adapter"))
    both = zip(run("tpo", "tpo_own", own), run("cpo_sigmoid", "cpo_own", pairs, "--cpo_alpha", 0.7,
                                               "--adapter_name_or_path", GOLDEN / "tpo" / "init_adapter"))
    check("with the chosen side as reference it is cpo", all(
        near(a[key], b[key], 1e-4) for a, b in both for key in ("loss", "nll_loss", "grad_norm", "rewards/margins")))
    said = attune("tpo", folder / "refused", "--train_dataset", pairs, code=65)
    check("rows without a reference are refused", 'the key "reference" is missing' in said, said)
    own.write_text("".join(json.dumps({**row, "reference": [{"role": "assistant", "content": "<|im_end|>"}]}) + "\n"
                           for row in lines(pairs)[:1]))
    lint = harness.run("data", "lint", GOLDEN / "tpo" / "config.json", "--train_dataset", own)
    check("lint looks at the third side", '"reference" holds <|im_end|>' in lint.stdout, lint.stdout + lint.stderr)


def test_packed(folder):
    out = folder / "packed"
    attune("sft_prompt_completion", out, "--eval_dataset", GOLDEN / "data" / "sft_messages.jsonl", "--max_steps", 1,
           "--packing", "true", "--packing_strategy", "wrapped", "--max_length", 24)
    first, rows = lines(out / "metrics.jsonl")[0], [r for r in lines(out / "rows.jsonl") if r["step"] == 0]
    check("packed rows have lines, too", len(rows) == first["n"] and
          near(mean([r for r in rows if r["tokens"]], "nll", "tokens"), first["eval_loss"]), (len(rows), first))


def test_without_reference(folder):
    def dpo(name, *more):
        out = folder / name
        attune("dpo_sigmoid", out, "--max_steps", 4, *more)
        weights = (out / "adapter_model.safetensors").read_bytes()
        return lines(out / "metrics.jsonl"), json.loads((out / "run.json").read_text())["ref_forward_tokens"], weights

    alone = dpo("alone", "--loss_type", "sft")
    listed = dpo("listed", "--loss_type", '["sigmoid", "sft"]', "--loss_weights", "[0, 1]")
    faint = dpo("faint", "--loss_type", '["sigmoid", "sft"]', "--loss_weights", "[1e-20, 1]")
    check("no reference is computed", alone[1] == listed[1] == 0 < faint[1], (alone[1], listed[1], faint[1]))
    check("no rewards are logged", not any(key.startswith("rewards/") for line in alone[0] for key in line))
    check("with a reference they are", all("rewards/margins" in line for line in faint[0]))
    check("a list that leaves it alone is the same run", alone[0] == listed[0] and alone[2] == listed[2])
    check("it trains as beside a loss that counts for nothing",
          all(near(a["loss"], f["loss"]) and near(a["grad_norm"], f["grad_norm"]) for a, f in zip(alone[0], faint[0])))
    first, rows = evaluated(folder, "dpo_sigmoid", "--loss_type", "sft")
    check("evaluations have no rewards either", not any("rewards" in key or "margins" in key for key in first) and
          "eval_logps/accuracies" in first and "margin" not in rows[0] and rows[0]["chosen_logp"] < 0, (first, rows[0]))
    for keys in (("--beta", 0.5), ("--precompute_ref_log_probs", "true"), ("--sync_ref_model", "true"),
                 ("--ref_model_name_or_path", GOLDEN / "models" / "tiny_reference")):
        said = attune("dpo_sigmoid", folder / "refused", "--loss_type", "sft", *keys, code=2)
        check(f"{keys[0]} is refused", f"{keys[0][2:]} is not read: loss_type sft" in said, said)
    said = attune("dpo_sigmoid", folder / "refused", "--loss_type", '["sigmoid", "sft"]', "--loss_weights", "[0, 0]", code=2)
    check("weights that are all 0 are refused", "loss_weights: all are 0" in said, said)


def test_masks(folder):
    def sft(data, *keys):
        return attune("sft_prompt_completion", folder / "refused", "--train_dataset", data, *keys, code=2)

    said = sft(GOLDEN / "data" / "sft_messages.jsonl", "--completion_only_loss", "true")
    check("completion_only_loss needs completions", "assistant_only_loss takes the replies" in said, said)
    plain = folder / "plain.jsonl"
    plain.write_text('{"prompt": "where is", "completion": " the tea"}\n' * 4)
    said = sft(plain, "--assistant_only_loss", "true")
    check("assistant_only_loss needs conversations", "is for conversations" in said, said)


def test_unread(folder):
    """What the rows, or the length of the run, leave without an effect is said."""
    def said(what, name, *keys, steps=1):
        found = attune("dpo_sigmoid", folder / name, "--max_steps", steps, *keys)
        check(f"{keys[0][2:]}: {what}", f"warning: {what}" in found, found)

    said("system_prompt has no effect because no row is a conversation", "unread1", "--system_prompt", "be kind",
         "--train_dataset", GOLDEN / "data" / "pairs_plain.jsonl")
    said("eos_token has no effect because all rows are conversations", "unread2", "--eos_token", "<|im_start|>")
    said("the reference never moves: ref_model_sync_steps is 512, the run has 1", "unread3", "--sync_ref_model", "true")
    said("learning_rate is never reached: warmup_steps is 50, the run has 1", "unread4", "--warmup_steps", 50)
    said("nothing is trained: max_steps and num_train_epochs are 0", "unread5", "--num_train_epochs", 0, steps=0)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for test in test_rows, test_triples, test_packed, test_without_reference, test_masks, test_unread:
            test(pathlib.Path(folder))
    finish()


if __name__ == "__main__":
    main()
