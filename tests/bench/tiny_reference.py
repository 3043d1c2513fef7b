"""The original tiny tokenizers in eager PyTorch, on what tests/bench/tiny_bench.cpp times: 4 frames (4 latents) of 128x224.

    python tiny_reference.py --taesd <checkout of madebyollin/taesd> --taehv <checkout of madebyollin/taehv> [--threads N]

Prints wall and processor time of the fastest of several runs, in milliseconds.
"""

import argparse
import sys
import time

import torch


def fastest(name, run, repeat):
    run()
    best = (float("inf"), float("inf"))
    for _ in range(repeat):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        best = min(best[0], time.perf_counter() - wall), min(best[1], time.process_time() - processor)
    print(f"{name:16} wall {best[0] * 1e3:8.0f} ms  processor {best[1] * 1e3:8.0f} ms", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--taesd", required=True)
    parser.add_argument("--taehv", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    sys.path[:0] = [args.taesd, args.taehv]
    import taehv
    import taesd

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        encoder, decoder = taesd.Encoder(32, use_midblock_gn=True), taesd.Decoder(32, use_midblock_gn=True)
        video = taehv.TAEHV(checkpoint_path=None)
        frames, latents = torch.rand(4, 3, 128, 224), torch.randn(4, 32, 16, 28)
        fastest("encode/taef2", lambda: encoder(frames), args.repeat)
        fastest("decode/taef2", lambda: decoder(latents), args.repeat)
        for parallel in (True, False):
            way = "parallel" if parallel else "sequential"
            clip, code = frames[None], torch.randn(1, 4, 16, 16, 28)
            fastest(f"encode/taew2_1 {way}", lambda: video.encode_video(clip, parallel, False), args.repeat)
            fastest(f"decode/taew2_1 {way}", lambda: video.decode_video(code, parallel, False), args.repeat)


if __name__ == "__main__":
    main()
