#!/usr/bin/env python3
"""Checks tools/make_checkpoint on tiny shapes, with Python's standard library alone.

usage: tools/check_checkpoint.py PROGRAM
"""

import json
import os
import struct
import subprocess
import sys
import tempfile


def read(folder):
    """config, {tensor: (shape, values as 16-bit integers)} of a single-file checkpoint."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "BF16", name
        tensors[name] = (entry["shape"], data[8 + size + begin:8 + size + end])
    return config, tensors


def values(raw):
    return [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        def make(name, *arguments, status=0):
            out = os.path.join(folder, name)
            done = subprocess.run([program, *arguments, "-o", out], capture_output=True, text=True)
            assert done.returncode == status, (arguments, done.stdout, done.stderr)
            return out

        for shape in ("Tiny-Qwen3", "Tiny-Qwen2", "Tiny-Llama"):
            config, tensors = read(make(shape, "--shape", shape))
            layers, hidden = config["num_hidden_layers"], config["hidden_size"]
            head = config.get("head_dim", hidden // config["num_attention_heads"])
            assert tensors["model.layers.0.self_attn.q_proj.weight"][0] == [
                config["num_attention_heads"] * head, hidden]
            assert ("lm_head.weight" in tensors) != config["tie_word_embeddings"]
            assert sum(name.endswith("down_proj.weight") for name in tensors) == layers

            # Normal values of std 0.02, the norms 1, no two tensors and no two rows alike.
            for name, (extents, raw) in tensors.items():
                numbers = values(raw)
                if "norm" in name:
                    assert set(numbers) == {1.0}, name
                    continue
                std = (sum(x * x for x in numbers) / len(numbers)) ** 0.5
                inside = sum(abs(x) < 0.02 for x in numbers) / len(numbers)
                slack = 4 / (2 * len(numbers)) ** 0.5  # four standard errors
                assert abs(std / 0.02 - 1) < slack, (name, std)
                assert abs(inside - 0.683) < slack, (name, inside)
                if len(extents) == 2:
                    width = 2 * extents[1]
                    rows = {raw[i:i + width] for i in range(0, len(raw), width)}
                    assert len(rows) == extents[0], name
            random = [raw for name, (_, raw) in tensors.items() if "norm" not in name]
            assert len(set(random)) == len(random)

            # Fewer layers leave the others as they are, in config and bytes.
            fewer_config, fewer = read(make(shape + "-2", "--shape", shape, "--layers", "2"))
            assert fewer_config == {**config, "num_hidden_layers": 2}
            assert fewer == {name: tensor for name, tensor in tensors.items()
                             if not name.startswith(("model.layers.2.", "model.layers.3."))}

        # Another seed gives other values; what is there is kept unless --force is given.
        out = make("again", "--shape", "Tiny-Qwen3", "--layers", "1")
        before = read(out)[1]["model.embed_tokens.weight"]
        make("again", "--shape", "Tiny-Qwen3", "--layers", "1", status=3)
        make("again", "--shape", "Tiny-Qwen3", "--layers", "1", "--seed", "1", "--force")
        assert read(out)[1]["model.embed_tokens.weight"] != before
        make("none", "--shape", "No-Such-Model", status=2)
        assert sorted(os.listdir(folder)) == sorted(
            ["again", "Tiny-Qwen3", "Tiny-Qwen3-2", "Tiny-Qwen2", "Tiny-Qwen2-2", "Tiny-Llama",
             "Tiny-Llama-2"])

        with open(os.path.join(out, "tokenizer.json"), encoding="utf-8") as file:
            tokenizer = json.load(file)
        ids = list(tokenizer["model"]["vocab"].values())
        ids += [token["id"] for token in tokenizer["added_tokens"]]
        assert sorted(ids) == list(range(len(ids))), "ids with holes"
        for left, right in tokenizer["model"]["merges"]:
            assert {left, right, left + right} <= set(tokenizer["model"]["vocab"])
    print("make_checkpoint: as it says")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
