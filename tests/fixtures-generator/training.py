#!/usr/bin/env python3
"""Writes what real PyTorch computes for optimizers, schedulers and clipping, for tests/Engine.Tests/Training.

Run with Debian's python3-torch (1.13), from anywhere; the outputs are committed, so that the tests need no Python:
    python3 tests/fixtures-generator/training.py
"""
import json
import math
import pathlib
import warnings

import torch
from torch import nn, optim

warnings.simplefilter("ignore")
OUT = pathlib.Path(__file__).resolve().parents[1] / "Engine.Tests" / "Training" / "Fixtures"
F64 = torch.float64


def pack(tensor):
    flat = tensor.detach().reshape(-1).tolist()
    # JSON has no infinity or NaN.
    data = [x if not isinstance(x, float) or math.isfinite(x) else str(x) for x in flat]
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "data": data}


def write(name, cases):
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n")
    print(name, len(cases), "cases", (OUT / f"{name}.json").stat().st_size, "bytes")


# --- optimizers -------------------------------------------------------------------------------------------------------------------

def optimizer_cases():
    cases = []

    def case(kind, args, steps=6, decoupled=None, extra=None):
        g = torch.Generator().manual_seed(2)
        params = [nn.Parameter(torch.randn(3, 4, generator=g, dtype=F64)), nn.Parameter(torch.randn(3, generator=g, dtype=F64))]
        start = [pack(p) for p in params]
        optimizer = getattr(optim, kind)(params, **args, **(extra or {}))
        gradients, weights = [], []
        for step in range(steps):
            for i, p in enumerate(params):
                # The second parameter has no gradient in the first step: its count of steps lags.
                p.grad = None if i == 1 and step == 0 else torch.randn(p.shape, generator=g, dtype=F64)
                if decoupled and p.grad is not None:
                    p.data.mul_(1 - optimizer.param_groups[0]["lr"] * decoupled)
            gradients.append([None if p.grad is None else pack(p.grad) for p in params])
            optimizer.step()
            weights.append([pack(p) for p in params])
        state = optimizer.state_dict()["state"]
        tensors = {f"{n}.{k}": pack(v) for n, s in state.items() for k, v in s.items() if torch.is_tensor(v) and v.dim() > 0}
        scalars = {f"{n}.{k}": float(v) for n, s in state.items() for k, v in s.items() if v is not None and not (torch.is_tensor(v) and v.dim() > 0)}
        ours = dict(args)
        if decoupled:
            ours.update(weight_decay=decoupled, decoupled_weight_decay=True)
        cases.append({"type": kind, "args": ours, "start": start, "gradients": gradients, "weights": weights, "tensors": tensors, "scalars": scalars})

    case("SGD", {"lr": 0.1})
    case("SGD", {"lr": 0.1, "momentum": 0.9})
    case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05})
    case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05, "maximize": True})
    for kind in ("Adam", "AdamW"):
        case(kind, {})
        case(kind, {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1})
        case(kind, {"lr": 0.05, "amsgrad": True, "maximize": True})
    case("Adamax", {})
    case("Adamax", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1, "maximize": True})
    # In 1.13 the single-tensor form of NAdam has an error that PyTorch has mended since; its multi-tensor form is right.
    case("NAdam", {}, extra={"foreach": True})
    case("NAdam", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-6, "momentum_decay": 0.01, "weight_decay": 0.1}, extra={"foreach": True})
    case("NAdam", {"lr": 0.05}, decoupled=0.1, extra={"foreach": True})
    case("RAdam", {}, steps=10)
    case("RAdam", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1}, steps=10)
    case("RAdam", {"lr": 0.05}, steps=10, decoupled=0.1)
    case("Adagrad", {})
    case("Adagrad", {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-6, "maximize": True})
    case("Adadelta", {})
    case("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-5, "weight_decay": 0.1, "maximize": True})
    case("ASGD", {})
    case("ASGD", {"lr": 0.05, "lambd": 0.01, "alpha": 0.6, "t0": 2, "weight_decay": 0.1, "maximize": True})
    case("RMSprop", {})
    case("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1, "momentum": 0.8, "centered": True, "maximize": True})
    case("Rprop", {})
    case("Rprop", {"lr": 0.05, "etas": [0.4, 1.3], "step_sizes": [1e-3, 0.06], "maximize": True})
    return cases


def lbfgs_cases():
    cases = []
    for args in ({}, {"lr": 0.3, "max_iter": 4, "history_size": 2}, {"line_search_fn": "strong_wolfe"},
                 {"line_search_fn": "strong_wolfe", "max_iter": 3, "history_size": 3, "lr": 0.8}):
        g = torch.Generator().manual_seed(3)
        layer = nn.Linear(4, 3, dtype=F64)
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.randn(p.shape, generator=g, dtype=F64))
        start = [pack(p) for p in layer.parameters()]
        x, y = torch.randn(10, 4, generator=g, dtype=F64), torch.rand(10, 3, generator=g, dtype=F64)
        optimizer = optim.LBFGS(layer.parameters(), **args)
        losses, weights = [], []
        for _ in range(4):
            def closure():
                optimizer.zero_grad()
                loss = nn.functional.binary_cross_entropy_with_logits(layer(x), y)
                loss.backward()
                return loss
            losses.append(optimizer.step(closure).item())
            weights.append([pack(p) for p in layer.parameters()])
        cases.append({"args": args, "start": start, "input": pack(x), "target": pack(y), "losses": losses, "weights": weights})
    return cases


# --- schedulers -------------------------------------------------------------------------------------------------------------------

def scheduler_cases():
    cases = []

    def make(kind, args, optimizer):
        if kind in ("SequentialLR", "ChainedScheduler"):
            inner = [make(s["type"], {k: v for k, v in s.items() if k != "type"}, optimizer) for s in args["schedulers"]]
            if kind == "ChainedScheduler":
                return optim.lr_scheduler.ChainedScheduler(inner)
            return optim.lr_scheduler.SequentialLR(optimizer, inner, milestones=args["milestones"])
        return getattr(optim.lr_scheduler, kind)(optimizer, **args)

    def case(kind, args, adam=False, metrics=None, steps=20):
        groups = [{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.01}]
        optimizer = optim.Adam(groups, lr=0.1) if adam else optim.SGD(groups, lr=0.1, momentum=0.9)
        scheduler = make(kind, args, optimizer)
        momentum = (lambda group: group["betas"][0]) if adam else (lambda group: group["momentum"])
        rates = [[group["lr"] for group in optimizer.param_groups]]
        momenta = [[momentum(group) for group in optimizer.param_groups]]
        for step in range(steps):
            optimizer.step()
            scheduler.step(*([] if metrics is None else [metrics[step]]))
            rates.append([group["lr"] for group in optimizer.param_groups])
            momenta.append([momentum(group) for group in optimizer.param_groups])
        cases.append({"type": kind, "args": args, "optimizer": "Adam" if adam else "SGD", "metrics": metrics, "rates": rates, "momenta": momenta})

    case("StepLR", {"step_size": 3})
    case("StepLR", {"step_size": 4, "gamma": 0.5})
    case("MultiStepLR", {"milestones": [2, 5, 5, 11], "gamma": 0.3})
    case("ExponentialLR", {"gamma": 0.9})
    case("ConstantLR", {})
    case("ConstantLR", {"factor": 0.25, "total_iters": 7})
    case("LinearLR", {})
    case("LinearLR", {"start_factor": 0.1, "end_factor": 0.6, "total_iters": 9})
    case("PolynomialLR", {})
    case("PolynomialLR", {"total_iters": 12, "power": 2.0})
    case("CosineAnnealingLR", {"T_max": 20})
    case("CosineAnnealingLR", {"T_max": 6, "eta_min": 0.001})
    case("CosineAnnealingWarmRestarts", {"T_0": 4})
    case("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.002})
    case("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3})
    case("CyclicLR", {"base_lr": [0.01, 0.02], "max_lr": [0.1, 0.3], "step_size_up": 3, "step_size_down": 5, "mode": "triangular2"})
    case("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "mode": "exp_range", "gamma": 0.95, "base_momentum": 0.7, "max_momentum": 0.95})
    case("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "cycle_momentum": False}, adam=True)
    case("OneCycleLR", {"max_lr": 0.1, "total_steps": 21})
    case("OneCycleLR", {"max_lr": [0.1, 0.5], "epochs": 5, "steps_per_epoch": 5, "anneal_strategy": "linear", "three_phase": True}, adam=True)
    case("OneCycleLR", {"max_lr": 0.1, "total_steps": 30, "pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 100.0, "cycle_momentum": False})
    plateau = [1.0, 0.9, 0.95, 0.94, 0.93, 0.92, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]
    case("ReduceLROnPlateau", {"patience": 2}, metrics=plateau)
    case("ReduceLROnPlateau", {"patience": 1, "factor": 0.5, "cooldown": 2, "threshold": 0.05, "threshold_mode": "abs", "min_lr": [0.02, 0.004]}, metrics=plateau)
    case("ReduceLROnPlateau", {"mode": "max", "patience": 3, "eps": 0.005}, metrics=plateau)
    warm_then_cosine = [{"type": "LinearLR", "start_factor": 0.1, "total_iters": 5}, {"type": "CosineAnnealingLR", "T_max": 15}]
    case("SequentialLR", {"schedulers": warm_then_cosine, "milestones": [5]})
    case("SequentialLR", {"schedulers": [{"type": "ConstantLR", "factor": 0.5, "total_iters": 3}, {"type": "ExponentialLR", "gamma": 0.9},
                                         {"type": "StepLR", "step_size": 2}], "milestones": [4, 9]})
    case("ChainedScheduler", {"schedulers": [{"type": "ConstantLR", "factor": 0.1, "total_iters": 2}, {"type": "ExponentialLR", "gamma": 0.9}]})
    return cases


# --- clipping ---------------------------------------------------------------------------------------------------------------------

def clip_cases():
    cases = []
    for name, value, norm_type in (("max_norm", 1.0, 2.0), ("max_norm", 100.0, 2.0), ("max_norm", 0.5, 1.0), ("max_norm", 0.5, 3.0),
                                   ("max_norm", 0.5, math.inf), ("clip_value", 0.4, 2.0)):
        g = torch.Generator().manual_seed(4)
        params = [nn.Parameter(torch.zeros(3, 4, dtype=F64)), nn.Parameter(torch.zeros(3, dtype=F64))]
        for p in params:
            p.grad = torch.randn(p.shape, generator=g, dtype=F64)
        before = [pack(p.grad) for p in params]
        norm = None
        if name == "max_norm":
            norm = nn.utils.clip_grad_norm_(params, value, norm_type).item()
        else:
            nn.utils.clip_grad_value_(params, value)
        cases.append({"method": name, "value": value, "norm_type": "inf" if math.isinf(norm_type) else norm_type, "before": before,
                      "after": [pack(p.grad) for p in params], "norm": norm})
    return cases


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("optimizers", optimizer_cases())
    write("lbfgs", lbfgs_cases())
    write("schedulers", scheduler_cases())
    write("clip", clip_cases())
