#!/usr/bin/python3
"""Writes Parity/Fixtures/models.json: the built-in models in real PyTorch.

    python3 tests/fixtures-generator/models.py

Weights and inputs come from an integer formula that the tests compute too, so the file holds none of them: for each model its state-dict
keys and shapes in order at full size, and for small ones what forward and backward gave: outputs, the norm of every gradient, and the norm of
every buffer after a forward in training mode.
"""
import json
import pathlib

import numpy
import torch

from model_nets import VISION
from model_transformers import LANGUAGE

OUT = pathlib.Path(__file__).resolve().parent.parent / "Engine.Tests" / "Parity" / "Fixtures" / "models.json"
NETS = {**VISION, **LANGUAGE}
U32 = 0xFFFFFFFF


def bits(stream, count):
    """32 mixed bits for each index of a stream."""
    h = (numpy.arange(1, count + 1, dtype=numpy.uint64) * 2654435761 + (stream + 1) * 40503) & U32
    h ^= h >> 15
    h = (h * 2246822519) & U32
    return h ^ (h >> 13)


def uniform(stream, shape):
    """Multiples of 2^-16 from -0.5 on and below 0.5: exact in float32."""
    values = (bits(stream, int(numpy.prod(shape, dtype=numpy.int64))) & 0xFFFF).astype(numpy.float64) / 65536 - 0.5
    return torch.from_numpy(values.astype(numpy.float32)).reshape(shape)


def fill(module):
    """A value for each key, by its place: weights by their fan-in, so that signals neither die nor grow."""
    for stream, (key, value) in enumerate(module.state_dict().items()):
        u = uniform(stream, value.shape)
        if not value.is_floating_point():
            value.fill_(3)
        elif value.dim() > 1:
            fan = int(numpy.prod(value.shape[1:]))
            value.copy_(u * 4 * 2.0 ** -(fan.bit_length() // 2))
        elif key.endswith(("running_var", "weight")):
            value.copy_(1 + u / 2)
        else:
            value.copy_(u / 4)


def made(inputs):
    """Inputs by their description: {"shape"} of floats, {"shape", "high"} of int64."""
    for stream, description in enumerate(inputs):
        shape = description["shape"]
        if "high" in description:
            yield torch.from_numpy((bits(10_000 + stream, int(numpy.prod(shape))) % description["high"]).astype(numpy.int64)).reshape(shape)
        else:
            yield uniform(10_000 + stream, shape) * 4


def cotangent(output):
    return (((torch.arange(output.numel()) * 7) % 17 - 8).to(output.dtype) / 8).reshape(output.shape)


def run(case, training):
    module = NETS[case["type"]](**case["args"])
    fill(module)
    module.to(getattr(torch, case["dtype"])).train(training)
    inputs = [value.to(getattr(torch, case["dtype"])).requires_grad_() if value.is_floating_point() else value for value in made(case["inputs"])]
    names = case.get("names", [])
    output = module(*inputs[:len(inputs) - len(names)], **dict(zip(names, inputs[len(inputs) - len(names):])))
    outputs = [output] if isinstance(output, torch.Tensor) else list(output)
    torch.autograd.backward(outputs, [cotangent(o) for o in outputs])
    return {
        "outputs": [{"shape": list(o.shape), "values": [float(f"{v:.12g}") for v in o.detach().double().flatten().tolist()]} for o in outputs],
        "gradients": {name: norm(p.grad) for name, p in module.named_parameters()},
        "input_gradients": [norm(value.grad) for value in inputs if value.is_floating_point()],
        "buffers": {name: norm(b) for name, b in module.named_buffers()},
    }


def norm(value):
    return None if value is None else float(f"{value.double().norm().item():.12g}")


def image(*shape):
    return [{"shape": list(shape)}]


def tokens(high, *shape):
    return {"shape": list(shape), "high": high}


GPT = {"vocab_size": 61, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 3}
BERT = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 16}


def case(name, type, inputs, args=None, dtype="float64", modes=("eval", "train"), **more):
    return {"name": name, "type": type, "args": args or {}, "inputs": inputs, "dtype": dtype, "modes": list(modes), **more}


CASES = [
    case("MLP", "MLP", image(3, 8), {"in_channels": 8, "hidden_channels": [16, 12, 5]}),
    case("MLP-norm", "MLP", image(3, 8), {"in_channels": 8, "hidden_channels": [16, 5], "norm_layer": "BatchNorm1d", "activation_layer": "GELU", "bias": False}),
    case("LeNet5", "LeNet5", image(2, 1, 32, 32), modes=("eval",)),
    case("LeNet5-28", "LeNet5", image(2, 3, 28, 28), {"num_classes": 4, "in_channels": 3, "image_size": 28}, modes=("eval",)),
    case("resnet18", "resnet18", image(2, 3, 64, 64), {"num_classes": 10}),
    case("resnet50", "resnet50", image(2, 3, 64, 64), {"num_classes": 10}),
    case("resnet50-grouped", "resnet50", image(1, 3, 32, 32), {"num_classes": 3, "groups": 32, "width_per_group": 4}, modes=("eval",)),
    case("vgg11", "vgg11", image(1, 3, 32, 32), {"num_classes": 10}, dtype="float32", modes=("eval",)),
    case("mobilenet_v2", "mobilenet_v2", image(2, 3, 64, 64), {"num_classes": 10, "dropout": 0.0}),
    case("mobilenet_v2-wide", "mobilenet_v2", image(1, 3, 32, 32), {"num_classes": 3, "width_mult": 1.4}, modes=("eval",)),
    case("UNet", "UNet", image(2, 3, 32, 32), {"init_features": 4}),
    case("gpt2", "GPT2LMHeadModel", [tokens(61, 2, 7)], GPT, modes=("eval",)),
    case("gpt2-masked", "GPT2LMHeadModel", [tokens(61, 2, 7), tokens(2, 2, 7), tokens(16, 2, 7)], {**GPT, "n_inner": 40, "activation_function": "relu", "scale_attn_weights": False},
         modes=("eval",), names=["attention_mask", "position_ids"]),
    case("gpt2-untied", "GPT2LMHeadModel", [tokens(61, 2, 5)], {**GPT, "tie_word_embeddings": False}, modes=("eval",)),
    case("bert", "BertModel", [tokens(61, 2, 7)], BERT, modes=("eval",)),
    case("bert-masked", "BertForSequenceClassification", [tokens(61, 2, 7), tokens(2, 2, 7), tokens(2, 2, 7)], {**BERT, "num_labels": 3},
         modes=("eval",), names=["attention_mask", "token_type_ids"]),
]

# At full size; the tests build them on no memory.
FULL = {**{name: {} for name in NETS}, "MLP": {"in_channels": 784, "hidden_channels": [128, 10]}}


def full(name, args):
    module = NETS[name](**args)
    return {
        "type": name,
        "args": args,
        "parameters": sum(p.numel() for p in module.parameters()),
        "state": [f"{key} {'x'.join(str(n) for n in value.shape)}".rstrip() for key, value in module.state_dict().items()],
    }


def seeded(name, args):
    torch.manual_seed(5)
    module = NETS[name](**args)
    return {"type": name, "args": args, "norms": {key: norm(value) for key, value in module.state_dict().items()}}


def main():
    torch.set_num_threads(1)
    # Values at full size are never looked at.
    kaiming, torch.nn.init.kaiming_uniform_ = torch.nn.init.kaiming_uniform_, lambda tensor, **_: tensor
    models = [full(name, args) for name, args in FULL.items()]
    torch.nn.init.kaiming_uniform_ = kaiming
    content = {
        "torch": torch.__version__,
        "models": models,
        "runs": [{**c, "modes": {mode: run(c, mode == "train") for mode in c["modes"]}} for c in CASES],
        "initial": [seeded("resnet18", {"zero_init_residual": True}), seeded("mobilenet_v2", {}), seeded("LeNet5", {}), seeded("UNet", {"init_features": 4})],
    }
    OUT.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    for model in models:
        print(f"{model['type']}: {model['parameters']:,} parameters, {len(model['state'])} keys")
    print(f"{OUT.name}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
