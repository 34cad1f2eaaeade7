using System.Diagnostics;

namespace Sconce.Cli.Tests;

/// <summary>The <c>./sconce</c> of a checkout, in a folder of its own and with a dotnet that only notes what it was asked.</summary>
public sealed class CheckoutTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("sconce-checkout-").FullName;

    public CheckoutTests()
    {
        foreach (var folder in new[] { "src/Cli", "proto", "build", "data", "bin" })
            Directory.CreateDirectory(Path.Combine(_root, folder));
        foreach (var file in new[] { "src/Cli/A.cs", "src/Cli/B.cs", "Directory.Build.props" })
            File.WriteAllText(Path.Combine(_root, file), "");
        File.Copy(Script(), Path.Combine(_root, "sconce"));
        WriteProgram("dotnet", """
            echo "$1 ${2##*/}" >>calls
            if [ "$1" = build ]; then
              [ ! -e broken ] || { echo "error CS1002: ; expected"; exit 1; }
              mkdir -p artifacts/bin/Sconce.Cli/release && echo >artifacts/bin/Sconce.Cli/release/sconce.dll
            fi
            """);
        // The folder is no checkout of git's, wherever it lies.
        WriteProgram("git", "exit 128");
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void Verb_is_run_without_a_build_while_nothing_has_changed()
    {
        Assert.Equal(["build Sconce.Cli.csproj", "exec"], Run());
        Assert.Equal(["exec"], Run());
        File.WriteAllText(Path.Combine(_root, "notes.txt"), "");
        Assert.Equal(["exec"], Run());
    }

    [Theory]
    [InlineData("echo >src/Cli/A.cs")]
    [InlineData("echo >src/Cli/New.cs")]
    [InlineData("rm src/Cli/B.cs")]
    [InlineData("touch -d 2001-01-01 old && mv old src/Cli/A.cs")]
    [InlineData("touch -d 2001-01-01 src/Cli/A.cs")]
    [InlineData("echo >proto/a.proto")]
    [InlineData("echo >Directory.Build.props")]
    [InlineData("echo >NuGet.Config")]
    [InlineData("rm Directory.Build.props")]
    [InlineData("rm -r artifacts/bin")]
    [InlineData("echo >>sconce")]
    public void Verb_is_built_first_where_something_has(string change)
    {
        Run();
        Shell(change);

        Assert.Equal(["build Sconce.Cli.csproj", "exec"], Run());
        Assert.Equal(["exec"], Run());
    }

    [Fact]
    public void Verb_is_not_run_after_a_build_that_failed_and_is_built_again()
    {
        Run();
        Shell("echo >src/Cli/A.cs; touch broken");

        Assert.Equal(["build Sconce.Cli.csproj"], Run(expected: 1));
        Assert.Equal(["build Sconce.Cli.csproj"], Run(expected: 1));
        Shell("rm broken");
        Assert.Equal(["build Sconce.Cli.csproj", "exec"], Run());
    }

    // The running of the program is "exec" here: dotnet is given its path.
    private List<string> Run(int expected = 0)
    {
        var calls = Path.Combine(_root, "calls");
        File.Delete(calls);
        Assert.Equal(expected, Shell("./sconce version >/dev/null 2>&1"));
        return [.. File.ReadLines(calls).Select(call => call.StartsWith("build ", StringComparison.Ordinal) ? call : "exec")];
    }

    private int Shell(string command)
    {
        NextTick();
        var start = new ProcessStartInfo("bash", ["-c", command]) { WorkingDirectory = _root };
        start.Environment["PATH"] = $"{Path.Combine(_root, "bin")}:{Environment.GetEnvironmentVariable("PATH")}";
        start.Environment.Remove("CI");
        start.Environment.Remove("SCONCE_CONFIGURATION");
        using var process = Process.Start(start)!;
        process.WaitForExit();
        return process.ExitCode;
    }

    /// <summary>Waits until what is written is newer than all that was: times of files are counted in ticks, whose length is the system's affair.</summary>
    private void NextTick()
    {
        var tick = Path.Combine(_root, "bin", "tick");
        File.WriteAllText(tick, "");
        for (var before = File.GetLastWriteTimeUtc(tick); File.GetLastWriteTimeUtc(tick) == before; File.WriteAllText(tick, ""))
            Thread.Sleep(1);
    }

    private void WriteProgram(string name, string script)
    {
        var path = Path.Combine(_root, "bin", name);
        File.WriteAllText(path, "#!/bin/bash\n" + script + "\n");
        Shell($"chmod +x bin/{name}");
    }

    private static string Script()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "Sconce.slnx")))
            folder = folder.Parent!;
        return Path.Combine(folder.FullName, "sconce");
    }
}
