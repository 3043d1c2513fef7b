"""Measures an exported world on held-out episodes: python evaluate.py pusht|doom [--split test] [--starts 96].

Writes <folder>/evaluation.json and the picture strips <folder>/rollouts.png and <folder>/reconstruction.png.

  tokenizer      PSNR of decode(encode(frame)), whole frame and on pixels that differ from the mean frame
  rollouts       open loop: four real frames (actions unknown), then imagined frames under the recorded actions.
                 PSNR at steps 1, 8, 16, 32 on *moving pixels*: those that in the real clip, up to that step,
                 differed from the last frame given by more than 0.1 in some colour. Errors are pooled over all
                 starts. Controls: the last frame given, held; the mean frame of the training data.
  swapped        the same with the actions of another episode. Per start: PSNR(true) - PSNR(swapped), mean of
                 steps 8 to 16; its mean with a 95 % bootstrap interval over starts (10,000 resamples)
  block_left     PushT: the block's area in the imagined frames over that in the real ones
  scripted       one action held for eight steps from a real frame; does the picture move the commanded way?
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dataset import Episodes, exported
from pipeline import Pipeline, to_u8

CONTEXT, STEPS, AT = 4, 32, (1, 8, 16, 32)


def decibels(mse):
    return round(float(-10 * np.log10(max(mse, 1e-10))), 2)


def unit(frames):
    return frames.astype(np.float32) / 255


def pick_starts(data, count, rng, length):
    starts = data.window_starts(length)
    return np.sort(rng.choice(starts, min(count, len(starts)), replace=False))


def tokenizer_metrics(pipe, frames, mean):
    x, y = unit(frames), unit(to_u8(pipe.decode(pipe.encode(frames))))
    far = (np.abs(x - mean).max(-1) > 0.1)
    return {"frames": len(frames), "psnr_db": decibels(((x - y) ** 2).mean()),
            "psnr_db_away_from_mean": decibels(((x - y) ** 2)[far].mean())}


def imagine(pipe, data, starts, actions, seed, steps=STEPS):
    """-> u8 [B, steps, 64, 64, 3], the frames after `starts + CONTEXT - 1` under `actions` [B, steps, A]"""
    context = pipe.encode(data.frames[(starts[:, None] + np.arange(CONTEXT)).ravel()]).unflatten(0, (len(starts), CONTEXT))
    noise = torch.randn(len(starts), steps, *context.shape[2:], generator=torch.Generator().manual_seed(seed))
    z = pipe.rollout(context, actions, noise)
    return to_u8(pipe.decode(z.flatten(0, 1))).reshape(len(starts), steps, 64, 64, 3)


def moving(real, held):
    """bool [B, steps, 64, 64]: has the pixel differed from the held frame up to now?"""
    return np.maximum.accumulate((np.abs(unit(real) - unit(held)[:, None]).max(-1) > 0.1), axis=1)


def errors(frames, real, mask):
    """-> summed squared error and count of masked pixels, [B, steps] each"""
    square = ((unit(frames) - unit(real)) ** 2).mean(-1)
    return (square * mask).sum((2, 3)), mask.sum((2, 3))


def rollout_metrics(pipe, data, mean, args, rng):
    starts = pick_starts(data, args.starts, rng, CONTEXT + STEPS)
    rows = starts[:, None] + CONTEXT - 1 + np.arange(STEPS)
    real, held = data.frames[rows + 1], data.frames[starts + CONTEXT - 1]
    other = np.array([rng.choice(starts[data.episode[starts] != data.episode[s]]) for s in starts])
    swap_rows = other[:, None] + CONTEXT - 1 + np.arange(STEPS)
    seen = {"imagined": imagine(pipe, data, starts, data.actions[rows], 1),
            "swapped_actions": imagine(pipe, data, starts, data.actions[swap_rows], 1),
            "last_frame": np.repeat(held[:, None], STEPS, 1),
            "mean_frame": np.broadcast_to((mean * 255).round().astype(np.uint8), real.shape)}
    mask, out = moving(real, held), {"starts": len(starts), "context_frames": CONTEXT}
    per_start = {}
    for name, frames in seen.items():
        total, count = errors(frames, real, mask)
        whole = ((unit(frames) - unit(real)) ** 2).mean((2, 3, 4))
        out[name] = {"moving_psnr_db": {str(k): decibels(total[:, k - 1].sum() / max(1, count[:, k - 1].sum())) for k in AT},
                     "whole_psnr_db": {str(k): decibels(whole[:, k - 1].mean()) for k in AT}}
        per_start[name] = -10 * np.log10(np.maximum(total / np.maximum(count, 1), 1e-6)), count
    gain = per_start["imagined"][0] - per_start["swapped_actions"][0]
    enough = per_start["imagined"][1][:, 7] >= 20                       # some motion to be judged by step 8
    gain = gain[enough][:, 7:16].mean(1)
    means = gain[rng.integers(len(gain), size=(10_000, len(gain)))].mean(1)
    out["true_minus_swapped_db"] = {"steps": "8-16", "starts": len(gain), "mean": round(float(gain.mean()), 2),
                                    "ci95": [round(float(q), 2) for q in np.quantile(means, [0.025, 0.975])]}
    return out, starts, real, seen


# ------------------------------------------------------------------------------------------------ scripted rollouts


def pusher(frames):
    """Centroid (x, y) in 0..512 of the blue disc, u8 [..., 64, 64, 3] -> f32 [..., 2]; nan where there is none."""
    x = unit(frames)
    blue = np.clip(x[..., 2] - x[..., 0] - 0.35, 0, None)              # disc 0.63, block 0.13, goal and table 0
    total = blue.sum((-1, -2))
    axis = (np.arange(64) + 0.5) * 8
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.stack([(blue.sum(-2) * axis).sum(-1), (blue.sum(-1) * axis).sum(-1)], -1) / total[..., None]
    found[total < 0.3] = np.nan
    return found


def block_left(imagined, real):
    """How much of PushT's block is still to be seen: pixels of its colour in the imagined frames over those in the real."""
    area = lambda frames: (np.abs(frames.astype(np.int16) - (119, 136, 153)).max(-1) < 30).sum((0, 2, 3))
    return {str(k): round(float(area(imagined)[k - 1] / area(real)[k - 1]), 2) for k in AT}


def scripted_pusht(pipe, data, rng, count):
    """Hold one of the named targets from a frame whose pusher is at least 60 away along that axis."""
    out, clips = {}, []
    for name in ("up", "down", "left", "right"):
        target = np.array(pipe.space["named"][name], np.float32)
        axis, sign = (1, np.sign(target[1] - 256)) if name in ("up", "down") else (0, np.sign(target[0] - 256))
        starts = pick_starts(data, 10 * count, rng, CONTEXT)
        now = data.state[starts + CONTEXT - 1]
        starts = rng.permutation(starts[(target[axis] - now[:, axis]) * sign > 60])[:count]
        actions = np.broadcast_to(target, (len(starts), 8, 2))
        frames = imagine(pipe, data, starts, actions, 2, steps=8)
        begin, end = pusher(data.frames[starts + CONTEXT - 1]), pusher(frames[:, -1])
        seen = ~np.isnan(begin).any(1)
        right = ((end - begin)[:, axis] * sign > 20)[seen]
        out[name] = {"rollouts": int(seen.sum()), "right_way": round(float(right.mean()), 3)}
        near = np.linalg.norm(end - target, axis=1)[seen]
        out[name]["median_distance_to_target_px512"] = round(float(np.nanmedian(near)), 1)
        clips.append((name, starts, frames))
    return out, clips


def best_shift(a, b, reach=16):
    """Columns by which the picture b lies to the right of a: the shift of least mean absolute difference."""
    a, b = unit(a)[8:44], unit(b)[8:44]
    cost = []
    for s in range(-reach, reach + 1):
        left, right = (a[:, : 64 - s], b[:, s:]) if s >= 0 else (a[:, -s:], b[:, : 64 + s])
        cost.append(np.abs(left - right).mean())
    return int(np.argmin(cost)) - reach


def growth(a, b):
    """Positive if b is rather a grown about the centre (forward), negative if it is rather a shrunk."""
    def cost(s):
        at = np.clip(np.rint((np.arange(64) - 31.5) / s + 31.5), 0, 63).astype(int)
        return np.abs(unit(a)[at][:, at][6:58, 6:58] - unit(b)[6:58, 6:58]).mean()
    return min(cost(1 / 1.12), cost(1 / 1.06)) - min(cost(1.06), cost(1.12))


def scripted_doom(pipe, data, rng, count):
    """Turning: the sum of the best shifts between neighbouring frames has the commanded sign (the picture moves
    right when one turns left). Forward: over four steps the picture grows, from starts where the way is free."""
    out, clips = {}, []
    for action, name in ((1, "turn left"), (2, "turn right"), (3, "forward")):
        starts = pick_starts(data, 40 * count, rng, CONTEXT + 9)
        if action == 3:                                                  # really went forward, four steps and far enough
            went = (data.actions[starts[:, None] + CONTEXT - 1 + np.arange(4), 0] == 3).all(1)
            way = np.linalg.norm(data.state[starts + CONTEXT + 3, :2] - data.state[starts + CONTEXT - 1, :2], axis=1)
            starts = starts[went & (way > 60)]
        starts = rng.permutation(starts)[:count]
        frames = imagine(pipe, data, starts, np.full((len(starts), 8, 1), action, np.float32), 2, steps=8)
        clip = np.concatenate([data.frames[starts + CONTEXT - 1][:, None], frames], 1)
        if action == 3:
            right = np.array([sum(growth(c[i], c[i + 1]) for i in range(4)) for c in clip]) > 0
        else:
            moves = np.array([sum(best_shift(c[i], c[i + 1]) for i in range(8)) for c in clip])
            right = moves * (1 if action == 1 else -1) > 0
        out[name] = {"rollouts": len(starts), "right_way": round(float(right.mean()), 3)}
        clips.append((name, starts, frames))
    return out, clips


# ----------------------------------------------------------------------------------------------------------- pictures


def strip(rows, scale=2):
    """rows of u8 [n, 64, 64, 3] -> one picture with a thin line between cells"""
    cell = [np.concatenate([np.pad(f, ((1, 1), (1, 1), (0, 0)), constant_values=128) for f in row], 1) for row in rows]
    picture = np.concatenate(cell, 0)
    return Image.fromarray(picture.repeat(scale, 0).repeat(scale, 1)).quantize(128, dither=Image.Dither.NONE)


def rollout_picture(starts, data, real, imagined, rows=4):
    at = np.array([0, 1, 3, 5, 7, 9, 11, 15, 19, 23, 27, 31])
    picked = np.linspace(0, len(starts) - 1, rows).astype(int)
    out = []
    for i in picked:
        given = data.frames[starts[i] + CONTEXT - 1][None]
        out += [np.concatenate([given, real[i, at]]), np.concatenate([given, imagined[i, at]])]
    return strip(out)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("world", choices=("pusht", "doom"))
    ap.add_argument("--folder", type=Path)
    ap.add_argument("--split", default="test")
    ap.add_argument("--starts", type=int, default=96)
    args = ap.parse_args()
    torch.set_num_threads(1)
    folder = args.folder or exported(args.world)
    pipe, data, rng = Pipeline(folder), Episodes(args.world, args.split), np.random.default_rng(5)
    train = Episodes(args.world)
    mean = unit(train.frames[:: max(1, len(train) // 3000)]).mean(0)
    del train
    frames = data.frames[rng.choice(len(data), 4 * args.starts, replace=False)]
    result = {"world": args.world, "split": args.split, "trained_steps": pipe.config.get("trained_steps"),
              "sampler": pipe.scheduler, "tokenizer": tokenizer_metrics(pipe, frames, mean)}
    result["rollouts"], starts, real, seen = rollout_metrics(pipe, data, mean, args, rng)
    if args.world == "pusht":
        result["rollouts"]["block_left"] = block_left(seen["imagined"], real)
    scripted = scripted_pusht if args.world == "pusht" else scripted_doom
    result["scripted"], clips = scripted(pipe, data, rng, args.starts)
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=1))
    rollout_picture(starts, data, real, seen["imagined"]).save(folder / "rollouts.png", optimize=True)
    rows = [np.concatenate([data.frames[s[0] + CONTEXT - 1][None], f[0]]) for _, s, f in clips]
    strip(rows).save(folder / "scripted.png", optimize=True)
    eight = frames[:12]
    strip([eight, to_u8(pipe.decode(pipe.encode(eight)))]).save(folder / "reconstruction.png", optimize=True)


if __name__ == "__main__":
    main()
