#!/usr/bin/env python3
"""Tokens a second of orrery's decoding beside an eager float32 transformer of the same shape in PyTorch, in turns on one machine.

    compare_decode.py FOLDER [--layers 16] [--dim 2048] [--vocabulary 64000] [--tokens 64] [--rounds 3] [--threads N]

FOLDER gets a checkpoint with random weights in bfloat16 (2.3 GB at the default size), which both sides read: the eager one widened to
float32, orrery as bfloat16 and as int8. Both read a prompt of 32 tokens, then make --tokens greedily with a cache; that time counts.
Then the logits: relative L2 against the eager ones, and how often the most likely token is the same, over one sequence of 64 tokens.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

GRID = [5, 40, 64]
PROMPT = 32


def make(folder, args):
    heads, groups, hidden = args.dim // 128, args.dim // 512, args.dim * 7 // 2
    generator = torch.Generator().manual_seed(1)

    def matrix(rows, columns):
        return (torch.randn(rows, columns, generator=generator) * columns**-0.5).bfloat16()

    def gain(size):
        return (1 + 0.1 * torch.randn(size, generator=generator)).bfloat16()

    state = {"tok_embeddings.weight": matrix(args.vocabulary, args.dim) * args.dim**0.5, "norm.weight": gain(args.dim),
             "output.weight": matrix(args.vocabulary, args.dim)}
    for i in range(args.layers):
        at = f"layers.{i}."
        state |= {at + "attention.wq.weight": matrix(heads * 128, args.dim), at + "attention.wk.weight": matrix(groups * 128, args.dim),
                  at + "attention.wv.weight": matrix(groups * 128, args.dim), at + "attention.wo.weight": matrix(args.dim, heads * 128),
                  at + "attention.q_norm.weight": gain(128), at + "attention.k_norm.weight": gain(128),
                  at + "attention_norm.weight": gain(args.dim), at + "ffn_norm.weight": gain(args.dim),
                  at + "feed_forward.w1.weight": matrix(hidden, args.dim), at + "feed_forward.w3.weight": matrix(hidden, args.dim),
                  at + "feed_forward.w2.weight": matrix(args.dim, hidden)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "_class_name": "Transformer", "_library": "cosmos_predict1.autoregressive.networks.transformer", "dim": args.dim,
        "n_layers": args.layers, "n_heads": heads, "n_kv_heads": groups, "head_dim": 128, "ffn_hidden_size": hidden,
        "vocab_size": args.vocabulary, "use_qk_normalization": True, "rope_dim": "3D", "video_latent_shape": GRID,
        "max_seq_len": 12800, "pad_to_multiple_of": 64}))


class Eager:
    """The same network as plain PyTorch: float32, keys and values joined to a growing cache."""

    def __init__(self, folder):
        self.w = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
        self.layers = sum(k.endswith("ffn_norm.weight") for k in self.w)
        frequencies = [500000.0 ** -(torch.arange(0, d, 2) / d) for d in (44, 42, 42)]
        where = torch.cartesian_prod(*[torch.arange(n).float() for n in GRID])
        angles = torch.cat([where[:, i:i + 1] * frequencies[i] for i in range(3)], 1).repeat(1, 2)
        self.cos, self.sin = angles.cos(), angles.sin()

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.w[name + ".weight"], 1e-5)

    def turned(self, x, begin):
        cos, sin = (t[begin:begin + x.shape[2]] for t in (self.cos, self.sin))
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    def __call__(self, tokens, cache):
        begin = cache[0][0].shape[2] if cache else 0
        x = self.w["tok_embeddings.weight"][tokens]
        for i in range(self.layers):
            at = f"layers.{i}."
            h = self.norm(x, at + "attention_norm")
            q, k, v = (F.linear(h, self.w[f"{at}attention.w{n}.weight"]).unflatten(-1, (-1, 128)).transpose(1, 2) for n in "qkv")
            q = self.turned(self.norm(q, at + "attention.q_norm"), begin)
            k = self.turned(self.norm(k, at + "attention.k_norm"), begin)
            if begin:
                k, v = torch.cat([cache[i][0], k], 2), torch.cat([cache[i][1], v], 2)
                cache[i] = (k, v)
            else:
                cache.append((k, v))
            h = F.scaled_dot_product_attention(q, k, v, is_causal=begin == 0 and q.shape[2] > 1, enable_gqa=True)
            x = x + F.linear(h.transpose(1, 2).flatten(2), self.w[at + "attention.wo.weight"])
            h = self.norm(x, at + "ffn_norm")
            h = F.silu(F.linear(h, self.w[at + "feed_forward.w1.weight"])) * F.linear(h, self.w[at + "feed_forward.w3.weight"])
            x = x + F.linear(h, self.w[at + "feed_forward.w2.weight"])
        return F.linear(self.norm(x, "norm"), self.w["output.weight"])

    def tokens_per_second(self, prompt, count):
        cache = []
        token = self(prompt, cache)[:, -1:].argmax(-1)
        start = time.perf_counter()
        for _ in range(count):
            token = self(token, cache)[:, -1:].argmax(-1)
        return count / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--orrery", default=pathlib.Path(__file__).parents[2] / "build/bin/orrery")
    for name, value in (("layers", 16), ("dim", 2048), ("vocabulary", 64000), ("tokens", 64), ("rounds", 3),
                        ("threads", torch.get_num_threads())):
        parser.add_argument("--" + name, type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    if not (args.folder / "model.safetensors").exists():
        make(args.folder, args)
    eager = Eager(args.folder)
    sequence = torch.randint(args.vocabulary, (1, 64), generator=torch.Generator().manual_seed(2))
    prompt = sequence[:, :PROMPT].contiguous()
    save_file({"input_ids": prompt}, args.folder / "prompt.safetensors")
    save_file({"input_ids": sequence}, args.folder / "sequence.safetensors")

    def orrery(*arguments):
        command = [str(args.orrery), *arguments, "--model", str(args.folder), "--threads", str(args.threads)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    speeds = {"eager float32": [], "bfloat16": [], "int8": []}
    for _ in range(args.rounds):
        speeds["eager float32"].append(eager.tokens_per_second(prompt, args.tokens))
        for form in ("bfloat16", "int8"):
            report = json.loads(orrery("bench", "--call", "dynamics.decode", "--inputs", str(args.folder / "prompt.safetensors"),
                                       "--new-tokens", str(args.tokens), "--warmup", "0", "--repeat", "1", "--weights", form, "--json"))
            speeds[form].append(report["tokens_per_second"])
        print({name: round(values[-1], 3) for name, values in speeds.items()}, flush=True)
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds["eager float32"])]
        print(f"{name:14} median {statistics.median(values):7.3f} tokens/s, {statistics.median(ratios):.2f} x eager "
              f"({min(ratios):.2f} … {max(ratios):.2f})")

    exact = eager(sequence, [])
    for form in ("bfloat16", "int8"):
        output = args.folder / f"logits_{form}.safetensors"
        orrery("eval", "--call", "dynamics.logits", "--inputs", str(args.folder / "sequence.safetensors"), "--weights", form,
               "--streaming", "1", "--output", str(output))
        logits = load_file(output)["logits"]
        error = (logits - exact).norm() / exact.norm()
        same = (logits.argmax(-1) == exact.argmax(-1)).float().mean()
        print(f"{form:14} logits {error:.2e} relative L2, most likely token the same in {100 * same:.1f} %")


if __name__ == "__main__":
    main()
