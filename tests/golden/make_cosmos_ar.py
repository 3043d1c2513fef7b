"""Golden cases of Predict1's autoregressive transformer in forms that no release has, run through the original network.

    python make_cosmos_ar.py --source <checkout of nvidia-cosmos/cosmos-predict1> [--out <folder>]

Needs torch, einops, safetensors. What the network imports of megatron, omegaconf and the logger is stubbed (one process, tensor
parallel size 1), and `.cuda()` does nothing, so that it runs in float32 on a CPU.
"""

import argparse
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file

from component_case import write_case

BASE = dict(n_layers=2, dim=48, n_heads=6, n_kv_heads=3, head_dim=None, ffn_hidden_size=56, vocab_size=70, norm_type="rmsnorm",
            norm_eps=1e-5, rope_theta=500000, rope_dim="3D", pytorch_rope_version="v2", use_qk_normalization=True,
            causal_mask=True, fuse_qkv=False, apply_abs_pos_emb=False, apply_yarn=False, yarn_scale=None, yarn_beta_fast=None,
            yarn_beta_slow=None, original_latent_shape=None, original_seq_len=8192, insert_cross_attn=False,
            insert_cross_attn_every_k_layers=1, context_dim=20, num_video_frames=33, max_seq_len=64, max_batch_size=2,
            precision="float32", tensor_model_parallel_size=1, video_latent_shape=[2, 3, 5], pad_to_multiple_of=64)

FORMS = {
    "ar_1d_form": dict(rope_dim="1D", pytorch_rope_version="v1", norm_type="layernorm", use_qk_normalization=False,
                       n_kv_heads=None, video_latent_shape=None, pad_to_multiple_of=None),
    "ar_1d_form_yarn": dict(rope_dim="1D", apply_yarn=True, yarn_scale=4, yarn_beta_fast=4, yarn_beta_slow=1,
                            original_seq_len=16, head_dim=10, fuse_qkv=True),
    "ar_1d_form_yarn_v1": dict(rope_dim="1D", pytorch_rope_version="v1", apply_yarn=True, yarn_scale=4, yarn_beta_fast=4,
                               yarn_beta_slow=1, original_seq_len=16),
    "ar_cross_every_second": dict(n_layers=3, insert_cross_attn=True, insert_cross_attn_every_k_layers=2, norm_type="np_layernorm",
                                  norm_eps=1e-3, apply_abs_pos_emb=True),
}


class Params(dict):
    """What the network reads by key and by attribute."""

    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]


def load_network(source: Path):
    for name in ("megatron", "megatron.core", "megatron.core.tensor_parallel", "megatron.core.tensor_parallel.mappings",
                 "megatron.core.tensor_parallel.utils", "omegaconf", "cosmos_predict1.utils.log"):
        sys.modules[name] = MagicMock()
    misc = types.ModuleType("misc")
    misc.maybe_convert_to_namespace = lambda params: params
    misc.__getattr__ = lambda name: MagicMock()
    sys.modules["cosmos_predict1.autoregressive.utils.misc"] = misc
    linear = types.ModuleType("linear")
    linear.VocabParallelEmbedding = linear.ColumnParallelLinear = linear.RowParallelLinear = None
    sys.modules["cosmos_predict1.autoregressive.modules.linear"] = linear
    sys.path.insert(0, str(source))
    torch.Tensor.cuda = lambda self, *arguments, **named: self
    torch.cuda.current_device = lambda: "cpu"
    from cosmos_predict1.autoregressive.modules import embedding
    from cosmos_predict1.autoregressive.networks import transformer

    table = embedding.SinCosPosEmbAxisTE
    transformer.SinCosPosEmbAxisTE = lambda **arguments: table(**arguments, device="cpu")
    return transformer.Transformer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    network = load_network(args.source)
    torch.set_grad_enabled(False)
    for seed, (name, form) in enumerate(FORMS.items(), 71):
        config = Params(BASE | form)
        model = network(config).eval()
        generator = torch.Generator().manual_seed(seed)
        for parameter_name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            gain = parameter.dim() == 1
            parameter.copy_(1 + 0.25 * noise if gain else noise * (2 if "tok_emb" in parameter_name else parameter.shape[1]**-0.5))
        count = 27
        tokens = torch.randint(config["vocab_size"], (2, count), generator=generator)
        given, context = {"input_ids": tokens}, None
        if config["insert_cross_attn"]:
            context = torch.randn((2, 7, config["context_dim"]), generator=generator)
            given["encoder_hidden_states"] = context
        logits = model(tokens, input_pos=torch.arange(count), context=context)

        folder = args.out / name
        (folder / "model").mkdir(parents=True, exist_ok=True)
        save_file({f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}, folder / "model" / "model.safetensors")
        described = {"_class_name": "Transformer", "_library": "cosmos_predict1.autoregressive.networks.transformer", **config,
                     "training_type": "video_to_video"}
        (folder / "model" / "config.json").write_text(json.dumps(described, indent=1) + "\n")
        write_case(folder, "dynamics.logits", "model", given, {"logits": logits}, "original",
                   "nvidia-cosmos/cosmos-predict1 (Apache-2.0), Transformer.forward in float32 on a CPU, megatron stubbed",
                   "random weights; a form that no release has")
        print(name, logits.shape, logits.std().item())


if __name__ == "__main__":
    main()
