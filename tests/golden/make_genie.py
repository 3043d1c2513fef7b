#!/usr/bin/env python3
"""Golden cases of 1X's GENIE: its network, its picture tokenizer, and whole futures through both.

    make_genie.py --original <checkout of 1x-technologies/1xgpt> [--out <folder>]

Needs torch, einops, transformers, huggingface_hub. What the checkout imports of mup, xformers and lightning is stubbed.
Weights are random and rounded to bfloat16. Places settle at random in the reference; the numbers are drawn here and stored.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import sys
import types
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file

from component_case import write_case

BITS = 6
NETWORK = dict(num_layers=2, num_heads=2, d_model=24, T=5, S=9, image_vocab_size=2**BITS, num_factored_vocabs=2, use_mup=False,
               qkv_bias=False, proj_bias=True, attn_drop=0.0, mlp_ratio=2.0, mlp_drop=0.0, mlp_bias=True)
FORMS = {"genie_norms": dict(qk_norm=False), "genie_qk_norm_mup": dict(qk_norm=True, use_mup=True, num_factored_vocabs=3, qkv_bias=True)}
REFERENCE = "1x-technologies/1xgpt (Apache-2.0), in float32 on a CPU"
TOKENIZER = dict(z_channels=BITS, base_channels=32, ch_mult=(2, 1), num_res_blocks=1, codebook_size=2**BITS)


def originals(checkout):
    os.environ["XFORMERS_DISABLED"] = "true"
    for name in ("xformers", "xformers.ops", "lightning"):
        sys.modules[name] = MagicMock()
    mup = types.ModuleType("mup")

    class MuReadout(torch.nn.Linear):
        output_mult = 1.0

        def width_mult(self):
            return self.in_features / 256

    mup.MuReadout, mup.normal_ = MuReadout, torch.nn.init.normal_
    sys.modules["mup"] = mup
    sys.path.insert(0, str(checkout))
    from genie.config import GenieConfig
    from genie.st_mask_git import STMaskGIT
    from magvit2.config import VQConfig
    from magvit2.modules.diffusionmodules.improved_model import Decoder, Encoder
    from magvit2.modules.vqvae.lookup_free_quantize import LFQ
    return GenieConfig, STMaskGIT, VQConfig, Encoder, Decoder, LFQ


def draw(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(module.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if "embed" in name:
            p.copy_(noise)
        elif p.dim() > 1:
            p.copy_(noise * math.sqrt(2 / p[0].numel()))
        else:
            p.copy_(0.1 * noise + ("norm" in name and name.endswith("weight")))
        p.copy_(p.bfloat16().float())
    return module.eval()


def stored(module, prefix=""):
    return {prefix + k: v.bfloat16() for k, v in module.state_dict().items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--original", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    GenieConfig, STMaskGIT, VQConfig, Encoder, Decoder, LFQ = originals(args.original)

    networks = {}
    for seed, (name, form) in enumerate(FORMS.items(), 51):
        config = NETWORK | form
        network = networks[name] = draw(STMaskGIT(GenieConfig(**config)), seed)
        folder = args.out / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "model").mkdir(parents=True)
        save_file(stored(network), folder / "model" / "model.safetensors")
        (folder / "model" / "config.json").write_text(json.dumps(config, indent=1) + "\n")  # as published: no class is named
        tokens = torch.randint(2**BITS + 1, (2, config["T"] * config["S"]), generator=torch.Generator().manual_seed(seed))
        tokens[:, 2 * config["S"]:2 * config["S"] + 4] = 2**BITS  # the mask
        logits = network.compute_logits(tokens.view(2, config["T"], 3, 3)).flatten(2).transpose(1, 2)
        write_case(folder, "dynamics.logits", "model", {"input_ids": tokens}, {"logits": logits}, "original", REFERENCE, "random weights, tiny")

    config = VQConfig(**TOKENIZER)
    encoder, decoder, quantize = draw(Encoder(config), 61), draw(Decoder(config), 62), LFQ(config).eval()
    decoder.conv_out.weight.mul_(0.5)
    state = stored(encoder, "encoder.") | stored(decoder, "decoder.")
    # As training leaves it: the plain weights are others than the averaged ones, which count.
    generator = torch.Generator().manual_seed(63)
    plain = "encoder.conv_in.weight"
    state["model_ema." + plain.replace(".", "")] = state[plain]
    state[plain] = torch.randn(state[plain].shape, generator=generator).bfloat16()
    state["loss.discriminator.weight"] = torch.zeros(3)
    encode, decode = args.out / "genie_vq_model_encode", args.out / "genie_vq_model_decode"
    shutil.rmtree(encode, ignore_errors=True)
    (encode / "model").mkdir(parents=True)
    save_file(state, encode / "model" / "magvit2.safetensors")

    def indices_of(pictures):
        while True:  # no value may lie near zero, where its sign turns
            codes = encoder(pictures)
            if codes.abs().min() > 1e-4:
                break
            pictures = pictures + 0.01 * torch.randn(pictures.shape, generator=generator)
        (quantized, _, indices), _ = quantize(codes, return_loss_breakdown=True)
        return pictures, quantized, indices.view(codes.shape[0], *codes.shape[2:])

    pictures, quantized, indices = indices_of(torch.rand(2, 3, 6, 10, generator=generator) * 2 - 1)
    write_case(encode, "vae.encode", "model", {"sample": pictures}, {"latent": quantized, "indices": indices.int()}, "original", REFERENCE, "random weights, tiny")
    given = torch.randint(2**BITS, (2, 3, 5), generator=generator).int()
    codes = quantize.get_codebook_entry(given.flatten(1).long(), bhwc=(2, 3, 5, BITS))
    write_case(decode, "vae.decode", "../genie_vq_model_encode/model", {"indices": given}, {"sample": decoder(codes)}, "original", REFERENCE, "random weights, tiny")

    # A future: two frames are seen. visualize.py flips the bits of the published tokens before it decodes them.
    network = networks["genie_norms"]
    pictures, _, indices = indices_of(torch.rand(2, 3, 6, 6, generator=generator) * 2 - 1)
    flip = lambda x: sum(((x >> b) & 1) << (BITS - 1 - b) for b in range(BITS))
    prompt = flip(indices.long()).view(1, -1)
    greedy = network.generate(prompt, None, 3 * 9, maskgit_steps=1).view(5, 3, 3)
    numbers = torch.rand(3, 9, generator=generator)
    drawn = iter(numbers)
    torch.rand_like = lambda x: next(drawn).view(x.shape).clone()
    settled = network.generate(prompt, None, 3 * 9, maskgit_steps=2).view(5, 3, 3)
    bits = quantize.get_codebook_entry(greedy.flatten(1), bhwc=(5, 3, 3, BITS)).flip(1)
    save_file({"video": pictures.transpose(0, 1).unsqueeze(0).contiguous(), "settling_order": numbers.view(3, 1, 9).contiguous(),
               "one_look": flip(greedy).int().unsqueeze(0).contiguous(), "two_looks": flip(settled).int().unsqueeze(0).contiguous(),
               "frames": decoder(bits).clamp(-1, 1).transpose(0, 1).unsqueeze(0).contiguous()}, args.out / "genie_norms" / "future.safetensors")
    print(len(greedy.unique()), len(settled.unique()), decoder(bits).std(), decoder(codes).std(), quantized.mean())


if __name__ == "__main__":
    main()
