#!/usr/bin/env python3
"""What a sweep over the number of 4-bit layers costs, in quantizations.

    bench/sweep.py MODEL [--lieq PROGRAM] [--shared DIR] [--work DIR] [--most M] [--windows N]

Times, one after another on the same machine: a quantization at 2 and one at 4 bits; `lieq study
layers` of 1..M layers by three rankings, codes made on the way; and the same study again from those
codes, which evaluates the same models and makes nothing else. What the sweep itself costs is the
difference of the two, in units of two quantizations.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def seconds(command):
    begin = time.monotonic()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/bench-sweep")
    parser.add_argument("--most", type=int, default=16)
    parser.add_argument("--windows", type=int, default=8)
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    calibration = ["--calibration", options.shared / "data/calibration.wiki-books.txt", "--quiet"]

    quantize = sum(
        seconds([options.lieq, "quantize", options.model, "-o", options.work / f"u{bits}",
                 "--uniform", bits, *calibration]) for bits in (2, 4))
    study = [options.lieq, "study", "layers", options.model, "--rankings",
             "compactness,energy,first", "--most", options.most, "--windows", options.windows,
             "--texts", options.shared / "data/wikitext2.test.raw", *calibration]
    sweep = seconds([*study, "-o", options.work / "sweep"])
    again = seconds([*study, "-o", options.work / "again", "--codes", options.work / "sweep/codes"])
    print(f"two quantizations          {quantize:.1f} s")
    print(f"sweep, codes made          {sweep:.1f} s ({3 * options.most + 1} models)")
    print(f"evaluating the same models {again:.1f} s")
    print(f"codes of the sweep         {sweep - again:.1f} s, {(sweep - again) / quantize:.2f} of two "
          "quantizations")


if __name__ == "__main__":
    main()
