using System.Diagnostics;
using System.Text.Json;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Serving;

/// <summary>The main job, as a newcomer runs it.</summary>
public sealed class DemoTests
{
    [Fact]
    public async Task Demo_trains_converts_and_reloads_and_writes_what_it_measured()
    {
        var file = Path.Combine(Path.GetTempPath(), $"sconce-demo-{Environment.ProcessId}.json");
        try
        {
            var start = new ProcessStartInfo("dotnet", [SconceProcess.Program, "demo", "--json", file]) { RedirectStandardOutput = true, RedirectStandardError = true };
            using var demo = Process.Start(start)!;
            var output = demo.StandardOutput.ReadToEndAsync();
            var errors = demo.StandardError.ReadToEndAsync();
            using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(4));
            try
            {
                await demo.WaitForExitAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                demo.Kill(entireProcessTree: true);
                Assert.Fail($"the demo ran for more than four minutes:\n{await output}\n{await errors}");
            }

            Assert.True(demo.ExitCode == 0, $"exit code {demo.ExitCode}:\n{await output}\n{await errors}");
            Assert.Contains("Sequential(", await output, StringComparison.Ordinal);

            using var json = JsonDocument.Parse(await File.ReadAllTextAsync(file));
            double Read(string name) => json.RootElement.GetProperty(name).GetDouble();
            Assert.InRange(Read("accuracy"), 0.85, 1);
            Assert.InRange(Read("accuracy_bf16"), 0.80, 1);
            Assert.InRange(Read("accuracy_fp16"), 0.80, 1);
            Assert.InRange(Read("train_seconds"), 0.1, 120);
            Assert.InRange(Read("samples_per_s"), 100, 1e7);
            Assert.True(Read("bytes_bf16") < Read("bytes_fp32") * 0.55, "bfloat16 must halve the bytes, but for integer buffers");
            Assert.Equal(0, Read("frozen_max_change"));
            Assert.True(Read("trained_max_change") > 0);
            Assert.Equal(0, Read("reload_max_diff"));
        }
        finally
        {
            File.Delete(file);
        }
    }
}
