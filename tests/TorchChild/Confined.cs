using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Sconce.Engine.Weights.Script;

namespace Sconce.TorchChild;

/// <summary>Does, in a process that confined itself, what a TorchScript file under trial must not.</summary>
internal static class Confined
{
    private const long Memory = 1L << 30;
    private const int Seconds = 60;

    // The exit code that test runners take for a skipped test.
    private const int CannotConfine = 77;

    public static int Run(string what)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        var file = Path.GetTempFileName();

        // With pipes of its own: it may outlive this process, whose output is read to its end.
        using var victim = Process.Start(new ProcessStartInfo("sleep", "20") { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true })!;
        try
        {
            // The code of what follows is loaded before: the runtime reads files, and starts threads.
            var acts = new Dictionary<string, Action>
            {
                ["write"] = () => File.WriteAllText(file, "x"),
                ["connect"] = () =>
                {
                    using var client = new TcpClient();
                    client.Connect(IPAddress.Loopback, port);
                },
                ["start"] = () =>
                {
                    using var process = Process.Start("true");
                },
                ["kill"] = victim.Kill,
                ["read"] = () => File.ReadAllText("/proc/self/status"),
            };
            acts["connect"]();
            try
            {
                Confinement.Enter(Memory, Seconds);
            }
            catch (PlatformNotSupportedException exception)
            {
                Console.WriteLine(exception.Message);
                return CannotConfine;
            }

            var act = acts[what];
            try
            {
                act();
                Console.WriteLine(0);
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or SocketException or System.ComponentModel.Win32Exception)
            {
                Console.WriteLine(1);
            }

            return 0;
        }
        finally
        {
            try
            {
                victim.Kill();
                File.Delete(file);
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or System.ComponentModel.Win32Exception)
            {
                // It may no longer: the sleeper ends by itself, and the file is empty.
            }
        }
    }
}
