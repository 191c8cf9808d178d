#!/usr/bin/env python3
# labels: slow
"""attune compare: what every judge says is what score, eval and people say of the same rows; the exit code is the verdict.
compare_test.py SOURCE_DIR BUILD_DIR
"""
import json
import pathlib
import shutil
import tempfile

import eval_test as e
import label_test as label

N = 12
JUDGE = e.MODEL.parent / "tiny_qwen2"
FEW = ["--n_replies", N, "--max_new_tokens", 6]


def compare(adapter, *arguments, code=0):
    out = e.run("compare", "--adapter", adapter, "--json", *arguments, code=code)
    said = json.loads(out.stdout)
    kept = json.loads((adapter / "compare.json").read_text())
    others = kept.pop("others", [])
    assert said["verdict"] == e.VERDICTS[code] and said == kept, said["verdict"]
    asked = [(one["judge"], one["before"]) for one in (said, *others)]
    assert len(set(asked)) == len(asked), asked  # the last by each judge against each
    n = said["win_rate"]["n"]
    assert said["wins"] + said["losses"] + said["ties"] == n
    e.near(said["win_rate"]["value"], (said["wins"] + said["ties"] / 2) / n, "win rate")
    return said, out.stderr


def outcome(before, after):
    return 1 if after > before else 0 if after < before else 0.5


def check_logp(adapter):
    said, text = compare(adapter)
    base, tuned = e.scores(adapter / "split_eval.jsonl"), e.scores(adapter / "split_eval.jsonl", adapter)

    def margin(row):
        return row["chosen"]["logp"] / row["chosen"]["n_tokens"] - row["rejected"]["logp"] / row["rejected"]["n_tokens"]
    assert said["outcomes"] == [outcome(margin(b), margin(a)) for b, a in zip(base, tuned, strict=True)], said["outcomes"]
    assert "length_controlled" not in said and f"next       attune export {adapter}" in text
    _, text = compare(adapter, "--adapter_scale", 1.5)
    assert f"next       attune export {adapter} --adapter_scale 1.5 --output" in text, text
    said, _ = compare(adapter, "--against", adapter, code=3)
    n = said["win_rate"]["n"]
    others = 3.841458820694124 / (n + 3.841458820694124)  # Wilson's of none of n
    assert set(said["outcomes"]) == {0.5}, said
    e.near(said["win_rate"]["low"], 0.5 - others / 2, "of equal outcomes, from")
    e.near(said["win_rate"]["high"], 0.5 + others / 2, "of equal outcomes, to")


def check_people(adapter):
    """Blind: decided by who wrote the reply, which the page does not tell."""
    text = e.run("compare", "--adapter", adapter, "--judge", "people", *FEW, code=3).stderr
    replies = adapter / "compare.jsonl"
    *_, written, following, error = [line for line in text.splitlines() if not line.startswith("attune: warning") and " warning" not in line]
    assert written.startswith(f"people     {N} pairs of replies are written") and following == f"next       attune label {replies}", text
    assert error == f"attune: error: no evidence yet, as nobody has decided on the pairs of {replies}: `attune label`, then this command again", text
    logged = e.run("compare", "--adapter", adapter, "--judge", "people", "--log", adapter / "log.jsonl", *FEW, code=3).stderr
    assert f"next       attune label {replies} --log {adapter / 'log.jsonl'}\n" in logged, logged
    rows = [json.loads(line) for line in replies.read_text().splitlines()]
    assert len(rows) == N and all(row["models"] == ["base", str(adapter)] for row in rows)
    held = [json.loads(line) for line in (adapter / "split_eval.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [held[row["line"] - 1]["prompt"] for row in rows]
    texts = [[r[-1]["content"] for r in row["responses"]] for row in rows]
    prompts = e.write(replies.parent / "prompts.jsonl", [{"prompt": row["prompt"]} for row in rows])
    for side, more in ((0, []), (1, ["--adapter", adapter])):
        out = e.run("generate", e.MODEL, "--prompts", prompts, "--json", "--max_new_tokens", 6, *more).stdout.splitlines()
        assert [json.loads(line)["text"] for line in out] == [t[side] for t in texts], f"replies of side {side}"
    mine = {t[1] for t in texts} - {t[0] for t in texts}

    def decide(who, wanted):
        server = label.Server(replies, "--annotator", who)
        label_all = server.ask("next")
        while "finished" not in label_all:
            a = label_all["a"][-1]["content"]
            choice = "a" if (a in mine) == wanted else "b"
            label_all = server.ask("label", {"place": label_all["place"], "choice": choice})
        server.ask("finish", {})
        server.end()
    decide("ann", True)
    said = json.loads(e.run("compare", "--adapter", adapter, "--judge", "people", *FEW, "--json", code=0).stdout)
    assert said["outcomes"] == [1] * N and said["length_controlled"]["n"] == N, said
    assert 0.5 < said["length_controlled"]["value"] < 1, "held by the ridge"
    decide("bob", False)
    said, text = compare(adapter, "--judge", "people", *FEW, code=3)
    assert set(said["outcomes"]) == {0.5}, "annotators who are divided: ties"
    return rows, texts


def check_prompts(folder, adapter):
    """What was replied to is what judges see: all turns and the system prompt, a text as a text, the common head of both sides."""
    turns = [e.message("user", "where is the tea"), e.message("assistant", "here"), e.message("user", "and the salt")]
    good, bad = [e.message("assistant", "in the box")], [e.message("assistant", "look yourself")]
    own = [e.message("system", "be brief"), *turns]
    rows = e.write(folder / "kinds.jsonl", [{"prompt": turns, "chosen": good, "rejected": bad},
                                            {"chosen": own + good, "rejected": own + bad},
                                            {"prompt": "the tea is", "chosen": " here", "rejected": " gone"}])
    replies, few = folder / "kinds_replies.jsonl", ["--n_replies", 3, "--max_new_tokens", 2, "--system_prompt", "be kind"]
    e.run("compare", rows, "--adapter", adapter, "--judge", "people", "--replies", replies, *few, code=3)
    said = e.run("compare", rows, "--adapter", adapter, "--judge", "people", "--replies", folder / "none" / "r.jsonl", *few, code=73).stderr
    assert "there is no folder" in said and "device" not in said, said
    found = [json.loads(line) for line in replies.read_text().splitlines()]
    assert [row["prompt"] for row in found] == [[e.message("system", "be kind"), *turns], own, "the tea is"], found
    assert all(isinstance(reply, str) for reply in found[2]["responses"]), found[2]
    prompts = e.write(folder / "kinds_prompts.jsonl", [{"prompt": row["prompt"]} for row in found])
    out = e.run("generate", e.MODEL, "--prompts", prompts, "--json", "--max_new_tokens", 2).stdout.splitlines()
    texts = [row["responses"][0] if isinstance(row["responses"][0], str) else row["responses"][0][0]["content"] for row in found]
    assert [json.loads(line)["text"] for line in out[:2]] == texts[:2], "what it replied to is the prompt of the file"


def check_stale(adapter):
    """Replies that would be others now are not judged."""
    def said(*more):
        return e.run("compare", "--adapter", adapter, "--judge", "people", *FEW, *more, code=65).stderr
    for key, value in (("n_replies", 11), ("max_new_tokens", 7), ("adapter_scale", 0.5), ("system_prompt", "be brief")):
        assert f"compare.jsonl:1: replies made with another {key}; remove the file" in said(f"--{key}", value), key
    for name, key in (("adapter_config.json", "adapter"), ("split_eval.jsonl", "rows")):
        before = (adapter / name).read_text()
        (adapter / name).write_text(before + "\n")
        assert f"replies made with another {key};" in said(), key
        (adapter / name).write_text(before)
    compare(adapter, "--judge", "people", *FEW, code=3)
    moved = adapter.parent / "moved"  # the same model elsewhere, then another one of its name
    shutil.copytree(e.MODEL, moved)
    compare(adapter, "--judge", "people", *FEW, "--model_name_or_path", moved, code=3)
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert "replies made with another model; remove" in said("--model_name_or_path", moved)


def check_reward(folder, adapter, rows):
    run = folder / "reward"
    e.run("reward", "--model_name_or_path", e.MODEL, "--train_dataset", folder / "pairs.jsonl", "--output_dir", run, "--max_steps", 2,
          "--learning_rate", 0.01, "--eval_split", 0, "--save_strategy", "no", "--quiet")
    code = {"better": 0, "worse": 1, "open": 3}
    out = e.run("compare", "--adapter", adapter, "--judge", "reward", "--reward_model", run, "--json", *FEW, code=None)
    said = json.loads(out.stdout)
    assert out.returncode == code[said["verdict"]], out.stderr
    pairs = e.write(folder / "of_reward.jsonl", [{"prompt": row["prompt"], "chosen": row["responses"][1], "rejected": row["responses"][0]}
                                                 for row in rows])
    scored = e.run("score", "--method", "reward", "--train_dataset", pairs, "--model_name_or_path", e.MODEL,
                   "--adapter_name_or_path", run, "--on_bad_row", "keep", "--json").stdout.splitlines()
    want = [outcome(row["rejected"]["reward"], row["chosen"]["reward"]) for row in map(json.loads, scored)]
    assert said["outcomes"] == want, f"{said['outcomes']}\n{want}"
    assert not list(adapter.glob("*.reward")), "the rows of the reward model are gone"
    replies = [json.loads(line) for line in (adapter / "compare.jsonl").read_text().splitlines()]
    replies[1]["responses"][0][0]["content"] = "tea " * 2000
    long = e.write(folder / "long.jsonl", replies)
    out = e.run("compare", "--adapter", adapter, "--judge", "reward", "--reward_model", run, "--json", "--replies", long, *FEW,
                code=tuple(e.VERDICTS))
    assert json.loads(out.stdout)["outcomes"] == [want[0], None, *want[2:]], "nothing is said of a reply that is too long"


def check_model(folder, adapter, rows, texts):
    """Each order's answer is the likelier first token of A and B."""
    out = e.run("compare", "--adapter", adapter, "--judge", "model", "--judge_model", JUDGE, "--better", "funny", "--json", *FEW,
                code=tuple(e.VERDICTS))
    said = json.loads(out.stdout)
    asked = []
    for row, (before, after) in zip(rows, texts):
        for a, b in ((before, after), (after, before)):
            text = (f"Two assistants answered the same message. Which answer is funny?\n\nMessage:\n{row['prompt'][-1]['content']}\n\n"
                    f"Answer A:\n{a}\n\nAnswer B:\n{b}\n\nReply with one letter, A or B.")
            asked.append({"prompt": [e.message("user", text)], "chosen": [e.message("assistant", "A")],
                          "rejected": [e.message("assistant", "B")]})
    path = e.write(folder / "asked.jsonl", asked)
    lines = e.run("score", "--method", "dpo", "--train_dataset", path, "--model_name_or_path", JUDGE, "--max_length", 0, "--tokens",
                  "--json").stdout.splitlines()[:len(asked)]
    leans = [row["chosen"]["tokens"]["logp"][0] - row["rejected"]["tokens"]["logp"][0] for row in map(json.loads, lines)]
    want = [0 if x > 0 > y else 1 if x < 0 < y else 0.5 for x, y in zip(leans[::2], leans[1::2])]
    assert said["outcomes"] == want, f"{said['outcomes']}\n{want}"
    assert len(set(want)) > 1, "a judge who says no more than the place of a reply tests nothing"
    assert f"both ways round of {sum(x != 0.5 for x in want)} of {N}" in out.stderr, out.stderr


def check_rules(folder, adapter):
    rules = e.write(folder / "rules.jsonl", [{"prompt": f"where is the {thing}", "rule": {"max_words": n}}
                                             for n, thing in enumerate(["tea", "salt", "jam", "cup", "milk", "key"], 1)])
    out = e.run("compare", "--adapter", adapter, "--judge", "rules", "--rules", rules, "--max_new_tokens", 6, "--json", code=tuple(e.VERDICTS))
    said = json.loads(out.stdout)
    judged = e.run("eval", "--model_name_or_path", e.MODEL, "--adapter", adapter, "--n_replies", 0, "--rules", rules,
                   "--max_new_tokens", 6, "--json", code=tuple(e.VERDICTS))
    theirs = json.loads(judged.stdout)["comparisons"][0]
    assert (said["wins"], said["losses"]) == (theirs["rules_gained"], theirs["rules_lost"]) and len(said["outcomes"]) == 6


def check_pipeline(folder):
    """Stages of a pipeline: a verdict that is not clear ends no pipeline before its report; what is judged is not judged again."""
    shared = {"model_name_or_path": str(e.MODEL), "output_dir": str(folder / "all")}
    train = {"name": "dpo", "method": "dpo", "train_dataset": str(folder / "pairs.jsonl"), "num_train_epochs": 1, "learning_rate": 0.004,
             "eval_split": 0.4, "save_strategy": "no"}
    (folder / "few.jsonl").write_text("".join((folder / "pairs.jsonl").read_text().splitlines(True)[:3]))
    shared["system_prompt"] = "be kind"
    start = {"name": "start", "method": "baseline", "target": 0.5, "n_few_shot": 1}
    judged = {"name": "judged", "method": "eval", "n_replies": 0}
    stages = [start, train, judged, {"name": "clear", "method": "compare"}, {"name": "few", "method": "compare", "rows": "few.jsonl"},
              {"name": "people", "method": "compare", "judge": "people", "n_replies": 2, "max_new_tokens": 2},
              {"name": "page", "method": "report"}]
    file = folder / "all.json"

    def pipeline(stages, code, *more):
        file.write_text(json.dumps({**shared, "stages": stages}))
        return e.run("run", file, *more, code=code).stderr
    said = pipeline(stages, 0, "--dry_run")
    assert "5 of 7: few (compare)" in said and not (folder / "all" / "dpo").exists(), said
    said = pipeline(stages, 3)
    assert "stage few: not enough evidence" in said.splitlines()[-1], said
    page = (folder / "all" / "dpo" / "report.html").read_text()
    assert json.loads((folder / "all" / "dpo" / "eval.json").read_text())["states"][1]["name"] == str(folder / "all" / "dpo")
    assert said.index("baseline   ") < said.index("trains   "), "said before anything is trained"
    assert "Compared blind" in page and "at equal length" not in page
    assert len((folder / "all" / "people" / "compare.jsonl").read_text().splitlines()) == 2
    said = pipeline(stages, 3)
    result = json.loads((folder / "all" / "start" / "eval.json").read_text())
    names = [s["name"] for s in result["states"]]
    assert names == ["base", "base with the prompt", "base with 1 example"] and result["target"] == 0.5, names
    assert result["rows"] == str(folder / "all" / "start" / "split_eval.jsonl"), result["rows"]
    for side in ("split_train.jsonl", "split_eval.jsonl"):
        assert (folder / "all" / "start" / side).read_bytes() == (folder / "all" / "dpo" / side).read_bytes(), side
    met = [s["name"] for s in result["states"] if s["meets_target"]]
    first = f"{met[0]} meets the target without training" if met else "prompting alone does not meet the target"
    assert f"baseline   {first}" in said, said
    assert said.count("finished earlier, skipped") == 5 and "stage few: not enough evidence" in said.splitlines()[-1], said
    for keys in ({"rows": "pairs.jsonl"}, {"rows": "few.jsonl", "max_length": 64}):
        said = pipeline([train, {"name": "few", "method": "compare", **keys}], 73)
        assert "holds stage few with other inputs" in said and "remove it" in said, said
    pipeline([train, {"name": "page", "method": "report", "output": "named.html"}], 0)
    assert (folder / "named.html").exists(), "paths are taken from the pipeline's folder"
    assert "no.json" in pipeline([train, {"name": "page", "method": "report", "eval": "no.json"}], 66)
    for stage, part in [({"name": "x", "method": "compare", "jugde": "logp"}, "jugde"), ({"name": "x", "method": "compare", "rows": "no"}, "no"),
                        ({"name": "x", "method": "judge"}, "baseline, compare, eval, lint, plan, report or split")]:
        said = pipeline([train, stage], 66 if part == "no" else 2)
        assert part in said and "x" in said, said
    assert "it judges the adapter of a stage before it" in pipeline(stages[2:], 2)
    for wrong, part in [([start], "there is none with one file as eval_dataset"),
                        ([{"name": "x", "method": "baseline"}, train], "target is missing")]:
        assert part in pipeline(wrong, 2), part


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows, out = e.write(folder / "pairs.jsonl", e.pairs(40)), folder / "out"
        e.run("dpo", "--model_name_or_path", e.MODEL, "--train_dataset", rows, "--output_dir", out, "--num_train_epochs", 2,
              "--learning_rate", 0.004, "--eval_split", 0.4, "--save_strategy", "no", "--quiet")
        check_logp(out)
        replies, texts = check_people(out)
        check_prompts(folder, out)
        check_reward(folder, out, replies)
        check_model(folder, out, replies, texts)
        check_rules(folder, out)
        check_pipeline(folder)
        said = e.run("compare", "--adapter", out, "--against", out, "--judge", "people", *FEW, code=65).stderr
        assert "replies of base where those of" in said and "--replies" in said, said
        check_stale(out)
        for arguments, part in [([], "name an adapter"), (["--adapter", out, "--judge", "x"], "logp, model, people, reward or rules"),
                                (["--adapter", out, "--judge", "model"], "--judge_model MODEL"),
                                (["--adapter", out, "--judge", "reward"], "--reward_model DIR"),
                                (["--adapter", out, "--judge", "rules"], "--rules FILE"),
                                (["--adapter", out, "--n_replies", 3], "--n_replies: judge logp does not read it, model does"),
                                (["--adapter", out, "--judge", "people", "--rules", rows], "--rules: judge people does not")]:
            said = e.run("compare", *arguments, code=2).stderr
            assert part in said, said
    print("compare: five judges say what score, eval and people say")


if __name__ == "__main__":
    main()
