using Sconce.Engine.Execution;
using Sconce.Engine.Tests.Hardening;

namespace Sconce.Engine.Tests.Execution;

/// <summary>Each in a process of its own: loading happens once, and a library that is missing cannot be missing here.</summary>
public sealed class TorchLibraryTests
{
    private const string Natives = "runtimes/linux-x64/native";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Fact]
    public void Load_of_the_shipped_libraries_works_and_leaves_no_copy()
    {
        var result = TorchChild.Run(TorchChild.Folder, Limit, Environment(), "load");

        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.False(Directory.Exists(Path.Combine(TorchChild.Folder, "cpu")), "TorchSharp has fallen back to its copy of the natives");
    }

    [Fact]
    public void Load_with_intra_op_threads_tells_OpenMP()
    {
        // Asks OpenMP itself: libtorch then takes no more than the cores, so its own count says nothing on a small machine.
        var result = TorchChild.Run(TorchChild.Folder, Limit, Environment(("OMP_DISPLAY_ENV", "true"), ("OMP_NUM_THREADS", "2")), "load", "5");

        Assert.Equal(0, result.ExitCode);
        Assert.Contains("OMP_NUM_THREADS = '5'", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    public void Load_with_no_threads_is_refused(int threads) =>
        Assert.Throws<ArgumentOutOfRangeException>(() => TorchLibrary.Load(threads));

    [Theory]
    [InlineData("libtorch_cpu.so")]
    [InlineData("libLibTorchSharp.so")]
    public void Load_without_a_library_names_it_and_where_it_looked(string name)
    {
        var lines = FailingLoad(natives => File.Delete(Path.Combine(natives, name)));

        Assert.StartsWith($"{name} is missing; looked in ", lines[0], StringComparison.Ordinal);
        Assert.Contains("dotnet publish", lines[1], StringComparison.Ordinal);
    }

    [Fact]
    public void Load_without_what_a_library_needs_names_both()
    {
        var lines = FailingLoad(natives => File.Delete(Path.Combine(natives, "libgomp-98b21ff3.so.1")));

        Assert.Contains("libtorch_cpu.so cannot be loaded: libgomp-98b21ff3.so.1: cannot open", lines[0], StringComparison.Ordinal);
        Assert.Contains("dotnet publish", lines[1], StringComparison.Ordinal);
    }

    [Fact]
    public void Load_on_a_host_whose_libstdcxx_is_too_old_names_both_versions()
    {
        // A version that no host has, so that the test means the same everywhere: the loader goes by the name's hash and then the name.
        var lines = FailingLoad(natives =>
        {
            var path = Path.Combine(natives, "libLibTorchSharp.so");
            var library = File.ReadAllBytes(Path.Combine(TorchChild.TorchSharpPackage, Natives, "libLibTorchSharp.so"));
            var name = library.AsSpan().IndexOf("GLIBCXX_3.4.32\0"u8);
            "GLIBCXX_3.4.99"u8.CopyTo(library.AsSpan(name));
            File.Delete(path); // a hard link: never write into it
            File.WriteAllBytes(path, library);
        });

        Assert.Matches(@"^libLibTorchSharp\.so needs GLIBCXX_3\.4\.99; /\S+/libstdc\+\+\.so\.6 has up to GLIBCXX_3\.4\.\d+\.$", lines[0]);
        Assert.StartsWith("Run on a newer system", lines[1], StringComparison.Ordinal);
    }

    [Fact]
    public void Explain_for_the_version_that_the_build_can_make_weak_names_the_property()
    {
        var said = new DllNotFoundException(
            "Unable to load shared library '/app/libLibTorchSharp.so' or one of its dependencies. (general advice) \n"
            + "/none/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /app/libLibTorchSharp.so)\n");

        var lines = TorchLoadFailure.Explain("/app/libLibTorchSharp.so", said).Message.Split('\n');

        Assert.Equal("libLibTorchSharp.so needs GLIBCXX_3.4.32; /none/libstdc++.so.6 has no such versions.", lines[0]);
        Assert.Contains("-p:SconceWeakGlibcxx=true", lines[1], StringComparison.Ordinal);
        Assert.Equal(2, lines.Length);
    }

    /// <summary>Spoils the natives of a copy, loads them and returns the two lines that the operator would see.</summary>
    private static string[] FailingLoad(Action<string> spoil)
    {
        var copy = TorchChild.Copy();
        try
        {
            spoil(Path.Combine(copy.FullName, Natives));
            var result = TorchChild.Run(copy.FullName, Limit, Environment(), "load");

            Assert.Equal(1, result.ExitCode);
            Assert.False(Directory.Exists(Path.Combine(copy.FullName, "cpu")), "TorchSharp was asked to load after all");
            var lines = result.Error.TrimEnd().Split('\n');
            Assert.Equal(2, lines.Length);
            return lines;
        }
        finally
        {
            copy.Delete(recursive: true);
        }
    }

    private static Dictionary<string, string> Environment(params (string Name, string Value)[] variables) =>
        variables.ToDictionary(variable => variable.Name, variable => variable.Value);
}
