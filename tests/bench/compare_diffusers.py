#!/usr/bin/env python3
"""Times a video tokenizer at true size against diffusers, in one run on one machine: seconds and peak of memory.

    compare_diffusers.py MODEL [--call encode|decode] [--frames 9] [--size 256] [--threads 2] [--repeat 3] [--processor-time]
                               [--program build/bin/orrery] [--random AutoencoderKLCosmos]
                               [--device cuda] [--dtype bfloat16]

MODEL is a diffusers folder; --random first fills it with a random model of that class at its default (published) size.
Each side runs in a process of its own, and the two take turns, so that other work on the machine falls on both. The first
pass of each is a warm-up. --processor-time counts the processor's seconds, all threads together, which waiting for a busy
machine does not lengthen. The peak is the process's highest resident size, interpreter, libraries and weights included.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

CHILD = """
import json, sys, time, resource, torch, diffusers
from safetensors.torch import load_file
folder, call, inputs, threads, repeat, clock, device, dtype = sys.argv[1:]
torch.set_num_threads(int(threads)); torch.set_grad_enabled(False)
name = json.load(open(folder + "/config.json"))["_class_name"]
vae = getattr(diffusers, name).from_pretrained(folder, torch_dtype=getattr(torch, dtype)).to(device).eval()
x, seconds = {k: v.to(device, getattr(torch, dtype)) for k, v in load_file(inputs).items()}, []
for _ in range(int(repeat) + 1):
    start = getattr(time, clock)()
    vae.encode(x["sample"]).latent_dist.mode() if call == "encode" else vae.decode(x["latent"]).sample
    if device != "cpu": torch.cuda.synchronize()
    seconds.append(getattr(time, clock)() - start)
print(json.dumps({"seconds": seconds[1:], "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def make_inputs(folder, args, path):
    import torch
    from safetensors.torch import save_file

    config = json.loads((folder / "config.json").read_text())
    torch.manual_seed(0)
    sample = torch.rand(1, 3, args.frames, args.size, args.size) * 2 - 1
    space = config.get("spatial_compression_ratio", config.get("scale_factor_spatial", 8))
    time = config.get("temporal_compression_ratio", config.get("scale_factor_temporal", 4))
    channels = config.get("latent_channels", config.get("z_dim", 16))
    latent = torch.randn(1, channels, (args.frames - 1) // time + 1, args.size // space, args.size // space)
    save_file({"sample": sample} if args.call == "encode" else {"latent": latent}, str(path))


def diffusers_once(args, inputs):
    out = subprocess.run([sys.executable, "-c", CHILD, args.model, args.call, inputs, str(args.threads), "1",
                          "process_time" if args.processor_time else "perf_counter", args.device, args.dtype],
                         check=True, capture_output=True, text=True).stdout
    told = json.loads(out.splitlines()[-1])
    return told["seconds"][0], told["peak"]


def orrery_once(args, inputs):
    call = f"vae.{args.call}"
    out = subprocess.run([args.program, "bench", "--model", args.model, "--call", call, "--inputs", inputs, "--threads",
                          str(args.threads), "--warmup", "1", "--repeat", "1", "--json", "--device", args.device, "--dtype", args.dtype],
                         check=True, capture_output=True, text=True).stdout
    told = json.loads(out)
    return told["stages"][call]["processor_s" if args.processor_time else "median_s"], told["peak_rss_bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--call", choices=["encode", "decode"], default="decode")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--program", default="build/bin/orrery")
    parser.add_argument("--random")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    folder = pathlib.Path(args.model)
    if args.random:
        import diffusers
        import torch

        torch.manual_seed(0)
        getattr(diffusers, args.random)().save_pretrained(folder)
    with tempfile.TemporaryDirectory() as work:
        inputs = str(pathlib.Path(work) / "in.safetensors")
        make_inputs(folder, args, inputs)
        runs = {"diffusers": [], "orrery": []}
        for _ in range(args.repeat):
            runs["diffusers"].append(diffusers_once(args, inputs))
            runs["orrery"].append(orrery_once(args, inputs))
    print(f"{args.call}, {args.frames} frames of {args.size}x{args.size}, {args.dtype} on {args.device}, {args.threads} threads, {args.repeat} runs each"
          f"{', processor time' if args.processor_time else ''}")
    print(f"{'':10} {'median s':>9} {'min s':>7} {'max s':>7} {'peak MiB':>9}")
    for name, each in runs.items():
        seconds = [s for s, _ in each]
        print(f"{name:10} {statistics.median(seconds):9.2f} {min(seconds):7.2f} {max(seconds):7.2f} {max(p for _, p in each) >> 20:9}")


if __name__ == "__main__":
    main()
