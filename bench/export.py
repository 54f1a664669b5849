#!/usr/bin/env python3
"""Seconds of `lieq export` over seconds of `cp` of its input, and its peak memory.

    bench/export.py [--shape Qwen3-0.6B] [--rounds 3] [--lieq PROGRAM]

Makes a checkpoint of random weights (tools/make_checkpoint), rounds it to a mix of 2 and 4 bits, and
exports the float folder and the quantized one, each in turn with a `cp` of the same folder. Every export
is opened and compared too unless --no-verify is given. Prints the medians.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def timed(*command):
    begin = time.perf_counter()
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    return time.perf_counter() - begin, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="Qwen3-0.6B")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    options = parser.parse_args()
    verify = ["--no-verify"] if options.no_verify else []
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        timed(ROOT / "tools/make_checkpoint", "--shape", options.shape, "-o", work / "float")
        timed(options.lieq, "quantize", work / "float", "-o", work / "mixed", "-q", "--method", "rtn", "--bits", "2.25",
              "--ranking", "first")
        print(f"{options.shape}{', not verified' if verify else ''}\n")
        print("| input | bytes | container | cp, s | export, s | ratio | peak MB |")
        print("|---|---|---|---|---|---|---|")
        for source, containers in (("float", ["gguf"]), ("mixed", ["gguf", "compressed-tensors", "gptq", "mlx"])):
            size = sum(file.stat().st_size for file in (work / source).iterdir())
            for container in containers:
                copies, exports, peak = [], [], 0
                for _ in range(options.rounds):
                    copies.append(timed("cp", "-r", work / source, work / "copy")[0])
                    shutil.rmtree(work / "copy")
                    seconds, printed = timed(options.lieq, "export", work / source, "--to", container, "-o",
                                             work / "out", "-q", "--json", "--force", *verify)
                    exports.append(seconds)
                    peak = max(peak, json.loads(printed)["peak_bytes"])
                    shutil.rmtree(work / "out") if (work / "out").is_dir() else (work / "out").unlink()
                copy, export = statistics.median(copies), statistics.median(exports)
                print(f"| {source} | {size:,} | {container} | {copy:.2f} | {export:.2f} | {export / copy:.1f} "
                      f"| {peak / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
