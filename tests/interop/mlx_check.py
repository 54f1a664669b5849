#!/usr/bin/env python3
"""Whether MLX dequantizes what `lieq export --to mlx` writes to the values that were quantized.

The package `mlx` (on the processor) decodes codes, scales and biases, widened to float32, since it
computes in the type of the scales; numpy decodes the folder that was exported.
"""

import os
import tempfile

import mlx.core as mx
import numpy as np

import common

CASES = [
    ("2 bits", ["--uniform", "2"]),
    ("3 bits, groups of 32", ["--uniform", "3", "--group-size", "32"]),
    ("2 and 4 bits", ["--high-layers", "1"]),
    ("8 bits, groups of 128", ["--uniform", "8", "--group-size", "128"]),
    ("2 bits, zero-points", ["--uniform", "2", "--offset", "integer"]),
    ("2 bits, half offsets", ["--uniform", "2", "--offset", "half"]),
    ("4 bits, minima", ["--uniform", "4", "--offset", "float"]),
    ("5 bits", ["--uniform", "5"]),
    ("6 bits, groups of 32", ["--uniform", "w6g32"]),
    ("6 bits, minima", ["--uniform", "6", "--offset", "float"]),
    ("3 bits, embedding 6", ["--uniform", "3", "--embedding-bits", "6"]),
]


def main():
    arguments = common.arguments(__doc__)
    mx.set_default_device(mx.cpu)
    table = common.Table("model", "grid", "matrices", "weights", "negative scales", "values that differ")
    for model in arguments.models:
        for label, options in CASES:
            with tempfile.TemporaryDirectory() as folder:
                quantized, out = os.path.join(folder, "q"), os.path.join(folder, "mlx")
                common.quantize(arguments.lieq, model, quantized, options)
                common.export(arguments.lieq, quantized, "mlx", out)
                expected = common.packed_modules(quantized)
                entries = common.config_of(out)["quantization"]
                tensors = mx.load(os.path.join(out, "model.safetensors"))
                differ = weights = negative = 0
                for module, values in expected.items():
                    entry = entries.get(module, entries)
                    scales = tensors[module + ".scales"].astype(mx.float32)
                    biases = tensors[module + ".biases"].astype(mx.float32)
                    found = np.array(mx.dequantize(tensors[module + ".weight"], scales, biases,
                                                   group_size=entry["group_size"], bits=entry["bits"]))
                    differ += int((found != values).sum())
                    weights += values.size
                    negative += int((np.array(scales) < 0).sum())
                table.row(differ == 0 and weights > 0, common.name_of(model), label, len(expected), weights,
                          negative, differ)
    table.finish()


main()
