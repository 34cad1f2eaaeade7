using Google.Protobuf.WellKnownTypes;
using Sconce.Engine;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;

namespace Sconce.Server.Mapping;

/// <summary>Specs in, summaries and trees out.</summary>
internal static class ModuleMapping
{
    public static ModuleSpec ToSpec(V1.ModuleSpec spec, string field = "spec") => new(spec.Type)
    {
        Args = StructMapping.ToArgs(spec.Args),
        Children = [.. spec.Children.Select((child, i) => ToChild(child, $"{field}.children[{i}]"))],
        Wiring = spec.Wiring is null ? null : ToWiring(spec.Wiring, field + ".wiring"),
    };

    public static V1.Module ToModule(ModuleSummary summary)
    {
        var module = new V1.Module
        {
            Name = summary.Name,
            Type = summary.Type,
            Generation = summary.Generation,
            Training = summary.Training,
            Parameters = (ulong)summary.Parameters,
            Bytes = (ulong)summary.Bytes,
            Device = summary.Device,
            Optimizers = { summary.Optimizers },
            Created = summary.Created.ToTimestamp(),
            LiveGraphs = (uint)summary.LiveGraphs,
            Steps = (ulong)summary.Steps,
        };
        if (summary.DurableSteps is { } durable)
        {
            module.DurableSteps = (ulong)durable;
        }

        return module;
    }

    public static TrainPolicy ToPolicy(V1.TrainPolicy? policy) => policy is null ? new TrainPolicy(false, [])
        : new TrainPolicy(policy.NormEval, [.. policy.Frozen]) { Rules = [.. policy.Rules.Select(ToRule)] };

    public static V1.TrainPolicy ToPolicy(TrainPolicy policy) => new()
    {
        NormEval = policy.NormEval,
        Frozen = { policy.Frozen },
        Rules = { policy.Rules.Select(ToRule) },
    };

    public static V1.ModuleNode ToNode(NodeDescription node)
    {
        var result = new V1.ModuleNode
        {
            Name = node.Name,
            Path = node.Path,
            Type = node.Type,
            ExtraRepr = node.ExtraRepr,
            Training = node.Training,
            Parameters = { node.Parameters.Select(ToInfo) },
            Buffers = { node.Buffers.Select(ToInfo) },
            Children = { node.Children.Select(ToNode) },
            Hooks = { node.Hooks },
            AliasOf = node.AliasOf,
            Hold = ToHold(node.HeldMode),
        };
        if (node.HeldRequiresGrad is { } held)
        {
            result.HoldRequiresGrad = held;
        }

        if (node.ExtraStateBytes is { } bytes)
        {
            result.ExtraStateBytes = (ulong)bytes;
        }

        return result;
    }

    public static V1.TensorInfo ToInfo(TensorDescription tensor) => new()
    {
        Name = tensor.Name,
        Dtype = (V1.DataType)tensor.Type,
        Shape = { tensor.Shape },
        RequiresGrad = tensor.RequiresGrad,
        Persistent = tensor.Persistent,
        HasGrad = tensor.HasGrad,
        IsNone = tensor.IsNone,
        AliasOf = tensor.AliasOf,
        MemoryFormat = (V1.MemoryFormat)tensor.Format,
        Uninitialized = tensor.Uninitialized,
    };

    private static V1.TrainHold ToHold(bool? mode) => mode switch { null => V1.TrainHold.Unspecified, true => V1.TrainHold.Train, false => V1.TrainHold.Eval };

    private static TrainRule ToRule(V1.TrainRule rule, int index) => new(
        rule.Path,
        rule.Hold switch
        {
            V1.TrainHold.Unspecified => null,
            V1.TrainHold.Train => true,
            V1.TrainHold.Eval => false,
            _ => throw EngineException.Invalid($"policy.rules[{index}].hold", $"is {(int)rule.Hold}, which is no TrainHold of this contract"),
        },
        rule.HasRequiresGrad ? rule.RequiresGrad : null);

    private static V1.TrainRule ToRule(TrainRule rule)
    {
        var result = new V1.TrainRule { Path = rule.Path, Hold = ToHold(rule.Mode) };
        if (rule.RequiresGrad is { } held)
        {
            result.RequiresGrad = held;
        }

        return result;
    }

    private static ChildSpec ToChild(V1.ChildSpec child, string field) => child.SourceCase switch
    {
        V1.ChildSpec.SourceOneofCase.Spec => new ChildSpec(child.Name, ToSpec(child.Spec, field + ".spec")),
        V1.ChildSpec.SourceOneofCase.Share => new ChildSpec(child.Name, null, child.Share),
        _ => throw EngineException.Invalid(field, "has neither spec nor share; set one of them"),
    };

    private static Wiring ToWiring(V1.Wiring wiring, string field) =>
        new([.. wiring.Inputs], [.. wiring.Steps.Select((step, i) => ToStep(step, $"{field}.steps[{i}]"))], [.. wiring.Outputs]);

    private static WiringStep ToStep(V1.WiringStep step, string field) => step.CallCase switch
    {
        V1.WiringStep.CallOneofCase.None => throw EngineException.Invalid(field, "has none of module, function and parameter; set one of them"),
        _ => new WiringStep(
            step.Name, step.HasModule ? step.Module : null, step.HasFunction ? step.Function : null, [.. step.Inputs], StructMapping.ToArgs(step.Args), [.. step.Unpack])
        {
            Parameter = step.HasParameter ? step.Parameter : null,
        },
    };
}
