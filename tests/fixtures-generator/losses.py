"""Losses: every type of torch.nn with every reduction and argument, its value and the gradients of what a module returns.

Inputs are float32 values, so that one copy serves both dtypes. Backward begins with the cotangent of all fixtures, so that the elements of
an unreduced loss weigh differently.
"""
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
REDUCTIONS = ("none", "mean", "sum")
CLASS_WEIGHT = [0.2, 1.0, 3.0, 0.5]


def cases():
    g = torch.Generator().manual_seed(1)
    made = []

    def randn(*shape):
        return torch.randn(*shape, generator=g)

    def rand(*shape):
        return torch.rand(*shape, generator=g)

    def classes(high, *shape):
        return torch.randint(0, high, shape, generator=g)

    def signs(*shape):
        return torch.randint(0, 2, shape, generator=g).float() * 2 - 1

    def case(kind, args, outputs, targets):
        made.append((kind, args, outputs, targets))

    def reduced(kind, outputs, targets, **args):
        """One case for each reduction, on the same values."""
        for reduction in (*REDUCTIONS, *(["batchmean"] if kind == "KLDivLoss" else [])):
            case(kind, {**args, "reduction": reduction}, outputs, targets)

    for kind in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss"):
        reduced(kind, [randn(4, 3)], [randn(4, 3)])
        case(kind, {}, [randn(4, 3)], [randn(3)])
    for beta in (0.3, 0.0):
        reduced("SmoothL1Loss", [randn(5)], [randn(5)], beta=beta)
    reduced("HuberLoss", [randn(5)], [randn(5)], delta=0.4)
    reduced("SoftMarginLoss", [randn(4, 3)], [signs(4, 3)])
    reduced("HingeEmbeddingLoss", [randn(4, 3)], [signs(4, 3)])
    reduced("HingeEmbeddingLoss", [randn(4, 3)], [signs(4, 3)], margin=0.5)
    reduced("BCELoss", [rand(4, 3)], [rand(4, 3)])
    reduced("BCELoss", [rand(4, 3)], [rand(4, 3)], weight=[1.0, 0.5, 2.0])
    reduced("BCEWithLogitsLoss", [randn(4, 3)], [rand(4, 3)])
    reduced("BCEWithLogitsLoss", [randn(4, 3)], [rand(4, 3)], weight=[1.0, 0.5, 2.0], pos_weight=[3.0, 1.0, 0.2])
    reduced("PoissonNLLLoss", [randn(4, 3)], [rand(4, 3) * 4])
    reduced("PoissonNLLLoss", [rand(4, 3) + 0.1], [rand(4, 3) * 4], log_input=False, full=True, eps=1e-3)
    reduced("KLDivLoss", [randn(4, 3).log_softmax(1)], [rand(4, 3).softmax(1)])
    reduced("KLDivLoss", [randn(4, 3).log_softmax(1)], [randn(4, 3).log_softmax(1)], log_target=True)
    reduced("GaussianNLLLoss", [randn(4, 3)], [randn(4, 3), rand(4, 3)])
    reduced("GaussianNLLLoss", [randn(4, 3)], [randn(4, 3), rand(4, 1)], full=True, eps=0.3)
    case("GaussianNLLLoss", {}, [randn(4, 3)], [randn(4, 3), rand(4)])

    ignoring = torch.tensor([0, 3, 1, 1, 2, 0])
    reduced("CrossEntropyLoss", [randn(6, 4)], [classes(4, 6)])
    reduced("CrossEntropyLoss", [randn(6, 4)], [classes(4, 6)], label_smoothing=0.1)
    reduced("CrossEntropyLoss", [randn(6, 4)], [classes(4, 6)], weight=CLASS_WEIGHT)
    reduced("CrossEntropyLoss", [randn(6, 4)], [ignoring], weight=CLASS_WEIGHT, ignore_index=1, label_smoothing=0.3)
    reduced("CrossEntropyLoss", [randn(6, 4)], [rand(6, 4).softmax(1)])
    reduced("CrossEntropyLoss", [randn(6, 4)], [rand(6, 4).softmax(1)], weight=CLASS_WEIGHT, label_smoothing=0.1)
    reduced("CrossEntropyLoss", [randn(2, 4, 3, 2)], [classes(4, 2, 3, 2)], weight=CLASS_WEIGHT)
    case("CrossEntropyLoss", {"ignore_index": -1}, [randn(6, 4)], [torch.tensor([0, -1, 1, -1, 2, 3])])
    case("CrossEntropyLoss", {}, [randn(6, 4)], [torch.tensor([0, -100, 1, -100, 2, 3])])
    case("CrossEntropyLoss", {}, [randn(4)], [classes(4)])
    reduced("NLLLoss", [randn(6, 4).log_softmax(1)], [classes(4, 6)])
    reduced("NLLLoss", [randn(6, 4).log_softmax(1)], [ignoring], weight=CLASS_WEIGHT, ignore_index=1)
    reduced("NLLLoss", [randn(2, 4, 3).log_softmax(1)], [classes(4, 2, 3)], weight=CLASS_WEIGHT)
    reduced("MultiMarginLoss", [randn(5, 4)], [classes(4, 5)])
    reduced("MultiMarginLoss", [randn(5, 4)], [classes(4, 5)], p=2, margin=0.7, weight=CLASS_WEIGHT)
    reduced("MultiLabelMarginLoss", [randn(2, 4)], [torch.tensor([[3, 0, -1, 1], [2, -1, 0, 0]])])
    reduced("MultiLabelMarginLoss", [randn(4)], [torch.tensor([1, 2, -1, 0])])
    reduced("MultiLabelSoftMarginLoss", [randn(5, 4)], [classes(2, 5, 4).float()])
    reduced("MultiLabelSoftMarginLoss", [randn(5, 4)], [classes(2, 5, 4).float()], weight=CLASS_WEIGHT)

    reduced("CosineEmbeddingLoss", [randn(5, 4), randn(5, 4)], [signs(5)])
    reduced("CosineEmbeddingLoss", [randn(5, 4), randn(5, 4)], [signs(5)], margin=0.2)
    reduced("MarginRankingLoss", [randn(5), randn(5)], [signs(5)])
    reduced("MarginRankingLoss", [randn(5), randn(5)], [signs(5)], margin=0.3)
    reduced("TripletMarginLoss", [randn(5, 4), randn(5, 4), randn(5, 4)], [])
    reduced("TripletMarginLoss", [randn(5, 4), randn(5, 4), randn(5, 4)], [], margin=2.0, p=1.5, swap=True)
    case("TripletMarginLoss", {"eps": 1e-3}, [randn(5, 4)], [randn(5, 4), randn(5, 4)])
    reduced("TripletMarginWithDistanceLoss", [randn(5, 4), randn(5, 4), randn(5, 4)], [])
    reduced("TripletMarginWithDistanceLoss", [randn(5, 4), randn(5, 4), randn(5, 4)], [], margin=1.5, swap=True)

    log_probs = randn(12, 3, 5).log_softmax(2)
    lengths = [torch.tensor([12, 10, 8]), torch.tensor([4, 3, 2])]
    targets = classes(4, 3, 4) + 1
    reduced("CTCLoss", [log_probs], [targets, *lengths])
    reduced("CTCLoss", [log_probs], [classes(4, 9), *lengths], blank=4, zero_infinity=True)
    case("CTCLoss", {}, [randn(12, 5).log_softmax(1)], [targets[0], torch.tensor([12]), torch.tensor([4])])
    case("CTCLoss", {"zero_infinity": True}, [randn(3, 1, 5).log_softmax(2)], [targets[:1], torch.tensor([3]), torch.tensor([4])])
    return made


def run(kind, args, outputs, targets, dtype, tensor, cotangent):
    def convert(value):
        return value.to(dtype) if value.is_floating_point() else value

    given = {name: torch.tensor(value, dtype=dtype) if name.endswith("weight") else value for name, value in args.items()}
    leaves = [convert(output).clone().requires_grad_() for output in outputs]
    loss = getattr(nn, kind)(**given)(*leaves, *[convert(target) for target in targets])
    gradients = torch.autograd.grad(loss, leaves, cotangent(loss))
    return {"loss": tensor(loss), "gradients": [tensor(gradient) for gradient in gradients]}


def generate(tensor, cotangent):
    return {"cases": [{
        "type": kind, "args": args, "outputs": [tensor(output) for output in outputs], "targets": [tensor(target) for target in targets],
        "runs": {name: run(kind, args, outputs, targets, getattr(torch, name), tensor, cotangent) for name in ("float32", "float64")},
    } for kind, args, outputs, targets in cases()]}
