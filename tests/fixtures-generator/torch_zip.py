#!/usr/bin/env python3
"""Writes what torch.save and torch.jit.save write, and what is in it, for tests/Engine.Tests/Weights.

Run with Debian's python3-torch (1.13), from anywhere; the outputs are committed, so that the tests need no Python:
    python3 tests/fixtures-generator/torch_zip.py
"""
import base64
import collections
import io
import json
import pathlib
import tarfile
import warnings
import zipfile

import torch
from torch import nn

warnings.simplefilter("ignore")
OUT = pathlib.Path(__file__).resolve().parents[1] / "Engine.Tests" / "Weights" / "Fixtures" / "TorchZip"
expected = {}


def bits(tensor):
    """The dense bytes of a tensor, of any dtype."""
    tensor = tensor.detach().contiguous()
    if tensor.numel() == 0:
        return b""
    return bytes(tensor.reshape(-1).view(torch.uint8).tolist()) if tensor.dtype != torch.bool else bytes(tensor.reshape(-1).to(torch.uint8).tolist())


def save(name, value, state=None, root="", **options):
    """Saves a value; state is the state dict in it."""
    torch.save(value, OUT / name, **options)
    if state is None:
        state = value
    expected.setdefault(name, {})[root] = [
        {"key": key, "dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "data": base64.b64encode(bits(t)).decode()} for key, t in state.items()
    ]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def dtypes():
    g = generator(1)
    floats = torch.randn(2, 3, generator=g, dtype=torch.float64)
    state = collections.OrderedDict()
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        state[str(dtype)] = floats.to(dtype)
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        state[str(dtype)] = torch.arange(100, 106).reshape(3, 2).to(dtype)
    state["torch.bool"] = floats > 0
    state["torch.complex64"] = torch.complex(floats, -floats).to(torch.complex64)
    state["torch.complex128"] = torch.complex(floats, -floats)
    state["special"] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])
    return state


def shapes():
    return collections.OrderedDict(
        scalar=torch.tensor(2.5), scalar_int=torch.tensor(-7), empty=torch.empty(0), empty_middle=torch.empty(2, 0, 3), one=torch.ones(1, 1, 1, 1),
        deep=torch.arange(64.0).reshape(1, 2, 1, 2, 1, 2, 1, 2, 2, 2), long=torch.arange(300, dtype=torch.int16),
    )


def views():
    base = torch.arange(60.0).reshape(3, 4, 5)
    state = collections.OrderedDict(
        base=base, transposed=base.transpose(0, 2), sliced=base[1:, ::2, 1:4], row=base[2], column=base[:, :, 3], diagonal=base[0].diagonal(),
        expanded=base[:1, :1].expand(3, 4, 5), permuted=base.permute(1, 2, 0), unfolded=base.flatten().unfold(0, 4, 3), flat=base.flatten()[7:50],
        empty=base[:0], scalar=base[1, 2, 3], newaxis=base[None, 1, :, None, 2],
        flags=(base > 30).t() if base.dim() == 2 else (base > 30).permute(2, 0, 1),
    )
    state["channels_last"] = torch.randn(2, 3, 4, 4, generator=generator(3)).to(memory_format=torch.channels_last)
    return state


class Net(nn.Module):
    """Layers with buffers, tied weights and a nested module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(6, 4)
        self.body = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU())
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("position", torch.arange(6).unsqueeze(0))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    save("dtypes.pt", dtypes())
    save("shapes.pt", shapes())
    save("views.pt", views())
    save("empty.pt", collections.OrderedDict())
    save("plain_dict.pt", {"weight": torch.ones(2)})
    net = Net()
    state = net.state_dict()
    save("module.pth", state)
    save("parameters.pt", collections.OrderedDict(weight=nn.Parameter(torch.arange(4.0)), frozen=nn.Parameter(torch.ones(2, 2), requires_grad=False)))
    large = torch.arange(70_000, dtype=torch.uint8).reshape(700, 100)
    save("sizes.pt", collections.OrderedDict((("cut", large[300:302, :50].t().clone().t()), ("many", torch.zeros(1).expand(70_000)[:3].clone()))))
    many = collections.OrderedDict((f"layer.{i}.bias", torch.tensor([i], dtype=torch.uint8)) for i in range(70))
    save("many.pt", many)
    save(f"{'n' * 120}.pt", {"a" * 300: torch.ones(1), "größe.重み": torch.zeros(1)})

    optimizer = torch.optim.Adam(net.parameters())
    net.train()
    net.body(net.embedding(torch.tensor([[0, 1, 2]])).transpose(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3, "loss": 0.25, "name": "net", "best": None, "done": False, "seed": 2**63 + 5, "sizes": [1, 2, (3, 4)], "shape": torch.Size([2, 3]), "dtype": torch.float16,
        "negative": -70_000, "large": 5_000_000_000,
        "model": net.state_dict(), "optimizer": optimizer.state_dict(), "extra": {"ema.model": {"weight": torch.full((2,), 9.0)}},
    }
    for root, chosen in (("model", checkpoint["model"]), ("extra.ema.model", checkpoint["extra"]["ema.model"])):
        save("checkpoint.pt", checkpoint, chosen, root)

    # What is refused.
    torch.save(state, OUT / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(net.head, OUT / "whole_module.pt")
    torch.save(torch.ones(2), OUT / "tensor.pt")
    torch.save({"w": torch.ones(2)}, OUT / "protocol4.pt", pickle_protocol=4)
    torch.save({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, OUT / "quantized.pt")
    torch.save({"w": torch.ones(2).to_sparse()}, OUT / "sparse.pt")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), OUT / "script.pt")
    with tarfile.open(OUT / "old.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("sys_info")
        tar.addfile(info, io.BytesIO(b""))
    expected["whole_module.pt"] = {"global": f"{type(net.head).__module__}.{type(net.head).__qualname__}"}

    # What the writer must write, byte for byte: a plain OrderedDict of dense tensors, one pair tied, in more than one batch of the pickler.
    golden = collections.OrderedDict()
    shared = torch.arange(6.0).reshape(2, 3)
    golden["weight"] = shared
    golden["tied"] = shared.view(2, 3)
    golden["transposed"] = torch.arange(6, dtype=torch.int64).reshape(2, 3)
    golden["scalar"] = torch.tensor(1.5, dtype=torch.float64)
    golden["deep"] = torch.zeros(1, 2, 1, 2, dtype=torch.bfloat16)
    golden["none"] = torch.empty(0, 3)
    golden["long"] = torch.zeros(70_000, dtype=torch.bool)
    for i in range(1_000):
        golden[f"p{i}"] = torch.full((2,), i % 256, dtype=torch.uint8)
    data = io.BytesIO()
    torch.save(golden, data)
    with zipfile.ZipFile(data) as archive:
        (OUT / "golden.pkl").write_bytes(archive.read("archive/data.pkl"))

    (OUT / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
    for path in sorted(OUT.iterdir()):
        print(path.name[:40], path.stat().st_size)


if __name__ == "__main__":
    main()
