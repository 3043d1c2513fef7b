"""Golden cases of the tiny autoencoders: diffusers' AutoencoderTiny and AutoencoderKL, and narrow forms of the original TAESD and TAEHV classes.

    python make_tiny.py --taesd <checkout of madebyollin/taesd> --taehv <checkout of madebyollin/taehv> [--out <folder>]

The weights are random (fixed seed) and of the scale at which every layer matters: an untrained network's biases are small and
its residuals vanish beside the skips, so both are drawn larger.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from component_case import write_case


def randomise(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            noise /= parameter[0].numel() ** 0.5
        else:
            # The gain of a norm stays near one, everything else with one dimension is a bias.
            noise = 1 + 0.25 * noise if name.endswith("weight") else 0.1 * noise
        parameter.data.copy_(noise.to(torch.bfloat16).float())
    return module.eval()


def autoencoder_tiny(out: Path, name: str, seed: int, size: tuple, stored: torch.dtype, **config):
    from diffusers import AutoencoderTiny

    model = randomise(AutoencoderTiny(**config), seed)
    folder = out / f"{name}_encode"
    model.to(stored).save_pretrained(folder / "model")
    model.to(torch.float32)
    sample = torch.rand(size, generator=torch.Generator().manual_seed(seed + 1)) * 2 - 1
    with torch.no_grad():
        latent = model.encode(sample).latents
        decoded = model.decode(latent).sample
    reference = "diffusers AutoencoderTiny in float32"
    note = f"random weights stored as {str(stored).removeprefix('torch.')}"
    write_case(folder, "vae.encode", "model", {"sample": sample}, {"latent": latent}, "diffusers", reference, note)
    write_case(out / f"{name}_decode", "vae.decode", f"../{name}_encode/model", {"latent": latent}, {"sample": decoded},
               "diffusers", reference, note)


def autoencoder_kl(out: Path):
    from diffusers import AutoencoderKL

    model = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
                          block_out_channels=(8, 12, 16), layers_per_block=2, latent_channels=3, norm_num_groups=4,
                          scaling_factor=0.3, shift_factor=0.1)
    randomise(model, 61)
    folder = out / "autoencoder_kl_encode"
    model.save_pretrained(folder / "model")
    sample = torch.rand((2, 3, 20, 28), generator=torch.Generator().manual_seed(62)) * 2 - 1
    latent = model.encode(sample).latent_dist.mode()
    decoded = model.decode(latent).sample
    reference, note = "diffusers AutoencoderKL in float32", "random weights"
    write_case(folder, "vae.encode", "model", {"sample": sample}, {"latent": latent}, "diffusers", reference, note)
    write_case(out / "autoencoder_kl_decode", "vae.decode", "../autoencoder_kl_encode/model", {"latent": latent},
               {"sample": decoded}, "diffusers", reference, note)


def narrow_sana(out: Path, taesd):
    """The encoder and decoder of 32 pixels a latent, with the original's blocks in the original's order."""
    conv, block = taesd.conv, taesd.Block
    encoder = nn.Sequential(
        conv(3, 6, stride=2), nn.ReLU(), conv(6, 10, stride=2), nn.ReLU(), block(10, 10),
        *[layer for _ in range(3) for layer in (conv(10, 10, stride=2, bias=False), *(block(10, 10) for _ in range(3)))],
        conv(10, 7))
    widths = [20, 14, 10, 10, 10]
    decoder = nn.Sequential(
        taesd.Clamp(), conv(7, widths[0]), nn.ReLU(),
        *[layer for width, following in zip(widths, widths[1:] + [10])
          for layer in (*(block(width, width) for _ in range(3)), nn.Upsample(scale_factor=2),
                        conv(width, following, bias=False))],
        block(10, 10), conv(10, 3))
    original(out, "taesana_form", encoder, decoder, 31, (1, 3, 96, 160), "two files, as published", halves=True)


def narrow_flux2(out: Path, taesd):
    """Pooled blocks at the resolution of the latents, batch 2: their GroupNorm must see each picture alone."""
    conv, block = taesd.conv, taesd.Block
    pooled = lambda: (block(8, 8, use_midblock_gn=True) for _ in range(3))
    encoder = nn.Sequential(
        conv(3, 8), block(8, 8),
        *[layer for _ in range(2) for layer in (conv(8, 8, stride=2, bias=False), *(block(8, 8) for _ in range(3)))],
        conv(8, 8, stride=2, bias=False), *pooled(), conv(8, 5))
    decoder = nn.Sequential(
        taesd.Clamp(), conv(5, 8), nn.ReLU(), *pooled(), nn.Upsample(scale_factor=2), conv(8, 8, bias=False),
        *[layer for _ in range(2) for layer in (*(block(8, 8) for _ in range(3)), nn.Upsample(scale_factor=2),
                                                conv(8, 8, bias=False))],
        block(8, 8), conv(8, 3))
    original(out, "taef2_form", encoder, decoder, 41, (2, 3, 40, 56), "one file with encoder.* and decoder.*", halves=False)


def original(out: Path, name: str, encoder: nn.Module, decoder: nn.Module, seed: int, size: tuple, note: str, halves: bool):
    randomise(encoder, seed), randomise(decoder, seed + 1)
    model = out / f"{name}_encode" / "model"
    model.mkdir(parents=True, exist_ok=True)
    stored = [{k: v.half().contiguous() for k, v in half.state_dict().items()} for half in (encoder, decoder)]
    if halves:
        for part, state in zip(("encoder", "decoder"), stored):
            save_file(state, model / f"{name}_{part}.safetensors")
    else:
        save_file({f"{prefix}.{k}": v for prefix, half in zip(("encoder", "decoder"), stored) for k, v in half.items()},
                  model / f"{name}.safetensors")
    for half, state in zip((encoder, decoder), stored):
        half.load_state_dict({k: v.float() for k, v in state.items()})
    sample = torch.rand(size, generator=torch.Generator().manual_seed(seed + 2)) * 2 - 1
    with torch.no_grad():
        latent = encoder((sample + 1) / 2)
        decoded = decoder(latent) * 2 - 1
    reference = "madebyollin/taesd (MIT), blocks of the reference at reduced width, in float32"
    write_case(out / f"{name}_encode", "vae.encode", "model", {"sample": sample}, {"latent": latent}, "original", reference, note)
    write_case(out / f"{name}_decode", "vae.decode", f"../{name}_encode/model", {"latent": latent}, {"sample": decoded},
               "original", reference, note)


def narrow_ltx(out: Path, taehv):
    """TAEHV as taeltx has it: patches of 4, three stages that halve time, frames that do not fill the last group."""
    conv, block, pool, grow = taehv.conv, taehv.MemBlock, taehv.TPool, taehv.TGrow
    model = taehv.TAEHV(checkpoint_path=None, patch_size=4, latent_channels=9, encoder_time_downscale=(True,) * 3,
                        decoder_time_upscale=(True,) * 3)
    model.encoder = nn.Sequential(
        conv(48, 8), nn.ReLU(),
        *[layer for _ in range(3) for layer in (pool(8, 2), conv(8, 8, stride=2, bias=False), *(block(8, 8) for _ in range(3)))],
        conv(8, 9))
    widths = [16, 12, 8, 8]
    model.decoder = nn.Sequential(
        taehv.Clamp(), conv(9, widths[0]), nn.ReLU(),
        *[layer for width, following in zip(widths, widths[1:])
          for layer in (*(block(width, width) for _ in range(3)), nn.Upsample(scale_factor=2), grow(width, 2),
                        conv(width, following, bias=False))],
        nn.ReLU(), conv(8, 48))
    randomise(model, 51)
    model_folder = out / "taeltx_form_encode" / "model"
    model_folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.bfloat16().contiguous() for k, v in model.state_dict().items()}, model_folder / "taeltx_form.safetensors")
    sample = torch.rand((2, 3, 11, 32, 64), generator=torch.Generator().manual_seed(52)) * 2 - 1
    latent = model.encode_video((sample.transpose(1, 2) + 1) / 2, show_progress_bar=False)
    decoded = model.decode_video(latent, show_progress_bar=False)
    latent, decoded = latent.transpose(1, 2), decoded.transpose(1, 2) * 2 - 1
    reference = "madebyollin/taehv (MIT), blocks of the reference at reduced width, in float32"
    note = "weights stored as bfloat16; 11 frames make two groups of 8"
    write_case(out / "taeltx_form_encode", "vae.encode", "model/taeltx_form.safetensors", {"sample": sample}, {"latent": latent},
               "original", reference, note)
    write_case(out / "taeltx_form_decode", "vae.decode", "../taeltx_form_encode/model/taeltx_form.safetensors",
               {"latent": latent}, {"sample": decoded}, "original", reference, note)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--taesd", type=Path, required=True)
    parser.add_argument("--taehv", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    sys.path[:0] = [str(args.taesd), str(args.taehv)]
    import taehv
    import taesd

    torch.set_grad_enabled(False)
    widths = dict(encoder_block_out_channels=(12,) * 4, decoder_block_out_channels=(12,) * 4)
    autoencoder_tiny(args.out, "autoencoder_tiny", 11, (2, 3, 24, 40), torch.float32, latent_channels=5, **widths)
    autoencoder_tiny(args.out, "autoencoder_tiny_silu", 21, (1, 3, 36, 20), torch.bfloat16, latent_channels=4,
                     encoder_block_out_channels=(10,) * 3, decoder_block_out_channels=(10,) * 3, num_encoder_blocks=(1, 2, 1),
                     num_decoder_blocks=(2, 1, 2), act_fn="silu", upsample_fn="bilinear", scaling_factor=0.7, shift_factor=0.2)
    autoencoder_kl(args.out)
    narrow_sana(args.out, taesd)
    narrow_flux2(args.out, taesd)
    narrow_ltx(args.out, taehv)


if __name__ == "__main__":
    main()
