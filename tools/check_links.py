#!/usr/bin/env python3
"""Checks the documents: every link leads somewhere, and every page that the code names is there.

    tools/check_links.py

Links of *.md files to files and to headings of them, and mentions of pages of docs/ in all text
files. Links to the network are left alone. Exit code 1 where one is broken.
"""

import pathlib
import re
import sys
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


def broken_links(path):
    for target in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            yield f"{path.relative_to(ROOT)}: {target}: no such file"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: {target}: no such heading"


def texts():
    """Of the project: nothing that is built, and nothing hidden."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        if inside[0] in ("build", "out", "dist") or any(part[0] == "." for part in inside):
            continue
        if path.suffix in TEXTS and path.is_file() and not path.is_symlink():
            yield path


def main():
    problems, count = [], 0
    for path in texts():
        if path.suffix == ".md":
            count += 1
            problems += broken_links(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for name in sorted(set(MENTION.findall(text))):
            if not (ROOT / name).exists():
                problems.append(f"{path.relative_to(ROOT)}: {name}: no such page")
    print("\n".join(problems) if problems else f"{count} documents, no broken link")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
