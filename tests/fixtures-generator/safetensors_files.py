#!/usr/bin/env python3
"""Writes safetensors files without Sconce's code or the format's own library, for tests/Engine.Tests/Weights, and reads one that Sconce wrote.

Run with Debian's python3-torch (1.13), from anywhere; the outputs are committed, so that the tests need no Python:
    python3 tests/fixtures-generator/safetensors_files.py           write the fixtures
    python3 tests/fixtures-generator/safetensors_files.py --check   read written-by-sconce.safetensors and compare it with what it should hold
"""
import json
import math
import pathlib
import struct
import sys

import numpy
import torch

OUT = pathlib.Path(__file__).resolve().parents[1] / "Engine.Tests" / "Weights" / "Fixtures"
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32", torch.int16: "I16",
    torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64",
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}


def to_bytes(tensor):
    tensor = tensor.contiguous()
    if tensor.dtype == torch.bfloat16:  # numpy has none
        return tensor.view(torch.int16).numpy().tobytes()
    return tensor.numpy().tobytes()


def from_bytes(data, dtype, shape):
    if dtype == torch.bfloat16:
        return torch.from_numpy(numpy.frombuffer(data, "<i2").copy()).view(torch.bfloat16).reshape(shape)
    kind = torch.empty(0, dtype=dtype).numpy().dtype.newbyteorder("<")
    return torch.from_numpy(numpy.frombuffer(data, kind).copy()).reshape(shape)


def listed(tensor):
    flat = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1)
    return [value if math.isfinite(value) else str(value) for value in (float(x) for x in flat.tolist())]


def save(name, tensors, order=None, metadata="none", metadata_last=False, dump=None, extra=None, align=8):
    """One file: the header in the order of the dict, the bytes in the order given."""
    begins, at, data = {}, 0, b""
    for key in order or list(tensors):
        begins[key] = at
        data += to_bytes(tensors[key])
        at = len(data)
    entries = {
        key: {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [begins[key], begins[key] + len(to_bytes(t))], **(extra or {})}
        for key, t in tensors.items()
    }
    if metadata != "none":
        entries = {**entries, "__metadata__": metadata} if metadata_last else {"__metadata__": metadata, **entries}
    header = (dump or (lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))))(entries).encode()
    header += b" " * (-len(header) % align)
    (OUT / name).write_bytes(struct.pack("<Q", len(header)) + header + data)
    return {
        "file": name, "metadata": metadata if isinstance(metadata, dict) else {},
        "tensors": [{"key": key, "dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "bytes": to_bytes(t).hex(), "values": listed(t)} for key, t in tensors.items()],
    }


def every_dtype():
    inf, nan = math.inf, math.nan
    tensors = {
        "complex": torch.tensor([1.5 - 2j, complex(nan, -inf), 0j]),
        "double": torch.tensor([[0.1, -0.0, 5e-324], [inf, -inf, 1.7976931348623157e308]], dtype=torch.float64),
        "long": torch.tensor([-2**63, -1, 0, 2**63 - 1]),
        "float": torch.tensor([[1.5, nan], [-3.4028234663852886e38, 1e-45], [0.0, -inf]]),
        "int": torch.tensor([-2**31, 2**31 - 1], dtype=torch.int32),
        "brain": torch.tensor([1.0, -2.5, 3.3895313892515355e38, nan], dtype=torch.bfloat16),
        "half": torch.tensor([65504.0, 6e-8, -0.0], dtype=torch.float16),
        "short": torch.tensor([-32768, 32767, 5], dtype=torch.int16),
        "bool": torch.tensor([True, False, True]),
        "byte": torch.tensor([0, 127, 255], dtype=torch.uint8),
        "char": torch.tensor([-128, 127], dtype=torch.int8),
    }
    return save("every-dtype.safetensors", tensors, metadata={"format": "pt", "author": "Zoë 🔥", "note": "two\nlines"})


def any_order():
    g = torch.Generator().manual_seed(0)
    tensors = {
        "layer1.0.weight": torch.randn(3, 4, generator=g), "größe": torch.randn(5, generator=g).half(), "\U0001f525.bias": torch.randn(7, generator=g, dtype=torch.float64),
        "with \"quotes\" and \\": torch.tensor(3, dtype=torch.int8), "mask": torch.rand(2, 3, generator=g) > 0.5,
    }
    # Bytes in reverse, behind a header of an odd length with white space and escapes in it and a field that readers ignore.
    return save("any-order.safetensors", tensors, order=list(reversed(tensors)), metadata=None, dump=lambda value: json.dumps(value, indent=3) + "\t\r\n",
                extra={"more": {"of": [1, -0.5e3, None, "\ud83d\ude00", True]}}, align=1)


def shapes():
    tensors = {
        "first.empty": torch.empty(0), "scalar": torch.tensor(2.5), "rows": torch.empty(0, 3, 2), "ones": torch.arange(6.0).reshape(1, 2, 1, 1, 3, 1, 1, 1), "columns": torch.empty(4, 0, dtype=torch.int64),
        "last": torch.tensor([7], dtype=torch.uint8), "last.empty": torch.empty(0, dtype=torch.bool),
    }
    return save("shapes.safetensors", tensors, metadata={}, metadata_last=True)


def written():
    """What the test Write_gives_the_bytes_that_another_reader_reads writes: (7i mod 13) - 6, of each dtype."""
    def values(dtype, *shape):
        return ((7 * torch.arange(math.prod(shape)) % 13) - 6).reshape(shape).to(dtype)

    return {
        "mask": values(torch.bool, 5), "layer.weight": values(torch.float32, 3, 4), "layer.bias": values(torch.bfloat16, 3), "half": values(torch.float16, 2, 2), "double": values(torch.float64, 2),
        "steps": values(torch.int64), "int": values(torch.int32, 3), "short": values(torch.int16, 1, 3), "char": values(torch.int8, 2), "byte": values(torch.uint8, 3), "größe 🔥": values(torch.complex64, 2),
        "empty": values(torch.float32, 0, 4), "transposed": values(torch.float32, 2, 3).t(),
    }


def check():
    data = (OUT / "written-by-sconce.safetensors").read_bytes()
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    body = data[8 + length:]
    assert header.pop("__metadata__") == {"format": "pt", "written": "by Sconce"}
    assert (8 + length) % 64 == 0
    wanted = written()
    assert list(header) == list(wanted), list(header)
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0 and spans[-1][1] == len(body) and all(a[1] == b[0] for a, b in zip(spans, spans[1:]))
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        tensor = from_bytes(body[begin:end], DTYPES[entry["dtype"]], entry["shape"])
        assert tensor.dtype == wanted[key].dtype and torch.equal(tensor, wanted[key]), key
        assert begin % tensor.element_size() == 0, key
    print("written-by-sconce.safetensors:", len(wanted), "tensors as they should be")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
    else:
        OUT.mkdir(exist_ok=True)
        files = [every_dtype(), any_order(), shapes(), save("nothing.safetensors", {}, align=1)]
        (OUT / "safetensors.json").write_text("[\n" + ",\n".join(json.dumps(file, separators=(",", ":")) for file in files) + "\n]\n")
        for file in files:
            print(file["file"], len(file["tensors"]), "tensors", (OUT / file["file"]).stat().st_size, "bytes")
