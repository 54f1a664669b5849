#!/usr/bin/env python3
"""Whether the Python package `gguf` reads what `lieq export` writes, and decodes it to our values.

    pip install -r tests/interop/requirements-gguf.txt
    tests/interop/gguf_check.py --lieq build/dev/lieq MODEL...

Each model is quantized in several ways and exported; every tensor is decoded by the package, and, as
types go that it does not know, by llama.cpp's own functions; what `lieq quantize` wrote is decoded here
from its safetensors by the definition in docs/formats.md. All values must be the same numbers.
"""

import argparse
import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import llama_cpp  # noqa: E402

RTN = ["--method", "rtn"]
CASES = [  # name, arguments of quantize, of export
    ("Q8_0", ["--uniform", "8", "--group-size", "32"], []),
    ("Q4_0", ["--uniform", "4", "--group-size", "32"], []),
    ("Q4_1", ["--uniform", "4", "--group-size", "32", "--offset", "float"], []),
    ("Q5_0", ["--uniform", "4", "--group-size", "32", "--offset", "integer"], ["--types", "Q5_0"]),
    ("Q2_0", ["--uniform", "2", "--group-size", "64"], []),
    ("Q2_K", ["--uniform", "2", "--group-size", "256", "--offset", "integer"], ["--types", "Q2_K"]),
    ("Q2_K", ["--uniform", "2", "--group-size", "256", "--offset", "half"], []),
    ("Q3_K", ["--uniform", "3", "--group-size", "256"], []),
    ("Q4_K", ["--uniform", "4", "--group-size", "256", "--offset", "integer"], []),
    ("F32", ["--uniform", "3", "--group-size", "32", "--offset", "float"], ["--types", "F32"]),
]
DTYPES = {"F16": "<f2", "F32": "<f4", "I32": "<u4", "I64": "<i8"}


def safetensors(np, path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        raw = data[info["data_offsets"][0] : info["data_offsets"][1]]
        if info["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, DTYPES[info["dtype"]])
        tensors[name] = values.reshape(info["shape"])
    return tensors


def unpack(np, words, bits, count):
    """[rows, words] of streams to [rows, count] codes."""
    stream = (words[:, :, None] >> np.arange(32, dtype=np.uint32)) & 1
    stream = stream.reshape(len(words), -1)[:, : count * bits].reshape(len(words), count, bits)
    return (stream << np.arange(bits, dtype=np.uint32)).sum(axis=2).astype(np.float32)


def decode(np, tensors, module, bits, offset):
    rows, cols = tensors[module + ".weight_shape"]
    codes = unpack(np, tensors[module + ".weight_packed"], bits, cols)
    scale = tensors[module + ".weight_scale"].astype(np.float32)
    group = cols // scale.shape[1]
    wide = lambda each: np.repeat(each.astype(np.float32), group, axis=1)  # noqa: E731
    if offset == "float":
        return wide(scale) * codes + wide(tensors[module + ".weight_minimum"])
    zero = {"symmetric": 2.0 ** (bits - 1), "half": (2.0**bits - 1) / 2}.get(offset)
    if zero is None:
        columns = np.ascontiguousarray(tensors[module + ".weight_zero_point"].T)
        zero = wide(unpack(np, columns, bits, rows).T)
    return wide(scale) * (codes - np.float32(zero))


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(" ".join(command) + "\n" + done.stdout + done.stderr)


def permuted(np, values, heads):
    """Rows as the llama architecture has them."""
    size = values.shape[0] // heads
    return values.reshape(heads, 2, size // 2, -1).swapaxes(1, 2).reshape(values.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lieq", default="build/dev/lieq")
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    try:
        import gguf
        import numpy as np
    except ImportError:
        print("skipped: pip install -r tests/interop/requirements-gguf.txt")
        return 0
    lib = llama_cpp.load()
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }

    def by_llama_cpp(name, raw, count):
        function = getattr(lib, "dequantize_row_" + name.lower().replace("_k", "_K"))
        function.restype = None
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        out = np.empty(count, np.float32)
        function(raw.ctypes.data, out.ctypes.data, count)
        return out

    bad = 0
    print("| model | type | offset | tensors | values | read by |")
    print("| --- | --- | --- | --- | --- | --- |")
    for model in arguments.models:
        config = json.load(open(os.path.join(model, "config.json")))
        for name, options, export in CASES:
            bits = int(options[1])
            offset = options[5] if len(options) > 5 else "symmetric"
            with tempfile.TemporaryDirectory() as work:
                folder, file = os.path.join(work, "q"), os.path.join(work, "m.gguf")
                try:
                    run(arguments.lieq, "quantize", model, "-o", folder, *options, *RTN)
                    run(arguments.lieq, "export", folder, "--to", "gguf", "-o", file, *export)
                except RuntimeError as error:
                    print("| %s | %s | %s | not made: %s |" % (os.path.basename(model), name, offset,
                          str(error).strip().split("\n")[1]))
                    continue
                tensors = {}
                for shard in sorted(os.listdir(folder)):
                    if shard.endswith(".safetensors"):
                        tensors.update(safetensors(np, os.path.join(folder, shard)))
                raw = read_raw(np, file)
                readers, count, values = set(), 0, 0
                known = None
                try:
                    known = {t.name: t for t in gguf.GGUFReader(file).tensors}
                except ValueError:  # a type that this version of the package does not know
                    pass
                for tensor in tensors:
                    if not tensor.endswith(".weight_packed"):
                        continue
                    module = tensor[: -len(".weight_packed")]
                    layer, part = module.split(".")[2], ".".join(module.split(".")[3:])
                    target = "blk.%s.%s.weight" % (layer, names[part])
                    expected = decode(np, tensors, module, bits, offset)
                    if config["model_type"] == "llama" and part in (
                        "self_attn.q_proj", "self_attn.k_proj"
                    ):
                        kind = "attention" if part.endswith("q_proj") else "key_value"
                        expected = permuted(np, expected, config["num_%s_heads" % kind])
                    found = []
                    if known is not None:
                        each = known[target]
                        assert each.tensor_type.name == name, (target, each.tensor_type.name)
                        found.append(("gguf", gguf.quants.dequantize(each.data, each.tensor_type)))
                    if lib is not None and name != "F32":
                        found.append(("llama.cpp", by_llama_cpp(name, raw[target], expected.size)))
                    for reader, each in found:
                        readers.add(reader)
                        # as numbers: a mirrored zero may be -0
                        if not np.array_equal(each.reshape(expected.shape), expected):
                            print("BAD", file, target, reader)
                            bad += 1
                    count += 1
                    values += expected.size
                bad += not readers or not count
                print("| %s | %s | %s | %d | %d equal | %s |" % (os.path.basename(model), name,
                      offset, count, values, ", ".join(sorted(readers))))
                sys.stdout.flush()
    return 1 if bad else 0


def read_raw(np, path):
    """Bytes of each tensor, by a reader of a few lines that knows nothing of types."""
    data = np.fromfile(path, np.uint8)
    buffer, at = data.tobytes(), 4
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, buffer, at)
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return buffer[at - length : at].decode()

    def skip(kind):
        nonlocal at
        if kind == 8:
            text()
        else:
            at += sizes[kind]

    take("I")
    tensors, keys = take("Q"), take("Q")
    for _ in range(keys):
        text()
        kind = take("I")
        if kind == 9:
            kind, count = take("I"), take("Q")
            for _ in range(count):
                skip(kind)
        else:
            skip(kind)
    places = []
    for _ in range(tensors):
        name = text()
        for _ in range(take("I")):
            take("Q")
        take("I")
        places.append((take("Q"), name))
    begin = (at + 31) // 32 * 32
    ends = [place for place, _ in places[1:]] + [len(data) - begin]
    return {
        name: data[begin + place : begin + end] for (place, name), end in zip(places, ends)
    }


if __name__ == "__main__":
    sys.exit(main())
