"""Makes tests/golden/media: tiny clips of every kind, and the frames that the ffmpeg program decodes from them.

Run: python make_media.py [folder of the ffmpeg program]   (needs ffmpeg with libx264, libvpx-vp9; numpy; Pillow)
For each clip there is <clip>.rgb: the frames as raw RGB24, every stored frame once, upright, with ffmpeg's default scaler flags.
"""

import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).parent / "media"
FFMPEG = str(pathlib.Path(sys.argv[1]) / "ffmpeg") if len(sys.argv) > 1 else "ffmpeg"


def ffmpeg(*arguments):
    *options, output = map(str, arguments)
    subprocess.run([FFMPEG, "-v", "error", "-y", *options, "-fflags", "+bitexact", output], check=True)


def source(size, frames, rate=8):
    # A moving gradient with noise: no two pixels alike, in any channel. (testsrc2 would round odd sizes.)
    picture = "geq=r='128+90*sin((X+3*N)/3)+40*sin(Y)':g='128+80*cos((Y-2*N)/4)':b='255-13*X+5*N'"
    return ["-f", "lavfi", "-i", f"nullsrc=size={size}:rate={rate},format=gbrp,{picture}", "-frames:v", frames]


def clip(name, size, frames, *encoder, rate=8):
    ffmpeg(*source(size, frames, rate), *encoder, "-flags", "+bitexact", ROOT / name)


def expect(name):
    raw = subprocess.run([FFMPEG, "-v", "error", "-i", ROOT / name, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24",
                          "-"], check=True, capture_output=True).stdout
    (ROOT / (name + ".rgb")).write_bytes(raw)


def without_samples(mp4):
    """An MP4 whose video track has an empty sample table."""
    data = bytearray(mp4)
    for box, offset in ((b"stts", 8), (b"stsz", 12), (b"stsc", 8), (b"stco", 8), (b"ctts", 8), (b"stss", 8)):
        at = data.index(box) + offset
        data[at : at + 4] = bytes(4)
    return bytes(data)


def main():
    ROOT.mkdir(exist_ok=True)
    for old in ROOT.iterdir():
        old.unlink()
    h264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    clip("h264.mp4", "16x18", 8, *h264, "-movflags", "+faststart")
    clip("odd.webm", "17x15", 3, "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p")
    clip("odd444.mov", "17x15", 3, "-c:v", "libx264", "-pix_fmt", "yuv444p")
    clip("ten_bit.mp4", "18x16", 3, "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
    clip("full_range.mp4", "18x16", 3, "-vf", "scale=out_range=full:out_color_matrix=bt709", "-c:v", "libx264", "-pix_fmt", "yuvj420p",
         "-colorspace", "bt709", "-color_range", "pc")
    clip("bt709.mp4", "18x16", 3, "-vf", "scale=out_color_matrix=bt709", *h264, "-colorspace", "bt709", "-color_range", "tv")
    clip("mjpeg.avi", "18x16", 3, "-c:v", "mjpeg", "-q:v", 3, "-pix_fmt", "yuvj422p")
    clip("b_frames.avi", "18x16", 8, "-c:v", "mpeg4", "-bf", 2, "-q:v", 3)
    clip("ntsc.mkv", "18x16", 5, *h264, rate="30000/1001")
    clip("alpha.mkv", "18x16", 2, "-vf", "format=bgra,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='X*14'", "-c:v", "ffv1", "-level", 3)
    clip("animated.gif", "16x18", 4, "-vf", "fps=10")
    clip("nv12.mkv", "18x16", 2, "-c:v", "rawvideo", "-pix_fmt", "nv12")
    clip("gray.png", "7x5", 1, "-pix_fmt", "gray")
    clip("palette.png", "9x5", 1, "-pix_fmt", "pal8")
    clip("deep.png", "9x5", 1, "-pix_fmt", "rgb48be")

    # Variable rate: 0, 0.1, 0.2, 0.8, 0.9, 1.0 s.
    ffmpeg(*source("18x16", 6, 10), "-vf", "select='lte(n,2)+gte(n,8)'", "-fps_mode", "vfr",
           *h264, "-video_track_timescale", 1000, "-flags", "+bitexact", ROOT / "variable.mp4")
    for angle in (90, 180, 270):
        ffmpeg("-i", ROOT / "h264.mp4", "-c", "copy", "-frames:v", 2, "-metadata:s:v:0", f"rotate={angle}", ROOT / f"rotated{angle}.mp4")

    for path in sorted(ROOT.iterdir()):
        expect(path.name)

    # A photograph taken upside down and sideways, as a telephone stores it; the expected pixels are Pillow's.
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = (250, 30, 30)
    pixels[8:, 16:] = (30, 30, 250)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(ROOT / f"exif{orientation}.jpg", quality=100, subsampling=0, exif=exif)

    # A photograph with chroma of half size, where programs differ in how they enlarge it.
    y, x = np.mgrid[:20, :30]
    photo = np.stack([128 + 100 * np.sin(x / 5), 128 + 100 * np.cos(y / 4), 128 + 90 * np.sin((x + y) / 6)], -1).astype(np.uint8)
    Image.fromarray(photo).save(ROOT / "photo.jpg", quality=95, subsampling=2)
    (ROOT / "photo.jpg.rgb").write_bytes(np.asarray(Image.open(ROOT / "photo.jpg").convert("RGB")).tobytes())

    # Damage.
    whole = (ROOT / "h264.mp4").read_bytes()
    (ROOT / "cut_off.mp4").write_bytes(whole[:-150])
    clip("index_last.mp4", "16x18", 8, *h264)
    (ROOT / "no_index.mp4").write_bytes((ROOT / "index_last.mp4").read_bytes()[:-200])
    (ROOT / "index_last.mp4").unlink()
    (ROOT / "text.mp4").write_text("This is a text, whatever its name says.\n" * 20)
    (ROOT / "empty.mp4").write_bytes(b"")
    ffmpeg("-f", "lavfi", "-i", "nullsrc=size=16x18:rate=8", "-t", 0, *h264, "-flags", "+bitexact", ROOT / "no_frames.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", "-c:a", "aac", "-flags", "+bitexact", ROOT / "sound.mp4")
    (ROOT / "no_samples.mp4").write_bytes(without_samples(whole))
    for name in ("odd.webm", "mjpeg.avi"):
        data = (ROOT / name).read_bytes()
        (ROOT / ("cut_off" + name[name.index("."):])).write_bytes(data[: len(data) * 9 // 10])
    png = (ROOT / "deep.png").read_bytes()
    (ROOT / "cut_off.png").write_bytes(png[: len(png) // 2])
    jpg = (ROOT / "exif1.jpg").read_bytes()
    (ROOT / "cut_off.jpg").write_bytes(jpg[: len(jpg) * 2 // 3])


main()
