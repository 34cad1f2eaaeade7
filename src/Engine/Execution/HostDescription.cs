using System.Reflection;
using System.Runtime.InteropServices;
using TorchSharp;

namespace Sconce.Engine.Execution;

/// <summary>What the process is.</summary>
/// <param name="Device">The device, as PyTorch writes it.</param>
/// <param name="DeviceName">Its name.</param>
/// <param name="DeviceUuid">The GPU's UUID; empty on the CPU.</param>
/// <param name="Memory">The ledger's figures.</param>
/// <param name="LibtorchVersion">Version of libtorch.</param>
/// <param name="TorchSharpVersion">Version of TorchSharp.</param>
/// <param name="Started">When the engine started.</param>
/// <param name="Limits">Effective limits by setting name.</param>
/// <param name="Modules">Number of modules held.</param>
/// <param name="LiveGraphs">Number of live autograd graphs.</param>
/// <param name="Devices">Devices that a module can be converted to here.</param>
public sealed record HostDescription(
    string Device, string DeviceName, string DeviceUuid, MemoryUsage Memory, string LibtorchVersion, string TorchSharpVersion,
    DateTimeOffset Started, IReadOnlyDictionary<string, string> Limits, int Modules, int LiveGraphs, IReadOnlyList<string> Devices);

/// <summary>The processor.</summary>
internal static class Processor
{
    /// <summary>Its name as its maker writes it, or its architecture where the system does not say.</summary>
    public static string Name { get; } = Read();

    private static string Read()
    {
        try
        {
            var line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal));
            if (line is not null)
            {
                return line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
            }
        }
        catch (IOException)
        {
            // No /proc: its name is a courtesy.
        }

        return RuntimeInformation.ProcessArchitecture.ToString();
    }
}

/// <summary>Versions of the libraries that the engine stands on.</summary>
internal static class Versions
{
    /// <summary>libtorch's; TorchSharp writes it with a fourth number.</summary>
    public static string Libtorch { get; } = Version.TryParse(torch.__version__, out var version) ? version.ToString(3) : torch.__version__;

    /// <summary>TorchSharp's.</summary>
    public static string TorchSharp { get; } = typeof(torch).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]
        ?? typeof(torch).Assembly.GetName().Version!.ToString(3);
}
