using System.CommandLine;
using System.Reflection;
using Sconce.Cli.Terminal;
using Sconce.Client;

namespace Sconce.Cli.Modules;

internal sealed class VersionCommand : ClientCommand
{
    public VersionCommand(CommandTerminal terminal)
        : base(terminal, "version", "Prints the version of this program, and of the server where one answers.", "sconce version --json")
    {
    }

    /// <summary>Version of this program, without the build's suffix.</summary>
    public static string Own { get; } = typeof(VersionCommand).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0];

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        V1.GetHostResponse? host = null;
        string? unavailable = null;
        try
        {
            host = await client.GetHostAsync(cancel).ConfigureAwait(false);
        }
        catch (SconceUnavailableException e)
        {
            // No server is no error here: the question was the version.
            unavailable = e.GetBaseException().Message;
        }

        if (WantsJson(parsed))
        {
            Terminal.Json(new
            {
                version = Own,
                server = host is null ? null : new { version = host.ServerVersion, contract = host.ContractVersion, libtorch = host.LibtorchVersion, torchsharp = host.TorchsharpVersion, host.Device },
            });
            return ExitCode.Ok;
        }

        Terminal.Output.WriteLine($"sconce {Own}");
        Terminal.Output.WriteLine(host is null
            ? $"no server answers: {unavailable}"
            : $"server {host.ServerVersion.Split('+')[0]}: contract {host.ContractVersion}, TorchSharp {host.TorchsharpVersion}, libtorch {host.LibtorchVersion}, device {host.Device} ({host.DeviceName})");
        return ExitCode.Ok;
    }
}
