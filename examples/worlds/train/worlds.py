"""What differs between the two worlds: their actions, and how long each is trained."""

WORLDS = {
    "pusht": {
        "actions": {
            "type": "continuous",
            "names": ["target_x", "target_y"],
            "low": [0.0, 0.0],
            "high": [512.0, 512.0],
            "units": "simulator pixels, x to the right, y downwards",
            "rate_hz": 10.0,
            "frequencies": 5,
        },
        "seed": 11,
        "tokenizer_steps": 1400,
        "dynamics_steps": 8000,
    },
    "doom": {
        "actions": {
            "type": "discrete",
            "names": ["action"],
            "count": 4,
            "values": ["nothing", "turn left", "turn right", "forward"],
            "units": "index",
            "rate_hz": 8.75,
        },
        "seed": 12,
        "tokenizer_steps": 1600,
        "dynamics_steps": 8000,
    },
}
