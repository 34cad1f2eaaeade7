"""The cases: for each family, module specs and the inputs they are called with."""
import torch
from torch import nn

from specs import build, spec


def f(*shape, scale=1.0, positive=False):
    """A float input."""
    def make(generator):
        value = torch.randn(shape, generator=generator) * scale
        return value.abs() + 0.1 if positive else value
    return make


def i(high, *shape):
    """An int64 input below a bound."""
    return lambda generator: torch.randint(0, high, shape, generator=generator)


def fixed(values, dtype):
    """An input given in full."""
    return lambda generator: torch.tensor(values, dtype=dtype)


def with_state(module, x, h, c):
    """LSTM takes a pair; Sconce's inputs are flat."""
    return module(x, (h, c))


def case(name, made, *inputs, **more):
    return {"name": name, "spec": made, "inputs": list(inputs), **more}


def of(type, variants, *inputs, **more):
    """One case for each variant of a type's arguments; the variant is a part of the name."""
    return [case(type + ("" if not label else f"-{label}"), spec(type, **args), *inputs, **more) for label, args in variants.items()]


EVAL = {"modes": ("eval",)}
PLAIN = {"": {}}

ACTIVATIONS = [
    *[c for t in ("Hardsigmoid", "Hardswish", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softsign", "Tanh", "Tanhshrink")
      for c in of(t, PLAIN, f(3, 5, scale=3.0))],
    *[c for t in ("ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardswish", "Hardsigmoid")
      for c in of(t, {"inplace": {"inplace": True}}, f(2, 3, scale=3.0))],
    *of("CELU", {"": {}, "alpha": {"alpha": 0.5}, "inplace": {"inplace": True}}, f(3, 5)),
    *of("ELU", {"": {}, "alpha": {"alpha": 0.5, "inplace": True}}, f(3, 5)),
    *of("GELU", {"": {}, "tanh": {"approximate": "tanh"}}, f(3, 5, scale=2.0)),
    *of("GLU", {"": {}, "dim": {"dim": 0}}, f(4, 6)),
    *of("Hardshrink", {"": {}, "lambd": {"lambd": 1.25}}, f(3, 5)),
    *of("Hardtanh", {"": {}, "range": {"min_val": -0.5, "max_val": 2.0, "inplace": True}}, f(3, 5, scale=2.0)),
    *of("Hardtanh", {"borders": {}}, fixed([-2.0, -1.0, -0.5, 0.0, 1.0, 3.0, float("nan"), float("inf")], torch.float32)),
    *of("LeakyReLU", {"": {}, "slope": {"negative_slope": 0.2, "inplace": True}}, f(3, 5)),
    *of("LogSoftmax", {"": {"dim": 1}, "last": {"dim": -1}}, f(3, 5, 2)),
    *of("PReLU", {"": {}, "channels": {"num_parameters": 4, "init": 0.1}}, f(2, 4, 3)),
    *of("RReLU", {"": {}, "range": {"lower": 0.2, "upper": 0.4, "inplace": True}}, f(3, 5), **EVAL),
    *of("RReLU", {"fixed": {"lower": 0.25, "upper": 0.25}}, f(3, 5)),
    *of("Softmax", {"": {"dim": 1}, "no-dim": {}}, f(3, 5)),
    *of("Softmax2d", PLAIN, f(2, 3, 2, 2)),
    *of("Softmin", {"": {"dim": 1}}, f(3, 5)),
    *of("Softplus", {"": {}, "beta": {"beta": 2.0, "threshold": 3.0}}, f(3, 5, scale=3.0)),
    *of("Softshrink", {"": {}, "lambd": {"lambd": 1.0}}, f(3, 5)),
    *of("Threshold", {"": {"threshold": 0.1, "value": 20.0}, "inplace": {"threshold": 0.5, "value": -1.0, "inplace": True}}, f(3, 5)),
]

class ChannelShuffle(nn.ChannelShuffle):
    def forward(self, x):
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


LINEAR = [
    *of("Identity", PLAIN, f(2, 3)),
    *of("Linear", {"": {"in_features": 4, "out_features": 3}, "no-bias": {"in_features": 4, "out_features": 3, "bias": False}}, f(2, 4)),
    *of("Linear", {"vector": {"in_features": 4, "out_features": 3}}, f(4)),
    *of("Linear", {"sequence": {"in_features": 4, "out_features": 3}}, f(2, 5, 4)),
    *[case("NonDynamicallyQuantizableLinear" + label, spec("NonDynamicallyQuantizableLinear", **args), f(2, 4), module=lambda args=args: nn.modules.linear.NonDynamicallyQuantizableLinear(**args))
      for label, args in {"": {"in_features": 4, "out_features": 3}, "-no-bias": {"in_features": 4, "out_features": 3, "bias": False}}.items()],
    *of("Bilinear", {"": {"in1_features": 3, "in2_features": 4, "out_features": 2}, "no-bias": {"in1_features": 3, "in2_features": 4, "out_features": 2, "bias": False}}, f(5, 3), f(5, 4)),
    *of("Flatten", {"": {}, "from": {"start_dim": 2}, "range": {"start_dim": 0, "end_dim": 1}}, f(2, 3, 2, 2)),
    *of("Unflatten", {"": {"dim": 1, "unflattened_size": [2, 3]}, "last": {"dim": -1, "unflattened_size": [3, 2]}}, f(2, 6)),
    *of("CosineSimilarity", {"": {}, "last": {"dim": -1, "eps": 1e-6}}, f(3, 4, 2), f(3, 4, 2)),
    *of("PairwiseDistance", {"": {}, "keepdim": {"p": 1.0, "keepdim": True}, "eps": {"p": 3.0, "eps": 0.1}}, f(3, 4), f(3, 4)),
    *of("AdaptiveLogSoftmaxWithLoss", {"": {"in_features": 8, "n_classes": 10, "cutoffs": [2, 5], "div_value": 2.0}, "bias": {"in_features": 8, "n_classes": 10, "cutoffs": [3], "head_bias": True}}, f(6, 8), i(10, 6)),
    *of("AdaptiveLogSoftmaxWithLoss", {"vector": {"in_features": 8, "n_classes": 10, "cutoffs": [2, 5]}}, f(8), i(10)),
    *of("PixelShuffle", {"": {"upscale_factor": 2}}, f(1, 8, 2, 3)),
    *of("PixelUnshuffle", {"": {"downscale_factor": 2}}, f(1, 2, 4, 6)),

    # 1.13 has no gradient of it on the CPU: that is compared with what it is a name for.
    *of("ChannelShuffle", {"": {"groups": 2}}, f(1, 4, 2, 2), gradients=False),
    *of("ChannelShuffle", {"gradients": {"groups": 3}}, f(2, 6, 1, 2), module=lambda: ChannelShuffle(3)),
    *of("Fold", {"": {"output_size": [4, 5], "kernel_size": [2, 2]}, "padded": {"output_size": 4, "kernel_size": 2, "padding": 1, "stride": 2}}, f(1, 12, 12), modes=("eval",))[:1],
    *of("Fold", {"padded": {"output_size": [4, 4], "kernel_size": 2, "padding": 1, "stride": 2}, "dilated": {"output_size": [5, 5], "kernel_size": 2, "dilation": 2}}, f(2, 8, 9)),
    *of("Unfold", {"": {"kernel_size": [2, 3]}, "strided": {"kernel_size": 2, "dilation": 2, "padding": 1, "stride": 2}}, f(1, 2, 4, 5)),
    *of("Embedding", {"": {"num_embeddings": 6, "embedding_dim": 3}, "padding": {"num_embeddings": 6, "embedding_dim": 3, "padding_idx": -1},
        "max-norm": {"num_embeddings": 6, "embedding_dim": 3, "max_norm": 0.5, "norm_type": 1.0}, "by-frequency": {"num_embeddings": 6, "embedding_dim": 3, "scale_grad_by_freq": True},
        "sparse": {"num_embeddings": 6, "embedding_dim": 3, "sparse": True}}, i(6, 2, 5)),
    *of("EmbeddingBag", {"": {"num_embeddings": 6, "embedding_dim": 3}, "sum": {"num_embeddings": 6, "embedding_dim": 3, "mode": "sum"},
        "max": {"num_embeddings": 6, "embedding_dim": 3, "mode": "max"}, "padding": {"num_embeddings": 6, "embedding_dim": 3, "padding_idx": 2},
        "max-norm": {"num_embeddings": 6, "embedding_dim": 3, "max_norm": 0.5, "norm_type": 1.0}, "by-frequency": {"num_embeddings": 6, "embedding_dim": 3, "scale_grad_by_freq": True},
        "sparse": {"num_embeddings": 6, "embedding_dim": 3, "mode": "sum", "sparse": True}}, i(6, 2, 5)),
    *of("EmbeddingBag", {"offsets": {"num_embeddings": 6, "embedding_dim": 3}}, i(6, 7), fixed([0, 3], torch.int64)),
    *of("EmbeddingBag", {"last-offset": {"num_embeddings": 6, "embedding_dim": 3, "mode": "sum", "include_last_offset": True}}, i(6, 7), fixed([0, 3, 7], torch.int64)),
    *of("EmbeddingBag", {"weighted": {"num_embeddings": 6, "embedding_dim": 3, "mode": "sum"}}, i(6, 2, 5), named={"per_sample_weights": f(2, 5)}),
]

PADDING_MODES = ("reflect", "replicate", "circular")


def sized(module, x, size):
    """PyTorch takes an output size as a list; Sconce's inputs are tensors."""
    return module(x, output_size=size.tolist())


def unpooled(module, x, indices, size):
    return module(x, indices, output_size=size.tolist())


CONVOLUTIONS = [
    *of("Conv1d", {"": {"in_channels": 2, "out_channels": 3, "kernel_size": 3}, "strided": {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": False},
        "same": {"in_channels": 2, "out_channels": 3, "kernel_size": 4, "padding": "same"}, "valid": {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": "valid"}}, f(2, 2, 8)),
    *of("Conv1d", {m: {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "padding": 2, "padding_mode": m} for m in PADDING_MODES}, f(1, 2, 4)),
    *of("Conv1d", {"unbatched": {"in_channels": 2, "out_channels": 3, "kernel_size": 3}}, f(2, 8)),
    *of("Conv2d", {"": {"in_channels": 2, "out_channels": 3, "kernel_size": 3}, "rectangle": {"in_channels": 2, "out_channels": 3, "kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0]},
        "depthwise": {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "groups": 2, "bias": False}, "dilated": {"in_channels": 2, "out_channels": 2, "kernel_size": 2, "dilation": 2},
        "same": {"in_channels": 2, "out_channels": 2, "kernel_size": 2, "padding": "same"}, "valid": {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "padding": "valid"},
        **{m: {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "padding": [2, 1], "padding_mode": m} for m in PADDING_MODES},
        "same-reflect": {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "padding": "same", "padding_mode": "reflect"}}, f(2, 2, 5, 6)),
    *of("Conv3d", {"": {"in_channels": 1, "out_channels": 2, "kernel_size": 2}, "strided": {"in_channels": 1, "out_channels": 2, "kernel_size": [1, 2, 2], "stride": [1, 2, 1], "padding": [0, 1, 0]},
        "same": {"in_channels": 1, "out_channels": 1, "kernel_size": 2, "padding": "same"}, "valid": {"in_channels": 1, "out_channels": 1, "kernel_size": 2, "padding": "valid"},
        **{m: {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1, "padding_mode": m} for m in PADDING_MODES}}, f(1, 1, 3, 4, 4)),
    *of("Conv3d", {"dilated": {"in_channels": 2, "out_channels": 2, "kernel_size": 2, "dilation": [1, 2, 2], "groups": 2, "bias": False}}, f(1, 2, 2, 3, 3)),
    *of("ConvTranspose1d", {"": {"in_channels": 2, "out_channels": 3, "kernel_size": 3}, "strided": {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "bias": False, "dilation": 2}}, f(2, 2, 5)),
    *of("ConvTranspose2d", {"": {"in_channels": 2, "out_channels": 3, "kernel_size": 2}, "strided": {"in_channels": 2, "out_channels": 2, "kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0], "output_padding": [1, 0]},
        "grouped": {"in_channels": 2, "out_channels": 4, "kernel_size": 2, "groups": 2, "bias": False, "dilation": [1, 2]}}, f(1, 2, 3, 4)),
    *of("ConvTranspose3d", {"": {"in_channels": 1, "out_channels": 2, "kernel_size": 2}, "strided": {"in_channels": 1, "out_channels": 1, "kernel_size": 2, "stride": 2, "padding": 1}}, f(1, 1, 2, 3, 3)),
    *of("ConvTranspose3d", {"grouped": {"in_channels": 2, "out_channels": 2, "kernel_size": 2, "stride": 2, "output_padding": [0, 1, 1], "groups": 2, "bias": False, "dilation": [2, 1, 1]}}, f(1, 2, 2, 2, 2)),
    *[c for n in (1, 2, 3) for c in of(f"ConvTranspose{n}d", {"sized": {"in_channels": 1, "out_channels": 1, "kernel_size": 2, "stride": 3}}, f(1, 1, *[2] * n), fixed([6, 7, 5][:n], torch.int64), call=sized)],
    *[c for n in (1, 2, 3) for c in of(f"ConvTranspose{n}d", {"unbatched": {"in_channels": 1, "out_channels": 2, "kernel_size": 2}}, f(1, *[2] * n))],
    *[c for n in (2, 3) for c in of(f"Conv{n}d", {"unbatched": {"in_channels": 1, "out_channels": 2, "kernel_size": 2}}, f(1, *[3] * n))],
]

class SyncBatchNorm(nn.SyncBatchNorm):
    """1.13 refuses to run it on a CPU. With one process its forward is that of every batch norm."""

    def forward(self, x):
        return nn.BatchNorm2d.forward(self, x)

    def _check_input_dim(self, x):
        self._check_non_zero_input_channels(x)


def sync_norm(variants, x):
    return [case("SyncBatchNorm" + (f"-{label}" if label else ""), spec("SyncBatchNorm", **args), x, module=lambda args=args: SyncBatchNorm(**args)) for label, args in variants.items()]


NORMS = [
    *of("BatchNorm1d", {"": {"num_features": 3}, "no-affine": {"num_features": 3, "affine": False}, "no-stats": {"num_features": 3, "track_running_stats": False},
        "cumulative": {"num_features": 3, "momentum": None}, "options": {"num_features": 3, "eps": 0.001, "momentum": 0.25}}, f(4, 3)),
    *of("BatchNorm1d", {"sequence": {"num_features": 3}}, f(2, 3, 4)),
    *of("BatchNorm2d", {"": {"num_features": 2}, "no-affine": {"num_features": 2, "affine": False, "track_running_stats": False}, "options": {"num_features": 2, "eps": 0.01, "momentum": 0.3}}, f(2, 2, 3, 3)),
    *of("BatchNorm3d", {"": {"num_features": 2}, "no-affine": {"num_features": 2, "affine": False, "track_running_stats": False}, "options": {"num_features": 2, "eps": 0.01, "momentum": None}}, f(2, 2, 2, 2, 2)),
    *sync_norm({"": {"num_features": 2}, "options": {"num_features": 2, "eps": 0.01, "momentum": 0.3, "affine": False}}, f(2, 2, 3, 3)),
    *sync_norm({"no-stats": {"num_features": 3, "track_running_stats": False}}, f(4, 3)),
    *of("InstanceNorm1d", {"": {"num_features": 3}, "affine": {"num_features": 3, "affine": True}, "stats": {"num_features": 3, "track_running_stats": True, "momentum": 0.3}, "eps": {"num_features": 3, "eps": 0.01}}, f(2, 3, 4)),
    *of("InstanceNorm1d", {"unbatched": {"num_features": 3}}, f(3, 4)),
    *of("InstanceNorm2d", {"": {"num_features": 2}, "both": {"num_features": 2, "affine": True, "track_running_stats": True}, "options": {"num_features": 2, "track_running_stats": True, "eps": 0.01, "momentum": 0.3}}, f(2, 2, 3, 3)),
    *of("InstanceNorm3d", {"": {"num_features": 2}, "affine": {"num_features": 2, "affine": True}, "options": {"num_features": 2, "track_running_stats": True, "eps": 0.01, "momentum": 0.3}}, f(1, 2, 2, 2, 3)),
    *of("GroupNorm", {"": {"num_groups": 2, "num_channels": 4}, "no-affine": {"num_groups": 4, "num_channels": 4, "affine": False, "eps": 0.001}}, f(2, 4, 3)),
    *of("LayerNorm", {"": {"normalized_shape": 4}, "two": {"normalized_shape": [3, 4]}, "no-affine": {"normalized_shape": [4], "elementwise_affine": False, "eps": 0.001}}, f(2, 3, 4)),
    *of("LocalResponseNorm", {"": {"size": 2}, "options": {"size": 3, "alpha": 0.5, "beta": 0.5, "k": 2.5}}, f(2, 4, 3, 3)),
    *of("CrossMapLRN2d", {"": {"size": 2}, "options": {"size": 3, "alpha": 0.5, "beta": 0.5, "k": 2.5}, "wide": {"size": 5, "alpha": 0.5}}, f(2, 6, 2, 3)),
]

POOLING = [
    *[c for n in (1, 2, 3) for c in of(f"MaxPool{n}d", {"": {"kernel_size": 2}, "options": {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": True}, "indices": {"kernel_size": 2, "return_indices": True}}, f(1, 2, *[6, 5, 4][:n]))],
    *of("MaxPool2d", {"rectangle": {"kernel_size": [3, 2], "stride": [1, 2], "dilation": [1, 2]}}, f(1, 2, 6, 5)),
    *[c for n in (1, 2, 3) for c in of(f"AvgPool{n}d", {"": {"kernel_size": 2}, "options": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}}, f(1, 2, *[6, 5, 4][:n]))],
    *[c for n in (1, 3) for c in of(f"MaxPool{n}d", {"dilated": {"kernel_size": 2, "stride": 1, "dilation": 2}}, f(1, 2, *[6, 4, 3][:n]))],
    *of("AvgPool3d", {"divisor": {"kernel_size": [1, 2, 2], "divisor_override": 3}}, f(1, 1, 2, 4, 3)),
    *of("AvgPool2d", {"divisor": {"kernel_size": [2, 3], "divisor_override": 5}}, f(1, 2, 6, 5)),
    *of("LPPool1d", {"": {"norm_type": 2.0, "kernel_size": 2}, "options": {"norm_type": 3.0, "kernel_size": 3, "stride": 2, "ceil_mode": True}}, f(1, 2, 6, positive=True)),
    *of("LPPool2d", {"": {"norm_type": 2.0, "kernel_size": 2}, "options": {"norm_type": 1.5, "kernel_size": [3, 2], "stride": 2, "ceil_mode": True}}, f(1, 2, 6, 5, positive=True)),
    *[c for n in (1, 2, 3) for k in ("Avg", "Max") for c in of(f"Adaptive{k}Pool{n}d", {"": {"output_size": 3}}, f(1, 2, *[6, 5, 4][:n]))],
    *of("AdaptiveAvgPool2d", {"rectangle": {"output_size": [None, 2]}}, f(1, 2, 4, 5)),
    *of("AdaptiveMaxPool3d", {"indices": {"output_size": [2, None, 3], "return_indices": True}}, f(2, 1, 3, 4, 5)),
    *of("AdaptiveMaxPool3d", {"unbatched": {"output_size": 2, "return_indices": True}}, f(2, 3, 4, 5)),
    *of("AdaptiveMaxPool1d", {"indices": {"output_size": 3, "return_indices": True}}, f(1, 2, 5)),
    *of("AdaptiveMaxPool2d", {"indices": {"output_size": [2, 3], "return_indices": True}}, f(1, 2, 4, 5)),
    *of("MaxUnpool1d", {"": {"kernel_size": 2}}, f(1, 1, 3), fixed([[[1, 2, 5]]], torch.int64)),
    *of("MaxUnpool2d", {"": {"kernel_size": 2}, "options": {"kernel_size": 2, "stride": [2, 2], "padding": 0}}, f(1, 1, 2, 2), fixed([[[[0, 3], [9, 15]]]], torch.int64)),
    *of("MaxUnpool3d", {"": {"kernel_size": 2}}, f(1, 1, 1, 1, 2), fixed([[[[[1, 14]]]]], torch.int64)),
    *of("MaxUnpool1d", {"options": {"kernel_size": 3, "stride": 2, "padding": 1}}, f(1, 1, 3), fixed([[[0, 2, 4]]], torch.int64)),
    *of("MaxUnpool2d", {"padded": {"kernel_size": 3, "stride": 2, "padding": 1}}, f(1, 1, 2, 2), fixed([[[[0, 2], [6, 8]]]], torch.int64)),
    *of("MaxUnpool3d", {"options": {"kernel_size": 3, "stride": 2, "padding": 1}}, f(1, 1, 1, 1, 2), fixed([[[[[0, 2]]]]], torch.int64)),
    *of("MaxUnpool1d", {"sized": {"kernel_size": 2}}, f(1, 1, 3), fixed([[[1, 2, 6]]], torch.int64), fixed([7], torch.int64), call=unpooled),
    *of("MaxUnpool2d", {"sized": {"kernel_size": 2}}, f(1, 1, 2, 2), fixed([[[[0, 3], [9, 24]]]], torch.int64), fixed([5, 5], torch.int64), call=unpooled),
    *of("MaxUnpool3d", {"sized": {"kernel_size": 2}}, f(1, 1, 1, 1, 2), fixed([[[[[1, 29]]]]], torch.int64), fixed([2, 3, 5], torch.int64), call=unpooled),
    # Its regions are random, except where each begins one step after the last, or where there is only one.
    *of("FractionalMaxPool2d", {"": {"kernel_size": 2, "output_size": 4}, "indices": {"kernel_size": 2, "output_size": [4, 5], "return_indices": True}}, f(1, 2, 5, 6))[1:],
    *of("FractionalMaxPool2d", {"": {"kernel_size": 2, "output_size": 4}}, f(1, 2, 5, 5)),
    *of("FractionalMaxPool2d", {"ratio": {"kernel_size": 2, "output_ratio": [0.8, 0.75]}}, f(1, 2, 5, 4)),
    *of("FractionalMaxPool3d", {"": {"kernel_size": 2, "output_size": 1}, "indices": {"kernel_size": 2, "output_size": 2, "return_indices": True}, "ratio": {"kernel_size": 2, "output_ratio": 0.5}}, f(1, 1, 4, 4, 4)),
]

PADDING = [
    *[c for t in ("Reflection", "Replication") for n in (1, 2, 3) for c in of(f"{t}Pad{n}d", {"": {"padding": 1}, "sides": {"padding": [1, 2, 0, 1, 1, 0][:2 * n]}}, f(1, 1, *[3, 3, 3][:n]))],
    *[c for n in (1, 2, 3) for c in of(f"ConstantPad{n}d", {"": {"padding": 1, "value": 0.5}, "sides": {"padding": [1, 2, 0, -1, 1, 0][:2 * n], "value": -2.0}}, f(1, 1, *[3, 3, 2][:n]))],
    *of("ZeroPad2d", {"": {"padding": 1}, "sides": {"padding": [1, 0, 2, -1]}}, f(1, 1, 2, 3)),
    *of("Upsample", {"nearest": {"scale_factor": 2.0}, "size": {"size": [3, 5]}, "bilinear": {"scale_factor": [2.0, 1.5], "mode": "bilinear"}, "corners": {"size": [4, 5], "mode": "bilinear", "align_corners": True},
        "bicubic": {"scale_factor": 2.0, "mode": "bicubic"}, "nearest-exact": {"scale_factor": 1.5, "mode": "nearest-exact"}, "area": {"size": [1, 2], "mode": "area"},
        "recomputed": {"scale_factor": 1.75, "mode": "bilinear", "recompute_scale_factor": True}}, f(1, 1, 2, 3)),
    *of("Upsample", {"linear": {"scale_factor": 2.0, "mode": "linear"}}, f(1, 2, 3)),
    *of("Upsample", {"trilinear": {"size": 3, "mode": "trilinear"}}, f(1, 1, 2, 2, 2)),
    *of("UpsamplingNearest2d", {"": {"scale_factor": 2.0}, "size": {"size": [3, 5]}}, f(1, 1, 2, 3)),
    *of("UpsamplingBilinear2d", {"": {"size": [4, 5]}, "scale": {"scale_factor": 2.0}}, f(1, 1, 2, 3)),
]

DROPOUT = [
    *[c for t, shape in (("Dropout", (2, 3)), ("Dropout1d", (2, 3, 2)), ("Dropout2d", (2, 3, 2, 2)), ("Dropout3d", (1, 3, 2, 2, 2)), ("AlphaDropout", (2, 3)), ("FeatureAlphaDropout", (2, 3, 2)))
      for c in [*of(t, {"": {}, "p": {"p": 0.25, "inplace": True}}, f(*shape), **EVAL), *of(t, {"none": {"p": 0.0}}, f(*shape))]],
    *[c for t in ("Dropout", "Dropout1d") for c in of(t, {"all": {"p": 1.0}}, f(2, 3, 2))],
]

RNN_VARIANTS = {"": {}, "deep": {"num_layers": 2, "bidirectional": True}, "batch-first": {"batch_first": True, "bias": False}}
RECURRENT = [
    *[c for t in ("RNN", "LSTM", "GRU") for c in of(t, {label: {"input_size": 3, "hidden_size": 2, **args} for label, args in RNN_VARIANTS.items()}, f(4, 2, 3))],
    *[c for t in ("RNN", "LSTM", "GRU") for c in of(t, {"unbatched": {"input_size": 3, "hidden_size": 2}}, f(4, 3))],
    *of("RNN", {"relu": {"input_size": 3, "hidden_size": 2, "nonlinearity": "relu"}}, f(4, 2, 3), f(1, 2, 2)),
    *[c for t in ("RNN", "LSTM", "GRU") for c in of(t, {"dropout": {"input_size": 3, "hidden_size": 2, "num_layers": 2, "dropout": 0.5}}, f(4, 2, 3), **EVAL)],
    *of("RNN", {"deep-state": {"input_size": 3, "hidden_size": 2, "num_layers": 2, "bidirectional": True, "batch_first": True}}, f(2, 4, 3), f(4, 2, 2)),
    *of("LSTM", {"state": {"input_size": 3, "hidden_size": 2}}, f(4, 2, 3), f(1, 2, 2), f(1, 2, 2), call=with_state),
    *of("LSTM", {"projection": {"input_size": 3, "hidden_size": 4, "proj_size": 2, "num_layers": 2}, "projection-bidirectional": {"input_size": 3, "hidden_size": 3, "proj_size": 2, "bidirectional": True, "bias": False}}, f(4, 2, 3)),
    *of("LSTM", {"projection-state": {"input_size": 3, "hidden_size": 3, "proj_size": 2, "batch_first": True}}, f(2, 4, 3), f(1, 2, 2), f(1, 2, 3), call=with_state),
    *of("GRU", {"state": {"input_size": 3, "hidden_size": 2, "batch_first": True}}, f(2, 4, 3), f(1, 2, 2)),
    *[c for t in ("RNNCell", "GRUCell", "LSTMCell") for c in of(t, {"": {"input_size": 3, "hidden_size": 2}, "no-bias": {"input_size": 3, "hidden_size": 2, "bias": False}}, f(2, 3))],
    *of("RNNCell", {"state": {"input_size": 3, "hidden_size": 2, "nonlinearity": "relu"}}, f(2, 3), f(2, 2)),
    *of("GRUCell", {"unbatched": {"input_size": 3, "hidden_size": 2}}, f(3), f(2)),
    *of("LSTMCell", {"state": {"input_size": 3, "hidden_size": 2}}, f(2, 3), f(2, 2), f(2, 2), call=with_state),
]

BOOL_MASK = fixed([[False, True, True], [False, False, True], [False, False, False]], torch.bool)
FLOAT_MASK = fixed([[0.0, -1.0, -2.0], [0.0, 0.5, -1.0], [0.0, 0.0, 0.0]], torch.float32)
KEY_MASK = fixed([[False, False, True], [False, False, False]], torch.bool)
MHA = {"embed_dim": 4, "num_heads": 2}
LAYER = {"d_model": 4, "nhead": 2, "dim_feedforward": 6, "dropout": 0.0}
ATTENTION = [
    *of("MultiheadAttention", {"": MHA, "no-bias": {**MHA, "bias": False}, "bias-kv": {**MHA, "add_bias_kv": True, "add_zero_attn": True}}, f(3, 2, 4), f(3, 2, 4), f(3, 2, 4)),
    *of("MultiheadAttention", {"batch-first": {**MHA, "batch_first": True, "dropout": 0.0}}, f(2, 3, 4), f(2, 5, 4), f(2, 5, 4)),
    *of("MultiheadAttention", {"kdim": {**MHA, "kdim": 3, "vdim": 5}}, f(3, 2, 4), f(3, 2, 3), f(3, 2, 5)),
    *of("MultiheadAttention", {"bool-mask": MHA}, f(3, 2, 4), f(3, 2, 4), f(3, 2, 4), named={"attn_mask": BOOL_MASK}),
    *of("MultiheadAttention", {"float-mask": MHA}, f(3, 2, 4), f(3, 2, 4), f(3, 2, 4), named={"attn_mask": FLOAT_MASK, "key_padding_mask": KEY_MASK}),
    *of("MultiheadAttention", {"unbatched": MHA}, f(3, 4), f(3, 4), f(3, 4)),
    *of("MultiheadAttention", {"dropout": {**MHA, "dropout": 0.5}}, f(3, 2, 4), f(3, 2, 4), f(3, 2, 4), **EVAL),
    *of("TransformerEncoderLayer", {"": LAYER, "norm-first": {**LAYER, "norm_first": True, "activation": "gelu", "batch_first": True}}, f(3, 3, 4)),
    *of("TransformerEncoderLayer", {"masks": LAYER}, f(3, 2, 4), named={"src_mask": BOOL_MASK, "src_key_padding_mask": KEY_MASK}),
    *of("TransformerDecoderLayer", {"": LAYER, "norm-first": {**LAYER, "norm_first": True, "activation": "gelu", "batch_first": True}}, f(3, 3, 4), f(3, 3, 4)),
    *of("TransformerEncoderLayer", {"eps": {**LAYER, "layer_norm_eps": 0.01}}, f(2, 2, 4)),
    *of("TransformerDecoderLayer", {"eps": {**LAYER, "layer_norm_eps": 0.01}}, f(2, 2, 4), f(2, 2, 4)),
    *of("TransformerDecoderLayer", {"memory-masks": LAYER}, f(3, 2, 4), f(3, 2, 4), named={"memory_mask": FLOAT_MASK, "tgt_key_padding_mask": KEY_MASK}),
    *of("TransformerDecoderLayer", {"masks": LAYER}, f(3, 2, 4), f(3, 2, 4), named={"tgt_mask": BOOL_MASK, "memory_key_padding_mask": KEY_MASK}),
    case("TransformerEncoder", spec("TransformerEncoder", {"encoder_layer": spec("TransformerEncoderLayer", **LAYER), "norm": spec("LayerNorm", normalized_shape=4)}, num_layers=2), f(3, 2, 4), named={"mask": BOOL_MASK}),
    case("TransformerEncoder-padding", spec("TransformerEncoder", {"encoder_layer": spec("TransformerEncoderLayer", **LAYER)}, num_layers=1), f(3, 2, 4), named={"src_key_padding_mask": KEY_MASK}),
    case("TransformerDecoder-masks", spec("TransformerDecoder", {"decoder_layer": spec("TransformerDecoderLayer", **LAYER), "norm": spec("LayerNorm", normalized_shape=4)}, num_layers=1), f(3, 2, 4), f(3, 2, 4),
        named={"tgt_mask": BOOL_MASK, "memory_mask": FLOAT_MASK, "tgt_key_padding_mask": KEY_MASK, "memory_key_padding_mask": KEY_MASK}),
    case("TransformerDecoder", spec("TransformerDecoder", {"decoder_layer": spec("TransformerDecoderLayer", **LAYER)}, num_layers=2), f(3, 2, 4), f(3, 2, 4)),
    *of("Transformer", {"": {"d_model": 4, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 1, "dim_feedforward": 6, "dropout": 0.0},
        "norm-first": {"d_model": 4, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 6, "dropout": 0.0, "norm_first": True, "batch_first": True, "activation": "gelu"}}, f(3, 3, 4), f(3, 3, 4)),
    *of("Transformer", {"all-masks": {"d_model": 4, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 6, "dropout": 0.0, "layer_norm_eps": 0.01}}, f(3, 2, 4), f(3, 2, 4),
        named={"src_mask": FLOAT_MASK, "memory_mask": BOOL_MASK, "tgt_key_padding_mask": KEY_MASK, "memory_key_padding_mask": KEY_MASK}),
    *of("Transformer", {"masks": {"d_model": 4, "nhead": 1, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 6, "dropout": 0.1}}, f(3, 2, 4), f(3, 2, 4), named={"tgt_mask": FLOAT_MASK, "src_key_padding_mask": KEY_MASK}, **EVAL),
]


def relu():
    return spec("ReLU")


def linear(a, b):
    return spec("Linear", in_features=a, out_features=b)


def conv(a, b, kernel):
    return spec("Conv2d", in_channels=a, out_channels=b, kernel_size=kernel)


class Graph(nn.Module):
    """What the wiring of the "residual" case says, by hand."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(2)
        self.down = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)) + self.down(x))


def step(name, inputs, module=None, function=None, unpack=(), **args):
    made = {"name": name, "inputs": inputs, "module": module, "function": function, "args": args, "unpack": list(unpack)}
    return {key: value for key, value in made.items() if value not in (None, {}, [])}


def two_heads():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)
            self.heads = nn.ModuleDict({"mean": nn.Linear(4, 1), "scale": nn.Sequential(nn.Linear(4, 1), nn.Softplus())})
            self.mixers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

        def forward(self, x, bias=None):
            output, hidden = self.rnn(x)
            h = self.mixers[1](torch.tanh(self.mixers[0](output[:, -1, :] + hidden[0])))
            return self.heads["mean"](h), self.heads["scale"](h)
    return Graph()


CONTAINERS = [
    case("Sequential", spec("Sequential", [linear(3, 4), relu(), linear(4, 2)]), f(5, 3)),
    case("Sequential-empty", spec("Sequential", []), f(2, 3)),
    case("Sequential-nested", spec("Sequential", {"stem": spec("Sequential", [linear(3, 4), spec("BatchNorm1d", num_features=4), relu()]), "again": spec("Sequential", [linear(4, 4), spec("Dropout", p=0.0)]), "head": linear(4, 2)}), f(5, 3)),
    # One module under two names: its parameters once, its state under both, its gradients from both.
    case("Sequential-shared", spec("Sequential", {"first": spec("Sequential", {"body": linear(3, 3), "act": spec("Tanh")}), "again": "first.body", "whole": "first"}), f(2, 3)),
    case("LeNet", spec("Sequential", [conv(1, 3, 3), relu(), spec("MaxPool2d", kernel_size=2), conv(3, 4, 3), relu(), spec("MaxPool2d", kernel_size=2), spec("Flatten"), linear(16, 6), relu(), linear(6, 3), spec("LogSoftmax", dim=1)]), f(2, 1, 14, 14)),
    case("Sequential-bottleneck", spec("Sequential", [conv(2, 3, 1), spec("BatchNorm2d", num_features=3), spec("SiLU"), spec("AdaptiveAvgPool2d", output_size=1), spec("Flatten"), spec("LayerNorm", normalized_shape=3)]), f(2, 2, 3, 3)),
    case("Graph-residual", spec("Graph", {"conv": spec("Conv2d", in_channels=2, out_channels=2, kernel_size=3, padding=1, bias=False), "bn": spec("BatchNorm2d", num_features=2), "down": conv(2, 2, 1)}, wiring={
        "inputs": ["x"], "outputs": ["y"], "steps": [
            step("a", ["x"], module="conv"), step("b", ["a"], module="bn"), step("skip", ["x"], module="down"), step("sum", ["b", "skip"], function="add"), step("y", ["sum"], function="relu")]}),
        f(2, 2, 4, 4), module=Graph),
]

# No spec builds these alone: a ModuleList or ModuleDict has no forward, so a wiring calls what it holds.
CONTAINERS.append(case("Graph-two-heads", spec("Graph", {
    "rnn": spec("GRU", input_size=3, hidden_size=4, batch_first=True),
    "heads": spec("ModuleDict", {"mean": linear(4, 1), "scale": spec("Sequential", [linear(4, 1), spec("Softplus")])}),
    "mixers": spec("ModuleList", [linear(4, 4), linear(4, 4)])}, wiring={
    "inputs": ["x", "bias?"], "outputs": ["mean", "scale"], "steps": [
        step("", ["x"], module="rnn", unpack=["out", "h"]),
        step("last", ["out"], function="select", dim=1, index=-1), step("hidden", ["h"], function="select", dim=0, index=0), step("sum", ["last", "hidden"], function="add"),
        step("m0", ["sum"], module="mixers.0"), step("t", ["m0"], function="tanh"), step("m1", ["t"], module="mixers.1"),
        step("mean", ["m1"], module="heads.mean"), step("scale", ["m1"], module="heads.scale")]}),
    f(2, 4, 3), module=two_heads))


def with_parameters():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.scales = nn.ParameterList([nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 3))])
            self.named = nn.ParameterDict([("shift", nn.Parameter(torch.zeros(()))), ("gain", nn.Parameter(torch.zeros(1, 3)))])
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.bn(x * self.scales[0] + self.scales[1]) * self.named["gain"] + self.named["shift"] - self.bn.running_mean
    return Graph()


CONTAINERS.append(case("Graph-parameters", spec("Graph", {
    "scales": spec("ParameterList", shapes=[[3], [2, 3]]), "named": spec("ParameterDict", names=["shift", "gain"], shapes=[[], [1, 3]]), "bn": spec("BatchNorm1d", num_features=3)}, wiring={
    "inputs": ["x"], "outputs": ["y"], "steps": [
        {"name": "s0", "parameter": "scales.0"}, {"name": "s1", "parameter": "scales.1"}, {"name": "gain", "parameter": "named.gain"}, {"name": "shift", "parameter": "named.shift"},
        step("a", ["x", "s0"], function="mul"), step("b", ["a", "s1"], function="add"), step("c", ["b"], module="bn"), step("d", ["c", "gain"], function="mul"), step("e", ["d", "shift"], function="add"),
        {"name": "mean", "parameter": "bn.running_mean"}, step("y", ["e", "mean"], function="sub")]}), f(2, 3), module=with_parameters))


class RMSNorm(nn.Module):
    """PyTorch 2.4's, by its documentation."""

    def __init__(self, shape, eps=None, affine=True):
        super().__init__()
        self.shape, self.eps, self.affine = shape, eps, affine
        self.register_parameter("weight", nn.Parameter(torch.ones(shape)) if affine else None)

    def forward(self, x):
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        y = x / (x.square().mean([-1 - d for d in range(len(self.shape))], keepdim=True) + eps).sqrt()
        return y if self.weight is None else y * self.weight

    def extra_repr(self):
        return f"{self.shape}, eps={self.eps}, elementwise_affine={self.affine}"


def newer(made, print, forward, *inputs, label=""):
    """A case of a type that 1.13 lacks and whose forward is one of its functions."""
    return case(made["type"] + label, made, *inputs, module=lambda: type(made["type"], (nn.Module,), {"forward": lambda self, x: forward(x), "extra_repr": lambda self: print})())


def padding(type, n, mode):
    sides = [1, 0, 0, 1, 1, 1][:2 * n]
    return newer(spec(f"{type}{n}d", padding=sides), str(tuple(sides)), lambda x: nn.functional.pad(x, sides, mode), f(1, 1, *[3, 3, 2][:n]))


def without_bias(module):
    """What bias=False gives since 2.1: no biases of linear layers, attention and norms."""
    for part in module.modules():
        for name in ("bias", "in_proj_bias"):
            if getattr(part, name, None) is not None:
                setattr(part, name, None)
    return module


# With norm_first, since the fast path of 1.13 asks each bias for its device.
NO_BIAS = {**LAYER, "norm_first": True}
NEWER = [
    case("LayerNorm-no-bias", spec("LayerNorm", normalized_shape=4, bias=False), f(2, 4), module=lambda: without_bias(nn.LayerNorm(4))),
    case("TransformerEncoderLayer-no-bias", spec("TransformerEncoderLayer", **NO_BIAS, bias=False), f(2, 2, 4), module=lambda: without_bias(nn.TransformerEncoderLayer(**NO_BIAS))),
    case("TransformerDecoderLayer-no-bias", spec("TransformerDecoderLayer", **NO_BIAS, bias=False), f(2, 2, 4), f(2, 2, 4), module=lambda: without_bias(nn.TransformerDecoderLayer(**NO_BIAS))),
    case("Transformer-no-bias", spec("Transformer", **NO_BIAS, num_encoder_layers=1, num_decoder_layers=1, bias=False), f(2, 2, 4), f(2, 2, 4),
        module=lambda: without_bias(nn.Transformer(**NO_BIAS, num_encoder_layers=1, num_decoder_layers=1))),
    case("RMSNorm", spec("RMSNorm", normalized_shape=4), f(2, 3, 4), module=lambda: RMSNorm((4,))),
    case("RMSNorm-options", spec("RMSNorm", normalized_shape=[3, 4], eps=0.01, elementwise_affine=False), f(2, 3, 4), module=lambda: RMSNorm((3, 4), 0.01, False)),
    *[padding("CircularPad", n, "circular") for n in (1, 2, 3)],
    *[padding("ZeroPad", n, "constant") for n in (1, 3)],
    newer(spec("LPPool3d", norm_type=2.0, kernel_size=2), "norm_type=2.0, kernel_size=2, stride=None, ceil_mode=False",
        lambda x: nn.functional.avg_pool3d(x.square(), 2).mul(8).sqrt(), f(1, 1, 4, 2, 2, positive=True)),
    newer(spec("LPPool3d", norm_type=3.0, kernel_size=2, stride=[2, 1, 1], ceil_mode=True), "norm_type=3.0, kernel_size=2, stride=(2, 1, 1), ceil_mode=True",
        lambda x: nn.functional.avg_pool3d(x.pow(3), 2, (2, 1, 1), ceil_mode=True).mul(8).pow(1 / 3), f(1, 1, 3, 2, 3, positive=True), label="-options"),
]

# The size that a lazy type leaves out, and what its constructor has other defaults for.
LAZY_SIZES = {"Linear": "in_features", "Conv": "in_channels", "BatchNorm": "num_features", "InstanceNorm": "num_features"}
LAZY_DEFAULTS = {"InstanceNorm": {"affine": False, "track_running_stats": False}}


def lazy(plain):
    """The lazy form of a case: the module that a first forward makes of it."""
    kind = plain["spec"]["type"]
    size = next(size for prefix, size in LAZY_SIZES.items() if kind.startswith(prefix))
    args = {**next((defaults for prefix, defaults in LAZY_DEFAULTS.items() if kind.startswith(prefix)), {}), **plain["spec"].get("args", {})}
    args.pop(size)

    def module():
        made = build(spec("Lazy" + kind, **args))
        given = [make(torch.Generator()) for make in plain["inputs"]]
        plain.get("call", lambda called, *given: called(*given))(made, *given)
        return made
    return {**plain, "name": "Lazy" + plain["name"], "spec": spec("Lazy" + kind, **args), "module": module}


# Without a batch LazyInstanceNorm1d would take the length for the channels.
LAZY = [lazy(plain) for plain in (*LINEAR, *CONVOLUTIONS, *NORMS) if hasattr(nn, "Lazy" + plain["spec"]["type"]) and plain["name"] != "InstanceNorm1d-unbatched"]

FAMILIES = {
    "activations": ACTIVATIONS,
    "attention": ATTENTION,
    "containers": CONTAINERS,
    "convolutions": CONVOLUTIONS,
    "dropout": DROPOUT,
    "lazy": LAZY,
    "linear": LINEAR,
    "newer": NEWER,
    "norms": NORMS,
    "padding": PADDING,
    "pooling": POOLING,
    "recurrent": RECURRENT,
}
