using Google.Protobuf.WellKnownTypes;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>Modules that many tests use.</summary>
internal static class Specs
{
    /// <summary>nn.Identity.</summary>
    public static ModuleSpec Identity => Nn.Module("Identity");

    /// <summary>Linear(4, 3).</summary>
    public static ModuleSpec Linear => Nn.Linear(4, 3);

    /// <summary>4-8-3 with ReLU.</summary>
    public static ModuleSpec Mlp => Nn.Sequential(Nn.Linear(4, 8), Nn.ReLU(), Nn.Linear(8, 3));

    /// <summary>A convolution, a batch norm and a dropout, for what differs between train and eval. Input [N, 1, 6, 6].</summary>
    public static ModuleSpec Conv => Nn.Sequential(
        ("stem", Nn.Sequential(("conv", Nn.Conv2d(1, 2, 3)), ("bn", Nn.BatchNorm2d(2)), ("relu", Nn.ReLU()))),
        ("flatten", Nn.Flatten()),
        ("head", Nn.Linear(32, 3)));

    /// <summary>Arguments by PyTorch's names.</summary>
    public static Struct Args(params Arguments args) => Nn.Module("any", args).Args;

    /// <summary>One Linear(width, width) run many times over: slow, yet small, since every name is the same module.</summary>
    public static ModuleSpec Slow(int repeats, int width = 1024)
    {
        var spec = Nn.Sequential(Nn.Linear(width, width));
        for (var i = 1; i < repeats; i++)
        {
            spec.Children.Add(new ChildSpec { Share = "0" });
        }

        return spec;
    }
}
