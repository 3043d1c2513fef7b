#!/usr/bin/env python3
"""More generations with the parts of the cases in tests/golden/pipelines: other conditions, with and without guidance.

    make_pipeline_variants.py [NAME…]

The reference is diffusers 0.42.1 on the CPU in float32. A case whose model is another's names it in case.json
(`"model": "../predict2_video2world/model"`); one that differs in a part links to the others' folders and holds that part.
The frames are few and small: a case takes some hundred kilobytes.
"""

import importlib
import json
import os
import pathlib
import sys

import torch
from diffusers_cases import networks
from diffusers_cases.common import RUN, Plan, rel
from diffusers_cases.pipelines import Harmless, picture, pictures
from safetensors.torch import load_file, save_file

import diffusers
import transformers

PIPELINES = pathlib.Path(__file__).parent / "pipelines"
PARTS = ("text_encoder", "tokenizer", "transformer", "transformer_2", "vae", "scheduler", "controlnet", "image_encoder")
FLAGS = {"width": "-W", "height": "-H", "num_frames": "--num-frames", "num_inference_steps": "--steps",
         "guidance_scale": "--guidance-scale", "fps": "--fps", "guidance_scale_2": "--guidance-scale-2"}


def parts_of(folder):
    index = json.loads((folder / "model_index.json").read_text())
    parts = {}
    for name in PARTS:
        library, cls = index.get(name) or (None, None)
        if cls:
            parts[name] = getattr({"diffusers": diffusers, "transformers": transformers}[library], cls).from_pretrained(
                folder / name)
    return parts, {k: v for k, v in index.items() if k in ("expand_timesteps", "boundary_ratio")}


def built(cls, parts, extra):
    if cls.__name__.startswith("Cosmos"):
        parts = {**parts, "safety_checker": Harmless()}
    return cls(**parts, **extra)


def composed(name, cls, base, own=None, extra=None, leave_out=()):
    """The folder of a model that takes its parts from `base` but for those in `own`; the pipeline."""
    folder = PIPELINES / name / "model"
    folder.mkdir(parents=True, exist_ok=True)
    source = PIPELINES / base / "model"
    parts, more = parts_of(source)
    parts = {k: v for k, v in parts.items() if k not in leave_out}
    for part in parts:
        if part not in (own or {}) and not (folder / part).exists():
            os.symlink(os.path.relpath(source / part, folder), folder / part)
    for part, module in (own or {}).items():
        module.save_pretrained(folder / part)
        parts[part] = module
    extra = more if extra is None else extra
    index = {"_class_name": cls.__name__, "_diffusers_version": diffusers.__version__, **extra}
    for part, module in parts.items():
        index[part] = ["transformers" if part in ("text_encoder", "tokenizer", "image_encoder") else "diffusers",
                       type(module).__name__.removesuffix("Fast")]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    return built(cls, parts, extra), None


def borrowed(name, base):
    folder = PIPELINES / base / "model"
    parts, extra = parts_of(folder)
    cls = getattr(diffusers, json.loads((folder / "model_index.json").read_text())["_class_name"])
    return built(cls, parts, extra), f"../{base}/model"


class StepCache:
    """diffusers' first-block cache over a pipeline's network, counting its looks. It does not know Cosmos' blocks, which are told to it here,
    and Cosmos' pipelines do not say which look is the prompt's: they take turns."""

    def __init__(self, pipe, threshold, guided):
        from diffusers.hooks import FirstBlockCacheConfig, HookRegistry, apply_first_block_cache, first_block_cache
        from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
        from diffusers.hooks.hooks import CacheContext, _set_cache_context

        self.passes, self.shortened, self.changes, network = 0, 0, [], pipe.transformer
        decide = first_block_cache.FBCHeadBlockHook._should_compute_remaining_blocks

        def counted(hook, change):
            full, known = decide(hook, change), hook.state_manager.get_state().head_block_residual
            self.passes, self.shortened = self.passes + 1, self.shortened + (not full)
            if known is not None:
                self.changes.append(round(((change - known).abs().mean() / known.abs().mean()).item(), 4))
            return full

        first_block_cache.FBCHeadBlockHook._should_compute_remaining_blocks = counted
        config, self.reset = FirstBlockCacheConfig(threshold=threshold), lambda: None
        if hasattr(network, "enable_cache"):
            return network.enable_cache(config)
        block = type(network.transformer_blocks[0])
        TransformerBlockRegistry.register(block, TransformerBlockMetadata(return_hidden_states_index=0))
        apply_first_block_cache(network, config)
        registry, forward = HookRegistry.check_if_exists_or_initialize(network), network.forward

        def in_turn(*args, **kwargs):
            _set_cache_context(network, CacheContext("uncond" if guided and self.passes % 2 else "cond"))
            return forward(*args, **kwargs)

        network.forward, self.reset = in_turn, lambda: registry.reset_stateful_hooks(recurse=True)

    def start(self):
        self.reset()
        self.passes, self.shortened, self.changes = 0, 0, []


def run(name, pipe_and_model, plan, call, *, embed_dim=None, media=None, args=(), draws=None, last=None, controls=None, windows=1,
        step_cache=None, note=""):
    pipe, model = pipe_and_model
    cache = StepCache(pipe, step_cache, call["guidance_scale"] > 1) if step_cache else None
    args = (*args, "--step-cache", str(step_cache)) if step_cache else args
    pipe.set_progress_bar_config(disable=True)
    folder = PIPELINES / name
    folder.mkdir(parents=True, exist_ok=True)
    channels = pipe.vae.config.z_dim if hasattr(pipe.vae.config, "z_dim") else pipe.vae.config.latent_channels
    scale = 8 if type(pipe.vae).__name__ == "AutoencoderKLCosmos" or not pipe.vae.config.is_residual else 16
    stride = getattr(pipe, "vae_scale_factor_temporal", 4)
    frames = (call["num_frames"] - 1) // stride + 1
    noise = plan.randn(1, channels, frames, call["height"] // scale, call["width"] // scale)
    embeds = {"prompt_embeds": plan.randn(1, 7, embed_dim), "negative_prompt_embeds": plan.randn(1, 7, embed_dim)}
    tensors = {"noise": noise.expand(windows, -1, -1, -1, -1).contiguous()}
    if draws:
        tensors["condition_noise"] = 300 * plan.randn(draws, *noise.shape[1:])  # so large that it shows
    save_file(tensors, folder / "noise.safetensors")
    save_file(embeds, folder / "embeds.safetensors")
    if windows > 1:
        args = (*args, "--window", str(call["num_frames"]))
    line = [a for k, v in call.items() if windows == 1 or k != "num_frames" for a in (FLAGS[k], str(v))] + ["--noise", "noise.safetensors", "--prompt-embeds",
                                                                        "embeds.safetensors"]
    given = {}
    if media == "image":
        given["image"] = picture(plan, folder / "image.png", call["width"], call["height"])
        line += ["-i", "image.png"]
    elif media:
        given["video"], tensor = pictures(plan, media, call["width"], call["height"])
        save_file({"video": tensor}, folder / "video.safetensors")
        line += ["--video", "video.safetensors", "--condition-frames", str(media)]
    if last:
        given["last_image"] = picture(plan, folder / "last.png", call["width"], call["height"])
        line += ["--last-image", "last.png"]
    if controls:
        given["controls"], tensor = pictures(plan, controls, call["width"], call["height"])
        save_file({"video": tensor}, folder / "control.safetensors")
        line += ["--control", "control.safetensors"]
    import inspect

    known = inspect.signature(pipe.__call__).parameters
    if "num_frames_per_chunk" in known:
        call = {**call, "num_frames_per_chunk": call["num_frames"], "num_frames": controls}
    call = {k: v for k, v in call.items() if k in known}
    module = importlib.import_module(type(pipe).__module__)
    real_draw, real_decode = getattr(module, "randn_tensor", None), pipe.vae.decode
    if real_draw:
        stock = list(tensors.get("condition_noise", ()))
        module.randn_tensor = lambda shape, **_: stock.pop(0)[None] if draws else torch.zeros(shape)
    pixels = []
    pipe.vae.decode = lambda *a, **k: pixels.append(real_decode(*a, **k)) or pixels[-1]

    def latents(**change):
        if cache:
            cache.start()
        if real_draw and draws:
            stock[:] = list(tensors["condition_noise"])
        return pipe(latents=noise.clone(), return_dict=False, **{**call, **embeds, **given, "output_type": "latent", **change})[0]

    try:
        final = latents()
        latents(output_type="np")
        counts = {"passes": cache.passes, "shortened": cache.shortened} if cache else {}
        if cache:
            print(f"{name}: {counts}, changes {cache.changes}")
        decoded = pixels[-windows:]
        other = {k: v + 0.5 * torch.randn(v.shape, generator=plan.gen) for k, v in embeds.items()}
        moved = rel(latents(**other), final)
        assert moved > 1e-2, f"{name}: the prompt moves the latents by {moved:.1e} only"
    finally:
        del pipe.vae.decode
        if real_draw:
            module.randn_tensor = real_draw
    video = torch.cat([p[0][:, :, 1 if i else 0:] for i, p in enumerate(decoded)], 2)  # windows share one frame
    expected = {"video": video[:, :, :controls].contiguous()} if windows > 1 else {"latents": final, "video": video}
    save_file({k: v.float().contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    about = {"command": "generate", "args": [*line, *args, *RUN], "tolerance": {"max_rel_l2": 2e-3}, "prompt_moves": round(moved, 3), **counts}
    if note:
        about["note"] = note
    if model:
        about["model"] = model
    (folder / "case.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{name}: the prompt moves the latents by {moved:.2f}")


def sizes(**more):
    from types import SimpleNamespace

    return SimpleNamespace(**{**dict(heads=2, head_dim=16, layers=2, text_dim=16, text_len=7, channels=4), **more})


def text_dim(base):
    config = json.loads((PIPELINES / base / "model/transformer/config.json").read_text())
    return config.get("crossattn_proj_in_channels") if config.get("use_crossattn_projection") else config.get(
        "text_embed_dim") or config["text_dim"]


def call(frames, guidance, width=32, height=32, steps=4, **more):
    return dict(width=width, height=height, num_frames=frames, num_inference_steps=steps, guidance_scale=guidance, **more)


CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


def simple(name, base, numbers, **more):
    CASES[name] = lambda plan: run(name, borrowed(name, base), plan, numbers, embed_dim=text_dim(base), **more)


simple("predict1_image2world", "predict1_video2world", call(9, 3.0, fps=24), media="image")
simple("predict1_video2world_unguided", "predict1_video2world", call(17, 1.0, fps=24), media=9)
simple("predict1_video2world_noise", "predict1_video2world", call(17, 3.0, fps=24), media=9, draws=8,
       note="the noise added to known frames, once a look, is given, and large")
simple("predict2_image2world_unguided", "predict2_video2world", call(5, 1.0, fps=16), media="image")
simple("predict2_text2image_unguided", "predict2_text2image_prompt", call(1, 1.0))
simple("predict25_image2world", "predict25_video2world", call(5, 3.0), media="image")
simple("predict25_text2world_unguided", "predict25_video2world", call(5, 1.0))
simple("predict25_video2world_unguided", "predict25_video2world", call(9, 1.0), media=5)
simple("wan21_text2video_unguided", "wan21_text2video_prompt", call(5, 1.0))
simple("wan21_text2video_step_cache", "wan21_text2video_prompt", call(5, 4.0, steps=9), step_cache=0.54)
simple("predict2_text2image_step_cache", "predict2_text2image_prompt", call(1, 3.0, steps=9), step_cache=0.3)
simple("wan22_image2video_unguided", "wan22_image2video", call(5, 1.0, steps=5), media="image")
simple("wan22_image2video_two_scales", "wan22_image2video", call(5, 3.0, guidance_scale_2=2.0), media="image")
simple("wan22_5b_image2video_unguided", "wan22_5b_image2video", call(5, 1.0, width=64), media="image")


@case
def predict1_text2world(plan):
    base = "predict1_video2world"
    like = json.loads((PIPELINES / base / "model/transformer/config.json").read_text())
    net = diffusers.CosmosTransformer3DModel(**{k: v for k, v in like.items() if not k.startswith("_")} | {
        "in_channels": like["in_channels"] - 1})
    networks.randomise(net, plan)
    pipe = composed("predict1_text2world", diffusers.CosmosTextToWorldPipeline, base, {"transformer": net})
    run("predict1_text2world", pipe, plan, call(9, 3.0, fps=24), embed_dim=text_dim(base))
    run("predict1_text2world_unguided", (pipe[0], "../predict1_text2world/model"), plan, call(9, 1.0, fps=30), embed_dim=text_dim(base))


@case
def wan21_text2video_euler(plan):
    base = "wan21_text2video_prompt"
    pipe = composed("wan21_text2video_euler", diffusers.WanPipeline, base,
                    {"scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0)})
    run("wan21_text2video_euler", pipe, plan, call(5, 4.0), embed_dim=text_dim(base))


@case
def wan21_image2video(plan):
    base = "wan22_image2video"
    pipe = composed("wan21_image2video", diffusers.WanImageToVideoPipeline, base, {}, extra={}, leave_out=("transformer_2",))
    run("wan21_image2video", pipe, plan, call(5, 4.0), embed_dim=text_dim(base), media="image")
    run("wan21_image2video_last", (pipe[0], "../wan21_image2video/model"), plan, call(9, 4.0), embed_dim=text_dim(base), media="image",
        last=True)


@case
def wan22_text2video_two_transformers(plan):
    base = "wan21_text2video_prompt"
    like = json.loads((PIPELINES / base / "model/transformer/config.json").read_text())
    net = diffusers.WanTransformer3DModel(**{k: v for k, v in like.items() if not k.startswith("_")})
    networks.randomise(net, plan)
    pipe = composed("wan22_text2video_two_transformers", diffusers.WanPipeline, base, {"transformer_2": net},
                    extra={"boundary_ratio": 0.875})
    run("wan22_text2video_two_transformers", pipe, plan, call(5, 4.0, guidance_scale_2=3.0), embed_dim=text_dim(base))


@case
def wan22_5b_text2video(plan):
    base = "wan22_5b_image2video"
    pipe = composed("wan22_5b_text2video", diffusers.WanPipeline, base, {})
    run("wan22_5b_text2video", pipe, plan, call(5, 4.0, width=64), embed_dim=text_dim(base))


@case
def transfer25(plan):
    base = "predict25_video2world"
    like = json.loads((PIPELINES / base / "model/transformer/config.json").read_text())
    like = {k: v for k, v in like.items() if not k.startswith("_")} | {"num_attention_heads": 1, "max_size": [12, 8, 12]}
    net = diffusers.CosmosTransformer3DModel(**like | {"num_layers": 2, "controlnet_block_every_n": 1, "img_context_dim_in": 6,
                                                       "img_context_dim_out": 24, "img_context_num_tokens": 3, "mlp_ratio": 2.0})
    width = like["num_attention_heads"] * like["attention_head_dim"]
    like["mlp_ratio"] = 2.0
    shared = {k: like[k] for k in ("attention_head_dim", "num_attention_heads", "adaln_lora_dim", "text_embed_dim", "patch_size",
                                   "rope_scale", "max_size", "mlp_ratio", "use_crossattn_projection",
                                   "crossattn_proj_in_channels", "encoder_hidden_states_channels", "extra_pos_embed_type")}
    control = diffusers.CosmosControlNetModel(n_controlnet_blocks=2, in_channels=12, latent_channels=like["in_channels"] + 1,
                                              model_channels=width, img_context_dim_in=6, img_context_dim_out=24, **shared)
    networks.randomise(net, plan)
    networks.randomise(control, plan)
    pipe = composed("transfer25", diffusers.Cosmos2_5_TransferPipeline, base, {"transformer": net, "controlnet": control})
    run("transfer25", pipe, plan, call(9, 3.0), embed_dim=text_dim(base), controls=9)
    run("transfer25_two_windows_unguided", (pipe[0], "../transfer25/model"), plan, call(5, 1.0), embed_dim=text_dim(base), controls=8,
        windows=2, note="two windows that share one frame")


class Branches(torch.nn.Module):
    """Two control branches, whose residuals are added up by weight, as the original repository adds those of its branches; with weights
    for each token where there are masks. The second control is not the pipeline's business: its latents are given."""

    def __init__(self, first, second, latents, weights):
        super().__init__()
        self.config, self.dtype, self.device, self.first, self.second = first.config, first.dtype, first.device, first, second
        self.latents, self.weights = latents, weights

    def forward(self, controls_latents, conditioning_scale, return_dict=False, **more):
        both = [branch(controls_latents=latents, conditioning_scale=1.0, return_dict=False, **more)[0]
                for branch, latents in ((self.first, controls_latents), (self.second, self.latents))]
        return ([a * self.weights[0] + b * self.weights[1] for a, b in zip(*both)],)


def token_weights(masks, weights, frames):
    """masks [1,1,T,H,W] over pixels (None: everywhere) → for each control [1,N,1], at most one in all."""
    from torch.nn.functional import interpolate

    like = next(mask for mask in masks if mask is not None)
    maps = []
    for mask, weight in zip(masks, weights):
        mask = weight * (torch.ones_like(like) if mask is None else mask)
        size = (mask.shape[3] // 16, mask.shape[4] // 16)
        maps.append(torch.cat([interpolate(mask[:, :, :1], (1, *size), mode="trilinear"),
                               interpolate(mask[:, :, 1:], (frames - 1, *size), mode="trilinear")], 2).flatten(2).transpose(1, 2))
    return [each / sum(maps).clamp_min(1) for each in maps]


@case
def transfer25_two_controls(plan):
    base, name = "transfer25", "transfer25_two_controls"
    parts, _ = parts_of(PIPELINES / base / "model")
    like = {k: v for k, v in parts["controlnet"].config.items() if k != "_name_or_path"}
    second = diffusers.CosmosControlNetModel.from_config(like)
    networks.randomise(second, plan)
    pipe, _ = composed(name, diffusers.Cosmos2_5_TransferPipeline, base)
    model = PIPELINES / name / "model"
    second.half().save_pretrained(model / "controlnet_depth")
    second = diffusers.CosmosControlNetModel.from_pretrained(model / "controlnet_depth", torch_dtype=torch.float32)
    (model / "controlnet").rename(model / "controlnet_edge")
    index = json.loads((model / "model_index.json").read_text())
    index["controlnet_edge"] = index["controlnet_depth"] = index.pop("controlnet")
    (model / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    depth = torch.rand(1, 3, 5, 16, 32, generator=plan.gen) * 2 - 1
    mask = torch.rand(1, 1, 5, 16, 32, generator=plan.gen)
    mean, std = (torch.tensor(pipe.vae.config[k]).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    latents = (pipe.vae.encode(depth).latent_dist.mode() - mean) / std
    pipe.controlnet = Branches(parts["controlnet"], second, latents, token_weights([None, mask], (0.7, 0.6), 2))
    run(name, (pipe, None), plan, call(5, 1.0, height=16), embed_dim=text_dim(base), controls=5,
        args=("--control-weight", "0.7", "--control-weight", "0.6"))
    folder = PIPELINES / name
    control = load_file(folder / "control.safetensors")["video"]
    (folder / "control.safetensors").unlink()
    save_file({"video": control}, folder / "edge.safetensors")
    save_file({"video": depth, "mask": mask}, folder / "depth.safetensors")
    about = json.loads((folder / "case.json").read_text())
    at = about["args"].index("--control")
    about["args"][at:at + 2] = ["--control", "edge=edge.safetensors", "--control", "depth=depth.safetensors", "--control-mask",
                                "depth=depth.safetensors"]
    (folder / "case.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    for name, make in CASES.items():
        if len(sys.argv) > 1 and not any(name.startswith(wanted) for wanted in sys.argv[1:]):
            continue
        plan = Plan(5)
        plan.start(name)
        make(plan)
