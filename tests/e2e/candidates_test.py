#!/usr/bin/env python3
# labels: slow
"""attune generate --pairs: each reply is what generate gives for that adapter, temperature and system message, rows are
marked and `attune label` takes them; --vary: prompts that are none of the seeds.
candidates_test.py SOURCE_DIR BUILD_DIR
"""
import json
import pathlib
import shutil
import tempfile

from harness import GOLDEN, run

MODEL = GOLDEN / "models" / "tiny_llama"
MARKS = {"synthetic": True, "reviewed": False}
QUESTIONS = ["where is the tea", "help", "thank you"]


def generate(*arguments, code=0):
    out = run("generate", MODEL, "--max_new_tokens", 12, *arguments, code=code)
    return [json.loads(line) for line in out.stdout.splitlines()], out.stderr


def adapters_in(work):
    for name in ("dpo_sigmoid", "kto"):  # trained in the golden runs
        folder = work / name
        folder.mkdir()
        shutil.copy(GOLDEN / name / "init_adapter" / "adapter_config.json", folder)
        shutil.copy(GOLDEN / name / "final_adapter.safetensors", folder / "adapter_model.safetensors")
        yield folder


def user(text):
    return {"role": "user", "content": text}


def texts(prompts, *arguments):
    return [row["text"] for row in generate("--prompts", prompts, "--json", *arguments)[0]]


def pairs(work, prompts):
    one, other = adapters_in(work)
    rows, said = generate("--prompts", prompts, "--pairs", "--adapter", one, "--other_adapter", other)
    want = list(zip(texts(prompts, "--adapter", one), texts(prompts, "--adapter", other)))
    different = [i for i, (a, b) in enumerate(want) if a.strip() != b.strip()]
    assert different, "the adapters reply the same: they show nothing here"
    assert rows == [{"prompt": [user(QUESTIONS[i])], "responses": list(want[i]), **MARKS} for i in different], rows
    assert "attune label" in said.splitlines()[-1], said

    rows, _ = generate("--prompts", prompts, "--pairs", "--adapter", one, "--other_adapter", "none")
    bare = dict(zip(QUESTIONS, texts(prompts)))
    assert rows and all(row["responses"][1] == bare[row["prompt"][0]["content"]] for row in rows), rows

    rows, _ = generate("--prompts", prompts, "--pairs", "--system_prompt", "be kind", "--other_temperature", 5)
    kind = dict(zip(QUESTIONS, texts(prompts, "--system_prompt", "be kind")))
    assert len(rows) == len(QUESTIONS)
    for row in rows:  # both were asked with it
        assert row["prompt"][0] == {"role": "system", "content": "be kind"}
        assert row["responses"][0] == kind[row["prompt"][1]["content"]] != row["responses"][1]
    rows, _ = generate("--prompts", prompts, "--pairs", "--system_prompt", "be kind", "--other_system_prompt", "")
    assert rows
    for row in rows:
        question = row["prompt"][0]
        assert row["prompt"] == [user(question["content"])], row
        assert row["responses"] == [kind[question["content"]], bare[question["content"]]], row

    path = work / "candidates.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = run("label", path, "--export", work / "out.jsonl", code=66).stderr  # read, and nothing decided yet
    assert "nothing has been labelled yet" in said, said


def proposals(prompts):
    seeds = [json.loads(line)["prompt"] for line in prompts.open()]
    hot = ["--vary", prompts, "--n", 6, "--temperature", 3, "--stop", "e"]
    rows, said = generate(*hot)
    assert rows and f"{len(rows)} of 6" in said and "--pairs" in said.splitlines()[-1], said
    for row in rows:
        (message,) = row.pop("prompt")
        assert row == MARKS and message["role"] == "user" and message["content"].strip()
        assert message["content"] not in seeds and "\n" not in message["content"]
    one = prompts.with_name("one.jsonl")
    one.write_text(prompts.read_text().splitlines()[0] + "\n")
    same, said = generate("--vary", one, "--n", 3, "--temperature", 0, "--stop", " ")  # one question, three times
    assert len(same) == 1 and "1 of 3" in said and "in 1 draw" in said, said
    assert generate(*hot, "--seed", 1)[0] != generate(*hot)[0]


def refusals(prompts):
    for arguments, code, words in (
            (["--prompts", prompts, "--pairs", "--other_temperature", 0], 65, "no pair was made"),
            (["--prompts", prompts, "--other_temperature", 1], 2, "add --pairs"),
            (["--prompts", prompts, "--n", 3], 2, "--vary"),
            (["--prompts", prompts, "--vary", prompts], 2, "takes none"),
            (["--pairs", "--vary", prompts], 2, "two steps"),
            (["--pairs", "--prompts", prompts, "--json"], 2, "--json is of plain replies"),
            (["--prompts", prompts, "--adapter_scale", 2], 2, "there is no adapter"),
            (["--prompts", prompts, "--rollouts"], 2, "--num_generations"),
            (["--pairs", "--prompts", prompts, "--other_temperature", "hot"], 2, "--other_temperature"),
            (["--pairs"], 2, "a prompt is missing")):
        said = generate(*arguments, code=code)[1]
        assert words in said.splitlines()[-1], (arguments, said)


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    prompts = work / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in QUESTIONS))
    pairs(work, prompts)
    proposals(prompts)
    refusals(prompts)
