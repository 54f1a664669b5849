#!/usr/bin/env python3
"""Writes a model of a known shape with random weights, to time what does not depend on them.

    bench/random_model.py SHAPE OUT [--tokenizer FILE]

SHAPE: qwen3-0.6b, qwen3-4b, llama-3.2-1b, llama-3.1-8b. The tokenizer.json is copied where one is given.
"""
import argparse
import json
import pathlib
import shutil
import struct

import numpy

SHAPES = {  # class, type, hidden, MLP, layers, heads, key heads, head size, vocabulary, tied
    "qwen3-0.6b": ("Qwen3", "qwen3", 1024, 3072, 28, 16, 8, 128, 151936, True),
    "qwen3-4b": ("Qwen3", "qwen3", 2560, 9728, 36, 32, 8, 128, 151936, True),
    "llama-3.2-1b": ("Llama", "llama", 2048, 8192, 16, 32, 8, 64, 128256, True),
    "llama-3.1-8b": ("Llama", "llama", 4096, 14336, 32, 32, 8, 128, 128256, False),
}


def tensors(shape):
    name, _, hidden, mlp, layers, heads, kv_heads, size, vocab, tied = shape
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        if name == "Qwen3":
            yield layer + "self_attn.q_norm.weight", (size,)
            yield layer + "self_attn.k_norm.weight", (size,)
        yield layer + "self_attn.q_proj.weight", (heads * size, hidden)
        yield layer + "self_attn.k_proj.weight", (kv_heads * size, hidden)
        yield layer + "self_attn.v_proj.weight", (kv_heads * size, hidden)
        yield layer + "self_attn.o_proj.weight", (hidden, heads * size)
        yield layer + "mlp.gate_proj.weight", (mlp, hidden)
        yield layer + "mlp.up_proj.weight", (mlp, hidden)
        yield layer + "mlp.down_proj.weight", (hidden, mlp)
    yield "model.norm.weight", (hidden,)
    if not tied:
        yield "lm_head.weight", (vocab, hidden)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path)
    options = parser.parse_args()
    name, kind, hidden, mlp, layers, heads, kv_heads, size, vocab, tied = SHAPES[options.shape]
    options.out.mkdir(parents=True)
    (options.out / "config.json").write_text(json.dumps({
        "architectures": [name + "ForCausalLM"], "model_type": kind, "hidden_size": hidden,
        "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": size, "vocab_size": vocab,
        "tie_word_embeddings": tied, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "max_position_embeddings": 32768, "hidden_act": "silu", "torch_dtype": "bfloat16",
        "eos_token_id": 0}, indent=1))
    if options.tokenizer:
        shutil.copy(options.tokenizer, options.out / "tokenizer.json")
    header, offset = {}, 0
    for tensor, extents in tensors(SHAPES[options.shape]):
        end = offset + 2 * int(numpy.prod(extents))
        header[tensor] = {"dtype": "BF16", "shape": extents, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    random = numpy.random.default_rng(1)
    with (options.out / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for row in header.values():
            extents = row["shape"]
            scale = extents[-1] ** -0.5
            values = (numpy.ones(extents, numpy.float32) if len(extents) == 1 else
                      random.standard_normal(extents, numpy.float32) * numpy.float32(scale))
            file.write((values.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes())


if __name__ == "__main__":
    main()
