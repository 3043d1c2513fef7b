"""Whole generations."""

from diffusers_cases.common import *  # noqa: F403
from diffusers_cases.networks import *  # noqa: F403
from diffusers_cases.text import *  # noqa: F403

# ------------------------------------------------------------------------------------------------ pipelines
class Harmless:
    """Stands where the safety checker stands; it is not saved."""

    def to(self, *args, **kwargs):
        return self

    def check_text_safety(self, text):
        return True

    def check_video_safety(self, frames):
        return frames


def picture(plan, path, width, height):
    from PIL import Image

    x = torch.arange(width)[None, :, None] / width
    y = torch.arange(height)[:, None, None] / height
    k = plan.rand(3) * 6 + 2
    v = 0.5 + 0.3 * torch.sin(k * x * 3 + 4 * y) + 0.15 * plan.rand(height, width, 3)
    image = Image.fromarray((v.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    if path is not None:
        image.save(path)
    return image


def pictures(plan, n, width, height):
    """Frames, and the tensor [1,3,T,H,W] in [-1,1] that holds the same values."""
    import numpy

    frames = [picture(plan, None, width, height) for _ in range(n)]
    t = torch.from_numpy(numpy.stack([numpy.array(f) for f in frames])).float() / 255 * 2 - 1
    return frames, t.permute(3, 0, 1, 2)[None].contiguous()


def pipeline_case(sink, plan, name, pipe, call, *, embeds=None, prompt=None, image=None, last=None, video=None, args=(),
                  tolerance=1e-3, note="", latent_shape, quiet=None, store=None):
    """Runs the pipeline on fixed noise, writes the case. `call`: the sizes, steps, guidance and fps."""
    pipe.set_progress_bar_config(disable=True)
    path = sink.folder(name)
    noise = plan.randn(*latent_shape)
    save_file({"noise": noise}, str(path / "noise.safetensors"))
    flags = {"width": "-W", "height": "-H", "num_frames": "--num-frames", "num_inference_steps": "--steps",
             "guidance_scale": "--guidance-scale", "fps": "--fps"}
    line = [a for k, v in call.items() for a in (flags[k], str(v))] + ["--noise", "noise.safetensors"]
    words = {}
    if embeds is not None:
        save_file(flatten(embeds), str(path / "embeds.safetensors"))
        line += ["--prompt-embeds", "embeds.safetensors"]
        words = dict(embeds)
    else:
        words = dict(prompt=prompt[0], negative_prompt=prompt[1])
        line += ["-p", prompt[0], "-n", prompt[1]]
    media = {}
    if image is not None:
        image.save(path / "image.png")
        media["image"] = image
        line += ["-i", "image.png"]
    if last is not None:
        last.save(path / "last.png")
        media["last_image"] = last
        line += ["--last-image", "last.png"]
    if video is not None:
        frames, tensor = video
        save_file({"video": tensor}, str(path / "video.safetensors"))
        media["video"] = frames
        line += ["--video", "video.safetensors", "--condition-frames", str(len(frames))]
    import inspect

    if "num_frames" not in inspect.signature(pipe.__call__).parameters:
        call = {k: v for k, v in call.items() if k != "num_frames"}

    def latents(noise=noise, words=words, seed=0):
        return pipe(latents=noise.clone(), generator=torch.Generator().manual_seed(seed), output_type="latent",
                    return_dict=False, **{**call, **words, **media})[0]

    final = latents()
    capture = []
    hook = pipe.vae.decoder.register_forward_hook(lambda m, i, o: capture.append(o))

    def full():
        del capture[:]
        got = []
        real = pipe.vae.decode
        pipe.vae.decode = lambda *a, **k: got.append(real(*a, **k)) or got[-1]
        pipe(latents=noise.clone(), generator=torch.Generator().manual_seed(0), output_type="np", **call, **words, **media)
        del pipe.vae.decode
        return got[0][0]

    full()
    factor = 0.9 / max(float(o.abs().max()) for o in capture)
    last = getattr(pipe.vae.decoder.conv_out, "conv_t", pipe.vae.decoder.conv_out)
    last.weight *= factor
    last.bias *= factor
    pixels = full()
    hook.remove()
    assert float(pixels.abs().max()) < 0.95
    assert (pixels[:, :, 0] - pixels[:, :, -1]).abs().max() > 0.01 or pixels.shape[2] == 1

    # what matters, and how much rounding grows
    if embeds is not None:
        other = {k: v + 0.5 * torch.randn(v.shape, generator=plan.gen) for k, v in words.items()}
    else:
        other = {**words, "prompt": "Something else entirely, 7 trucks!"}
    moved = rel(latents(words=other), final)
    grow = rel(latents(noise=noise * (1 + 1e-4 * torch.randn(noise.shape, generator=plan.gen))), final) / 1e-4
    assert moved > 1e-2, f"{name}: the prompt moves the latents by {moved:.1e} only"
    assert grow * 1e-6 * 20 < tolerance, f"{name}: rounding grows {grow:.0f}-fold"
    if quiet is not None:  # the pipeline draws noise of its own: expect what it gives with none, allow for any
        with_draws = [final, latents(seed=1)]
        final = quiet(latents)
        pixels = quiet(full)
        spread = max(rel(v, final) for v in with_draws)
        tolerance = max(tolerance, round(6 * spread, 4))
        assert tolerance < 0.05, f"{name}: its own noise moves the latents by {spread:.1e}"
        note += f"; the reference adds noise of its own, which moves the latents by {spread:.1e}: left out here"
    line += [*args, *RUN]
    about = {"command": "generate", "args": line, "tolerance": {"max_rel_l2": tolerance},
             "note": note.lstrip("; "), "noise_growth": round(grow, 1), "prompt_moves": round(moved, 3)}
    if hasattr(pipe, "safety_checker"):
        pipe.register_modules(safety_checker=None)
    if store is not None:
        store(pipe)
    pipe.save_pretrained(path / "model")
    if pipe.tokenizer is not None:
        save_tokenizer(pipe.tokenizer, path / "model" / "tokenizer")
    sink.finish(path, about, {"video": pixels, "latents": final})


def words_for(plan):
    return (sentence(plan, 9), "Blurry, ugly, " + sentence(plan, 4))


def embeds_for(plan, dim, length):
    return {"prompt_embeds": plan.randn(1, length, dim), "negative_prompt_embeds": plan.randn(1, length, dim)}


def t5_parts(plan, s, kind="t5"):
    tok = t5_tokenizer(plan, None)
    return dict(tokenizer=tok, text_encoder=t5_encoder(plan, s, len(tok), kind))


def latent(s, z):
    return (1, z, s.frames, s.height, s.width)


def predict1(name, conditioned, text):
    @case(name)
    def _(plan, s, sink):
        import diffusers.pipelines.cosmos.pipeline_cosmos_video2world as module
        from diffusers import CosmosTextToWorldPipeline, CosmosVideoToWorldPipeline, EDMEulerScheduler

        s.frames, tc = min(s.frames, 3), 8
        z = s.channels
        kind = CosmosVideoToWorldPipeline if conditioned else CosmosTextToWorldPipeline
        pipe = kind(
            **t5_parts(plan, s), transformer=cosmos_dit(plan, s, z + 1 if conditioned else z),
            vae=cosmos_vae(plan, 8, tc, 4, z, s.frames + 1), safety_checker=Harmless(),
            scheduler=EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, sigma_schedule="karras",
                                        num_train_timesteps=1000, prediction_type="epsilon", rho=7.0,
                                        final_sigmas_type="sigma_min"))
        w, h = 8 * s.width, 8 * s.height
        call = dict(width=w, height=h, num_frames=tc * (s.frames - 1) + 1, num_inference_steps=s.steps,
                    guidance_scale=s.guidance, fps=plan.pick(24, 30, 12))
        media = {}
        quiet = None
        if conditioned:
            media = dict(image=picture(plan, None, w, h)) if conditioned == "image" else dict(
                video=pictures(plan, 9, w, h))

            def quiet(go):
                real = module.randn_tensor
                module.randn_tensor = lambda shape, **kw: torch.zeros(shape)
                try:
                    return go()
                finally:
                    module.randn_tensor = real
        words = dict(prompt=words_for(plan)) if text else dict(embeds=embeds_for(plan, s.text_dim, s.text_len))
        pipeline_case(sink, plan, name, pipe, call, **words, **media, latent_shape=latent(s, z), quiet=quiet,
                      note="--noise is multiplied by sigma_max (80)")


predict1("pipeline/predict1_text2world", "", False)
predict1("pipeline/predict1_text2world_prompt", "", True)
predict1("pipeline/predict1_image2world", "image", False)
predict1("pipeline/predict1_video2world", "video", False)


def predict2(name, conditioned, text):
    @case(name)
    def _(plan, s, sink):
        from diffusers import Cosmos2TextToImagePipeline, Cosmos2VideoToWorldPipeline, FlowMatchEulerDiscreteScheduler

        if not conditioned:
            s.frames = 1
        z = s.channels
        kind = Cosmos2VideoToWorldPipeline if conditioned else Cosmos2TextToImagePipeline
        pipe = kind(
            **t5_parts(plan, s), transformer=cosmos_dit(
                plan, s, z + 1 if conditioned else z, extra_pos_embed_type=None,
                rope_scale=(1.0, 3.0, 3.0) if conditioned else (1.0, 4.0, 4.0)),
            vae=wan_vae(plan, "2.1", z), safety_checker=Harmless(),
            scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True))
        w, h = 8 * s.width, 8 * s.height
        call = dict(width=w, height=h, num_frames=4 * s.frames - 3, num_inference_steps=s.steps,
                    guidance_scale=s.guidance)
        media = {}
        if conditioned:
            call["fps"] = plan.pick(16, 10)
            media = dict(image=picture(plan, None, w, h)) if conditioned == "image" else dict(
                video=pictures(plan, 5, w, h))
        words = dict(prompt=words_for(plan)) if text else dict(embeds=embeds_for(plan, s.text_dim, s.text_len))
        pipeline_case(sink, plan, name, pipe, call, **words, **media, latent_shape=latent(s, z),
                      note="--noise is multiplied by sigma_max (80); the last sigma repeats, so the last step changes nothing"
                      + ("; fps scales the temporal positions" if conditioned else ""))


predict2("pipeline/predict2_text2image", "", False)
predict2("pipeline/predict2_text2image_prompt", "", True)
predict2("pipeline/predict2_image2world", "image", False)
predict2("pipeline/predict2_video2world", "video", False)


def predict25(name, conditioned, text, karras=True):
    @case(name)
    def _(plan, s, sink):
        from diffusers import Cosmos2_5_PredictBasePipeline, UniPCMultistepScheduler

        z = s.channels
        tok = qwen_tokenizer(plan, None)
        encoder = qwen_encoder(plan, s, len(tok) + 5, layers=2)
        wide = 2 * encoder.config.text_config.hidden_size
        schedule = dict(use_karras_sigmas=True, sigma_max=200.0, sigma_min=0.01) if karras else dict(flow_shift=5.0)
        pipe = Cosmos2_5_PredictBasePipeline(
            tokenizer=tok, text_encoder=encoder, transformer=cosmos_dit(
                plan, s, z + 1, extra_pos_embed_type=None, rope_scale=(1.0, 3.0, 3.0), use_crossattn_projection=True,
                crossattn_proj_in_channels=wide, encoder_hidden_states_channels=s.text_dim),
            vae=wan_vae(plan, "2.1", z), safety_checker=Harmless(),
            scheduler=UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", **schedule))
        w, h = 8 * s.width, 8 * s.height
        call = dict(width=w, height=h, num_frames=4 * s.frames - 3, num_inference_steps=s.steps,
                    guidance_scale=s.guidance)
        media = {}
        if conditioned:
            media = dict(image=picture(plan, None, w, h)) if conditioned == "image" else dict(
                video=pictures(plan, 5, w, h))
        words = dict(prompt=words_for(plan)) if text else dict(embeds=embeds_for(plan, wide, s.text_len))
        pipeline_case(sink, plan, name, pipe, call, **words, **media, latent_shape=latent(s, z),
                      note="--noise is used as it is" + ("; the text encoder gets the padded chat without a mask" if text else ""))


predict25("pipeline/predict25_text2world", "", False)
predict25("pipeline/predict25_text2world_shift", "", False, karras=False)
predict25("pipeline/predict25_text2world_prompt", "", True)
predict25("pipeline/predict25_image2world", "image", False)
predict25("pipeline/predict25_video2world", "video", False)


def wan(name, form, conditioned, text=False, scheduler="unipc", flow_shift=None):
    @case(name)
    def _(plan, s, sink):
        from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline

        z, five = s.channels, form == "5b"
        shift = plan.pick(3.0, 5.0)

        def schedule(shift):
            return FlowMatchEulerDiscreteScheduler(shift=shift) if scheduler == "euler" else UniPCMultistepScheduler(
                use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift, num_train_timesteps=1000)

        extra = dict(expand_timesteps=True) if five else {}
        wide = 2 * z + 4 if conditioned and not five else z
        if form == "two":
            extra = dict(transformer_2=wan_dit(plan, s, wide, z), boundary_ratio=0.875)
        pipe = (WanImageToVideoPipeline if conditioned else WanPipeline)(
            **t5_parts(plan, s, "umt5"), transformer=wan_dit(plan, s, wide, z),
            vae=wan_vae(plan, "2.2" if five else "2.1", z), scheduler=schedule(flow_shift or shift), **extra)
        scale = 16 if five else 8
        w, h = scale * s.width, scale * s.height
        call = dict(width=w, height=h, num_frames=4 * s.frames - 3, num_inference_steps=s.steps,
                    guidance_scale=s.guidance)
        media = dict(image=picture(plan, None, w, h)) if conditioned else {}
        words = dict(prompt=words_for(plan)) if text else dict(embeds=embeds_for(plan, s.text_dim, s.text_len))
        args, store = (), None
        if flow_shift:
            args = ("--flow-shift", str(flow_shift))

            def store(p):
                p.scheduler = schedule(shift)
        pipeline_case(sink, plan, name, pipe, call, **words, **media, latent_shape=latent(s, z), args=args, store=store,
                      note="--noise is used as it is" + ("; --flow-shift overrides the folder's" if flow_shift else "")
                      + ("; the transformer changes at boundary_ratio" if form == "two" else ""))


wan("pipeline/wan21_text2video", "2.1", "")
wan("pipeline/wan21_text2video_prompt", "2.1", "", text=True)
wan("pipeline/wan21_text2video_euler_shift", "2.1", "", scheduler="euler", flow_shift=8.0)
wan("pipeline/wan22_text2video_two_transformers", "two", "")
wan("pipeline/wan22_image2video", "two", "image")
wan("pipeline/wan22_5b_text2video", "5b", "")
wan("pipeline/wan22_5b_image2video", "5b", "image")
