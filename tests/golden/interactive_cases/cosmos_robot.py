"""Robots in chunks of twelve actions and frame by frame, in small: the networks of cosmos_action.py through the solvers and the chunk loops of their
repositories (examples/video2world_action.py; predict2/action/inference/inference.py), with diffusers' Wan VAE."""

import math
import os
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.schedulers import KDPM2DiscreteScheduler  # noqa: F401  loaded before stand-ins hide what it needs
from safetensors.torch import save_file

from . import cosmos_action
from .common import drawn, package, stand_in, write_json

CHUNKS, ROWS, STEPS = 2, 12, 4
SCALE = torch.tensor([20.0] * 6 + [1.0])  # Bridge's rows to the network's


def small_vae(out: Path):
    """Encoder and decoder of normalised latents."""
    vae = AutoencoderKLWan.from_pretrained(out / "pipelines" / "causal_wan_text2video" / "model" / "vae", torch_dtype=torch.float32)
    mean, std = (torch.tensor(vae.config[k]).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    return (lambda x: (vae.encode(x).latent_dist.mode() - mean) / std), (lambda z: vae.decode(z * std + mean).sample)


def rollout(encode, decode, sample, picture, actions, noise):
    """picture uint8 [3,H,W] → the frames behind it, [1,3,CHUNKS·ROWS,H,W]. As the repositories do, a chunk's last frame is cut to 8 bits
    and begins the next; unlike in theirs, the frame that two chunks share is kept once and the last frame is kept too."""
    frames = []
    for rows, eps in zip(actions, noise):
        known = torch.zeros(eps[None].shape)
        known[:, :, :1] = encode(picture[None, :, None].float() / 127.5 - 1)
        video = decode(sample(known, (rows * SCALE)[None], eps[None]))
        picture = ((video[0, :, -1] / 2 + 0.5).clip(0, 1) * 255).to(torch.uint8)
        frames.append(video[:, :, 1:].clamp(-1, 1))
    return torch.cat(frames, 2)


def condition_mask(shape):
    mask = torch.zeros(1, 1, *shape[2:])
    mask[:, :, 0] = 1
    return mask


def write_model(out: Path, name: str, class_name: str, network: str, width: int, height: int, **more):
    folder = out / "worlds" / name
    write_json(folder / "model" / "model_index.json",
               {"_class_name": class_name, "sample_height": height, "sample_width": width, "num_inference_steps": STEPS, **more,
                "transformer": ["cosmos", "CosmosTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLWan"],
                "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]})
    write_json(folder / "model" / "scheduler" / "scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"})
    for link, place in (("transformer/model.safetensors", out / network / "model.safetensors"),
                        ("vae", out / "pipelines" / "causal_wan_text2video" / "model" / "vae")):
        link = folder / "model" / link
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        os.symlink(os.path.relpath(place, link.parent), link)
    return folder


def write_world(out: Path, name: str, class_name: str, network: str, width: int, height: int, codec, sample, seed: int, extra=None):
    folder = write_model(out, name, class_name, network, width, height)
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    actions = 0.05 * drawn((CHUNKS, ROWS, 7), seed + 1)
    actions[..., 6] = torch.rand((CHUNKS, ROWS), generator=generator)
    noise = drawn((CHUNKS, 4, 1 + ROWS // 4, height // 8, width // 8), seed + 2)
    video = rollout(*codec, sample, picture, actions, noise)
    other = rollout(*codec, sample, picture, -actions, noise)
    print(f"{name}: other actions move the video by {(other - video).norm() / video.norm():.2f}")
    save_file({"image": picture.permute(1, 2, 0)[None].contiguous(), "actions": actions.flatten(1), "noise": noise, "video": video,
               **(extra or {})}, folder / "rollout.safetensors")


def make_predict2(out: Path, source: Path):
    codec, network = small_vae(out), cosmos_action.predict2_network(source)
    for name in ("module", "schedulers", "functional"):
        package(f"cosmos_predict2.{name}", source / "cosmos_predict2" / name)
    from cosmos_predict2.module.denoiser_scaling import RectifiedFlowScaling
    from cosmos_predict2.schedulers.rectified_flow_scheduler import RectifiedFlowAB2Scheduler

    scaling = RectifiedFlowScaling(1.0, 1.0, True)

    def sample(known, rows, eps):
        mask = condition_mask(known.shape)

        def x0(x, sigma):
            skip, scale_out, scale_in, time = scaling(sigma=sigma.view(1, 1, 1, 1, 1))
            conditioned = scaling(sigma=torch.full((1, 1, 1, 1, 1), 0.0001))[3]
            times = (conditioned * mask[:, :, :, :1, :1] + time * (1 - mask[:, :, :, :1, :1])).flatten(1)
            told = network(x_B_C_T_H_W=known * mask + x * scale_in * (1 - mask), timesteps_B_T=times, action=rows,
                           crossattn_emb=torch.zeros(1, 512, cosmos_action.TEXT), condition_video_input_mask_B_C_T_H_W=mask,
                           padding_mask=torch.zeros(1, 1, 8 * x.shape[3], 8 * x.shape[4]))
            return known * mask + (skip * x + scale_out * told) * (1 - mask)

        scheduler = RectifiedFlowAB2Scheduler(sigma_min=0.002, sigma_max=80.0, order=7.0)
        scheduler.set_timesteps(STEPS)
        x, before = eps * 80.0, None
        for i in range(STEPS):
            x, before = scheduler.step(x0_pred=x0(x, scheduler.sigmas[i].float()), i=i, sample=x, x0_prev=before)
        return x0(x, scheduler.sigmas[-1].float())

    write_world(out, "cosmos_predict2_bridge", "Video2WorldActionConditionedPipeline", "transformer_cosmos_action", 16, 16, codec, sample, 61)


def make_predict25(out: Path, source: Path):
    codec, network = small_vae(out), cosmos_action.predict25_network(source)
    package("cosmos_transfer2._src.predict2.models", source / "cosmos_transfer2/_src/predict2/models")
    from cosmos_transfer2._src.predict2.models.fm_solvers_unipc import FlowUniPCMultistepScheduler

    text = drawn((1, 5, 40), 75)

    def sample(known, rows, eps):
        mask = condition_mask(known.shape)
        scheduler = FlowUniPCMultistepScheduler(num_train_timesteps=1000, shift=1, use_dynamic_shifting=False)
        scheduler.set_timesteps(STEPS, device="cpu", shift=5.0, use_kerras_sigma=False)
        x = eps
        for t in scheduler.timesteps:
            told = network(x_B_C_T_H_W=known * mask + x * (1 - mask), timesteps_B_T=t.view(1, 1), crossattn_emb=text, action=rows,
                           condition_video_input_mask_B_C_T_H_W=mask, padding_mask=torch.zeros(1, 1, 8 * x.shape[3], 8 * x.shape[4]))
            velocity = (eps - known) * mask + told * (1 - mask)
            x = scheduler.step(velocity[None], t, x[None], return_dict=False)[0][0]
        return x

    write_world(out, "cosmos_predict25_bridge", "ActionVideo2WorldInference", "transformer_cosmos_action_chunk", 16, 16, codec, sample, 71,
                {"prompt_embeds": text})


FRAMES = 5  # latent frames, the first of which is the picture's


def make_interactive(out: Path, source: Path):
    """The causal form: latent frame by latent frame over cached keys (generate_streaming_video of the repository's self-forcing model,
    with its scaling, its angles in bfloat16 and everything else in float32)."""
    encode, decode = small_vae(out)
    cosmos_action.predict25_surroundings(source)
    root = "cosmos_transfer2._src"
    for name in ("interactive", "interactive.networks", "predict2.modules"):
        package(f"{root}.{name}", source / f"{root}.{name}".replace(".", "/"))
    stand_in(f"{root}.predict2.modules.neighborhood_attn", NeighborhoodAttention=cosmos_action.Absent)
    stand_in(f"{root}.imaginaire.utils.graph", create_cuda_graph=None)
    from cosmos_transfer2._src.interactive.networks.dit_action_causal2p5 import ActionChunkCausalDITwithConditionalMask
    from cosmos_transfer2._src.predict2.modules.denoiser_scaling import RectifiedFlow_sCMWrapper
    from cosmos_transfer2._src.predict2.utils.kv_cache import AttentionOpWithKVCache, KVCacheConfig, VideoSeqPos

    network = cosmos_action.small_predict25(ActionChunkCausalDITwithConditionalMask)
    for block in network.blocks:
        plain = block.self_attn.attn_op
        block.self_attn.attn_op = AttentionOpWithKVCache(lambda q, k, v, plain=plain, **_: plain(q, k, v), FRAMES)
    scaling, text = RectifiedFlow_sCMWrapper(1.0), drawn((1, 5, 40), 85)
    angles = [math.pi / 2, math.atan(15), math.atan(5), math.atan(5 / 3)]
    generator = torch.Generator().manual_seed(81)
    picture = torch.randint(0, 256, (3, 16, 32), generator=generator, dtype=torch.uint8)
    actions = 0.05 * drawn((FRAMES - 1, 4, 7), 82)
    actions[..., 6] = torch.rand((FRAMES - 1, 4), generator=generator)
    noise = drawn((FRAMES - 1, 4, 2, 4), 83)
    places = VideoSeqPos(FRAMES, 1, 2)

    def clean(x, time, frame, rows, keep, text=text):
        mask = torch.full((1, 1, 1, 2, 4), float(frame == 0))
        time = time.view(1, 1, 1, 1, 1)
        time = torch.atan(torch.ones_like(time) * 0.0001) if frame == 0 else time
        skip, scale_out, scale_in, level = scaling(time)
        told = network.forward_seq(x_B_C_T_H_W=x * scale_in, video_pos=places.frame(frame), timesteps_B_T=level.flatten(1).float(),
                                   crossattn_emb=text, condition_video_input_mask_B_C_T_H_W=mask, padding_mask=torch.zeros(1, 1, 16, 32),
                                   data_type=cosmos_action.DataType.VIDEO, action=rows,
                                   kv_cache_cfg=KVCacheConfig(run_with_kv=True, store_kv=keep, current_idx=frame))
        return skip * x + scale_out * told

    def roll(actions, then=None):
        """`then`: (latent frame, embedding) of a prompt that is followed from that frame on; the keys of those before it stay."""
        latents = [encode(picture[None, :, None].float() / 127.5 - 1)]
        clean(latents[0], torch.zeros(()), 0, None, True)
        for frame in range(1, FRAMES):
            first, rows = noise[frame - 1][None, :, None], (actions[frame - 1] * SCALE)[None]
            words = then[1] if then and frame >= then[0] else text
            x = first
            for i, angle in enumerate(angles):
                x0 = clean(x, torch.tensor(angle, dtype=torch.bfloat16), frame, rows, False, words)
                if i + 1 < len(angles):
                    next_angle = torch.tensor(angles[i + 1], dtype=torch.bfloat16)
                    x = torch.cos(next_angle) * x0 + torch.sin(next_angle) * first
            clean(x0, torch.zeros(()), frame, rows, True, words)
            latents.append(x0)
        return torch.cat(latents, 2)

    def seen(latents):
        return decode(latents)[:, :, 1:].clamp(-1, 1)

    plain, other_text = roll(actions), drawn((1, 5, 40), 86)
    told = roll(actions, (3, other_text))
    assert told[:, :, :3].equal(plain[:, :, :3])
    print("other words move the latent frames after them by", float((told - plain)[:, :, 3:].norm() / plain[:, :, 3:].norm()))
    video, other = seen(plain), seen(roll(-actions))
    print(f"cosmos_predict25_interactive: other actions move the video by {(other - video).norm() / video.norm():.2f}")
    folder = write_model(out, "cosmos_predict25_interactive", "ActionVideo2WorldSelfForcing", "transformer_cosmos_action_chunk", 32, 16,
                         window_frames=FRAMES)
    save_file({"image": picture.permute(1, 2, 0)[None].contiguous(), "actions": actions.flatten(1), "noise": noise,
               "video": video.contiguous(), "prompt_embeds": text}, folder / "rollout.safetensors")
    save_file({"prompt_embeds": other_text, "latents": told.contiguous()}, folder / "told.safetensors")
