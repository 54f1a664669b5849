#!/usr/bin/env python3
"""Trains a small mixture of experts for a few minutes on one GPU, for studies that need a trained one.

    train_toy_mixture.py TEACHER TEXT... -o FOLDER [--seconds S] [--layers N] [--experts N] [--used N]

The model is a Qwen3-MoE with the vocabulary, the tokenizer and the width of TEACHER (a folder that transformers
reads). It learns the next token of the texts and the teacher's distribution over it, half and half, since
texts of a few megabytes alone are soon known by heart. The last twentieth of each text is held out, and its loss is printed.
What this is good for: experts that differ and a router that chooses between them. It is no model to judge
quality by. Needs torch, transformers and safetensors; --device cpu runs it too, slowly.
"""

import argparse
import json
import math
import pathlib
import shutil
import time

import safetensors.torch
import tokenizers
import torch
import torch.nn.functional as F
import transformers


class Layer(torch.nn.Module):
    """Attention with a norm of each head, and experts: as transformers' Qwen3MoeDecoderLayer computes them."""

    def __init__(self, shape):
        super().__init__()
        hidden, head, heads, kv = (shape[key] for key in ("hidden_size", "head_dim", "num_attention_heads",
                                                            "num_key_value_heads"))
        experts, inner = shape["num_experts"], shape["moe_intermediate_size"]
        self.shape = shape
        weight = lambda *size: torch.nn.Parameter(torch.randn(size) * 0.02)
        ones = lambda size: torch.nn.Parameter(torch.ones(size))
        self.before_attention, self.before_experts = ones(hidden), ones(hidden)
        self.q_norm, self.k_norm = ones(head), ones(head)
        self.q, self.k, self.v = weight(heads * head, hidden), weight(kv * head, hidden), weight(kv * head, hidden)
        self.o = weight(hidden, heads * head)
        self.router = weight(experts, hidden)
        self.gate, self.up = weight(experts * inner, hidden), weight(experts * inner, hidden)
        self.down = weight(hidden, experts * inner)
        with torch.no_grad():  # what is added to the residual stream begins smaller in deep models
            self.o /= math.sqrt(2 * shape["num_hidden_layers"])
            self.down /= math.sqrt(2 * shape["num_hidden_layers"])

    def attend(self, x, cosine, sine):
        shape, (batch, length, _) = self.shape, x.shape
        split = lambda y: y.view(batch, length, -1, shape["head_dim"])
        q, k, v = split(x @ self.q.T), split(x @ self.k.T), split(x @ self.v.T)

        def turn(y, norm):
            y = F.rms_norm(y, y.shape[-1:], norm, shape["rms_norm_eps"]).transpose(1, 2)
            a, b = y.chunk(2, -1)
            return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1).to(v.dtype)

        y = F.scaled_dot_product_attention(turn(q, self.q_norm), turn(k, self.k_norm), v.transpose(1, 2),
                                           is_causal=True, enable_gqa=True)
        return y.transpose(1, 2).reshape(batch, length, -1) @ self.o.T

    def mix(self, x):
        """The sum over a token's experts, and a penalty on uneven use of them (Fedus et al., arXiv:2101.03961, eq. 4)."""
        shape = self.shape
        probability = (x.float() @ self.router.float().T).softmax(-1)
        most, which = probability.topk(shape["num_experts_per_tok"], -1)
        share = torch.zeros_like(probability).scatter(-1, which, most / most.sum(-1, keepdim=True))
        used = (share > 0).float().mean((0, 1))
        penalty = shape["num_experts"] * (used * probability.mean((0, 1))).sum() / shape["num_experts_per_tok"]
        # All experts of all tokens: for so small ones faster than sorting tokens by expert.
        inner = F.silu(x @ self.gate.T) * (x @ self.up.T)
        inner = inner.unflatten(-1, (shape["num_experts"], -1)) * share.to(inner.dtype).unsqueeze(-1)
        return inner.flatten(-2) @ self.down.T, penalty

    def forward(self, x, cosine, sine):
        norm = lambda y, weight: F.rms_norm(y, y.shape[-1:], weight, self.shape["rms_norm_eps"])
        x = x + self.attend(norm(x, self.before_attention), cosine, sine)
        y, penalty = self.mix(norm(x, self.before_experts))
        return x + y, penalty


class Mixture(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = torch.nn.Parameter(torch.randn(shape["vocab_size"], shape["hidden_size"]) * 0.02)
        self.layers = torch.nn.ModuleList(Layer(shape) for _ in range(shape["num_hidden_layers"]))
        self.norm = torch.nn.Parameter(torch.ones(shape["hidden_size"]))

    def forward(self, tokens):
        half = self.shape["head_dim"] // 2
        rates = self.shape["rope_theta"] ** (-torch.arange(half, device=tokens.device) / half)
        angles = torch.outer(torch.arange(tokens.shape[1], device=tokens.device), rates)
        x, penalty = F.embedding(tokens, self.embedding), 0
        for layer in self.layers:
            x, more = layer(x, angles.cos(), angles.sin())
            penalty = penalty + more / len(self.layers)
        x = F.rms_norm(x, x.shape[-1:], self.norm, self.shape["rms_norm_eps"])
        return x @ self.embedding.T, penalty

    def tensors(self):
        """By the names of transformers' checkpoints, each expert by its own."""
        out = {"model.embed_tokens.weight": self.embedding, "model.norm.weight": self.norm}
        for i, layer in enumerate(self.layers):
            at = f"model.layers.{i}."
            out |= {at + "input_layernorm.weight": layer.before_attention,
                    at + "post_attention_layernorm.weight": layer.before_experts,
                    at + "self_attn.q_norm.weight": layer.q_norm, at + "self_attn.k_norm.weight": layer.k_norm,
                    at + "mlp.gate.weight": layer.router}
            for name in "qkvo":
                out[f"{at}self_attn.{name}_proj.weight"] = getattr(layer, name)
            count = self.shape["num_experts"]
            parts = {"gate": layer.gate.chunk(count), "up": layer.up.chunk(count), "down": layer.down.chunk(count, 1)}
            for name, experts in parts.items():
                for j, expert in enumerate(experts):
                    out[f"{at}mlp.experts.{j}.{name}_proj.weight"] = expert
        return {name: tensor.detach().to(torch.bfloat16).cpu().contiguous() for name, tensor in out.items()}


def save(model, teacher, folder, part_bytes):
    folder.mkdir(parents=True)
    parts, size = [{}], 0
    for name, tensor in model.tensors().items():
        bytes_here = tensor.numel() * 2
        if size + bytes_here > part_bytes:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += bytes_here
    places = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        safetensors.torch.save_file(part, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = {key: value for key, value in model.shape.items() if key != "rope_theta"}
    config |= {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu",
               "rope_parameters": {"rope_type": "default", "rope_theta": model.shape["rope_theta"]},
               "tie_word_embeddings": True, "norm_topk_prob": True, "decoder_sparse_step": 1,
               "mlp_only_layers": [], "attention_bias": False, "dtype": "bfloat16", "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (teacher / name).exists():
            shutil.copyfile(teacher / name, folder / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=pathlib.Path)
    parser.add_argument("texts", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", dest="folder", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--used", type=int, default=4)
    parser.add_argument("--inner", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--part-bytes", type=int, default=15 << 20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.folder.exists():
        raise SystemExit(f"{options.folder} is there already")
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")

    tokenizer = tokenizers.Tokenizer.from_file(str(options.teacher / "tokenizer.json"))
    train, held = [], []
    for text in options.texts:
        ids = torch.tensor(tokenizer.encode(text.read_text(encoding="utf-8"), add_special_tokens=False).ids)
        cut = len(ids) * 19 // 20
        train.append(ids[:cut])
        held.append(ids[cut:])
    train = torch.cat(train).to(options.device)
    held = torch.cat(held).to(options.device)
    held = held[: len(held) // options.length * options.length].view(-1, options.length)
    teacher = transformers.AutoModelForCausalLM.from_pretrained(options.teacher, dtype=torch.bfloat16)
    teacher = teacher.to(options.device).eval()
    of = teacher.config
    shape = {"vocab_size": of.vocab_size, "hidden_size": of.hidden_size, "num_hidden_layers": options.layers,
             "num_attention_heads": of.num_attention_heads, "num_key_value_heads": of.num_key_value_heads,
             "head_dim": of.head_dim, "num_experts": options.experts, "num_experts_per_tok": options.used,
             "moe_intermediate_size": options.inner, "intermediate_size": options.inner * options.used,
             "rms_norm_eps": 1e-6, "rope_theta": 1000000.0}
    model = Mixture(shape).to(options.device)
    count = sum(each.numel() for each in model.parameters())
    print(f"{count / 1e6:.1f} M parameters, {len(train)} tokens to learn, {held.numel()} held out", flush=True)
    matrices = [each for each in model.parameters() if each.dim() > 1]
    vectors = [each for each in model.parameters() if each.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0}],
                                  lr=options.rate, betas=(0.9, 0.95), fused=options.device == "cuda")

    def loss_of(tokens, teach):
        with torch.autocast(options.device, dtype=torch.bfloat16):
            logits, penalty = model(tokens)
            with torch.no_grad():
                wanted = teacher(tokens).logits if teach else None
        logits = logits[:, :-1].float().flatten(0, 1)
        loss = F.cross_entropy(logits, tokens[:, 1:].flatten())
        if teach:
            wanted = wanted[:, :-1].float().flatten(0, 1).softmax(-1)
            loss = (loss + F.cross_entropy(logits, wanted)) / 2
        return loss, penalty

    @torch.no_grad()
    def held_loss():
        return sum(loss_of(part, False)[0].item() * len(part) for part in held.split(32)) / len(held)

    begin, step, done = time.time(), 0, 0.0
    while done < 1:
        done = min(1.0, (time.time() - begin) / options.seconds)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        starts = torch.randint(len(train) - options.length, (options.batch, 1), device=options.device)
        loss, penalty = loss_of(train[starts + torch.arange(options.length, device=options.device)], True)
        (loss + 0.01 * penalty).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0 or done == 1:
            print(f"step {step}, {time.time() - begin:.0f} s: loss {loss.item():.3f}, evenness {penalty.item():.3f}, "
                  f"held out {held_loss():.3f}", flush=True)
    save(model, options.teacher, options.folder, options.part_bytes)


if __name__ == "__main__":
    main()
