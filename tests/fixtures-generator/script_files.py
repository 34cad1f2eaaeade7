#!/usr/bin/env python3
"""Writes TorchScript files, scripted and traced, and what they compute, for tests/Engine.Tests/Weights/Script.

Run with Debian's python3-torch (1.13), from anywhere; the outputs are committed, so that the tests need no Python:
    python3 tests/fixtures-generator/script_files.py
"""
import enum
import json
import pathlib
import warnings
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

warnings.simplefilter("ignore")
OUT = pathlib.Path(__file__).resolve().parents[1] / "Engine.Tests" / "Weights" / "Fixtures" / "Script"
expected = {}


def value(tensor):
    return {"shape": list(tensor.shape), "data": tensor.detach().double().reshape(-1).tolist()}


def record(name, module, *inputs):
    """Saves a module in eval mode, with what it gives and its gradients."""
    module.eval()
    module.save(str(OUT / name))
    output = module(*inputs)
    output = output if isinstance(output, Tensor) else output[0]
    output.sum().backward()
    expected[name] = {
        "inputs": [value(i) for i in inputs],
        "output": value(output),
        "state": [{"key": k, "dtype": str(v.dtype).removeprefix("torch.")} | value(v) for k, v in module.state_dict().items()],
        "grads": {k: value(p.grad) for k, p in module.named_parameters() if p.grad is not None},
    }


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(torch.relu(self.norm(self.linear(x))))


class Net(nn.Module):
    """Submodules, all kinds of buffers, loops and branches, a second method, several inputs and outputs."""

    names: List[str]

    def __init__(self):
        super().__init__()
        self.block = Block()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.names = ["a", "torch.save(\"b\")"]

    def forward(self, x: Tensor, shift: Optional[Tensor] = None, times: int = 2) -> Tuple[Tensor, Tuple[Tensor, List[Tensor]]]:
        for i in range(times):
            x = x + self.hidden.sum() * 0.5
        if shift is not None:
            x = x + shift
        y = self.block(x)
        assert y.dim() == 2, f"expected 2 dimensions, got {y.dim()}"
        if self.training:
            self.count += 1
        return y * self.scale, (y.mean(0), [y[:, 0]])

    @torch.jit.export
    def double(self, x: Tensor) -> Tensor:
        return torch.stack([x, x]).sum(0) * self.scale


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@torch.jit.script
class Scaled:
    """An object that is no module."""

    def __init__(self, by: int):
        self.by = by

    def of(self, x: Tensor) -> Tensor:
        return x * self.by


class Containers(nn.Module):
    """Every kind of container and of value that a module can hold."""

    ints: List[int]
    sizes: Dict[str, int]
    tensors: List[Tensor]
    pair: Tuple[int, Tensor]
    missing: Optional[Tensor]
    nested: List[List[float]]
    device: torch.device

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.named = nn.ModuleDict({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.inner = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
        self.shared = self.layers[0]
        self.color = Color.BLUE
        self.scaled = Scaled(3)
        self.ints = [1, -2, 1 << 40]
        self.sizes = {"a": 1, "b": 2}
        self.tensors = [torch.ones(4), torch.zeros(0)]
        self.pair = (3, torch.arange(12.0).reshape(3, 4).t())
        self.missing = None
        self.nested = [[1.0], [2.0, 3.0]]
        self.device = torch.device("cpu")
        self.phase = 1 + 2j
        self.flags = [True, False]
        self.register_buffer("expanded", torch.ones(1).expand(4))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        for name, layer in self.named.items():
            x = layer(x)
        x = self.shared(x) + self.tensors[0] * self.pair[0] + self.nested[1][0] + self.expanded
        if self.color == Color.BLUE and self.flags[0]:
            x = self.scaled.of(x) + Scaled(2).of(x)
        if "relu" in self.named and len(self.layers) == 2:
            x = x + self.ints[0] + self.sizes["b"] % 2
        return self.inner(x.to(self.device))


class Prints(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print("hello")
        return x


class ReadsFile(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8)


class WritesFile(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.ops.aten.save(x, "/tmp/sconce-script-was-here")
        return x


class SetsState(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.ones(1)

    @torch.jit.export
    def __getstate__(self) -> Tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[Tensor, bool]):
        self.weight = state[0]
        self.training = state[1]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


class Forks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(torch.relu, x))


class Endless(nn.Module):
    """Never ends, and loads."""

    def forward(self, x: Tensor) -> Tensor:
        while bool((x == x).all()):
            x = x + 0
        return x


class EndlessForTwos(nn.Module):
    """Never ends for some inputs, and passes its trial."""

    def forward(self, x: Tensor) -> Tensor:
        while bool((x == 2).all()):
            x = x + 0
        return x


class Huge(nn.Module):
    """Wants 64 GiB, and loads."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones([1 << 34]).sum()


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 7:
            raise ValueError("seven dimensions are wanted")
        return x


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(5)
    torch.manual_seed(0)
    net = Net()
    net.block.norm.running_mean.uniform_(-1, 1)
    record("scripted.pt", torch.jit.script(net), torch.randn(5, 4, generator=g))
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)).eval()
    image = torch.randn(2, 1, 6, 6, generator=g)
    record("traced.pt", torch.jit.trace(convolution, image), image)
    record("lstm.pt", torch.jit.script(Recurrent()), torch.randn(4, 2, 3, generator=g))
    record("attention.pt", torch.jit.script(Attention()), torch.randn(2, 3, 4, generator=g))
    record("half.pt", torch.jit.script(nn.Linear(2, 2).to(torch.bfloat16)), torch.randn(1, 2, generator=g).to(torch.bfloat16))
    record("containers.pt", torch.jit.script(Containers()), torch.randn(2, 4, generator=g))
    for hostile in (Prints, ReadsFile, WritesFile, SetsState, Forks, Endless, EndlessForTwos, Huge, Raises):
        torch.jit.script(hostile()).save(str(OUT / f"{hostile.__name__}.pt"))
    (OUT / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
