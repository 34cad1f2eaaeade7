using System.Diagnostics;
using Sconce.Engine.Tests.Hardening;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>Runs tests/StoreChild: a store in a process that may be killed.</summary>
internal static class StoreChild
{
    public static string Program { get; } = TorchChild.Metadata("StoreChild");

    public static Process Start(params string[] arguments) => Run("dotnet", [Program, .. arguments]);

    /// <summary>Starts it below another program.</summary>
    public static Process Run(string command, IEnumerable<string> arguments) =>
        Process.Start(new ProcessStartInfo(command, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;

    /// <summary>Waits for its end.</summary>
    public static (int ExitCode, string[] Lines, string Error) Finish(Process process)
    {
        process.StandardInput.Close();
        var error = process.StandardError.ReadToEndAsync();
        var lines = process.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        process.WaitForExit();
        return (process.ExitCode, lines, error.Result);
    }

    /// <summary>Whether a command runs at all here; says so where it does not.</summary>
    public static bool Can(string command, params string[] arguments)
    {
        try
        {
            using var process = Run(command, arguments);
            return Finish(process).ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    /// <summary>A directory that goes with the test.</summary>
    /// <param name="inMemory">In memory where there is such a place: where a process is killed no disk forgets anything, and its slowness would only make the tests long.</param>
    public sealed class Scratch(bool inMemory = false) : IDisposable
    {
        public string Path { get; } = Make(inMemory && Directory.Exists("/dev/shm") ? "/dev/shm" : System.IO.Path.GetTempPath());

        public void Dispose() => Directory.Delete(Path, recursive: true);

        private static string Make(string parent) => Directory.CreateDirectory(System.IO.Path.Combine(parent, $"sconce-test-{Guid.NewGuid():N}")).FullName;
    }
}
