"""Writes a world's model folder from its checkpoints: python export.py pusht|doom [--out ../pusht].

Weights are the averaged ones, in float16; matrices have the eight digits of bfloat16. Also writes the
sample: a real first frame, the actions that followed it, and the real frames, from a held-out episode.
"""
import argparse
import json
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from dataset import Episodes, cache_dir, exported
from latents import Latents
from model import feature_width
from worlds import WORLDS

SCHEDULER = {"_class_name": "OrreryFlowScheduler", "num_inference_steps": 4, "shift": 3.0, "context_level": 0.1,
             "start_frames": 4, "prediction_type": "sample"}
INDEX = {"_class_name": "OrreryWorldPipeline", "vae": ["orrery", "OrreryTokenizer"],
         "transformer": ["orrery", "OrreryWorldTransformer"], "scheduler": ["orrery", "OrreryFlowScheduler"]}

ENCODING = {"pusht": ("type", "low", "high", "frequencies"), "doom": ("type", "count")}


def action_space(world):
    """The space as a person reads it, and `encoding`: what turns a row into features (ARCHITECTURE.md)."""
    a = WORLDS[world]["actions"]
    space = {"name": world, "type": a["type"], "width": len(a["names"]), "names": a["names"], "units": a["units"],
             "rate_hz": a["rate_hz"], "encoding": {k: a[k] for k in ENCODING[world]}}
    if world == "pusht":
        space.update(ranges=[[0.0, 512.0], [0.0, 512.0]], meaning="position that the pusher is pulled towards",
                     normalisation="u = 2 * (a - low) / (high - low) - 1",
                     pointer={"x": 0, "y": 1, "mode": "absolute"},
                     named={"up": [256, 64], "down": [256, 448], "left": [64, 256], "right": [448, 256],
                            "centre": [256, 256]},
                     pointer_keys={"ArrowUp": [0, -32], "ArrowDown": [0, 32], "ArrowLeft": [-32, 0],
                                   "ArrowRight": [32, 0]})
    else:
        space.update(ranges=[[0, a["count"] - 1]], values=a["values"], normalisation="one-hot",
                     named={"nothing": [0], "turn left": [1], "turn right": [2], "forward": [3], "move forward": [3]},
                     keys={"ArrowLeft": "turn left", "ArrowRight": "turn right", "ArrowUp": "forward",
                           "a": "turn left", "d": "turn right", "w": "forward"})
    return space


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_component(folder, config, state):
    write_json(folder / "config.json", config)
    # Matrices are rounded to bfloat16, in which float16 holds them exactly: processors with matrix tiles then take them as they are.
    rounded = {k: (v.bfloat16() if v.dim() > 1 else v).half().contiguous() for k, v in state.items()}
    save_file(rounded, folder / "diffusion_pytorch_model.safetensors")


def write_sample(world, folder, frames=64, skip=0):
    """The beginning of the held-out episode in which most happens, `frames` steps long."""
    data = Episodes(world, "test")
    firsts = [f for f, last in zip(data.first, data.last) if last - f > frames + skip]
    change = [np.abs(np.diff(data.frames[f : f + frames].astype(np.int16), axis=0)).mean() for f in firsts]
    f = firsts[int(np.argsort(change)[int(0.8 * len(change))])] + skip    # lively, not the extreme
    folder.mkdir(parents=True, exist_ok=True)
    clip = data.frames[f : f + frames + 1]
    Image.fromarray(clip[0]).save(folder / "first_frame.png")
    Image.fromarray(np.concatenate(list(clip[1:]), 1)).save(folder / "real_frames.png")
    imageio.mimwrite(folder / "real.mp4", list(clip[1:]), fps=round(WORLDS[world]["actions"]["rate_hz"]), codec="libx264",
                     macro_block_size=16, output_params=["-crf", "8"])
    np.save(folder / "actions.npy", data.actions[f : f + frames])
    write_json(folder / "sample.json", {"episode": int(data.episode[f]), "split": "test", "frames": frames,
                                        "real_frames": "64x64 each, side by side, the frame after each action; real.mp4 shows the same"})


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("world", choices=WORLDS)
    ap.add_argument("--out", type=Path)
    args = ap.parse_args()
    out = args.out or exported(args.world)
    kept = torch.load(cache_dir(args.world) / "dynamics.pt", weights_only=False)
    latents = Latents(args.world)
    tokenizer_steps = torch.load(cache_dir(args.world) / "tokenizer.pt", weights_only=False)["step"]
    window = WORLDS[args.world]["window"]
    layers = 1 + max(int(k.split(".")[1]) for k in kept["average"] if k.startswith("blocks."))
    write_json(out / "model_index.json", INDEX)
    write_component(out / "vae", {**WORLDS[args.world]["tokenizer"], "latents_mean": latents.mean.tolist(), "latents_std": latents.sd.tolist(),
                                  "trained_steps": tokenizer_steps},
                    latents.tokenizer.state_dict())
    features = feature_width(WORLDS[args.world]["actions"])
    write_component(out / "transformer", {**WORLDS[args.world]["transformer"], "layers": layers, "action_features": features,
                                          "window": window, "trained_steps": kept["step"]}, kept["average"])
    write_json(out / "scheduler" / "scheduler_config.json", {**SCHEDULER, "num_inference_steps": WORLDS[args.world]["inference_steps"]})
    write_json(out / "action_space.json", action_space(args.world))
    if not (out / "sample" / "actions.npy").exists():
        write_sample(args.world, out / "sample")
    print(f"{out}: {kept['step']} steps, window {window}")


if __name__ == "__main__":
    main()
