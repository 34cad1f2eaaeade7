using System.Runtime.InteropServices;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>Autograd backward through a live graph, on a lane.</summary>
internal static class BackwardRun
{
    public static BackwardOutcome Run(ModuleState state, HostServices host, BackwardCall call, CallTensors tensors, CallHooks? hooks)
    {
        state.Begin(call.IfGeneration);
        var graph = state.Graphs.Take(call.Graph, state.Generation);
        var used = false;
        var onGraph = graph.Hooks?.Run;
        HookRun? onParameters = null;
        try
        {
            onParameters = CallHooks.PlanParameters(state, host, graph.Hooks?.Call, hooks);
            var (roots, gradients) = Pair(graph, call, tensors);

            // The gradients of the inputs, which are as large as they are (an input that gets none counts too), and beside them what hooks capture.
            TensorSize.CheckAnswer(Leaves(graph), state.MaxAnswerBytes);
            HookRun.BeginAnswer(onGraph, onParameters);
            (onGraph ?? onParameters)?.MakeRoom(TensorTree.Tuple([.. Leaves(graph).Select(TensorTree.Of)]));
            state.ChargeGradients();
            used = !call.RetainGraph;
            Backward(state, graph, roots, gradients, call.RetainGraph, onParameters);
            return Collect(graph, state.Generation, Report());
        }
        catch
        {
            Report().Dispose();
            state.SettleGradients();
            throw;
        }
        finally
        {
            state.Graphs.Return(graph, used);
            state.Hooks.TrimSlots();
        }

        HookReport Report() => HookReport.Of(onGraph?.TakeReport() ?? HookReport.Empty, onParameters?.TakeReport() ?? HookReport.Empty);
    }

    /// <summary>Pairs each output that takes part with its gradient, and checks them.</summary>
    private static (List<Tensor> Roots, List<Tensor> Gradients) Pair(LiveGraph graph, BackwardCall call, CallTensors tensors)
    {
        var outputs = graph.Outputs;
        if (!outputs.Any(output => output.requires_grad))
        {
            throw EngineException.Precondition("NO_GRADIENT",
                $"no output of the graph {EngineException.Quote(call.Graph)} requires a gradient: at its Forward no parameter and no input did; see RequiresGrad and input_grads",
                new ResourceRef("graph", call.Graph));
        }

        var field = call.FieldPrefix + "output_grads";
        var given = tensors.Others;
        if (given.Length == 0)
        {
            return outputs is [var only] && only.numel() == 1
                ? ([only], [ones_like(only)])
                : throw EngineException.Invalid(field, $"is empty, which only an output of one scalar allows; the graph has {Describe(outputs)}", "SHAPE_MISMATCH");
        }

        if (given.Length != outputs.Count)
        {
            throw EngineException.Invalid(field, $"has {given.Length} gradients; the graph has {Describe(outputs)}, one gradient (or no tensor) for each", "SHAPE_MISMATCH");
        }

        var wrong = new List<FieldViolation>();
        List<Tensor> roots = [], gradients = [];
        for (var i = 0; i < given.Length; i++)
        {
            if (given[i] is not { } gradient)
            {
                continue;
            }

            if (!outputs[i].requires_grad)
            {
                wrong.Add(new($"{field}[{i}]", "is a gradient of an output that requires none (no parameter or input that requires a gradient leads to it); pass no tensor there"));
            }
            else if (gradient.dtype != outputs[i].dtype || !gradient.shape.AsSpan().SequenceEqual(outputs[i].shape))
            {
                wrong.Add(new($"{field}[{i}]", $"is {Describe(gradient)}; the output is {Describe(outputs[i])}"));
            }
            else
            {
                roots.Add(outputs[i]);
                gradients.Add(gradient);
            }
        }

        if (wrong.Count == 0 && roots.Count == 0)
        {
            wrong.Add(new(field, "has no tensor; at least one output must take part"));
        }

        return wrong.Count == 0 ? (roots, gradients) : throw EngineException.Invalid(wrong, "SHAPE_MISMATCH");
    }

    private static void Backward(ModuleState state, LiveGraph graph, List<Tensor> roots, List<Tensor> gradients, bool retain, HookRun? onParameters)
    {
        // A graph that is kept gives each Backward its own input gradients, not their sum.
        foreach (var leaf in Leaves(graph))
        {
            leaf.grad = null;
        }

        try
        {
            using var before = Gradients.Backward(state.Tree, reset: false, () =>
            {
                FunctionGuard.Run(() => autograd.backward(roots, gradients, retain));
                ParameterGradients.Finish(graph.Hooks?.Run, onParameters);
            }, exception => Failed(state, graph, retain, exception));
        }
        catch (EngineException exception) when (exception.InnerException is ExternalException && exception.Message.Contains("modified by an inplace operation", StringComparison.Ordinal))
        {
            // A forward in training mode moved statistics that this graph had saved: a change that makes no new generation.
            throw state.Graphs.Invalidated(graph.Info.Id, graph.Generation, state.Generation);
        }
    }

    private static EngineException Failed(ModuleState state, LiveGraph graph, bool retain, Exception exception) => CallFailure.TranslateBackward(exception,
        $"the graph {EngineException.Quote(graph.Info.Id)} of module {EngineException.Quote(state.Name)}{(retain ? "" : ", which is freed now,")}", new ResourceRef("graph", graph.Info.Id));

    private static BackwardOutcome Collect(LiveGraph graph, ulong generation, HookReport hooks)
    {
        var exports = new List<TensorExport>();
        try
        {
            return new BackwardOutcome(
                [.. graph.Inputs.Select(Export)], [.. graph.NamedInputs.Select(input => KeyValuePair.Create(input.Key, Export(input.Value)))], generation, hooks);
        }
        catch
        {
            exports.ForEach(export => export.Dispose());
            hooks.Dispose();
            throw;
        }

        TensorExport? Export(Tensor? input)
        {
            if (input is not { requires_grad: true, is_leaf: true } || input.grad is not { } gradient)
            {
                return null;
            }

            var export = TensorExport.Take(gradient);
            exports.Add(export);
            input.grad = null;
            return export;
        }
    }

    private static IEnumerable<Tensor> Leaves(LiveGraph graph) =>
        graph.Inputs.Concat(graph.NamedInputs.Select(input => input.Value)).OfType<Tensor>().Where(tensor => tensor.requires_grad);

    private static string Describe(IReadOnlyList<Tensor> outputs) => outputs.Count == 1 ? $"one output, {Describe(outputs[0])}" : $"{outputs.Count} outputs";

    private static string Describe(Tensor tensor) => $"{tensor.dtype.ToElementType().Name()} [{string.Join(", ", tensor.shape)}]";
}
