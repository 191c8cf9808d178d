#!/usr/bin/env python3
"""attune completions: bash offers what --help lists, where it may stand; the other shells' scripts name the same.
completions_test.py SOURCE_DIR BUILD_DIR
"""
import pathlib
import re
import shutil
import subprocess
import tempfile

from harness import run


def commands():
    return re.findall(r"^  ([a-z_]+(?: [a-z_]+)?) {2,}\S", run("--help").stdout, re.M)


def flags(command):
    return set(re.findall(r"^  --([A-Za-z0-9_]+)", run(*command.split(), "--help").stdout, re.M))


def offered(folder, questions):
    """For each line of words what bash offers for the last one."""
    (folder / "comp.bash").write_text(run("completions", "bash").stdout)
    script = f"source {folder}/comp.bash; cd {folder}\n"
    for words in questions:
        quoted = " ".join(f"'{word}'" for word in words)
        script += f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMPREPLY=(); _attune; echo \"${{COMPREPLY[*]}}\"\n"
    out = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert out.returncode == 0 and not out.stderr, out.stderr
    return [set(line.split()) for line in out.stdout.split("\n")[:-1]]


def bash(folder):
    names = commands()
    assert len(names) > 20 and "data lint" in names and "dpo" in names, names
    (folder / "a_file.json").write_text("")
    first = {name.split()[0] for name in names}
    questions = [["attune", ""], ["attune", "da"], ["attune", "data", ""], ["attune", "dpo", "--loss_type", ""],
                 ["attune", "kto", "--loss_type", ""], ["attune", "dpo", "--use_dora", "t"], ["attune", "dpo", "a_"],
                 ["attune", "dpo", "--beta", ""], ["attune", "generate", "--chat_template", "a_"], ["attune", "dpo", "--model_name_or_path", "a_"], ["attune", "generate", "--kernels", ""]]
    questions += [["attune", *name.split(), "--"] for name in names]
    got = offered(folder, questions)
    assert got[0] == first | {"--help", "--version"}, got[0] ^ first
    assert got[1] == {"data"}
    assert got[2] == {name.split()[1] for name in names if name.startswith("data ")} | {"--help"}
    assert {"sigmoid", "ipo", "robust"} <= got[3] and "kto" not in got[3]
    assert "kto" in got[4] and "sigmoid" not in got[4]
    assert got[5] == {"true"} and got[6] == {"a_file.json"} and got[7] == set() and got[9] == {"a_file.json"}
    assert got[8] == {"a_file.json"}, "what is in capitals is no word"
    assert got[10] == {"auto", "baseline"}
    for name, words in zip(names, got[11:]):
        want = {"--" + flag for flag in flags(name)} | {"--help"}
        assert words == want, f"{name}: {words ^ want}"


def others(folder):
    fish = run("completions", "fish").stdout
    for name in commands():
        second = f"; and __fish_seen_subcommand_from {name.split()[1]}" if " " in name else ""
        lines = [line for line in fish.splitlines() if f"'__fish_seen_subcommand_from {name.split()[0]}{second}' -l " in line]
        assert {re.search(r" -l (\S+)", line)[1] for line in lines} == flags(name), name
    zsh = run("completions", "zsh").stdout
    assert zsh.endswith(run("completions", "bash").stdout) and "bashcompinit" in zsh
    for shell, text in (("fish", fish), ("zsh", zsh)):
        if shutil.which(shell):
            (folder / shell).write_text(text)
            subprocess.run([shell, "-n", folder / shell], check=True)
    run("completions", "tcsh", code=2)
    run("completions", code=2)


with tempfile.TemporaryDirectory() as name:
    bash(pathlib.Path(name))
    others(pathlib.Path(name))
