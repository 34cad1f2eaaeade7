"""What modules that draw random numbers do in training mode: every outcome that PyTorch has, and how often.

Generators differ between builds of libtorch, so one seed says nothing. The inputs are so small that there are few outcomes: with four
elements Dropout has sixteen. An outcome is one flat row: outputs, gradients of inputs, gradients of parameters. Sconce must have the same
outcomes as often.
"""
import collections
import zlib

import torch

from specs import build, spec

RUNS = 20000
ATTENTION = {"embed_dim": 2, "num_heads": 1, "dropout": 0.5}
LAYER = {"d_model": 2, "nhead": 1, "dim_feedforward": 2, "dropout": 0.5, "norm_first": True}

# Spec, shapes of the inputs, and whether gradients of parameters are part of the row (left out where outcomes are many).
CASES = [
    (spec("Dropout"), [(2, 2)], True),
    (spec("Dropout", p=0.25, inplace=True), [(4,)], True),
    (spec("Dropout1d", p=0.3), [(2, 2, 2)], True),
    (spec("Dropout1d"), [(3, 2)], True),
    (spec("Dropout2d", p=0.3), [(2, 2, 1, 2)], True),
    (spec("Dropout3d", p=0.3), [(2, 2, 1, 1, 2)], True),
    (spec("Dropout3d"), [(3, 1, 2, 1)], True),
    (spec("AlphaDropout", p=0.3), [(2, 2)], True),
    (spec("FeatureAlphaDropout", p=0.3), [(2, 2, 2)], True),
    (spec("FractionalMaxPool2d", kernel_size=2, output_size=3, return_indices=True), [(1, 1, 5, 5)], True),
    (spec("FractionalMaxPool3d", kernel_size=2, output_size=[3, 1, 1]), [(1, 1, 5, 3, 3)], True),
    *[(spec(t, input_size=2, hidden_size=2, num_layers=2, dropout=0.4), [(2, 1, 2)], True) for t in ("RNN", "LSTM", "GRU")],
    (spec("MultiheadAttention", **ATTENTION), [(2, 1, 2)] * 3, True),
    (spec("TransformerEncoderLayer", **LAYER), [(1, 1, 2)], True),
    (spec("TransformerDecoderLayer", **LAYER), [(1, 1, 2)] * 2, False),
]


def row(module, inputs, cotangent, flatten, with_parameters):
    leaves = [value.clone().requires_grad_() for value in inputs]
    outputs = flatten(module(*[leaf.clone() for leaf in leaves]))
    # The weights that attention returns are outputs too.
    differentiable = [output for output in outputs if output.requires_grad]
    wanted = leaves + (list(module.parameters()) if with_parameters else [])
    gradients = torch.autograd.grad(differentiable, wanted, [cotangent(output) for output in differentiable], allow_unused=True)
    parts = outputs + [torch.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in zip(wanted, gradients)]
    return torch.cat([part.detach().double().reshape(-1) for part in parts])


def generate(tensor, fill, flatten, cotangent):
    made = []
    for index, (what, shapes, with_parameters) in enumerate(CASES):
        generator = torch.Generator().manual_seed(zlib.crc32(f"{what['type']} {index}".encode()))
        torch.manual_seed(index)
        module = build(what)
        fill(module, generator)
        state = [[key, tensor(value)] for key, value in module.state_dict().items()]
        inputs = [torch.randn(shape, generator=generator) for shape in shapes]
        module.double().train()
        counts, rows = collections.Counter(), {}
        for _ in range(RUNS):
            outcome = row(module, [value.double() for value in inputs], cotangent, flatten, with_parameters)
            key = tuple(round(value, 9) + 0.0 for value in outcome.tolist())
            counts[key] += 1
            rows.setdefault(key, outcome)
        keys = sorted(counts)
        made.append({
            "spec": what, "state": state, "inputs": [tensor(value) for value in inputs], "with_parameters": with_parameters,
            "outcomes": tensor(torch.stack([rows[key] for key in keys])), "counts": [counts[key] for key in keys],
        })
        print(what["type"], len(keys), "outcomes, the rarest", min(counts.values()), "times")
    return {"outcomes": made, "slopes": slopes()}


def slopes():
    """RReLU's slopes are continuous: their deciles over many draws."""
    torch.manual_seed(1)
    drawn = -torch.nn.RReLU().train()(torch.full((1_000_000,), -1.0, dtype=torch.float64))
    return [drawn.quantile(tenth / 10).item() for tenth in range(11)]
