#!/usr/bin/env python3
"""Quantizes a model, evaluates it before and after, and prints one table: what ./demo shows.

usage: tools/demo_table.py LIEQ MODEL OUT
  LIEQ   the program
  MODEL  a model folder in Hugging Face's layout
  OUT    the folder to write; a result that is there is replaced

tests/demo/test_readme.py runs the same, and holds the README's table to it.
"""
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEXTS = os.path.join(ROOT, "models", "texts")
BITS = 2.34  # one layer of the sample's six at 4 bits, five at 2
CONTEXT = 512


def say(text):
    print("demo: " + text, file=sys.stderr, flush=True)


def run(lieq, *words):
    """The record that a command prints under --json."""
    done = subprocess.run([lieq, *map(str, words), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def megabytes(count):
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def measure(lieq, model, out):
    """The table as rows of (label, before, after)."""
    evaluation = os.path.join(TEXTS, "evaluation.txt")
    say(f"evaluating {model}")
    before = run(lieq, "evaluate", model, "--text", evaluation, "--context", CONTEXT)
    say(f"quantizing it to at most {BITS} bits on average: {out}")
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out + ".run", ignore_errors=True)
    run(lieq, "quantize", model, "-o", out, "--bits", BITS,
        "--calibration", os.path.join(TEXTS, "calibration.txt"))
    say(f"evaluating {out}")
    after = run(lieq, "evaluate", out, "--text", evaluation, "--context", CONTEXT)
    source, about = run(lieq, "inspect", model), run(lieq, "inspect", out)
    with open(os.path.join(out, "run.json"), encoding="utf-8") as file:
        took = json.load(file)

    widths = sorted(set(about["layer_bits"]), reverse=True)
    layers = ", ".join(f"{about['layer_bits'].count(width)} at {width:g}" for width in widths)
    return [
        ("", os.path.relpath(model), os.path.relpath(out)),
        ("layers at bits", f"{source['layers']} at 16", layers),
        ("bits per weight: codes", f"{source['code_bits_per_weight']:.2f}",
         f"{about['code_bits_per_weight']:.2f}"),
        ("bits per weight: with scales", f"{source['bits_per_weight']:.2f}",
         f"{about['bits_per_weight']:.2f}"),
        ("bytes", megabytes(source["bytes"]), megabytes(about["bytes"])),
        (f"perplexity at context {CONTEXT}", f"{before['perplexity']:.3f}",
         f"{after['perplexity']:.3f}"),
        ("seconds: quantize", "", f"{took['seconds']:.1f}"),
        ("seconds: evaluate", f"{before['seconds']:.1f}", f"{after['seconds']:.1f}"),
        ("peak memory: quantize", "", megabytes(took["peak_bytes"])),
        ("peak memory: evaluate", megabytes(before["peak_bytes"]), megabytes(after["peak_bytes"])),
    ]


def table(rows):
    """The rows as lines of text, the first one underlined."""
    sizes = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{row[0]:<{sizes[0]}}  {row[1]:>{sizes[1]}}  {row[2]:>{sizes[2]}}" for row in rows]
    lines.insert(1, "  ".join("-" * size for size in sizes))
    return "\n".join(lines)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    print("\n" + table(measure(*sys.argv[1:])))


if __name__ == "__main__":
    main()
