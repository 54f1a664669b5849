#!/usr/bin/env python3
"""Whether mlx-lm loads what `lieq export --to mlx` writes and finds our perplexity.

On the processor, the first 4 windows of 512 tokens of the text, tokenized by the folder's own tokenizer.
mlx-lm computes in the type of the scales, which it is told to widen to float32.
"""

import os
import tempfile

import mlx.core as mx
import mlx.utils
import mlx_lm.utils
import tokenizers

import common

CONTEXT, WINDOWS, TOLERANCE = 512, 4, 0.001
CASES = [
    ("2 and 4 bits", ["--high-layers", "1"]),
    ("4 bits, embedding 4", ["--uniform", "4", "--embedding-bits", "4"]),
    ("4 bits, embedding 3", ["--uniform", "4", "--embedding-bits", "3"]),
    ("2 bits, embedding 8", ["--uniform", "2", "--embedding-bits", "8"]),
]


def perplexity(folder, text):
    ids = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(
        text, add_special_tokens=False).ids
    model, _ = mlx_lm.utils.load_model(mlx_lm.utils.Path(folder))
    model.update(mlx.utils.tree_map(
        lambda value: value.astype(mx.float32) if mx.issubdtype(value.dtype, mx.floating) else value,
        model.parameters()))
    nll = 0.0
    for window in range(WINDOWS):
        tokens = mx.array([ids[window * CONTEXT:(window + 1) * CONTEXT]])
        logits = model(tokens)[0, :-1].astype(mx.float32)
        targets = tokens[0, 1:]
        losses = mx.logsumexp(logits, axis=-1) - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
        nll += float(losses.sum())
    return float(mx.exp(mx.array(nll / (WINDOWS * (CONTEXT - 1)))))


def main():
    arguments = common.arguments(__doc__)
    mx.set_default_device(mx.cpu)
    with open(arguments.text, encoding="utf-8") as file:
        text = file.read()
    table = common.Table("model", "grid", "lieq", "mlx-lm", "apart")
    for model in arguments.models:
        for label, options in CASES:
            with tempfile.TemporaryDirectory() as folder:
                quantized, out = os.path.join(folder, "q"), os.path.join(folder, "mlx")
                common.quantize(arguments.lieq, model, quantized, options)
                common.export(arguments.lieq, quantized, "mlx", out)
                ours = common.our_perplexity(arguments.lieq, out, arguments.text, CONTEXT, WINDOWS)
                table.row(*common.compared(model, label, ours, perplexity(out, text), TOLERANCE))
    table.finish()


main()
