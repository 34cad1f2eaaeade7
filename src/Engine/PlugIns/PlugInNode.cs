using Sconce.Engine.Catalog;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// Stands in our tree for a TorchSharp module of a plug-in, and for each module within it: the same parameters and buffers under the same names. The
/// plug-in's code computes and calls its parts; hooks on the parts bring those calls here.
/// </summary>
internal sealed class PlugInNode : ModuleNode
{
    private readonly nn.Module? _module;
    private readonly ForwardSignature? _signature;
    private readonly string _path;
    private readonly string? _noForward;

    private PlugInNode(NodeOrigin origin, nn.Module? module, PlugInNode? whole, string path, Dictionary<nn.Module, PlugInNode> made)
        : base(origin)
    {
        (_module, _path) = (module, path);
        Whole = whole ?? this;
        Children = [];
        if (module is null)
        {
            return;
        }

        _signature = ForwardSignature.Of(module.GetType(), out _noForward);
        Inputs = _signature?.Inputs ?? [];
        Parameters = ModuleContents.NamedParameters(module);
        Buffers = ModuleContents.NamedBuffers(module);
        made[module] = this;
        Children = [.. module.named_children().Select(child => KeyValuePair.Create<string, ModuleNode>(child.name, made.TryGetValue(child.module, out var known)
            ? known
            : new PlugInNode(OriginOf(child.module, origin), child.module, Whole, ModuleTree.Join(path, child.name), made)))];
        Mode = module.training;
        if (whole is not null && _signature is not null)
        {
            ChildHooks.Install(_signature, module, this);
        }
    }

    public override string ExtraRepr => _module?.GetType().GetMethod("extra_repr", []) is { } method && method.ReturnType == typeof(string)
        ? Guarded(() => (string?)method.Invoke(_module, System.Reflection.BindingFlags.DoNotWrapExceptions, null, null, null) ?? "", "extra_repr")
        : "";

    internal override bool IsKnown => false;

    /// <summary>The node of the module that a spec named: this one, or the one that this is part of.</summary>
    public PlugInNode Whole { get; }

    /// <summary>Whether a forward in eval mode may draw random numbers.</summary>
    public bool AlwaysDraws { get; private init; }

    /// <summary>Makes the node of a plug-in's module.</summary>
    /// <exception cref="EngineException">The constructor threw, or the module breaks a rule; everything that was made is freed.</exception>
    public static PlugInNode Create(PlugInClass type, NodeOrigin origin, BuildContext context)
    {
        // What a plug-in will take cannot be known without making it: on meta it is an empty place.
        if (context.OnMeta)
        {
            return new PlugInNode(origin, null, null, "", []) { AlwaysDraws = type.AlwaysDraws };
        }

        var module = type.Construct(origin, quietly: !context.Initialise);
        try
        {
            ModuleInspection.Check(module, origin.Type.Name, context.Limits);
            var made = new Dictionary<nn.Module, PlugInNode>(ReferenceEqualityComparer.Instance);
            var node = new PlugInNode(origin, module, null, "", made) { AlwaysDraws = type.AlwaysDraws };
            context.Count(made.Count - 1, origin.Args.Field);
            if (context.Initialise && origin.FloatType != ElementType.Float32 && !origin.Type.Arguments.Any(a => a.Kind == ArgumentKind.Dtype && !origin.Args.IsNone(a.Name)))
            {
                Conversions.Convert(node, new ConversionPlan(ConversionKind.To, origin.FloatType));
            }

            return node;
        }
        catch
        {
            ModuleContents.Free(module);
            throw;
        }
    }

    /// <summary>Path of this part from another of the same plug-in; its path from the whole where it is not below that.</summary>
    public string PathWithin(PlugInNode other) =>
        ReferenceEquals(this, other) ? ""
        : other._path.Length > 0 && _path.StartsWith(other._path + ".", StringComparison.Ordinal) ? _path[(other._path.Length + 1)..]
        : _path;

    /// <summary>Called by the hook on a part before its forward.</summary>
    /// <param name="values">What it was called with.</param>
    /// <returns>What it is called with instead; null leaves it.</returns>
    internal object?[]? Entering(object?[] values)
    {
        // The target's own call has come through Invoke already.
        if (PlugInCall.Of(this) is not { } call || ReferenceEquals(call.Target, this))
        {
            return null;
        }

        IReadOnlyList<TensorTree> inputs = [.. values.Select(ForwardSignature.ToTree)];
        call.Enter(this, inputs);
        if (call.Context.Hooks?.At(this) is not { } hooks)
        {
            return null;
        }

        var changed = call.Context.Hooks.Before(hooks, inputs, call.Context, out var skipped);
        call.Change(changed, skipped);
        return ReferenceEquals(changed, inputs) ? null : _signature!.ToValues(changed, (i, given) => Refuse(call.Context, $"takes another structure as {EngineException.Quote(Inputs[i].Name)} than {given}"));
    }

    /// <summary>Called by the hook on a part after its forward.</summary>
    /// <param name="value">What it gave.</param>
    /// <returns>What it gives instead.</returns>
    internal object? Leaving(object? value)
    {
        if (PlugInCall.Of(this) is { } call && !ReferenceEquals(call.Target, this))
        {
            var output = ForwardSignature.ToTree(value);
            var finished = Finish(output, call.Running is { } entered && ReferenceEquals(entered.Node, this) ? entered.Inputs : [], call.Context);
            if (call.Context.Hooks?.At(this) is { } hooks)
            {
                var skipped = call.Running is { } running && ReferenceEquals(running.Node, this) ? running.Skipped : null;
                finished = call.Context.Hooks.Behind(hooks, skipped ?? finished, call.Context, skipped is not null);
            }

            call.Leave(this);
            return ReferenceEquals(finished, output) ? value : _signature!.ToResult(finished, given => Refuse(call.Context, $"gives a tensor or a tuple of other structure, not {given}"));
        }

        return value;
    }

    internal override void SetMode(bool mode, bool isTarget)
    {
        // A part's mode is set by the train of the module that holds it, which may be overridden.
        if (_module is null || !(isTarget || ReferenceEquals(Whole, this)))
        {
            return;
        }

        try
        {
            Guarded(() => _module.train(mode), "train");
        }
        finally
        {
            var parts = ModuleTree.Walk(this).Select(at => (PlugInNode)at.Node).ToList();
            parts.ForEach(part => part.Mode = part._module!.training);
            parts.ForEach(part => part.ModeChanged());
        }
    }

    /// <summary>Draws initial values anew where the class has the method; the constructor has drawn the first.</summary>
    internal override bool ResetParameters()
    {
        if (_module?.GetType().GetMethod("reset_parameters", []) is not { } method)
        {
            return false;
        }

        using var quiet = no_grad();
        Guarded(() => method.Invoke(_module, System.Reflection.BindingFlags.DoNotWrapExceptions, null, null, null), "reset_parameters");
        return true;
    }

    internal override string? ChildProblem(string name, ModuleNode child) => "a plug-in's own code calls its parts, so none can be added or replaced; put the module beside it";

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        if (_signature is null)
        {
            throw new EngineException(EngineError.InvalidArgument, "NO_FORWARD", $"{Display(context.Path)} cannot be called from outside: {_noForward}");
        }

        var values = _signature.ToValues(inputs, (i, given) => Refuse(context, $"takes a tensor or a tuple of other structure as {EngineException.Quote(Inputs[i].Name)}; it was given {given}"));
        var call = PlugInCall.Begin(this, context);
        var thread = ThreadState.Now;
        var output = TensorTree.None;
        try
        {
            output = ForwardSignature.ToTree(_signature.Call(_module!, values));
            call.Return();
            return Own(output, context);
        }
        catch (Exception exception) when (exception is not (EngineException or HookStopException))
        {
            var (node, given, _) = call.Running ?? (this, inputs, null);
            throw PlugInFailure.OfCall(exception, node.Display(context.Path), given, context.Field);
        }
        finally
        {
            call.End();
            thread.Restore(output.Flatten());
        }
    }

    private protected override void ModeChanged()
    {
        if (_module is not { } module || module.training == Training)
        {
            return;
        }

        Guarded(() => module.train(Training), "train");

        // Which has set its parts' modes too.
        foreach (var (_, part) in Children)
        {
            ((PlugInNode)part).ModeChanged();
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (_module is not null && ReferenceEquals(Whole, this))
        {
            try
            {
                _module.Dispose();
            }
            catch (Exception exception)
            {
                // The rest must go all the same; and the finalizer would run the same code where nobody can catch.
                _ = PlugInFailure.Unexpected(exception, $"Dispose of the plug-in type {TypeName}");
                ModuleContents.LeaveToNative(_module);
            }
        }

        base.Dispose(disposing);
    }

    // TorchSharp's modules have the base types of PyTorch's of the same name, so that norm_eval and isinstance find them.
    private static NodeOrigin OriginOf(nn.Module module, NodeOrigin whole)
    {
        var name = module.GetType().Name;
        var end = name.IndexOf('`', StringComparison.Ordinal);
        name = end < 0 ? name : name[..end];
        var type = new ModuleType(name, ModuleContents.IsForeign(module) ? "Module" : ModuleCatalog.BaseOf(name), "", [], [], (_, _) =>
            throw EngineException.Precondition("PLUG_IN_PART", $"this {name} is a part that the plug-in type {whole.Type.Name} makes; it cannot be made by itself: copy the module that holds it"));
        return new NodeOrigin(type, ArgumentBinder.Bind([], new Dictionary<string, object?>(), name, whole.Args.Field), whole.FloatType, [], null);
    }

    // What the plug-in gives may be something that it keeps: whoever gets it may free it.
    private TensorTree Own(TensorTree output, CallContext context)
    {
        if (output.IsNone)
        {
            throw PlugInFailure.Unexpected(new InvalidOperationException("forward returned null"), Display(context.Path));
        }

        foreach (var tensor in output.Flatten())
        {
            if (tensor.IsInvalid)
            {
                throw PlugInFailure.Unexpected(new ObjectDisposedException(nameof(Tensor), "forward returned a tensor that has been disposed; a tensor that leaves a dispose scope is moved out of it with MoveToOuterDisposeScope"), Display(context.Path));
            }
        }

        return output.Map(tensor => IsKept(tensor) ? tensor.alias() : tensor);
    }

    private bool IsKept(Tensor tensor)
    {
        foreach (var (_, node) in ModuleTree.Walk(this))
        {
            if (node.Parameters.Any(p => ReferenceEquals(p.Parameter, tensor)) || node.Buffers.Any(b => ReferenceEquals(b.Tensor, tensor)))
            {
                return true;
            }
        }

        return false;
    }

    private void Guarded(Action work, string method) => Guarded(() =>
    {
        work();
        return true;
    }, method);

    private T Guarded<T>(Func<T> work, string method)
    {
        var thread = ThreadState.Now;
        try
        {
            return work();
        }
        catch (Exception exception) when (exception is not EngineException)
        {
            throw PlugInFailure.Unexpected(exception, $"{method} of {Display(_path)}");
        }
        finally
        {
            thread.Restore([]);
        }
    }
}
