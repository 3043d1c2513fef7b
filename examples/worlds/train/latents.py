"""A world's episodes as normalised latents, encoded once by the trained tokenizer and kept beside the data."""
import hashlib

import numpy as np
import torch

from dataset import Episodes, cache_dir
from model import Tokenizer
from train_tokenizer import to_input


def load_tokenizer(world):
    kept = torch.load(cache_dir(world) / "tokenizer.pt", weights_only=False)
    net = Tokenizer()
    net.load_state_dict(kept["average"])
    return net.eval().requires_grad_(False)


def encoder_mark(net):
    """Changes when the encoder does: latents of another encoder must not be mixed in."""
    digest = hashlib.sha256()
    for name, p in sorted(net.encoder.state_dict().items()):
        digest.update(name.encode() + p.numpy().tobytes())
    return digest.hexdigest()[:16]


def load_latents(world, split="train", batch=64):
    """-> (Episodes without frames, f32 [N, C, 8, 8] normalised, mean f32 [C], sd f32 [C])

    Mean and deviation are those of the training split, per channel.
    """
    net = load_tokenizer(world)
    folder = cache_dir(world) / f"latents_{encoder_mark(net)}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{split}.npy"
    data = Episodes(world, split, frames=False)
    if not path.exists() or len(np.load(path, mmap_mode="r")) != len(data):
        frames = Episodes(world, split).frames
        with torch.no_grad():
            z = [net.encode(to_input(frames[i : i + batch])).half().numpy() for i in range(0, len(frames), batch)]
        np.save(path, np.concatenate(z))
    z = torch.from_numpy(np.load(path)).float()
    stats = folder / "statistics.npy"
    if not stats.exists():
        if split != "train":
            load_latents(world, "train")
        else:
            np.save(stats, torch.stack([z.mean((0, 2, 3)), z.std((0, 2, 3))]).numpy())
    mean, sd = torch.from_numpy(np.load(stats))
    return data, (z - mean[:, None, None]) / sd[:, None, None], mean, sd
