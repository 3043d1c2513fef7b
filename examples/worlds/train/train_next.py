"""PushT's dynamics: python train_next.py pusht. Interrupt it freely; the same command goes on.

Each frame from the two before it alone, without a cache of earlier ones: half the work of train_dynamics.py for each
target, and what lies farther back tells little here. Now and then a few frames are imagined in a row, errors flowing back.

The two frames before are often spoiled, in the ways in which imagined frames go wrong: bent, faded, smoothed, haunted by
another scene. The target is never spoiled, so a block with a missing corner is mended in place of being handed on.
"""
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as nnf

from latents import Latents
from model import action_features
from train_dynamics import MOVED, started
from training import rate

COARSE = 0.1
FAR = (60, 100)                                            # of 512: steps in which the pusher goes farther are flights


@dataclass
class Stage:
    begin: int                                             # steps
    end: int
    peak: float                                            # learning rate
    spoiled_from: float                                    # share of its steps
    far: float                                             # share of the rows that have a flight in them
    # (share of its steps, below it an error counts by its square and above it by its size)
    soft: tuple = ((0.0, 0.3),)
    # (share of its steps, rows of at most so many frames, rows a step)
    phases: tuple = ((0.0, 1, 64), (0.62, 3, 64), (0.82, 8, 32))

    def phase(self, step):
        return self.at(step, self.phases)

    def at(self, step, phases):
        return [p for p in phases if self.share(step) >= p[0]][-1][1:]

    def share(self, step):
        return (step - self.begin) / (self.end - self.begin)


# The first stage alone lost the pusher in nearly every flight: one step in a hundred of what it saw, and an error that counts
# by its size would rather have no pusher than one in a doubtful place. So the second begins with squares.
STAGES = (Stage(0, 9000, 1.5e-3, 0.1, 0.0),
          Stage(9000, 16500, 1.2e-3, 0.0, 0.35, ((0.0, 2.0), (0.6, 0.3)), ((0.0, 1, 64), (0.6, 3, 64), (0.82, 8, 32))))


def flights(data, length):
    """Windows of `length` frames in which the pusher, in a frame to be imagined, has just gone that far: for each of FAR."""
    starts = data.window_starts(length)
    at = data.state[:, :2]
    gone = np.r_[0, np.linalg.norm(at[1:] - at[:-1], axis=1)]
    most = np.stack([gone[starts + i] for i in range(2, length)]).max(0)
    return [starts[most >= far] for far in FAR]


def livelier(data, length, rng):
    """Windows of `length` frames, those more often whose last frame changes much."""
    starts = data.window_starts(length)
    change = torch.cat([torch.zeros(1), torch.cat([(b - a).float().square().mean((1, 2, 3)) for a, b in
                                                   zip(data.z[:-1].split(4096), data.z[1:].split(4096))])]).numpy()
    last = np.stack([change[starts + i] for i in range(2, length)]).mean(0)
    weight = (0.1 * last.mean() + np.minimum(last, 6 * last.mean())) ** 1.5
    total = np.cumsum(weight, dtype=np.float64)
    return starts, total[:-1] / total[-1]


def sample_windows(data, starts, cumulative, length, batch, rng):
    index = starts[np.searchsorted(cumulative, rng.random(batch))][:, None] + np.arange(length)
    for row in np.flatnonzero(rng.random(batch) < 0.04):   # an episode's first frame, as if it had been there before
        index[row] = data.first[rng.integers(len(data.first))] + np.maximum(0, np.arange(length) - 1)
    return index


def smooth_field(b, channels, size, parts=5):
    return nnf.interpolate(torch.randn(b, channels, parts, parts), size=size, mode="bicubic", align_corners=True)


def spoiled(z, rest):
    """z [B, n, C, h, w] -> the same, most windows spoiled in one or more ways; `rest` [C, h, w] is an empty scene."""
    b, n, c, h, w = z.shape
    flat = z.flatten(0, 1)
    some = lambda p: (torch.rand(b, 1, 1, 1, 1) < p).expand(b, n, 1, 1, 1)
    # Bent, by half a place as a rule: two pixels.
    at = torch.stack(torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")[::-1], -1)
    shift = smooth_field(b, 2, h, int(torch.randint(4, 8, ()))) * (0.9 * torch.rand(b, 1, 1, 1)) * (2 / w)
    grid = (at + shift.permute(0, 2, 3, 1)).repeat_interleave(n, 0)
    bent = nnf.grid_sample(flat, grid, mode="bicubic", padding_mode="border", align_corners=True).view_as(z)
    z = torch.where(some(0.5), bent, z)
    # Smoothed, as by a doubtful place.
    soft = nnf.avg_pool2d(nnf.pad(z.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, 1).view_as(z)
    z = torch.where(some(0.4), z + torch.rand(b, 1, 1, 1, 1) ** 1.5 * (soft - z), z)
    # Faded, in parts.
    fade = torch.sigmoid(2 * smooth_field(b, 1, h) - 1)[:, None] * torch.rand(b, 1, 1, 1, 1)
    z = torch.where(some(0.4), z + 0.8 * fade * (rest - z), z)
    # Haunted by another window.
    ghost = (torch.rand(b, 1, 1, h, w) < 0.12 * torch.rand(b, 1, 1, 1, 1)) * 0.8 * torch.rand(b, 1, 1, 1, 1)
    z = torch.where(some(0.3), z + ghost * (z[torch.randperm(b)][:, :1] - z), z)
    return z + torch.where(some(0.5), 0.15 * torch.rand(b, 1, 1, 1, 1) * torch.randn_like(z), 0.0)


def error_of(predicted, real, before, given, soft):
    """Both [B, C, h, w]; places that move weigh more, and those that the frame before has wrong. Large errors count by
    their size alone: a block a little beside its place is better than the mean of all places where it may be. And that of
    averages over 4x4 and 8x8 places: errors that average out count less there, a pusher that is missing counts more."""
    off = ((predicted - real).square().mean(1) + soft**2).sqrt() - soft
    moved = (real - before).square().mean(1).sqrt() + (given - before).square().mean(1).sqrt()
    weight = 1 + MOVED * (moved / 0.5).clamp(max=1)
    coarse = sum(size**2 * nnf.avg_pool2d(predicted - real, size).square().mean() for size in (4, 8))
    return (weight * off).sum() / weight.sum() + COARSE * coarse


def main():
    args, world, steps, run = started(("pusht",))
    net, optimizer, rng = run.net, run.optimizer, run.rng
    data = Latents(args.world, shards=8)
    rest = data.z[:: max(1, len(data.z) // 2000)].float().median(0).values
    forward = torch.compile(net, dynamic=False) if args.compile else net
    begun, total, count, lengths = time.time(), 0.0, 0, {}
    while run.step < steps:
        stage = [s for s in STAGES if run.step >= s.begin][-1]
        if run.step == stage.begin:
            run.fresh = run.step
        if run.step % 50 == 25 and any([data.grow() for _ in range(4)]):
            lengths = {}
        most, batch = stage.phase(run.step)
        soft, = stage.at(run.step, stage.soft)
        rows = int(rng.integers(1, most + 1))
        if rows not in lengths:
            lengths[rows] = livelier(data, 2 + rows, rng), flights(data, 2 + rows)
        for group in optimizer.param_groups:
            group["lr"] = rate(run.step, stage.end, stage.peak, run.fresh, cooldown=0.5 * (stage.end - stage.begin) / stage.end)
        lively, far = lengths[rows]
        index = sample_windows(data, *lively, 2 + rows, batch, rng)
        some = rng.random(batch) < stage.far
        index[some] = rng.choice(far[rng.integers(len(FAR))], int(some.sum()))[:, None] + np.arange(2 + rows)
        z = data.z[index].float()
        features = action_features(data.all_actions[np.maximum(index - 1, 0)], world["actions"])
        given = spoiled(z[:, :2], rest) if stage.share(run.step) >= stage.spoiled_from and rng.random() < 0.6 else z[:, :2]
        before, now = given[:, 0], given[:, 1]
        loss = 0.0
        for k in range(2, 2 + rows):
            previous = torch.cat([now, before], 1)[:, None].contiguous()
            if not previous.requires_grad:                                # all calls alike, so that they are compiled once
                previous.requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                out, _ = forward(torch.randn(batch, 1, *z.shape[2:]), previous, torch.ones(batch, 1), features[:, k : k + 1].contiguous(),
                                 torch.tensor([k]), None)
            out = out[:, 0].float().contiguous()
            loss = loss + error_of(out, z[:, k], z[:, k - 1], now.detach(), soft) / rows
            before, now = now, out
        run.descend(loss)
        total, count = total + loss.item(), count + 1
        run.advance()
        if run.step % 100 == 0:
            run.log.append({"step": run.step, "data": len(data.z), "loss": round(total / count, 4), "s": round(time.time() - begun)})
            print(run.log[-1], flush=True)
            total, count = 0.0, 0
    run.save()


if __name__ == "__main__":
    main()
