"""The README's table of ./demo is the table that ./demo prints, within what processors differ by."""
import os
import re
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import demo_table  # noqa: E402

# How far a figure may lie from the README's, as a factor: the same everywhere, or not at all.
ANY, EXACT = None, 1.0
RANGES = [("layers", EXACT), ("bits", EXACT), ("bytes", 1.01), ("perplexity", 1.03),
          ("seconds", ANY), ("peak memory", 2.0)]


def readme_table():
    """The lines of the README's code block that holds the table."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```", file.read(), re.M | re.S)
    found = [block for block in blocks if "layers at bits" in block]
    assert len(found) == 1, f"README.md has {len(found)} blocks with the demo's table"
    lines = [line.rstrip() for line in found[0].splitlines() if line.strip()]
    return [line for line in lines if not set(line) <= {"-", " "}]


def number(cell):
    """The first number in a cell such as "13.9 MB", with its unit: ("13.9", "MB")."""
    match = re.match(r"([\d.]+) ?([A-Za-z]*)$", cell)
    return (float(match.group(1)), match.group(2)) if match else None


class ReadmeTable(unittest.TestCase):
    def test_is_what_the_demo_prints(self):
        lieq = os.environ["LIEQ_PROGRAM"]
        os.chdir(ROOT)
        with tempfile.TemporaryDirectory() as folder:
            rows = demo_table.measure(lieq, "models/sample", os.path.join(folder, "sample-2.34"))
        lines = readme_table()
        self.assertEqual(len(lines), len(rows), "the README's table has other rows")
        for line, (label, *cells) in zip(lines[1:], rows[1:]):
            self.assertTrue(line.startswith(label), f"'{line}' is not the row '{label}'")
            words = re.split(r"  +", line[len(label):].strip())
            factor = next(factor for name, factor in RANGES if name in label)
            for said, printed in zip(words, [cell for cell in cells if cell], strict=True):
                if factor == EXACT or number(printed) is None:
                    self.assertEqual(said, printed, label)
                    continue
                (a, unit), (b, same_unit) = number(said), number(printed)
                self.assertEqual(unit, same_unit, label)
                self.assertGreater(a, 0, label)
                if factor is not ANY:
                    self.assertLessEqual(max(a, b) / min(a, b), factor, f"{label}: {said}, {printed}")


if __name__ == "__main__":
    unittest.main()
