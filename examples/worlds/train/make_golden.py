"""Writes what the C++ runtime is compared with: python make_golden.py tiny|pusht|doom.

../golden/<name>.safetensors, float32 unless said otherwise, made with weights as exported (float16 expanded):
    vae.encode.sample [2,3,64,64]           vae.encode.latent [2,C,h,w], not normalised
    vae.decode.latent [2,C,h,w]             vae.decode.sample [2,3,64,64], not clamped
    transformer.forward.{hidden_states [2,5,C,h,w], previous [2,5,2C,h,w], timestep [2,5], action_features [2,5,F]}, .sample
    rollout.image u8 [H,W,3]                the picture as the simulator gives it
    rollout.frame [1,3,64,64]               the same as the encoder takes it
    rollout.actions [4,A]                   in the simulator's units
    rollout.noise [4,C,h,w]                 the noise of each new frame
    rollout.latents [4,C,h,w]               the new frames, normalised
    rollout.video [1,3,4,64,64]             decoded and clamped to [-1, 1], before any rounding
`tiny` also writes its model folder, ../golden/tiny_model: random weights, none of them zero, in the layout of an export.
Its action space is PushT's; its window is 3, so that the cache of the rollout slides.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from dataset import Episodes, shrink
from export import INDEX, SCHEDULER, action_space, write_component, write_json
from model import Tokenizer, WorldTransformer, feature_width
from pipeline import Pipeline
from worlds import TOKENIZER, TRANSFORMER, WORLDS

HERE = Path(__file__).parent.parent


def randomise(net, generator):
    """Every weight of a size that keeps the signal alive; norm weights near one; nothing zero."""
    state = net.state_dict()
    for name, p in state.items():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim > 1:
            state[name] = noise / p[0].numel() ** 0.5
        else:
            state[name] = (1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.2 * noise
    return state


def write_tiny(folder):
    g = torch.Generator().manual_seed(7)
    vae = {**TOKENIZER, "widths": [8, 16, 24], "norm_groups": 4, "latent_channels": 4}
    mean, sd = 0.3 * torch.randn(4, generator=g), 0.4 + torch.rand(4, generator=g)
    net = {**TRANSFORMER, "in_channels": 4, "width": 48, "layers": 2, "heads": 3, "mlp_width": 64, "conv_width": 24, "planes": 5, "head_convs": 2, "flows": 3,
           "noise_features": 16,
           "action_features": feature_width(WORLDS["pusht"]["actions"]), "window": 3}
    write_json(folder / "model_index.json", INDEX)
    write_component(folder / "vae", {**vae, "latents_mean": mean.tolist(), "latents_std": sd.tolist()},
                    randomise(Tokenizer(**vae), g))
    write_component(folder / "transformer", net, randomise(WorldTransformer(**net), g))
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "action_space.json", action_space("pusht"))


def first_picture(name):
    """Not square and not 64 wide for the tiny model, so that resizing is compared too; else a held-out frame."""
    if name == "tiny":
        y, x = np.mgrid[0:120, 0:160]
        return np.stack([x * 255 / 159, y * 255 / 119, 127 + 120 * np.sin(x / 9) * np.cos(y / 7)], -1).astype(np.uint8)
    return Episodes(name, "test").frames[3]


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("name", choices=("tiny", "pusht", "doom"))
    name = ap.parse_args().name
    folder = HERE / "golden" / "tiny_model" if name == "tiny" else HERE / name
    if name == "tiny":
        write_tiny(folder)
    pipe, g = Pipeline(folder), torch.Generator().manual_seed(21)
    noise = lambda *shape: torch.randn(*shape, generator=g)
    channels, space, side = pipe.config["in_channels"], pipe.space, pipe.config["latent_size"]
    out = {}

    x = (0.5 * noise(2, 3, 64, 64)).clamp(-1, 1)
    out["vae.encode.sample"], out["vae.encode.latent"] = x, pipe.tokenizer.encode(x)
    z = (0.5 * noise(2, channels, side, side)).clamp(-1, 1)
    out["vae.decode.latent"], out["vae.decode.sample"] = z, pipe.tokenizer.decode(z)

    frames = 5
    h, previous = noise(2, frames, channels, side, side), noise(2, frames, 2 * channels, side, side)
    level = torch.rand(2, frames, generator=g)
    if space["type"] == "discrete":
        actions = torch.randint(0, space["encoding"]["count"], (2, frames, 1), generator=g)
        steps = torch.tensor([[3.0], [1.0], [2.0], [0.0]])
    else:
        actions = torch.rand(2, frames, 2, generator=g) * 512
        steps = torch.tensor([[300.0, 200.0], [320.5, 180.0], [100.0, 400.0], [512.0, 0.0]])
    features = pipe.features(actions)
    features[:, 0] = 0                                                   # an unknown action
    sample, _ = pipe.net(h, previous, level, features)
    for key, value in (("hidden_states", h), ("previous", previous), ("timestep", level), ("action_features", features),
                       ("sample", sample)):
        out[f"transformer.forward.{key}"] = value

    image = first_picture(name)
    first = pipe.encode(image[None])
    eps = noise(4, channels, side, side)
    latents = pipe.rollout(first[:, None], steps[None], eps[None])[0]
    frame = image if image.shape[:2] == (64, 64) else shrink(image)
    out["rollout.image"] = torch.from_numpy(np.ascontiguousarray(image))
    out["rollout.frame"] = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1
    out["rollout.actions"], out["rollout.noise"], out["rollout.latents"] = steps, eps, latents
    out["rollout.video"] = pipe.decode(latents).permute(1, 0, 2, 3)[None]
    path = HERE / "golden" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in out.items()}, path)
    for k, v in out.items():
        print(f"{k:40} {str(tuple(v.shape)):22} mean {v.float().mean():8.4f} sd {v.float().std():8.4f}")


if __name__ == "__main__":
    main()
