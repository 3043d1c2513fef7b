"""Episodes on disk, and the one way every script cuts them.

A shard is an uncompressed .npz of whole episodes:
    frames  u8  [N, 64, 64, 3]  RGB
    actions f32 [N, A]          actions[i] was taken after frames[i] and led to frames[i + 1]; the last row of an
                                episode repeats the one before it and is never used
    episode i32 [N]             index of the episode
    state   f32 [N, S]          the simulator's own state, for evaluation only (see `STATE` in the collectors)
Episodes are split by index: of every twenty, number 18 is for validation and number 19 for the final test.
"""
import os
from pathlib import Path

import numpy as np

SIZE = 64


def cache_dir(world: str) -> Path:
    """Data and checkpoints live outside the source tree; $ORRERY_WORLDS moves them."""
    root = os.environ.get("ORRERY_WORLDS", "~/.cache/orrery/worlds")
    path = Path(root).expanduser() / world
    path.mkdir(parents=True, exist_ok=True)
    return path


def exported(world: str) -> Path:
    """The model folder in the tree."""
    return Path(__file__).resolve().parent.parent / world


def area_weights(n_in: int, n_out: int) -> np.ndarray:
    """[n_out, n_in]: output pixel o averages the inputs under [o, o + 1) * n_in / n_out, partly covered ones in part."""
    edges = np.arange(n_out + 1) * (n_in / n_out)
    left = np.maximum(edges[:-1, None], np.arange(n_in)[None])
    right = np.minimum(edges[1:, None], np.arange(n_in)[None] + 1)
    return (np.clip(right - left, 0, None) * (n_out / n_in)).astype(np.float32)


_WEIGHTS: dict = {}


def shrink(image: np.ndarray) -> np.ndarray:
    """u8 [H, W, 3] -> u8 [64, 64, 3] by exact area averaging, the aspect ratio is not kept."""
    h, w = image.shape[:2]
    for n in (h, w):
        if n not in _WEIGHTS:
            _WEIGHTS[n] = area_weights(n, SIZE)
    rows = _WEIGHTS[h] @ image.reshape(h, w * 3).astype(np.float32)
    both = np.matmul(_WEIGHTS[w], rows.reshape(SIZE, w, 3))
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def write_shard(path: Path, **arrays) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    os.replace(part, path)


def split_of(episode: np.ndarray) -> np.ndarray:
    """0 train, 1 validation, 2 test."""
    return np.where(episode % 20 == 18, 1, np.where(episode % 20 == 19, 2, 0))


class Episodes:
    """All frames of one world in memory, in episode order."""

    def __init__(self, world: str, split: str = "train", frames: bool = True):
        shards = sorted((cache_dir(world) / "data").glob("shard_*.npz"))
        shards = [s for s in shards if ".part" not in s.name]
        if not shards:
            raise SystemExit(f"no data for {world}: run collect_{world}.py first")
        want = {"train": 0, "val": 1, "test": 2}[split]
        rows = {"frames": [], "actions": [], "episode": [], "state": []}
        for shard in shards:
            with np.load(shard) as z:
                keep = split_of(z["episode"]) == want
                if not keep.any():
                    continue
                for key, out in rows.items():
                    if key != "frames" or frames:
                        out.append(z[key][keep])
        self.frames = np.concatenate(rows["frames"]) if frames else None
        self.actions, self.episode, self.state = (np.concatenate(rows[k]) for k in ("actions", "episode", "state"))
        self.first = np.flatnonzero(np.r_[True, self.episode[1:] != self.episode[:-1]])
        self.last = np.r_[self.first[1:], len(self.episode)]

    def __len__(self):
        return len(self.episode)

    def window_starts(self, length: int) -> np.ndarray:
        """Every index at which a window of `length` frames stays inside one episode."""
        return np.concatenate([np.arange(a, b - length + 1) for a, b in zip(self.first, self.last) if b - a >= length])
