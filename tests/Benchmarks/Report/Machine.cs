using System.Globalization;
using System.Runtime.InteropServices;

namespace Sconce.Benchmarks.Report;

/// <summary>What the figures were measured on.</summary>
internal sealed record Machine(
    string Cpu, int Cores, double MemoryGib, string Os, string Dotnet, string LibtorchThreads, double LoadAverage, bool Busy, DateTimeOffset At)
{
    /// <summary>Describes this machine as it is now.</summary>
    /// <param name="libtorchThreads">Intra-op threads that both sides give libtorch.</param>
    public static Machine Describe(int libtorchThreads)
    {
        var load = ReadLoadAverage();
        return new Machine(
            ReadCpu(),
            Environment.ProcessorCount,
            Math.Round(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (double)(1L << 30), 1),
            RuntimeInformation.OSDescription,
            RuntimeInformation.FrameworkDescription,
            string.Create(CultureInfo.InvariantCulture, $"OMP_NUM_THREADS={libtorchThreads} on every side"),
            load,
            load > 0.5 * Environment.ProcessorCount,
            DateTimeOffset.UtcNow);
    }

    /// <summary>The lines printed above the table.</summary>
    public IEnumerable<string> Lines()
    {
        yield return string.Create(CultureInfo.InvariantCulture, $"{Cpu}, {Cores} cores, {MemoryGib} GiB; {Os}");
        yield return string.Create(CultureInfo.InvariantCulture, $"{Dotnet}; libtorch: {LibtorchThreads}; load average {LoadAverage:0.00} before the run");
        if (Busy)
        {
            yield return "The machine was busy before the run began: ratios stay fair, because the sides alternate, but p99 and calls/s suffer.";
        }
    }

    private static string ReadCpu()
    {
        const string Path = "/proc/cpuinfo";
        var model = File.Exists(Path) ? File.ReadLines(Path).FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal)) : null;
        return model is null ? RuntimeInformation.ProcessArchitecture.ToString() : model[(model.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
    }

    private static double ReadLoadAverage()
    {
        const string Path = "/proc/loadavg";
        return File.Exists(Path) ? double.Parse(File.ReadAllText(Path).Split(' ')[0], CultureInfo.InvariantCulture) : double.NaN;
    }
}
