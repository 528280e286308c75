"""HDF5 files as Keras has them, read without HDF5's library, which here makes them and is the independent answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need, needs
from recurray.convert.keras.hdf5 import Hdf5

pytestmark = needs("h5py")


def read(path: Path) -> Hdf5:
    return Hdf5(path.read_bytes())


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_arrays_are_those_of_h5py(libver: str, tmp_path: Path) -> None:
    """Of every type and order of bytes, compact, contiguous and in chunks, compressed or not, empty and a number."""
    h5py = need("h5py")
    rng = np.random.default_rng(0)
    arrays = {
        "contiguous": rng.standard_normal((5, 7)),
        "half": rng.standard_normal(9).astype("<f2"),
        "single": rng.standard_normal((2, 3, 4)).astype("<f4"),
        "big": rng.standard_normal((3, 2)).astype(">f8"),
        "number": np.asarray(2.5, "f4"),
        "empty": np.zeros((0, 3), "f4"),
    }
    chunked = {
        "chunks": {"chunks": (3, 4)},
        "gzip": {"chunks": (4, 4), "compression": "gzip"},
        "shuffled": {"chunks": (2, 7), "compression": "gzip", "shuffle": True},
    }
    with h5py.File(tmp_path / "file.h5", "w", libver=libver) as file:
        for number in range(300):  # a tree of several nodes
            file[f"many/array {number}"] = np.full(2, float(number))
        for name, array in arrays.items():
            file[f"a/b/{name}"] = array
        for name, options in chunked.items():
            file.create_dataset(name, data=arrays["contiguous"], **options)
    if libver == "latest":  # groups of many names and new ways to keep chunks, which Keras doesn't write
        with pytest.raises(rr.FormatError, match="newest HDF5 files"):
            read(tmp_path / "file.h5").names("many")
    else:
        found = read(tmp_path / "file.h5")
        assert found.array("many/array 217").tolist() == [217.0, 217.0]
        assert len(found.names("many")) == 300
        for name in chunked:
            np.testing.assert_array_equal(found.array(name), arrays["contiguous"])
    found = read(tmp_path / "file.h5")
    for name, array in arrays.items():
        if not (libver == "latest" and name == "empty"):
            np.testing.assert_array_equal(found.array(f"a/b/{name}"), array)
        assert found.array(f"a/b/{name}").dtype == array.dtype.newbyteorder("=")
    assert found.has("a/b")
    assert not found.has("a/c")
    assert found.names("nowhere") == []


def test_bfloat16(tmp_path: Path) -> None:
    h5py, ml_dtypes = need("h5py"), need("ml_dtypes")
    values = np.asarray([1.0, -2.5, 3e38, 1e-40], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["a"] = values
        file["a"].attrs["dtype"] = "bfloat16"
    np.testing.assert_array_equal(read(tmp_path / "file.h5").array("a"), values.astype("float32"))


def test_attributes_are_those_of_h5py(tmp_path: Path) -> None:
    h5py = need("h5py")
    names = [f"layer {number} ü" for number in range(9)]
    attributes: dict[str, Any] = {
        "text": "ein Wört",
        "bytes": b"fixed",
        "one": np.bytes_(b"numpy"),
        "texts": names,
        "fixed texts": [name.encode() for name in names],
        "long0": names[:4],
        "long1": names[4:],
        "empty": [],
    }
    with h5py.File(tmp_path / "file.h5", "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        file.attrs["number"] = 3.0
    found = read(tmp_path / "file.h5")
    assert found.text("", "text") == "ein Wört"
    assert found.text("", "bytes") == "fixed"
    assert found.text("", "one") == "numpy"
    assert found.texts("", "texts") == found.texts("", "fixed texts") == found.texts("", "long") == names
    assert found.texts("", "empty") == []
    assert found.texts("", "nothing") is None
    assert found.text("nowhere", "text") is None
    with pytest.raises(rr.FormatError, match="the attribute number of '' must be text"):
        found.text("", "number")
    with pytest.raises(rr.FormatError, match="the attribute texts of '' must be one text, not 9"):
        found.text("", "texts")


def test_what_leads_out_of_the_file_is_refused(tmp_path: Path) -> None:
    h5py = need("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.ones(3)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (3,))
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["here"] = np.ones(3)
        file["soft"] = h5py.SoftLink("/here")
        file["far"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (3,), "f8", external=[("/etc/passwd", 0, 24)])
    found = read(tmp_path / "file.h5")
    for name, words in (
        ("soft", "'soft' is a link to another place"),
        ("far", "'far' is a link to another place"),
        ("virtual", "the array 'virtual' is kept in a way that isn't read"),
        ("raw", "the array 'raw' lies in another file, which isn't opened"),
    ):
        with pytest.raises(rr.FormatError, match=words):
            found.array(name)
    with h5py.File(tmp_path / "file.h5", "w") as file:  # in groups of the older kind
        file["here"] = np.ones(3)
        file["soft"] = h5py.SoftLink("/here")
    with pytest.raises(rr.FormatError, match="'soft' is a link to another place"):
        read(tmp_path / "file.h5").array("soft")


def test_what_is_not_read_is_refused(tmp_path: Path) -> None:
    h5py = need("h5py")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["integers"] = np.arange(3)
        file["text"] = "text"
        file.create_dataset("lzf", data=np.ones((9, 9)), compression="lzf")
        file.create_dataset("unwritten", (3,), "f8")
        file.create_dataset("absurd", (10**7, 10**5), "f8")
        file.create_dataset("half written", (4, 4), "f8", chunks=(2, 4))[:2] = 1.0
        file.create_group("group")
    found = read(tmp_path / "file.h5")
    for name, words in (
        ("integers", "must be of floating-point numbers of 2, 4 or 8 bytes"),
        ("text", "must be of floating-point numbers"),
        ("lzf", "HDF5's filter 32000, which isn't read: gzip is"),
        ("unwritten", "the array 'unwritten' was never written"),
        ("absurd", r"of shape \(10000000, 100000\) is far larger than its file"),
        ("half written", "isn't whole: 1 chunks are missing"),
        ("group", "the array 'group' is missing"),
        ("nothing", "the array 'nothing' is missing"),
    ):
        with pytest.raises(rr.FormatError, match=words):
            found.array(name)


def test_compression_bombs_are_refused(tmp_path: Path) -> None:
    """An array of the right shape that is compressed from far more, and arrays that are small in the file alone."""
    import zlib

    h5py = need("h5py")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        array = file.create_dataset("bomb", (4, 4), "f8", chunks=(4, 4), compression="gzip")
        array.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**26)))
        for number in range(3):
            file.create_dataset(f"zeros {number}", data=np.zeros(2**22), chunks=(2**20,), compression="gzip")
    found = read(tmp_path / "file.h5")
    with pytest.raises(rr.FormatError, match="a chunk is compressed from more bytes than it has"):
        found.array("bomb")
    for number in range(2):
        assert not found.array(f"zeros {number}").any()
    with pytest.raises(rr.FormatError, match="far larger than its file"):
        found.array("zeros 2")
