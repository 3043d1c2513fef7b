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
from worlds import WORLDS

PEAK, START_FRAMES = 1.5e-3, 4
LOWEST, MOVED = 0.25, 20.0                                 # noise level of a frame in work; weight of a place that moves
CONTEXT_LEVEL, OWN_CONTEXT_FROM = 0.1, 0.55                # as at play; share of the steps after which it imagines its own
# (share of the steps, frames of a window, windows a step): short windows first, they teach the same at less cost
PHASES = ((0.0, 5, 12), (0.6, 7, 9))


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


class Pairs:
    """One window of frames as the network is trained on it: [context 0..P-1, noisy 1..P] in one call."""

    def __init__(self, net, z, features, mask, bf16):
        self.net, self.z, self.mask, self.bf16, self.pairs = net, z, mask, bf16, z.shape[1] - 1
        self.features = torch.cat([features[:, :-1], features[:, 1:]], 1)
        self.positions = torch.cat([torch.arange(self.pairs), torch.arange(1, self.pairs + 1)])

    def predict(self, context, context_level, level):
        """context [B, T, C, h, w] as it is given, level [B, P] of frames 1..P -> their clean latents [B, P, C, h, w]"""
        before = torch.cat([torch.zeros_like(context[:, :2]), context], 1)      # frame k at k + 2
        previous = torch.cat([before[:, 1:-1], before[:, :-2]], 2)              # of frame k: k - 1 and k - 2
        previous = torch.cat([previous[:, :-1], previous[:, 1:]], 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            out, _ = self.net(torch.cat([context[:, :-1], noised(self.z[:, 1:], level)], 1), previous,
                              torch.cat([context_level[:, :-1], level], 1), self.features, self.positions, self.mask)
        return out[:, self.pairs:].float()

    @torch.no_grad()
    def own_context(self, rounds):
        """The window as the network imagines it, each frame from the one before: errors as they are made at play."""
        b, t = self.z.shape[:2]
        context, clean, pure = self.z, torch.zeros(b, t), torch.ones(b, self.pairs)
        for _ in range(rounds):
            context = torch.cat([self.z[:, :1], self.predict(context, clean + CONTEXT_LEVEL, pure)], 1)
        return context


def noised(x, level):
    return x + level[..., None, None, None] * (torch.randn_like(x) - x)


def haunted(context):
    """In four windows of ten, some places show a little of another window's picture, in all frames: what is left over
    where something was, or lacks where it is, when a world has been imagining for long. The target is clean."""
    b, _, _, h, w = context.shape
    some = (torch.rand(b, 1, 1, 1, 1) < 0.4) & (torch.rand(b, 1, 1, h, w) < 0.15 * torch.rand(b, 1, 1, 1, 1))
    return context + 0.8 * torch.rand(b, 1, 1, 1, 1) * some * (context[torch.randperm(b)][:, :1] - context)


def loss_of(pairs, own_rounds=None):
    """Weighted squared error of the clean latents; places that move weigh more. With `own_rounds`, most windows have a
    context that the network has imagined itself, that many steps deep, and some are haunted; the target stays what
    really happened."""
    z, count = pairs.z, pairs.pairs
    b, t = z.shape[:2]
    # Pure noise half of the time: there the action decides most. Else what the few steps at play pass through.
    level = torch.where(torch.rand(b, count) < 0.5, 1.0, LOWEST + (1 - LOWEST) * torch.rand(b, count))
    context_level = 0.25 * torch.rand(b, t) * (torch.rand(b, 1) < 0.6)
    given = z
    if own_rounds is not None:
        own = torch.rand(b, 1) < (0.75 if own_rounds else 0)
        given = haunted(torch.where(own[..., None, None, None], pairs.own_context(own_rounds), z))
        context_level = torch.where(own, CONTEXT_LEVEL, context_level)
    error = (pairs.predict(noised(given, context_level), context_level, level) - z[:, 1:]).square().mean(2)   # [B, P, h, w]
    # PushT's pusher covers one or two of the 64 places: unweighted, it would be a few hundredths of the loss. So places
    # that move weigh more, and those that the frame before has wrong.
    moved = (z[:, 1:] - z[:, :-1]).square().mean(2).sqrt() + (given - z)[:, :-1].square().mean(2).sqrt()
    weight = 1 + MOVED * (moved / 0.5).clamp(max=1)
    return (weight * error).sum() / weight.sum()


def dynamics_run(name):
    """A world's transformer where its training stands; both stages of training go on from the same file."""
    world = WORLDS[name]
    rng = setup(world["seed"] + 100)
    net = WorldTransformer(**world["transformer"], action_features=feature_width(world["actions"]))
    net.begin_planes(world["actions"])
    for part in net.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.to(memory_format=torch.channels_last)                       # faster in bfloat16
    decayed = [p for p in net.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01},
                                   {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0}],
                                  lr=PEAK, betas=(0.9, 0.98), fused=True)
    return Run(cache_dir(name) / "dynamics.pt", net, optimizer, rng, exported(name) / "transformer")


def started(worlds):
    """What the command line asks of one of `worlds`: (arguments, the world, steps, its run). Ends the program where they are done."""
    ap = argparse.ArgumentParser()
    ap.add_argument("world", choices=worlds)
    ap.add_argument("--steps", type=int)
    ap.add_argument("--bf16", action="store_true", help="products in bfloat16: a third less time where the processor has it")
    ap.add_argument("--compile", action="store_true", help="a quarter less time a step, after minutes of compiling")
    args = ap.parse_args()
    world = WORLDS[args.world]
    steps = args.steps or world["dynamics_steps"]
    run = dynamics_run(args.world)
    if run.step >= steps:
        raise SystemExit
    return args, world, steps, run


def main():
    args, world, steps, run = started(WORLDS)
    net, optimizer, rng = run.net, run.optimizer, run.rng
    data = Latents(args.world)
    begun, total, frames = time.time(), 0.0, 0
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
        rounds = int(rng.integers(0, 2)) if run.step >= OWN_CONTEXT_FROM * steps else None
        loss = loss_of(Pairs(forward, data.z[index].float(), features, mask, args.bf16), rounds)
        run.descend(loss)
        total += loss.item()
        run.advance()
        if run.step % 50 == 0:
            run.log.append({"step": run.step, "frames": frames, "data": len(data.z), "loss": round(total / 50, 4),
                            "s": round(time.time() - begun)})
            print(run.log[-1], flush=True)
            total = 0.0
    run.save()


if __name__ == "__main__":
    main()
