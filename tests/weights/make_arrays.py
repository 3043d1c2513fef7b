"""Writes tests/weights/files/array_*: NumPy files in every form that the reader must know. Run with the reference environment."""

import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent / "files"
array = (np.arange(2 * 3 * 5).reshape(2, 3, 5) - 4)

np.save(HERE / "array_f32.npy", array.astype("<f4"))
np.save(HERE / "array_i64_big.npy", array.astype(">i8"))
np.save(HERE / "array_fortran.npy", np.asfortranarray(array.astype("<f8")))
np.save(HERE / "array_fortran_c64_big.npy", np.asfortranarray(array.astype(">c8") * (1 + 2j)))
np.save(HERE / "array_bool.npy", array % 2 == 0)
np.save(HERE / "array_scalar.npy", np.float16(2.5))
np.save(HERE / "array_empty.npy", np.zeros((0, 3), "u2"))
np.save(HERE / "array_objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
np.save(HERE / "array_strings.npy", np.array(["a", "bc"]))
np.savez(HERE / "arrays.npz", a=array.astype("<f4"), b=array[0].astype("u1"), text=np.array(["x"]))
np.savez_compressed(HERE / "arrays_compressed.npz", a=array.astype("<f4"), b=array[0].astype("u1"))
