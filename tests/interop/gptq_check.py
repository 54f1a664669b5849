#!/usr/bin/env python3
"""Whether the folders of `lieq export --to gptq` decode to the values that were quantized.

A reader in numpy that follows the description of the format (AutoGPTQ's layout, versions 1 and 2,
rules of `dynamic` by Python's re.match on the names of linears and on those of fused modules).
"""

import os
import re
import tempfile

import numpy as np

import common

CASES = [  # the grid, arguments of quantize, of export
    ("2 bits", ["--uniform", "2"], []),
    ("2 bits, version 2", ["--uniform", "2"], ["--gptq-version", "2"]),
    ("3 bits, groups of 32", ["--uniform", "3", "--group-size", "32"], []),
    ("2 and 4 bits", ["--high-layers", "1"], []),
    ("8 bits, whole rows", ["--uniform", "8", "--group-size", "row"], []),
    ("2 bits, zero-points", ["--uniform", "2", "--offset", "integer"], []),
    ("4 bits, zero-points", ["--uniform", "4", "--offset", "integer"], []),
]
FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj",
         "up_proj": "gate_up_proj"}


def rule_of(config, module):
    """bits, group size and symmetry by the first rule that matches."""
    found = {key: config[key] for key in ("bits", "group_size", "sym")}
    for key, rule in config.get("dynamic", {}).items():
        if re.match(key.removeprefix("+:"), module):
            return {**found, **rule}
    return found


def decode(tensors, module, config):
    rule = rule_of(config, module)
    parent, name = module.rsplit(".", 1)
    if rule_of(config, parent + "." + FUSED.get(name, name)) != rule:
        raise RuntimeError("another rule holds for the fused name of " + module)
    bits = rule["bits"]
    cols, rows = tensors[module + ".g_idx"].size, tensors[module + ".scales"].shape[1]
    codes = unpack_columns(tensors[module + ".qweight"], bits, cols)
    stored = common.unpack(tensors[module + ".qzeros"], bits, rows)
    zeros = stored + (0 if config["checkpoint_format"] == "gptq_v2" else 1)
    group = tensors[module + ".g_idx"]
    if rule["sym"] and not (zeros == 2 ** (bits - 1)).all():
        raise RuntimeError("zero-points that are not symmetric: " + module)
    scales = tensors[module + ".scales"].astype(np.float32)
    return (scales[group] * (codes - zeros[group]).astype(np.float32)).T


def unpack_columns(words, bits, count):
    return common.unpack(np.ascontiguousarray(words.T), bits, count).T


def main():
    arguments = common.arguments(__doc__)
    table = common.Table("model", "grid", "version", "matrices", "weights", "negative scales",
                         "values that differ")
    for model in arguments.models:
        for label, options, more in CASES:
            with tempfile.TemporaryDirectory() as folder:
                quantized, out = os.path.join(folder, "q"), os.path.join(folder, "gptq")
                common.quantize(arguments.lieq, model, quantized, options)
                common.run(arguments.lieq, "export", quantized, "--to", "gptq", "-o", out, "-q", *more)
                expected = common.packed_modules(quantized)
                config = common.config_of(out)["quantization_config"]
                tensors = common.tensors_of(out)
                differ = weights = negative = 0
                for module, values in expected.items():
                    differ += int((decode(tensors, module, config) != values).sum())
                    weights += values.size
                    negative += int((tensors[module + ".scales"] < 0).sum())
                table.row(differ == 0 and weights > 0, common.name_of(model), label,
                          config["checkpoint_format"], len(expected), weights, negative, differ)
    table.finish()


main()
