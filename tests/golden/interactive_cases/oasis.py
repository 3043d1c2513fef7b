"""Oasis 500M in small: its DiT, its ViT-VAE, and generate.py's own sampling loop."""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from .common import drawn, randomise, stand_in, stored, write_case, write_json

REFERENCE = "etched-ai/open-oasis@f59deef2 (MIT), float32 on CPU"
ACTIONS = 25


class Mlp(nn.Module):
    """timm's, for a machine without it."""

    def __init__(self, in_features, hidden_features, act_layer=nn.GELU, drop=0):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(in_features, hidden_features), act_layer(), nn.Linear(hidden_features, in_features)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


def import_reference(source: Path):
    for name in ("timm", "timm.models", "timm.layers", "torchvision", "torchvision.transforms", "tqdm"):
        stand_in(name)
    stand_in("timm.models.vision_transformer", Mlp=Mlp)
    stand_in("timm.layers.helpers", to_2tuple=lambda x: (x, x))
    stand_in("torchvision.io", read_image=None, read_video=None, write_video=None)
    stand_in("torchvision.transforms.functional", resize=lambda x, size: x)
    sys.modules["tqdm"].tqdm = lambda x: x
    sys.path.insert(0, str(source))
    import dit
    import vae

    return dit, vae


def small_dit(dit):
    return randomise(dit.DiT(input_h=4, input_w=6, patch_size=2, in_channels=5, hidden_size=32, depth=2, num_heads=2,
                             external_cond_dim=ACTIONS, max_frames=4), 11)


def small_vae(vae):
    return randomise(vae.AutoencoderKL(latent_dim=5, input_height=16, input_width=24, patch_size=4, enc_dim=32, enc_depth=1,
                                       enc_heads=2, dec_dim=32, dec_depth=2, dec_heads=2), 12)


def run_generate(source: Path, model, autoencoder, image, actions, noise):
    """generate.py's main(), with its checkpoint loading, its GPU and its files replaced; float32, so its autocast is off."""
    text = (source / "generate.py").read_text()
    for old, new in (('"cuda:0"', '"cpu"'), ("assert torch.cuda.is_available()", ""), ('autocast("cuda", dtype=torch.half)', "nothing()")):
        assert old in text, old
        text = text.replace(old, new)
    stand_in("generate")
    import contextlib

    scope = {"nothing": contextlib.nullcontext, "__name__": "generate"}
    exec(compile(text, "generate.py", "exec"), scope)
    draws, seen = iter(noise), {}
    decode = autoencoder.decode

    def recording_decode(tokens):
        seen["latents"] = tokens
        seen["video"] = decode(tokens)
        return seen["video"]

    autoencoder.decode = recording_decode
    scope.update(DiT_models={"DiT-S/2": lambda: model}, VAE_models={"vit-l-20-shallow-encoder": lambda: autoencoder},
                 load_model=lambda *a: None, load_prompt=lambda *a, **k: image, write_video=lambda *a, **k: None,
                 load_actions=lambda *a, **k: torch.cat([torch.zeros_like(actions[:1]), actions])[None])
    randn = torch.randn
    torch.randn = lambda shape, **k: next(draws).reshape(shape)
    try:
        scope["main"](argparse.Namespace(oasis_ckpt="x.safetensors", vae_ckpt="x.safetensors", n_prompt_frames=1, ddim_steps=10,
                                         num_frames=1 + len(noise), prompt_path="", video_offset=None, actions_path="",
                                         output_path="", fps=20))
    finally:
        torch.randn = randn
    autoencoder.decode = decode
    return seen


def make(out: Path, source: Path):
    dit, vae = import_reference(source)
    model, autoencoder = small_dit(dit), small_vae(vae)
    world = out / "worlds" / "oasis"
    write_json(world / "model" / "model_index.json", {"_class_name": "OasisWorldPipeline", "vae": ["open_oasis", "OasisAutoencoderKL"],
                                                      "transformer": ["open_oasis", "DiT"]})
    write_json(world / "model" / "transformer" / "config.json",
               {"_class_name": "DiT", "_library": "open_oasis.dit", "input_h": 4, "input_w": 6, "patch_size": 2, "in_channels": 5,
                "hidden_size": 32, "depth": 2, "num_heads": 2, "external_cond_dim": ACTIONS, "max_frames": 4})
    # As published: the rotary tables that all blocks share are stored once, under the first block's name.
    weights = {k: v for k, v in stored(model).items() if "rotary_emb" not in k}
    weights["blocks.0.s_attn.rotary_emb.freqs"] = model.spatial_rotary_emb.freqs.detach().clone()
    weights["blocks.0.t_attn.rotary_emb.freqs"] = model.temporal_rotary_emb.freqs.detach().clone()
    save_file(weights, world / "model" / "transformer" / "model.safetensors")
    write_json(world / "model" / "vae" / "config.json",
               {"_class_name": "OasisAutoencoderKL", "_library": "open_oasis.vae", "latent_dim": 5, "input_height": 16, "input_width": 24,
                "patch_size": 4, "enc_dim": 32, "enc_depth": 1, "enc_heads": 2, "dec_dim": 32, "dec_depth": 2, "dec_heads": 2})
    (world / "model" / "vae").mkdir(exist_ok=True)
    save_file(stored(autoencoder), world / "model" / "vae" / "model.safetensors")

    given = {"x": drawn((2, 3, 5, 4, 6), 13), "t": torch.tensor([[14.0, 14.0, 999.0], [14.0, 300.0, 20.0]]),
             "external_cond": drawn((2, 3, ACTIONS), 14)}
    sample = model(given["x"], given["t"].long(), given["external_cond"])
    write_case(out / "transformer_oasis", "transformer.forward", "../worlds/oasis/model/transformer/model.safetensors", given,
               {"sample": sample}, REFERENCE, "a lone file: sizes are read off the tensors; random float16 weights")
    pixels = torch.rand((2, 3, 16, 24), generator=torch.Generator().manual_seed(15)) * 2 - 1
    latent = autoencoder.encode(pixels).mean
    as_map = latent.transpose(1, 2).unflatten(2, (4, 6))
    note = "random float16 weights; the posterior's mean"
    write_case(out / "oasis_vae_encode", "vae.encode", "../worlds/oasis/model/vae", {"sample": pixels}, {"latent": as_map}, REFERENCE, note)
    write_case(out / "oasis_vae_decode", "vae.decode", "../worlds/oasis/model/vae", {"latent": as_map},
               {"sample": autoencoder.decode(latent)}, REFERENCE, note)

    # A rollout long enough for the window of four frames to slide.
    steps = 6
    image = torch.randint(0, 256, (16, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(16))
    actions = torch.randint(0, 2, (steps, ACTIONS), generator=torch.Generator().manual_seed(17)).float()
    actions[:, 15:17] = torch.linspace(-1, 1, 2 * steps).view(steps, 2)
    noise = drawn((steps, 5, 4, 6), 18)
    seen = run_generate(source, model, autoencoder, (image.permute(2, 0, 1) / 255.0)[None, None], actions, noise)
    save_file({"image": image[None], "actions": actions, "noise": noise,
               "video": seen["video"][1:].clamp(-1, 1).permute(1, 0, 2, 3)[None].contiguous()}, world / "rollout.safetensors")
