#!/usr/bin/env python3
"""Makes the Wan VAE's golden cases beside this script: tiny random AutoencoderKLWan models, inputs, the reference's outputs.

    make_wan_vae.py [--only NAME ...]

Reference: diffusers 0.42.1 with torch 2.15.0, float32, CPU. The `original` cases hold the same tensors under the names of
the original checkpoints, by a table that is written here independently of the library's. A case that was cast to bfloat16 is
computed from the rounded weights in float32.
"""

import argparse
import json
import math
import pathlib
import shutil

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
torch.set_grad_enabled(False)
torch.set_num_threads(1)

# The reference builds attention for `attn_scales` but calls it with a cache that it does not take.
attend = autoencoder_kl_wan.WanAttentionBlock.forward
autoencoder_kl_wan.WanAttentionBlock.forward = lambda self, x, feat_cache=None, feat_idx=None: attend(self, x)

WAN22 = dict(is_residual=True, patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16)
# name: (config, batch, frames, height, width, options); sizes are of the latent
CASES = {
    "wan21_vae_image": (dict(base_dim=2, z_dim=3, num_res_blocks=1), 2, 1, 3, 5, {}),
    "wan21_vae": (dict(base_dim=3, z_dim=4, dim_mult=[1, 2, 3, 3], num_res_blocks=1), 1, 3, 5, 3, {}),
    "wan21_vae_long": (dict(base_dim=2, z_dim=5, dim_mult=[1, 2, 4, 4], num_res_blocks=2), 2, 4, 2, 3, {}),
    "wan21_vae_attention": (
        dict(base_dim=4, z_dim=4, dim_mult=[2, 1, 3], num_res_blocks=2, attn_scales=[1.0, 0.5],
             temperal_downsample=[True, False], decoder_base_dim=3), 1, 3, 4, 3, {}),
    "wan21_vae_all_time": (
        dict(base_dim=3, z_dim=2, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[True, True]), 1, 3, 4, 5, {}),
    "wan21_vae_no_time": (
        dict(base_dim=4, z_dim=2, dim_mult=[1, 3], num_res_blocks=1, temperal_downsample=[False]), 1, 5, 5, 3, {}),
    "wan21_vae_flags_left_over": (
        dict(base_dim=4, z_dim=3, dim_mult=[2, 3], num_res_blocks=1, temperal_downsample=[True, True]), 1, 3, 3, 4, {}),
    "wan21_vae_bf16": (dict(base_dim=3, z_dim=16, dim_mult=[1, 2, 3, 3], num_res_blocks=1), 1, 2, 3, 2, dict(bfloat16=True)),
    "wan21_vae_original": (dict(base_dim=2, z_dim=16, num_res_blocks=2), 1, 3, 3, 2, dict(original=True)),
    "wan21_vae_original_attention": (
        dict(base_dim=4, z_dim=6, dim_mult=[1, 2, 2], num_res_blocks=1, attn_scales=[0.5], temperal_downsample=[False, True]),
        1, 3, 3, 2, dict(original=True)),
    "wan22_vae": (dict(base_dim=2, decoder_base_dim=3, z_dim=6, num_res_blocks=1, **WAN22), 1, 3, 2, 3, {}),
    "wan22_vae_batch": (dict(base_dim=2, z_dim=4, num_res_blocks=2, **WAN22), 2, 2, 2, 1, {}),
    "wan22_vae_time_first": (
        dict(base_dim=3, z_dim=3, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[True, True],
             **{**WAN22, "scale_factor_spatial": 8}), 1, 4, 3, 2, {}),
    "wan22_vae_image": (dict(base_dim=2, z_dim=4, num_res_blocks=1, **WAN22), 1, 1, 3, 2, {}),
    "wan22_vae_bf16": (dict(base_dim=3, z_dim=4, num_res_blocks=1, **WAN22), 1, 2, 2, 2, dict(bfloat16=True)),
    "wan22_vae_original": (
        dict(base_dim=2, decoder_base_dim=3, z_dim=48, num_res_blocks=1, **WAN22), 1, 3, 2, 2, dict(original=True)),
}


def randomise(module, generator):
    """Projections of variance 1 / fan-in, gains near one, no zero anywhere."""
    for name, parameter in sorted(module.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("gamma"):
            parameter.copy_(1 + 0.25 * noise)
        elif parameter.ndim > 1:
            parameter.copy_(noise / math.sqrt(parameter[0].numel()))
        else:
            parameter.copy_(0.1 * noise)


def scale_output(vae, latent):
    """Brings the decoder's output inside [-0.9, 0.9], so that the clamp hides no error."""
    seen = []
    hook = vae.decoder.register_forward_hook(lambda module, inputs, output: seen.append(output.abs().max().item()))
    vae.decode(latent)
    hook.remove()
    for tensor in (vae.decoder.conv_out.weight, vae.decoder.conv_out.bias):
        tensor *= 0.9 / max(seen)


def original_names(config):
    """Pairs (diffusers prefix, original prefix), most specific first."""
    pairs = [("quant_conv", "conv1"), ("post_quant_conv", "conv2")]
    for half in ("encoder", "decoder"):
        pairs += [(f"{half}.conv_in", f"{half}.conv1"), (f"{half}.norm_out", f"{half}.head.0"),
                  (f"{half}.conv_out", f"{half}.head.2"), (f"{half}.mid_block.resnets.0", f"{half}.middle.0"),
                  (f"{half}.mid_block.attentions.0", f"{half}.middle.1"), (f"{half}.mid_block.resnets.1", f"{half}.middle.2")]
    blocks, levels = config["num_res_blocks"], len(config["dim_mult"])
    k = 0
    for i in range(levels):
        if config["is_residual"]:
            pairs += [(f"encoder.down_blocks.{i}.resnets.{j}", f"encoder.downsamples.{i}.downsamples.{j}") for j in range(blocks)]
            pairs += [(f"encoder.down_blocks.{i}.downsampler", f"encoder.downsamples.{i}.downsamples.{blocks}")]
            pairs += [(f"decoder.up_blocks.{i}.resnets.{j}", f"decoder.upsamples.{i}.upsamples.{j}") for j in range(blocks + 1)]
            pairs += [(f"decoder.up_blocks.{i}.upsampler", f"decoder.upsamples.{i}.upsamples.{blocks + 1}")]
        else:
            pairs += [(f"decoder.up_blocks.{i}.resnets.{j}", f"decoder.upsamples.{k + j}") for j in range(blocks + 1)]
            pairs += [(f"decoder.up_blocks.{i}.upsamplers.0", f"decoder.upsamples.{k + blocks + 1}")]
            k += blocks + 2
    return pairs + [("encoder.down_blocks", "encoder.downsamples")]


def to_original(vae):
    leaves = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6", "conv_shortcut": "shortcut"}
    out = {}
    for name, tensor in vae.state_dict().items():
        for ours, theirs in original_names(vae.config):
            if name.startswith(ours + "."):
                rest = name[len(ours) + 1:].split(".")
                out[".".join([theirs] + [leaves.get(part, part) for part in rest])] = tensor.contiguous()
                break
        else:
            raise KeyError(name)
    assert len(out) == len(vae.state_dict())
    return out


def write(name, call, model, inputs, expected, about):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in inputs.items()}, folder / "in.safetensors")
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    case = {"call": call, "model": model, "args": ["--device", "cpu", "--dtype", "float32"],
            "tolerance": {"max_rel_l2": 1e-4}, **about}
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def make(name, config, batch, frames, height, width, options):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    vae = AutoencoderKLWan(**config).eval()
    z = vae.config.z_dim
    if z not in (16, 48):
        vae.register_to_config(latents_mean=[0.1 * i for i in range(z)], latents_std=[1.0 + 0.1 * i for i in range(z)])
    randomise(vae, generator)
    latent = torch.randn(batch, z, frames, height, width, generator=generator)
    scale_output(vae, latent)
    stored = vae.state_dict()
    if options.get("bfloat16"):
        stored = {k: v.to(torch.bfloat16) for k, v in stored.items()}
        vae.load_state_dict({k: v.float() for k, v in stored.items()})
    stride = 2 ** (len(vae.config.dim_mult) - 1) * (vae.config.patch_size or 1)
    time = 2 ** sum(vae.config.temperal_downsample[: len(vae.config.dim_mult) - 1])
    sample = torch.rand(batch, 3, 1 + time * (frames - 1), stride * height, stride * width, generator=generator) * 2 - 1

    encoded = vae.encode(sample).latent_dist.mode()
    decoded = vae.decode(latent).sample
    assert encoded.shape == latent.shape and decoded.shape == sample.shape, (name, encoded.shape, decoded.shape)
    assert 0.05 < encoded.std() < 20 and 0.02 < decoded.std() < 1 and decoded.abs().max() < 1, name

    about = {"reference": "diffusers 0.42.1 AutoencoderKLWan", "config": config, "note": ""}
    if options.get("original"):
        about["dialect"] = "original"
    write(f"{name}_encode", "vae.encode", "model", {"sample": sample}, {"latent": encoded}, about)
    model = HERE / f"{name}_encode" / "model"
    if options.get("original"):
        model.mkdir()
        save_file(to_original(vae), model / "model.safetensors")
    else:
        vae.save_config(model)
        save_file({k: v.contiguous() for k, v in stored.items()}, model / "diffusion_pytorch_model.safetensors")
    write(f"{name}_decode", "vae.decode", f"../{name}_encode/model", {"latent": latent}, {"sample": decoded}, about)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+")
    arguments = parser.parse_args()
    for name, case in CASES.items():
        if not arguments.only or name in arguments.only:
            make(name, *case)
            print(name)


if __name__ == "__main__":
    main()
