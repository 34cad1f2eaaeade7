using Sconce.Engine.Execution;
using TorchSharp;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>Padding.</summary>
internal static class PaddingTypes
{
    public static IReadOnlyList<StatelessType> All { get; } =
    [
        .. Enumerable.Range(1, 3).SelectMany(n => new[]
        {
            Of($"ReflectionPad{n}d", "_ReflectionPadNd", n, PaddingModes.Reflect),
            Of($"ReplicationPad{n}d", "_ReplicationPadNd", n, PaddingModes.Replicate),
            Of($"CircularPad{n}d", "_CircularPadNd", n, PaddingModes.Circular),
            Of($"ZeroPad{n}d", $"ConstantPad{n}d", n, PaddingModes.Constant),
            Constant(n),
        }),
    ];

    private static StatelessType Of(string name, string @base, int n, PaddingModes mode) =>
        new(name, @base, "pad", [Ints("padding", 2 * n)], a => a.Repr("padding", spread: true), args =>
        {
            var padding = args.Ints("padding");
            return Growing((x, memory) => F.pad(Checked(x, name, n, padding, memory), padding, mode));
        })
        { IsFunctionToo = false };

    private static StatelessType Constant(int n) =>
        new($"ConstantPad{n}d", "_ConstantPadNd", "pad", [Ints("padding", 2 * n), Float("value")], a => $"padding={a.Repr("padding", spread: true)}, value={a.Repr("value")}", args =>
        {
            var padding = args.Ints("padding");
            var value = args.Float("value");
            return Growing((x, memory) => F.pad(Checked(x, $"ConstantPad{n}d", n, padding, memory), padding, PaddingModes.Constant, value));
        })
        { IsFunctionToo = false };

    private static torch.Tensor Checked(torch.Tensor input, string name, int n, long[] padding, CallMemory? memory)
    {
        memory?.Need(input, ResultShape.Padded(input, padding));
        return input.Dimensions >= n ? input : throw new ArgumentException($"{name} takes at least {n} dimensions, it was given {input.Dimensions}");
    }
}
