using System.Globalization;

namespace Sconce.Engine.Tests.Hardening;

public sealed class GarbageCollectorTests(ITestOutputHelper log)
{
    private const string Started = "one round done without collections";

    private static readonly Dictionary<string, string> OptimizedFromTheFirstCall = new()
    {
        // Tier 0 code keeps arguments alive too; without tiers there is no wait until the hole opens.
        ["DOTNET_TieredCompilation"] = "0",
        ["OMP_NUM_THREADS"] = "1",
    };

    /// <summary>Twenty seconds; SCONCE_GC_STRESS_SECONDS=300 for the five minutes of a release.</summary>
    [Fact]
    public void Training_under_constant_collection_gives_the_same_losses()
    {
        var seconds = int.Parse(Environment.GetEnvironmentVariable("SCONCE_GC_STRESS_SECONDS") ?? "20", CultureInfo.InvariantCulture);

        var result = TorchChild.Run(TorchChild.Folder, TimeSpan.FromSeconds(seconds + 180), OptimizedFromTheFirstCall, "stress", $"{seconds}");

        log.WriteLine(result.Output + result.Error);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
    }

    /// <summary>Proves that the test above can fail: the same work on the package's own TorchSharp.dll does, as a rule within a second.</summary>
    [Fact]
    public void Training_under_constant_collection_fails_on_the_plain_TorchSharp()
    {
        var plain = Path.Combine(TorchChild.TorchSharpPackage, "lib/net8.0/TorchSharp.dll");

        var result = TorchChild.Run(TorchChild.Folder, TimeSpan.FromSeconds(300), OptimizedFromTheFirstCall, "stress", "120", plain);

        log.WriteLine(result.Output + result.Error);
        Assert.Contains(Started, result.Output, StringComparison.Ordinal);
        Assert.NotEqual(0, result.ExitCode);
    }
}
