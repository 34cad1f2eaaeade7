using Mono.Cecil;
using Mono.Cecil.Cil;
using Sconce.Engine.Execution;

namespace Sconce.Engine.Tests.Hardening;

/// <summary>
/// What the flags on TorchSharp's methods cannot protect: an object that is neither an argument nor a local of the method, but the result of a call whose handle is taken at
/// once. Nothing holds it during the native call.
/// </summary>
public sealed class TemporaryTests
{
    // None of them is to be called: each makes a Scalar of a number that it was given, takes its handle and lets go of it.
    private static readonly string[] Unsafe = ["TorchSharp.torch/jit/ScriptModule::DetermineArgumentTypeRefs", "TorchSharp.torch/linalg::matrix_norm", "TorchSharp.torch/linalg::vector_norm"];

    // What these return is held by the list or the module that it comes from.
    private static readonly string[] Held = ["BCEWithLogitsLoss::get_pos_weights", "IList`1::get_Item", "WeightedLoss`3::get_weight"];

    [Fact]
    public void The_methods_of_TorchSharp_that_take_the_handle_of_a_temporary_are_those_that_are_known()
    {
        using var torchSharp = ModuleDefinition.ReadModule(Path.Combine(AppContext.BaseDirectory, "TorchSharp.dll"));
        var (seen, found) = (0, new SortedSet<string>(StringComparer.Ordinal));
        foreach (var method in Methods(torchSharp))
        {
            foreach (var taken in method.Body.Instructions.Where(TakesHandle))
            {
                seen++;
                if (Source(method.Body, taken) is { Operand: MethodReference maker } && !Held.Contains($"{maker.DeclaringType.Name}::{maker.Name}"))
                {
                    found.Add($"{method.DeclaringType.FullName}::{method.Name}");
                }
            }
        }

        Assert.InRange(seen, 1000, int.MaxValue);
        Assert.Equal(Unsafe, found);
    }

    [Fact]
    public void The_engine_calls_none_of_them()
    {
        using var engine = ModuleDefinition.ReadModule(typeof(EngineHost).Assembly.Location);
        var called = Methods(engine).SelectMany(method => method.Body.Instructions).Select(instruction => instruction.Operand).OfType<MethodReference>()
            .Select(method => $"{method.DeclaringType.FullName}::{method.Name}").ToHashSet(StringComparer.Ordinal);
        Assert.Contains("TorchSharp.torch/linalg::qr", called);
        Assert.DoesNotContain(Unsafe, called.Contains);
    }

    private static IEnumerable<MethodDefinition> Methods(ModuleDefinition module) => module.GetTypes().SelectMany(type => type.Methods).Where(method => method.HasBody);

    private static bool TakesHandle(Instruction instruction) =>
        instruction.Operand is MethodReference { Name: "get_Handle" or "DangerousGetHandle", Parameters.Count: 0 } && instruction.OpCode.FlowControl == FlowControl.Call;

    /// <summary>What made the object whose handle is taken.</summary>
    private static Instruction Source(MethodBody body, Instruction taken)
    {
        var before = taken.Previous;
        if (before.OpCode.FlowControl == FlowControl.Branch)
        {
            // x?.Handle: it comes from where the value was found not to be null.
            before = Assert.Single(body.Instructions, instruction => instruction.Operand == taken).Previous;
        }

        // The value was looked at, or given to a method that returns nothing, and is still there.
        while (before.OpCode == OpCodes.Dup || before is { Operand: MethodReference { Name: "SuppressFinalize" } })
        {
            before = before.Previous;
        }

        return before;
    }
}
