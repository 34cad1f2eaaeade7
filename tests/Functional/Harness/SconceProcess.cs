using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace Sconce.Functional.Harness;

/// <summary>A real <c>sconce serve</c> process on a free loopback port, with its log in a file.</summary>
internal sealed partial class SconceProcess : IAsyncDisposable
{
    public const int Sigint = 2;
    public const int Sigterm = 15;
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly DirectoryInfo _directory;
    private readonly Task _logging;
    private readonly List<string> _log = [];

    private SconceProcess(Process process, DirectoryInfo directory)
    {
        _process = process;
        _directory = directory;
        _logging = Task.WhenAll(ReadAsync(process.StandardOutput), ReadAsync(process.StandardError));
    }

    /// <summary>Where it listens: "http://127.0.0.1:PORT".</summary>
    public Uri Address { get; private set; } = null!;

    /// <summary>Path of its Unix socket.</summary>
    public string UnixSocket => Path.Combine(_directory.FullName, "sconce.sock");

    /// <summary>Its process.</summary>
    public int Id => _process.Id;

    /// <summary>Whether it still runs.</summary>
    public bool IsRunning => !_process.HasExited;

    /// <summary>Everything that it has written.</summary>
    public IReadOnlyList<string> Log
    {
        get
        {
            lock (_log)
            {
                return [.. _log];
            }
        }
    }

    /// <summary>Lines of its log at level Error or Fatal.</summary>
    public IReadOnlyList<string> ErrorLines => [.. Log.Where(line => ErrorLine().IsMatch(line))];

    /// <summary>The program that <c>./sconce</c> runs, as it was built beside these tests.</summary>
    public static string Program => Path.Combine(AppContext.BaseDirectory, "sconce.dll");

    /// <summary>Starts a server with settings such as <c>("max-queue", "2")</c> and waits until it accepts calls.</summary>
    public static Task<SconceProcess> StartAsync(params (string Setting, string Value)[] settings) => StartAsync(null, settings);

    /// <summary>The same, with a limit on the memory that the process may write to (RLIMIT_DATA), in bytes.</summary>
    public static async Task<SconceProcess> StartAsync(long? memoryLimit, params (string Setting, string Value)[] settings)
    {
        var directory = Directory.CreateTempSubdirectory("sconce-functional-");
        var addressFile = Path.Combine(directory.FullName, "address");
        var start = new ProcessStartInfo(memoryLimit is null ? "dotnet" : "prlimit") { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (var argument in (string[])
                 [.. memoryLimit is { } limit ? (string[])[$"--data={limit}", "dotnet"] : [], Program, "serve", "--address-file", addressFile,
                     "--unix-socket", Path.Combine(directory.FullName, "sconce.sock"), "--log-format", "json"])
        {
            start.ArgumentList.Add(argument);
        }

        (string Setting, string Value)[] port = settings.Any(setting => setting.Setting == "port") ? [] : [("port", "0")];
        foreach (var (setting, value) in settings.Concat(port))
        {
            start.ArgumentList.Add($"--{setting}");
            start.ArgumentList.Add(value);
        }

        var server = new SconceProcess(Process.Start(start) ?? throw new InvalidOperationException("dotnet did not start"), directory);
        try
        {
            await server.WaitForAddressAsync(addressFile);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Asks it to stop, as a supervisor does.</summary>
    public void Terminate() => Signal(Sigterm);

    /// <summary>Sends it a signal.</summary>
    public void Signal(int signal) => _ = Kill(_process.Id, signal);

    /// <summary>Ends it as the kernel does when memory runs out.</summary>
    public void KillNow() => _process.Kill();

    /// <summary>Waits until it has ended by itself.</summary>
    /// <returns>Its exit code.</returns>
    public async Task<int> WaitForExitAsync()
    {
        using var limit = new CancellationTokenSource(StopLimit);
        await _process.WaitForExitAsync(limit.Token);
        await _logging.WaitAsync(limit.Token);
        return _process.ExitCode;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
            await _process.WaitForExitAsync();
        }

        _process.Dispose();
        _directory.Delete(recursive: true);
    }

    private async Task WaitForAddressAsync(string addressFile)
    {
        var began = Stopwatch.GetTimestamp();
        while (!File.Exists(addressFile))
        {
            if (_process.HasExited || Stopwatch.GetElapsedTime(began) > StartLimit)
            {
                throw new InvalidOperationException($"The server did not begin to serve. It said:\n{string.Join('\n', Log)}");
            }

            await Task.Delay(20);
        }

        Address = new Uri((await File.ReadAllLinesAsync(addressFile)).First(line => line.StartsWith("http", StringComparison.Ordinal)));
    }

    private async Task ReadAsync(StreamReader reader)
    {
        while (await reader.ReadLineAsync() is { } line)
        {
            lock (_log)
            {
                _log.Add(line);
            }
        }
    }

    // Serilog's compact JSON.
    [GeneratedRegex(@"""@l"":""(Error|Fatal)""")]
    private static partial Regex ErrorLine();

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Kill(int process, int signal);
}
