"""The second stage of a world's dynamics: python train_open_loop.py pusht. Interrupt it freely; the same command goes on.

The first stage (train_dynamics.py) corrects one frame's errors at a time. Here the network imagines as it does at play,
each frame from its own frames before, one look a frame, and the error of the whole rollout flows back through all of
it: what the eighth frame gets wrong teaches the first. Rollouts grow longer as training goes on.

The squared error alone would rather let PushT's block fade than show it in a place that may be wrong. So the error of
averages over quarters and of the whole frame counts too (a block a little beside its place is right there, none is wrong), and a
critic learns to tell real frames from imagined ones: a share of the gradient is what it takes exception to.
"""
import argparse
import time

import numpy as np
import torch

from dataset import Episodes, cache_dir
from evaluate import CONTEXT, decibels, errors, moving, pick_starts, unit
from latents import Latents
from model import World, action_features
from torch import nn
from torch.nn import functional as nnf
from torch.nn.utils.parametrizations import spectral_norm
from pipeline import to_u8
from train_dynamics import CONTEXT_LEVEL, MOVED, START_FRAMES, dynamics_run
from training import rate
from worlds import WORLDS

PEAK, WINDOW = 6e-4, 6
# (share of the steps, frames imagined, rollouts a step)
PHASES = ((0.0, 8, 16), (0.8, 16, 8))
CRITIC = 0.5                                                # its gradient's norm as a share of the error's


def phase_of(share):
    return [p for p in PHASES if share >= p[0]][-1][1:]


def sample_rollouts(data, starts, frames, batch, rng):
    """-> index [B, START_FRAMES + frames]. One in eight begins with an episode's first frame, repeated: a world at rest."""
    index = starts[rng.integers(len(starts), size=batch)][:, None] + np.arange(START_FRAMES + frames)
    for row in np.flatnonzero(rng.random(batch) < 0.125):
        first = data.first[rng.integers(len(data.first))]
        index[row] = first + np.maximum(0, np.arange(START_FRAMES + frames) - START_FRAMES + 1)
    return index


def imagine(net, z, features, bf16):
    """z [B, T, C, h, w], of which the first START_FRAMES are given; features [B, T, F] -> imagined [B, T - START_FRAMES, C, h, w].

    Frame k as context and frame k + 1 in work go through the network in one call; the frame in work is not kept.
    """
    count, out = z.shape[1] - START_FRAMES, []
    before = torch.cat([torch.zeros_like(z[:, :2]), z[:, :START_FRAMES]], 1)        # frame k at k + 2
    context, past, first = z[:, :START_FRAMES], None, 0                            # frames to be kept by the next call
    for k in range(count):
        n, held = context.shape[1], 0 if past is None else past[0][0].shape[3]
        age = (first + torch.arange(n + 1))[:, None] - torch.arange(first - held, first + n + 1)[None]
        mask = (age >= 0) & (age < WINDOW)
        x = torch.cat([context, torch.randn_like(z[:, :1])], 1)
        previous = torch.cat([before[:, 1:], before[:, :-1]], 2)                    # [B, n + 1, 2C, h, w]
        level = torch.full(x.shape[:2], CONTEXT_LEVEL)
        level[:, -1] = 1
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            clean, kept = net(x, previous, level, features[:, first : first + n + 1], first + torch.arange(n + 1), mask, past)
        clean = clean[:, -1:].float()
        out.append(clean)
        new = [tuple(t[:, :, :, :n] for t in pair) for pair in kept]
        past = new if past is None else [tuple(torch.cat(two, 3) for two in zip(*both)) for both in zip(past, new)]
        past = [tuple(t[:, :, :, 1 - WINDOW :] for t in pair) for pair in past]
        context, before, first = clean, torch.cat([before[:, -2:], clean], 1), first + n
    return torch.cat(out, 1)


def loss_of(imagined, z):
    """Squared error of the latents; a place weighs more once it has differed from the last frame given, as in evaluate.py.
    And that of averages over squares of 4x4 and 8x8 places, times their places: errors that average out count less there,
    what is missing counts more.
    """
    real, held = z[:, START_FRAMES:], z[:, START_FRAMES - 1 : START_FRAMES]
    moved = (real - held).square().mean(2).sqrt().cummax(1).values                  # [B, T, h, w]
    weight = 1 + MOVED * (moved / 0.5).clamp(max=1)
    off = imagined - real
    coarse = sum(size**2 * nnf.avg_pool2d(off.flatten(0, 1), size).square().mean() for size in (4, 8))
    return (weight * off.square().mean(2)).sum() / weight.sum() + coarse


class Critic(nn.Module):
    """latents [N, C, h, w] -> [N, 16 + 1] scores, above zero where they look real: of 16 parts of the frame, and of it all.

    Noise blinds it to what only a microscope would see; a block that has no corners, or is not there, stands out.
    """

    def __init__(self, channels=8, width=64, noise=0.2):
        super().__init__()
        self.noise = noise
        layer = lambda a, b, stride=1: spectral_norm(nn.Conv2d(a, b, 3, stride, padding=1))
        self.body = nn.Sequential(layer(channels, width), nn.LeakyReLU(0.2), layer(width, width), nn.LeakyReLU(0.2),
                                  layer(width, 2 * width, 2), nn.LeakyReLU(0.2), layer(2 * width, 2 * width), nn.LeakyReLU(0.2))
        self.part, self.whole = spectral_norm(nn.Conv2d(2 * width, 1, 1)), spectral_norm(nn.Linear(2 * width * 16, 1))

    def forward(self, z):
        x = self.body(z + self.noise * torch.randn_like(z))
        return torch.cat([self.part(x).flatten(1), self.whole(x.flatten(1))], 1)


def critic_loss(critic, real, imagined):
    return (1 - critic(real)).relu().mean() + (1 + critic(imagined)).relu().mean()


def gradient_of(imagined, z, critic, share):
    """-> the error, and the gradient that the rollout is to follow: the error's, and the critic's as long as `share` of it."""
    x = imagined.detach().requires_grad_()
    error = loss_of(x, z)
    gradient, = torch.autograd.grad(error, x)
    told, = torch.autograd.grad(-critic(x.flatten(0, 1)).mean(), x)
    return error.item(), gradient + share * gradient.norm() / told.norm().clamp(min=1e-12) * told


class Probe:
    """PSNR on moving pixels of validation rollouts, as evaluate.py measures the test's."""

    def __init__(self, name, data, steps=32, starts=48):
        held = Episodes(name, "val")
        at = pick_starts(held, starts, np.random.default_rng(5), CONTEXT + steps)
        rows = at[:, None] + np.arange(CONTEXT + steps)
        frames, self.data, self.steps = held.frames[rows], data, steps
        x = torch.from_numpy(frames[:, :CONTEXT]).flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
        z = data.tokenizer.encode(x).unflatten(0, (len(at), CONTEXT))
        self.context = (z - data.mean[:, None, None]) / data.sd[:, None, None]
        self.features = action_features(torch.from_numpy(held.actions[rows[:, CONTEXT - 1 : -1]]), WORLDS[name]["actions"])
        self.real = frames[:, CONTEXT:]
        self.mask = moving(self.real, frames[:, CONTEXT - 1])
        mean = unit(held.frames).mean(0)
        self.mean = self.decibels(np.broadcast_to((mean * 255).round().astype(np.uint8), self.real.shape))

    def decibels(self, frames):
        total, count = errors(frames, self.real, self.mask)
        return [decibels(total[:, k - 1].sum() / count[:, k - 1].sum()) for k in (1, 8, 16, 32)]

    @torch.no_grad()
    def __call__(self, net):
        net.window = WINDOW
        world, unknown = World(net, 1, 3.0, CONTEXT_LEVEL), torch.zeros_like(self.features[:, 0])
        for k in range(CONTEXT):
            world.observe(self.context[:, k], unknown)
        noise = torch.randn(*self.context[:, 0].shape, generator=torch.Generator().manual_seed(1))
        frames = []
        for k in range(self.steps):
            z = world.step(noise, self.features[:, k])
            frames.append(to_u8(self.data.tokenizer.decode(z * self.data.sd[:, None, None] + self.data.mean[:, None, None])))
        return self.decibels(np.stack(frames, 1))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("world", choices=WORLDS)
    ap.add_argument("--steps", type=int, help="of this stage")
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--bf16", action="store_true", help="products in bfloat16")
    ap.add_argument("--compile", action="store_true")
    args = ap.parse_args()
    world = WORLDS[args.world]
    begun = world["dynamics_steps"]
    steps = begun + (args.steps or world["open_loop_steps"])
    run = dynamics_run(args.world)
    torch.set_num_threads(args.threads)
    if run.step < begun:
        raise SystemExit(f"{args.world} has had {run.step} of {begun} steps of the first stage: run train_dynamics.py")
    if run.step >= steps:
        return
    fresh = max(begun, run.fresh)
    net, rng, data = run.net, run.rng, Latents(args.world)
    probe = Probe(args.world, data)
    print({"frames": len(data.z), "mean frame": probe.mean, "begins at": probe(run.average)}, flush=True)
    forward = torch.compile(net, dynamic=False) if args.compile else net
    critic = Critic()
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.5, 0.99))
    critic_file, critic_saved, critic_steps = cache_dir(args.world) / "critic.pt", run.saved, 0
    if critic_file.exists():
        kept = torch.load(critic_file)
        critic.load_state_dict(kept["critic"])
        critic_optimizer.load_state_dict(kept["optimizer"])
        critic_steps = kept["steps"]
    started, total, doubt, frames = time.time(), 0.0, 0.0, 0
    while run.step < steps:
        length, batch = phase_of((run.step - begun) / (steps - begun))
        grown = run.step % 50 == 25 and data.grow()                            # encode more of the data now and then
        if length != frames or grown:
            frames, starts = length, data.window_starts(START_FRAMES + length)
        for group in run.optimizer.param_groups:
            group["lr"] = rate(run.step - begun, steps - begun, PEAK, fresh - begun)
        index = sample_rollouts(data, starts, frames, batch, rng)
        known = torch.arange(START_FRAMES + frames).expand(batch, -1) >= START_FRAMES
        features = action_features(data.all_actions[np.maximum(index - 1, 0)], world["actions"], known)
        z = data.z[index]
        imagined = imagine(forward, z, features, args.bf16)
        share = CRITIC * min(1.0, max(0, critic_steps - 100) / 300)                # it learns first, then has its say
        error, gradient = gradient_of(imagined, z, critic, share)
        run.optimizer.zero_grad(set_to_none=True)
        imagined.backward(gradient)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        run.optimizer.step()
        judged = critic_loss(critic, z[:, START_FRAMES:].flatten(0, 1), imagined.detach().flatten(0, 1))
        critic_optimizer.zero_grad(set_to_none=True)
        judged.backward()
        critic_optimizer.step()
        critic_steps += 1
        total, doubt = total + error, doubt + judged.item()
        run.advance()
        if run.saved != critic_saved:
            torch.save({"critic": critic.state_dict(), "optimizer": critic_optimizer.state_dict(), "steps": critic_steps}, critic_file)
            critic_saved = run.saved
        if run.step % 50 == 0:
            line = {"step": run.step, "frames": frames, "error": round(total / 50, 4),
                    "critic": round(doubt / 50, 3), "s": round(time.time() - started)}
            if run.step % 500 == 0:
                line["moving"] = probe(run.average)
            run.log.append(line)
            print(line, flush=True)
            total = doubt = 0.0
    run.save()


if __name__ == "__main__":
    main()
