"""The picture encoder, and the pipelines that look at a picture through it."""

from diffusers_cases.common import *  # noqa: F403
from diffusers_cases.networks import *  # noqa: F403
from diffusers_cases.pipelines import embeds_for, latent, picture, pipeline_case

IMAGE_SIZE, PATCH = 28, 14
TOKENS = (IMAGE_SIZE // PATCH) ** 2 + 1


def clip_encoder(plan, projects, act="gelu"):
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2,
                              image_size=IMAGE_SIZE, patch_size=PATCH, hidden_act=act, projection_dim=7)
    model = randomise((CLIPVisionModelWithProjection if projects else CLIPVisionModel)(config), plan)
    for name, p in model.named_parameters():
        if "class_embedding" in name or "position_embedding" in name:
            p.copy_(plan.randn(*p.shape))
    return model


@case("image_encoder/clip")
def _(plan, s, sink, projects=False, suffix="", act="gelu"):
    model = clip_encoder(plan, projects, act)

    def forward(pixel_values):
        out = model(pixel_values=pixel_values, output_hidden_states=True)
        pooled = {"image_embeds": out.image_embeds} if projects else {"pooler_output": out.pooler_output}
        return {"last_hidden_state": out.last_hidden_state, "hidden_states": list(out.hidden_states), **pooled}

    eval_case(sink, plan, "image_encoder/clip" + suffix, model, "image_encoder.forward",
              dict(pixel_values=plan.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)), forward, args=["--all-layers"], vary=("pixel_values",))


@case("image_encoder/clip_projection")
def _(plan, s, sink):
    CASES["image_encoder/clip"](plan, s, sink, True, "_projection", "quick_gelu")


def small_vae(plan, z):
    from diffusers import AutoencoderKLWan

    mean, std = statistics(plan, z)
    vae = randomise(AutoencoderKLWan(base_dim=2, z_dim=z, dim_mult=[1, 2, 2, 2], num_res_blocks=1,
                                     temperal_downsample=[False, True, True], latents_mean=mean, latents_std=std), plan)
    fix_posterior(vae)
    tame(vae, plan.randn(1, z, 3, 4, 4))
    return vae


def image_to_video(name, last):
    @case(name)
    def _(plan, s, sink):
        from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline
        from transformers import CLIPImageProcessor

        s.head_dim, s.layers, s.text_dim, s.frames, z = 12, 1, 6, 2, 3
        encoder = clip_encoder(plan, not last)
        width = encoder.config.hidden_size
        pipe = WanImageToVideoPipeline(
            tokenizer=None, text_encoder=None, image_encoder=encoder, vae=small_vae(plan, z),
            image_processor=CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE},
                                               crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}),
            transformer=wan_dit(plan, s, 2 * z + 4, z, image_dim=width, added_kv_proj_dim=s.heads * s.head_dim,
                                pos_embed_seq_len=2 * TOKENS if last else None),
            scheduler=UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0))
        w, h = 8 * s.width, 8 * s.height
        call = dict(width=w, height=h, num_frames=4 * s.frames - 3, num_inference_steps=s.steps, guidance_scale=s.guidance)
        pipeline_case(sink, plan, name, pipe, call, embeds=embeds_for(plan, s.text_dim, 512), image=picture(plan, None, w, h),
                      last=picture(plan, None, w, h) if last else None, latent_shape=latent(s, z),
                      note="the network also sees the picture through CLIP's last layer but one")


image_to_video("pipeline/wan21_image2video_clip", False)
image_to_video("pipeline/wan21_first_last", True)
