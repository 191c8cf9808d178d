"""A loss that couples rows of a micro-batch says so: its header has a line "Couples: ...", no other has.
The losses that losses/README.md shows are the files, among them every example of a loss of one's own.

    losses_test.py SOURCE_DIR BUILD_DIR
"""

import re
import sys
from pathlib import Path

# Letters of losses.def for what a driver computes over a micro-batch before the loss sees a row.
COUPLED = {"PAIR": "b", "POLICY": "", "ROW": "k", "TOKEN": ""}


def words(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S).split()


def shown(folder):
    """What is wrong with the files that the README shows."""
    examples = {path.stem: path for path in folder.glob("examples/*.h")}
    blocks = re.findall(r"```c\n(.*?)```", (folder / "README.md").read_text(), re.S)
    names = {re.search(r"_LOSS\((\w+)\)", block)[1]: block for block in blocks}
    for name in sorted(set(examples) - set(names)):
        yield f"losses/README.md does not show examples/{name}.h"
    for name, block in names.items():
        path = examples.get(name, folder / f"{name}.h")
        if not path.exists() or words(block) != words(path.read_text()):
            yield f"losses/README.md: what it shows as {name} is not {path.relative_to(folder.parent)}"


def main():
    folder = Path(sys.argv[1]) / "losses"
    rows = re.findall(r'^(PAIR|POLICY|ROW|TOKEN)_LOSS_ROW\((\w+), "\w+"(?:, "(\w*)")?,', (folder / "losses.def").read_text(), re.M)
    complaints, n = [], 0
    if {kind for kind, *_ in rows} != set(COUPLED):
        complaints.append(f"losses.def: rows of {sorted(kind for kind, *_ in rows)} were found, of each of {sorted(COUPLED)} expected")
    for kind, name, reads in rows:
        header = (folder / f"{name}.h").read_text().split("*/")[0]
        says = re.search(r"^(?:/\*| \*) Couples: \S", header, re.M) is not None
        coupled = any(letter in COUPLED[kind] for letter in reads)
        n += coupled
        if coupled and not says:
            complaints.append(f"losses/{name}.h: losses.def says that it couples rows of a micro-batch, its header "
                              'does not say which and how: a line "Couples: ..."')
        if says and not coupled:
            complaints.append(f"losses/{name}.h: its header has a line Couples:, its row in losses.def no letter for it")
    if n < 3:
        complaints.append(f"losses.def: {n} losses that couple rows were found, 3 or more are expected")
    for complaint in complaints + list(shown(folder)):
        print(complaint)
    sys.exit(1 if complaints or list(shown(folder)) else 0)


if __name__ == "__main__":
    main()
