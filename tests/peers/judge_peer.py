#!/usr/bin/env python3
"""BLEU, ROUGE-L, sign test and bootstrap of 200 new cases are those of sacrebleu, rouge-score and scipy:
judge_peer.py UNIT_JUDGE"""
import os
import pathlib
import random
import subprocess
import sys
import tempfile

MAKER = pathlib.Path(__file__).resolve().parents[1] / "unit" / "fixtures" / "make_judge.py"


def main():
    seed = random.randrange(1 << 31)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as cases:
        subprocess.run([sys.executable, MAKER, "200", str(seed)], stdout=cases, check=True)
        code = subprocess.run([sys.argv[1]], env={**os.environ, "ATTUNE_JUDGE_CASES": cases.name}).returncode
    print(f"{'ok  ' if code == 0 else 'FAIL'} 200 cases of seed {seed}")
    sys.exit(code)


if __name__ == "__main__":
    main()
