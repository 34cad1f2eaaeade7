using System.Diagnostics;
using Sconce.Engine.Tests.Hardening;
using Sconce.Engine.Tests.Weights.TorchZip;
using Sconce.Engine.Weights.Script;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>What a TorchScript file does, it does to a process that is thrown away; the server is told.</summary>
public sealed class ScriptTrialTests
{
    private const long Memory = 1L << 30;

    // Loading libtorch alone takes seconds on a busy machine: the limit is for what never ends.
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(3);
    private static readonly ScriptExample Example = new("Tensor", "Float32", [2, 4]);

    [Fact]
    public async Task A_good_file_passes_with_and_without_an_example()
    {
        Seccomp.Require();
        using var image = Image("scripted.pt");
        await Trial(Long).RunAsync(image, [Example], TestContext.Current.CancellationToken);
        await Trial(Long).RunAsync(image, null, TestContext.Current.CancellationToken);
    }

    [Theory]
    [InlineData("Raises.pt", "SCRIPT_TRIAL_FAILED", "seven dimensions are wanted")]
    [InlineData("Huge.pt", "SCRIPT_TRIAL_MEMORY", ScriptTrial.MemorySetting)]
    public async Task What_goes_wrong_is_told(string name, string reason, string message)
    {
        Seccomp.Require();
        using var image = Image(name);
        var error = await Assert.ThrowsAsync<EngineException>(() => Trial(Long).RunAsync(image, [Example], TestContext.Current.CancellationToken));
        Assert.Equal(reason, error.Reason);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task No_file_is_written()
    {
        Seccomp.Require();

        // It would be refused for the operator that it names; here the process that runs it must hold. aten::save does not look whether it could open its file.
        const string Written = "/tmp/sconce-script-was-here";
        File.Delete(Written);
        using var image = Image("WritesFile.pt");
        await Trial(Long).RunAsync(image, [Example], TestContext.Current.CancellationToken);
        Assert.False(File.Exists(Written));
    }

    [Theory]
    [InlineData("write", "1")]
    [InlineData("connect", "1")]
    [InlineData("start", "1")]
    [InlineData("kill", "1")]
    [InlineData("read", "0")]
    public void The_process_can_do_nothing_but_compute(string what, string refused)
    {
        Seccomp.Require();
        var result = TorchChild.Run(TorchChild.Folder, Long, new Dictionary<string, string> { ["DOTNET_EnableDiagnostics"] = "0" }, "confined", what);
        Assert.Equal((0, refused), (result.ExitCode, result.Output.Trim()));
    }

    [Fact]
    public async Task What_never_ends_is_ended()
    {
        Seccomp.Require();
        using var image = Image("Endless.pt");
        var error = await Assert.ThrowsAsync<EngineException>(() => Trial(TimeSpan.FromSeconds(3)).RunAsync(image, [Example], TestContext.Current.CancellationToken));
        Assert.Contains(error.Reason, (string[])["SCRIPT_TRIAL_TIMEOUT", "SCRIPT_TRIAL_CRASHED"]);
        Assert.Contains(ScriptTrial.TimeSetting, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_process_that_crashes_or_cannot_be_started_is_explained()
    {
        using var image = Image("traced.pt");
        var crash = new ScriptTrial(_ => new ProcessStartInfo("sh", ["-c", "kill -SEGV $$"]), Memory, Long);
        var error = await Assert.ThrowsAsync<EngineException>(() => crash.RunAsync(image, null, TestContext.Current.CancellationToken));
        Assert.Equal("SCRIPT_TRIAL_CRASHED", error.Reason);
        Assert.Contains("SIGSEGV", error.Message, StringComparison.Ordinal);
        var killed = new ScriptTrial(_ => new ProcessStartInfo("sh", ["-c", "kill -KILL $$"]), Memory, Long);
        Assert.Contains("SIGKILL", (await Assert.ThrowsAsync<EngineException>(() => killed.RunAsync(image, null, TestContext.Current.CancellationToken))).Message, StringComparison.Ordinal);
        var missing = new ScriptTrial(_ => new ProcessStartInfo("/nowhere/sconce"), Memory, Long);
        Assert.Equal("SCRIPT_TRIAL_NOT_STARTED", (await Assert.ThrowsAsync<EngineException>(() => missing.RunAsync(image, null, TestContext.Current.CancellationToken))).Reason);
        var silent = new ScriptTrial(_ => new ProcessStartInfo("true"), Memory, Long);
        Assert.Equal("SCRIPT_TRIAL_CRASHED", (await Assert.ThrowsAsync<EngineException>(() => silent.RunAsync(image, null, TestContext.Current.CancellationToken))).Reason);
    }

    [Fact]
    public async Task A_flood_of_output_is_read_and_forgotten()
    {
        using var image = Image("traced.pt");
        var flood = new ScriptTrial(_ => new ProcessStartInfo("sh", ["-c", "head -c 64000000 /dev/zero | tr '\\0' x; head -c 64000000 /dev/zero | tr '\\0' y >&2; exit 3"]), Memory, Long);
        var error = await Assert.ThrowsAsync<EngineException>(() => flood.RunAsync(image, null, TestContext.Current.CancellationToken));
        Assert.Equal("SCRIPT_TRIAL_FAILED", error.Reason);
        Assert.InRange(error.Message.Length, 1_000, 5_000);
    }

    [Fact]
    public void An_image_cannot_be_changed()
    {
        using var image = Image("traced.pt");
        Assert.Equal(image.Length, File.ReadAllBytes(image.Path).Length);
        Assert.ThrowsAny<Exception>(() =>
        {
            using var file = new FileStream(image.Path, FileMode.Open, FileAccess.Write);
            file.WriteByte(1);
            file.Flush();
        });
        Assert.Equal(ScriptFiles.Rewritten(ScriptFiles.Bytes("traced.pt")), File.ReadAllBytes(image.Path));
    }

    [Fact]
    public void The_command_is_this_program()
    {
        var command = ScriptTrial.Command(["a", "b"]);
        Assert.True(File.Exists(command.FileName), command.FileName);
        Assert.Equal(["a", "b"], command.ArgumentList.TakeLast(2));
    }

    private static ScriptTrial Trial(TimeSpan time) => new(arguments => new ProcessStartInfo("dotnet", [Path.Combine(TorchChild.Folder, "Sconce.TorchChild.dll"), .. arguments]), Memory, time);

    private static ScriptImage Image(string name)
    {
        using var archive = ScriptArchive.Open(new MemorySource(ScriptFiles.Bytes(name)), ScriptOperators.With(["aten::from_file", "aten::save"]));
        return ScriptImage.Of(archive);
    }
}
