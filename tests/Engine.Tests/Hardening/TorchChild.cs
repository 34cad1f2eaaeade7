using System.Diagnostics;
using System.Reflection;

namespace Sconce.Engine.Tests.Hardening;

/// <summary>Runs tests/TorchChild, for what may end its process or needs libtorch not yet loaded.</summary>
internal static class TorchChild
{
    /// <summary>The folder of the built program.</summary>
    public static string Folder { get; } = Metadata("TorchChild");

    /// <summary>TorchSharp's package in the NuGet cache, which nothing may change.</summary>
    public static string TorchSharpPackage { get; } = Metadata("TorchSharpPackage");

    public static Result Run(string folder, TimeSpan limit, IReadOnlyDictionary<string, string> environment, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(folder, "Sconce.TorchChild.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment)
            start.Environment[name] = value;

        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(limit))
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
            throw new TimeoutException($"{string.Join(' ', arguments)} ran past {limit}: {output.Result}{error.Result}");
        }

        return new Result(process.ExitCode, output.Result, error.Result);
    }

    /// <summary>Copies the program as hard links, so that a test can take a file away or put in another.</summary>
    public static DirectoryInfo Copy()
    {
        // Beside the original, because hard links do not cross file systems and /tmp may be another one.
        var copy = Directory.CreateDirectory($"{Folder}-{Guid.NewGuid():N}");
        using var process = Process.Start("cp", ["-alT", Folder, copy.FullName]);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
        return copy;
    }

    /// <summary>What the project file wrote into this assembly.</summary>
    public static string Metadata(string key) =>
        typeof(TorchChild).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;

    public sealed record Result(int ExitCode, string Output, string Error);
}
