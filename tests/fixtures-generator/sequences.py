"""What one forward of one module cannot show: conversions one after another, training steps, and the order of apply."""
import torch
from torch import nn

from module_cases import conv, linear, relu
from specs import build, spec

# No bias before the norm: its gradient would be noise around zero, which Adam makes steps of.
NET = spec("Sequential", {
    "conv": spec("Conv2d", in_channels=1, out_channels=3, kernel_size=3, bias=False), "bn": spec("BatchNorm2d", num_features=3), "act": relu(), "pool": spec("MaxPool2d", kernel_size=2), "flat": spec("Flatten"), "fc": linear(12, 4)})
SHARED = spec("Sequential", {"first": linear(3, 3), "act": spec("Tanh"), "again": "first"})

# A module's conversions in the order they are applied; type(dtype) last, since it takes integer buffers along.
CONVERSIONS = [("bfloat16", None), ("float", None), ("half", None), ("double", None), ("to", "float32"), ("cpu", None), ("to", "float16"), ("type", "float64"), ("to", "float32")]

# Types that draw initial values, each its own way.
INITIAL = [
    linear(3, 2), spec("Bilinear", in1_features=2, in2_features=3, out_features=2), spec("Conv1d", in_channels=2, out_channels=3, kernel_size=2, groups=1), conv(2, 3, 3),
    spec("ConvTranspose2d", in_channels=2, out_channels=3, kernel_size=2), spec("Embedding", num_embeddings=4, embedding_dim=5, padding_idx=1), spec("EmbeddingBag", num_embeddings=4, embedding_dim=5),
    spec("RNN", input_size=3, hidden_size=2, num_layers=2), spec("LSTM", input_size=3, hidden_size=2, bidirectional=True), spec("GRU", input_size=3, hidden_size=2), spec("GRUCell", input_size=3, hidden_size=2),
    spec("BatchNorm2d", num_features=2), spec("GroupNorm", num_groups=1, num_channels=2), spec("LayerNorm", normalized_shape=[2, 3]), spec("PReLU", num_parameters=2, init=0.3),
    spec("MultiheadAttention", embed_dim=4, num_heads=2), spec("MultiheadAttention", embed_dim=4, num_heads=2, kdim=3, vdim=5, add_bias_kv=True),
    spec("TransformerEncoderLayer", d_model=4, nhead=2, dim_feedforward=3), spec("TransformerDecoderLayer", d_model=4, nhead=2, dim_feedforward=3),
    spec("TransformerEncoder", {"encoder_layer": spec("TransformerEncoderLayer", d_model=4, nhead=2, dim_feedforward=3)}, num_layers=2),
    spec("Transformer", d_model=4, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=3),
    spec("Sequential", [conv(1, 2, 3), relu(), spec("Flatten"), linear(8, 2)]),
]

# Functions of torch.nn.init with the modules whose weight they fill.
SQUARE, TALL, WIDE, FILTERS = linear(4, 4), linear(2, 5), linear(5, 2), conv(4, 4, 3)
INITIALISERS = [
    ("uniform_", {}, TALL), ("uniform_", {"a": -2.0, "b": 3.0}, FILTERS), ("normal_", {}, TALL), ("normal_", {"mean": 1.0, "std": 0.5}, FILTERS), ("trunc_normal_", {}, FILTERS),
    ("trunc_normal_", {"mean": 0.5, "std": 2.0, "a": -1.0, "b": 1.0}, TALL), ("constant_", {"val": 0.25}, TALL), ("ones_", {}, TALL), ("zeros_", {}, TALL), ("eye_", {}, TALL),
    ("dirac_", {}, FILTERS), ("dirac_", {"groups": 2}, FILTERS), ("xavier_uniform_", {}, FILTERS), ("xavier_uniform_", {"gain": 2.0}, TALL), ("xavier_normal_", {}, FILTERS),
    ("kaiming_uniform_", {}, FILTERS), ("kaiming_uniform_", {"a": 0.2, "mode": "fan_out"}, TALL), ("kaiming_normal_", {}, FILTERS), ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}, FILTERS),
    ("kaiming_normal_", {"nonlinearity": "tanh"}, TALL), ("kaiming_normal_", {"nonlinearity": "selu"}, TALL), ("orthogonal_", {}, SQUARE), ("orthogonal_", {"gain": 0.5}, TALL), ("orthogonal_", {}, WIDE),
    ("sparse_", {"sparsity": 0.4}, TALL), ("sparse_", {"sparsity": 0.5, "std": 1.0}, SQUARE),
]

# Lazy modules, and the shape of their first input.
LAZY = [
    (spec("LazyLinear", out_features=2), [4, 3]), (spec("LazyLinear", out_features=2, bias=False), [3]),
    (spec("LazyConv1d", out_channels=4, kernel_size=2, groups=2), [1, 2, 5]), (spec("LazyConv2d", out_channels=3, kernel_size=[2, 1], padding=1), [2, 4, 3]),
    (spec("LazyConv3d", out_channels=2, kernel_size=2, bias=False), [1, 2, 3, 3, 3]), (spec("LazyConvTranspose1d", out_channels=2, kernel_size=2, groups=2), [1, 4, 3]),
    (spec("LazyConvTranspose2d", out_channels=2, kernel_size=2, stride=2, output_padding=1), [1, 3, 2, 2]), (spec("LazyConvTranspose3d", out_channels=1, kernel_size=2), [2, 2, 2, 2]),
    (spec("LazyBatchNorm1d"), [3, 2]), (spec("LazyBatchNorm2d", eps=0.001, momentum=None), [2, 3, 2, 2]), (spec("LazyBatchNorm3d", affine=False), [2, 2, 1, 2, 2]),
    (spec("LazyInstanceNorm1d"), [2, 3, 4]), (spec("LazyInstanceNorm2d", affine=True, track_running_stats=True), [2, 3, 2, 2]), (spec("LazyInstanceNorm3d", affine=True), [1, 2, 1, 2, 2]),
    (spec("Sequential", [spec("LazyConv2d", out_channels=3, kernel_size=2), spec("LazyBatchNorm2d"), relu(), spec("Flatten"), spec("LazyLinear", out_features=2)]), [2, 1, 3, 3]),
]

OPTIMIZERS = {
    "SGD": [("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True})],
    "Adam": [("Adam", {"lr": 0.01}), ("Adam", {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True})],
}


def batch(generator):
    return torch.randn(4, 1, 6, 6, generator=generator), torch.randint(0, 4, (4,), generator=generator)


def state_of(module, tensor):
    return [[key, tensor(value)] for key, value in module.state_dict().items()]


def gradients_of(module, tensor):
    return {name: tensor(p.grad) for name, p in module.named_parameters()}


def conversions(tensor, fill):
    """State and gradients after each conversion, exact; the gradients are those of one backward before the first."""
    made = []
    for name, what, shape in (("network", NET, (4, 1, 6, 6)), ("shared", SHARED, (4, 3))):
        generator = torch.Generator().manual_seed(11)
        module = build(what)
        fill(module, generator)
        state = state_of(module, tensor)
        x = torch.randn(shape, generator=generator)
        # With eval there are no statistics to move: the conversions alone change the state.
        module.eval()(x).square().sum().backward()
        gradients = gradients_of(module, tensor)
        steps = []
        for kind, dtype in CONVERSIONS:
            module = getattr(module, kind)(*([getattr(torch, dtype)] if dtype else []))
            steps.append({"kind": kind, "dtype": dtype, "state": state_of(module, tensor), "gradients": gradients_of(module, tensor)})
        made.append({"name": name, "spec": what, "state": state, "input": tensor(x), "gradients": gradients, "steps": steps})
    return made


def training(tensor, fill):
    """Steps of a small network: the loss of each and the weights after the first and the last. Before the last it becomes float64.

    A conversion must not stop an optimizer. PyTorch leaves the optimizer's state in the old dtype; Sconce converts it with its parameter
    (its stated extension), so here it is converted by hand.
    """
    made = []
    for optimizer_type, variants in OPTIMIZERS.items():
        for index, (_, args) in enumerate(variants):
            generator = torch.Generator().manual_seed(21)
            module = build(NET)
            fill(module, generator)
            state = state_of(module, tensor)
            optimizer = getattr(torch.optim, optimizer_type)(module.parameters(), **args)
            steps = []
            for number in range(4):
                if number == 3:
                    module.double()
                    for values in optimizer.state.values():
                        for name, value in values.items():
                            if isinstance(value, torch.Tensor) and name != "step":
                                values[name] = value.double()
                x, target = batch(generator)
                optimizer.zero_grad(set_to_none=True)
                loss = nn.functional.cross_entropy(module(x.double() if number == 3 else x), target)
                loss.backward()
                optimizer.step()
                steps.append({"input": tensor(x), "target": tensor(target), "loss": loss.item(), "state": state_of(module, tensor) if number in (0, 3) else None})
            made.append({"name": optimizer_type + ("" if index == 0 else "-options"), "optimizer": optimizer_type, "args": args, "spec": NET, "state": state, "steps": steps})
    return made


def apply_order(what):
    """The order in which apply visits: children before their parent; a shared module again under each parent, but once among siblings."""
    module = build(what)
    visits = []
    module.apply(visits.append)
    paths = {module: path for path, module in module.named_modules()}
    return {"spec": what, "visits": [paths[visited] for visited in visits], "modules": list(paths.values())}


def initial(tensor):
    """What a module holds when it is made after manual_seed(5)."""
    made = []
    for what in INITIAL:
        torch.manual_seed(5)
        made.append({"spec": what, "state": state_of(build(what), tensor)})
    return made


def lazy(tensor):
    """What lazy modules are before and after their first forward, which draws their values after manual_seed(5)."""
    made = []
    for what, shape in LAZY:
        module = build(what)
        entry = {"spec": what, "before": repr(module), "keys": list(module.state_dict())}
        x = (torch.arange(torch.tensor(shape).prod()) * 7 % 11 / 8 - 0.5).reshape(shape)
        torch.manual_seed(5)
        output = module(x)
        made.append({**entry, "input": tensor(x), "output": tensor(output), "after": repr(module), "state": state_of(module, tensor)})
    return made


def initialisers(tensor):
    """The weight of a module after manual_seed(5) and one initialiser."""
    made = []
    for function, args, what in INITIALISERS:
        module = build(what)
        torch.manual_seed(5)
        getattr(nn.init, function)(module.weight, **args)
        made.append({"function": function, "args": args, "spec": what, "weight": tensor(module.weight)})
    return made


def generate(tensor, fill):
    nested = spec("Sequential", {"stem": spec("Sequential", {"conv": conv(1, 2, 3), "act": relu()}), "blocks": spec("ModuleList", [linear(2, 2), linear(2, 2)]), "again": "stem", "head": spec("Sequential", {"act": "stem.act", "fc": linear(2, 2)})})
    return {"conversions": conversions(tensor, fill), "training": training(tensor, fill), "apply": apply_order(nested), "initial": initial(tensor), "initialisers": initialisers(tensor), "lazy": lazy(tensor)}
