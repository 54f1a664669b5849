#!/usr/bin/env python3
"""Whether transformers with compressed-tensors loads quantized folders and finds our perplexity.

Both run the first 8 windows of 512 tokens of the text, tokenized by each itself, in float32. An embedding of
4 bits cannot be loaded there, and the program must say so: its `fits` leaves transformers out. One of 8 bits
can, tied to the head or not.
"""

import json
import logging
import os
import tempfile

import torch
import transformers

import common

CONTEXT, WINDOWS, TOLERANCE = 512, 8, 0.001
# No zero-points: compressed-tensors 0.20 makes room for unpacked ones before it loads (on the "meta"
# device its compress packs the weight alone), and then refuses every packed file, its own too.
CASES = [
    ("2 bits", ["--uniform", "2"]),
    ("2 and 4 bits", ["--high-layers", "1"]),
    ("4 bits, embedding 8", ["--uniform", "4", "--embedding-bits", "8"]),
    ("8 bits, embedding 8", ["--uniform", "8", "--embedding-bits", "8"]),
    ("2 bits, embedding 4", ["--uniform", "2", "--embedding-bits", "4"]),
    ("4 bits, rows as groups", ["--uniform", "4", "--group-size", "row"]),
]


def perplexity(folder, text):
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    nll, scored = 0.0, 0
    with torch.no_grad():
        for window in range(WINDOWS):
            tokens = torch.tensor([ids[window * CONTEXT : (window + 1) * CONTEXT]])
            logits = model(tokens).logits[0, :-1].double()
            losses = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum")
            nll += float(losses)
            scored += CONTEXT - 1
    return float(torch.tensor(nll / scored, dtype=torch.float64).exp())


def refused(out, text, model, label):
    """A row for a folder that the program says transformers does not load: good where it does not."""
    try:
        found = "%.4f" % perplexity(out, text)
    except AttributeError as error:
        return "'weight'" in str(error), common.name_of(model), label, "says no", "does not load", ""
    return False, common.name_of(model), label, "says no", found, ""


def says_that_it_fits(folder):
    """Whether lieq.json names transformers among the engines that run the folder."""
    with open(os.path.join(folder, "lieq.json"), encoding="utf-8") as file:
        return "transformers" in json.load(file)["fits"].get("compressed-tensors", [])


def main():
    arguments = common.arguments(__doc__)
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    with open(arguments.text, encoding="utf-8") as file:
        text = file.read()
    table = common.Table("model", "grid", "lieq", "transformers", "apart")
    for model in arguments.models:
        for label, options in CASES:
            with tempfile.TemporaryDirectory() as folder:
                quantized, out = os.path.join(folder, "q"), os.path.join(folder, "ct")
                common.quantize(arguments.lieq, model, quantized, options)
                common.export(arguments.lieq, quantized, "compressed-tensors", out)
                if not says_that_it_fits(quantized):
                    table.row(*refused(out, text, model, label))
                    continue
                ours = common.our_perplexity(arguments.lieq, out, arguments.text, CONTEXT, WINDOWS)
                table.row(*common.compared(model, label, ours, perplexity(out, text), TOLERANCE))
    table.finish()


main()
