#!/usr/bin/env python3
"""Whether llama.cpp runs the GGUF files that `lieq export` writes, with the same perplexity.

    pip install -r tests/interop/requirements-gguf.txt
    tests/interop/llama_cpp_check.py --lieq build/dev/lieq --text TEXT MODEL...

Each model is quantized in several ways and exported; llama.cpp's perplexity over the first windows of
the text, tokenized by itself, is compared with that of `lieq evaluate` on the folder and on the file.
llama.cpp multiplies packed weights with activations rounded to 8 bits, so that logits part a little.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import llama_cpp  # noqa: E402

CONTEXT, WINDOWS, TOLERANCE = 512, 8, 0.01
RTN = ["--method", "rtn"]
CASES = [  # name, arguments of quantize (None: the float model), arguments of export
    ("as it is", None, []),
    ("F16", None, ["--types", "F16", "--approximate", "--embedding-type", "F16"]),
    ("TQ2_0", None, ["--types", "TQ2_0", "--approximate"]),
    ("Q8_0", ["--uniform", "8", "--group-size", "32"], []),
    ("Q4_0", ["--uniform", "4", "--group-size", "32"], []),
    ("Q4_0 of 2 bits", ["--uniform", "2", "--group-size", "32"], ["--types", "Q4_0"]),
    ("Q2_0", ["--uniform", "2", "--group-size", "64"], []),
    ("Q4_1", ["--uniform", "4", "--group-size", "32", "--offset", "float"], []),
    ("Q5_0", ["--uniform", "4", "--group-size", "32", "--offset", "integer"], ["--types", "Q5_0"]),
    ("Q2_K", ["--uniform", "2", "--grid", "k-quant"], []),
    ("Q3_K", ["--uniform", "3", "--grid", "k-quant"], []),
    ("Q4_K", ["--uniform", "4", "--grid", "k-quant"], []),
    ("Q2_K and Q4_K", ["--high-layers", "1", "--grid", "k-quant"], []),
    ("Q2_0 and Q4_0", ["--high-layers", "1", "--group-size", "64"], []),
]


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(" ".join(command) + "\n" + done.stdout + done.stderr)
    return done.stdout


def perplexity(lieq, model, text):
    out = run(lieq, "evaluate", model, "--text", text, "--context", str(CONTEXT), "--samples",
              str(WINDOWS), "--json")
    return json.loads(out)["perplexity"]


def quantize(lieq, model, folder, options):
    run(lieq, "quantize", model, "-o", folder, *options, *RTN)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lieq", default="build/dev/lieq")
    parser.add_argument("--text", required=True)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    lib = llama_cpp.load()
    if lib is None:
        print("skipped: pip install -r tests/interop/requirements-gguf.txt")
        return 0
    with open(arguments.text, encoding="utf-8", newline="") as file:
        text = file.read(CONTEXT * WINDOWS * 16)
    bad = 0
    print("| model | types | lieq, folder | lieq, file | llama.cpp | apart |")
    print("| --- | --- | --- | --- | --- | --- |")
    for model in arguments.models:
        for name, options, export in CASES:
            with tempfile.TemporaryDirectory() as work:
                label = "| %s | %s |" % (os.path.basename(model.rstrip("/")), name)
                folder, file = os.path.join(work, "q"), os.path.join(work, "m.gguf")
                try:
                    if options is None:
                        folder = model
                    else:
                        quantize(arguments.lieq, model, folder, options)
                    run(arguments.lieq, "export", folder, "--to", "gguf", "-o", file, *export)
                except RuntimeError as error:
                    lines = str(error).strip().split("\n")[1:]
                    print(label, "not made:", " ".join(line.strip() for line in lines[:4]), "|")
                    continue
                ours = perplexity(arguments.lieq, folder, arguments.text)
                again = perplexity(arguments.lieq, file, arguments.text)
                if "--approximate" in export:
                    ours = again  # the file has other values than the folder
                theirs = llama_cpp.Model(lib, file, CONTEXT)
                ids = theirs.tokenize(text)
                windows = [ids[i * CONTEXT : (i + 1) * CONTEXT] for i in range(WINDOWS)]
                their = math.exp(sum(theirs.nll(each) for each in windows) / WINDOWS)
                theirs.close()
                apart = abs(their / ours - 1)
                good = apart < TOLERANCE and ours == again
                bad += not good
                print(label, "%.4f | %.4f | %.4f | %.3f %%%s |"
                      % (ours, again, their, 100 * apart, "" if good else " BAD"))
                sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
