#!/usr/bin/env python3
"""Checks the documents: every link leads somewhere, and every page that the code names is there.

    tools/check_links.py               check; exit code 1 where a link is broken
    tools/check_links.py --self-test   check this script on documents with known faults

Links of *.md files to files and to headings of them, and mentions of pages of docs/ in all text
files. Links to the network are left alone.
"""

import pathlib
import re
import sys
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[[^\]\[]*\]\(([^()\s]+)\)")
MENTION = re.compile(r"\bdocs/[A-Za-z0-9_]+\.(?:md|ipynb)\b")
TEXTS = {".md", ".h", ".cpp", ".inc", ".py", ".txt", ".cmake", ".in", ".pyi", ""}


def prose(text):
    """Without code blocks, fenced or indented, and code spans: what looks like a link there is none."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    lines = [line for line in text.split("\n") if not line.startswith("    ")]
    return re.sub(r"`[^`\n]*`", "", "\n".join(lines))


def anchors(text):
    """As GitHub makes them of headings."""
    found = set()
    fenced = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for heading in re.findall(r"^#+ +(.*)$", fenced, flags=re.M):
        name = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        kept = [c for c in name if c in "-_ " or unicodedata.category(c)[0] in "LN"]
        anchor = "".join(kept).replace(" ", "-")
        number = 0
        while (anchor if number == 0 else f"{anchor}-{number}") in found:
            number += 1
        found.add(anchor if number == 0 else f"{anchor}-{number}")
    return found


def broken_links(path, root):
    for target in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            yield f"{path.relative_to(root)}: {target}: no such file"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{path.relative_to(root)}: {target}: no such heading"


def texts(root):
    """Of the project: nothing that is built, and nothing hidden."""
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        if inside[0] in ("build", "out", "dist") or any(part[0] == "." for part in inside):
            continue
        if path.suffix in TEXTS and path.is_file() and not path.is_symlink():
            yield path


def check(root):
    """(what is broken, number of documents)"""
    problems, count = [], 0
    for path in texts(root):
        if path.suffix == ".md":
            count += 1
            problems += broken_links(path, root)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for name in sorted(set(MENTION.findall(text))):
            if not (root / name).exists():
                problems.append(f"{path.relative_to(root)}: {name}: no such page")
    return problems, count


def self_test():
    d = "docs"  # so that this file names no page that is not there
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / d).mkdir()
        (root / "build").mkdir()
        (root / d / "a.md").write_text("# A b: c?\n\n```\n# not this\n[x](y)\n```\n[b](b.md#two)\n"
                                        "[self](#a-b-c) `[x](y)` [net](https://x.y/z)\n")
        (root / d / "b.md").write_text("## One\n## One\n[ok](#one-1) [no](#two) [gone](c.md)\n")
        (root / "a.cpp").write_text(f"// see {d}/gone.md and {d}/a.md\n")
        (root / "build/c.md").write_text("[gone](d.md)\n")
        found = check(root)
    expected = ([f"a.cpp: {d}/gone.md: no such page",
                 f"{d}/a.md: b.md#two: no such heading",
                 f"{d}/b.md: #two: no such heading",
                 f"{d}/b.md: c.md: no such file"], 2)
    if found != expected:
        sys.exit(f"self-test: expected {expected}, found {found}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems, count = check(ROOT)
    print("\n".join(problems) if problems else f"{count} documents, no broken link")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
