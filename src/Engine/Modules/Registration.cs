using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// <c>register_parameter</c>, <c>register_buffer</c> and <c>add_module</c> on a live tree. Each checks first; a call that fails has changed nothing.
/// </summary>
/// <param name="tree">The tree.</param>
/// <param name="limits">How large it may become.</param>
/// <param name="holder">The name of an optimizer that holds a parameter, or null.</param>
internal sealed class Registration(ModuleTree tree, BuildLimits limits, Func<Parameter, string?> holder)
{
    /// <summary>Registers a parameter.</summary>
    /// <param name="path">The module.</param>
    /// <param name="name">The parameter's name there.</param>
    /// <param name="value">Its value, which is copied; null for None.</param>
    /// <param name="requiresGrad">Whether autograd is to follow it.</param>
    public void Parameter(string path, string name, Tensor? value, bool requiresGrad)
    {
        var node = tree.Find(path);
        AttributeNames.Check(node, path, name, AttributeKind.Parameter);
        var full = ModuleTree.Join(path, name);
        var slot = node.Slots.FirstOrDefault(existing => existing.Name == name);
        RefuseShapeless(node, full, own: slot is not null && !node.Additions.Parameters.Contains(name));
        using var normal = inference_mode(false);
        using var quiet = no_grad();
        if (value is null)
        {
            Clear(node, full, name, slot);
            return;
        }

        if (requiresGrad && !NativeSetData.CanRequireGrad(value.dtype.ToElementType()))
        {
            throw EngineException.Invalid("requires_grad", $"is true, but the tensor is {value.dtype.ToElementType().Name()}; only floating and complex ones can require grad");
        }

        CheckShape(node, full, slot, value.shape, "tensor.shape");
        if (slot?.Parameter is { } existing)
        {
            // The object stays, so that optimizers and modules that share it go on with the new value.
            using var copy = value.detach().clone();
            existing.requires_grad_(false);
            NativeSetData.SetData(existing, copy);
            existing.grad = null;
            existing.requires_grad_(requiresGrad);
        }
        else
        {
            node.SetParameter(name, New(value, requiresGrad));
        }

        node.HoldRequiresGrad();
    }

    /// <summary>Registers a parameter that there is already: both names are then the same one (tied weights).</summary>
    /// <param name="path">The module.</param>
    /// <param name="name">The parameter's name there.</param>
    /// <param name="share">Dotted name, from the root, of the parameter that it is to be.</param>
    public void Tie(string path, string name, string share)
    {
        var node = tree.Find(path);
        AttributeNames.Check(node, path, name, AttributeKind.Parameter);
        var full = ModuleTree.Join(path, name);
        var target = ModuleTree.FindParameter(tree.Root, share) ?? throw EngineException.NotFound("parameter", share, "share is the dotted name of one that DescribeModule lists, from the module's root");
        var slot = node.Slots.FirstOrDefault(existing => existing.Name == name);
        RefuseShapeless(node, full, own: slot is not null && !node.Additions.Parameters.Contains(name));
        if (ReferenceEquals(slot?.Parameter, target))
        {
            return;
        }

        CheckShape(node, full, slot, target.shape, "share");
        RefuseHeld(slot?.Parameter, full, "tied to another");
        if (!node.SetParameter(name, target))
        {
            throw EngineException.Precondition("PARAMETER_FIXED", $"the parameter {EngineException.Quote(full)} of a {node.TypeName} cannot be tied to another; tie the other to it", new("parameter", full));
        }

        node.HoldRequiresGrad();
        FreeUnused(slot?.Parameter);
    }

    /// <summary>Registers a buffer.</summary>
    /// <param name="path">The module.</param>
    /// <param name="name">The buffer's name there.</param>
    /// <param name="value">Its value, which is copied; null for None.</param>
    /// <param name="persistent">Whether the state dict holds it.</param>
    public void Buffer(string path, string name, Tensor? value, bool persistent)
    {
        var node = tree.Find(path);
        AttributeNames.Check(node, path, name, AttributeKind.Buffer);
        var full = ModuleTree.Join(path, name);
        var slot = node.BufferSlots.FirstOrDefault(existing => existing.Name == name);
        RefuseShapeless(node, full, own: slot is not null && !node.Additions.Buffers.Contains(name));
        using var normal = inference_mode(false);
        using var quiet = no_grad();
        if (slot is null || node.Additions.Buffers.Contains(name))
        {
            if (value is null)
            {
                RefuseRead(node, name, full);
            }

            node.SetBuffer(name, value?.detach().clone().DetachFromDisposeScope(), persistent);
            slot?.Tensor?.Dispose();
            return;
        }

        if (slot.Tensor is not { } own || value is null)
        {
            throw EngineException.Precondition("BUFFER_FIXED",
                $"the buffer {EngineException.Quote(full)} is {(slot.Tensor is null ? "None" : "in use")} by the constructor of {node.TypeName}, whose forward goes by that; replace the module with AddModule", new("buffer", full));
        }

        if (!own.shape.SequenceEqual(value.shape))
        {
            throw WrongShape(node, full, own.shape, value.shape, "tensor.shape");
        }

        using var copy = value.detach().clone();
        NativeSetData.SetData(own, copy);
        node.SetBuffer(name, own, persistent);
    }

    /// <summary>Adds a child, or puts it in the place of the one of that name.</summary>
    /// <param name="path">The parent.</param>
    /// <param name="name">The child's name there.</param>
    /// <param name="child">The child: a new one, which the tree takes over, or one of the tree.</param>
    /// <param name="field">What of the request the child came from.</param>
    public void Module(string path, string name, ModuleNode child, string field)
    {
        var node = tree.Find(path);
        AttributeNames.Check(node, path, name, AttributeKind.Module);
        var full = ModuleTree.Join(path, name);
        if (ModuleTree.Walk(child).Any(at => at.Node == node))
        {
            throw EngineException.Invalid(field, $"module {EngineException.Quote(full)} would contain itself");
        }

        if (node.ChildProblem(name, child) is { } problem)
        {
            throw EngineException.Invalid(field, $"a {child.TypeName} cannot be {EngineException.Quote(full)} of a {node.TypeName}: {problem}", "CHILD_MISMATCH");
        }

        var before = (node.Children, node.IsLeaf, Known: node.Additions.Children.Contains(name));
        var nodes = ModuleTree.Walk(tree.Root).Select(at => at.Node).ToList();
        var parameters = ModuleTree.NamedParameters(tree.Root);
        try
        {
            node.SetChild(name, child);
            Rewire(field, full);
            CheckSize(field);
            RefuseOrphans(parameters, full);
        }
        catch
        {
            node.RestoreChildren(before.Children, before.IsLeaf);
            if (!before.Known)
            {
                node.Additions.Children.Remove(name);
            }

            Rewire();
            throw;
        }

        tree.Policy.Apply();
        Free(nodes);
    }

    private static Parameter New(Tensor value, bool requiresGrad)
    {
        var made = new Parameter(value.detach().clone(), requiresGrad);
        made.DetachFromDisposeScope();
        return made;
    }

    // What a lazy module made itself is filled anew with its first shape, and until then no value could be checked.
    private static void RefuseShapeless(ModuleNode node, string full, bool own)
    {
        if (own && node is LazyNode { IsShapeless: true })
        {
            throw LazyNode.NotYet([full]);
        }
    }

    private void Clear(ModuleNode node, string full, string name, ParameterSlot? slot)
    {
        var needed = EngineException.Precondition("PARAMETER_FIXED", $"forward of a {node.TypeName} needs the parameter {EngineException.Quote(full)}, so it cannot be None", new("parameter", full));
        if (slot?.Parameter is not null && slot.Shape is null && !node.Additions.Parameters.Contains(name))
        {
            throw needed;
        }

        RefuseRead(node, name, full);
        RefuseHeld(slot?.Parameter, full, "None");
        if (!node.SetParameter(name, null))
        {
            throw needed;
        }

        FreeUnused(slot?.Parameter);
    }

    private static void CheckShape(ModuleNode node, string full, ParameterSlot? slot, long[] given, string field)
    {
        if (slot is null || (slot.Parameter is null && node.Additions.Parameters.Contains(slot.Name)))
        {
            return;
        }

        var expected = slot.Parameter?.shape ?? slot.Shape ?? throw EngineException.Precondition("PARAMETER_FIXED",
            $"the parameter {EngineException.Quote(full)} is None by the constructor of {node.TypeName}, whose forward goes by that; replace the module with AddModule", new("parameter", full));
        if (!expected.AsSpan().SequenceEqual(given))
        {
            throw WrongShape(node, full, expected, given, field);
        }
    }

    private static EngineException WrongShape(ModuleNode node, string full, long[] expected, long[] given, string field) => EngineException.Invalid(field,
        $"is [{string.Join(", ", given)}]; {EngineException.Quote(full)} of the {node.TypeName} is [{string.Join(", ", expected)}] and keeps its shape: replace the module with AddModule for another", "SHAPE_MISMATCH");

    private void RefuseRead(ModuleNode node, string name, string full)
    {
        if (ModuleTree.Walk(tree.Root).FirstOrDefault(at => at.Node is GraphNode graph && graph.Reads(node, name)) is { Node: { } reader, Path: var path })
        {
            throw EngineException.Precondition("TENSOR_READ", $"the wiring of {reader.Display(path)} reads {EngineException.Quote(full)}, so it cannot be None", new("parameter", full));
        }
    }

    private void RefuseHeld(Parameter? parameter, string full, string what)
    {
        if (parameter is not null && IsLast(parameter) && holder(parameter) is { } optimizer)
        {
            throw Held(full, optimizer, $"become {what}");
        }
    }

    // Under another name the parameter lives on, and so does its place in the optimizer.
    private bool IsLast(Parameter parameter) => ModuleTree.Walk(tree.Root).Sum(at => at.Node.Parameters.Count(p => ReferenceEquals(p.Parameter, parameter))) == 1;

    private void RefuseOrphans(IReadOnlyList<NamedParameter> before, string full)
    {
        var alive = ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter).ToHashSet<Tensor>(ModuleTree.Same);
        foreach (var (name, parameter) in before.Where(p => !alive.Contains(p.Parameter)))
        {
            if (holder(parameter) is { } optimizer)
            {
                throw Held(name, optimizer, $"go with the module {EngineException.Quote(full)} that is to be replaced");
            }
        }
    }

    // What cannot call the new child says so by the fields of the spec that it came from itself.
    private void Rewire(string field, string full)
    {
        try
        {
            Rewire();
        }
        catch (EngineException exception) when (exception.Fields is [var wrong, ..])
        {
            throw EngineException.Invalid(field, $"a module as {EngineException.Quote(full)} cannot be called: {wrong.Description} ({wrong.Field})", exception.Reason);
        }
    }

    private static EngineException Held(string name, string optimizer, string what) => EngineException.Precondition("OPTIMIZER_HOLDS",
        $"the parameter {EngineException.Quote(name)} would {what}, and the optimizer {EngineException.Quote(optimizer)} holds it; delete the optimizer first", new("optimizer", optimizer));

    private void Rewire()
    {
        var seen = new HashSet<ModuleNode>(ReferenceEqualityComparer.Instance);
        Visit(tree.Root);

        void Visit(ModuleNode node)
        {
            if (seen.Add(node))
            {
                foreach (var (_, child) in node.Children)
                {
                    Visit(child);
                }

                node.Rewire();
            }
        }
    }

    private void CheckSize(string field)
    {
        TreeSize.Check(tree.Root, limits, field);
        var depths = new Dictionary<ModuleNode, int>(ReferenceEqualityComparer.Instance);
        if (Depth(tree.Root) > limits.MaxDepth)
        {
            throw EngineException.Invalid(field, $"modules would be nested more than {limits.MaxDepth} deep; raise max_spec_depth, or nest less", "SPEC_TOO_DEEP");
        }

        int Depth(ModuleNode node)
        {
            if (!depths.TryGetValue(node, out var depth))
            {
                depths[node] = depth = 1 + node.Children.Select(child => Depth(child.Value)).DefaultIfEmpty(0).Max();
            }

            return depth;
        }
    }

    private void FreeUnused(Parameter? parameter)
    {
        if (parameter is not null && !ModuleTree.NamedParameters(tree.Root).Any(p => ReferenceEquals(p.Parameter, parameter)))
        {
            parameter.Dispose();
        }
    }

    // Nodes that are in the tree no more. One that shares a tensor with the tree, itself or, as a plug-in frees its parts, below, is left to the collector.
    private void Free(List<ModuleNode> before)
    {
        var alive = ModuleTree.Walk(tree.Root).Select(at => at.Node).ToHashSet<ModuleNode>(ReferenceEqualityComparer.Instance);
        var held = alive.SelectMany(ModuleTree.TensorsOf).ToHashSet(ModuleTree.Same);
        foreach (var node in before.Where(node => !alive.Contains(node) && !ModuleTree.Walk(node).SelectMany(at => ModuleTree.TensorsOf(at.Node)).Any(held.Contains)))
        {
            node.Dispose();
        }
    }
}
