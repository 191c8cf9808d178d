#!/usr/bin/env python3
"""data split: groups stay together, wherever a run with eval_split puts them, whatever the order of the rows;
data stats: what one counts by hand; what each command names as the next works. division_test.py SOURCE_DIR BUILD_DIR
"""
import gzip
import json
import pathlib
import random
import re
import statistics
import subprocess
import tempfile

from harness import ATTUNE, GOLDEN, SOURCE, run

MODEL = GOLDEN / "models" / "tiny_llama"
TRAIN, EVAL = "split_train.jsonl", "split_eval.jsonl"


def message(role, content):
    return {"role": role, "content": content}


def rows_of(n_prompts):
    """Three rows a prompt; some with a system message, some of two turns."""
    for i in range(3 * n_prompts):
        prompt = [message("user", f"Where is parcel {i % n_prompts}?")]
        if i % 4 == 0:
            prompt = [message("system", "Be kind.")] + prompt
        if i % 5 == 0:
            prompt = [message("user", "Hello"), message("assistant", "Hi!")] + prompt
        row = {"prompt": prompt, "chosen": [message("assistant", "On its way" + " now" * (i % 7))],
               "rejected": [message("assistant", "No idea" * (1 + i % 2))]}
        yield json.dumps({**row, "synthetic": True} if i % 6 == 0 else row, ensure_ascii=i % 2 == 0)


def split(folder, path, name, *flags):
    run("data", "split", path, "--output", folder / name, *flags)
    return [(folder / name / side).read_text().splitlines() for side in (TRAIN, EVAL)]


def group(line):
    return json.loads(line)["prompt"][-1]["content"]


def check_split(folder):
    lines = list(rows_of(60))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n\n")
    train, held = split(folder, path, "a", "--eval_split", 0.25, "--seed", 7)
    assert sorted(train + held) == sorted(lines), "every line once, as it stands"
    assert train == [line for line in lines if line in set(train)], "lines keep their order"
    assert not {*map(group, train)} & {*map(group, held)}, "a prompt on both sides"
    assert 0.1 < len(held) / len(lines) < 0.4, len(held)
    shuffled = random.Random(1).sample(lines, len(lines))
    with gzip.open(folder / "rows.jsonl.gz", "wt") as file:
        file.write("\n".join(shuffled))
    assert {*split(folder, folder / "rows.jsonl.gz", "b", "--eval_split", 0.25, "--seed", 7)[1]} == {*held}
    assert {*split(folder, path, "c", "--eval_split", 0.25, "--seed", 8)[1]} != {*held}
    run("dpo", "--model_name_or_path", MODEL, "--train_dataset", path, "--output_dir", folder / "run", "--max_steps", 1,
        "--eval_split", 0.25, "--seed", 7, "--eval_strategy", "no", "--save_strategy", "no",
        "--load_best_model_at_end", "false", "--quiet")
    for side, ours in ((TRAIN, train), (EVAL, held)):
        assert (folder / "run" / side).read_text().splitlines() == ours, f"{side} of a run"
    run("data", "split", path, "--output", folder / "a", code=73)  # there already
    run("data", "split", path, "--output", folder / "d", "--eval_split", 0, code=2)
    run("data", "split", path, code=2)
    same = folder / "same.jsonl"
    same.write_text("\n".join(lines[:1] * 3))
    said = run("data", "split", same, "--output", folder / "d", code=65).stderr
    assert "the same prompt" in said and not (folder / "d" / TRAIN).exists(), said


def next_of(command, folder):
    """What a command names as the next one, run as it stands."""
    out = subprocess.run(command.replace("attune", str(ATTUNE), 1), shell=True, capture_output=True, text=True, cwd=folder)
    assert out.returncode == 0, f"{command}: exit {out.returncode}\n{out.stderr}"
    last = re.findall(r"^next +(attune .*)$", out.stderr, re.M)
    assert last, f"{command}: no next command\n{out.stderr}"
    return last[-1]


def check_next(folder):
    """From lint to a judged adapter by pasting; nothing that was given is lost, and nothing comes twice."""
    toy = (SOURCE / "data" / "toy" / "pairs.jsonl").read_text().splitlines()[:40]
    (folder / "toy.jsonl").write_text("\n".join(toy))
    (folder / "it's $1; my rows.jsonl").write_text("\n".join(toy))
    long = "be kind " * 400  # no line is cut
    assert next_of(f"attune data lint toy.jsonl --system_prompt '{long}'", folder).endswith(f"--system_prompt '{long}'")
    keys = f"--model_name_or_path '{MODEL}' --lora_target_modules '[\"q_proj\", \"v_proj\"]' --max_steps 2"
    command, said = f"attune data stats 'it'\\''s $1; my rows.jsonl' {keys} --output_dir 'its adapter'", []
    while not command.startswith("attune eval"):
        command = next_of(command, folder)
        said.append(" ".join(command.split()[1:3]))
        assert command.startswith("attune eval") or f"'{keys.split(chr(39))[3]}' --max_steps 2" in command, command
    assert [part.split(" --")[0] for part in said] == ["data split", "plan", "dpo", "eval"], said
    judged = subprocess.run(command.replace("attune", str(ATTUNE), 1), shell=True, capture_output=True, text=True, cwd=folder)
    assert judged.returncode in (0, 1, 3) and (folder / "its adapter" / "eval.json").exists(), judged.stderr
    for out in ("out/dpo", "out/dpo_2"):  # which is not there yet
        assert next_of(f"attune plan --method dpo --train_dataset toy.jsonl {keys}", folder).endswith(f" --output_dir {out}")
        (folder / out).mkdir(parents=True)
    (folder / "sft.jsonl").write_text("\n".join(json.dumps({k: json.loads(line)[k] for k in ("prompt", "chosen")}).replace(
        "chosen", "completion") for line in toy))
    split = next_of("attune data lint sft.jsonl", folder)
    assert next_of(split, folder).startswith("attune plan --method sft --train_dataset out/sft_split/"), split
    again = next_of("attune data stats sft.jsonl", folder)
    assert again.startswith("attune data split sft.jsonl --output out/sft_split_2"), again  # which is not there yet
    other = next_of("attune data lint sft.jsonl --method dpo --loss_type ipo --beta 0.2 --system_prompt='--be kind'", folder)
    assert other == "attune data split sft.jsonl --output out/sft_split_2 --method sft --system_prompt='--be kind'", other
    (folder / "the toy.json").write_text(json.dumps({"method": "dpo", "train_dataset": "toy.jsonl", "model_name_or_path": str(MODEL)}))
    for command in ("lint", "show"):
        assert next_of(f"attune data {command} 'the toy.json' --seed 3", folder) == "attune plan 'the toy.json' --seed 3"


def check_kinds(folder):
    """Of mixed rows split names one method, whichever kind comes first."""
    pair = {"prompt": "Who is there?", "chosen": "It is me.", "rejected": "Nobody."}
    singles = [{"prompt": f"Where is {i}?", "completion": f"In place {i}."} for i in range(20)]
    labelled = [{**row, "label": i % 2 == 0} for i, row in enumerate(singles)]
    for name, rows, method in (("s", [pair, *singles], "sft"), ("l", [pair, *labelled], "kto"), ("m", [*labelled, *singles[:1]], "sft")):
        (folder / f"mixed_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        plan = run("data", "split", folder / f"mixed_{name}.jsonl", "--output", folder / f"mixed_{name}").stderr
        assert f"attune plan --method {method} " in plan, (name, plan)


def check_dash(folder):
    """A file whose name begins with a dash is none that is taken for a flag."""
    (folder / "-x.jsonl").write_text((SOURCE / "data" / "toy" / "pairs.jsonl").read_text())
    split = next_of("attune data lint ./-x.jsonl", folder)
    assert split == "attune data split ./-x.jsonl --output out/-x_split", split
    for command in ("lint", "stats"):
        assert next_of(f"attune data {command} -- -x.jsonl", folder) == split
    plan = next_of("attune data split --output -out -- -x.jsonl", folder)
    assert f"--train_dataset ./-out/{TRAIN} --eval_dataset ./-out/{EVAL}" in plan, plan
    next_of(plan.replace("MODEL", str(MODEL)), folder)
    (folder / "-x.json").write_text(json.dumps({"method": "dpo", "train_dataset": "-x.jsonl", "model_name_or_path": str(MODEL)}))
    plan = next_of("attune data lint -- -x.json", folder)
    assert plan == "attune plan ./-x.json" and next_of(plan, folder).startswith("attune dpo ./-x.json "), plan


def check_held_out(folder):
    """Where no share is to be held out, or folds hold it, rows go on to the plan; a split's folder has the name without all suffixes."""
    pairs = (SOURCE / "data" / "toy" / "pairs.jsonl").read_bytes()
    (folder / "held.jsonl.gz").write_bytes(gzip.compress(pairs))
    for command in ("lint", "stats"):
        for keys in ("--eval_split 0", "--cross_validation 3"):
            plan = next_of(f"attune data {command} held.jsonl.gz {keys}", folder)
            assert plan.startswith("attune plan ") and keys in plan, plan
        assert next_of(f"attune data {command} held.jsonl.gz", folder).endswith("--output out/held_split")


def check_methods(folder):
    """What --method says of the rows is kept where it reads them, and prompts alone are rows of methods that draw samples."""
    rows = [{"prompt": [message("user", f"Where is parcel {i // 2}?")], "answer": i} for i in range(40)]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rest = "--reward_funcs REWARDS --model_name_or_path MODEL"
    for method in ("grpo", "online_dpo", "rloo"):
        lint = f"attune data lint asked.jsonl --method {method}"
        stats = next_of(f"attune data stats asked.jsonl --method {method}", folder)
        assert stats == f"attune plan --method {method} --train_dataset asked.jsonl {rest}", stats
        for share in ("", " --eval_split 0.2"):  # which these methods do not read
            assert next_of(lint + share, folder) == f"attune plan --method {method} --train_dataset asked.jsonl {rest}"
        plan = next_of(f"attune data split asked.jsonl --method {method} --output {method}", folder)
        assert plan == f"attune plan --method {method} --train_dataset {method}/{TRAIN} {rest}", plan
        config = {"method": method, "train_dataset": "asked.jsonl", "eval_split": 0.2,
                  "model_name_or_path": str(MODEL), "max_completion_length": 8}
        config.update({"reward_funcs": "contains_any:Ahoy"}, **{} if method == "online_dpo" else {"num_generations": 2})
        (folder / f"{method}.json").write_text(json.dumps(config))
        for command, more in (("lint", ""), ("stats", ""), ("split", f" --output of_file_{method}")):
            named = next_of(f"attune data {command} {method}.json{more}", folder)  # the file's share is none of a training
            assert named.startswith(f"attune plan {method}.json ") and named.endswith(" --eval_split 0"), named
            next_of(named, folder)
    sides = [(folder / "grpo" / side).read_text().splitlines() for side in (TRAIN, EVAL)]
    assert sorted(map(group, sum(sides, []))) == sorted(row["prompt"][0]["content"] for row in rows)
    assert 1 <= len(sides[1]) <= 10 and not {*map(group, sides[0])} & {*map(group, sides[1])}, sides[1]
    next_of(plan.replace("REWARDS", "contains_any:Ahoy").replace("MODEL", str(MODEL)) + " --num_generations 2", folder)
    run("data", "split", folder / "asked.jsonl", "--method", "grpo", "--output", folder / "e", "--eval_split", 0, code=2)

    (folder / "asked.jsonl").write_text('{"prompt": "Where?"}\n{"prompt": " "}\n{"answer": 1}\n{"prompt": "Where?", "answer": 2}\n')
    keys = "--method", "grpo", "--model_name_or_path", MODEL, "--max_completion_length", 9, "--json"
    said = json.loads(run("data", "lint", folder / "asked.jsonl", *keys, code=65).stdout)
    found = [(one["check"], one["line"]) for one in said["findings"]]
    assert found == [("empty", 2), ("broken", 3), ("duplicate", 4)] and said["prompts_alone"] == 3 and said["bad_rows"] == 2, said
    said = json.loads(run("data", "lint", folder / "asked.jsonl", *keys, "--max_length", 10, code=65).stdout)
    assert [one["line"] for one in said["findings"] if one["check"] == "too_long"] == [1, 4], said
    said = json.loads(run("data", "stats", folder / "grpo" / EVAL, *keys).stdout)
    assert said["prompts_alone"] == said["tokens"]["prompt"]["n"] == len(sides[1]) and [*said["words"]] == ["prompt"], said

    said = run("data", "lint", folder / "asked.jsonl", code=65).stdout
    assert "asked.jsonl:1: error: broken: the key \"completion\" is missing; it goes with \"prompt\" (prompts alone" in said, said
    (folder / "asked.jsonl").write_text("".join(json.dumps({"prompt": f"{i}?", "completion": f"{i}.", "label": i % 2 == 0}) + "\n"
                                                for i in range(8)))
    for method, said in (("sft", "sft"), ("kto", "kto"), ("dpo", "kto"), ("online_dpo", "online_dpo")):
        for command, last in (("lint", f" --method {said}"), ("stats", f" --method {said}"), ("split", "")):
            output = ("--output", folder / f"as_{method}") if command == "split" else ()
            out = run("data", command, folder / "asked.jsonl", *output, "--method", method).stderr
            assert f" --method {said} " in out or out.splitlines()[-2 if "warning" in out else -1].endswith(last), out
            assert ("there are rows that are labelled, which dpo does not read; kto does" in out) == (method == "dpo"), out


def words(messages):
    return sum(len(re.findall(r"\w+", m["content"])) for m in messages)


def spread(values):
    values = sorted(values)
    return {"n": len(values), "least": values[0], "median": values[(len(values) - 1) // 2],
            "mean": statistics.mean(values), "p90": values[-(-9 * len(values) // 10) - 1], "most": values[-1]}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(abs(ours[key] - theirs[key]) < 1e-9 for key in ours)


def check_stats(folder):
    path = folder / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    ours = json.loads(run("data", "stats", path, "--json", "--model_name_or_path", MODEL).stdout)
    expected = {
        "rows": len(rows), "pairs": len(rows), "labelled": 0, "desirable": 0, "singles": 0, "prompts": 60,
        "conversations": len(rows), "several_turns": sum(r["prompt"][-2:][0]["role"] == "assistant" or
                                                         len(r["prompt"]) > 2 for r in rows),
        "system": sum("Be kind." in str(r) for r in rows), "synthetic": sum("synthetic" in r for r in rows),
        "unreviewed": 0, "chosen_longer": sum(words(r["chosen"]) > words(r["rejected"]) for r in rows),
        "same_words": sum(words(r["chosen"]) == words(r["rejected"]) for r in rows)}
    for key, value in expected.items():
        assert ours[key] == value, f"{key}: {ours[key]}, {value} by hand"
    for part in ("prompt", "chosen", "rejected"):
        theirs = spread([words(r[part]) for r in rows])
        assert same(ours["words"][part], theirs), f"{part}: {ours['words'][part]}, {theirs} by hand"
    shown = [json.loads(line) for line in run(
        "data", "show", path, "--json", "--n", 1000, "--model_name_or_path", MODEL, "--eval_split", 0).stdout.splitlines()]
    theirs = spread([max(len(r[side]["input_ids"]) for side in ("chosen", "rejected")) for r in shown])
    assert same(ours["tokens"]["row"], theirs), f"rows: {ours['tokens']['row']}, {theirs} by data show"
    theirs = spread([sum(r["chosen"]["completion_mask"]) for r in shown])
    assert ours["tokens"]["chosen"]["n"] == theirs["n"]
    assert abs(ours["tokens"]["chosen"]["mean"] - theirs["mean"]) <= 1, "tokens of chosen replies"
    said = run("data", "stats", path).stdout
    assert f"{len(rows)} pairs" in said and "tokens" not in said, said
    singles = folder / "singles.jsonl"
    singles.write_text('{"prompt": "Tea?", "completion": "Yes, two.", "label": true}\n'
                       '{"prompt": "Tea?", "completion": "No.", "label": false}\n')
    ours = json.loads(run("data", "stats", singles, "--json").stdout)
    assert (ours["labelled"], ours["desirable"], ours["prompts"]) == (2, 1, 1), ours
    assert ours["words"]["desirable"]["most"] == 2 and ours["words"]["undesirable"]["most"] == 1, ours
    singles.write_text("{]\n")
    run("data", "stats", singles, code=65)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        check_split(folder)
        check_stats(folder)
        check_next(folder)
        check_kinds(folder)
        check_dash(folder)
        check_held_out(folder)
        check_methods(folder)
    print("split: groups together, a run's; stats: as counted by hand")


if __name__ == "__main__":
    main()
