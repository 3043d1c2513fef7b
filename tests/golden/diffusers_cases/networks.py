"""Transformers, control networks and video tokenizers."""

from diffusers_cases.common import *  # noqa: F403

# ------------------------------------------------------------------------------------------------ transformers: Cosmos
def cosmos_dit(plan, s, in_channels, **over):
    from diffusers import CosmosTransformer3DModel

    model = CosmosTransformer3DModel(**{**dict(
        in_channels=in_channels, out_channels=s.channels, num_attention_heads=s.heads, attention_head_dim=s.head_dim,
        num_layers=s.layers, mlp_ratio=plan.pick(2.0, 3.0, 4.0), text_embed_dim=s.text_dim,
        adaln_lora_dim=plan.pick(4, 6, 8), max_size=(s.frames + 3, s.height + 4, s.width + 6), patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0), concat_padding_mask=True, extra_pos_embed_type="learnable"), **over})
    return randomise(model, plan)


def sigmas_noise(plan, n):
    """What Predict1 passes as the timestep: a quarter of the logarithm of sigma."""
    return torch.tensor([0.25 * math.log(plan.rng.uniform(0.05, 60)) for _ in range(n)])


def padding_mask(plan, s, scale=8):
    m = torch.zeros(1, 1, s.height * scale, s.width * scale)
    m[..., : plan.rng.randrange(scale, 2 * scale + 3), :] = 1
    m[..., -plan.rng.randrange(scale, 2 * scale + 3):] = 1
    return m


def first_frames(s, batch, n):
    m = torch.zeros(batch, 1, s.frames, s.height, s.width)
    m[:, :, :n] = 1
    return m


def run(model):
    return lambda **kw: model(**kw, return_dict=False)[0]


@case("transformer/predict1_text2world")
def _(plan, s, sink, store="", suffix="", batch=1):
    model = cosmos_dit(plan, s, s.channels, rope_scale=plan.pick((2.0, 1.0, 1.0), (2.0, 2.0, 2.0)))
    stored_note = {"bfloat16": "weights on disk in bfloat16, computed in float32", "sharded": "sharded weights"}
    x = dict(
        hidden_states=plan.randn(batch, s.channels, s.frames, s.height, s.width), timestep=sigmas_noise(plan, batch),
        encoder_hidden_states=plan.randn(batch, s.text_len, s.text_dim), fps=plan.pick(12, 16, 30),
        padding_mask=padding_mask(plan, s))
    eval_case(sink, plan, "transformer/predict1_text2world" + suffix, model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states", "fps"), store=store, note=stored_note.get(store, ""))


@case("transformer/predict1_text2world_bf16")
def _(plan, s, sink):
    CASES["transformer/predict1_text2world"](plan, s, sink, "bfloat16", "_bf16", 2)


@case("transformer/predict1_text2world_sharded")
def _(plan, s, sink):
    CASES["transformer/predict1_text2world"](plan, s, sink, "sharded", "_sharded")


@case("transformer/predict1_video2world")
def _(plan, s, sink):
    model = cosmos_dit(plan, s, s.channels + 1)
    mask = torch.ones(2, s.text_len, dtype=torch.bool)
    mask[1, s.text_len // 2:] = False
    x = dict(
        hidden_states=plan.randn(2, s.channels, s.frames, s.height, s.width), timestep=sigmas_noise(plan, 2),
        encoder_hidden_states=plan.randn(2, s.text_len, s.text_dim), attention_mask=mask, fps=plan.pick(10, 30),
        condition_mask=first_frames(s, 2, 1), padding_mask=padding_mask(plan, s, 1))
    eval_case(sink, plan, "transformer/predict1_video2world", model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states", "condition_mask", "fps"),
              note="attention_mask is boolean, over the text")


@case("transformer/predict2_text2image")
def _(plan, s, sink):
    s.frames = 1
    model = cosmos_dit(plan, s, s.channels, rope_scale=(1.0, 4.0, 4.0), extra_pos_embed_type=None)
    x = dict(
        hidden_states=plan.randn(2, s.channels, 1, s.height, s.width), timestep=plan.rand(2),
        encoder_hidden_states=plan.randn(2, s.text_len, s.text_dim), padding_mask=padding_mask(plan, s))
    eval_case(sink, plan, "transformer/predict2_text2image", model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states"))


@case("transformer/predict2_video2world")
def _(plan, s, sink):
    model = cosmos_dit(plan, s, s.channels + 1, rope_scale=plan.pick((1.0, 3.0, 3.0), (20 / 24, 2.0, 2.0)),
                       extra_pos_embed_type=None)
    t = plan.rand(2, 1, s.frames, 1, 1) * 0.8 + 0.1
    t[:, :, 0] = 1e-4
    x = dict(
        hidden_states=plan.randn(2, s.channels, s.frames, s.height, s.width), timestep=t,
        encoder_hidden_states=plan.randn(2, s.text_len, s.text_dim), fps=plan.pick(10, 16),
        condition_mask=first_frames(s, 2, 1), padding_mask=padding_mask(plan, s))
    eval_case(sink, plan, "transformer/predict2_video2world", model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states", "condition_mask", "fps"), note="one timestep a latent frame")


@case("transformer/predict25")
def _(plan, s, sink):
    wide = plan.pick(3, 5) * s.text_dim
    model = cosmos_dit(plan, s, s.channels + 1, rope_scale=(1.0, 3.0, 3.0), extra_pos_embed_type=None,
                       use_crossattn_projection=True, crossattn_proj_in_channels=wide,
                       encoder_hidden_states_channels=s.text_dim)
    t = plan.rand(1, 1, 1, 1, 1).expand(1, 1, s.frames, 1, 1).clone()
    t[:, :, 0] = 1e-4
    x = dict(
        hidden_states=plan.randn(1, s.channels, s.frames, s.height, s.width), timestep=t,
        encoder_hidden_states=plan.randn(1, s.text_len, wide), condition_mask=first_frames(s, 1, 1),
        padding_mask=padding_mask(plan, s))
    eval_case(sink, plan, "transformer/predict25", model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states", "condition_mask"))


@case("transformer/transfer25")
def _(plan, s, sink):
    wide, hidden, n_img, every = 2 * s.text_dim, s.heads * s.head_dim, plan.pick(3, 5), 2
    s.layers = max(s.layers, 3)
    model = cosmos_dit(plan, s, s.channels + 1, rope_scale=(1.0, 3.0, 3.0), extra_pos_embed_type=None,
                       use_crossattn_projection=True, crossattn_proj_in_channels=wide,
                       encoder_hidden_states_channels=s.text_dim, controlnet_block_every_n=every,
                       img_context_dim_in=10, img_context_num_tokens=n_img, img_context_dim_out=hidden)
    tokens = s.frames * s.height * s.width // 4
    blocks = [0.5 * plan.randn(2, tokens, hidden) for _ in range(0, s.layers, every)]
    t = plan.rand(2, 1, 1, 1, 1).expand(2, 1, s.frames, 1, 1).clone()
    x = dict(
        hidden_states=plan.randn(2, s.channels, s.frames, s.height, s.width), timestep=t,
        encoder_hidden_states=(plan.randn(2, s.text_len, wide), plan.randn(2, n_img, 10)),
        block_controlnet_hidden_states=blocks, condition_mask=first_frames(s, 2, 1),
        padding_mask=padding_mask(plan, s))
    eval_case(sink, plan, "transformer/transfer25", model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states", "block_controlnet_hidden_states", "condition_mask"))


@case("controlnet/transfer25")
def _(plan, s, sink, image_context=True, suffix=""):
    from diffusers import CosmosControlNetModel

    hidden, wide, padded = s.heads * s.head_dim, 2 * s.text_dim, s.channels + plan.pick(3, 6)
    extra = dict(img_context_dim_in=10, img_context_dim_out=hidden) if image_context else {}
    model = randomise(CosmosControlNetModel(
        n_controlnet_blocks=2, in_channels=padded + 2, latent_channels=s.channels + 2, model_channels=hidden,
        num_attention_heads=s.heads, attention_head_dim=s.head_dim, mlp_ratio=2.0, text_embed_dim=s.text_dim,
        adaln_lora_dim=6, max_size=(s.frames + 1, s.height, s.width), rope_scale=(1.0, 3.0, 3.0),
        extra_pos_embed_type=None, use_crossattn_projection=True, crossattn_proj_in_channels=wide,
        encoder_hidden_states_channels=s.text_dim, **extra), plan)
    text = plan.randn(1, s.text_len, wide)
    t = plan.rand(1, 1, s.frames, 1, 1) if image_context else plan.rand(1)
    x = dict(
        controls_latents=plan.randn(1, s.channels, s.frames, s.height, s.width),
        latents=plan.randn(1, s.channels, s.frames, s.height, s.width), timestep=t,
        encoder_hidden_states=(text, plan.randn(1, 4, 10)) if image_context else text,
        condition_mask=first_frames(s, 1, 1), conditioning_scale=0.7, padding_mask=padding_mask(plan, s))
    eval_case(sink, plan, "controlnet/transfer25" + suffix, model, "controlnet.forward", x, run(model),
              out="control_block_samples",
              vary=("timestep", "encoder_hidden_states", "controls_latents", "latents", "condition_mask"))


@case("controlnet/transfer25_text_only")
def _(plan, s, sink):
    CASES["controlnet/transfer25"](plan, s, sink, False, "_text_only")


# ------------------------------------------------------------------------------------------------ transformers: Wan
def wan_dit(plan, s, in_channels, out_channels, **over):
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(**{**dict(
        patch_size=(1, 2, 2), num_attention_heads=s.heads, attention_head_dim=s.head_dim, in_channels=in_channels,
        out_channels=out_channels, text_dim=s.text_dim, freq_dim=plan.pick(32, 48), ffn_dim=plan.pick(40, 56),
        num_layers=s.layers, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=64), **over})
    return randomise(model, plan)


@case("transformer/wan_text2video")
def _(plan, s, sink):
    model = wan_dit(plan, s, s.channels, s.channels)
    x = dict(
        hidden_states=plan.randn(2, s.channels, s.frames, s.height, s.width), timestep=plan.ints(1, 1000, 2),
        encoder_hidden_states=plan.randn(2, s.text_len, s.text_dim))
    eval_case(sink, plan, "transformer/wan_text2video", model, "transformer.forward", x, run(model),
              vary=("encoder_hidden_states",), note="timestep is int64")
    y = {**x, "timestep": torch.tensor([999, 3])}
    assert rel(run(model)(**y), run(model)(**x)) > 5e-3


@case("transformer/wan_text2video_bf16")
def _(plan, s, sink):
    model = wan_dit(plan, s, s.channels, s.channels)
    x = dict(
        hidden_states=plan.randn(1, s.channels, s.frames, s.height, s.width), timestep=plan.rand(1) * 1000,
        encoder_hidden_states=plan.randn(1, s.text_len, s.text_dim))
    eval_case(sink, plan, "transformer/wan_text2video_bf16", model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states"), store="bfloat16",
              note="weights on disk in bfloat16 but for those the class keeps in float32; computed in float32")


@case("transformer/wan_image2video")
def _(plan, s, sink, last=False, suffix=""):
    n_img, image_dim = (6, 12)
    model = wan_dit(plan, s, 2 * s.channels + 4, s.channels, image_dim=image_dim,
                    added_kv_proj_dim=s.heads * s.head_dim, pos_embed_seq_len=2 * n_img if last else None)
    batch = 1 if last else 2
    x = dict(
        hidden_states=plan.randn(batch, 2 * s.channels + 4, s.frames, s.height, s.width),
        timestep=plan.ints(1, 1000, batch), encoder_hidden_states=plan.randn(batch, 512, s.text_dim),
        encoder_hidden_states_image=plan.randn(2 if last else batch, n_img, image_dim))
    eval_case(sink, plan, "transformer/wan_image2video" + suffix, model, "transformer.forward", x, run(model),
              vary=("encoder_hidden_states", "encoder_hidden_states_image"),
              note="the text is the last 512 tokens of the cross-attention's context, whatever the image's length"
              + ("; first and last image, with position embedding" if last else ""))


@case("transformer/wan_image2video_last")
def _(plan, s, sink):
    CASES["transformer/wan_image2video"](plan, s, sink, True, "_last")


@case("transformer/wan22_5b")
def _(plan, s, sink):
    model = wan_dit(plan, s, s.channels, s.channels)
    t = (plan.rand(2, 1, 1, 1) * 900 + 50).expand(2, s.frames, s.height // 2, s.width // 2).clone()
    t[:, 0] = 0
    x = dict(
        hidden_states=plan.randn(2, s.channels, s.frames, s.height, s.width), timestep=t.flatten(1),
        encoder_hidden_states=plan.randn(2, s.text_len, s.text_dim))
    eval_case(sink, plan, "transformer/wan22_5b", model, "transformer.forward", x, run(model),
              vary=("timestep", "encoder_hidden_states"), note="one timestep a token, 0 on the first frame")


# ------------------------------------------------------------------------------------------------ tokenizers (video)
def fix_posterior(vae):
    """The log-variance is -30 everywhere, so that a draw from the posterior is its mean."""
    vae.quant_conv.weight[vae.config.z_dim:] = 0
    vae.quant_conv.bias[vae.config.z_dim:] = -30


def statistics(plan, n):
    return [round(0.4 * float(v), 4) for v in plan.randn(n)], [round(0.6 + float(v), 4) for v in plan.rand(n)]


def wan_vae(plan, form="2.1", z_dim=None):
    from diffusers import AutoencoderKLWan

    z = z_dim or 6
    mean, std = statistics(plan, z)
    more = {}
    if form == "2.2":
        more = dict(is_residual=True, patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16,
                    decoder_base_dim=plan.pick(6, 8))
    vae = randomise(AutoencoderKLWan(
        base_dim=plan.pick(4, 6), z_dim=z, dim_mult=[1, 2, 4, 4] if form == "2.2" else plan.pick([1, 2, 4, 4], [1, 2, 3, 3]),
        num_res_blocks=plan.pick(1, 2), temperal_downsample=[False, True, True], latents_mean=mean, latents_std=std,
        **more), plan)
    fix_posterior(vae)
    scale = 16 if form == "2.2" else 8
    z = vae.encode(plan.rand(1, 3, 5, 2 * scale, 2 * scale) * 2 - 1).latent_dist.mode()
    vae.quant_conv.weight[: vae.config.z_dim] /= z.std()
    vae.quant_conv.bias[: vae.config.z_dim] /= z.std()
    tame(vae, plan.randn(1, vae.config.z_dim, 3, 4, 4))
    return vae


def cosmos_vae(plan, spatial=8, temporal=8, patch=4, channels=None, frames=8):
    from diffusers import AutoencoderKLCosmos

    c = channels or 6
    mean, std = statistics(plan, c * frames)
    w = plan.pick(8, 12)
    vae = randomise(AutoencoderKLCosmos(
        latent_channels=c, encoder_block_out_channels=(w, w, 2 * w, 2 * w),
        decode_block_out_channels=(w, 2 * w, 2 * w, 2 * w), attention_resolutions=plan.pick((8,), (16,)), resolution=64,
        num_layers=plan.pick(1, 2), patch_size=patch, patch_type="haar", spatial_compression_ratio=spatial,
        temporal_compression_ratio=temporal, latents_mean=mean, latents_std=std), plan)
    z = vae.encode(plan.rand(1, 3, 1 + temporal, 4 * spatial, 4 * spatial) * 2 - 1).latent_dist.mode()
    vae.quant_conv.weight /= z.std()
    vae.quant_conv.bias /= z.std()
    tame(vae, plan.randn(1, c, 2, 4, 4))
    return vae


def tame(vae, latents):
    """Scales the decoder's last convolution so that this latent decodes inside [-0.9, 0.9]."""
    seen = []
    hook = vae.decoder.register_forward_hook(lambda m, i, o: seen.append(o))
    vae.decode(latents)
    hook.remove()
    factor = 0.9 / max(float(o.abs().max()) for o in seen)
    last = vae.decoder.conv_out
    last = getattr(last, "conv_t", last)
    last.weight *= factor
    last.bias *= factor


def vae_cases(name, make, pixels, latent):
    for half in ("encode", "decode"):

        @case(f"vae/{name}_{half}")
        def _(plan, s, sink, half=half):
            vae = make(plan)
            full = f"vae/{name}_{half}"
            if half == "encode":
                x = dict(sample=plan.rand(*pixels(plan, s)) * 2 - 1)
                eval_case(sink, plan, full, vae, "vae.encode", x, lambda sample: vae.encode(sample).latent_dist.mode(),
                          out="latent", vary=("sample",))
            else:
                x = dict(latent=plan.randn(*latent(plan, s, vae)))
                tame(vae, x["latent"])
                eval_case(sink, plan, full, vae, "vae.decode", x, lambda latent: vae.decode(latent).sample)


vae_cases("wan21", lambda p: wan_vae(p), lambda p, s: (1, 3, 4 * s.frames - 3, 8 * s.height, 8 * s.width),
          lambda p, s, v: (1, v.config.z_dim, s.frames, s.height, s.width))
vae_cases("wan22", lambda p: wan_vae(p, "2.2"), lambda p, s: (1, 3, 4 * s.frames - 3, 16 * s.height, 16 * s.width),
          lambda p, s, v: (1, v.config.z_dim, s.frames, s.height, s.width))
vae_cases("cosmos_cv8x8x8", lambda p: cosmos_vae(p), lambda p, s: (1, 3, 8 * s.frames - 7, 8 * s.height, 8 * s.width),
          lambda p, s, v: (1, v.config.latent_channels, s.frames, s.height, s.width))
vae_cases("cosmos_cv4x8x8", lambda p: cosmos_vae(p, 8, 4, 2),
          lambda p, s: (1, 3, 4 * s.frames - 3, 8 * s.height, 8 * s.width),
          lambda p, s, v: (1, v.config.latent_channels, s.frames, s.height, s.width))
