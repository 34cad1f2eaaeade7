"""Builds PyTorch modules from specs in the shape of the contract's JSON, but for wirings: those are written as classes of their own."""
import collections

import torch
from torch import nn


def spec(type, children=None, wiring=None, **args):
    """A spec; children are a list (named by index), or a dict by name; a string in place of a child shares the module of that path."""
    made = {"type": type}
    if args:
        made["args"] = args
    if children is not None:
        pairs = children.items() if isinstance(children, dict) else [("", child) for child in children]
        made["children"] = [{"name": name, **({"share": child} if isinstance(child, str) else {"spec": child})} for name, child in pairs]
    if wiring is not None:
        made["wiring"] = wiring
    return made


def build(spec, path="", built=None):
    built = {} if built is None else built
    children = collections.OrderedDict()
    for index, child in enumerate(spec.get("children", [])):
        name = child["name"] or str(index)
        at = f"{path}.{name}" if path else name
        children[name] = built[child["share"]] if "share" in child else build(child["spec"], at, built)
        built[at] = children[name]
    args = {name: argument(value) for name, value in spec.get("args", {}).items()}
    kind = getattr(nn, spec["type"])
    # PyTorch takes tensors where a spec has shapes.
    if kind is nn.ParameterList:
        return nn.ParameterList([nn.Parameter(torch.zeros(shape)) for shape in args["shapes"]])
    if kind is nn.ParameterDict:
        return nn.ParameterDict([(name, nn.Parameter(torch.zeros(shape))) for name, shape in zip(args["names"], args["shapes"])])
    if kind is nn.Sequential:
        return nn.Sequential(children)
    if kind is nn.ModuleList:
        return nn.ModuleList(children.values())
    if kind is nn.ModuleDict:
        return nn.ModuleDict(children)
    return kind(**children, **args)


def argument(value):
    # JSON has no tuples and no infinity; people write both.
    if isinstance(value, list):
        return tuple(argument(item) for item in value)
    return float(value) if value in ("inf", "-inf") else value
