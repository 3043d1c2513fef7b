#!/usr/bin/env python3
"""Golden data of Predict1's diffusion decoder: its network, and a clip of tokens sharpened as the original's loop does it.

    make_token_decoder.py --original <checkout of nvidia-cosmos/cosmos-predict1> [--out <folder>]

Needs torch, torchvision, einops and diffusers (for EDMEulerScheduler, which the original takes from there). Random weights, rounded to bfloat16.
"""

import argparse
import pathlib
import shutil
from enum import Enum

import torch
import torch.nn.functional as F
from make_original_layouts import finish, originals, randomise
from safetensors.torch import save_file

CHANNELS, VOCABULARY, TOKEN_DIM = 16, 60, 5  # the channels of cv8x8x8_encode/model, with which the test decodes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--original", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    from diffusers import EDMEulerScheduler

    gen = torch.Generator().manual_seed(77)
    with originals(args.original, ["transformer_engine", "megatron", "loguru", "cosmos_predict1.utils", "cosmos_predict1.diffusion.conditioner"]):
        import cosmos_predict1.diffusion.conditioner as conditioner

        conditioner.DataType = Enum("DataType", "IMAGE VIDEO")
        from cosmos_predict1.autoregressive.diffusion_decoder.network import DiffusionDecoderGeneralDIT

        net = DiffusionDecoderGeneralDIT(
            diffusion_decoder_condition_on_token=True, diffusion_decoder_token_condition_voc_size=VOCABULARY,
            diffusion_decoder_token_condition_dim=TOKEN_DIM, max_img_h=12, max_img_w=16, max_frames=8, in_channels=CHANNELS,
            out_channels=CHANNELS, patch_spatial=2, patch_temporal=1, model_channels=32, num_blocks=2, num_heads=2, mlp_ratio=2.0,
            block_x_format="THWBD", crossattn_emb_channels=10, pos_emb_cls="rope3d", affline_emb_norm=True, use_adaln_lora=True,
            adaln_lora_dim=5, rope_h_extrapolation_ratio=1.5, rope_w_extrapolation_ratio=1.5, rope_t_extrapolation_ratio=1,
            extra_per_block_abs_pos_emb=True, extra_per_block_abs_pos_emb_type="learnable")
        randomise(net, gen)
        net.token_embedder.weight.copy_(torch.randn(net.token_embedder.weight.shape, generator=gen))
        for tensor in net.state_dict().values():
            tensor.copy_(tensor.bfloat16())

        def run(x, t, text, tokens):
            return net(x, t, text, fps=torch.tensor([24.0]), padding_mask=torch.zeros(1, 1, *x.shape[-2:]),
                       latent_condition=tokens.unsqueeze(1), data_type=conditioner.DataType.VIDEO)

        text = torch.randn(1, 7, 10, generator=gen)
        x, tokens = torch.randn(1, CHANNELS, 3, 4, 6, generator=gen), torch.randint(VOCABULARY, (1, 3, 2, 3), generator=gen)
        root = args.out / "token_decoder"
        shutil.rmtree(root, ignore_errors=True)
        place = root / "model"
        place.mkdir(parents=True)
        torch.save({"model": {"net." + k: v.bfloat16() for k, v in net.state_dict().items()}}, place / "model.pt")
        t = torch.tensor([0.3])
        finish(args.out, "token_decoder", {"hidden_states": x, "timestep": t, "encoder_hidden_states": text, "latent_condition": tokens.unsqueeze(1),
                                           "fps": torch.tensor(24.0)}, {"sample": run(x, t, text, tokens)}, "transformer.forward",
               "cosmos-predict1's diffusion decoder, its network and names")
        torch.save({"context": text, "context_mask": torch.ones(1, 7)}, place / "aux_vars.pt")

        # A clip of five latent frames; the window has eight, so that it is reflected at its end.
        clip = torch.randint(VOCABULARY, (1, 5, 2, 3), generator=gen)
        window = F.pad(clip.unsqueeze(1), (0, 0, 0, 0, 0, 3), mode="reflect").squeeze(1)
        scheduler = EDMEulerScheduler(sigma_max=80, sigma_min=0.02, sigma_data=0.5)
        scheduler.set_timesteps(15)
        noise = torch.randn(1, CHANNELS, 8, 4, 6, generator=gen)
        xt = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(xt, timestep=t)
            cond = run(scaled, t.reshape(1), text, window)
            uncond = run(scaled, t.reshape(1), torch.zeros_like(text), torch.zeros_like(window))
            xt = scheduler.step(cond + 1.8 * (cond - uncond), t, xt).prev_sample
    save_file({"tokens": clip, "noise": noise, "latents": (xt / 0.5).contiguous()}, root / "sharpened.safetensors")
    print(float(xt.std()))


if __name__ == "__main__":
    main()
