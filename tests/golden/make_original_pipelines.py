#!/usr/bin/env python3
"""Whole generations as the original repositories sample them, with the weights of tests/golden/pipelines.

    make_original_pipelines.py --wan DIR --predict2 DIR --predict25 DIR [NAME…]

DIR are checkouts of Wan-Video/Wan2.1 (9737cba), nvidia-cosmos/cosmos-predict2 (661da47) and nvidia-cosmos/cosmos-predict2.5 (50369b8);
einops is needed. The solvers are the repositories' own classes (cosmos-predict1's is diffusers' EDMEulerScheduler), and the loops around
them are written down here once more: preconditioning, known frames, guidance, clean pass, experts. The networks and VAEs are diffusers',
whose equality with the original networks other cases show, in float32. A case is the latents that the loop ends with; its model, noise,
embeddings and pictures are those of the case it is named after.
"""

import argparse
import importlib
import importlib.util
import json
import math
import pathlib
import sys

import torch
from diffusers_cases.common import RUN, rel
from make_pipeline_variants import PIPELINES, built, parts_of
from PIL import Image
from safetensors.torch import load_file, save_file

import diffusers
import transformers

torch.set_grad_enabled(False)
torch.set_num_threads(1)
CASES = {}


def case(name, base, steps, guidance, *more, windows=1, **about):
    """One more case over the files of `base`; what it decorates gets a Given and the numbers, and returns the final latents."""

    def keep(make):
        CASES[name] = (make, base, steps, guidance, more, about)
        return make

    return keep


def solver(path, name):
    """A class of a file that imports nothing of its repository."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


class Given:
    """What a case of diffusers' pipelines is made from."""

    def __init__(self, base, roots):
        self.folder, self.roots = PIPELINES / base, roots
        self.about = json.loads((self.folder / "case.json").read_text())
        self.model = self.about.get("model", "model")
        owner = pathlib.PurePath(self.model).parts[1] if self.model.startswith("..") else base
        model = PIPELINES / owner / "model"
        parts, extra = parts_of(model)
        if (model / "image_processor").exists():
            parts["image_processor"] = transformers.CLIPImageProcessor.from_pretrained(model / "image_processor")
        cls = getattr(diffusers, json.loads((model / "model_index.json").read_text())["_class_name"])
        self.pipe = built(cls, {"tokenizer": None, "text_encoder": None, **parts}, extra)
        args = self.about["args"]
        self.args = {key: value for key, value in zip(args[::2], args[1::2])}
        tensors = load_file(self.folder / self.args["--noise"])
        self.noise, self.condition_noise = tensors["noise"], tensors.get("condition_noise")
        embeds = load_file(self.folder / self.args["--prompt-embeds"])
        self.text, self.negative = embeds["prompt_embeds"], embeds["negative_prompt_embeds"]
        self.fps = float(self.args.get("--fps", 0))
        self.width, self.height, self.frames = (int(self.args[key]) for key in ("-W", "-H", "--num-frames"))

    def picture(self, flag="-i"):
        """[1,3,1,H,W] in [-1,1]."""
        import numpy as np

        pixels = torch.from_numpy(np.array(Image.open(self.folder / self.args[flag]).convert("RGB")))
        return (pixels.permute(2, 0, 1).float() / 127.5 - 1)[None, :, None]

    def clip(self):
        return load_file(self.folder / self.args["--video"])["video"]

    def encode(self, clip):
        """Normalised latents, the posterior's mode."""
        config = self.pipe.vae.config
        latents = self.pipe.vae.encode(clip).latent_dist.mode()
        if not getattr(config, "latents_mean", None):
            return latents
        mean, std = (torch.tensor(config[key]).view(1, latents.shape[1], -1, 1, 1)[:, :, : latents.shape[2]]
                     for key in ("latents_mean", "latents_std"))  # Cosmos' own differ by latent frame
        return (latents - mean) / std

    def known(self, count):
        """The latents of the known frames at their places, and where they are: [1,C,t,h,w], [1,1,t,1,1]."""
        clip = self.clip() if "--video" in self.args else self.picture()
        if count:
            clip = clip[:, :, -count:]
        latents, where = torch.zeros_like(self.noise), torch.zeros(1, 1, self.noise.shape[2], 1, 1)
        encoded = self.encode(clip)
        latents[:, :, : encoded.shape[2]], where[:, :, : encoded.shape[2]] = encoded, 1
        return latents, where

    def cosmos(self, x, times, text, where=None, fps=None):
        more = {} if where is None else {"condition_mask": where.expand(-1, -1, -1, *x.shape[3:])}
        return self.pipe.transformer(hidden_states=x.float(), timestep=times.float(), encoder_hidden_states=text, fps=fps,
                                     padding_mask=torch.zeros(1, 1, self.height, self.width), return_dict=False, **more)[0]


# ------------------------------------------------------------------------------------ Cosmos Predict1
def predict1(given, steps, guidance):
    """model_t2w.py and model_v2w.py: known frames are put into the sample with a noise of 0.001, the same at each look."""
    scheduler = diffusers.EDMEulerScheduler(sigma_max=80, sigma_min=0.0002, sigma_data=0.5)
    data, augment = 0.5, 0.001
    scheduler.set_timesteps(steps)
    x = given.noise * scheduler.init_noise_sigma
    video = "--video" in given.args
    if video:
        latent, known = given.known(int(given.args["--condition-frames"]))
        latent = latent * data
        augmented = latent if given.condition_noise is None else latent + given.condition_noise[:1] * augment
        augmented = augmented / math.sqrt(augment**2 + data**2)
    for t in scheduler.timesteps:
        scheduler._init_step_index(t)
        sigma = float(scheduler.sigmas[scheduler.step_index])
        norm = math.sqrt(sigma**2 + data**2)
        here = torch.zeros(()) if not video or augment >= sigma else known
        if video:
            x = here * (augmented * norm) + (1 - here) * x
        scaled = scheduler.scale_model_input(x, timestep=t)
        mask = known if video else None
        c, u = (given.cosmos(scaled, t.reshape(1), text, mask, given.fps) for text in (given.text, given.negative))
        out = c + guidance * (c - u)
        if video:  # the output that stands for the known latents
            out = here * ((latent - x * data**2 / norm**2) / (sigma * data / norm)) + (1 - here) * out
        x = scheduler.step(out, t, x).prev_sample
    return x


@case("original_predict1_text2world", "predict1_text2world", 5, 3.0)
@case("original_predict1_video2world", "predict1_video2world_noise", 5, 2.0)
def _(given, steps, guidance):
    return predict1(given, steps, guidance)


# ------------------------------------------------------------------------------------ Cosmos Predict2
@case("original_predict2_text2image", "predict2_text2image_unguided", 5, 2.0)
@case("original_predict2_image2world", "predict2_image2world_unguided", 5, 2.0)
@case("original_predict2_video2world", "predict2_video2world", 4, 3.0)
def predict2(given, steps, guidance):
    """text2image.py and video2world.py: Adams-Bashforth of second order in float64, and one clean look at the end."""
    sys.path.insert(0, str(given.roots.predict2))
    make = importlib.import_module("cosmos_predict2.schedulers.rectified_flow_scheduler").RectifiedFlowAB2Scheduler
    scheduler = make(sigma_min=0.002, sigma_max=80.0, order=7.0, t_scaling_factor=1.0)
    scheduler.set_timesteps(steps)
    video = given.pipe.transformer.config.in_channels > given.noise.shape[1]
    frames, known = (given.known(int(given.args.get("--condition-frames", 1))) if video
                     else (torch.zeros_like(given.noise), torch.zeros(1, 1, given.noise.shape[2], 1, 1)))

    def clean(x, sigma):
        t = sigma / (sigma + 1)
        shown = known * frames + (1 - known) * (x * (1 - t))
        times = known * (0.0001 / 1.0001) + (1 - known) * t if video else torch.full((1,), t)
        c, u = (known * frames + (1 - known) * ((1 - t) * x - t * given.cosmos(shown, times, text, known if video else None))
                for text in (given.text, given.negative))
        return c + guidance * (c - u)

    x, last = given.noise * 80, None
    for i in range(steps):
        x, last = scheduler.step(x0_pred=clean(x, float(scheduler.sigmas[i])), i=i, sample=x, x0_prev=last)
    return clean(x, float(scheduler.sigmas[-1]))


# ------------------------------------------------------------------------------------ Cosmos Predict2.5
def predict25(given, steps, guidance, karras, conditional_time):
    """video2world_model_rectified_flow.py; `conditional_time` as the network is given times, None: that of the step."""
    path = given.roots.predict25 / "cosmos_predict2/_src/predict2/models/fm_solvers_unipc.py"
    scheduler = solver(path, "FlowUniPCMultistepScheduler")(num_train_timesteps=1000, shift=1, use_dynamic_shifting=False)
    scheduler.set_timesteps(steps, shift=5.0, use_kerras_sigma=karras)
    seen = "-i" in given.args or "--video" in given.args
    frames, known = (given.known(int(given.args.get("--condition-frames", 1))) if seen
                     else (torch.zeros_like(given.noise), torch.zeros(1, 1, given.noise.shape[2], 1, 1)))
    noise = x = given.noise
    for t in scheduler.timesteps:
        times = torch.full_like(known, float(t))
        if conditional_time is not None:
            times = known * conditional_time + (1 - known) * times
        shown = known * frames + (1 - known) * x
        c, u = (known * (noise - frames) + (1 - known) * given.cosmos(shown, times * 0.001, text, known)
                for text in (given.text, given.negative))
        x = scheduler.step((c + guidance * (c - u)), t, x, return_dict=False)[0]
    return x


@case("original_predict25_text2world", "predict25_text2world_unguided", 4, 2.0)
@case("original_predict25_image2world", "predict25_image2world", 5, 2.0)
@case("original_predict25_video2world", "predict25_video2world", 4, 3.0)
def _(given, steps, guidance):
    return predict25(given, steps, guidance, karras=True, conditional_time=0.1)


@case("original_predict25_video2world_pretrained", "predict25_video2world", 5, 3.0, "--preset", "Cosmos-Predict2.5/pre-trained")
def _(given, steps, guidance):
    return predict25(given, steps, guidance, karras=False, conditional_time=None)


@case("original_predict25_distilled", "predict25_video2world", 4, 0.0, "--preset", "Cosmos-Predict2.5-2B-Distilled")
def predict25_distilled(given, steps, guidance):
    """cosmos-transfer2.5 (2ff49d0), cosmos2_interactive_model.py: each clean look goes back with the first noise by an angle."""
    frames, known = given.known(int(given.args["--condition-frames"]))
    angles = [math.pi / 2, math.atan(15), math.atan(5), math.atan(5 / 3)][:steps] + [0]
    noise = x = given.noise.double()
    for angle, following in zip(angles, angles[1:]):
        share = 1 / (math.cos(angle) + math.sin(angle))  # c_in and c_skip
        times = known * (1e-4 / (1 + 1e-4)) + (1 - known) * math.sin(angle) * share
        shown = known * frames + (1 - known) * (x * share).float()
        out = given.cosmos(shown, times, given.text, known)
        clean = share * x - math.sin(angle) * share * out
        x = known * frames + (1 - known) * clean
        if following > 0:
            x = math.cos(following) * x + math.sin(following) * noise
    return x


# ------------------------------------------------------------------------------------ Wan
def wan(given, steps, guidance, shift, second=None):
    """text2video.py, image2video.py, first_last_frame2video.py, textimage2video.py."""
    make = solver(given.roots.wan / "wan/utils/fm_solvers_unipc.py", "FlowUniPCMultistepScheduler")
    scheduler = make(num_train_timesteps=1000, shift=1, use_dynamic_shifting=False)
    scheduler.set_timesteps(steps, shift=shift)
    pipe, x, more, fixed = given.pipe, given.noise, {}, None
    expands = getattr(pipe.config, "expand_timesteps", False)
    grid = x.shape[2:]
    if "-i" in given.args and expands:  # the first frame stands in the sample, and its tokens at time zero
        fixed = torch.zeros(1, 1, *grid)
        fixed[:, :, 0] = 1
        latent = given.encode(given.picture())
        x = fixed * latent + (1 - fixed) * x
    elif "-i" in given.args:
        clip = torch.zeros(1, 3, given.frames, given.height, given.width)
        clip[:, :, :1] = given.picture()
        seen = torch.zeros(1, given.frames, *grid[1:])
        seen[:, 0] = 1
        if "--last-image" in given.args:
            clip[:, :, -1:] = given.picture("--last-image")
            seen[:, -1] = 1
        seen = torch.cat([seen[:, :1].repeat_interleave(4, 1), seen[:, 1:]], 1).view(1, -1, 4, *grid[1:]).transpose(1, 2)
        more["y"] = torch.cat([seen, given.encode(clip)], 1)
        if getattr(pipe, "image_encoder", None) is not None:
            pictures = [Image.open(given.folder / given.args[f]) for f in ("-i", "--last-image") if f in given.args]
            more["image"] = pipe.encode_image(pictures, "cpu")
    # The original network fills up every text with zeros.
    texts = [torch.nn.functional.pad(text, (0, 0, 0, 512 - text.shape[1])) for text in (given.text, given.negative)]
    boundary = (pipe.config.boundary_ratio or -1) * 1000 if "boundary_ratio" in pipe.config else -1

    for t in scheduler.timesteps:
        high = second is None or t >= boundary
        net, scale = (pipe.transformer, guidance) if high else (pipe.transformer_2, second)
        times = t.reshape(1)
        if expands:
            times = ((1 - (fixed if fixed is not None else torch.zeros(1, 1, *grid)))[0, 0, :, ::2, ::2] * t).flatten()[None]
        shown = torch.cat([x, more["y"]], 1) if "y" in more else x
        c, u = (net(hidden_states=shown, timestep=times, encoder_hidden_states=text, encoder_hidden_states_image=more.get("image"),
                    return_dict=False)[0] for text in texts)
        x = scheduler.step(u + scale * (c - u), t, x, return_dict=False)[0]
        if fixed is not None:
            x = fixed * latent + (1 - fixed) * x
    return x


@case("original_wan21_text2video", "wan21_text2video_unguided", 5, 4.0, "--flow-shift", "8.0")
@case("original_wan21_image2video", "wan21_image2video_clip", 5, 3.0, "--flow-shift", "8.0")
@case("original_wan21_first_last", "wan21_first_last", 5, 3.0, "--flow-shift", "8.0")
@case("original_wan22_5b_text2video", "wan22_5b_text2video", 5, 4.0, "--flow-shift", "8.0")
@case("original_wan22_5b_image2video", "wan22_5b_image2video_unguided", 5, 3.0, "--flow-shift", "8.0")
def _(given, steps, guidance):
    return wan(given, steps, guidance, 8.0)


@case("original_wan22_text2video_two_experts", "wan22_text2video_two_transformers", 5, 4.0, "--flow-shift", "8.0", "--guidance-scale-2", "3.0")
@case("original_wan22_image2video_two_experts", "wan22_image2video_two_scales", 5, 3.5, "--flow-shift", "8.0", "--guidance-scale-2", "3.0")
def _(given, steps, guidance):
    return wan(given, steps, guidance, 8.0, second=3.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for root in ("wan", "predict2", "predict25"):
        parser.add_argument("--" + root, type=pathlib.Path, required=True)
    parser.add_argument("names", nargs="*")
    roots = parser.parse_args()
    for name, (make, base, steps, guidance, more, _) in CASES.items():
        if roots.names and not any(name.startswith(wanted) for wanted in roots.names):
            continue
        given = Given(base, roots)
        latents = make(given, steps, guidance).float()
        other, given.text = given.text, given.text + 0.5 * torch.randn(given.text.shape, generator=torch.Generator().manual_seed(1))
        moved = rel(make(given, steps, guidance).float(), latents)
        given.text = other
        assert torch.isfinite(latents).all() and moved > 1e-2, f"{name}: the prompt moves the latents by {moved:.1e} only"
        # The base's line with other numbers, its files named from here.
        line = dict(given.args) | {"--steps": str(steps), "--guidance-scale": str(guidance)} | dict(zip(more[::2], more[1::2]))
        for flag in ("--noise", "--prompt-embeds", "--video", "-i", "--last-image"):
            if flag in line:
                line[flag] = f"../{base}/{line[flag]}"
        line["--compat"] = "original"
        order = [word for pair in line.items() for word in pair]
        folder = PIPELINES / name
        folder.mkdir(exist_ok=True)
        if type(given.pipe) is diffusers.Cosmos2TextToImagePipeline:  # a picture's latents are written without a time axis
            latents = latents.squeeze(2)
        save_file({"latents": latents.contiguous()}, folder / "expected.safetensors")
        about = {"command": "generate", "args": order, "tolerance": {"max_rel_l2": 2e-3}, "prompt_moves": round(moved, 3),
                 "model": given.model if given.model.startswith("..") else f"../{base}/model"}
        (folder / "case.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        print(f"{name}: the prompt moves the latents by {moved:.2f}; standard deviation {float(latents.std()):.2f}")


if __name__ == "__main__":
    main()
