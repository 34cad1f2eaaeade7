using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;

namespace Sconce.Cli;

/// <summary>A verb that calls a running server.</summary>
internal abstract class ClientCommand : CliCommand
{
    public const string DefaultAddress = "http://127.0.0.1:50051";
    public const string AddressVariable = "SCONCE_ADDRESS";

    private readonly Option<string> _address = new("--address", "-a")
    {
        Description = $"The server: http://host:port or unix:/path. Also from {AddressVariable}.",
        HelpName = "address",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable(AddressVariable) is { Length: > 0 } address ? address : DefaultAddress,
    };

    // The client's own bound: longer ones no timer takes.
    private const int MaxTimeoutDays = 49;

    private readonly Option<bool> _json = new("--json") { Description = "Print the result, or the error, as JSON." };

    private readonly Option<int> _timeout = CommonSymbols.Positive("--timeout", "Seconds that one call may take.", 100);

    protected ClientCommand(CommandTerminal terminal, string name, string description, params IReadOnlyList<string> examples)
        : base(terminal, name, description, examples)
    {
        const int most = MaxTimeoutDays * 24 * 60 * 60;
        _timeout.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && int.TryParse(result.Tokens[0].Value, out var seconds) && seconds > most)
                result.AddError($"--timeout is {seconds}; it must be at most {most} ({MaxTimeoutDays} days).");
        });
    }

    /// <summary>Adds the options of every such verb: last, so that help shows the verb's own ones first.</summary>
    public void AddConnectionOptions()
    {
        Options.Add(_address);
        Options.Add(_timeout);
        Options.Add(_json);
    }

    protected override bool WantsJson(ParseResult parsed) => parsed.GetValue(_json);

    protected override async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var client = Connect(parsed);
        await using (client.ConfigureAwait(false))
        {
            try
            {
                return await RunAsync(parsed, client, cancel).ConfigureAwait(false);
            }
            catch (SconceUnavailableException e) when (e.Reason is null)
            {
                // A server that answers gives a reason; this never got to one.
                throw new NoServerException(parsed.GetValue(_address)!, e);
            }
        }
    }

    protected abstract Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel);

    private SconceClient Connect(ParseResult parsed)
    {
        var address = parsed.GetValue(_address)!;
        try
        {
            return new SconceClient(new SconceClientOptions
            {
                Address = address,
                Timeout = TimeSpan.FromSeconds(parsed.GetValue(_timeout)),
                // A person waits: say soon that there is no server.
                Retry = new SconceRetryOptions { MaxAttempts = 3 },
            });
        }
        catch (Exception e) when (e is ArgumentException or FormatException or Microsoft.Extensions.Options.OptionsValidationException)
        {
            throw new UsageException($"--address is '{address}'; it must be http://host:port or unix:/path/to.sock.", e);
        }
    }
}

/// <summary>Nothing that speaks the contract answers at the address. Exit code 69.</summary>
internal sealed class NoServerException(string address, Exception inner)
    : Exception($"no server answers at {address}: {inner.GetBaseException().Message.TrimEnd('.')}. Start one with \"sconce serve\", or name another with --address.", inner);
