using System.Globalization;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>How near a result must be to PyTorch's: |actual - expected| &lt;= absolute + relative * |expected|, element by element.</summary>
internal readonly record struct Tolerance(double Relative, double Absolute)
{
    /// <summary>In float32, for types that no entry of <see cref="ByType"/> names.</summary>
    public static readonly Tolerance Float32 = new(1e-5, 1e-6);

    /// <summary>In float64, for every type: it would show any other formula, even where float32's rounding hides it.</summary>
    public static readonly Tolerance Float64 = new(1e-12, 1e-12);

    private static readonly Tolerance ManySums = new(5e-5, 5e-6);

    /// <summary>Types whose float32 results have more room: long chains of sums, whose order differs between CPUs.</summary>
    public static readonly IReadOnlyDictionary<string, Tolerance> ByType = new Dictionary<string, Tolerance>
    {
        ["Conv1d"] = ManySums,
        ["Conv2d"] = ManySums,
        ["Conv3d"] = ManySums,
        ["ConvTranspose1d"] = ManySums,
        ["ConvTranspose2d"] = ManySums,
        ["ConvTranspose3d"] = ManySums,
        ["MultiheadAttention"] = ManySums,
    };

    /// <summary>The widest of the types that a case is made of.</summary>
    public static Tolerance Of(FixtureCase fixture, ElementType type) =>
        type == ElementType.Float64 ? Float64 : fixture.Types.Select(name => ByType.GetValueOrDefault(name, Float32)).MaxBy(near => near.Relative);

    /// <summary>Fails, with the largest excess, unless the tensor has the dtype, the shape and nearly the elements expected.</summary>
    public void Check(FixtureTensor expected, Tensor? actual, string what)
    {
        Assert.True(actual is not null, $"{what}: PyTorch gives one, none was given");
        Assert.Equal((what, expected.Type, string.Join(",", expected.Shape)), (what, actual.dtype.ToElementType(), string.Join(",", actual.shape)));
        var wanted = Elements(expected.ToTensor());
        var given = Elements(actual);
        var worst = -1;
        var excess = 0.0;
        for (var i = 0; i < wanted.Length; i++)
        {
            var over = Excess(wanted[i], given[i]);
            if (!(over <= excess))
            {
                (worst, excess) = (i, over);
            }
        }

        Assert.True(worst < 0, worst < 0 ? "" : string.Create(CultureInfo.InvariantCulture,
            $"{what}: element {worst} is {given[worst]:r}, PyTorch has {wanted[worst]:r} (relative {Math.Abs(given[worst] / wanted[worst] - 1):e1}); allowed {Relative:e0} relative + {Absolute:e0}"));
    }

    /// <summary>Whether all elements are near enough.</summary>
    public bool Holds(double[] wanted, double[] given)
    {
        for (var i = 0; i < wanted.Length; i++)
        {
            if (!(Excess(wanted[i], given[i]) <= 0))
            {
                return false;
            }
        }

        return wanted.Length == given.Length;
    }

    private double Excess(double wanted, double given) => wanted.Equals(given) ? 0 : Math.Abs(wanted - given) - Absolute - (Relative * Math.Abs(wanted));

    // A sparse gradient is compared as the dense one it stands for.
    private static double[] Elements(Tensor tensor) => (tensor.is_sparse ? tensor.to_dense() : tensor).detach().to_type(ScalarType.Float64).contiguous().reshape(-1).data<double>().ToArray();
}
