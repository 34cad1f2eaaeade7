using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>What tests/fixtures-generator/models.py wrote, and the formula that weights and inputs come from on both sides.</summary>
internal sealed record ModelFixtures(IReadOnlyList<FullModel> Models, IReadOnlyList<ModelRun> Runs, IReadOnlyList<ModelInitial> Initial)
{
    public static ModelFixtures All { get; } = Fixtures.Read<ModelFixtures>("models");

    public static ModuleSpec Spec(string type, IReadOnlyDictionary<string, JsonElement> args) =>
        new(type) { Args = args.ToDictionary(arg => arg.Key, arg => SpecJson.Value(arg.Value)) };

    /// <summary>A value for each key of the state dict, by its place.</summary>
    public static void Fill(ModuleNode root)
    {
        using var quiet = no_grad();
        foreach (var (entry, stream) in ModuleTree.State(root).Select((entry, i) => (entry, i)))
        {
            var shape = entry.Tensor.shape;
            using var u = Uniform(stream, shape);
            if (!entry.Tensor.is_floating_point())
            {
                entry.Tensor.fill_(3);
                continue;
            }

            var fan = shape.Length > 1 ? shape[1..].Aggregate(1L, (product, size) => product * size) : 0;
            var bitLength = 64 - System.Numerics.BitOperations.LeadingZeroCount((ulong)fan);
            using var value = shape.Length > 1 ? u * 4 * Math.Pow(2, -(bitLength / 2)) : entry.Key.EndsWith("running_var", StringComparison.Ordinal) || entry.Key.EndsWith("weight", StringComparison.Ordinal) ? 1 + (u / 2) : u / 4;
            entry.Tensor.copy_(value);
        }
    }

    /// <summary>An input by its description.</summary>
    public static Tensor Input(JsonElement description, int index, ElementType floatType)
    {
        var shape = description.GetProperty("shape").Deserialize<long[]>()!;
        return description.TryGetProperty("high", out var high)
            ? tensor(Enumerable.Range(0, (int)shape.Aggregate(1L, (product, size) => product * size)).Select(i => Bits(10_000 + index, i) % high.GetInt64()).ToArray(), shape)
            : (Uniform(10_000 + index, shape) * 4).to_type(floatType.ToScalarType());
    }

    private static Tensor Uniform(int stream, long[] shape)
    {
        var values = new float[shape.Aggregate(1L, (product, size) => product * size)];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = ((Bits(stream, i) & 0xFFFF) / 65536f) - 0.5f;
        }

        var made = empty(shape);
        made.bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan());
        return made;
    }

    // 32 mixed bits for each index of a stream.
    private static uint Bits(int stream, int index)
    {
        unchecked
        {
            var h = ((uint)(index + 1) * 2654435761u) + ((uint)(stream + 1) * 40503u);
            h ^= h >> 15;
            h *= 2246822519u;
            return h ^ (h >> 13);
        }
    }
}

/// <summary>A model at full size.</summary>
/// <param name="Type">Its type.</param>
/// <param name="Args">Its arguments.</param>
/// <param name="Parameters">Elements of its parameters, a shared one once.</param>
/// <param name="State">Key and shape of each entry of its state dict, e.g. <c>fc.weight 10x84</c>.</param>
internal sealed record FullModel(string Type, IReadOnlyDictionary<string, JsonElement> Args, long Parameters, IReadOnlyList<string> State);

/// <summary>A small model and what PyTorch made of its inputs, by mode.</summary>
internal sealed record ModelRun(
    string Name, string Type, IReadOnlyDictionary<string, JsonElement> Args, IReadOnlyList<JsonElement> Inputs, string Dtype, IReadOnlyDictionary<string, ModelOutcome> Modes, IReadOnlyList<string>? Names = null);

/// <summary>Outputs, and the norms of gradients and buffers.</summary>
internal sealed record ModelOutcome(IReadOnlyList<ModelOutput> Outputs, IReadOnlyDictionary<string, double?> Gradients, IReadOnlyList<double> InputGradients, IReadOnlyDictionary<string, double> Buffers);

/// <summary>One output.</summary>
internal sealed record ModelOutput(long[] Shape, IReadOnlyList<double> Values);

/// <summary>Norms of the values of a model made after manual_seed(5).</summary>
internal sealed record ModelInitial(string Type, IReadOnlyDictionary<string, JsonElement> Args, IReadOnlyDictionary<string, double> Norms);
