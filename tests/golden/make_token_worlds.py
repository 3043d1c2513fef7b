#!/usr/bin/env python3
"""Golden videos of token worlds: the original tokenizer and the original transformer in a plain loop, no cache.

    make_token_worlds.py --original <checkout of nvidia-cosmos/cosmos-predict1> [--out <folder>]

The canvas, the tokens that are kept and the decoding follow ARBaseGenerationPipeline: the seen frames, the last one repeated up to a
whole clip; the tokens of the seen latent frames; the most likely token each time (temperature 0); all tokens decoded.
Weights are random and rounded to bfloat16; the vocabulary is small, so that the files are.
"""

import argparse
import json
import math
import pathlib
import shutil
import types

import torch
from make_cosmos_ar import BASE, Params, load_network
from make_cosmos_tokenizer import draw, originals
from safetensors.torch import save_file

LEVELS = [5, 4, 3]
TOKENIZER = dict(dropout=0.0, in_channels=3, out_channels=3, z_factor=1, channels=4, channels_mult=[1, 2, 2, 2], num_res_blocks=1,
                 resolution=1024, attn_resolutions=[], z_channels=6, patch_size=2, patch_method="haar", spatial_compression=16,
                 temporal_compression=8, encoder="FACTORIZED", decoder="FACTORIZED", num_groups=1, legacy_mode=False,
                 quantizer="FSQ", embedding_dim=3, levels=LEVELS)
GRID = [5, 2, 3]
NETWORK = BASE | dict(vocab_size=math.prod(LEVELS), video_latent_shape=GRID, max_seq_len=64, dim=32, n_heads=4, n_kv_heads=2,
                      ffn_hidden_size=40)
# name: (changes to the network, training type, its folder, seen frames of the clip)
VIDEO = "Cosmos-Predict1-4B"
WORLDS = {
    "video": (dict(), "video_to_video", VIDEO, 9),
    "image": (dict(), "video_to_video", VIDEO, 1),
    "text": (dict(insert_cross_attn=True, context_dim=20, apply_abs_pos_emb=True), "text_to_video", "Cosmos-Predict1-5B-Video2World", 9),
}


def save(folder, class_name, library, config, state, prefix=""):
    folder.mkdir(parents=True)
    halves = {k: v.bfloat16() for k, v in state.items()}
    save_file({prefix + k: (halves[k] if halves[k].to(v.dtype).equal(v) else v.clone()).contiguous() for k, v in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"_class_name": class_name, "_library": library, **config}, indent=1) + "\n")


def round_weights(module):
    """To what bfloat16 can hold, in which they are stored. Not the buffers, of which the wavelets are one."""
    for parameter in module.parameters():
        parameter.copy_(parameter.bfloat16())
    return module


def make_network(transformer, form, training_type):
    text = training_type == "text_to_video"
    config = Params(NETWORK | form | dict(training_type=training_type))
    rows = config["vocab_size"] + text
    padded = Params(config | dict(vocab_size=(rows + 63) // 64 * 64 if text else rows))
    network = transformer(padded, tokenizer_config=types.SimpleNamespace(training_type=training_type)).eval()
    if text:  # as checkpoints have it: the begin token has an embedding and no logit
        network.output = torch.nn.Linear(config["dim"], config["vocab_size"], bias=False)
    generator = torch.Generator().manual_seed(43)
    for key, parameter in sorted(network.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 3 if "tok_emb" in key else 6 if key.startswith("output") else 3
        parameter.copy_(1 + 0.25 * noise if parameter.dim() == 1 else noise * scale * parameter.shape[1]**-0.5)
    return config, round_weights(network)


def tokens_of(tokenizer, clip):
    """Tokens of the canvas: the clip, its last frame repeated up to a whole one. None where a value lies near a rounding boundary."""
    frames = 1 + 8 * (GRID[0] - 1)
    canvas = torch.cat([clip, clip[:, :, -1:].expand(-1, -1, frames - clip.shape[2], -1, -1)], 2)
    bound = tokenizer.quantizer.bound(tokenizer.quant_conv(tokenizer.encoder(canvas)).movedim(1, -1))
    if float((bound - bound.floor() - 0.5).abs().min()) < 3e-4:
        return None
    indices, _, _ = tokenizer.encode(canvas)
    assert list(indices.shape[1:]) == GRID, indices.shape
    return indices


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--original", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "token_worlds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    classes = originals(args.original)
    transformer = load_network(pathlib.Path(args.original))
    tokenizer = draw(classes["CausalDiscreteVideoTokenizer"](**TOKENIZER, dtype=torch.float32), 5)
    for key, parameter in tokenizer.named_parameters():
        if "decoder.conv_out" in key:
            parameter.mul_(0.5)  # else most pixels are clamped
    round_weights(tokenizer)
    shutil.rmtree(args.out, ignore_errors=True)
    save(args.out / "Cosmos-Tokenize1-DV8x16x16-720p", "CausalDiscreteVideoTokenizer", "cosmos_predict1.tokenizer.networks", TOKENIZER,
         tokenizer.state_dict())
    generator = torch.Generator().manual_seed(31)
    while True:
        pictures = torch.randint(256, (9, 16 * GRID[1], 16 * GRID[2], 3), generator=generator, dtype=torch.uint8)
        clip = pictures.permute(3, 0, 1, 2).unsqueeze(0) / 127.5 - 1
        seen_tokens = {seen: tokens_of(tokenizer, clip[:, :, :seen]) for seen in (1, 9)}
        if all(tokens is not None for tokens in seen_tokens.values()):
            break
    given, expected, networks = {"pictures": pictures}, {}, {}
    for name, (form, training_type, folder, seen) in WORLDS.items():
        text = training_type == "text_to_video"
        if folder not in networks:
            torch.manual_seed(3)
            networks[folder] = make_network(transformer, form, training_type)
            save(args.out / folder, "Transformer", "cosmos_predict1.autoregressive.networks.transformer", networks[folder][0],
                 networks[folder][1].state_dict(), "model.")
        config, network = networks[folder]
        known = 1 + (seen - 1) // 8
        tokens, context = seen_tokens[seen].flatten(1)[:, :known * GRID[1] * GRID[2]].long(), None
        if text:
            context = given["prompt_embeds"] = torch.randn(1, 7, config["context_dim"], generator=generator)
            tokens = torch.cat([torch.full((1, 1), config["vocab_size"]), tokens], 1)
        margin = math.inf
        while tokens.shape[1] < math.prod(GRID) + text:
            logits = network(tokens, input_pos=torch.arange(tokens.shape[1]), context=context)[:, -1]
            first, second = logits.topk(2).values[0]
            margin = min(margin, float(first - second))
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
        assert margin > 1e-3, margin
        tokens = expected[name] = tokens[:, int(text):].reshape(1, *GRID).int().contiguous()
        video = tokenizer.decode_code(tokens)
        if name == "video":
            expected["last_frame"] = video[:, :, -1:].clamp(-1, 1).contiguous()
        print(name, "margin", margin, "different tokens", len(tokens.unique()), "std", float(video.std()))
    save_file({k: v.contiguous() for k, v in given.items()}, args.out / "in.safetensors")
    save_file(expected, args.out / "expected.safetensors")


if __name__ == "__main__":
    with torch.no_grad():
        main()
