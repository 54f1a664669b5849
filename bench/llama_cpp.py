#!/usr/bin/env python3
"""Our GGUF files beside llama-quantize's, all run by llama.cpp: one table.

    bench/llama_cpp.py MODEL --llama DIR [--chunks N] [--types LIST] [--ours OPTIONS]... [--whole]
                       [--work DIR]

--llama: the folder of llama-quantize, llama-perplexity and llama-bench. llama-quantize gets an
importance matrix that `lieq calibrate` measures on the text that our files are calibrated on,
calibration.wiki-books.txt; embedding and head are Q8_0 in all files. --ours: options of one of our rows,
which go to `lieq quantize`. --whole: llama-quantize chooses the types of embedding and head itself, and
beside each of its files stands one of ours that is no larger, by --size and --for gguf; --ours are then
options of all of these. --no-speed leaves llama-bench out. Perplexity is llama-perplexity's on wikitext2.test.raw, in windows of 512
tokens. Speed is llama-bench's, the best of --rounds in which the files take turns. Finished files in
--work are used again. Needs the Python package gguf.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

import gguf
import gguf.gguf_reader

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout + done.stderr


class Types:
    """The package's types of tensors, with Q2_0, which its version 0.19 does not know."""

    known = gguf.GGMLQuantizationType

    class Q2_0:
        name, value = "Q2_0", 42

    def __call__(self, value):
        return self.Q2_0 if value == self.Q2_0.value else self.known(value)

    def __getattr__(self, name):
        return getattr(self.known, name)


gguf.GGML_QUANT_SIZES[Types.Q2_0] = (64, 18)
gguf.gguf_reader.GGMLQuantizationType = Types()


def layer_bytes(file):
    """Bytes of the decoder layers' matrices, their bits a weight, and the types they have."""
    size = weights = 0
    types = {}
    for tensor in gguf.GGUFReader(file).tensors:
        if not tensor.name.startswith("blk.") or len(tensor.shape) < 2:
            continue
        size += int(tensor.n_bytes)
        weights += int(tensor.n_elements)
        types[tensor.tensor_type.name] = types.get(tensor.tensor_type.name, 0) + 1
    most = sorted(types, key=types.get, reverse=True)
    return size, 8 * size / weights, ", ".join(f"{types[name]} {name}" for name in most)


def perplexity(file, text, options):
    """Perplexity and its error, as they are printed."""
    log = options.work / "perplexity.log"
    for _ in range(5):  # on a busy machine its log may end before the last line, on the terminal more often
        printed = run(options.llama / "llama-perplexity", "-m", file, "-f", text, "-c", "512", "--chunks",
                      options.chunks, "-t", options.threads, "--log-file", log) + log.read_text()
        final = re.search(r"Final estimate: PPL = (\S+) \+/- (\S+)", printed)
        if final is not None:
            return final.groups()
    sys.exit(f"llama-perplexity says no perplexity of {file}:\n{printed[-300:]}")


def beside(theirs, source, work, calibration, options):
    """Our file that is as large as llama-quantize's at most: a row, or none beside the source."""
    label, file = theirs
    if file == source:
        return
    damages = work / "damages.json"
    if not damages.exists():
        run(options.lieq, "sensitivity", options.model, "-o", damages, "-q", "--for", "gguf", "--method", "gptq",
            "--damage-windows", "4", "--candidates", "2:64,4:32,5:32,8:32,q2_k,q3_k,q4_k,q5_k,q6_k", *calibration)
    words = ["--for", "gguf", "--sensitivities", damages, "--check", "0", *" ".join(options.ours).split()]
    out = work / f"lieq_beside_{file.stem}"
    ours = pathlib.Path(f"{out}.gguf")
    size = file.stat().st_size
    if not ours.exists():
        run(options.lieq, "quantize", options.model, "-o", out, "-q", "--force", "--size", size, *words, *calibration)
        run(options.lieq, "export", out, "--to", "gguf", "-o", ours, "-q")
    if ours.stat().st_size > size:
        sys.exit(f"{ours}: {ours.stat().st_size} bytes, where --size was {size}")
    yield f"LieQ beside {label.split()[-1]}", ours


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--llama", type=pathlib.Path, required=True)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--types", default="Q2_K,Q3_K_M,IQ2_XXS,IQ2_XS,IQ2_S,IQ2_M,IQ3_XXS",
                        help="of llama-quantize; with -pure behind it the type in every matrix")
    parser.add_argument("--ours", action="append", default=[])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--samples", default=128, help="windows of calibration, of both sides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default=2)
    parser.add_argument("--lieq", default=ROOT / "build/release/lieq")
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "out/llama_cpp")
    options = parser.parse_args()
    name = options.model.resolve().name
    work = options.work / name
    work.mkdir(parents=True, exist_ok=True)
    calibration = ["--calibration", options.shared / "data/calibration.wiki-books.txt", "--samples", options.samples]
    text = options.shared / "data/wikitext2.test.raw"
    ends = ["--embedding-type", "Q8_0"]
    if not json.loads((options.model / "config.json").read_text()).get("tie_word_embeddings"):
        ends += ["--head-type", "Q8_0"]

    files = [("as it is", work / "float.gguf")]
    if not files[0][1].exists():
        run(options.lieq, "export", options.model, "--to", "gguf", "-o", files[0][1], "-q")
    imatrix = work / "imatrix.gguf"
    if not imatrix.exists():
        run(options.lieq, "calibrate", options.model, "--imatrix", imatrix, "-q", *calibration)
    for each in filter(None, options.types.split(",")):
        files.append((f"llama-quantize {each}", work / f"{each}.gguf"))
        if not files[-1][1].exists():
            pure = ["--pure"] if each.endswith("-pure") else []
            given = [] if options.whole else ["--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"]
            run(options.llama / "llama-quantize", *pure, "--imatrix", imatrix, *given, files[0][1], files[-1][1],
                each.removesuffix("-pure"))
    if options.whole:
        files = [file for theirs in files for file in (theirs, *beside(theirs, files[0][1], work, calibration, options))]
    for row in [] if options.whole else options.ours:
        out = work / ("lieq_" + "".join(c if c.isalnum() or c in ".-" else "_" for c in row))
        files.append((f"`lieq quantize {row}`", pathlib.Path(f"{out}.gguf")))
        if not files[-1][1].exists():
            run(options.lieq, "quantize", options.model, "-o", out, "-q", *calibration, *row.split())
            run(options.lieq, "export", out, "--to", "gguf", "-o", files[-1][1], "-q", *ends)

    perplexities = []
    for label, file in files:
        perplexities.append(perplexity(file, text, options))
        print(label, layer_bytes(file), perplexities[-1], file=sys.stderr, flush=True)
    best = {label: (0, 0) for label, _ in files}
    for _ in range(0 if options.no_speed else options.rounds):
        for label, file in files:
            rows = json.loads(run(options.llama / "llama-bench", "-m", file, "-p", "512", "-n", "64", "-r", "1", "-t",
                                  options.threads, "-o", "json").partition("\n]")[0] + "\n]")
            best[label] = tuple(max(old, row["avg_ts"]) for old, row in zip(best[label], rows))
    print(f"{name}: perplexity on the first {options.chunks} windows of 512, {options.threads} threads\n")
    print("| file | matrices of the layers | their bytes | bits | bytes of the file | perplexity | prompt, tokens/s "
          "| generation, tokens/s |")
    print("|---|---|---|---|---|---|---|---|")
    for (label, file), (value, error) in zip(files, perplexities):
        size, bits, types = layer_bytes(file)
        speeds = "| | |" if options.no_speed else f"| {best[label][0]:.0f} | {best[label][1]:.1f} |"
        print(f"| {label} | {types} | {size:,} | {bits:.3f} | {file.stat().st_size:,} | {float(value):.3f} ± "
              f"{float(error):.3f} {speeds}")


if __name__ == "__main__":
    main()
