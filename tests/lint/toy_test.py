"""Toy: make_toy.py writes the committed files of data/toy again, byte for byte; held-out requests
are in no training file, and few SFT replies are polite, so that the preference step has work to do.

    toy_test.py SOURCE_DIR BUILD_DIR
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MAX_POLITE = 0.2
POLITE = "gladly"


def files(folder):
    """{relative name: bytes}, without the maker and Python's caches."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix not in (".py", ".pyc")}


def made_files(maker):
    """What a copy of the maker writes beside itself, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / maker.name
        shutil.copy(maker, copy)
        # -I: nothing from the environment or the working folder.
        done = subprocess.run([sys.executable, "-I", str(copy)], cwd=folder, text=True,
                              capture_output=True, timeout=120)
        if done.returncode:
            return None, f"{maker.name} failed:\n{done.stderr}"
        return files(Path(folder)), None


def compare(made, committed):
    for name in sorted(made.keys() | committed.keys()):
        if name not in committed:
            yield f"{name}: make_toy.py writes it, but it is not in data/toy"
        elif name not in made:
            yield f"{name}: make_toy.py does not write it"
        elif made[name] != committed[name]:
            pairs = enumerate(zip(made[name].split(b"\n"), committed[name].split(b"\n")), 1)
            line = next((n for n, (a, b) in pairs if a != b), "end")
            yield f"{name}:{line}: differs from what make_toy.py writes"


def rows(committed, name, complaints):
    try:
        found = [json.loads(line) for line in committed[name].decode().splitlines()]
    except (KeyError, ValueError) as error:
        complaints.append(f"{name}: {type(error).__name__}: {error}")
        return []
    if not found:
        complaints.append(f"{name}: no rows")
    return found


def request(messages):
    return " ".join(messages[0]["content"].split())


def main():
    folder = Path(sys.argv[1]) / "data" / "toy"
    committed = files(folder)
    made, why = made_files(folder / "make_toy.py")
    complaints = [why] if why else list(compare(made, committed))
    held = {request(row["prompt"]) for row in rows(committed, "heldout.jsonl", complaints)}
    sft = rows(committed, "sft.jsonl", complaints)
    pairs = rows(committed, "pairs.jsonl", complaints)
    for name, key, found in (("sft.jsonl", "messages", sft), ("pairs.jsonl", "prompt", pairs)):
        complaints += [f"{name}:{number}: the request is held out: {request(row[key])}"
                       for number, row in enumerate(found, 1) if request(row[key]) in held]
    polite = sum(POLITE in row["messages"][-1]["content"].split() for row in sft)
    if polite > MAX_POLITE * len(sft):
        complaints.append(f"sft.jsonl: {polite} of {len(sft)} replies are polite, at most "
                          f"{MAX_POLITE:.0%}")
    print(f"toy: {len(committed)} files, {len(sft)} SFT rows ({polite} polite), {len(pairs)} "
          f"pairs, {len(held)} held out")
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
