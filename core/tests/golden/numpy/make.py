"""Writes the .npy and .npz files of this folder (made with NumPy 2.4.6)."""
import zipfile

import numpy as np

a = np.arange(24, dtype="<f4").reshape(2, 3, 4)
np.save("row_major.npy", a)
np.save("column_major_big_endian.npy", np.asfortranarray(a.astype(">f4")))
for version in (2, 3):
    with open(f"version{version}.npy", "wb") as f:
        np.lib.format.write_array(f, a, version=(version, 0))
np.save("scalar.npy", np.array(-7, dtype="<i8"))
np.save("empty.npy", np.zeros((0, 3), dtype="|b1"))
np.save("many_axes.npy", np.array([1.5, -2], dtype="<f2").reshape((2,) + (1,) * 15))
np.savez("stored.npz", a=a, b=np.array([True, False]), naïve=np.array(3, dtype="|u1"))
np.savez_compressed("deflated.npz", a=a, b=np.array([True, False]), naïve=np.array(3, dtype="|u1"))


class Pipe:
    """Cannot seek, so that sizes and checksums follow the data of a member."""

    def __init__(self, file):
        self.write, self.flush = file.write, file.flush


with open("streamed.npz", "wb") as f:
    with zipfile.ZipFile(Pipe(f), "w") as archive:
        for name, array in np.load("stored.npz").items():
            with archive.open(name + ".npy", "w") as member:
                np.lib.format.write_array(member, array)
