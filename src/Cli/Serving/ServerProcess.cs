using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Sconce.Cli.Serving;

/// <summary>A server in a process of its own: this same program, <c>serve</c>, on a free loopback port. It ends with this process, whatever happens.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    public const string StopWithParentOption = "--stop-with-parent";

    private const int KeptLines = 30;
    private const int SigTerm = 15;
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(40);

    private readonly Process _process;
    private readonly Queue<string> _log = new();
    private readonly DirectoryInfo _folder;

    private ServerProcess(Process process, DirectoryInfo folder)
    {
        _process = process;
        _folder = folder;
    }

    /// <summary>Where it listens, e.g. "http://127.0.0.1:41233".</summary>
    public string Address { get; private set; } = "";

    public int Id => _process.Id;

    /// <summary>The last lines that it wrote.</summary>
    public IReadOnlyList<string> Log
    {
        get
        {
            lock (_log)
                return [.. _log];
        }
    }

    /// <summary>Starts it and waits until it accepts calls.</summary>
    /// <exception cref="ServerProcessException">It ended, or did not answer in time.</exception>
    public static async Task<ServerProcess> StartAsync(CancellationToken cancel)
    {
        var folder = Directory.CreateTempSubdirectory("sconce-");
        var addressFile = Path.Combine(folder.FullName, "address");
        var start = Command("serve", "--port=0", $"--address-file={addressFile}", StopWithParentOption);
        start.RedirectStandardInput = true;
        start.RedirectStandardOutput = true;
        start.RedirectStandardError = true;
        // Settings for the operator's own server, a fixed port or a socket, are not for this one.
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("SCONCE__", StringComparison.OrdinalIgnoreCase)).ToArray())
            start.Environment.Remove(name);

        ServerProcess server;
        try
        {
            server = new ServerProcess(Process.Start(start)!, folder);
        }
        catch (Win32Exception e)
        {
            folder.Delete(recursive: true);
            throw new ServerProcessException($"{start.FileName} cannot be started: {e.Message}", e);
        }

        try
        {
            server.ReadLog();
            server.Address = await server.WaitForAddressAsync(addressFile, cancel).ConfigureAwait(false);
            return server;
        }
        catch (Exception e)
        {
            await server.DisposeAsync().ConfigureAwait(false);
            if (e is ServerProcessException)
                throw new ServerProcessException(e.Message, e) { Log = server.Log };
            throw;
        }
    }

    /// <summary>Asks it to drain and end (SIGTERM), waits, and returns its exit code.</summary>
    /// <exception cref="ServerProcessException">It did not end in time.</exception>
    public async Task<int> StopAsync(CancellationToken cancel)
    {
        _ = SendSignal(_process.Id, SigTerm);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(StopLimit);
        try
        {
            await _process.WaitForExitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new ServerProcessException($"The server (process {_process.Id}) did not end within {StopLimit.TotalSeconds:0} s of SIGTERM.");
        }

        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
            await _process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
        }

        _process.Dispose();
        _folder.Delete(recursive: true);
    }

    /// <summary>This program again: its own executable, or the assembly under dotnet.</summary>
    internal static ProcessStartInfo Command(params string[] arguments)
    {
        var assembly = typeof(ServerProcess).Assembly.Location;
        var start = new ProcessStartInfo { UseShellExecute = false };
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "sconce")
        {
            start.FileName = Environment.ProcessPath!;
        }
        else
        {
            start.FileName = Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") is { Length: > 0 } host ? host : "dotnet";
            start.ArgumentList.Add(assembly);
        }

        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        return start;
    }

    private void ReadLog()
    {
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();

        void Keep(string? line)
        {
            if (line is null)
                return;
            lock (_log)
            {
                _log.Enqueue(line);
                if (_log.Count > KeptLines)
                    _log.Dequeue();
            }
        }
    }

    private async Task<string> WaitForAddressAsync(string file, CancellationToken cancel)
    {
        for (var watch = Stopwatch.StartNew(); watch.Elapsed < StartLimit; await Task.Delay(20, cancel).ConfigureAwait(false))
        {
            if (File.Exists(file))
                return (await File.ReadAllLinesAsync(file, cancel).ConfigureAwait(false))[0];
            if (_process.HasExited)
            {
                await _process.WaitForExitAsync(cancel).ConfigureAwait(false); // its last lines too
                throw new ServerProcessException($"The server ended with exit code {_process.ExitCode} before it accepted a call.");
            }
        }

        throw new ServerProcessException($"The server did not accept calls within {StartLimit.TotalSeconds:0} s.");
    }

    [DllImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SendSignal(int process, int signal);
}

/// <summary>A server process did not do as it should.</summary>
internal sealed class ServerProcessException : Exception
{
    public ServerProcessException(string message) : base(message)
    {
    }

    public ServerProcessException(string message, Exception inner) : base(message, inner)
    {
    }

    /// <summary>The last lines that it wrote, where the process itself is gone.</summary>
    public IReadOnlyList<string> Log { get; init; } = [];
}
