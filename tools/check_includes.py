#!/usr/bin/env python3
"""Checks include directions and a few rules of files against tools/folders.txt.

usage: tools/check_includes.py [--root DIR]   check; exit 1 where something is wrong
       tools/check_includes.py --table        print the table of folders for ARCHITECTURE.md
       tools/check_includes.py --self-test    check this script on trees with known faults

Of src/lieq: a folder includes only what its row allows; third-party headers stand only where
folders.txt says; a .cpp includes its own header first; paths are written from src/ on; the file
named is there. Of all C++ files of the project: #pragma once in headers, no "../", at most 800
lines. Of ARCHITECTURE.md: the table of folders agrees with folders.txt.
Messages are file:line: what is wrong, and what would be right.
"""

import fnmatch
import os
import re
import sys
import tempfile

MAX_LINES = 800
CODE_FOLDERS = ("src", "python", "tests", "bench", "fuzz", "examples", "tools")
HEADERS = (".h", ".cuh")
SOURCES = (".cpp", ".cu")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


class Rules:
    """tools/folders.txt as data."""

    def __init__(self, path):
        self.folders = {}  # name -> (purpose, [what it may include]), in dependency order
        self.unrestricted = set()  # names of the folders that may include all
        self.third_party = []  # (pattern of the header, [globs of files])
        self.system = []  # patterns
        section = "folders"
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.strip()
                if not line or line.startswith("#"):
                    continue
                if line.startswith("["):
                    section = line.strip("[]")
                    continue
                cells = [cell.strip() for cell in line.split("|")]
                if section == "folders" and len(cells) == 3:
                    self.folders[cells[0]] = (cells[1], self._allowed(cells[2], path, number))
                    if cells[2] == "all":
                        self.unrestricted.add(cells[0])
                elif section == "third-party" and len(cells) == 2:
                    self.third_party.append((cells[0], cells[1].split()))
                elif section == "system" and len(cells) == 1:
                    self.system += line.split()
                else:
                    sys.exit(f"{path}:{number}: cannot read this row of [{section}]")

    def _allowed(self, cell, path, number):
        if cell == "-":
            return []
        if cell == "all":
            return list(self.folders)
        for name in cell.split():
            if name.split("/")[0] not in self.folders:
                sys.exit(f"{path}:{number}: '{name}' is not a folder further up")
        return cell.split()

    def table(self):
        """Rows of Markdown."""
        names = list(self.folders)
        rows = ["| # | folder | purpose | may include |", "|---|---|---|---|"]
        for name, (purpose, allowed) in self.folders.items():
            if name in self.unrestricted:
                shown = "all"
            else:
                shown = ", ".join(f"`{item}`" for item in allowed) or "the standard library"
            rows.append(f"| {names.index(name) + 1} | `{name}/` | {purpose} | {shown} |")
        return rows


def includes_of(lines):
    """(line number, '<' or '"', path) of each include."""
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match[1], match[2]


def check_angled(rules, inside, header):
    """What is wrong with #include <header> in src/lieq/<inside>, or None."""
    for pattern, places in rules.third_party:
        if fnmatch.fnmatchcase(header, pattern):
            if any(fnmatch.fnmatchcase(inside, place) for place in places):
                return None
            return f"<{header}> may be included only in {', '.join(places)}"
    if header.startswith("lieq/"):
        return f'write "{header}", not <{header}>'
    if "." not in header and "/" not in header:
        return None  # the C++ standard library
    if any(fnmatch.fnmatchcase(header, pattern) for pattern in rules.system):
        return None
    return f"<{header}> is in neither [third-party] nor [system] of tools/folders.txt"


def check_quoted(rules, root, inside, header):
    """What is wrong with #include "header" in src/lieq/<inside>, or None."""
    folder = inside.split("/")[0]
    if not header.startswith("lieq/"):
        return f'"{header}": write the path from src/ on, as in "lieq/{folder}/{header}"'
    path = header[len("lieq/"):]
    target = path.split("/")[0]
    allowed = rules.folders[folder][1]
    if target != folder and target not in allowed and path not in allowed:
        may = ", ".join(allowed) or "the standard library alone"
        return f"{folder}/ may not include {target}/ (it may include {may})"
    if not os.path.isfile(os.path.join(root, "src", header)):
        return f'"{header}" is not there'
    return None


def check_library_file(rules, root, inside, lines):
    """Faults of one file under src/lieq as (line, message)."""
    folder = inside.split("/")[0]
    if "/" not in inside or folder not in rules.folders:
        yield 1, f"'{folder}' has no row in tools/folders.txt"
        return
    found = list(includes_of(lines))
    for number, kind, header in found:
        if ".." in header.split("/") or header.startswith("/"):
            continue  # told by check_any_file
        wrong = (check_angled(rules, inside, header) if kind == "<"
                 else check_quoted(rules, root, inside, header))
        if wrong:
            yield number, wrong
    stem, extension = os.path.splitext(inside)
    own = f"lieq/{stem}.h"
    if extension in SOURCES and os.path.isfile(os.path.join(root, "src", own)):
        if not found or found[0][2] != own:
            yield (found[0][0] if found else 1), f'its own header comes first: "{own}"'


def check_any_file(path, lines):
    """Faults that any C++ file can have, as (line, message)."""
    for number, _, header in includes_of(lines):
        if ".." in header.split("/") or header.startswith("/"):
            yield number, f"'{header}': no path that climbs or is absolute"
    if path.endswith(HEADERS) and not any(line.strip() == "#pragma once" for line in lines):
        yield 1, "a header without #pragma once"
    if len(lines) > MAX_LINES:
        yield MAX_LINES + 1, f"{len(lines)} lines, more than {MAX_LINES}: cut it along a natural joint"


def check_architecture(rules, root):
    """Faults of the table in ARCHITECTURE.md, as (line, message)."""
    path = os.path.join(root, "ARCHITECTURE.md")
    if not os.path.isfile(path):
        yield 1, "is not there; it shows the table of folders"
        return
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip() for line in file]
    wanted = rules.table()
    if wanted[0] not in lines:
        yield 1, f"no table that begins '{wanted[0]}' (tools/check_includes.py --table prints it)"
        return
    begin = lines.index(wanted[0])
    end = begin
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    shown = lines[begin:end]
    for index in range(max(len(shown), len(wanted))):
        if shown[index:index + 1] != wanted[index:index + 1]:
            should = wanted[index] if index < len(wanted) else "the end of the table"
            yield begin + index + 1, f"differs from tools/folders.txt, which says: {should}"
            return


def code_files(root):
    for top in CODE_FOLDERS:
        for folder, subfolders, names in os.walk(os.path.join(root, top)):
            subfolders[:] = sorted(name for name in subfolders if name != "build")
            for name in sorted(names):
                if name.endswith(HEADERS + SOURCES):
                    yield os.path.relpath(os.path.join(folder, name), root)


def check(root):
    """All faults as lines of text."""
    rules = Rules(os.path.join(root, "tools", "folders.txt"))
    faults = []
    for path in code_files(root):
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        found = list(check_any_file(path, lines))
        if path.startswith("src/lieq/"):
            found += check_library_file(rules, root, path[len("src/lieq/"):], lines)
        faults += [f"{path}:{line}: {message}" for line, message in sorted(found)]
    faults += [f"ARCHITECTURE.md:{line}: {message}" for line, message in
               check_architecture(rules, root)]
    return faults


# Files of a tree with one fault each, and the message that names it.
FAULTS = {
    "src/lieq/base/upward.cpp": ('#include "lieq/model/m.h"\n', "base/ may not include model/"),
    "src/lieq/plan/machinery.cpp": ('#include "lieq/diagnose/spectrum.h"\n',
                                    "plan/ may not include diagnose/"),
    "src/lieq/model/json.cpp": ("#include <nlohmann/json.hpp>\n", "only in io/json.h"),
    "src/lieq/base/format.h": ("#pragma once\n#include <fmt/core.h>\n", "only in *.cpp"),
    "src/lieq/base/unknown.cpp": ("#include <lzma.h>\n", "neither [third-party] nor [system]"),
    "src/lieq/base/guard.h": ("#ifndef GUARD\n#endif\n", "without #pragma once"),
    "src/lieq/base/gone.cpp": ('#include "lieq/base/gone.h"\n', "is not there"),
    "src/lieq/base/short.cpp": ('#include "b.h"\n', "write the path from src/ on"),
    "src/lieq/base/angle.cpp": ("#include <lieq/base/b.h>\n", 'write "lieq/base/b.h"'),
    "src/lieq/base/b.cpp": ('#include <vector>\n#include "lieq/base/b.h"\n', "own header comes first"),
    "src/lieq/nowhere/x.cpp": ("\n", "has no row"),
    "tests/base/climb.cpp": ('#include "../x.h"\n', "climbs"),
    "bench/long.cpp": ("//\n" * (MAX_LINES + 1), "801 lines"),
}
CLEAN = {
    "src/lieq/base/b.h": "#pragma once\n#include <unistd.h>\n#include <vector>\n",
    "src/lieq/model/m.h": '#pragma once\n#include "lieq/base/b.h"\n',
    "src/lieq/diagnose/diagnosis.h": "#pragma once\n",
    "src/lieq/diagnose/spectrum.h": '#pragma once\n#include "lieq/model/m.h"\n',
    "src/lieq/plan/p.cpp": '#include <fmt/core.h>\n#include "lieq/diagnose/diagnosis.h"\n',
    "src/lieq/io/json.h": "#pragma once\n#include <nlohmann/json.hpp>\n",
    "src/lieq/cli/main.cpp": '#include <CLI/CLI.hpp>\n#include "lieq/plan/p.h"\n',
    "src/lieq/plan/p.h": "#pragma once\n",
}
CLEAN["src/lieq/plan/p.cpp"] = '#include "lieq/plan/p.h"\n' + CLEAN["src/lieq/plan/p.cpp"]


def self_test(root):
    with open(os.path.join(root, "tools", "folders.txt"), encoding="utf-8") as file:
        folders = file.read()
    table = "\n".join(Rules(os.path.join(root, "tools", "folders.txt")).table())

    def faults_of(files):
        with tempfile.TemporaryDirectory() as tree:
            for path, text in {"tools/folders.txt": folders, **files}.items():
                path = os.path.join(tree, path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            return check(tree)

    clean = {**CLEAN, "ARCHITECTURE.md": f"# Title\n\n{table}\n\nText.\n"}
    trees = [("a clean tree", clean, None)]
    trees += [(path, {**clean, path: text}, (path, message))
              for path, (text, message) in FAULTS.items()]
    changed = clean["ARCHITECTURE.md"].replace("| `text/` |", "| `texts/` |")
    trees += [("a changed table", {**clean, "ARCHITECTURE.md": changed},
               ("ARCHITECTURE.md", "differs from tools/folders.txt")),
              ("no table", {**clean, "ARCHITECTURE.md": "# Title\n"}, ("ARCHITECTURE.md", "no table"))]
    failed = 0
    for name, files, wanted in trees:
        faults = faults_of(files)
        right = (faults == [] if wanted is None else
                 len(faults) == 1 and faults[0].startswith(wanted[0] + ":") and wanted[1] in faults[0])
        if not right:
            failed += 1
            print(f"self-test: {name}: wanted {wanted}, got {faults}")
    print(f"self-test: {len(trees) - failed} of {len(trees)} trees as expected")
    return failed


def main(arguments):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if arguments[:1] == ["--root"] and len(arguments) == 2:
        root = arguments[1]
    elif arguments == ["--table"]:
        print("\n".join(Rules(os.path.join(root, "tools", "folders.txt")).table()))
        return 0
    elif arguments == ["--self-test"]:
        return 1 if self_test(root) else 0
    elif arguments:
        print(__doc__, file=sys.stderr)
        return 2
    faults = check(root)
    for fault in faults:
        print(fault)
    if faults:
        print(f"{len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
