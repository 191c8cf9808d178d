#!/usr/bin/env python3
# labels: slow
"""attune eval: its figures are those of score, generate and the run that trained; the exit code is the verdict.
eval_test.py SOURCE_DIR BUILD_DIR
"""
import functools
import json
import math
import pathlib
import shutil
import tempfile

import harness
from harness import GOLDEN

MODEL = GOLDEN / "models" / "tiny_llama"
VERDICTS = {0: "better", 1: "worse", 3: "open"}
run = functools.partial(harness.run, env=harness.UNVALIDATED)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def message(role, content):
    return {"role": role, "content": content}


def pairs(n):
    things, places = ["tea", "salt", "jam", "cup", "spoon", "bread", "milk", "key"], ["shelf", "box", "bag", "drawer"]
    for i in range(n):
        thing, place = things[i % 8], places[i // 8 % 4]
        good = message("assistant", f"gladly , it is in the {place} , dear friend")
        bad = message("assistant", f"look in the {place} yourself")
        yield {"prompt": [message("user", f"where is the {thing} number {i}")], "chosen": [bad], "rejected": [good]}


def judge(rows, *more, code=0):
    out = run("eval", *([rows] if rows else []), "--model_name_or_path", MODEL, "--json", *more, code=code)
    said = json.loads(out.stdout)
    assert said["verdict"] == VERDICTS[code], said["verdict"]
    errors = [line for line in out.stderr.splitlines() if line.startswith("attune: error: ")]
    assert len(errors) == (code != 0), out.stderr
    return said, out.stderr


def near(ours, theirs, what, tolerance=1e-5):
    assert math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=1e-7), f"{what}: {ours}, {theirs} expected"


def scores(rows, adapter=None):
    flags = ["--adapter_name_or_path", adapter] if adapter else []
    out = run("score", "--method", "dpo", "--train_dataset", rows, "--model_name_or_path", MODEL, "--json", *flags)
    return [json.loads(line) for line in out.stdout.splitlines()]


def right(scored):
    return [r["chosen"]["logp"] / r["chosen"]["n_tokens"] > r["rejected"]["logp"] / r["rejected"]["n_tokens"] for r in scored]


def check_named_rows(folder, out, held):
    """A run whose rows were those of eval_dataset is judged on them wherever its model is now."""
    moved, there = folder / "moved", folder / "held.jsonl"
    shutil.copytree(out, moved)
    (moved / "split_eval.jsonl").rename(there)
    told = json.loads((moved / "run.json").read_text())
    told["config"]["eval_dataset"] = {"value": [str(there)], "from": "file"}
    told["config"]["system_prompt"] = {"value": "be kind", "from": "flag"}
    told["config"]["model_name_or_path"] = {"value": str(folder / "gone.gguf"), "from": "file"}
    (moved / "run.json").write_text(json.dumps(told))
    said, notes = judge(None, "--adapter", moved, "--n_replies", 0)
    assert said["rows"] == str(there), said["rows"]
    assert f"of {moved}/run.json: eval_dataset, system_prompt" in notes, notes
    plain, _ = judge(None, "--adapter", moved, "--n_replies", 0, "--system_prompt", "")
    assert said["states"][0]["prompt_tokens"] > plain["states"][0]["prompt_tokens"], "the run's system prompt"
    error = run("eval", "--adapter", moved, "--n_replies", 0, code=66).stderr
    assert "gone.gguf, which is not here" in error, error


def check_run(folder):
    """Beside a run: its split_eval.jsonl is found, accuracy and drift are those that it measured."""
    rows, out = write(folder / "pairs.jsonl", pairs(40)), folder / "out"
    run("dpo", "--model_name_or_path", MODEL, "--train_dataset", rows, "--output_dir", out, "--num_train_epochs", 2, "--logging_steps", 10,
        "--learning_rate", 0.02, "--eval_split", 0.4, "--save_strategy", "no", "--quiet")
    result = json.loads((out / "result.json").read_text())
    evaluations = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines() if "eval_loss" in line]
    best = next(e for e in evaluations if e["step"] == result["best_step"])
    said, _ = judge(None, "--adapter", out, "--n_replies", 0)
    base, adapter = said["states"]
    assert said["rows"] == str(out / "split_eval.jsonl"), said["rows"]
    near(base["accuracy"]["value"], evaluations[0]["eval_logps/accuracies"], "accuracy of the base")
    near(adapter["accuracy"]["value"], best["eval_logps/accuracies"], "accuracy of the adapter")
    near(adapter["drift"], best["eval_drift/kl"], "drift", 1e-3)
    assert adapter["drift"] > 0.01 and "drift" not in base, adapter
    held = out / "split_eval.jsonl"
    check_named_rows(folder, out, held)
    before, after = scores(held), scores(held, out)
    for state, theirs in ((base, before), (adapter, after)):
        logp, tokens = (sum(r["chosen"][key] for r in theirs) for key in ("logp", "n_tokens"))
        near(state["perplexity"], math.exp(-logp / tokens), "perplexity")
    change = [b - a for a, b in zip(right(before), right(after))]
    ours = said["comparisons"][0]
    assert (ours["wins"], ours["losses"]) == (change.count(1), change.count(-1)), ours
    near(ours["accuracy"]["value"], sum(change) / len(change), "difference")
    assert ours["accuracy"]["low"] > 0 and ours["p"] < 0.05, ours
    return out, held


def check_no_gain(folder, held):
    """A run whose every evaluation is worse than the start says so, and keeps it in run.json."""
    rows = [json.loads(line) for line in held.read_text().splitlines()]
    swapped, out = write(folder / "other_way.jsonl", [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in rows]), folder / "back"
    said = run("dpo", "--model_name_or_path", MODEL, "--train_dataset", held, "--eval_dataset", swapped, "--output_dir", out,
               "--num_train_epochs", 1, "--learning_rate", 0.02, "--save_strategy", "no", "--quiet").stderr
    assert json.loads((out / "result.json").read_text())["best_step"] == 0 and said.count("no evaluation was better") == 1, said
    kinds = {kind["kind"]: kind["count"] for kind in json.loads((out / "run.json").read_text())["warning_kinds"]}
    assert kinds.get("no_gain") == 1, kinds


def check_verdicts(folder, adapter, held):
    rows = [json.loads(line) for line in held.read_text().splitlines()]
    swapped = write(folder / "swapped.jsonl", [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in rows])
    said, text = judge(swapped, "--adapter", adapter, "--n_replies", 0, code=1)
    assert said["comparisons"][0]["accuracy"]["high"] < 0 and "worse" in text, said
    few = write(folder / "few.jsonl", rows[:3])
    said, text = judge(few, "--adapter", adapter, "--n_replies", 0, code=3)
    assert "not enough evidence" in text and "more pairs" in text, text
    one = write(folder / "one.jsonl", rows[:1])
    difference = judge(one, "--adapter", adapter, "--n_replies", 0, code=3)[0]["comparisons"][0]["accuracy"]
    others = 3.841458820694124 / 4.841458820694124  # Wilson's of none of one
    near(difference["low"], difference["value"] - others * (difference["value"] + 1), "of equal differences, from")
    near(difference["high"], difference["value"] + others * (1 - difference["value"]), "of equal differences, to")
    out = run("eval", held, "--model_name_or_path", MODEL, "--adapter", adapter, "--n_replies", 0, "--max_drift", 1e-4,
              code=1)
    assert "worse " in out.stdout and "chosen likelier" in out.stdout and "over max_drift" in out.stderr, out.stdout


def check_heads(folder, adapter, held):
    """A column is headed by what tells it from the others: its last folders, else a number that is explained."""
    deep = folder / "a_folder_of_many_runs"
    names = [deep / "first" / "the_adapter", deep / "second" / "the_adapter", deep / "third" / "a_very_long_name_of_an_adapter"]
    for name in names:
        shutil.copytree(adapter, name)
    flags = [word for name in names for word in ("--adapter", name)]
    out = run("eval", held, "--model_name_or_path", MODEL, *flags, "--n_replies", 0, "--max_drift", 100).stdout.splitlines()
    assert out[0] == f"[3] {names[2]}" and out[1].split() == ["base", "first/the_adapter", "second/the_adapter", "[3]"], out[:2]
    deep = [deep / side / "the_adapter_after_it" for side in ("first", "second")]
    for name in deep:
        shutil.copytree(adapter, name)
    out = run("eval", held, "--model_name_or_path", MODEL, "--adapter", deep[0], "--adapter", deep[1], "--n_replies", 0,
              "--max_drift", 100).stdout.splitlines()
    assert out[:2] == [f"[1] {deep[0]}", f"[2] {deep[1]}"] and out[2].split() == ["base", "[1]", "[2]"], out[:3]


def check_dial(folder, adapter, held):
    """Strength 0 is the base, 1 the adapter, between them what --adapter_scale gives eval, score and generate; the
    curve lies beside the run and on its page."""
    rules = write(folder / "short.jsonl", [{"prompt": "where is the tea", "rule": {"max_words": 1000}}])
    flags = ["--n_replies", 2, "--max_new_tokens", 8, "--rules", rules]
    out = run("dial", adapter, "--strengths", "1,0.5,2", "--max_longer", 9, "--json", *flags)
    said = json.loads(out.stdout)
    assert json.loads((adapter / "dial.json").read_text()) == said and said["rows"] == str(held), said["rows"]
    assert [s["adapter_scale"] for s in said["strengths"]] == [0, 0.5, 1, 2]
    assert said["chosen"] == 1 and "set --max_drift" in said["strengths"][3]["not_chosen"], said
    assert f"attune export {adapter} --adapter_scale 1 --output" in out.stderr, out.stderr
    judged = [judge(held, "--adapter", adapter, "--adapter_scale", scale, *flags)[0] for scale in (1, 0.5)]
    for strength, state in ((1, judged[1]["states"][1]), (2, judged[0]["states"][1]), (0, judged[0]["states"][0])):
        ours = dict(said["strengths"][strength])
        for key in ("name", "adapter_scale", "against_base") + (() if strength else ("drift",)):
            ours.pop(key, None)
        theirs = {key: state[key] for key in state if key != "name"}
        assert ours == theirs, f"strength {strength}\n{ours}\n{theirs}"
    drifts = [s["drift"] for s in said["strengths"]]
    assert drifts[0] == 0 and drifts == sorted(set(drifts)), drifts
    half = run("score", "--method", "dpo", "--train_dataset", held, "--model_name_or_path", MODEL, "--adapter_name_or_path", adapter,
               "--adapter_scale", "0.5", "--json").stdout.splitlines()
    logp, tokens = (sum(json.loads(line)["chosen"][key] for line in half) for key in ("logp", "n_tokens"))
    near(said["strengths"][1]["perplexity"], math.exp(-logp / tokens), "perplexity at 0.5")
    limit = (drifts[1] + drifts[2]) / 2
    out = run("dial", adapter, "--strengths", "0.5,1,2", "--max_drift", limit, "--n_replies", 0)
    assert "<- chosen" in next(line for line in out.stdout.splitlines() if line.split()[0] == "0.5"), out.stdout
    assert out.stdout.count("drift over max_drift") == 2, out.stdout
    run("report", adapter)
    page = (adapter / "report.html").read_text()
    assert "How strong it should act" in page and 'id="dial-drift"' in page and "0.5, chosen" in page
    said = run("dial", adapter, "--max_drift", 1e-9, "--strengths", "1", "--n_replies", 0, code=1).stderr
    assert "no strength above 0 is within the budgets; at 1: drift over max_drift" in said, said
    few = write(folder / "two.jsonl", map(json.loads, held.read_text().splitlines()[:2]))
    assert "not enough evidence" in run("dial", adapter, "--rows", few, "--strengths", "1", "--n_replies", 0, code=3).stderr
    named = pathlib.Path(shutil.copytree(adapter, folder / "named"))  # as a run with eval_dataset leaves it
    (named / "split_eval.jsonl").rename(named / "held.jsonl")
    record = json.loads((named / "run.json").read_text())
    record["config"]["eval_dataset"] = {"value": [str(named / "held.jsonl")], "from": "file"}
    (named / "run.json").write_text(json.dumps(record))
    out = run("dial", named, "--strengths", "1", "--n_replies", 0, "--json")
    assert json.loads(out.stdout)["rows"] == str(named / "held.jsonl")
    (named / "held.jsonl").unlink()
    assert "no held-out pairs" in run("dial", named, code=66).stderr
    assert "nowhere does not exist" in run("eval", "--adapter", folder / "nowhere", code=66).stderr
    said = run("eval", "--adapter", adapter, "--output", folder / "none" / "e.json", code=73)
    assert f"there is no folder {folder / 'none'}; create it" in said.stderr and not said.stdout, "it was measured first"
    (named / "dial.json").unlink(), (named / "dial.json").mkdir()
    said = run("dial", named, "--rows", held, code=73).stderr
    assert "dial.json: cannot be written" in said and "device" not in said, said
    run("dial", adapter, "--strengths", "1,x", code=2)
    run("score", "--method", "dpo", "--train_dataset", held, "--model_name_or_path", MODEL, "--adapter_scale", 2, code=2)
    run("eval", held, "--model_name_or_path", MODEL, "--baseline_prompt", "x", "--adapter_scale", 2, code=2)


def check_replies(folder, adapter, held):
    """Replies, rules, the base with a prompt and with examples; what of the prompt need not be read any longer."""
    rules = write(folder / "rules.jsonl", [{"prompt": "where is the tea", "rule": {"max_words": 1000}},
                                           {"prompt": "where is the cup", "rule": {"contains_any": ["qqqq"]}}])
    flags = ["--n_replies", 2, "--max_new_tokens", 8, "--rules", rules]
    shots = [{"messages": [message("system", "not taken"), message("user", "where is it"), message("assistant", "gladly , here")]},
             {"prompt": [message("user", "hello")], "chosen": [message("assistant", "dear friend")], "rejected": [message("assistant", "no")]}]
    few = write(folder / "few_shot.jsonl", shots)
    turns = shots[0]["messages"][1:] + shots[1]["prompt"] + shots[1]["chosen"]
    rows = [json.loads(line) for line in held.read_text().splitlines()]
    said, text = judge(held, "--adapter", adapter, "--baseline_prompt", "be kind", "--few_shot", few, "--n_few_shot", 2, "--target", 0.5, *flags,
                       "--output", folder / "eval.json")
    assert json.loads((folder / "eval.json").read_text()) == said
    names = [s["name"] for s in said["states"]]
    assert names == ["base", "base with the prompt", "base with 2 examples", str(adapter)], names
    tokens = [s["prompt_tokens"] for s in said["states"]]
    assert tokens[2] > tokens[1] > tokens[0] == tokens[3], tokens
    assert said["states"][3]["prompt_tokens_saved"] == {names[1]: tokens[1] - tokens[3], names[2]: tokens[2] - tokens[3]}, said["states"][3]
    assert [s["meets_target"] for s in said["states"]] == [s["accuracy"]["low"] >= 0.5 for s in said["states"]]
    assert said["states"][3]["meets_target"] and "50 % is met" in text, text
    by_hand = scores(write(folder / "by_hand.jsonl", [{**r, "prompt": turns + r["prompt"]} for r in rows]))
    near(said["states"][2]["accuracy"]["value"], sum(right(by_hand)) / len(rows), "accuracy with examples")
    near(said["states"][2]["perplexity"],
         math.exp(-sum(r["chosen"]["logp"] for r in by_hand) / sum(r["chosen"]["n_tokens"] for r in by_hand)), "perplexity with examples")
    system = message("system", "be brief")
    with_system = write(folder / "system.jsonl", [{**r, "prompt": [system] + r["prompt"]} for r in rows[:4]])
    behind = scores(write(folder / "behind.jsonl", [{**r, "prompt": [system] + turns + r["prompt"]} for r in rows[:4]]))
    brief = json.loads(harness.run("eval", with_system, "--model_name_or_path", MODEL, "--few_shot", few, "--n_few_shot", 2,
                                   "--n_replies", 0, "--json", code=tuple(VERDICTS)).stdout)
    near(brief["states"][1]["perplexity"],
         math.exp(-sum(r["chosen"]["logp"] for r in behind) / sum(r["chosen"]["n_tokens"] for r in behind)), "examples behind a system message")
    for more, code, words in ((["--few_shot", few, "--n_few_shot", 3], 65, "3 examples are wanted and 2 conversations are there"),
                              (["--n_few_shot", 2, "--baseline_prompt", "x"], 2, "which is not given"), ([], 2, "nothing to judge")):
        error = run("eval", held, "--model_name_or_path", MODEL, *more, code=code).stderr
        assert words in error.splitlines()[-1], error
    prompts = write(folder / "prompts.jsonl", rows[:2])
    with_turns = write(folder / "with_turns.jsonl", [{"prompt": turns + r["prompt"]} for r in rows[:2]])
    for state, more, prompts in zip(said["states"], ([], ["--system_prompt", "be kind"], [], ["--adapter", adapter]),
                                    (prompts, prompts, with_turns, prompts)):
        assert state["rules"]["value"] == 0.5, state["rules"]
        out = run("generate", MODEL, "--prompts", prompts, "--json", "--max_new_tokens", 8, *more).stdout.splitlines()
        texts = [json.loads(line) for line in out]
        near(state["replies"]["words"]["value"], sum(len(t["text"].split()) for t in texts) / 2, "words a reply")
        near(state["replies"]["ended"]["value"], sum(t["end"] == "stop" for t in texts) / 2, "ended")
    bad = write(folder / "bad.jsonl", [{"prompt": "x", "rule": {"regexp": "a"}}])
    said = run("eval", held, "--model_name_or_path", MODEL, "--adapter", adapter, "--rules", bad, code=65).stderr
    assert "bad.jsonl: rule 1" in said and "regexp" in said, said


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        adapter, held = check_run(folder)
        check_no_gain(folder, held)
        check_verdicts(folder, adapter, held)
        check_heads(folder, adapter, held)
        check_dial(folder, adapter, held)
        check_replies(folder, adapter, held)
        run("eval", "--model_name_or_path", MODEL, "--baseline_prompt", "x", code=2)  # no rows
    print("eval: figures of score, generate and the run; verdicts 0, 1 and 3")


if __name__ == "__main__":
    main()
