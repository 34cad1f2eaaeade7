using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Server;

namespace Sconce.Cli.Serving;

/// <summary>Runs the server in this process. Its options are the server's settings, one for each.</summary>
internal sealed class ServeCommand : CliCommand
{
    private readonly Option<string?> _config = new("--config") { Description = "JSON file with settings in a \"Sconce\" object.", HelpName = "file" };

    private readonly Option<bool> _supervise = new("--supervise") { Description = "Run the server in a process of its own, and start it again when it has crashed; with data set, its durable modules come back." };

    private readonly Option<bool> _withParent = new(ServerProcess.StopWithParentOption) { Description = "Stop when standard input ends.", Hidden = true };

    private readonly List<(ServerSetting Setting, Option<string?> Option)> _settings = [];

    public ServeCommand(CommandTerminal terminal)
        : base(
            terminal,
            "serve",
            "Runs the server. Settings also come from the environment (SCONCE__PORT=50052) and from --config; the command line wins.",
            "sconce serve",
            "sconce serve --supervise --data /var/lib/sconce",
            "sconce serve --port 0 --unix-socket /run/sconce.sock --memory-budget-bytes 4GiB --log-format json")
    {
        Options.Add(_config);
        foreach (var setting in ServerSettings.All)
        {
            var option = new Option<string?>(NameOf(setting))
            {
                Description = $"{setting.Description} [default: {(setting.Default.Length == 0 ? "none" : setting.Default)}]",
                HelpName = setting.IsFlag ? "true|false" : "value",
                Arity = setting.IsFlag ? ArgumentArity.ZeroOrOne : ArgumentArity.ExactlyOne,
            };
            _settings.Add((setting, option));
            Options.Add(option);
        }

        Options.Add(_supervise);
        Options.Add(_withParent);
    }

    // The server drains by itself on SIGTERM and SIGINT.
    protected override bool CancelledBySignals => false;

    protected override async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var arguments = new List<string>();
        if (parsed.GetValue(_config) is { } file)
            arguments.Add($"--config={file}");
        foreach (var (setting, option) in _settings)
        {
            if (parsed.GetResult(option) is { Implicit: false })
                arguments.Add($"{NameOf(setting)}={parsed.GetValue(option) ?? "true"}");
        }

        if (parsed.GetValue(_supervise))
        {
            using var supervisor = new Supervisor(Terminal, ["serve", .. arguments]);
            return await supervisor.RunAsync(cancel).ConfigureAwait(false);
        }

        // Not disposed: the watcher may outlive the server by a moment.
        var stopping = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        if (parsed.GetValue(_withParent))
            StopAtEndOfInput(stopping);
        return await SconceServer.RunAsync(arguments, stopping.Token).ConfigureAwait(false);
    }

    private static string NameOf(ServerSetting setting) => "--" + setting.Name.Replace('_', '-');

    /// <summary>However the parent dies, kill -9 included, its end of the pipe closes.</summary>
    private void StopAtEndOfInput(CancellationTokenSource stopping)
    {
        // A thread of its own: the console's asynchronous reads block their caller.
        var watcher = new Thread(() =>
        {
            while (Terminal.Input.Read() >= 0)
            {
            }

            stopping.Cancel();
        })
        {
            IsBackground = true,
            Name = "parent watcher",
        };
        watcher.Start();
    }
}
