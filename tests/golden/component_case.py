"""A golden case of one component, as the tests read it."""

import json

from safetensors.torch import save_file

TOLERANCE = 3e-5


def write_case(folder, call, model, given, expected, dialect, reference, note):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in given.items()}, folder / "in.safetensors")
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    case = {"call": call, "model": model, "args": ["--device", "cpu", "--dtype", "float32"],
            "tolerance": {"max_rel_l2": TOLERANCE}, "dialect": dialect, "reference": reference, "note": note}
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
