#!/usr/bin/env python3
"""Perplexity gaps of quantized models, as one table.

    bench/quality.py MODEL [--set NAME] [--samples N] [--threads N] [--lieq PROGRAM] [--shared DIR]
                     [--work DIR]

For every row: quantizes MODEL (128 windows of 1,024 tokens of calibration.wiki-books.txt unless the
row says otherwise), evaluates it and the float model on the first N windows of 1,024 tokens of
wikitext2.test.raw and c4.sample.txt, and prints gap = ln(PPL / PPL of the float model). Finished
models and evaluations in --work are used again. Each model's folder there keeps its evaluations, so
that `lieq report` takes these folders.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ["wikitext2.test.raw", "c4.sample.txt"]
RANDOM = [f"--bits 2.25 --ranking random --seed {seed}" for seed in (1, 2, 3)]
# Of damages that plans of any size are made from.
CANDIDATES = "2:128,2:64,2:32,3:128,3:64,4:128,4:64,4:32,8:64"

SETS = {
    "issue": [
        "--method rtn --uniform 2 --group-size 128 --offset integer",
        "--uniform 2 --method gptq",
        "--uniform 3 --method gptq",
        "--uniform 4 --method gptq",
    ],
    "mix": ["--uniform 2", "--bits 2.25", "--bits 2.25 --ranking first",
            "--bits 2.25 --ranking energy", *RANDOM],
    "uniform": ["--uniform 2", "--uniform 3", "--uniform 4", "--uniform 8"],
    "act-order": ["--uniform 2 --act-order none", "--uniform 2 --act-order group",
                  "--uniform 2 --act-order static", "--uniform 2 --offset integer",
                  "--uniform 2 --clip none"],
    # What 2 bits can carry: all-in 2.125, 2.25 on the grid that engines load, 2.25 on others, 2.5.
    "grids": ["--uniform 2 --group-size 128", "--uniform 2", "--uniform 2 --offset half",
              "--uniform 2 --offset float --group-size 128",
              "--uniform 2 --offset half --group-size 32", "--uniform 2 --offset float"],
    # One step more in every row, at equal bits; the last one only leaves the portable grid.
    "ladder": ["--uniform 2 --method rtn --clip none", "--uniform 2 --method rtn",
               "--uniform 2 --method gptq", "--uniform 2 --method gptq --rounds 4 --no-search",
               "--uniform 2 --method gptq --rounds 4", "--uniform 2 --residual 0",
               "--uniform 2", "--uniform 2 --offset half"],
    "wide": [f"--uniform {bits} --group-size {group} --method {method}" for bits in (3, 4)
             for group in (64, 128) for method in ("gptq", "best")],
    "k-quants": [f"--grid {grid} --method {method}" for grid in ("q2_k", "q3_k", "q4_k")
                 for method in ("weighted", "gptq", "best")],
    # The table of README. Damages are measured once, with gptq, for all sizes.
    "readme": [f"{row} --embedding-bits 8" for row in (
        "--uniform 3 --method rtn", "--uniform 4 --method rtn",
        "--uniform 3 --method gptq --samples 16", "--uniform 4 --method gptq --samples 16",
        "--uniform 3 --samples 16", "--uniform 4 --samples 16",
        # With such ends, 3.25, 3.75 and 2.75 bits in SmolLM2's layers.
        *(f"--bpw {bpw} --check 0 --sensitivities DAMAGES --samples 16"
          for bpw in ("4.37", "4.76", "3.97")))],
    # Equal bytes of the whole file, as shares of the source's: ends chosen, and ends said by hand.
    "ends": [f"--size {share}% --check 0 --sensitivities DAMAGES --samples 16{ends}"
             for share in (25, 30, 40, 50)
             for ends in ("", " --embedding-bits 4", " --embedding-bits 8",
                          " --embedding-bits 16")],
    # A tied matrix at 4 bits, nearest and calibrated; layers of 8 bits lose nearly nothing.
    "rounding": [f"--uniform 8 --embedding-bits 4 --method {method} --samples 16 --context 512"
                 for method in ("rtn", "gptq", "best")],
    "rtn": ["--method rtn --uniform 2", "--method rtn --uniform 3", "--method rtn --uniform 4"],
}


def run(command, may_not_fit=False):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if may_not_fit and "budget is below the narrowest grid" in done.stderr:
        return None
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--set", choices=SETS, default="issue")
    parser.add_argument("--row", action="append", help="options of one more row, instead of a set")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--threads", type=int, help="of quantize and evaluate (default: all)")
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "out/quality")
    options = parser.parse_args()
    data = options.shared / "data"
    options.work.mkdir(parents=True, exist_ok=True)
    quiet = ["-q", *(["--threads", str(options.threads)] if options.threads else [])]
    calibration = ["--calibration", data / "calibration.wiki-books.txt"]

    def perplexities(model, folder):
        folder.mkdir(exist_ok=True)
        kept = folder / f"eval-{options.samples}.json"
        if not kept.exists():
            kept.write_text(run([options.lieq, "evaluate", model, "--text",
                                 *(data / text for text in TEXTS), "--context", "1024",
                                 "--samples", str(options.samples), "--json", *quiet]))
        return [record["perplexity"] for record in json.loads(kept.read_text())]

    def damages():
        kept = options.work / f"{options.model.name}.sensitivities.json"
        if not kept.exists():
            run([options.lieq, "sensitivity", options.model, "-o", kept, "--method", "gptq",
                 "--samples", "16", "--damage-windows", "4", "--candidates", CANDIDATES,
                 *calibration, *quiet])
        return kept

    def share(percent):
        source = sum(file.stat().st_size for file in options.model.glob("*.safetensors"))
        return str(source * int(percent[:-1]) // 100)

    base = perplexities(options.model, options.work / f"{options.model.name}-float")
    print(f"{options.model.name}, 16 bits: {base[0]:.3f} | {base[1]:.3f} "
          f"({' | '.join(TEXTS)}, first {options.samples} windows of 1,024)\n")
    print("| options | code bits | all-in bits | MB | WikiText-2 | C4 | gaps | layers raised "
          "| seconds |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for row in options.row or SETS[options.set]:
        name = options.model.name + " " + row
        out = options.work / "".join(c if c.isalnum() or c in ".-" else "_" for c in name)
        words = [damages() if word == "DAMAGES" else share(word) if word.endswith("%") else word
                 for word in row.split()]
        if not (out / "lieq.json").exists():
            if run([options.lieq, "quantize", options.model, "-o", out, *calibration, *words,
                    *quiet], may_not_fit=True) is None:
                print(f"| `{row}` | does not fit |", flush=True)
                continue
        result = json.loads((out / "lieq.json").read_text())
        seconds = json.loads((out / "run.json").read_text())["seconds"]
        values = perplexities(out, out)
        size = sum(file.stat().st_size for file in out.glob("*.safetensors")) / 1e6
        # One number, or one for each unit where they differ.
        bits = [b if isinstance(b, dict) else {"all": b}
                for b in (layer["bits"] for layer in result["layers"])]
        least = min(min(b.values()) for b in bits)
        raised = [str(i) for i, b in enumerate(bits) if max(b.values()) != least]
        gaps = [math.log(value / reference) for value, reference in zip(values, base)]
        print(f"| `{row}` | {result['code_bits_per_weight']:.3f} | {result['bits_per_weight']:.3f} "
              f"| {size:.1f} | {values[0]:.3f} | {values[1]:.3f} | {gaps[0]:.4f} / {gaps[1]:.4f} "
              f"| {' '.join(raised) or '-'} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
