#!/usr/bin/env python3
"""Makes golden cases: tiny random models in the layouts users have, with inputs and the reference's outputs.

    make_diffusers_cases.py OUT [--only NAME…] [--seed N] [--list]
                  [--heads N] [--head-dim N] [--layers N] [--text-dim N] [--text-len N]
                  [--frames N] [--height N] [--width N] [--steps N] [--channels N]

The reference is diffusers 0.42.1 and transformers 5.23.0 (with torch, torchvision, safetensors, sentencepiece,
tokenizers, Pillow), on the CPU, in float32. Sizes are of the latent: --height and --width even, --frames odd if you
like. --only takes case names, or their beginnings (`transformer/`, `pipeline/wan`); --list prints the names.

A case is a folder:
    model/                what `--model` gets: a component folder, a tokenizer folder or a pipeline folder
    in.safetensors        the inputs by name (absent for tokenizer.encode and generate)
    expected.safetensors  what the reference returned
    case.json             {"call": "vae.encode", "args": […], "tolerance": {"max_rel_l2": 1e-4}, "note": …}, run as
                          orrery eval --model model --call … --inputs in.safetensors --output OUT.safetensors ARGS
                          or {"command": "generate", "args": […], …}, run in the case's folder as
                          orrery generate --model model ARGS -o OUT.safetensors
    noise.safetensors, embeds.safetensors, image.png, video.safetensors   what ARGS may name

No weight is zero and nothing cancels: a path that is dropped shows. Each case is checked, when it is made, to depend on
its inputs. The VAEs' output is scaled to stay inside [-1, 1], so that no clamp hides an error; the log-variance of the
KL ones is fixed at -30, so that a draw from the posterior is its mean.

What a pipeline takes as `latents` (--noise): the Predict1 and Predict2 pipelines multiply it by sigma_max (80), so
--noise is of unit variance; Predict2.5 and Wan use it as it is.
"""

import argparse
import pathlib
import sys

import torch
from diffusers_cases import networks, pipelines, text, vision  # noqa: F401  (each adds its cases)
from diffusers_cases.common import CASES, Plan, Sink


def make(out, plan, only=(), log=None):
    import logging
    import time

    for noisy in ("diffusers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True, warn_only=True)
    names = [n for n in CASES if not only or any(n.startswith(o) for o in only)]
    for name in names:
        begin = time.monotonic()
        for plan.again in range(4):  # a draw that fails its own checks is drawn again
            try:
                CASES[name](plan, plan.start(name), Sink(out))
                break
            except AssertionError as failed:
                if plan.again == 3:
                    raise
                print(f"drawn again: {failed}", file=log or sys.stderr)
        if log:
            print(f"{name}  {time.monotonic() - begin:.1f} s", file=log, flush=True)
    return names


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=pathlib.Path, nargs="?")
    p.add_argument("--only", nargs="+", default=())
    p.add_argument("--list", action="store_true")
    p.add_argument("--seed", type=int, default=20)
    for flag, value in dict(heads=2, head_dim=24, layers=2, text_dim=20, text_len=8, frames=3, height=4, width=6,
                            steps=4, channels=4).items():
        p.add_argument("--" + flag.replace("_", "-"), type=int, default=value)
    p.add_argument("--guidance", type=float, default=3.0)
    a = p.parse_args()
    if a.list:
        print(*CASES, sep="\n")
        return
    if a.out is None:
        p.error("OUT is missing")
    sizes = {k: getattr(a, k) for k in ("heads", "head_dim", "layers", "text_dim", "text_len", "frames", "height", "width",
                                        "steps", "channels", "guidance")}
    made = make(a.out, Plan(a.seed, **sizes), a.only, sys.stderr)
    print(f"{len(made)} cases in {a.out}")


if __name__ == "__main__":
    main()
