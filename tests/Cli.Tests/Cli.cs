using Sconce.Cli.Terminal;

namespace Sconce.Cli.Tests;

/// <summary>Runs a command line in this process, with its own standard streams.</summary>
internal static class Cli
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    public static Task<CliResult> RunAsync(params string[] args) => RunAsync(args, "");

    public static async Task<CliResult> RunAsync(string[] args, string input)
    {
        using var output = new StringWriter { NewLine = "\n" };
        using var error = new StringWriter { NewLine = "\n" };
        var code = await SconceCommand.RunAsync(args, new CommandTerminal(output, error, new StringReader(input))).WaitAsync(Limit, TestContext.Current.CancellationToken);
        return new CliResult(code, output.ToString(), error.ToString());
    }
}

/// <summary>What a command line did.</summary>
internal sealed record CliResult(int Code, string Output, string Error);
