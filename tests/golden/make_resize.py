"""Makes tests/golden/resize: a small picture and what Pillow and torchvision make of it at several sizes.

Run: python make_resize.py   (needs numpy, Pillow, torch, torchvision)
picture.rgb is raw RGB24, 23x19; <filter>_<width>x<height>.<library>.rgb are the resized pictures.
"""

import pathlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

ROOT = pathlib.Path(__file__).parent / "resize"
SIZES = [(11, 7), (23, 5), (8, 19), (40, 33), (1, 1), (24, 20)]  # width, height


def main():
    ROOT.mkdir(exist_ok=True)
    generator = np.random.default_rng(5)
    noise = generator.integers(0, 256, (19, 23, 3), dtype=np.uint8)
    noise[:8, :9] = (255, 0, 255)  # hard edges, at which a cubic overshoots
    noise[8:12] = 0
    noise.tofile(ROOT / "picture.rgb")
    picture = Image.fromarray(noise)
    tensor = torch.from_numpy(noise).permute(2, 0, 1)
    for name, pil, interpolation in (("bilinear", Image.BILINEAR, F.InterpolationMode.BILINEAR),
                                     ("bicubic", Image.BICUBIC, F.InterpolationMode.BICUBIC)):
        for width, height in SIZES:
            stem = f"{name}_{width}x{height}"
            np.asarray(picture.resize((width, height), pil)).tofile(ROOT / f"{stem}.pillow.rgb")
            resized = F.resize(tensor, [height, width], interpolation=interpolation, antialias=True)
            resized.permute(1, 2, 0).contiguous().numpy().tofile(ROOT / f"{stem}.torchvision.rgb")


main()
