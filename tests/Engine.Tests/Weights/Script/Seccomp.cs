using Sconce.Engine.Tests.Hardening;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>Tells whether a process can confine itself here, which some sandboxes and kernels do not permit. Where it cannot, the product tries no file, and what would need it is skipped.</summary>
internal static class Seccomp
{
    private const int CannotConfine = 77;

    private static readonly Lazy<TorchChild.Result> Tried = new(() =>
        TorchChild.Run(TorchChild.Folder, TimeSpan.FromMinutes(3), new Dictionary<string, string> { ["DOTNET_EnableDiagnostics"] = "0" }, "confined", "read"));

    /// <summary>Skips the test where it cannot.</summary>
    public static void Require() => Assert.SkipWhen(Tried.Value.ExitCode == CannotConfine, $"SKIPPED: a process cannot confine itself here ({Tried.Value.Output.Trim()}), so that no TorchScript file can be tried");
}
