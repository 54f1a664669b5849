#!/usr/bin/env python3
"""Makes the tiny models of tests/model/golden and what transformers computes with them in float32.

    python3.11 -m venv venv && venv/bin/pip install -r tests/interop/requirements.txt
    venv/bin/python tools/make_model_golden.py [tests/model/golden]

Each is a folder of some tens of kilobytes: config.json, model.safetensors (random weights, BF16) and
golden.json. The weights are large enough that heads attend to different tokens: a head in another's
place shows in the first digit. The same versions on the same machine give the same bytes.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
WINDOWS, LENGTH, GREEDY = 3, 24, 8
SHAPE = {"num_hidden_layers": 2, "vocab_size": 64, "max_position_embeddings": 64,
         "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
MODELS = {
    # Two query heads to a key head, llama3's rotation with all three of its ranges, own head.
    "llama": transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, tie_word_embeddings=False, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 3.0,
                         "original_max_position_embeddings": 20}, **SHAPE),
    # Biases of q, k and v; the head is the embedding.
    "qwen2": transformers.Qwen2Config(
        hidden_size=48, intermediate_size=56, num_attention_heads=6, num_key_value_heads=3,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        **SHAPE),
    # Norms of q and k; heads that are wider than the model together.
    "qwen3": transformers.Qwen3Config(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, **SHAPE),
    # Norms of q and k behind the rotation, whose theta is stretched by a power.
    "hunyuan": transformers.HunYuanDenseV1Config(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, tie_word_embeddings=True,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1000.0, "alpha": 20.0,
                         "factor": 1.0}, **SHAPE),
}


def fill(model, generator):
    """Norms around 1, biases around 0, matrices that keep the size of what they multiply."""
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            noise = torch.randn(tensor.shape, generator=generator)
            if "norm" in name:
                tensor.copy_(1 + 0.25 * noise)
            elif name.endswith("bias"):
                tensor.copy_(0.5 * noise)
            else:
                tensor.copy_(1.5 * noise / tensor.shape[-1] ** 0.5)


def numbers(values):
    """What a float holds and no more."""
    return [float(f"{value:.8g}") for value in values]


def greedy(model, ids):
    """Tokens that no rounding decides."""
    tokens = []
    for _ in range(GREEDY):
        best = model(torch.tensor([ids + tokens])).logits[0, -1].topk(2)
        assert best.values[0] - best.values[1] > 1e-3, "too near to call: take another seed"
        tokens.append(int(best.indices[0]))
    return tokens


def golden(model, windows):
    logits = model(windows).logits
    surprise = -logits[:, :-1].double().log_softmax(-1)
    nll = surprise.gather(-1, windows[:, 1:, None])[..., 0]
    cases = []
    for number, ids in enumerate(windows.tolist()):
        top = logits[number, -1].topk(8)
        cases.append({"text": f"window {number}", "ids": ids, "top8_ids": top.indices.tolist(),
                      "top8_logits": numbers(top.values.tolist()), "greedy": greedy(model, ids),
                      "logits": numbers(logits[number, -1].tolist()),
                      "nll": numbers(nll[number].tolist())})
    return cases


def main(arguments):
    folder = pathlib.Path(arguments[0]) if arguments else REPOSITORY / "tests/model/golden"
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    for seed, (name, config) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(seed)
        made = transformers.AutoModelForCausalLM.from_config(config)
        fill(made, generator)
        shutil.rmtree(folder / name, ignore_errors=True)
        made.to(torch.bfloat16).save_pretrained(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)

        # What the files hold, and not what was meant to go into them.
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder / name, dtype=torch.float32, attn_implementation="eager")
        windows = torch.randint(0, config.vocab_size, (WINDOWS, LENGTH), generator=generator)
        cases = golden(model, windows)
        text = ",\n".join("  " + json.dumps(case) for case in cases)
        made_with = f"transformers {transformers.__version__}, torch {torch.__version__}, float32"
        (folder / name / "golden.json").write_text(
            f'{{\n "made_with": {json.dumps(made_with)},\n "cases": [\n{text}\n ]\n}}\n')


if __name__ == "__main__":
    main(sys.argv[1:])
