using System.Globalization;
using System.Runtime.InteropServices;

namespace Sconce.Engine.Execution;

/// <summary>Loads libtorch and TorchSharp's native half before anything uses them.</summary>
/// <remarks>
/// Left to itself, TorchSharp loads them at its first use; where that fails it copies 480 MB of natives beside the program and reports
/// a missing package reference, whatever the cause.
/// </remarks>
public static partial class TorchLibrary
{
    // In the order in which they need each other.
    private static readonly string[] Natives = ["libtorch_cpu.so", "libLibTorchSharp.so"];

    private static readonly Lock Gate = new();
    private static bool _loaded;

    /// <summary>Loads the native libraries once; later calls do nothing.</summary>
    /// <param name="intraOpThreads">
    /// The threads that one operation may use, or null for libtorch's default (one per core, or what <c>OMP_NUM_THREADS</c> says). Only
    /// the call that loads the libraries can set it, because OpenMP reads its environment then; libtorch never takes more than the cores.
    /// </param>
    /// <exception cref="TorchLoadException">A library is missing, or this host is too old for it.</exception>
    public static void Load(int? intraOpThreads = null)
    {
        if (intraOpThreads is < 1)
            throw new ArgumentOutOfRangeException(nameof(intraOpThreads), intraOpThreads, "The number of intra-op threads must be 1 or more.");

        lock (Gate)
        {
            if (_loaded)
                return;

            if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
            {
                throw new TorchLoadException(
                    $"Sconce ships libtorch for linux-x64; this host is {RuntimeInformation.RuntimeIdentifier}.",
                    "Run it on a 64-bit x86 Linux host, or in the linux/amd64 container image.");
            }

            // .NET keeps its own copy of the environment on Linux: Environment.SetEnvironmentVariable is not seen by getenv.
            if (intraOpThreads is { } threads
                && SetEnv("OMP_NUM_THREADS", threads.ToString(CultureInfo.InvariantCulture), overwrite: 1) != 0)
            {
                throw new InvalidOperationException($"setenv(OMP_NUM_THREADS) failed with errno {Marshal.GetLastPInvokeError()}.");
            }

            // The dynamic loader remembers them, so TorchSharp's own load by name finds these.
            foreach (var native in Natives)
                LoadNative(native);
            _loaded = true;
        }
    }

    private static void LoadNative(string name)
    {
        // By full path: a bare name would also find a libtorch of the system's own, of another version.
        var folders = SearchFolders();
        var path = folders.Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists)
            ?? throw TorchLoadFailure.Missing(name, folders);
        try
        {
            NativeLibrary.Load(path);
        }
        catch (DllNotFoundException exception)
        {
            throw TorchLoadFailure.Explain(path, exception);
        }
    }

    private static string[] SearchFolders() =>
        [.. ((AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string) ?? "")
            .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Append(AppContext.BaseDirectory)
            .Select(Path.TrimEndingDirectorySeparator)
            .Distinct()];

    [LibraryImport("libc", EntryPoint = "setenv", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetEnv(string name, string value, int overwrite);
}
