"""What the checks share: their command line, quantizing, and readers that know nothing of LieQ."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np


def arguments(description):
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--lieq", default="build/dev/lieq")
    parser.add_argument("--text", required=True)
    parser.add_argument("models", nargs="+")
    return parser.parse_args()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(" ".join(command) + "\n" + done.stdout + done.stderr)
    return done.stdout


def quantize(lieq, model, folder, options):
    run(lieq, "quantize", model, "-o", folder, "--method", "rtn", "-q", *options)


def export(lieq, folder, container, out):
    run(lieq, "export", folder, "--to", container, "-o", out, "-q")


def our_perplexity(lieq, folder, text, context, windows):
    return json.loads(run(lieq, "evaluate", folder, "--text", text, "--context", str(context), "--samples",
                          str(windows), "--json"))["perplexity"]


def compared(model, label, ours, theirs, tolerance):
    """Cells of a row: whether they are near enough, and what is shown."""
    apart = abs(theirs / ours - 1)
    return (apart <= tolerance, name_of(model), label, "%.4f" % ours, "%.4f" % theirs, "%.4f %%" % (100 * apart))


def name_of(model):
    return os.path.basename(os.path.normpath(model))


def config_of(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def tensors_of(folder):
    """Arrays by name; BF16 widened to float32, which numpy lacks."""
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        length = int.from_bytes(data[:8], "little")
        for key, entry in json.loads(data[8 : 8 + length]).items():
            if key == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            raw = data[8 + length + begin : 8 + length + end]
            if entry["dtype"] == "BF16":
                bits = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
                array = bits.view(np.float32)
            else:
                kinds = {"F16": "<f2", "F32": "<f4", "I32": "<i4", "U32": "<u4", "I64": "<i8"}
                array = np.frombuffer(raw, kinds[entry["dtype"]])
            tensors[key] = array.reshape(entry["shape"])
    return tensors


def unpack(words, bits, count):
    """Codes of the rows of words [rows, n]: code i is bits i * bits and on, lowest bit first."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(words.shape[0], -1)
    stream = np.unpackbits(octets, axis=1, bitorder="little")[:, : count * bits]
    weights = 1 << np.arange(bits, dtype=np.int64)
    return stream.reshape(words.shape[0], count, bits).astype(np.int64) @ weights


def packed_modules(folder):
    """Values of every linear of a compressed-tensors folder (offsets of LieQ's own too), float32."""
    tensors = tensors_of(folder)
    quantization = config_of(folder)["quantization_config"]
    grids = [group["weights"] for group in quantization["config_groups"].values()]
    values = {}
    for key in tensors:
        if not key.endswith(".weight_packed"):
            continue
        module = key[: -len(".weight_packed")]
        rows, cols = tensors[module + ".weight_shape"]
        bits = tensors[key].shape[1] * 32 // cols
        grid = next(each for each in grids if each["num_bits"] == bits)
        scales = tensors[module + ".weight_scale"].astype(np.float32)
        codes = unpack(tensors[key], bits, cols).astype(np.float32)
        group = cols // scales.shape[1]
        wide = np.repeat(scales, group, axis=1)
        if module + ".weight_minimum" in tensors:
            minima = tensors[module + ".weight_minimum"].astype(np.float32)
            values[module] = wide * codes + np.repeat(minima, group, axis=1)
            continue
        if module + ".weight_zero_point" in tensors:
            zeros = unpack(tensors[module + ".weight_zero_point"].T, bits, rows).T
            zero = np.repeat(zeros.astype(np.float32), group, axis=1)
        else:
            zero = (2**bits - 1) / 2 if grid.get("offset") == "half" else 2 ** (bits - 1)
        values[module] = wide * (codes - np.float32(zero))
    return values


class Table:
    """Rows of markdown, and whether all that they say is as it must be."""

    def __init__(self, *columns):
        self.good = True
        print("| " + " | ".join(columns) + " |")
        print("|" + " --- |" * len(columns))

    def row(self, good, *cells):
        self.good = self.good and good
        print("| " + " | ".join(str(cell) for cell in cells) + (" |" if good else " WRONG |"), flush=True)

    def finish(self):
        sys.exit(0 if self.good else 1)
