using CsCheck;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Properties;

/// <summary>Conversions of random parts of random trees leave what the model says, and every object as it was.</summary>
public sealed class ConversionProperties
{
    private static readonly ConversionPlan[] Plans =
    [
        new(ConversionKind.Float), new(ConversionKind.Double), new(ConversionKind.Half), new(ConversionKind.BFloat16), new(ConversionKind.Cpu),
        new(ConversionKind.To, ElementType.Float64), new(ConversionKind.To, ElementType.Float16), new(ConversionKind.Type, ElementType.Float32), new(ConversionKind.Type, ElementType.BFloat16),
    ];

    [Fact]
    public void Any_conversions_of_any_parts_leave_the_values_of_the_model_and_keep_every_object() => RandomTree.Gen.Sample(random =>
    {
        var numbers = random.Random;
        random.Fill(numbers);
        using var tree = random.Build();
        using var scope = NewDisposeScope();
        var objects = Objects(tree);
        var paths = random.Root.Paths().ToList();
        for (var step = 0; step < 5; step++)
        {
            var (path, part) = paths[numbers.Next(paths.Count)];
            var plan = Plans[numbers.Next(Plans.Length)];
            Conversions.Convert(tree.Find(path), plan);
            foreach (var tensor in part.Modules().SelectMany(at => at.Module.Parameters.Concat(at.Module.Buffers)))
            {
                Convert(tensor, plan);
            }

            StateProperties.CheckStructure(random.Root, tree.Root);
            StateProperties.CheckValues(random.Root, tree.Root);
            CheckGradients(random.Root, tree.Root);
            Assert.Equal(objects, Objects(tree), ReferenceEqualityComparer.Instance);
        }
    }, iter: 200, threads: 1);

    [Fact]
    public void Float_to_double_and_back_is_the_same_bit_for_bit() => Gen.UInt.Array[6].Sample(bits =>
    {
        // Signalling NaNs become quiet in any arithmetic.
        bits = [.. bits.Select(pattern => float.IsNaN(BitConverter.UInt32BitsToSingle(pattern)) ? pattern | 0x400000 : pattern)];
        using var tree = Linear(bits);
        Conversions.Convert(tree.Root, new(ConversionKind.Double));
        Conversions.Convert(tree.Root, new(ConversionKind.Float));
        Assert.Equal(bits, Bits(tree));
    }, iter: 500, threads: 1);

    [Theory]
    [InlineData(ConversionKind.Half)]
    [InlineData(ConversionKind.BFloat16)]
    public void Narrow_dtypes_lose_nothing_the_second_time(ConversionKind kind) => Gen.UInt.Array[6].Sample(bits =>
    {
        using var tree = Linear(bits);
        Conversions.Convert(tree.Root, new(kind));
        Conversions.Convert(tree.Root, new(ConversionKind.Float));
        var once = Floats(tree);
        Conversions.Convert(tree.Root, new(kind));
        Conversions.Convert(tree.Root, new(kind));
        Conversions.Convert(tree.Root, new(ConversionKind.Double));
        Conversions.Convert(tree.Root, new(ConversionKind.Float));
        Assert.Equal(once, Floats(tree));
    }, iter: 300, threads: 1);

    // What a conversion does to one tensor and its gradient: libtorch narrows through float32.
    private static void Convert(ModelTensor tensor, ConversionPlan plan)
    {
        var target = plan.Kind switch
        {
            ConversionKind.Type => plan.Type,
            _ when tensor.Type == ElementType.Int64 => ElementType.Int64,
            ConversionKind.Float => ElementType.Float32,
            ConversionKind.Double => ElementType.Float64,
            ConversionKind.Half => ElementType.Float16,
            ConversionKind.BFloat16 => ElementType.BFloat16,
            ConversionKind.To => plan.Type,
            _ => tensor.Type,
        };
        tensor.Type = target;
        tensor.Values = [.. tensor.Values.Select(value => Round(value, target))];
        tensor.Gradient = tensor.Gradient?.Select(value => Round(value, target)).ToArray();
    }

    private static double Round(double value, ElementType type) => type switch
    {
        ElementType.Float32 => (float)value,
        ElementType.Float16 => (double)(Half)(float)value,
        ElementType.BFloat16 => NearestEven((float)value),
        _ => value,
    };

    // The upper half of a float32, to the nearest, ties to the even one.
    private static float NearestEven(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return BitConverter.UInt32BitsToSingle((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000);
    }

    private static void CheckGradients(ModelModule model, ModuleNode root)
    {
        foreach (var ((path, module), (_, node)) in model.Modules().Zip(ModuleTree.Walk(root)))
        {
            foreach (var (wanted, (_, real)) in module.Parameters.Zip(node.Parameters))
            {
                Assert.True(real.requires_grad, $"{path}.{wanted.Name}");
                Assert.Equal(wanted.Gradient, real.grad is null ? null : StateProperties.Elements(real.grad));
                Assert.Equal(wanted.Gradient is null ? null : wanted.Type, real.grad?.dtype.ToElementType());
            }
        }
    }

    private static List<object> Objects(ModuleTree tree) =>
        [.. ModuleTree.Walk(tree.Root).SelectMany(at => at.Node.Parameters.Select(p => (object)p.Parameter).Concat(at.Node.Buffers.Select(b => b.Tensor)).Prepend(at.Node))];

    private static ModuleTree Linear(uint[] bits)
    {
        var tree = Modules.Spec.Build(Modules.Spec.Of("Linear", ("in_features", 2.0), ("out_features", 3.0), ("bias", false)));
        tree.Root.Parameters[0].Parameter.bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes(bits.AsSpan());
        return tree;
    }

    // Which NaN a NaN becomes is the processor's matter.
    private static float[] Floats(ModuleTree tree) => [.. Bits(tree).Select(BitConverter.UInt32BitsToSingle)];

    private static uint[] Bits(ModuleTree tree) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, uint>(tree.Root.Parameters[0].Parameter.bytes).ToArray();
}
