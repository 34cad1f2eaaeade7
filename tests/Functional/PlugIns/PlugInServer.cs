using Grpc.Net.Client;
using Sconce.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.PlugIns;

/// <summary>
/// A server with a plug-in directory: the sample in a folder of its own, the plug-in whose classes break the rules as a loose dll, and things that are no
/// plug-ins at all.
/// </summary>
public sealed class PlugInServer : IAsyncLifetime
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-plugins-");
    private SconceProcess? _process;
    private GrpcChannel? _channel;

    internal SconceProcess Process => _process!;

    internal Stubs Stubs { get; private set; } = null!;

    internal SconceClient Client { get; private set; } = null!;

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        CopyAll("GatedMlp", _directory.CreateSubdirectory("GatedMlp"));
        File.Copy(Path.Combine(Built.Folder("Sconce.BrokenPlugIn"), "Sconce.BrokenPlugIn.dll"), Path.Combine(_directory.FullName, "Sconce.BrokenPlugIn.dll"));
        await File.WriteAllBytesAsync(Path.Combine(_directory.FullName, "garbage.dll"), [1, 2, 3, 4]);
        await File.WriteAllTextAsync(Path.Combine(_directory.FullName, "README.txt"), "no plug-in");
        _directory.CreateSubdirectory("empty");

        // The same classes again: the second is left out.
        CopyAll("GatedMlp", _directory.CreateSubdirectory("GatedMlp2"));

        // Built with its dependencies beside it, as one does who forgets ExcludeAssets: the copy must not be loaded.
        File.WriteAllBytes(Path.Combine(_directory.FullName, "GatedMlp", "TorchSharp.dll"), [1, 2, 3]);
        _process = await SconceProcess.StartAsync(("plugin-dir", _directory.FullName), ("memory-budget-bytes", "256MiB"));
        _channel = Channels.Open(_process);
        Stubs = new Stubs(_channel.CreateCallInvoker());
        Client = new SconceClient(_process.Address.ToString());
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _channel?.Dispose();
        if (Client is not null)
        {
            await Client.DisposeAsync();
        }

        if (_process is not null)
        {
            await using (_process)
            {
                var ran = _process.IsRunning;
                _process.Terminate();
                var exitCode = await _process.WaitForExitAsync();
                Assert.True(ran, $"The server had ended before the tests had, with exit code {exitCode}:\n{string.Join('\n', _process.Log.TakeLast(40))}");
                Assert.Equal(0, exitCode);
            }
        }

        _directory.Delete(recursive: true);
    }

    private static void CopyAll(string project, DirectoryInfo to)
    {
        foreach (var file in Directory.EnumerateFiles(Built.Folder(project)))
        {
            File.Copy(file, Path.Combine(to.FullName, Path.GetFileName(file)));
        }
    }
}
