#!/usr/bin/env python3
"""Perplexity gaps of allocations at the same true bytes, as one table.

    bench/allocation.py MODEL [--bpw B ...] [--samples N] [--lieq PROGRAM] [--shared DIR] [--work DIR]

At each all-in budget (scales and zero-points counted): uniform 2 bits in groups of 32 where that
takes no more than the budget, layers raised from 2 to 4 bits by every ranking, and the optimal
allocation by layer and by group. All are put together from one folder of codes (made from 128
windows of calibration.wiki-books.txt), so that they differ in the allocation alone, and evaluated on
the first N windows of 1,024 tokens of wikitext2.test.raw and c4.sample.txt; gap = ln(PPL / PPL of
the float model). Diagnostics and damages are measured on the calibration text. Finished rows in
--work are used again.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ["wikitext2.test.raw", "c4.sample.txt"]
RANKINGS = ["compactness", "energy", "perplexity-drop", "combined", "solo", "block-influence",
            "first", "last", "ends", "random"]


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


class Bench:
    def __init__(self, options):
        self.options = options
        self.model = options.model
        self.work = options.work / options.model.name
        self.work.mkdir(parents=True, exist_ok=True)
        self.calibration = ["--calibration", options.shared / "data/calibration.wiki-books.txt"]
        self.codes = ["--codes", self.work / "codes"]
        self.damage = ["--damage-windows", options.damage_windows]
        self.float_nll = self.evaluate(options.model, "float")

    def evaluate(self, folder, name):
        file = self.work / f"{name}.nll{self.options.samples}.json"
        if not file.exists():
            nll = {}
            for text in TEXTS:
                out = run([self.options.lieq, "evaluate", folder, "--text",
                           self.options.shared / "data" / text, "--samples", self.options.samples,
                           "--json", "--quiet"])
                nll[text] = json.loads(out)["mean_nll"]
            file.write_text(json.dumps(nll))
        return json.loads(file.read_text())

    def measurements(self):
        diagnostics = self.work / "diagnostics.json"
        if not diagnostics.exists():
            run([self.options.lieq, "diagnose", self.model, "-o", diagnostics, "--text",
                 self.options.shared / "data/calibration.wiki-books.txt", "--samples", 4,
                 "--quiet", *self.calibration])
        sensitivities = self.work / "sensitivities.json"
        if not sensitivities.exists():
            run([self.options.lieq, "sensitivity", self.model, "-o", sensitivities, "--quiet",
                 "--method", self.options.method,
                 *self.codes, *self.damage, *self.calibration])
        return diagnostics, sensitivities

    def row(self, name, plan_options):
        """Plan, put together, evaluate: (bits of the file, gaps, predicted KL)."""
        plan = self.work / f"{name}.plan.json"
        if not plan.exists():
            run([self.options.lieq, "plan", self.model, "-o", plan, "--quiet",
                 "--method", self.options.method, *plan_options])
        out = self.work / "out"
        if not (self.work / f"{name}.nll{self.options.samples}.json").exists():
            run([self.options.lieq, "quantize", self.model, "-o", out, "--plan", plan, "--assemble",
                 "--method", self.options.method,
                 "--force", "--quiet", *self.codes, *self.calibration,
                 *(["--group-size", 32] if name == "uniform-2-g32" else [])])
        nll = self.evaluate(out, name)
        gaps = [nll[text] - self.float_nll[text] for text in TEXTS]
        record = json.loads(plan.read_text())
        return record["file_bits_per_weight"], gaps, record.get("predicted_kl")

    def budget(self, bpw, diagnostics, sensitivities):
        rows = {}
        if bpw >= 3.0:
            rows["uniform 2 bits, groups of 32"] = self.row(
                "uniform-2-g32", ["--uniform", 2, "--embedding-bits", 8])
        for ranking in RANKINGS:
            options = ["--bpw", bpw, "--embedding-bits", 8, "--ranking", ranking,
                       "--diagnostics", diagnostics]
            if ranking == "solo":
                options += ["--sensitivities", sensitivities]
            rows[f"top-m, {ranking}"] = self.row(f"{bpw}-{ranking}", options)
        for granularity in ["layer", "group"]:
            rows[f"optimal by {granularity}"] = self.row(
                f"{bpw}-optimal-{granularity}",
                ["--bpw", bpw, "--embedding-bits", 8, "--allocation", "optimal", "--granularity", granularity,
                 "--sensitivities", sensitivities, "--check", 0, *self.codes, *self.damage,
                 *self.calibration])
        return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--bpw", type=float, nargs="+", default=[3.0, 3.25, 3.5])
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--damage-windows", type=int, default=8)
    parser.add_argument("--method", default="best")
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/bench-allocation")
    bench = Bench(parser.parse_args())

    floats = " | ".join(f"{math.exp(bench.float_nll[text]):.3f}" for text in TEXTS)
    print(f"{bench.model.name}, 16 bits: {floats} ({' | '.join(TEXTS)}, first "
          f"{bench.options.samples} windows of 1,024)\n", flush=True)
    diagnostics, sensitivities = bench.measurements()
    for bpw in bench.options.bpw:
        rows = bench.budget(bpw, diagnostics, sensitivities)
        print(f"| {bpw} bits of the file | spent | WikiText-2 gap | C4 gap |\n|---|---|---|---|")
        for name, (bits, gaps, _) in rows.items():
            print(f"| {name} | {bits:.4f} | {gaps[0]:.4f} | {gaps[1]:.4f} |")
        others = [gaps for name, (_, gaps, _) in rows.items() if not name.startswith("optimal")]
        group = rows["optimal by group"][1]
        layer = rows["optimal by layer"][1]
        for i, text in enumerate(TEXTS):
            best = min(gaps[i] for gaps in others)
            print(f"\n{text}: optimal by group over the best of the others "
                  f"{group[i] / best:.3f}, over optimal by layer {group[i] / layer[i]:.3f}; by "
                  f"layer over the others {layer[i] / best:.3f}")
        print(flush=True)


if __name__ == "__main__":
    main()
