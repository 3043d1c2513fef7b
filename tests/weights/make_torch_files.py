"""Writes tests/weights/files: checkpoints in every form that torch writes, and what the reader must find in them.

Each NAME.pt (or .jit) has a NAME.expected.safetensors beside it, except the hostile ones. Run with the reference
environment: python tests/weights/make_torch_files.py
"""

import argparse
import io
import pathlib
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "files"


def expect(name, tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, HERE / f"{name}.expected.safetensors")


def save(name, value, tensors, **options):
    torch.save(value, HERE / f"{name}.pt", **options)
    expect(name, tensors)


def everything(legacy=False):
    base = torch.randn(5, 7)
    tensors = OrderedDict(
        f32=torch.randn(3, 5), f64=torch.randn(3).double(), f16=torch.randn(4).half(), bf16=torch.randn(2, 3).bfloat16(),
        i64=torch.arange(-3, 4), i32=torch.arange(5, dtype=torch.int32), i16=torch.arange(5, dtype=torch.int16),
        i8=torch.arange(-2, 3, dtype=torch.int8), u8=torch.arange(9, dtype=torch.uint8), bool=torch.tensor([True, False, True]),
        c64=torch.randn(3, dtype=torch.complex64), scalar=torch.tensor(2.5), empty=torch.empty(0, 3), transposed=base.t(),
        part=base[1:4, 2:6], shared=base, column=base[:, 3], expanded=torch.randn(3, 1).expand(3, 4))
    if not legacy:
        tensors.update(f8=torch.randn(6).to(torch.float8_e4m3fn), f8b=torch.randn(6).to(torch.float8_e5m2),
                       u16=torch.arange(4).to(torch.uint16), u16_part=torch.arange(9).to(torch.uint16)[2:7])
    tensors["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    return tensors


def as_plain(tensors):
    return {k: v.detach().contiguous() for k, v in tensors.items()}


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(2, 3, 3)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)])
        self.register_buffer("table", torch.arange(4.0))
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        x = self.first(x).mean((2, 3)) * self.scale + self.table[0]
        for block in self.blocks:
            x = block(x)
        return x


def write_tar(path, tensors):
    """The form of torch < 0.1.10, which torch still reads and no longer writes."""
    def dump(value):
        return pickle.dumps(value, protocol=2)

    storages, tensor_file, ids = io.BytesIO(), io.BytesIO(), {}
    storages.write(dump(len(tensors)))
    for i, tensor in enumerate(tensors.values()):
        kind = {torch.float32: torch.FloatStorage, torch.float16: torch.HalfStorage, torch.int64: torch.LongStorage}[tensor.dtype]
        storage = tensor.untyped_storage()
        storages.write(dump((1000 + i, "cpu", kind)))
        storages.write(struct.pack("<q", storage.nbytes() // tensor.element_size()) + bytes(storage.tolist()))
    views = [(3000, 1000, 2, 6)]
    storages.write(dump(views))
    tensor_file.write(dump(len(tensors) + 1))
    listed = list(tensors.items())
    for i, (name, tensor) in enumerate(listed + [("view", listed[0][1].flatten()[3:6])]):
        is_view = i == len(listed)
        tensor_file.write(dump((2000 + i, 3000 if is_view else 1000 + i, torch.FloatTensor)))
        tensor_file.write(struct.pack("<ii", tensor.dim(), 0) + struct.pack(f"<{tensor.dim()}q", *tensor.shape))
        tensor_file.write(struct.pack(f"<{tensor.dim()}q", *tensor.stride()))
        tensor_file.write(struct.pack("<q", 1 if is_view else tensor.storage_offset()))
        ids[name] = 2000 + i

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.key if isinstance(value, Key) else None

    class Key:
        def __init__(self, key):
            self.key = key

    main = io.BytesIO()
    Pickler(main, protocol=2).dump(OrderedDict((name, Key(i)) for name, i in ids.items()))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in [("sys_info", dump({"little_endian": True})), ("pickle", main.getvalue()),
                              ("tensors", tensor_file.getvalue()), ("storages", storages.getvalue())]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    expected = dict(tensors, view=listed[0][1].flatten()[3:6])
    loaded = torch.load(path, weights_only=False)
    assert set(loaded) == set(expected) and all(torch.equal(loaded[k], expected[k]) for k in expected)
    expect("tar", expected)


def save_scripted(name, module, tensors):
    """Only what describes the data is kept of an archive: its code and debug files hold sources of torch and machine paths."""
    whole = io.BytesIO()
    torch.jit.save(module, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(HERE / f"{name}.jit", "w") as target:
        for member in source.namelist():
            if "/code/" not in member and ".debug_pkl" not in member:
                target.writestr(member, source.read(member))
    expect(name, tensors)


def write_hostile():
    """Pickles that a plain unpickler would obey; the command is harmless all the same."""
    attack = b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01cposix\nsystem\nq\x02X\x04\x00\x00\x00trueq\x03\x85q\x04Rq\x05s."
    with zipfile.ZipFile(HERE / "hostile.pt", "w") as archive:
        archive.writestr("archive/data.pkl", attack.replace(b"posix", b"os"))
        archive.writestr("archive/version", "3\n")
    (HERE / "hostile_eval.pt").write_bytes(b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x04eval\x94\x93\x94\x8c\x031+1\x94\x85\x94R\x94.")
    (HERE / "hostile_protocol0.pt").write_bytes(b"csubprocess\ncheck_output\n(S'true'\ntR.")


def main():
    torch.manual_seed(0)
    HERE.mkdir(exist_ok=True)
    tensors = everything()
    save("zip", tensors, as_plain(tensors))
    save("protocol4", tensors, as_plain(tensors), pickle_protocol=4)
    with zipfile.ZipFile(HERE / "zip.pt") as source, zipfile.ZipFile(HERE / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.namelist():
            target.writestr(member, source.read(member))
    expect("deflated", as_plain(tensors))
    old = everything(legacy=True)
    save("legacy", old, as_plain(old), _use_new_zipfile_serialization=False)

    model = Small()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 2, 5, 5)).sum().backward()
    optimizer.step()
    state = {k: v for k, v in model.state_dict().items()}
    averaged = {k: v * 0 for k, v in state.items()}
    save("training", {"epoch": 3, "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a/b")), "state_dict": state,
                      "optimizer": optimizer.state_dict(), "ema": averaged, "loss": float("nan"), "big": 1 << 80,
                      "extra": {"_extra_state": io.BytesIO(b"abc"), "shape": torch.Size([1, 2])}}, state)
    save("wrapped", {"model": {**{f"module.net.{k}": v for k, v in state.items()}, "module.net.first._extra_state": torch.zeros(3),
                               **{f"module.net_ema.{k}": v for k, v in averaged.items()}}}, state)
    save("parts", {"encoder": {"a": torch.ones(2)}, "decoder": {"a": torch.zeros(3), "list": [torch.ones(1), torch.ones(2)]}},
         {"encoder.a": torch.ones(2), "decoder.a": torch.zeros(3), "decoder.list.0": torch.ones(1), "decoder.list.1": torch.ones(2)})
    save("lone", torch.arange(6.0).reshape(2, 3), {"tensor": torch.arange(6.0).reshape(2, 3)})
    whole = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Sequential(torch.nn.Linear(2, 2)))
    save("whole", whole, whole.state_dict())
    # The legacy form stores the sources of the classes; they are torch's, and not needed here.
    torch.serialization.get_source_lines_and_file = lambda value: (["source"], 0, "module.py")
    save("whole_legacy", whole, whole.state_dict(), _use_new_zipfile_serialization=False)

    place = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: "cuda:0"
    save("cuda", {"w": torch.ones(3)}, {"w": torch.ones(3)})
    torch.serialization.location_tag = place

    save_scripted("scripted", torch.jit.script(model.eval()), state)
    save_scripted("traced", torch.jit.trace(model, torch.randn(1, 2, 5, 5)), state)
    write_tar(HERE / "tar.pt", OrderedDict(a=torch.randn(3, 4), b=torch.arange(5), c=torch.randn(4, 2).half().t()))
    write_hostile()


if __name__ == "__main__":
    main()
