#!/usr/bin/env python3
"""Compares our tokenizer with Hugging Face's: ids must be equal, seconds are printed side by side.

    python3 -m venv venv && venv/bin/pip install tokenizers
    cmake --preset dev && cmake --build build/dev --target tokenizer_bench
    venv/bin/python bench/tokenizer_bench.py build/dev/bench/tokenizer_bench TEXT TOKENIZER_JSON...

Both encode the whole text on one thread, without special tokens, in turns; the median of five rounds
counts. Loading the tokenizer is not part of it.
"""

import os

os.environ["RAYON_NUM_THREADS"] = "1"  # read when tokenizers is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import tokenizers

ROUNDS = 5


def ours_once(program, tokenizer_json, text_file, ids_file):
    run = subprocess.run([program, tokenizer_json, text_file, "1", ids_file], check=True,
                         capture_output=True, text=True)
    return float(run.stdout.split()[0])


def compare(program, tokenizer_json, text_file):
    """(seconds of theirs, seconds of ours, number of ids); exits where ids differ."""
    reference = tokenizers.Tokenizer.from_file(tokenizer_json)
    text = pathlib.Path(text_file).read_bytes().decode(errors="replace")
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        ids_file = os.path.join(folder, "ids")
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            expected = reference.encode(text, add_special_tokens=False).ids
            theirs.append(time.perf_counter() - begin)
            ours.append(ours_once(program, tokenizer_json, text_file, ids_file))
        ids = [int(line) for line in open(ids_file)]
    if ids != expected:
        first = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b),
                     min(len(ids), len(expected)))
        sys.exit(f"{tokenizer_json}: ids differ from number {first} on")
    return statistics.median(theirs), statistics.median(ours), len(ids)


def main(arguments):
    if len(arguments) < 3:
        sys.exit(__doc__)
    program, text_file, *files = arguments
    size = os.path.getsize(text_file)
    print(f"{text_file}: {size} bytes; tokenizers {tokenizers.__version__}; one thread; "
          f"median of {ROUNDS}; ids equal")
    print(f"{'tokenizer':<24} {'ids':>8} {'theirs s':>9} {'ours s':>8} {'MB/s':>6} {'ratio':>6}")
    for file in files:
        theirs, ours, count = compare(program, file, text_file)
        name = "/".join(pathlib.Path(file).parts[-3:-1])
        print(f"{name:<24} {count:>8} {theirs:>9.3f} {ours:>8.3f} {size / ours / 1e6:>6.1f} "
              f"{theirs / ours:>6.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
