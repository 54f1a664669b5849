"""What the tests share: the sample model, the program to compare with, and a reader of its own."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLE = os.path.join(ROOT, "models", "sample")
TEXT = os.path.join(ROOT, "models", "texts", "evaluation.txt")
CALIBRATION = os.path.join(ROOT, "models", "texts", "calibration.txt")
PROGRAM = os.environ["LIEQ_PROGRAM"]

sys.path.insert(0, os.path.join(ROOT, "tests", "interop"))
import common  # noqa: E402: decodes folders with numpy alone

logging.getLogger("lieq").addHandler(logging.NullHandler())  # no warnings among the tests' lines


def program(*words):
    """What the program prints under --json."""
    done = subprocess.run([PROGRAM, *words, "--json", "-q"], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"lieq {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def without(record, *keys):
    return {key: value for key, value in record.items() if key not in keys}


class InFolder(unittest.TestCase):
    """Tests with a folder of their own, which goes with them."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)
