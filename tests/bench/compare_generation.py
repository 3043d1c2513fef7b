#!/usr/bin/env python3
"""Times a whole generation at true size against diffusers: from the start of the process to the MP4, with its peak of memory.

    compare_generation.py FOLDER --form wan-1.3b|predict2-2b [--steps 2] [--frames 9] [--size 256] [--threads 2] [--repeat 1]
                          [--weights int8] [--step-cache 0.1] [--text-encoder-layers N [--prompt TEXT]] [--layers N] [--warm] [--keep]
                          [--program build/bin/orrery]

FOLDER is filled with a pipeline of the published sizes (transformer, Wan 2.1 VAE, scheduler) and random bfloat16
weights, unless it is there already, and removed afterwards, unless --keep; with --layers the transformer has so many of its equal
blocks, to try the script. --text-encoder-layers adds a text encoder of the published widths and vocabulary with so many of its 24 layers
(all of them do not fit beside their float32 twin) and the tokenizer of a golden case; both sides then begin with --prompt. Else they take the
same embeddings from a file; and always the same noise
from files, each in a process of its own, taking turns; diffusers computes in float32. Before each the system is asked to forget the
folder's pages, so that both read it from the disk (--warm: not). Told are the wall seconds of the whole process, the highest resident
size, and the relative L2 and PSNR of the two videos as the decoders give them (diffusers' Cosmos pipelines cut theirs to 8 bits); with
--step-cache, which only orrery is given, how many looks of the network were cut short.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CHILD = """
import sys, torch, diffusers, numpy as np
from diffusers.utils import export_to_video
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file, save_file
DiagonalGaussianDistribution.sample = lambda self, generator=None: self.mode()  # a picture's posterior, without its own noise
folder, form, inputs, output, threads, steps, frames, size, guidance, prompt, negative = sys.argv[1:]
torch.set_num_threads(int(threads)); torch.set_grad_enabled(False)
x = load_file(inputs)
about = dict(width=int(size), height=int(size), num_frames=int(frames), num_inference_steps=int(steps),
             guidance_scale=float(guidance), latents=x["noise"], output_type="pt")
if prompt:
    import transformers
    about |= dict(prompt=prompt, negative_prompt=negative)
    kind = transformers.UMT5EncoderModel if form == "wan-1.3b" else transformers.T5EncoderModel
    words = dict(text_encoder=kind.from_pretrained(folder + "/text_encoder", torch_dtype=torch.float32),
                 tokenizer=transformers.T5TokenizerFast.from_pretrained(folder + "/tokenizer"))
else:
    about |= dict(prompt_embeds=x["prompt_embeds"], negative_prompt_embeds=x["negative_prompt_embeds"])
    words = dict(text_encoder=None, tokenizer=None)
if form == "wan-1.3b":
    pipe = diffusers.WanPipeline.from_pretrained(folder, torch_dtype=torch.float32, **words)
else:
    class Harmless:
        def to(self, *a, **k): return self
        def check_text_safety(self, text): return True
        def check_video_safety(self, frames): return frames
    part = lambda name, kind: kind.from_pretrained(folder + "/" + name, torch_dtype=torch.float32)
    pipe = diffusers.Cosmos2VideoToWorldPipeline(
        **words, transformer=part("transformer", diffusers.CosmosTransformer3DModel),
        vae=part("vae", diffusers.AutoencoderKLWan), safety_checker=Harmless(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder + "/scheduler"))
    from PIL import Image
    about |= dict(image=Image.fromarray(np.load(inputs + ".npy")), fps=16)
pipe.set_progress_bar_config(disable=True)
decode, kept = pipe.vae.decode, []
pipe.vae.decode = lambda *a, **k: kept.append(decode(*a, **k)) or kept[-1]
video = pipe(**about).frames[0]
export_to_video(list(video.float().permute(0, 2, 3, 1).numpy()), output + ".mp4", fps=16)
save_file({"video": kept[-1][0].float().contiguous()}, output)  # before the safety checker's rounding to 8 bits
"""

INDEX = {"wan-1.3b": {"_class_name": "WanPipeline", "scheduler": ["diffusers", "UniPCMultistepScheduler"]},
         "predict2-2b": {"_class_name": "Cosmos2VideoToWorldPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}}
TEXT = {"wan-1.3b": 4096, "predict2-2b": 1024}
GUIDANCE = {"wan-1.3b": "5.0", "predict2-2b": "7.0"}
ENCODER = {"wan-1.3b": "umt5-slice", "predict2-2b": "t5-slice"}
TOKENIZER = {"wan-1.3b": "wan21_text2video_prompt", "predict2-2b": "predict2_text2image_prompt"}
NEGATIVE = "blurred, still, grey"


def make_pipeline(folder, form, layers):
    """In a process of its own: random weights of these sizes leave memory that would count later."""
    import diffusers
    import torch
    import compare_networks

    folder = pathlib.Path(folder)
    if form == "predict2-2b":
        compare_networks.PREDICT2["in_channels"] = 17                      # the condition's mask
        compare_networks.PREDICT2["rope_scale"] = [1.0, 3.0, 3.0]
    compare_networks.make_model(folder / "transformer", form, layers)
    diffusers.AutoencoderKLWan().to(torch.bfloat16).save_pretrained(folder / "vae")
    if form == "wan-1.3b":
        scheduler = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    else:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.save_pretrained(folder / "scheduler")
    index = INDEX[form] | {"_diffusers_version": diffusers.__version__, "transformer": ["diffusers", compare_networks.FORMS[form][0]["_class_name"]],
                           "vae": ["diffusers", "AutoencoderKLWan"], "text_encoder": [None, None], "tokenizer": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def add_text_encoder(folder, form, layers):
    import compare_networks

    folder, golden = pathlib.Path(folder), pathlib.Path(__file__).parent.parent / "golden/pipelines"
    compare_networks.make_model(folder / "text_encoder", ENCODER[form], layers)
    shutil.copytree(golden / TOKENIZER[form] / "model/tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"text_encoder": ["transformers", compare_networks.FORMS[ENCODER[form]][0]["architectures"][0]],
              "tokenizer": ["transformers", "T5TokenizerFast"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def make_inputs(args, path):
    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(1)
    save_file({"prompt_embeds": torch.randn(1, 512, TEXT[args.form]), "negative_prompt_embeds": torch.randn(1, 512, TEXT[args.form]),
               "noise": torch.randn(1, 16, (args.frames - 1) // 4 + 1, args.size // 8, args.size // 8)}, path)
    x = np.linspace(0, 1, args.size)
    picture = (np.stack([np.outer(x, 1 - x) * 3, np.outer(1 - x, x) * 3, np.add.outer(x, x) / 2], -1) * 255).clip(0, 255).astype(np.uint8)
    np.save(path + ".npy", picture)
    Image.fromarray(picture).save(path + ".png")


def forget(folder):
    """The pages of its files leave the system's cache: written ones first, which would stay."""
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            with open(pathlib.Path(place) / name, "rb") as file:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def watched(command):
    """Runs it; (wall seconds, highest resident bytes). A small process in between, since a child's peak begins as its parent's."""
    watch = ("import resource, subprocess, sys, time; start = time.perf_counter(); code = subprocess.run(sys.argv[1:], stdout=2).returncode;"
             "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(code)")
    out = subprocess.run([sys.executable, "-c", watch, *command], check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(float(word) for word in out.split())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--form", choices=sorted(INDEX), required=True)
    for name, value in (("steps", 2), ("frames", 9), ("size", 256), ("threads", 2), ("repeat", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--weights", action="append", default=[], help="also this form in memory (repeatable)")
    parser.add_argument("--step-cache", action="append", default=[], help="also with this threshold (repeatable)")
    parser.add_argument("--text-encoder-layers", type=int, default=0)
    parser.add_argument("--prompt", default="a small robot arm pushes a red block across the table towards a green mark")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--warm", action="store_true", help="the folder may lie in the system's cache")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--program", default="build/bin/orrery")
    args = parser.parse_args()
    make = lambda what, layers: subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r});"
         f"import compare_generation as c; c.{what}({args.folder!r}, {args.form!r}, {layers})"], check=True)
    folder, text = pathlib.Path(args.folder), args.text_encoder_layers
    if not (folder / "model_index.json").exists():
        make("make_pipeline", args.layers)
    if text and not (folder / "text_encoder/config.json").exists():
        make("add_text_encoder", text)
    if text and json.loads((folder / "text_encoder/config.json").read_text())["num_layers"] != text:
        sys.exit(f"{folder}/text_encoder has another number of layers: remove it")
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as work:
        inputs, expected, actual = (str(pathlib.Path(work) / name) for name in ("in.safetensors", "expected", "actual"))
        make_inputs(args, inputs)
        reference = [sys.executable, "-c", CHILD, args.folder, args.form, inputs, expected, *(
            str(v) for v in (args.threads, args.steps, args.frames, args.size)), GUIDANCE[args.form], *((args.prompt, NEGATIVE) if text else ("", ""))]
        words = ["-p", args.prompt, "-n", NEGATIVE] if text else ["--prompt-embeds", inputs]
        own = [args.program, "generate", "--model", args.folder, *words, "--noise", inputs, "--steps", str(args.steps),
               "--num-frames", str(args.frames), "-W", str(args.size), "-H", str(args.size), "--guidance-scale", GUIDANCE[args.form],
               "--threads", str(args.threads), "--fps", "16"]
        if args.form != "wan-1.3b":
            own += ["-i", inputs + ".png"]
        sides = {"as stored": []} | {form: ["--weights", form] for form in args.weights}
        sides |= {f"cache {threshold}": ["--step-cache", threshold] for threshold in args.step_cache}
        runs, shortened, error = {"diffusers": []} | {side: [] for side in sides}, {}, {}
        commands = {"diffusers": reference} | {side: own + more + ["-o", actual + ".mp4"] for side, more in sides.items()}
        for name in list(commands) * args.repeat:
            if not args.warm:
                forget(args.folder)
            runs[name].append(watched(commands[name]))
        y = load_file(expected)["video"].double()
        for side, more in sides.items():
            told = subprocess.run(own + more + ["--json", "-o", actual + ".safetensors"], check=True, stdout=subprocess.PIPE, text=True).stdout
            if cache := json.loads(told).get("step_cache"):
                shortened[side] = f"{cache['shortened']} of {cache['passes']} looks cut short"
            z = load_file(actual + ".safetensors")["video"].double()
            error[side] = (((y - z).norm() / y.norm()).item(), -10 * math.log10(max(((y - z) / 2).square().mean().item(), 1e-20)))
    if not args.keep:
        shutil.rmtree(args.folder)
    part = f", {args.layers} of its blocks" if args.layers else ""
    part += f", from a prompt through {text} layers of text encoder" if text else ""
    print(f"{args.form}{part}, {'warm' if args.warm else 'cold'} files, {args.frames} frames of {args.size}x{args.size}, {args.steps} steps with guidance, {args.threads} threads, "
          f"{args.repeat} runs each, medians; {time.strftime('%F')}")
    print(f"{'':12} {'wall s':>8} {'ratio':>6} {'peak MiB':>9} {'ratio':>6} {'rel. L2':>9} {'PSNR':>6}")
    middle = {name: [statistics.median(values) for values in zip(*each)] for name, each in runs.items()}
    for name, (wall, peak) in middle.items():
        line = f"{name:12} {wall:8.1f} {middle['diffusers'][0] / wall:6.2f} {peak / 2**20:9.0f} {peak / middle['diffusers'][1]:6.2f}"
        print(line + (f" {error[name][0]:9.1e} {error[name][1]:6.1f} {shortened.get(name, '')}".rstrip() if name in error else ""))


if __name__ == "__main__":
    main()
