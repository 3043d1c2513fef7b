"""The architecture that the worlds share, as their config.json say it, and what differs: actions, seeds, steps."""

TOKENIZER = {"_class_name": "OrreryTokenizer", "sample_size": 64, "latent_size": 8, "latent_channels": 8,
             "widths": [32, 64, 128], "encoder_blocks": [1, 1, 2], "decoder_blocks": [1, 2, 2], "norm_groups": 8,
             "norm_eps": 1e-5}
TRANSFORMER = {"_class_name": "OrreryWorldTransformer", "in_channels": 8, "latent_size": 8, "patch_size": 2,
               "width": 160, "layers": 4, "heads": 5, "mlp_width": 480, "conv_width": 64, "planes": 6, "noise_features": 128, "rope_base": 1000.0,
               "norm_eps": 1e-6, "prediction_type": "sample"}

# The next frame is all but decided by what went before, so one look at it was the best in every figure (README.md).
# A layer whose modulation is zero is the identity, so raising `layers` lets a trained network grow when it is resumed.
WORLDS = {
    "pusht": {
        # A block pushed by a pixel should be a small change of its code: 16x16 places of 4x4 pixels.
        "tokenizer": {**TOKENIZER, "latent_size": 16, "widths": [32, 64], "encoder_blocks": [1, 1], "decoder_blocks": [1, 2]},
        "transformer": {**TRANSFORMER, "latent_size": 16, "patch_size": 4, "width": 192, "layers": 3, "heads": 6, "mlp_width": 576, "planes": 8,
                        "head_convs": 4, "flows": 8},
        "actions": {
            "type": "continuous",
            "names": ["target_x", "target_y"],
            "low": [0.0, 0.0],
            "high": [512.0, 512.0],
            "units": "simulator pixels, x to the right, y downwards",
            "rate_hz": 10.0,
            "frequencies": 5,
        },
        "inference_steps": 1,
        "window": 1,
        "seed": 11,
        "tokenizer_steps": 4500,
        "dynamics_steps": 16500,
    },
    "doom": {
        "tokenizer": TOKENIZER,
        "transformer": TRANSFORMER,
        "actions": {
            "type": "discrete",
            "names": ["action"],
            "count": 4,
            "values": ["nothing", "turn left", "turn right", "forward"],
            "units": "index",
            "rate_hz": 8.75,
        },
        "inference_steps": 1,
        "window": 6,
        "seed": 12,
        "tokenizer_steps": 1300,
        "dynamics_steps": 9600,
    },
}
