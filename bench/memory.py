#!/usr/bin/env python3
"""Peak resident memory of `lieq quantize` against the number of layers.

    bench/memory.py [--shape Qwen3-0.6B] [--layers 7 14 28] [--samples 8] [--context 512] [--lieq PROGRAM]

Makes random-weight checkpoints of one shape (tools/make_checkpoint), quantizes each at 2 bits with
GPTQ, and prints VmHWM (file pages included) as the program records it, and the spread.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="Qwen3-0.6B")
    parser.add_argument("--layers", type=int, nargs="+", default=[7, 14, 28])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    options = parser.parse_args()
    peaks = []
    for layers in options.layers:
        with tempfile.TemporaryDirectory() as folder:
            model, out = pathlib.Path(folder) / "model", pathlib.Path(folder) / "out"
            subprocess.run([ROOT / "tools/make_checkpoint", "--shape", options.shape, "--layers",
                            str(layers), "-o", model], check=True, capture_output=True)
            subprocess.run([options.lieq, "quantize", model, "-o", out, "-q", "--uniform", "2",
                            "--samples", str(options.samples), "--context", str(options.context)],
                           check=True, capture_output=True)
            run = json.loads((out / "run.json").read_text())
        peaks.append(run["peak_bytes"])
        print(f"{options.shape}, {layers} layers: {peaks[-1] / 1e6:.1f} MB, "
              f"{run['seconds']:.0f} s", flush=True)
    print(f"largest over smallest: {max(peaks) / min(peaks):.3f}")


if __name__ == "__main__":
    main()
