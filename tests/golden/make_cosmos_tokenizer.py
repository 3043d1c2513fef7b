#!/usr/bin/env python3
"""Makes the golden cases of the Cosmos tokenizers.

    make_cosmos_tokenizer.py OUT [--only NAME…] [--original CHECKOUT]

Without --original: AutoencoderKLCosmos of diffusers 0.42.1. With it, also the variants of the original networks that no
release uses (full 3D convolutions, a VAE, rearranged patches, the older temporal upsampling); CHECKOUT is
nvidia-cosmos/cosmos-predict1 at 4ed35faa, which needs einops. Fixed seeds, tiny weights of which none is zero, one thread.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys
import types

import torch
from safetensors.torch import save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)


def draw(module, seed):
    """Matrices scaled by their fan-in, gains near 1, biases around 0; in the order of the names."""
    gen = torch.Generator().manual_seed(seed)
    for _, p in sorted(module.named_parameters()):
        r = torch.randn(p.shape, generator=gen)
        if p.ndim > 1:
            p.copy_(r / math.sqrt(p[0].numel()))
        else:
            p.copy_(0.1 * r)
    for name, p in module.named_parameters():
        if "norm" in name and name.endswith("weight"):
            p.add_(1.0)
    return module.eval()


def rounded(module):
    for p in module.parameters():
        p.copy_(p.to(torch.bfloat16).float())


def stored(state, bfloat16):
    return {k: v.to(torch.bfloat16) if bfloat16 and v.is_floating_point() else v.clone().contiguous() for k, v in state.items()}


class Writer:
    def __init__(self, out):
        self.out = pathlib.Path(out)

    def case(self, name, half, inputs, expected, about, save=None):
        path = self.out / f"{name}_{half}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        if save:
            (path / "model").mkdir()
            save(path / "model")
        save_file({k: v.contiguous() for k, v in inputs.items()}, str(path / "in.safetensors"))
        save_file({k: v.contiguous() for k, v in expected.items()}, str(path / "expected.safetensors"))
        for key, value in expected.items():
            if value.is_floating_point():
                assert torch.isfinite(value).all() and value.std() > 0.02, f"{name} {key} is degenerate"
        text = {"call": f"vae.{half}", "model": "model" if save else f"../{name}_encode/model",
                "args": ["--device", "cpu", "--dtype", "float32"], "tolerance": {"max_rel_l2": 3e-5}, **about}
        (path / "case.json").write_text(json.dumps(text, indent=1) + "\n")


# ------------------------------------------------------------------------------------------------ diffusers
DIFFUSERS = {
    # name: (constructor's arguments, clip [B,T,H,W], stored as bfloat16)
    "cosmos_cv8x8x8": (dict(attention_resolutions=(8,), resolution=64, num_layers=1), (2, 17, 24, 40), False),
    "cosmos_cv4x8x8_bf16": (dict(patch_size=2, temporal_compression_ratio=4, attention_resolutions=(16,), resolution=64),
                            (1, 13, 40, 24), True),
    "cosmos_cv8x16x16": (dict(spatial_compression_ratio=16, num_layers=1), (1, 9, 48, 32), True),
    "cosmos_cv4x8x8_image": (dict(temporal_compression_ratio=4, num_layers=1), (1, 1, 24, 16), True),
    "cosmos_rearrange": (dict(patch_size=2, patch_type="rearrange", num_layers=1, in_channels=3), (1, 9, 16, 24), False),
}


def make_diffusers(writer, name, seed):
    from diffusers import AutoencoderKLCosmos

    over, (batch, frames, height, width), bfloat16 = DIFFUSERS[name]
    gen = torch.Generator().manual_seed(seed + 1)
    config = dict(latent_channels=5, encoder_block_out_channels=(8, 8, 16, 12), decode_block_out_channels=(8, 12, 16, 16),
                  latents_mean=torch.randn(20, generator=gen).mul(0.3).round(decimals=3).tolist(),
                  latents_std=torch.rand(20, generator=gen).add(0.5).round(decimals=3).tolist())
    vae = draw(AutoencoderKLCosmos(**{**config, **over}), seed)
    if bfloat16:
        rounded(vae)

    def save(path):
        vae.save_pretrained(path)
        if bfloat16:
            file = path / "diffusion_pytorch_model.safetensors"
            save_file(stored(vae.state_dict(), True), str(file), metadata={"format": "pt"})

    about = {"reference": "diffusers 0.42.1 AutoencoderKLCosmos"}
    sample = torch.rand(batch, 3, frames, height, width, generator=gen) * 2 - 1
    latent = vae.encode(sample).latent_dist.mode()
    writer.case(name, "encode", {"sample": sample}, {"latent": latent}, about, save)
    other = torch.randn(latent.shape, generator=gen)
    writer.case(name, "decode", {"latent": other}, {"sample": vae.decode(other).sample}, about)


# ------------------------------------------------------------------------------------------------ the original's variants
COMMON = dict(dropout=0.0, in_channels=3, out_channels=3, z_factor=1, channels=8, channels_mult=[1, 2, 1], num_res_blocks=1,
              resolution=64, attn_resolutions=[], z_channels=6, patch_size=2, patch_method="haar", spatial_compression=8,
              temporal_compression=4)
VIDEO = dict(COMMON, encoder="FACTORIZED", decoder="FACTORIZED", num_groups=1, legacy_mode=False)
ORIGINAL = {
    # name: (class, arguments, clip)
    "cv_base": ("CausalContinuousVideoTokenizer",
                dict(COMMON, encoder="BASE", decoder="BASE", num_groups=1, latent_channels=5, attn_resolutions=[16]), (2, 17, 24, 16)),
    "cv_base_groups": ("CausalContinuousVideoTokenizer",
                       dict(COMMON, encoder="BASE", decoder="BASE", num_groups=4, latent_channels=4, patch_size=4), (1, 9, 32, 48)),
    "cv_vae_rearrange": ("CausalContinuousVideoTokenizer",
                         dict(VIDEO, z_factor=2, latent_channels=4, formulation="VAE", patch_method="rearrange"), (1, 9, 24, 16)),
    "cv_legacy": ("CausalContinuousVideoTokenizer", dict(VIDEO, legacy_mode=True, latent_channels=4), (1, 9, 16, 24)),
    "dv8x8x8_levels": ("CausalDiscreteVideoTokenizer",
                       dict(VIDEO, quantizer="FSQ", embedding_dim=4, levels=[7, 5, 6, 5], temporal_compression=8,
                            attn_resolutions=[32]), (2, 9, 24, 16)),
    "ci_vae": ("ContinuousImageTokenizer",
               dict(COMMON, channels=32, channels_mult=[1, 1], z_factor=2, latent_channels=4, formulation="VAE",
                    patch_method="rearrange", attn_resolutions=[16]), (2, 32, 24)),
}


def originals(checkout):
    """The reference's package, without the logger that it only prints with."""
    logger = types.ModuleType("loguru")
    logger.logger = types.SimpleNamespace(info=lambda *a, **k: None, warning=lambda *a, **k: None)
    sys.modules.setdefault("loguru", logger)
    sys.path.insert(0, checkout)
    from cosmos_predict1.tokenizer.networks import (continuous_image, continuous_video, discrete_image, discrete_video)
    classes = {}
    for module in (continuous_image, continuous_video, discrete_image, discrete_video):
        classes.update({k: v for k, v in vars(module).items() if k.endswith("Tokenizer")})
    return classes


def make_original(writer, name, seed, classes):
    cls, config, (batch, *clip) = ORIGINAL[name]
    discrete = "Discrete" in cls
    net = draw(classes[cls](**config, dtype=torch.float32), seed)
    gen = torch.Generator().manual_seed(seed + 1)
    while True:  # no value may lie near a rounding boundary of the quantiser
        sample = torch.rand(batch, 3, *clip, generator=gen) * 2 - 1
        moments = net.quant_conv(net.encoder(sample))
        if not discrete:
            break
        bound = net.quantizer.bound(moments.movedim(1, -1))
        if float((bound - bound.floor() - 0.5).abs().min()) > 3e-4:
            break

    def save(path):
        save_file(stored(net.state_dict(), False), str(path / "model.safetensors"))
        text = {"_class_name": cls, "_library": "cosmos_predict1.tokenizer.networks", **config}
        (path / "config.json").write_text(json.dumps(text, indent=1) + "\n")

    about = {"dialect": "original", "reference": f"nvidia-cosmos/cosmos-predict1@4ed35faa (Apache-2.0) {cls}"}
    if discrete:
        indices, codes, _ = net.encode(sample)
        expected = {"indices": indices, "latent": codes}
        shape = indices.shape
        most = math.prod(config["levels"])
        inputs = {"indices": torch.randint(0, most, shape, generator=gen, dtype=torch.int32)}
        decoded = net.decode_code(inputs["indices"])
    else:
        mode = moments.chunk(2, 1)[0] if config.get("formulation") == "VAE" else moments
        expected = {"latent": mode}
        inputs = {"latent": torch.randn(mode.shape, generator=gen)}
        decoded = net.decode(inputs["latent"])
    writer.case(name, "encode", {"sample": sample}, expected, about, save)
    writer.case(name, "decode", inputs, {"sample": decoded}, about)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--original")
    args = parser.parse_args()
    writer = Writer(args.out)
    wanted = lambda name: not args.only or any(name.startswith(o) for o in args.only)
    for i, name in enumerate(DIFFUSERS):
        if wanted(name):
            make_diffusers(writer, name, 100 + i)
    if wanted("cosmos_mean_std"):  # as beside an original CV checkpoint of 16 channels, for windows of 2 latents; no case
        folder = pathlib.Path(args.out) / "cosmos_mean_std"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save((torch.arange(32.0), torch.arange(32.0) / 8 + 1), folder / "mean_std.pt")
    if args.original:
        classes = originals(args.original)
        for i, name in enumerate(ORIGINAL):
            if wanted(name):
                make_original(writer, name, 200 + i, classes)


if __name__ == "__main__":
    main()
