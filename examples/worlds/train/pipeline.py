"""Reads an exported model folder and imagines with it: the reference that the C++ runtime is compared with."""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from dataset import shrink
from model import Tokenizer, World, WorldTransformer, action_features


def read_json(path):
    return json.loads(Path(path).read_text())


def component(folder, cls):
    config = read_json(folder / "config.json")
    net = cls(**config)
    net.load_state_dict({k: v.float() for k, v in load_file(folder / "diffusion_pytorch_model.safetensors").items()})
    return net.eval().requires_grad_(False), config


class Pipeline:
    def __init__(self, folder):
        folder = Path(folder)
        self.tokenizer, vae = component(folder / "vae", Tokenizer)
        self.net, self.config = component(folder / "transformer", WorldTransformer)
        self.scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
        self.space = read_json(folder / "action_space.json")
        self.mean, self.sd = (torch.tensor(vae[k])[:, None, None] for k in ("latents_mean", "latents_std"))

    @torch.no_grad()
    def encode(self, frames, batch=64):
        """u8 [N, H, W, 3] -> normalised latents [N, C, h, w]"""
        if frames.shape[1:3] != (64, 64):
            frames = np.stack([shrink(f) for f in frames])
        x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        return torch.cat([(self.tokenizer.encode(x[i : i + batch]) - self.mean) / self.sd
                          for i in range(0, len(x), batch)])

    @torch.no_grad()
    def decode(self, z, batch=64):
        """normalised latents [N, C, h, w] -> f32 [N, 3, 64, 64] in [-1, 1], not rounded"""
        return torch.cat([self.tokenizer.decode(z[i : i + batch] * self.sd + self.mean).clamp(-1, 1)
                          for i in range(0, len(z), batch)])

    def features(self, actions, known=None):
        return action_features(torch.as_tensor(np.asarray(actions, np.float32)), self.space["encoding"], known)

    def begin(self, context):
        """context [B, n, C, h, w], n >= 1: the frames given, whose actions nobody knows. A single one is repeated."""
        s = self.scheduler
        world = World(self.net, s["num_inference_steps"], s["shift"], s["context_level"])
        if context.shape[1] == 1:
            context = context.expand(-1, s["start_frames"], -1, -1, -1)
        unknown = torch.zeros(len(context), self.config["action_features"])
        for k in range(context.shape[1]):
            world.observe(context[:, k], unknown)
        return world

    def rollout(self, context, actions, noise):
        """actions [B, n, A] in the simulator's units, noise [B, n, C, h, w] -> latents [B, n, C, h, w]"""
        world, features = self.begin(context), self.features(actions)
        return torch.stack([world.step(noise[:, k], features[:, k]) for k in range(features.shape[1])], 1)


def to_u8(video):
    """f32 [N, 3, H, W] in [-1, 1] -> u8 [N, H, W, 3]"""
    return ((video.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
