"""Trains a world's dynamics: python train_dynamics.py pusht|doom. Interrupt it freely; the same command goes on.

Each window of frames goes through the network twice in one call: once as *context* (little or no noise, what the cache
of keys and values holds at play), once *noisy*, with a noise level of its own for every frame. A noisy frame sees
itself and the context of earlier frames, never another noisy frame: exactly what happens at play, and every frame of
the window is a target.
"""
import argparse
import time

import numpy as np
import torch

from dataset import cache_dir, exported
from latents import Latents
from model import WorldTransformer, action_features, feature_width
from training import Run, rate, setup
from worlds import TRANSFORMER, WORLDS

PEAK, SHIFT, START_FRAMES = 1.5e-3, 3.0, 4
# (share of the steps, frames of a window, windows a step): short windows first, they teach the same at less cost
PHASES = ((0.0, 5, 12), (0.6, 9, 8))


def phase_of(step, steps):
    return [p for p in PHASES if step >= p[0] * steps][-1][1:]


def sample_windows(data, starts, frames, batch, rng):
    """-> index [B, T] of frames, known [B, T]: is the action that led to the frame known?

    One window in ten begins with an episode's first frame repeated: at play a single picture is repeated too, and
    means a world at rest. The action that led to a window's first frame is never known; now and then those of
    the next few are not either, as when a video is given as the beginning.
    """
    index = starts[rng.integers(len(starts), size=batch)][:, None] + np.arange(frames)
    known = np.ones((batch, frames), bool)
    known[:, 0] = False
    for row in np.flatnonzero(rng.random(batch) < 0.1):
        first, repeats = data.first[rng.integers(len(data.first))], rng.integers(1, min(START_FRAMES, frames - 1))
        index[row] = first + np.maximum(0, np.arange(frames) - repeats)
        known[row, : repeats + 1] = False
    for row in np.flatnonzero(rng.random(batch) < 0.25):
        known[row, : rng.integers(1, min(START_FRAMES + 1, frames))] = False
    return index, known


def pair_mask(pairs, window):
    """[2P, 2P] for [context 0..P-1, noisy 1..P]; a frame sees itself and the context of the window - 1 before it."""
    time_of = torch.cat([torch.arange(pairs), torch.arange(1, pairs + 1)])
    is_context = torch.arange(2 * pairs) < pairs
    age = time_of[:, None] - time_of[None]
    earlier = is_context[None] & (age > 0) & (age < window)
    return earlier | torch.eye(2 * pairs, dtype=torch.bool)


def loss_of(net, z, features, pairs_mask):
    """z [B, T, C, h, w]. Weighted squared error of the clean latent; the weights are explained below."""
    b, t = z.shape[:2]
    pairs = t - 1
    level = torch.rand(b, pairs)
    level = SHIFT * level / (1 + (SHIFT - 1) * level)
    level = torch.where(torch.rand(b, pairs) < 0.4, 1.0, level)           # pure noise: here the action decides most
    context_level = 0.3 * torch.rand(b, t) * (torch.rand(b, 1) < 0.75)
    mix = lambda x, s: x + s[..., None, None, None] * (torch.randn_like(x) - x)
    context = mix(z, context_level)
    noisy = mix(z[:, 1:], level)
    previous = torch.cat([torch.zeros_like(context[:, :1]), context[:, : pairs - 1], context[:, :pairs]], 1)
    out, _ = net(torch.cat([context[:, :pairs], noisy], 1), previous, torch.cat([context_level[:, :pairs], level], 1),
                 torch.cat([features[:, :pairs], features[:, 1:]], 1),
                 torch.cat([torch.arange(pairs), torch.arange(1, t)]), pairs_mask)
    error = (out[:, pairs:] - z[:, 1:]).square().mean(2)                  # [B, P, h, w]
    # By noise: an error of the clean latent is an error of the velocity times the level, so 1 / level^2 would be
    # the plain flow loss. The few steps at play are taken at high levels, so low ones get less than that.
    by_level = 1 / level.clamp(min=0.4)
    # By motion: places that change from one frame to the next count up to five times.
    moved = (z[:, 1:] - z[:, :-1]).square().mean(2).sqrt()
    by_motion = 1 + 4 * (moved / 0.5).clamp(max=1)
    weight = by_level[..., None, None] * by_motion
    return (weight * error).sum() / weight.sum()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("world", choices=WORLDS)
    ap.add_argument("--steps", type=int)
    ap.add_argument("--compile", action="store_true", help="a quarter less time a step, after minutes of compiling")
    args = ap.parse_args()
    world = WORLDS[args.world]
    steps = args.steps or world["dynamics_steps"]
    rng = setup(world["seed"] + 100)
    net = WorldTransformer(**TRANSFORMER, action_features=feature_width(world["actions"]))
    decayed = [p for p in net.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01},
                                   {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0}],
                                  lr=PEAK, betas=(0.9, 0.98), fused=True)
    run = Run(cache_dir(args.world) / "dynamics.pt", net, optimizer, rng, exported(args.world) / "transformer")
    if run.step >= steps:
        return
    data = Latents(args.world)
    started, total, frames = time.time(), 0.0, 0
    forward = torch.compile(net, dynamic=False) if args.compile else net
    while run.step < steps:
        length, batch = phase_of(run.step, steps)
        grown = run.step % 200 == 150 and data.grow()                        # encode more of the data now and then
        if length != frames or grown:
            frames, starts, mask = length, data.window_starts(length), pair_mask(length - 1, length - 1)
            net.window = length - 1
        for group in optimizer.param_groups:
            group["lr"] = rate(run.step, steps, PEAK, run.fresh, cooldown=0.35)
        index, known = sample_windows(data, starts, frames, batch, rng)
        features = action_features(data.all_actions[np.maximum(index - 1, 0)], world["actions"], torch.from_numpy(known))
        loss = loss_of(forward, data.z[index], features, mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        run.advance()
        if run.step % 50 == 0:
            run.log.append({"step": run.step, "frames": frames, "data": len(data.z), "loss": round(total / 50, 4),
                            "s": round(time.time() - started)})
            print(run.log[-1], flush=True)
            total = 0.0
    run.save()


if __name__ == "__main__":
    main()
