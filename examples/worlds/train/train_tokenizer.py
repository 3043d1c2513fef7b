"""Trains a world's tokenizer: python train_tokenizer.py pusht|doom. Interrupt it freely; the same command goes on.

Loss: weighted L1 + 2 MSE, and half an L1 on neighbour differences. A pixel far from the mean frame weighs up to five
times as much, so that a small pusher counts against a white table. Noise on the latents (sd up to 0.2, another for
each picture) before decoding makes the code smooth and the decoder forgiving of an imagined latent.
"""
import argparse
import time

import numpy as np
import torch

from dataset import Episodes, cache_dir, exported
from model import Tokenizer
from training import Run, rate, setup
from worlds import WORLDS

BATCH, PEAK, NOISE = 32, 1.5e-3, 0.2


def to_input(frames):
    """u8 [B, 64, 64, 3] -> f32 [B, 3, 64, 64] in [-1, 1]"""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def edges(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def loss_of(out, x, mean):
    weight = 1 + 4 * ((x - mean).abs().amax(1, keepdim=True) / 0.5).clamp(max=1)
    weight = weight / weight.mean()
    plain = (weight * ((out - x).abs() + 2 * (out - x).square())).mean()
    gradient = sum((a - b).abs().mean() for a, b in zip(edges(out), edges(x)))
    return plain + 0.5 * gradient


@torch.no_grad()
def psnr(net, frames, batch=50):
    """Decibels of the mean squared error over all frames, colours clamped and in 0..1."""
    total = 0.0
    for i in range(0, len(frames), batch):
        x = to_input(frames[i : i + batch])
        total += ((net.decode(net.encode(x)).clamp(-1, 1) - x) / 2).square().mean((1, 2, 3)).sum().item()
    return -10 * np.log10(total / len(frames))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("world", choices=WORLDS)
    ap.add_argument("--steps", type=int)
    ap.add_argument("--bf16", action="store_true", help="products in bfloat16: half the time where the processor has it")
    args = ap.parse_args()
    world = WORLDS[args.world]
    steps = args.steps or world["tokenizer_steps"]
    rng = setup(world["seed"])
    net = Tokenizer(**world["tokenizer"])
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, betas=(0.9, 0.99), weight_decay=1e-4)
    run = Run(cache_dir(args.world) / "tokenizer.pt", net, optimizer, rng, exported(args.world) / "vae", decay=0.995)
    if run.step >= steps:
        return
    data, held = Episodes(args.world), Episodes(args.world, "val")
    probe = held.frames[:: max(1, len(held) // 200)]
    mean = to_input(data.frames[:: max(1, len(data) // 2000)]).mean(0, keepdim=True)
    started, total = time.time(), 0.0
    while run.step < steps:
        for group in optimizer.param_groups:
            group["lr"] = rate(run.step, steps, PEAK)
        x = to_input(data.frames[rng.integers(len(data), size=BATCH)])
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            z = net.encode(x)
            out = net.decode(z + NOISE * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(z))
        loss = loss_of(out.float(), x, mean)
        run.descend(loss)
        total += loss.item()
        run.advance()
        if run.step % 100 == 0:
            line = {"step": run.step, "loss": round(total / 100, 4), "s": round(time.time() - started)}
            if run.step % 500 == 0 or run.step == steps:
                line["psnr"] = round(float(psnr(run.average, probe)), 2)
            run.log.append(line)
            print(line, flush=True)
            total = 0.0
    run.save()


if __name__ == "__main__":
    main()
