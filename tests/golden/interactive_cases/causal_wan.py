"""Causal Wan in small: Self-Forcing's network alone and its whole pipeline, and Matrix-Game 2.0's with keys and mouse.

Both repositories have packages whose __init__ imports a GPU's worth of things: only the files that are needed are loaded, flash
attention is scaled_dot_product_attention, and sizes that stand in the code as numbers of the released models are replaced.
"""

import contextlib
import io
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from .common import drawn, package, randomise, stand_in, stored, write_case, write_json

SELF_FORCING = "guandeh17/Self-Forcing@33593df (Apache-2.0), float32 on CPU"
MATRIX_GAME = "zoheth/Matrix-Game@62dedd1 Matrix-Game-2 (MIT, fork of SkyworkAI/Matrix-Game), float32 on CPU"
TEXT = 16


def attention(q, k, v, k_lens=None, **_):
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def load_edited(name: str, path: Path, edits=()):
    """A module from a file in which some text is replaced."""
    text = path.read_text()
    for old, new in edits:
        assert old in text, (path, old)
        text = text.replace(old, new)
    module = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def prepare(source: Path):
    """Forgets what another repository left, and stands in for what this one need not import."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("wan", "utils", "pipeline", "demo_utils", "flash_attn")]:
        del sys.modules[name]
    torch.compile = lambda f=None, **_: f if f is not None else (lambda g: g)
    torch.cuda.current_device = lambda: "cpu"
    stand_in("flash_attn", flash_attn_func=attention)
    stand_in("easydict", EasyDict=SimpleNamespace)
    package("wan", source / "wan")
    package("wan.modules", source / "wan" / "modules")
    stand_in("wan.modules.attention", attention=attention, flash_attention=attention)


def config_of(model, **more):
    kept = {k: v for k, v in model.config.items() if not k.startswith("_") and k not in ("qk_norm",)}
    kept["patch_size"] = list(model.patch_size)
    if model.config.model_type == "t2v":
        kept["text_dim"] = TEXT  # which the reference leaves out of its config
    return {"_class_name": "CausalWanModel", "_library": "wan.modules.causal_model", **kept, **more}


# ------------------------------------------------------------------------------------------------ Self-Forcing
def import_self_forcing(source: Path):
    prepare(source)
    sys.modules["diffusers"] = __import__("diffusers")
    load_edited("wan.modules.model", source / "wan/modules/model.py")
    causal = load_edited("wan.modules.causal_model", source / "wan/modules/causal_model.py")
    package("utils", source / "utils")
    for name, item in (("tokenizers", "HuggingfaceTokenizer"), ("vae", "_video_vae"), ("t5", "umt5_xxl")):
        stand_in(f"wan.modules.{name}", **{item: None})
    wrapper = load_edited("utils.wan_wrapper", source / "utils/wan_wrapper.py")
    scheduler = sys.modules["utils.scheduler"]
    stand_in("demo_utils")
    stand_in("demo_utils.memory", gpu=None, get_cuda_free_memory_gb=None, DynamicSwapInstaller=None,
             move_model_to_device_with_memory_preservation=None)
    pipeline = load_edited("pipeline.causal_inference", source / "pipeline/causal_inference.py")
    return causal, wrapper, scheduler, pipeline


def small_self_forcing(causal, **more):
    model = causal.CausalWanModel(model_type="t2v", patch_size=(1, 2, 2), text_len=8, in_dim=4, dim=48, ffn_dim=80, freq_dim=32,
                                  text_dim=TEXT, out_dim=4, num_heads=4, num_layers=2, **more)
    return randomise(model, 21)


def run_pipeline(modules, model, noise, embeds, draws, frame_tokens, then=None):
    """`then`: (latent frame, embedding) of a prompt that is followed from that frame on. The cache of the cross-attention is reset as
    inference() resets it for a new prompt; that of the frames stays."""
    causal, wrapper, scheduler, pipeline = modules
    generator = wrapper.WanDiffusionWrapper.__new__(wrapper.WanDiffusionWrapper)
    torch.nn.Module.__init__(generator)
    generator.model, generator.uniform_timestep, generator.seq_len = model, False, 32760
    generator.scheduler = scheduler.FlowMatchScheduler(shift=5.0, sigma_min=0.0, extra_one_step=True)
    generator.scheduler.set_timesteps(1000, training=True)
    args = SimpleNamespace(denoising_step_list=[1000, 750, 500, 250], warp_denoising_step=True, num_frame_per_block=3,
                           independent_first_frame=False, context_noise=0)
    run = pipeline.CausalInferencePipeline(args, "cpu", generator, lambda text_prompts: {"prompt_embeds": embeds},
                                           SimpleNamespace(decode_to_pixel=lambda latents, **_: latents))
    run.num_transformer_blocks, run.frame_seq_length = model.num_layers, frame_tokens

    def caches(batch_size, dtype, device):
        shape = [batch_size, run.local_attn_size * frame_tokens, model.num_heads, model.dim // model.num_heads]
        run.kv_cache1 = [{"k": torch.zeros(shape), "v": torch.zeros(shape), "global_end_index": torch.tensor([0]),
                          "local_end_index": torch.tensor([0])} for _ in model.blocks]

    run._initialize_kv_cache = caches  # the original's has the released model's heads in it
    if then:
        forward = generator.forward

        def told(*args, conditional_dict, crossattn_cache, current_start, **kwargs):
            if current_start == then[0] * frame_tokens and conditional_dict["prompt_embeds"] is embeds:
                conditional_dict["prompt_embeds"] = then[1]
                for cache in crossattn_cache:
                    cache["is_init"] = False
            return forward(*args, conditional_dict=conditional_dict, crossattn_cache=crossattn_cache, current_start=current_start, **kwargs)

        generator.forward = told
    given = iter(draws)
    randn_like, torch.randn_like = torch.randn_like, lambda x: next(given).reshape(x.shape)
    try:
        with quiet():
            return run.inference(noise, ["a prompt"], return_latents=True)[1]
    finally:
        torch.randn_like = randn_like


def make_self_forcing(out: Path, source: Path):
    modules = import_self_forcing(source)
    model = small_self_forcing(modules[0], local_attn_size=4)
    model.num_frame_per_block = 3
    folder = out / "transformer_causal_wan"
    write_json(folder / "model" / "config.json", config_of(model, num_frame_per_block=3))
    save_file(stored(model, "model."), folder / "model" / "model.safetensors")
    given = {"x": drawn((2, 4, 6, 4, 6), 22), "t": torch.tensor([[900.0, 900, 900, 0, 20, 400], [625, 625, 625, 1000, 1000, 1000]]),
             "context": drawn((2, 5, TEXT), 23)}
    with quiet():
        sample = model(given["x"], given["t"], given["context"], seq_len=36)
    write_case(folder, "transformer.forward", "model", given, {"sample": sample}, SELF_FORCING,
               "blocks of 3 frames in a window of 4, all frames in one masked pass; random float16 weights")

    # The whole pipeline, with a window that slides and a frame that stays.
    model = small_self_forcing(modules[0], local_attn_size=5, sink_size=1)
    folder, blocks = out / "pipelines" / "causal_wan_text2video", 3
    noise, embeds = drawn((1, 4, 3 * blocks, 2, 4), 24), drawn((1, 8, TEXT), 25)
    draws = drawn((3, 1, 4, 3 * blocks, 2, 4), 26)
    by_block = [draws[k, :, :, 3 * i:3 * i + 3].transpose(1, 2) for i in range(blocks) for k in range(3)]
    latents = run_pipeline(modules, model, noise.transpose(1, 2), embeds, by_block, frame_tokens=2).transpose(1, 2).contiguous()
    other = drawn((1, 8, TEXT), 28)
    told = run_pipeline(modules, model, noise.transpose(1, 2), embeds, by_block, frame_tokens=2, then=(3, other)).transpose(1, 2).contiguous()
    assert told[:, :, :3].equal(latents[:, :, :3])
    print("other words move the frames after them by", float((told - latents)[:, :, 3:].norm() / latents[:, :, 3:].norm()))
    write_json(folder / "model" / "model_index.json",
               {"_class_name": "CausalInferencePipeline", "transformer": ["self_forcing", "CausalWanModel"],
                "vae": ["diffusers", "AutoencoderKLWan"]})
    write_json(folder / "model" / "transformer" / "config.json", config_of(model, num_frame_per_block=3))
    save_file(stored(model, "model."), folder / "model" / "transformer" / "model.safetensors")
    video = decode_with_small_vae(folder / "model" / "vae", latents)
    save_file({"noise": torch.cat([noise, *draws])}, folder / "noise.safetensors")
    save_file({"prompt_embeds": embeds, "negative_prompt_embeds": embeds.clone()}, folder / "embeds.safetensors")
    save_file({"latents": latents, "video": video}, folder / "expected.safetensors")
    save_file({"prompt_embeds": other, "latents": told}, folder / "told.safetensors")
    write_json(folder / "case.json",
               {"command": "generate", "args": ["-W", "32", "-H", "16", "--num-frames", str(1 + 4 * (3 * blocks - 1)), "--noise",
                                                "noise.safetensors", "--prompt-embeds", "embeds.safetensors", "--device", "cpu",
                                                "--dtype", "float32"],
                "tolerance": {"max_rel_l2": 1e-3}, "reference": SELF_FORCING + "; the video by diffusers' AutoencoderKLWan",
                "note": "noise: the initial draw, then one for each of the three re-noisings"})


def decode_with_small_vae(folder: Path, latents):
    from diffusers import AutoencoderKLWan

    vae = randomise(AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True],
                                     latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.1, 2.0]), 27)
    vae.half().save_pretrained(folder)
    vae.float()
    mean, std = (torch.tensor(vae.config[k]).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    return vae.decode(latents * std + mean).sample


# ------------------------------------------------------------------------------------------------ Matrix-Game 2.0
PLACES = 2  # tokens of a latent frame of 2 x 4, where the original has 880
PICTURE = 32  # width of the picture's tokens, where the original has 1280


def import_matrix_game(source: Path):
    prepare(source)
    smaller = [("880", str(PLACES))]
    load_edited("wan.modules.posemb_layers", source / "wan/modules/posemb_layers.py")
    load_edited("wan.modules.action_module", source / "wan/modules/action_module.py", smaller)
    load_edited("wan.modules.model", source / "wan/modules/model.py")
    causal = load_edited("wan.modules.causal_model", source / "wan/modules/causal_model.py",
                         smaller + [("MLPProj(1280, dim)", f"MLPProj({PICTURE}, dim)")])
    package("utils", source / "utils")
    stand_in("wan.modules.tokenizers", HuggingfaceTokenizer=None)
    stand_in("wan.modules.vae", _video_vae=None)
    stand_in("utils.visualize", process_video=None)
    wrapper = load_edited("utils.wan_wrapper", source / "utils/wan_wrapper.py", [(".shape[1] == 16", ".shape[1] == 4")])
    scheduler = sys.modules["utils.scheduler"]
    stand_in("demo_utils")
    stand_in("demo_utils.constant", ZERO_VAE_CACHE=[])
    stand_in("tqdm", tqdm=lambda x: x)
    pipeline = load_edited("pipeline.causal_inference", source / "pipeline/causal_inference.py", [(".shape[1] == 16", ".shape[1] == 4")])
    return causal, wrapper, scheduler, pipeline


def small_matrix_game(causal):
    actions = {"blocks": [0], "enable_keyboard": True, "enable_mouse": True, "heads_num": 1, "hidden_size": 16, "img_hidden_size": 48,
               "keyboard_dim_in": 4, "keyboard_hidden_dim": 64, "mouse_dim_in": 2, "mouse_hidden_dim": 64,
               "mouse_qk_dim_list": [8, 28, 28], "patch_size": [1, 2, 2], "qk_norm": True, "qkv_bias": False,
               "rope_dim_list": [8, 28, 28], "rope_theta": 256, "vae_time_compression_ratio": 4, "windows_size": 3}
    model = causal.CausalWanModel(model_type="i2v", patch_size=(1, 2, 2), text_len=8, in_dim=12, dim=48, ffn_dim=64, freq_dim=32,
                                  out_dim=4, num_heads=4, num_layers=2, local_attn_size=6, action_config=actions)
    return randomise(model, 31)


def run_game(modules, model, noise, conditions, draws):
    causal, wrapper, scheduler, pipeline = modules
    generator = wrapper.WanDiffusionWrapper.__new__(wrapper.WanDiffusionWrapper)
    torch.nn.Module.__init__(generator)
    generator.model, generator.uniform_timestep = model, False
    generator.scheduler = scheduler.FlowMatchScheduler(shift=5.0, sigma_min=0.0, extra_one_step=True)
    generator.scheduler.set_timesteps(1000, training=True)
    args = SimpleNamespace(denoising_step_list=[1000, 666, 333], warp_denoising_step=True, num_frame_per_block=3, context_noise=0)
    run = pipeline.CausalInferencePipeline(args, "cpu", generator, lambda latents, *cache: (latents, cache))
    run.num_transformer_blocks, run.frame_seq_length = model.num_layers, PLACES

    def cache(rows, length, heads, width):
        return {"k": torch.zeros(rows, length, heads, width), "v": torch.zeros(rows, length, heads, width),
                "global_end_index": torch.tensor([0]), "local_end_index": torch.tensor([0])}

    def main_caches(batch_size, dtype, device):
        run.kv_cache1 = [cache(1, 6 * PLACES, 4, 12) for _ in model.blocks]

    def action_caches(batch_size, dtype, device):
        run.kv_cache_mouse = [cache(PLACES, 6, 1, 64) for _ in model.blocks]
        run.kv_cache_keyboard = [cache(1, 6, 1, 64) for _ in model.blocks]

    run._initialize_kv_cache, run._initialize_kv_cache_mouse_and_keyboard = main_caches, action_caches
    given = iter(draws)
    randn_like, torch.randn_like = torch.randn_like, lambda x: next(given).reshape(x.shape)
    try:
        with quiet():
            return run.inference(noise, conditions, return_latents=True, mode="universal")
    finally:
        torch.randn_like = randn_like


def make_matrix_game(out: Path, source: Path):
    from diffusers import AutoencoderKLWan

    modules = import_matrix_game(source)
    model = small_matrix_game(modules[0])
    folder, blocks = out / "worlds" / "matrix_game", 3  # three blocks of three in a window of six
    latent_frames = 3 * blocks
    vae = randomise(AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True],
                                     latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.1, 2.0]), 27)
    vae.half().save_pretrained(folder / "model" / "vae")
    vae.float()
    mean, std = (torch.tensor(vae.config[k]).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))

    image = torch.randint(0, 256, (16, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(32))
    clip = torch.zeros(1, 3, 1 + 4 * (latent_frames - 1), 16, 32)
    clip[:, :, 0] = image.permute(2, 0, 1) / 127.5 - 1
    known = (vae.encode(clip).latent_dist.mode() - mean) / std
    mask = torch.ones_like(known)
    mask[:, :, 1:] = 0
    rows = torch.tensor([[1, 0, 0, 0, 0.1, 0], [1, 0, 1, 0, 0, -0.1], [0, 1, 0, 1, -0.1, 0.1]])
    per_frame = torch.cat([rows[:1].repeat(9, 1), rows[1:].repeat_interleave(12, 0)])[None]
    tokens = drawn((1, 5, PICTURE), 33)
    conditions = {"cond_concat": torch.cat([mask[:, :4], known], 1), "visual_context": tokens,
                  "mouse_cond": per_frame[..., 4:], "keyboard_cond": per_frame[..., :4]}
    noise = drawn((blocks, 3, 3, 4, 2, 4), 34)  # by step: the initial draw and two re-noisings of [t,C,h,w]
    initial = noise[:, 0].flatten(0, 1).transpose(0, 1)[None]
    draws = [noise[i, k] for i in range(blocks) for k in (1, 2)]
    latents = run_game(modules, model, initial.contiguous(), conditions, draws)
    video = vae.decode(latents * std + mean).sample.clamp(-1, 1)

    write_json(folder / "model" / "model_index.json",
               {"_class_name": "CausalInferencePipeline", "transformer": ["matrix_game", "CausalWanModel"],
                "vae": ["diffusers", "AutoencoderKLWan"], "sample_height": 16, "sample_width": 32})
    write_json(folder / "model" / "transformer" / "config.json", config_of(model, image_dim=PICTURE))
    save_file(stored(model, "model."), folder / "model" / "transformer" / "model.safetensors")
    save_file({"image": image[None], "image_embeds": tokens, "actions": rows, "noise": noise, "video": video.contiguous()},
              folder / "rollout.safetensors")
    with quiet():
        given = {"x": drawn((1, 4, 3, 2, 4), 35), "t": torch.tensor([[800.0, 300, 0]]), "visual_context": tokens,
                 "cond_concat": drawn((1, 8, 3, 2, 4), 36), "mouse_cond": drawn((1, 9, 2), 37), "keyboard_cond": drawn((1, 9, 4), 38)}
        model.num_frame_per_block = 3
        sample = model(**given)
    write_case(out / "transformer_matrix_game", "transformer.forward", "../worlds/matrix_game/model/transformer", given,
               {"sample": sample}, MATRIX_GAME, "one block, without a cache; random float16 weights, those of the action norms too")
