#!/usr/bin/python3
"""Writes the parity fixtures: what real PyTorch does with each module type, for tests/Engine.Tests/Parity to compare with.

Run it with a Python that has PyTorch 1.13 (Debian 12: apt install python3-torch):

    python3 tests/fixtures-generator/modules.py

The output is the same byte for byte each time. A case is a module spec in the shape of the contract's JSON, inputs, and what PyTorch gave
for them in train and eval mode, in float32 and float64: outputs, gradients of inputs and parameters, and the state dict after the
forward where it changed (running statistics). State and inputs are float32 values, so that one copy serves both dtypes.

Optimizers and schedulers have a generator of their own, training.py; here is one step of SGD and one of Adam of a whole small network.
"""
import base64
import collections
import inspect
import json
import pathlib
import zlib

import torch
from torch import nn

import function_cases
import losses
import module_cases
import randomness
import sequences
from specs import build

OUT = pathlib.Path(__file__).resolve().parent.parent / "Engine.Tests" / "Parity" / "Fixtures"
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def tensor(value):
    """A tensor as JSON: dtype, shape, little-endian bytes; a sparse gradient as the dense one it stands for."""
    value = value.detach()
    value = (value.to_dense() if value.is_sparse else value).contiguous()
    # numpy has no bfloat16: its bits are those of an int16.
    bits = value.view(torch.int16) if value.dtype == torch.bfloat16 else value
    return {
        "dtype": str(value.dtype).removeprefix("torch."),
        "shape": list(value.shape),
        "data": base64.b64encode(bits.numpy().tobytes()).decode(),
    }


def tree(value):
    if value is None:
        return None
    return tensor(value) if isinstance(value, torch.Tensor) else [tree(item) for item in value]


def flatten(value):
    if value is None:
        return []
    return [value] if isinstance(value, torch.Tensor) else [leaf for item in value for leaf in flatten(item)]


def cotangent(output):
    """The gradient that backward begins with: exact in every dtype, and made anew by the tests."""
    return (((torch.arange(output.numel()) * 7) % 17 - 8).to(output.dtype) / 8).reshape(output.shape)


def fill(module, generator):
    """Random parameters and statistics, all float32 values: initial ones (weights of 1, means of 0) would hide mistakes."""
    seen = set()
    for key, value in module.state_dict().items():
        if value.data_ptr() in seen or value.numel() == 0:
            continue
        seen.add(value.data_ptr())
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.5)
        else:
            value.fill_(3)


def run(module, case, inputs, dtype, training):
    state = {key: value.clone() for key, value in module.state_dict().items()}
    module = module.to(DTYPES[dtype]).train(training)
    before = {key: value.clone() for key, value in module.state_dict().items()}

    def leaf(value):
        value = value.to(DTYPES[dtype]) if value.is_floating_point() else value.clone()
        return value.requires_grad_() if value.is_floating_point() else value

    positional = [leaf(value) for value in inputs["positional"]]
    named = {name: leaf(value) for name, value in inputs["named"].items()}
    leaves = positional + list(named.values())
    # Clones, because in-place modules refuse leaves that require grad.
    call = case.get("call", lambda called, *given, **more: called(*given, **more))
    output = call(module, *[value.clone() for value in positional], **{name: value.clone() for name, value in named.items()})
    if not isinstance(output, torch.Tensor):
        output = tuple(output)
    outputs = [leaf for leaf in flatten(output) if leaf.requires_grad]
    parameters = list(module.named_parameters())
    wanted = [leaf for leaf in leaves if leaf.requires_grad] + [p for _, p in parameters if p.requires_grad]
    differentiable = case.get("gradients", True) and outputs and wanted
    gradients = iter(torch.autograd.grad(outputs, wanted, [cotangent(o) for o in outputs], allow_unused=True) if differentiable else [None] * len(wanted))
    result = {
        "output": tree(output),
        "differentiable": bool(differentiable),
        "input_gradients": [tree(next(gradients)) if leaf.requires_grad else None for leaf in leaves],
        "parameter_gradients": {name: tree(next(gradients)) for name, p in parameters if p.requires_grad},
        "state_after": {key: tensor(value) for key, value in module.state_dict().items() if not torch.equal(value, before[key])},
    }
    module.to(torch.float32).load_state_dict(state)
    return result


def types_of(module):
    return sorted({type(m).__name__ for m in module.modules()})


def generate(case):
    generator = torch.Generator().manual_seed(zlib.crc32(case["name"].encode()))
    torch.manual_seed(0)
    module = case["module"]() if "module" in case else build(case["spec"])
    fill(module, generator)
    made = [value(generator) for value in case["inputs"]]
    inputs = {"positional": made, "named": {name: value(generator) for name, value in case.get("named", {}).items()}}
    return {
        "name": case["name"],
        "types": types_of(module),
        "functions": case.get("functions", []),
        "spec": case["spec"],
        "repr": repr(module),
        "parameters": [[name, list(p.shape)] for name, p in module.named_parameters()],
        "state": [[key, tensor(value)] for key, value in module.state_dict().items()],
        "inputs": {"positional": [tensor(value) for value in made], "named": {name: tensor(value) for name, value in inputs["named"].items()}},
        "modes": modes(module, case, inputs),
    }


def modes(module, case, inputs):
    made = {mode: {dtype: run(module, case, inputs, dtype, mode == "train") for dtype in DTYPES} for mode in case.get("modes", ("train", "eval"))}
    # Most modules do the same in both: said once.
    return {**made, "eval": "train"} if made.get("train") == made["eval"] else made


def described(name):
    """A type's bases, nearest first, and its constructor's arguments; an argument without a default must be given."""
    kind = getattr(nn, name)
    # Recurrent layers hand theirs on to RNNBase, all but the mode.
    signature = inspect.signature((nn.RNNBase if issubclass(kind, nn.RNNBase) else kind).__init__)
    arguments = []
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or (issubclass(kind, nn.RNNBase) and parameter.name == "mode"):
            continue
        default = parameter.default
        value = {} if default is parameter.empty else {"default": default.__name__ if callable(default) else default}
        arguments.append({"name": parameter.name, **value})
    return {"name": name, "bases": [base.__name__ for base in kind.__mro__[1:-1]], "arguments": arguments}


def print_as_pytorch_2():
    """ModuleList prints a run of equal items as one since PyTorch 2, and so does the catalogue; all else prints as in 1.13."""
    def module_list(self):
        runs = []
        for index, text in enumerate(repr(item) for item in self):
            if runs and runs[-1][2] == text:
                runs[-1][1] = index
            else:
                runs.append([index, index, text])
        lines = [f"({a}): {text}" if a == b else f"({a}-{b}): {b - a + 1} x {text}" for a, b, text in runs]
        return "ModuleList(" + ("\n  " + "\n  ".join(line.replace("\n", "\n  ") for line in lines) + "\n)" if lines else ")")

    nn.ModuleList.__repr__ = module_list


def write(name, content):
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{path.relative_to(OUT)}: {path.stat().st_size:,} bytes")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print_as_pytorch_2()
    families = collections.defaultdict(list)
    for family, cases in {**module_cases.FAMILIES, "functions": function_cases.CASES}.items():
        for case in cases:
            try:
                families[family].append(generate(case))
            except Exception as error:
                raise RuntimeError(f"case {case['name']}") from error
    for family, cases in families.items():
        write(family, {"torch": torch.__version__, "cases": cases})
    names = sorted(n for n in dir(nn) if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Module) and not n.startswith("_"))
    write("torch-types", {"torch": torch.__version__, "types": [described(name) for name in names]})
    write("random", {"torch": torch.__version__, **randomness.generate(tensor, fill, flatten, cotangent)})
    write("losses", {"torch": torch.__version__, **losses.generate(tensor, cotangent)})
    write("sequences", {"torch": torch.__version__, **sequences.generate(tensor, fill)})


if __name__ == "__main__":
    main()
