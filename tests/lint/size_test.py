"""Sizes: a file has at most 800 lines, a function at most 100.

    size_test.py SOURCE_DIR BUILD_DIR
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 100
FOLDERS = ("engine", "data", "losses", "shaders", "tests")
SUFFIXES = (".c", ".h", ".def", ".comp", ".glsl", ".py", ".sh")


def function_lengths(paths, root):
    """(path, line, name, lines) of every C function, by ctags."""
    command = ["ctags", "--output-format=json", "--languages=C", "--kinds-C=f", "--fields=+ne",
               "-f", "-", "-L", "-"]
    listing = subprocess.run(command, input="\n".join(paths), cwd=root, text=True, check=True,
                             capture_output=True).stdout
    for line in listing.splitlines():
        tag = json.loads(line)
        if "end" in tag:
            yield tag["path"], tag["line"], tag["name"], tag["end"] - tag["line"] + 1


def main():
    root = Path(sys.argv[1])
    if not shutil.which("ctags"):
        print("ctags (universal-ctags) is missing: function lengths cannot be counted")
        return 125
    complaints, c_files = [], []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file():
                continue
            name = path.relative_to(root).as_posix()
            lines = path.read_text().count("\n")
            if lines > MAX_FILE_LINES:
                complaints.append(f"{name}: {lines} lines, at most {MAX_FILE_LINES}")
            if path.suffix in (".c", ".h"):
                c_files.append(name)
    functions = list(function_lengths(c_files, root))
    if not functions:
        complaints.append("ctags found no function")
    for path, line, name, lines in functions:
        if lines > MAX_FUNCTION_LINES:
            complaints.append(f"{path}:{line}: {name}() has {lines} lines, at most "
                              f"{MAX_FUNCTION_LINES}")
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
