using Google.Protobuf.WellKnownTypes;
using Sconce.Engine;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;
using Case = Sconce.V1.HookAction.ActionOneofCase;

namespace Sconce.Server.Mapping;

/// <summary>Actions of hooks in and out.</summary>
internal static class HookActionMapping
{
    public static HookAction ToAction(V1.HookAction action, string field) => action.ActionCase switch
    {
        Case.Capture => new CaptureAction(ToDestination(action.Capture.To, $"{field}.capture.to"), action.Capture.BeforeEdits, ToRef(action.Capture.Through)),
        Case.Reduce => ToReduce(action.Reduce, field + ".reduce"),
        Case.Set => new SetAction(ToOperand(action.Set.Value, field + ".set.value")),
        Case.Add => new AddAction(ToOperand(action.Add.Value, field + ".add.value"), action.Add.HasScale ? action.Add.Scale : 1),
        Case.Mul => new MulAction(ToOperand(action.Mul.Value, field + ".mul.value")),
        Case.Lerp => new LerpAction(ToOperand(action.Lerp.End, field + ".lerp.end"), Required(action.Lerp.HasWeight, action.Lerp.Weight, field + ".lerp.weight")),
        Case.Clamp => new ClampAction(action.Clamp.HasMin ? action.Clamp.Min : null, action.Clamp.HasMax ? action.Clamp.Max : null),
        Case.AddNoise => new AddNoiseAction(Required(action.AddNoise.HasStd, action.AddNoise.Std, field + ".add_noise.std"), action.AddNoise.HasSeed ? action.AddNoise.Seed : null),
        Case.ProjectOut => new ProjectOutAction(ToOperand(action.ProjectOut.Direction, field + ".project_out.direction")),
        Case.ClipNorm => new ClipNormAction(
            Required(action.ClipNorm.HasMaxNorm, action.ClipNorm.MaxNorm, field + ".clip_norm.max_norm"), action.ClipNorm.HasNormType ? action.ClipNorm.NormType : 2),
        Case.CallModule => new CallModuleAction(ToRef(action.CallModule.Module) ?? throw EngineException.Invalid(field + ".call_module.module", "is not set; name a module")),
        Case.Skip => new SkipAction(action.Skip.Output is null ? null : ToOperand(action.Skip.Output, field + ".skip.output")),
        Case.Stop => new StopAction(),
        Case.Rename => new RenameAction(action.Rename.Prefix, action.Rename.Replacement),
        Case.Drop => new DropAction(),
        Case.Cast => new CastAction((ElementType)action.Cast.Dtype),
        _ => throw EngineException.Invalid(field, "holds no action; set one, e.g. capture"),
    };

    public static V1.HookAction ToAction(HookAction action) => action switch
    {
        CaptureAction capture => new() { Capture = new() { To = ToDestination(capture.Where), BeforeEdits = capture.BeforeEdits, Through = ToRef(capture.Through) } },
        ReduceAction reduce => new() { Reduce = ToReduce(reduce) },
        SetAction set => new() { Set = new() { Value = ToOperand(set.Value) } },
        AddAction add => new() { Add = new() { Value = ToOperand(add.Value), Scale = add.Scale } },
        MulAction mul => new() { Mul = new() { Value = ToOperand(mul.Value) } },
        LerpAction lerp => new() { Lerp = new() { End = ToOperand(lerp.End), Weight = lerp.Weight } },
        ClampAction clamp => new() { Clamp = ToClamp(clamp) },
        AddNoiseAction noise => new() { AddNoise = ToNoise(noise) },
        ProjectOutAction project => new() { ProjectOut = new() { Direction = ToOperand(project.Direction) } },
        ClipNormAction clip => new() { ClipNorm = new() { MaxNorm = clip.MaxNorm, NormType = clip.NormType } },
        CallModuleAction call => new() { CallModule = new() { Module = ToRef(call.Module) } },
        SkipAction skip => new() { Skip = new() { Output = skip.Output is null ? null : ToOperand(skip.Output) } },
        StopAction => new() { Stop = new() },
        RenameAction rename => new() { Rename = new() { Prefix = rename.Prefix, Replacement = rename.Replacement } },
        DropAction => new() { Drop = new() },
        CastAction cast => new() { Cast = new() { Dtype = (V1.DataType)cast.Type } },
        _ => throw new InvalidOperationException($"{action.GetType().Name} has no message"),
    };

    private static ReduceAction ToReduce(V1.ReduceAction reduce, string field) =>
        new([.. reduce.Statistics.Select(statistic => (HookStatistic)statistic)], ToDestination(reduce.To, field + ".to"))
        {
            Dims = [.. reduce.Dims],
            Bins = reduce.Bins,
            HistogramMin = reduce.HasHistogramMin ? reduce.HistogramMin : null,
            HistogramMax = reduce.HasHistogramMax ? reduce.HistogramMax : null,
            K = reduce.K,
            BeforeEdits = reduce.BeforeEdits,
        };

    private static V1.ReduceAction ToReduce(ReduceAction reduce)
    {
        var result = new V1.ReduceAction
        {
            Statistics = { reduce.Statistics.Select(statistic => (V1.Statistic)statistic) },
            Dims = { reduce.Dims },
            Bins = reduce.Bins,
            K = reduce.K,
            To = ToDestination(reduce.Where),
            BeforeEdits = reduce.BeforeEdits,
        };
        if (reduce.HistogramMin is { } least)
        {
            result.HistogramMin = least;
        }

        if (reduce.HistogramMax is { } most)
        {
            result.HistogramMax = most;
        }

        return result;
    }

    private static V1.ClampAction ToClamp(ClampAction clamp)
    {
        var result = new V1.ClampAction();
        if (clamp.Min is { } min)
        {
            result.Min = min;
        }

        if (clamp.Max is { } max)
        {
            result.Max = max;
        }

        return result;
    }

    private static V1.AddNoiseAction ToNoise(AddNoiseAction noise)
    {
        var result = new V1.AddNoiseAction { Std = noise.Std };
        if (noise.Seed is { } seed)
        {
            result.Seed = seed;
        }

        return result;
    }

    private static HookOperand ToOperand(V1.Operand? operand, string field) => operand?.SourceCase switch
    {
        V1.Operand.SourceOneofCase.Scalar => new HookOperand(Scalar: operand.Scalar),
        V1.Operand.SourceOneofCase.Tensor => new HookOperand(Tensor: TensorMapping.ToInput(operand.Tensor, field + ".", "tensor", -1)),
        V1.Operand.SourceOneofCase.Slot => new HookOperand(Slot: operand.Slot),
        V1.Operand.SourceOneofCase.State => new HookOperand(State: operand.State),
        _ => new HookOperand(),
    };

    private static V1.Operand ToOperand(HookOperand operand) => operand switch
    {
        { Scalar: { } number } => new() { Scalar = number },
        { Slot: { } slot } => new() { Slot = slot },
        { State: { } key } => new() { State = key },
        _ => new() { Tensor = new V1.Tensor { Dtype = (V1.DataType)operand.Tensor!.Value.Payload.Type, Shape = { operand.Tensor.Value.Payload.Shape } } },
    };

    private static HookDestination ToDestination(V1.Destination? to, string field) => to is null
        ? HookDestination.Default
        : new HookDestination(to.Response, to.Watch, to.Keep, TensorMapping.ToTtl(to.Ttl, field + ".ttl"), to.Slot);

    private static V1.Destination? ToDestination(HookDestination to) => to == HookDestination.Default ? null : new V1.Destination
    {
        Response = to.Response,
        Watch = to.Watch,
        Keep = to.Keep,
        Ttl = to.Ttl is { } ttl ? Duration.FromTimeSpan(ttl) : null,
        Slot = to.Slot,
    };

    private static HookModuleRef? ToRef(V1.ModuleRef? module) => module is null ? null : new HookModuleRef(module.Module, module.Path);

    private static V1.ModuleRef? ToRef(HookModuleRef? module) => module is null ? null : new V1.ModuleRef { Module = module.Module, Path = module.Path };

    private static double Required(bool given, double value, string field) => given ? value : throw EngineException.Invalid(field, "is not set");
}
