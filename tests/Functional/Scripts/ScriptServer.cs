using System.Diagnostics;
using System.Runtime.CompilerServices;
using Grpc.Net.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Scripts;

/// <summary>A server whose operator vouches for the files that real PyTorch wrote for the engine's tests.</summary>
public sealed class ScriptServer : IAsyncLifetime
{
    private readonly DirectoryInfo _data = Directory.CreateTempSubdirectory("sconce-scripts-data-");
    private SconceProcess? _process;
    private GrpcChannel? _channel;

    internal DirectoryInfo Scripts { get; } = Directory.CreateTempSubdirectory("sconce-scripts-");

    internal Stubs Stubs { get; private set; } = null!;

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        foreach (var file in Directory.EnumerateFiles(Fixtures(), "*.pt"))
        {
            File.Copy(file, Path.Combine(Scripts.FullName, Path.GetFileName(file)));
        }

        // As the operator does.
        using (var list = Process.Start(new ProcessStartInfo("sh", ["-c", "sha256sum *.pt > SHA256SUMS"]) { WorkingDirectory = Scripts.FullName })!)
        {
            await list.WaitForExitAsync();
            Assert.Equal(0, list.ExitCode);
        }

        _process = await SconceProcess.StartAsync(("script-dir", Scripts.FullName), ("script-trial-memory-bytes", "1GiB"), ("data", _data.FullName));
        _channel = Channels.Open(_process);
        Stubs = new Stubs(_channel.CreateCallInvoker());
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _channel?.Dispose();
        if (_process is not null)
        {
            await using (_process)
            {
                _process.Terminate();
                Assert.Equal(0, await _process.WaitForExitAsync());
            }
        }

        Scripts.Delete(recursive: true);
        _data.Delete(recursive: true);
    }

    private static string Fixtures([CallerFilePath] string here = "") => Path.Combine(Path.GetDirectoryName(here)!, "..", "..", "Engine.Tests", "Weights", "Fixtures", "Script");
}
