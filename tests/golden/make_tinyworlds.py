#!/usr/bin/env python3
"""Golden cases of TinyWorlds: its three networks, and a world driven by latent actions.

    make_tinyworlds.py --original <checkout of AlmondGod/tinyworlds> [--out <folder>]

Needs torch and einops. Random weights, rounded to bfloat16 and saved under the original's names; the loop is that of
scripts/run_inference.py in its interactive mode at temperature 0, with chosen actions in place of typed ones.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file

from component_case import write_case

FRAME, WINDOW = 12, 3
SHARED = dict(frame_size=(FRAME, FRAME), patch_size=2, embed_dim=24, num_heads=2)
ACTIONS = [2, 0, 3, 1, 3]


def draw(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(module.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1:
            p.copy_(0.2 * noise + (name.endswith("weight")))
        elif "mask_token" in name:
            p.copy_(noise)
        else:
            p.copy_(noise * (2 / p[0].numel())**0.5)
        p.copy_(p.bfloat16().float())
    return module.eval()


def case(folder, call, model, given, expected):
    for value in expected.values():
        assert not value.is_floating_point() or value.std() > 0.02
    write_case(folder, call, model, given, expected, "original", "AlmondGod/tinyworlds (MIT), in float32 on a CPU", "random weights, tiny")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--original", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    sys.path.insert(0, args.original)
    import models.patch_embed
    import models.st_transformer
    models.st_transformer.PatchEmbedding = models.patch_embed.PatchEmbedding
    from models.dynamics import DynamicsModel
    from models.latent_actions import LatentActionModel
    from models.video_tokenizer import VideoTokenizer

    tokenizer = draw(VideoTokenizer(**SHARED, hidden_dim=30, num_blocks=2, latent_dim=3, num_bins=4), 1)
    tokenizer.encoder.latent_head[1].weight.mul_(2)
    tokenizer.decoder.frame_head.to_pixels.weight.mul_(0.5)
    actions = draw(LatentActionModel(**SHARED, n_actions=4, hidden_dim=30, num_blocks=1), 21)
    dynamics = draw(DynamicsModel(**SHARED, hidden_dim=30, num_blocks=2, num_bins=4, latent_dim=3, conditioning_dim=2), 3)

    world = args.out / "tinyworlds"
    shutil.rmtree(world, ignore_errors=True)
    index = {"_class_name": "TinyWorldsPipeline", "context_window": WINDOW, "temperature": 0.0}
    for name, network, more in (("vae", tokenizer, dict(num_blocks=2, latent_dim=3, num_bins=4)),
                                ("latent_actions", actions, dict(num_blocks=1, n_actions=4)),
                                ("dynamics", dynamics, dict(num_blocks=2, latent_dim=3, num_bins=4, conditioning_dim=2))):
        (world / name).mkdir(parents=True)
        state = {k: (v.bfloat16() if v.is_floating_point() else v).contiguous() for k, v in network.state_dict().items() if not k.startswith("decoder.") or name != "latent_actions"}
        save_file(state, world / name / "model.safetensors")
        config = {**SHARED, "frame_size": FRAME, "hidden_dim": 30, **more}
        (world / name / "config.json").write_text(json.dumps({"_class_name": type(network).__name__, **config}, indent=1) + "\n")
        index[name] = ["tinyworlds", type(network).__name__]
    (world / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")

    generator = torch.Generator().manual_seed(4)
    fsq = tokenizer.quantizer
    while True:  # no number may lie near a rounding boundary of the quantiser
        frames = torch.rand(2, 5, 3, FRAME, FRAME, generator=generator) * 2 - 1
        bounded = fsq.scale_and_shift(torch.tanh(tokenizer.encoder(frames)))
        if float((bounded - bounded.floor() - 0.5).abs().min()) > 1e-4:
            break
    indices = tokenizer.tokenize(frames)
    codes = fsq.get_latents_from_indices(indices)
    sides = (2, 5, 6, 6)
    case(args.out / "tinyworlds_encode", "vae.encode", "../tinyworlds/vae", {"sample": frames.transpose(1, 2)},
         {"indices": indices.view(sides).int(), "latent": codes.view(*sides, 3).permute(0, 4, 1, 2, 3)})
    given = torch.randint(64, sides, generator=generator).int()
    case(args.out / "tinyworlds_decode", "vae.decode", "../tinyworlds/vae", {"indices": given},
         {"sample": tokenizer.detokenize(fsq.get_latents_from_indices(given.flatten(2).long())).transpose(1, 2)})
    signs = actions.quantizer.get_latents_from_indices(torch.randint(4, (2, 4), generator=generator))
    codes, indices, signs = codes[:1, :3], indices[:1, :3], signs[:1, :2]
    logits = dynamics(codes, training=False, conditioning=signs)[0]
    case(args.out / "tinyworlds_logits", "dynamics.logits", "../tinyworlds/dynamics",
         {"input_ids": indices.flatten(1), "actions": signs.float()}, {"logits": logits.flatten(1, 2)})

    seen = (torch.rand(1, WINDOW, 3, FRAME, FRAME, generator=generator) * 255).round() / 127.5 - 1
    whole, taken = seen, []
    for index in ACTIONS:
        context = whole[:, -WINDOW:]
        latents = fsq.get_latents_from_indices(tokenizer.tokenize(context))
        taken.append(index)
        recent = taken[-WINDOW:]
        signs = actions.quantizer.get_latents_from_indices(torch.tensor([recent]))
        if len(recent) < WINDOW:
            signs = torch.cat([actions.quantizer(actions.encode(context[:, :WINDOW - len(recent) + 1])), signs], 1)
        after = dynamics.forward_inference(latents, 1, 10, lambda i: fsq.get_latents_from_indices(i, dim=-1), signs, temperature=0.0)
        whole = torch.cat([whole, tokenizer.detokenize(after)[:, -1:]], 1)
    future = whole[0, WINDOW:].clamp(-1, 1)
    save_file({"observed": ((seen[0] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(),
               "future": future.contiguous()}, world / "rollout.safetensors")
    print(len(indices.unique()), float(future.std()), [float((future[i] - future[i - 1]).abs().mean()) for i in range(1, 5)],
          actions.encode(frames).unique(dim=1).shape)


if __name__ == "__main__":
    main()
