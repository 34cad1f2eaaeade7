using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using Sconce.Hardening;

namespace Sconce.Engine.Tests.Hardening;

public sealed class KeepArgumentsAliveTests
{
    private const MethodImplAttributes Flags = MethodImplAttributes.NoOptimization | MethodImplAttributes.NoInlining;

    private static readonly string Plain = Path.Combine(TorchChild.TorchSharpPackage, "lib/net8.0/TorchSharp.dll");

    // What build and test ship: the file that this very process loads.
    private static readonly string Shipped = Path.Combine(AppContext.BaseDirectory, "TorchSharp.dll");

    [Fact]
    public void Every_method_body_in_the_shipped_TorchSharp_carries_the_flags()
    {
        using var file = new PEReader(File.OpenRead(Shipped));
        var metadata = file.GetMetadataReader();
        var bodies = metadata.MethodDefinitions.Select(metadata.GetMethodDefinition).Where(method => method.RelativeVirtualAddress != 0).ToList();

        Assert.InRange(bodies.Count, 10_000, int.MaxValue);
        Assert.All(bodies, method => Assert.Equal(Flags, method.ImplAttributes & (Flags | MethodImplAttributes.AggressiveInlining)));
    }

    [Fact]
    public void The_flags_are_all_that_differs_from_the_package()
    {
        byte[] plain = File.ReadAllBytes(Plain), shipped = File.ReadAllBytes(Shipped);

        Assert.Equal(plain.Length, shipped.Length);
        var different = Enumerable.Range(0, plain.Length).Where(i => plain[i] != shipped[i]).ToList();
        Assert.NotEmpty(different);
        // Both flags are in the low byte of a method's ImplFlags, and no method has any of its other bits changed.
        Assert.All(different, i => Assert.Equal(plain[i] | (int)Flags, shipped[i]));
        using var file = new PEReader(new MemoryStream(plain));
        var metadata = file.GetMetadataReader();
        Assert.Equal(metadata.MethodDefinitions.Count(handle => metadata.GetMethodDefinition(handle) is var method
            && method.RelativeVirtualAddress != 0 && (method.ImplAttributes & Flags) != Flags), different.Count);
    }

    [Fact]
    public void The_shipped_TorchSharp_has_the_identity_of_the_package() =>
        Assert.Equal(AssemblyName.GetAssemblyName(Plain).FullName, AssemblyName.GetAssemblyName(Shipped).FullName);

    [Fact]
    public void Apply_twice_changes_nothing_more()
    {
        var once = File.ReadAllBytes(Plain);
        var bodies = KeepArgumentsAlive.Apply(once);
        var twice = once.ToArray();

        Assert.Equal(bodies, KeepArgumentsAlive.Apply(twice));
        Assert.Equal(once, twice);
    }
}
