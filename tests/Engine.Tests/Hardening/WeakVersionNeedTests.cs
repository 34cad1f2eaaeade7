using System.Buffers.Binary;
using System.Numerics;
using Sconce.Hardening;

namespace Sconce.Engine.Tests.Hardening;

public sealed class WeakVersionNeedTests
{
    private static readonly string Plain = Path.Combine(TorchChild.TorchSharpPackage, "runtimes/linux-x64/native/libLibTorchSharp.so");

    [Fact]
    public void Apply_to_the_packages_library_sets_one_bit()
    {
        byte[] plain = File.ReadAllBytes(Plain), weak = File.ReadAllBytes(Plain);

        WeakVersionNeed.Apply(weak, HostLibrary.Glibcxx3432);

        Assert.Equal(plain.Length, weak.Length);
        var changed = Assert.Single(Enumerable.Range(0, plain.Length), i => plain[i] != weak[i]);
        Assert.Equal(1, BitOperations.PopCount((uint)(plain[changed] ^ weak[changed])));

        // It is the VER_FLG_WEAK (2) of vna_flags in the entry whose vna_hash, the four bytes before, is that of the version's name.
        Assert.Equal(2, weak[changed]);
        Assert.Equal(ElfHash(HostLibrary.Glibcxx3432), BinaryPrimitives.ReadUInt32LittleEndian(weak.AsSpan(changed - 4)));
    }

    [Fact]
    public void Shipped_library_is_the_packages_but_for_that_bit_where_it_is_wanted()
    {
        var expected = File.ReadAllBytes(Plain);
        var setting = TorchChild.Metadata("SconceWeakGlibcxx");
        if (setting == "true" || (setting == "auto" && HostLibrary.LacksGlibcxx3432()))
            WeakVersionNeed.Apply(expected, HostLibrary.Glibcxx3432);

        var shipped = Path.Combine(AppContext.BaseDirectory, "runtimes/linux-x64/native/libLibTorchSharp.so");
        Assert.True(expected.AsSpan().SequenceEqual(File.ReadAllBytes(shipped)));
    }

    [Fact]
    public void Apply_for_a_version_that_is_not_needed_names_it()
    {
        var library = File.ReadAllBytes(Plain);

        var exception = Assert.Throws<InvalidDataException>(() => WeakVersionNeed.Apply(library, "GLIBCXX_9.9.9"));

        Assert.Contains("GLIBCXX_9.9.9", exception.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(40)]
    [InlineData(5_000)]
    [InlineData(1_000_000)]
    public void Apply_to_a_truncated_library_is_refused(int length)
    {
        var library = File.ReadAllBytes(Plain)[..length];

        Assert.Throws<InvalidDataException>(() => WeakVersionNeed.Apply(library, HostLibrary.Glibcxx3432));
    }

    [Fact]
    public void Apply_to_what_is_no_library_is_refused() =>
        Assert.Throws<InvalidDataException>(() => WeakVersionNeed.Apply(new byte[4096], HostLibrary.Glibcxx3432));

    // From the System V ABI, "Hash Table".
    private static uint ElfHash(string name)
    {
        var hash = 0u;
        foreach (var letter in name)
        {
            hash = (hash << 4) + letter;
            var high = hash & 0xf0000000;
            hash = (hash ^ (high >> 24)) & ~high;
        }

        return hash;
    }
}
