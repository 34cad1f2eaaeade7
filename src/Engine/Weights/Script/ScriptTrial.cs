using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Text.Json;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Loads and runs a TorchScript file in a process that may do nothing else and is then gone: what a file does to libtorch (endless loops, crashes, all memory) it does
/// there. See <see cref="Confinement"/> for what that process is denied.
/// </summary>
/// <param name="start">Gives this program's command line with these arguments; see <see cref="Command"/>.</param>
/// <param name="memory">Bytes that the file may take in it, weights included.</param>
/// <param name="time">How long it may take, on the wall.</param>
internal sealed class ScriptTrial(Func<IReadOnlyList<string>, ProcessStartInfo> start, long memory, TimeSpan time)
{
    /// <summary>The setting of <c>memory</c>, for messages.</summary>
    public const string MemorySetting = "script_trial_memory_bytes";

    /// <summary>The setting of <c>time</c>, for messages.</summary>
    public const string TimeSetting = "script_trial_timeout";

    private const int KeptCharacters = 2_000;

    // What the process needs of the server's environment: not its secrets.
    private static readonly string[] Kept = ["PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "DOTNET_ROOT", "DOTNET_ROOT_X64", "DOTNET_HOST_PATH", "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"];

    /// <summary>This program again: its own executable, or its assembly under dotnet.</summary>
    /// <param name="arguments">What follows.</param>
    public static ProcessStartInfo Command(IReadOnlyList<string> arguments)
    {
        var program = Environment.ProcessPath ?? "dotnet";
        var isHost = Path.GetFileNameWithoutExtension(program) == "dotnet";
        return new ProcessStartInfo(program, isHost ? [Assembly.GetEntryAssembly()!.Location, .. arguments] : arguments);
    }

    /// <summary>Tries a file.</summary>
    /// <param name="image">It.</param>
    /// <param name="examples">What forward is given; null only loads it.</param>
    /// <param name="cancel">Ends the process.</param>
    /// <exception cref="EngineException">It failed: the message says at what.</exception>
    public async Task RunAsync(ScriptImage image, IReadOnlyList<ScriptExample>? examples, CancellationToken cancel = default)
    {
        var seconds = (int)Math.Min(Math.Ceiling(time.TotalSeconds), int.MaxValue);
        using var process = Start([ScriptTrialProcess.Verb, image.Path, memory.ToString(CultureInfo.InvariantCulture), seconds.ToString(CultureInfo.InvariantCulture), JsonSerializer.Serialize(examples)]);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(time);
        var (output, error) = (ReadAsync(process.StandardOutput), ReadAsync(process.StandardError));
        try
        {
            await process.WaitForExitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
            cancel.ThrowIfCancellationRequested();
            throw Failed("SCRIPT_TRIAL_TIMEOUT", $"it did not end within {time.TotalSeconds:0.###} s, which {TimeSetting} allows: loading it, or forward with the example, takes too long or never ends");
        }

        Judge(process.ExitCode, (await output.ConfigureAwait(false)).Trim(), (await error.ConfigureAwait(false)).Trim().ReplaceLineEndings(" "));
    }

    private static void Judge(int code, string output, string error)
    {
        if (code == ScriptTrialProcess.Passed && output == "passed")
        {
            return;
        }

        throw code switch
        {
            ScriptTrialProcess.Failed when error.Contains("allocate", StringComparison.Ordinal) || error.Contains("bad_alloc", StringComparison.Ordinal) || error.Contains("OutOfMemory", StringComparison.Ordinal) =>
                Failed("SCRIPT_TRIAL_MEMORY", $"it took more memory than {MemorySetting} allows: {error}"),
            ScriptTrialProcess.Failed => Failed("SCRIPT_TRIAL_FAILED", $"libtorch refused it: {error}"),
            ScriptTrialProcess.Unconfined => new EngineException(EngineError.FailedPrecondition, "SCRIPT_TRIAL_UNCONFINED",
                $"TorchScript files cannot be tried on this host, because a process cannot confine itself here ({error}); its kernel or container must permit seccomp"),
            > 128 => Failed("SCRIPT_TRIAL_CRASHED", $"it ended the process that tried it by {Signal(code - 128)}{(error.Length > 0 ? $": {error}" : "")}"),
            _ => Failed("SCRIPT_TRIAL_CRASHED", $"the process that tried it ended with code {code}{(error.Length > 0 ? $": {error}" : "")}"),
        };
    }

    private static string Signal(int signal) => signal switch
    {
        6 => "SIGABRT: libtorch gave up, or there was no memory left",
        7 => "SIGBUS",
        8 => "SIGFPE: it divided an integer by zero",
        9 => $"SIGKILL: its processor time ran out, which {TimeSetting} allows too, or the host's memory did",
        11 => "SIGSEGV: it crashed in native code",
        24 => $"SIGXCPU: it used more processor time than {TimeSetting}",
        25 => "SIGXFSZ: it wrote to a file",
        31 => "SIGSYS: it called the system in a way that is denied",
        _ => $"signal {signal}",
    };

    private static EngineException Failed(string reason, string what) => new(EngineError.FailedPrecondition, reason, $"the TorchScript file failed its trial: {what}");

    private Process Start(string[] arguments)
    {
        var info = start(arguments);
        info.UseShellExecute = false;
        info.RedirectStandardInput = info.RedirectStandardOutput = info.RedirectStandardError = true;
        foreach (var name in info.Environment.Keys.Except(Kept).ToArray())
        {
            _ = info.Environment.Remove(name);
        }

        // Little address space of the runtime's own, and none of what the filter would deny: sockets for debuggers, code that is mapped twice.
        info.Environment["DOTNET_GCHeapHardLimit"] = "0x10000000";
        info.Environment["DOTNET_gcServer"] = "0";
        info.Environment["DOTNET_EnableDiagnostics"] = "0";
        info.Environment["DOTNET_EnableWriteXorExecute"] = "0";
        info.Environment["MALLOC_ARENA_MAX"] = "2";
        try
        {
            return Process.Start(info)!;
        }
        catch (Win32Exception exception)
        {
            throw new EngineException(EngineError.Internal, "SCRIPT_TRIAL_NOT_STARTED", $"the process that tries TorchScript files could not be started: {exception.Message}", exception);
        }
    }

    private static async Task<string> ReadAsync(StreamReader reader)
    {
        var kept = new char[KeptCharacters];
        var length = await reader.ReadBlockAsync(kept).ConfigureAwait(false);

        // The rest too, else the process would wait for room in the pipe.
        var rest = new char[4096];
        while (await reader.ReadAsync(rest).ConfigureAwait(false) > 0)
        {
        }

        return new string(kept, 0, length);
    }
}
