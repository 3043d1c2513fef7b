"""What the original TAEF2 makes of real pictures: the clip and the picture at 512x288, and the PSNR after a round trip.

    python make_taef2_reconstruct.py --taesd <checkout of madebyollin/taesd> --weights <folder of taef2_*.pth>
        --inputs <folder with nvidia-cosmos/cosmos-predict1's tokenizer test data: tokenizer_image.png, tokenizer_video.mp4>

Needs an ffmpeg program. Both are scaled by its area filter to 512x288, aspect ratio not kept; the clip is the video's first four
frames. PSNR is of 8-bit frames over all values of the clip.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch

SCALE = ["-vf", "scale=512:288:flags=area"]


def ffmpeg(*arguments):
    return subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)], check=True,
                          capture_output=True).stdout


def psnr(encoder, decoder, file):
    raw = ffmpeg("-i", file, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    frames = torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(-1, 288, 512, 3).copy()).permute(0, 3, 1, 2)
    decoded = torch.cat([decoder(encoder(frame[None] / 255)) for frame in frames]).clamp(0, 1)
    error = (decoded * 255).round() - frames
    return round(10 * np.log10(255**2 / error.double().square().mean().item()), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("taesd", "weights", "inputs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "taef2_reconstruct")
    args = parser.parse_args()
    sys.path.insert(0, str(args.taesd))
    import taesd

    torch.set_grad_enabled(False)
    halves = []
    for part, build in (("encoder", taesd.Encoder), ("decoder", taesd.Decoder)):
        half = build(32, use_midblock_gn=True)
        half.load_state_dict(torch.load(args.weights / f"taef2_{part}.pth", map_location="cpu", weights_only=True))
        halves.append(half.float())

    args.out.mkdir(parents=True, exist_ok=True)
    clip, image = args.out / "clip.mkv", args.out / "image.png"
    ffmpeg("-i", args.inputs / "tokenizer_image.png", *SCALE, "-pix_fmt", "rgb24", image)
    ffmpeg("-i", args.inputs / "tokenizer_video.mp4", "-frames:v", 4, *SCALE, "-c:v", "ffv1", "-level", 3, "-coder", 1,
           "-context", 1, "-g", 4, "-pix_fmt", "gbrp", clip)
    figures = {"image_psnr_db": psnr(*halves, image), "clip_psnr_db": psnr(*halves, clip)}
    (args.out / "expected.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(figures)


if __name__ == "__main__":
    main()
