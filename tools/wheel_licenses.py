#!/usr/bin/env python3
"""Adds to a wheel the licences of the libraries that auditwheel put into it, as Debian's packages have them.

usage: tools/wheel_licenses.py WHEEL OUTPUT_FOLDER [ROOT]
  ROOT  the Debian that the libraries came from: this one (/), or a folder of tools/aarch64_sysroot

Needs the package wheel from PyPI.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


def fail(text):
    sys.exit(f"wheel_licenses: {text}")


def command(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def package_of(library, root):
    """The Debian package of `root` with `library`, a name as it has it: libz.so.1."""
    place = re.compile(r"^(/usr)?/lib/[^/]+-linux-gnu/(.*/)?" + re.escape(library) + "$", re.MULTILINE)
    lists = (root / "var/lib/dpkg/info").glob("*.list")
    packages = sorted({path.stem.split(":")[0] for path in lists if place.search(path.read_text())})
    if len(packages) != 1:
        fail(f"{library}: expected one package of {root} that has it, found {packages}")
    return packages[0]


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    repaired, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    root = pathlib.Path(sys.argv[3] if len(sys.argv) == 4 else "/")
    with tempfile.TemporaryDirectory() as folder:
        command(sys.executable, "-m", "wheel", "unpack", "--dest", folder, repaired)
        (tree,) = pathlib.Path(folder).iterdir()
        (info,) = tree.glob("*.dist-info")
        licences = info / "licenses"
        licences.mkdir(exist_ok=True)
        libraries = sorted(path.name for path in (tree / "lieq.libs").iterdir())
        packages, common = {}, set()
        for name in libraries:
            library = re.sub(r"-[0-9a-f]{8}(?=\.)", "", name)  # auditwheel's part of the name
            packages.setdefault(package_of(library, root), []).append(name)
        for package in packages:
            source = root / "usr/share/doc" / package / "copyright"
            text = source.read_text(encoding="utf-8", errors="replace")
            (licences / f"{package}.txt").write_text(text, encoding="utf-8")
            common |= set(re.findall(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])", text))
        for name in sorted(common):
            shutil.copyfile(root / "usr/share/common-licenses" / name, licences / f"common-licenses-{name}.txt")
        rows = [f"{package}.txt: {', '.join(names)}" for package, names in sorted(packages.items())]
        (licences / "LIBRARIES.txt").write_text(
            "The libraries in lieq.libs are Debian's, as its packages have them but for their names and the places\n"
            "where they look for one another. Their licences, by package:\n\n" + "\n".join(rows) + "\n",
            encoding="utf-8",
        )
        metadata = info / "METADATA"
        head, blank, body = metadata.read_text(encoding="utf-8").partition("\n\n")
        names = sorted(path.name for path in licences.iterdir())
        kept = [line for line in head.splitlines() if not line.startswith("License-File: ")]
        head = "\n".join(kept + [f"License-File: {name}" for name in names])
        metadata.write_text(head + blank + body, encoding="utf-8")
        output.mkdir(parents=True, exist_ok=True)
        print(command(sys.executable, "-m", "wheel", "pack", "--dest-dir", output, tree))


if __name__ == "__main__":
    main()
