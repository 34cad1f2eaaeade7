"""Functions of torch and torch.nn.functional that a Graph may call: one wiring of one step each."""
import torch
from torch import nn
from torch.nn import functional as F

from module_cases import f, fixed, i, step
from specs import argument, spec

# These take their tensors as one sequence.
SEQUENCES = {"cat", "concat", "stack"}
# Methods of Tensor; functions that in Sconce take weights after the input; functions newer than 1.13.
WRITTEN = {
    **{name: (lambda name: lambda x, *given, **args: getattr(x, name)(*given, *args.values()))(name) for name in ("view", "expand", "repeat", "contiguous")},
    "layer_norm": lambda x, weight=None, bias=None, **args: F.layer_norm(x, weight=weight, bias=bias, **args),
    "group_norm": lambda x, weight=None, bias=None, **args: F.group_norm(x, weight=weight, bias=bias, **args),
    "rms_norm": lambda x, weight=None, normalized_shape=(), eps=1e-6: x * x.pow(2).mean([-1 - n for n in range(len(normalized_shape))], keepdim=True).add(eps).rsqrt() * (1 if weight is None else weight),
    # Running statistics as constants, as the modules have them: PyTorch's would take gradients and fail.
    "batch_norm": lambda x, mean, var, *given, **args: F.batch_norm(x, mean.detach().clone(), var.detach().clone(), *given, **args),
    "instance_norm": lambda x, mean, var, *given, **args: F.instance_norm(x, mean.detach().clone(), var.detach().clone(), *given, **args),
    "einsum": lambda *operands, equation: torch.einsum(equation, *operands),
    # Tensors come first in a wiring, whatever PyTorch's order.
    "index_select": lambda x, index, dim: torch.index_select(x, dim, index),
    "gather": lambda x, index, dim: torch.gather(x, dim, index),
    # A dtype is a name in JSON.
    "to": lambda x, dtype: x.to(getattr(torch, dtype)),
    "lp_pool3d": lambda x, norm_type, kernel_size: F.avg_pool3d(x.pow(norm_type), kernel_size).mul(kernel_size ** 3).pow(1 / norm_type),
    "scaled_dot_product_attention": lambda q, k, v, attn_mask=None, is_causal=False: attention(q, k, v, attn_mask, is_causal),
}


def attention(q, k, v, mask, causal):
    """PyTorch 2's scaled_dot_product_attention by its documentation; a bool mask lets through where it is True."""
    scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5
    if causal:
        mask = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, -1) @ v


def function(name):
    return WRITTEN.get(name) or getattr(F, name, None) or getattr(torch, name)


def of(name, *inputs, label="", outputs=1, **args):
    """One step on named inputs; several outputs are unpacked into a tuple."""
    names = [f"x{index}" for index in range(len(inputs))]
    results = ["y"] if outputs == 1 else [f"y{index}" for index in range(outputs)]

    class Graph(nn.Module):
        def forward(self, *given):
            called = {key: argument(value) for key, value in args.items()}
            return function(name)(list(given), **called) if name in SEQUENCES else function(name)(*given, **called)

    call = step("y" if outputs == 1 else "", names, function=name, unpack=results if outputs > 1 else (), **args)
    return {
        "name": name + (f"-{label}" if label else ""), "functions": [name], "inputs": list(inputs), "module": Graph,
        "spec": spec("Graph", wiring={"inputs": names, "steps": [call], "outputs": results}),
    }


UNARY = ["abs", "ceil", "clone", "contiguous", "cos", "detach", "erf", "exp", "expm1", "floor", "isnan", "logical_not", "neg", "ones_like", "reciprocal", "round", "sign", "sin", "square", "zeros_like",
         "celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softshrink", "softsign", "tanh", "tanhshrink"]
POSITIVE = ["log", "log1p", "log2", "sqrt", "rsqrt"]
BINARY = ["add", "sub", "mul", "div", "maximum", "minimum"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]
POOLS = {1: [1, 2, 6], 2: [1, 2, 6, 5], 3: [1, 1, 4, 4, 5]}
LEVELS = fixed([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], torch.float32)
TRUTH = fixed([[True, False, True], [False, False, True]], torch.bool)
LOWER = fixed([[True, False, False], [True, True, False], [True, True, True]], torch.bool)

CASES = [
    *[of(name, f(3, 4, scale=2.0)) for name in UNARY],
    *[of(name, f(3, 4, positive=True)) for name in POSITIVE],
    *[of(name, f(3, 4), f(3, 4)) for name in BINARY],
    *[of(name, f(2, 3, 4), f(4), label="broadcast") for name in BINARY],
    *[of(name, f(2, 3), label="number", other=2) for name in ("add", "sub", "mul", "div")],
    *[of(name, i(9, 2, 3), label="integer", other=2) for name in ("add", "mul", "div")],
    *[of(name, f(2, 3), f(2, 3), label="alpha", alpha=0.5) for name in ("add", "sub")],
    *[of("div", f(2, 3, scale=5.0), f(2, 3), label=mode, rounding_mode=mode) for mode in ("trunc", "floor")],
    *[of(name, LEVELS, fixed([[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]], torch.float32)) for name in COMPARE],
    *[of(name, LEVELS, label="number", other=2) for name in COMPARE],
    *[of(name, TRUTH, fixed([[True, True, False], [False, True, True]], torch.bool)) for name in ("logical_and", "logical_or")],
    of("pow", f(3, 4, positive=True), exponent=3), of("pow", f(3, 4, positive=True), f(3, 4), label="tensor"),
    of("clamp", f(3, 4), min=-0.5, max=0.5), of("clamp", f(3, 4), label="min", min=0.25), of("lerp", f(2, 3), f(2, 3), weight=0.3),
    of("where", TRUTH, f(2, 3), f(2, 3)), of("masked_fill", f(2, 3), TRUTH, value=-2.5), of("to", f(2, 3), dtype="float64"), of("to", f(2, 3, scale=4.0), label="integer", dtype="int64"),
    of("threshold", f(3, 4), threshold=0.1, value=-3), of("rrelu", f(3, 4), lower=0.25, upper=0.25),
    of("matmul", f(3, 4), f(4, 2)), of("matmul", f(2, 3, 4), f(4), label="vector"), of("matmul", f(4), f(4), label="dot"), of("matmul", f(2, 1, 3, 4), f(5, 4, 2), label="batch"),
    of("mm", f(3, 4), f(4, 2)), of("bmm", f(2, 3, 4), f(2, 4, 2)), of("einsum", f(2, 3), f(3, 4), equation="ij,jk->ki"), of("linear", f(2, 3), f(4, 3), f(4)), of("linear", f(2, 3), f(4, 3), label="no-bias"),
    of("cat", f(2, 3), f(2, 1), dim=1), of("cat", f(2, 3), f(1, 3), f(3, 3), label="default"), of("concat", f(2, 3), f(1, 3)),
    of("stack", f(2, 3), f(2, 3), dim=-1), of("stack", f(2, 3), f(2, 3), label="default"),
    of("flatten", f(2, 3, 4)), of("flatten", f(2, 3, 4), label="from", start_dim=1), of("unflatten", f(2, 6), dim=-1, sizes=[2, 3]), of("reshape", f(2, 6), shape=[3, -1]), of("view", f(2, 6), shape=[4, 3]),
    of("transpose", f(2, 3, 4), dim0=0, dim1=-1), of("permute", f(2, 3, 4), dims=[2, 0, 1]), of("movedim", f(2, 3, 4), source=0, destination=2), of("t", f(2, 3)), of("unsqueeze", f(2, 3), dim=-1),
    of("squeeze", f(2, 1, 3), dim=1), of("squeeze", f(1, 2, 1), label="all"), of("expand", f(2, 1), size=[3, 2, 4]), of("repeat", f(2, 3), repeats=[2, 1, 2]), of("tile", f(2, 3), dims=[2]),
    of("flip", f(2, 3), dims=[0, 1]), of("roll", f(2, 5), shifts=2, dims=1), of("tril", f(3, 4), diagonal=1), of("triu", f(3, 4)), of("select", f(3, 4), dim=1, index=-1), of("narrow", f(3, 4), dim=1, start=1, length=2),
    of("chunk", f(2, 5), chunks=2, dim=1, outputs=2), of("split", f(5, 2), split_size_or_sections=2, outputs=3), of("split", f(2, 5), label="sections", split_size_or_sections=[1, 4], dim=1, outputs=2),
    of("unbind", f(2, 3), outputs=2), of("index_select", f(4, 3), i(4, 5), dim=0), of("gather", f(4, 3), i(4, 2, 3), dim=0), of("embedding", i(5, 2, 3), f(5, 4)), of("one_hot", i(4, 5), num_classes=4),
    *[c for name in ("sum", "mean", "amax", "amin", "var", "std", "norm") for c in (of(name, f(2, 3, 4)), of(name, f(2, 3, 4), label="dim", dim=[0, 2], keepdim=True), of(name, f(2, 3, 4), label="last", dim=-1))],
    of("var", f(2, 3, 4), label="biased", dim=1, unbiased=False), of("norm", f(3, 4), label="one", p=1, dim=1), of("logsumexp", f(3, 4), dim=1), of("cumsum", f(3, 4), dim=0), of("prod", f(3, 4)), of("prod", f(3, 4), label="dim", dim=1),
    *[c for name in ("max", "min") for c in (of(name, f(3, 4)), of(name, f(3, 4), label="dim", dim=1, keepdim=True, outputs=2))],
    *[c for name in ("argmax", "argmin") for c in (of(name, f(3, 4)), of(name, f(3, 4), label="dim", dim=1))],
    of("topk", f(3, 5), k=2, outputs=2), of("sort", f(3, 5), descending=True, outputs=2),
    of("softmax", f(3, 4), dim=1), of("log_softmax", f(3, 4), dim=-1), of("softmin", f(3, 4), dim=1), of("glu", f(3, 4)), of("normalize", f(3, 4)), of("normalize", f(3, 4), label="options", p=1, dim=0),
    *[of(f"{kind}_pool{n}d", f(*POOLS[n]), kernel_size=2) for kind in ("max", "avg") for n in (1, 2, 3)],
    *[of(f"adaptive_{kind}_pool{n}d", f(*POOLS[n]), output_size=3) for kind in ("max", "avg") for n in (1, 2, 3)],
    *[of(f"lp_pool{n}d", f(*POOLS[n], positive=True), norm_type=2, kernel_size=2) for n in (1, 2)],
    of("lp_pool3d", f(*POOLS[3], positive=True), norm_type=2, kernel_size=2),
    of("max_pool2d", f(1, 2, 6, 5), label="options", kernel_size=3, stride=2, padding=1, ceil_mode=True), of("avg_pool2d", f(1, 2, 6, 5), label="options", kernel_size=2, count_include_pad=False, padding=1),
    of("max_unpool1d", f(1, 1, 3), fixed([[[1, 2, 5]]], torch.int64), kernel_size=2), of("max_unpool2d", f(1, 1, 2, 2), fixed([[[[0, 3], [9, 15]]]], torch.int64), kernel_size=2),
    of("max_unpool3d", f(1, 1, 1, 1, 2), fixed([[[[[1, 14]]]]], torch.int64), kernel_size=2), of("fractional_max_pool2d", f(1, 2, 5, 5), kernel_size=2, output_size=4), of("fractional_max_pool3d", f(1, 1, 4, 4, 4), kernel_size=2, output_size=1),
    of("interpolate", f(1, 1, 2, 3), scale_factor=2), of("interpolate", f(1, 1, 2, 3), label="bilinear", size=[4, 5], mode="bilinear", align_corners=True),
    of("pad", f(2, 3), pad=[1, 2]), of("pad", f(1, 2, 3), label="reflect", pad=[1, 1], mode="reflect"), of("pad", f(2, 3), label="value", pad=[0, 1, 1, 0], value=1.5),
    of("grid_sample", f(1, 2, 3, 3), f(1, 2, 2, 2, scale=0.5)), of("grid_sample", f(1, 2, 3, 3), f(1, 2, 2, 2), label="options", mode="nearest", padding_mode="border", align_corners=True),
    *[of(name, f(2, 3, 4), label="none", p=0) for name in ("dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout")], of("dropout3d", f(1, 2, 2, 2, 2), label="none", p=0),
    of("layer_norm", f(2, 3, 4), normalized_shape=[3, 4]), of("layer_norm", f(2, 4), f(4), f(4), label="affine", normalized_shape=[4]), of("local_response_norm", f(2, 4, 3), size=3),
    of("pixel_shuffle", f(1, 4, 2, 2), upscale_factor=2), of("pixel_unshuffle", f(1, 1, 4, 4), downscale_factor=2), {**of("channel_shuffle", f(1, 4, 2, 2), groups=2), "gradients": False},
    of("unfold", f(1, 2, 4, 5), kernel_size=2), of("fold", f(1, 8, 9), output_size=4, kernel_size=2), of("cosine_similarity", f(3, 4), f(3, 4)), of("pairwise_distance", f(3, 4), f(3, 4)),
    of("scaled_dot_product_attention", f(1, 2, 3, 4), f(1, 2, 5, 4), f(1, 2, 5, 4)),
    of("scaled_dot_product_attention", f(1, 2, 3, 4), f(1, 2, 3, 4), f(1, 2, 3, 4), label="causal", is_causal=True),
    of("scaled_dot_product_attention", f(2, 3, 4), f(2, 3, 4), f(2, 3, 4), LOWER, label="mask"),
    of("conv1d", f(2, 4, 6), f(6, 2, 3), f(6), padding="same", groups=2), of("conv2d", f(1, 2, 5, 6), f(3, 2, 2, 3), f(3), stride=[2, 1], padding=1), of("conv3d", f(1, 2, 3, 4, 3), f(2, 2, 2, 2, 2), dilation=[1, 2, 1]),
    of("conv_transpose1d", f(1, 4, 3), f(4, 1, 3), f(2), groups=2, stride=2, output_padding=1), of("conv_transpose2d", f(2, 2, 3, 3), f(2, 3, 2, 2), f(3), padding=1), of("conv_transpose3d", f(1, 2, 2, 2, 2), f(2, 1, 2, 2, 2)),
    of("batch_norm", f(3, 2, 4), f(2), f(2, positive=True), f(2), f(2)), of("batch_norm", f(3, 2), f(2), f(2, positive=True), f(2), f(2), label="training", training=True, eps=0.001),
    of("instance_norm", f(2, 3, 4), f(3), f(3, positive=True), f(3), f(3)), of("instance_norm", f(2, 3, 4), f(3), f(3, positive=True), label="running", use_input_stats=False),
    of("group_norm", f(2, 4, 3), f(4), f(4), num_groups=2), of("rms_norm", f(2, 3, 4), f(3, 4), normalized_shape=[3, 4], eps=1e-6), of("prelu", f(2, 3, 4), f(3)), of("bilinear", f(5, 3), f(5, 4), f(2, 3, 4), f(2)),
]
