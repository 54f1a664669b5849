#!/usr/bin/env python3
"""Seconds of `lieq quantize` over seconds of `lieq evaluate` on the same number of tokens.

    bench/speed.py MODEL [--samples 128] [--rounds 3] [--lieq PROGRAM] [--shared DIR] [--options "..."]

Runs the two in turn on the same machine, `--rounds` times, and prints each round and the medians.
`quantize` (GPTQ, --bits 2.25 by compactness unless --options says otherwise) reads windows of 1,024
tokens of calibration.wiki-books.txt; `evaluate` the same text and windows. Seconds are those that
the programs report: of the whole run for quantize, of the passes over the windows for evaluate.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", default="--method gptq --bits 2.25")
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    options = parser.parse_args()
    text = options.shared / "data/calibration.wiki-books.txt"
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out"
            subprocess.run([options.lieq, "quantize", options.model, "-o", out, "-q", "--samples",
                            str(options.samples), "--calibration", text, *options.options.split()],
                           check=True, capture_output=True)
            run = json.loads((out / "run.json").read_text())
        result = subprocess.run([options.lieq, "evaluate", options.model, "--text", text, "-q",
                                 "--samples", str(options.samples), "--json"],
                                check=True, capture_output=True, text=True)
        evaluated = json.loads(result.stdout)
        rounds.append((run["seconds"], evaluated["seconds"]))
        print(f"quantize {rounds[-1][0]:.1f} s, evaluate {rounds[-1][1]:.1f} s, "
              f"ratio {rounds[-1][0] / rounds[-1][1]:.2f}", flush=True)
    ratio = statistics.median(quantize / evaluate for quantize, evaluate in rounds)
    print(f"{options.model.name}, {options.samples} windows of 1,024, {options.options}, "
          f"{run['threads']} threads, {run['device']}: median ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
