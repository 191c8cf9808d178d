"""Layers: includes follow the table in CMakeLists.txt, header names are unique, vulkan.h and glslang
stay in engine/gpu, the operating system in os_*.c, and only engine/cli prints.

    layers_test.py SOURCE_DIR BUILD_DIR
"""

import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
LAYER = re.compile(r"^at_layer\((\w+)\s+(\S+?)(?:\s+MAY\s+([\w ]+?))?(?:\s+LINK\s[^)]*)?\)", re.M)
OS_HEADER = re.compile(
    r"(sys/.*|arpa/.*|net/.*|netinet/.*|linux/.*|"
    r"(aio|dirent|dlfcn|fcntl|ftw|glob|grp|libgen|mqueue|netdb|poll|pthread|pwd|sched|semaphore|"
    r"signal|spawn|syslog|termios|threads|unistd|wordexp|windows)\.h)$"
)
# Calls that stdio.h, stdlib.h and time.h offer, but that ask the operating system for something.
OS_CALL = re.compile(
    r"(?<![\w.>])(fopen|freopen|fdopen|tmpfile|remove|rename|popen|system|getenv|secure_getenv|"
    r"setenv|unsetenv|putenv|mkstemp|mkdtemp|realpath|clock|clock_gettime|time|timespec_get|"
    r"signal|raise)\s*\("
)
PRINT = re.compile(r"(?<![\w.>])(printf|vprintf|puts|putchar|perror)\s*\(|\b(stdout|stderr)\b")
# C texts that a GLSL compiler reads, too, may include these from anywhere.
SHARED_FOLDERS = ("shaders", "losses")


def strip(text):
    """The text without comments and string contents; line numbers stay."""

    def blank(match):
        found = match.group(0)
        if found[0] == "/":
            return re.sub(r"[^\n]", " ", found)
        return found[0] + found[0]

    token = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    includes = [(m.start(), m.end()) for m in INCLUDE.finditer(text)]

    def keep_includes(match):
        if any(a <= match.start() < b for a, b in includes):
            return match.group(0)
        return blank(match)

    return re.sub(token, keep_includes, text, flags=re.S)


def read_layers(cmake):
    """{layer: (folder, set of layers it may include)} from CMakeLists.txt; cli may include all."""
    layers = {}
    for name, folder, may in LAYER.findall(cmake):
        layers[name] = (folder, set(may.split()) | {name})
    layers["cli"] = ("engine/cli", set(layers) | {"cli"})
    return layers


def layer_of(path, layers):
    folder = path.parent.as_posix()
    for name, (its, _) in layers.items():
        if folder == its or folder.startswith(its + "/"):
            return name
    return None


def check_file(path, text, layers, owner):
    """Complaints about one file of a layer; `owner` maps a header's name to its layer."""
    layer = layer_of(path, layers)
    is_os = layer == "base" and path.name.startswith("os_")
    code = strip(text)

    def at(position, complaint):
        return f"{path}:{code.count(chr(10), 0, position) + 1}: {complaint}"

    for match in INCLUDE.finditer(code):
        kind, name = match.groups()
        if "../" in name:
            yield at(match.start(), f'"{name}": no ../ in includes')
        elif kind == '"' and owner.get(name) not in layers[layer][1] | {None}:
            yield at(match.start(), f"{layer} may not include {name} of {owner[name]}")
        if name.startswith(("glslang/", "vulkan/")) and layer != "gpu":
            yield at(match.start(), f"{name} belongs to engine/gpu")
        if kind == "<" and OS_HEADER.match(name) and not is_os:
            yield at(match.start(), f"{name} belongs to engine/base/os_*.c")
    if not is_os:
        for match in OS_CALL.finditer(code):
            yield at(match.start(), f"{match.group(1)}() belongs to engine/base/os_*.c")
    is_bug_printer = path.as_posix() == "engine/base/status.c"
    if layer != "cli":
        for match in PRINT.finditer(code):
            if not is_bug_printer or match.group(2) != "stderr":
                yield at(match.start(), f"{match.group(0)}: only engine/cli prints")


def check_tree(root):
    layers = read_layers((root / "CMakeLists.txt").read_text())
    if len(layers) < 5:
        yield "CMakeLists.txt: the layer table was not understood"
    headers, files = {}, []
    for folder in ("engine", "data", "losses", "shaders"):
        for path in sorted((root / folder).rglob("*.[ch]")):
            files.append(path.relative_to(root))
            if path.suffix == ".h":
                headers.setdefault(path.name, []).append(path.relative_to(root))
    for name, paths in headers.items():
        if len(paths) > 1:
            yield f"{paths[1]}: another header has this name: {paths[0]}"
    owner = {name: layer_of(paths[0], layers) for name, paths in headers.items()}
    for path in files:
        if layer_of(path, layers):
            yield from check_file(path, (root / path).read_text(), layers, owner)
        elif path.parts[0] not in SHARED_FOLDERS:
            yield f"{path}: belongs to no layer of CMakeLists.txt"


def main():
    complaints = list(check_tree(Path(sys.argv[1])))
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
