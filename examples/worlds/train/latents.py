"""A world's episodes as normalised latents: encoded shard by shard when asked for, and kept beside the data."""
import hashlib
import os

import numpy as np
import torch

from dataset import cache_dir, split_of
from model import Tokenizer
from train_tokenizer import to_input
from worlds import WORLDS

FIRST_SHARDS = 2                                                           # mean and deviation are those of these


def load_tokenizer(world):
    kept = torch.load(cache_dir(world) / "tokenizer.pt", weights_only=False)
    net = Tokenizer(**WORLDS[world]["tokenizer"])
    net.load_state_dict(kept["average"])
    return net.eval().requires_grad_(False)


def encoder_mark(net):
    """Changes when the encoder does: latents of another encoder must not be mixed in."""
    digest = hashlib.sha256()
    for name, p in sorted(net.encoder.state_dict().items()):
        digest.update(name.encode() + p.numpy().tobytes())
    return digest.hexdigest()[:16]


class Latents:
    """The training split, as far as it is encoded. `grow` adds a shard, so that training need not wait for all of them.

    z f16 [N, C, h, w] normalised; actions, state, episode, first, last as in dataset.Episodes.
    """

    def __init__(self, world, shards=FIRST_SHARDS):
        self.tokenizer = load_tokenizer(world)
        self.folder = cache_dir(world) / f"latents_{encoder_mark(self.tokenizer)}"
        self.folder.mkdir(exist_ok=True)
        paths = [p for kind in ("shard", "jumps") for p in sorted((cache_dir(world) / "data").glob(f"{kind}_*.npz"))]
        self.waiting = [p for p in paths if ".part" not in p.name]
        self.codes, self.normal, self.rows, self.actions, self.states, self.mean = [], [], [], [], [], None
        for _ in range(max(shards, FIRST_SHARDS)):
            self.read(self.waiting.pop(0))
        while self.waiting and self.place(self.waiting[0]).exists():       # encoded in an earlier run
            self.read(self.waiting.pop(0))
        codes = torch.cat(self.codes[:FIRST_SHARDS]).float()
        self.mean, self.sd = codes.mean((0, 2, 3)), codes.std((0, 2, 3))
        self.join()

    def place(self, path):
        return self.folder / (path.stem + ".npy")

    @torch.no_grad()
    def read(self, path, batch=50):
        with np.load(path) as shard:
            keep = split_of(shard["episode"]) == 0
            self.rows.append(shard["episode"][keep])
            self.actions.append(torch.from_numpy(shard["actions"][keep]))
            self.states.append(shard["state"][keep])
            if not self.place(path).exists():
                x = shard["frames"][keep]
                z = [self.tokenizer.encode(to_input(x[i : i + batch])).half().numpy() for i in range(0, len(x), batch)]
                part = self.place(path).with_suffix(f".{os.getpid()}.part.npy")
                np.save(part, np.concatenate(z))
                os.replace(part, self.place(path))
        self.codes.append(torch.from_numpy(np.load(self.place(path))))

    def join(self):
        mean, sd = self.mean[:, None, None], self.sd[:, None, None]
        self.normal += [((c.float() - mean) / sd).half() for c in self.codes[len(self.normal) :]]
        self.z = torch.cat(self.normal)
        self.all_actions, self.episode = torch.cat(self.actions), np.concatenate(self.rows)
        self.state = np.concatenate(self.states)
        self.first = np.flatnonzero(np.r_[True, self.episode[1:] != self.episode[:-1]])
        self.last = np.r_[self.first[1:], len(self.episode)]

    def grow(self):
        if self.waiting:
            self.read(self.waiting.pop(0))
            self.join()
            return True
        return False

    def window_starts(self, length):
        """Every index at which a window of `length` frames stays inside one episode."""
        return np.concatenate([np.arange(a, b - length + 1) for a, b in zip(self.first, self.last) if b - a >= length])
