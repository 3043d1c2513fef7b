"""Draws docs/worlds.gif: both worlds driven with recorded actions, the simulator above, the imagined world below.

    python gif.py [--program ../../../build/bin/orrery] [--frames 48]
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
SIDE, GAP = 192, 6


def enlarged(frame, how):
    return np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), how))


def imagined(program, world, folder):
    """The frames that `orrery rollout` imagines from the sample's first picture, each u8 [64, 64, 3]."""
    out, sample = Path(folder) / world.name, world / "sample"
    out.mkdir()
    subprocess.run([program, "rollout", "--model", world, "-i", sample / "first_frame.png", "--actions", sample / "actions.npy", "-o", out / "%05d.png"],
                   check=True, stdout=subprocess.DEVNULL)
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(out.iterdir())]


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--program", default=str(HERE / "../../../build/bin/orrery"))
    ap.add_argument("--frames", type=int, default=40)
    args = ap.parse_args()
    columns = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("doom", "pusht"):
            world = HERE.parent / name
            real = np.asarray(Image.open(world / "sample" / "real_frames.png").convert("RGB")).reshape(64, -1, 64, 3).swapaxes(0, 1)
            columns.append([(enlarged(a, Image.NEAREST), enlarged(b, Image.BICUBIC))
                            for a, b in zip(real[: args.frames], imagined(args.program, world, folder))])
    frames = []
    for cells in zip(*columns):
        picture = np.full((2 * SIDE + GAP, len(cells) * (SIDE + GAP) - GAP, 3), 24, np.uint8)
        for i, (above, below) in enumerate(cells):
            picture[:SIDE, i * (SIDE + GAP) : i * (SIDE + GAP) + SIDE] = above
            picture[SIDE + GAP :, i * (SIDE + GAP) : i * (SIDE + GAP) + SIDE] = below
        frames.append(Image.fromarray(picture).quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
    out = HERE / "../../../docs/worlds.gif"
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=110, loop=0, optimize=True)
    print(f"{out.resolve()}: {len(frames)} frames, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
