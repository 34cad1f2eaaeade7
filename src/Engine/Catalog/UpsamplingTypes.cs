using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>Upsampling.</summary>
internal static class UpsamplingTypes
{
    private static readonly (string Name, InterpolationMode Mode, int Dimensions)[] Modes =
    [
        ("nearest", InterpolationMode.Nearest, 0), ("nearest-exact", InterpolationMode.NearestExact, 0), ("area", InterpolationMode.Area, 0),
        ("linear", InterpolationMode.Linear, 3), ("bilinear", InterpolationMode.Bilinear, 4), ("bicubic", InterpolationMode.Bicubic, 4), ("trilinear", InterpolationMode.Trilinear, 5),
    ];

    private static readonly Argument[] Sizes = [Ints("size").AtLeast(1).OrNone(), Floats("scale_factor").MoreThan(0).OrNone()];

    private static readonly Argument[] Interpolation =
        [.. Sizes, Text("mode", [.. Modes.Select(m => m.Name)]).Or("nearest"), Bool("align_corners", false).OrNone(), Bool("recompute_scale_factor", false).OrNone()];

    public static IReadOnlyList<StatelessType> All { get; } =
    [
        new("Upsample", "Module", "interpolate", Interpolation, a => Repr(a, a.Text("mode")), args =>
            Interpolate(args, args.Text("mode"), args.BoolOrNone("align_corners"), args.BoolOrNone("recompute_scale_factor") ?? false, antialias: false)) { IsFunctionToo = false },
        new("UpsamplingNearest2d", "Upsample", "interpolate", Sizes, a => Repr(a, "nearest"), args => Interpolate(args, "nearest", null, false, antialias: false)) { IsFunctionToo = false },
        new("UpsamplingBilinear2d", "Upsample", "interpolate", Sizes, a => Repr(a, "bilinear"), args => Interpolate(args, "bilinear", true, false, antialias: false)) { IsFunctionToo = false },
    ];

    /// <summary><c>F.interpolate</c>, which has one argument more than Upsample.</summary>
    public static FunctionType Function { get; } = new("interpolate", [.. Interpolation, Bool("antialias", false)], ["input"], args =>
        Interpolate(args, args.Text("mode"), args.BoolOrNone("align_corners"), args.BoolOrNone("recompute_scale_factor") ?? false, args.Bool("antialias")));

    private static string Repr(BoundArguments args, string mode) =>
        $"{(args.IsNone("scale_factor") ? $"size={args.Repr("size")}" : $"scale_factor={Scale(args)}")}, mode={mode}";

    // Upsample makes floats of its factors.
    private static string Scale(BoundArguments args) => args.IsScalar("scale_factor") ? PythonFormat.Float(args.Floats("scale_factor")[0]) : PythonFormat.Tuple(args.Floats("scale_factor"));

    private static TensorFunction Interpolate(BoundArguments args, string name, bool? alignCorners, bool recompute, bool antialias)
    {
        var (_, mode, dimensions) = Modes.First(m => m.Name == name);
        var (size, scale) = (args.IntsOrNone("size"), args.FloatsOrNone("scale_factor"));
        if ((size is null) == (scale is null))
        {
            throw args.Refuse("size", "exactly one of size and scale_factor must be given");
        }

        if (alignCorners is not null && dimensions == 0)
        {
            throw args.Refuse("align_corners", $"it is only for linear, bilinear, bicubic and trilinear; mode is {EngineException.Quote(name)}");
        }

        if (recompute && size is not null)
        {
            throw args.Refuse("recompute_scale_factor", "it needs scale_factor, and size was given");
        }

        return Growing((x, memory) =>
        {
            var spatial = (int)x.Dimensions - 2;
            if (x.Dimensions is < 3 or > 5 || (dimensions != 0 && x.Dimensions != dimensions))
            {
                throw new ArgumentException($"mode {name} takes an input of {(dimensions == 0 ? "3, 4 or 5" : dimensions)} dimensions, it was given {x.Dimensions}");
            }

            var (sizes, factors) = (Spread(size, spatial), Spread(scale, spatial));
            memory?.Need(x, ResultShape.Interpolated(x, sizes, factors));
            return F.interpolate(x, sizes, factors, mode, alignCorners, recompute, antialias);
        });
    }

    private static T[]? Spread<T>(T[]? values, int count) =>
        values is null || values.Length == count ? values
        : values.Length == 1 ? [.. Enumerable.Repeat(values[0], count)]
        : throw new ArgumentException($"size or scale_factor has {values.Length} items for {count} spatial dimensions");
}
