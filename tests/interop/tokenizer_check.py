#!/usr/bin/env python3
"""Whether our tokenizer and Hugging Face's give the same ids for 1,000 random texts."""

import json
import os
import random
import subprocess

import tokenizers

import common

TEXTS = 1000
ODD = ["\u00e9", "e\u0301", "\u4e2d\u6587", "\u0628", "\U0001f600", "\U0001f469\u200d\U0001f4bb", "\u2028", "\u00a0",
       "\u3000", "\ufeff", "\ufffd", "\u0000", "\t", "\r\n", "\n\n", "'LL", "'s", "\u2019s", "1234567", "\u0661",
       "  ", "<|endoftext|>", "<|im_start|>", "<|begin_of_text|>", "\u017f", "\u0130"]


def random_texts(text, seed):
    """Pieces of the text, of odd characters and of any characters at all."""
    rng = random.Random(seed)
    texts = []
    for _ in range(TEXTS):
        parts = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.random()
            if kind < 0.5:
                begin = rng.randrange(len(text) - 200)
                parts.append(text[begin : begin + rng.randint(1, 60)])
            elif kind < 0.8:
                parts.append(rng.choice(ODD))
            else:
                code = rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)])
                parts.append(chr(code) if not 0xD800 <= code < 0xE000 else "\u00df")
        texts.append("".join(parts))
    return texts


def main():
    arguments = common.arguments(__doc__)
    program = os.path.join(os.path.dirname(arguments.lieq), "tools", "token_ids")
    with open(arguments.text, encoding="utf-8") as file:
        texts = random_texts(file.read(), 13)
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    table = common.Table("model", "texts", "tokens", "texts that differ")
    for model in arguments.models:
        path = os.path.join(model, "tokenizer.json")
        done = subprocess.run([program, path], input=lines, capture_output=True, text=True, check=True)
        ours = [json.loads(line) for line in done.stdout.splitlines()]
        reference = tokenizers.Tokenizer.from_file(path)
        theirs = [reference.encode(text, add_special_tokens=False).ids for text in texts]
        differ = sum(a != b for a, b in zip(ours, theirs, strict=True))
        table.row(differ == 0, common.name_of(model), len(texts), sum(map(len, theirs)), differ)
    table.finish()


main()
