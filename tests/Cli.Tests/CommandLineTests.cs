using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Sconce.Cli.Terminal;
using Sconce.Server;

namespace Sconce.Cli.Tests;

public sealed class CommandLineTests
{
    [Theory]
    [InlineData("")]
    [InlineData("--help")]
    [InlineData("serve --help")]
    [InlineData("demo --help")]
    [InlineData("ls --help")]
    [InlineData("describe --help")]
    [InlineData("create --help")]
    [InlineData("forward --help")]
    [InlineData("train --help")]
    [InlineData("to --help")]
    [InlineData("help")]
    [InlineData("help create")]
    [InlineData("state --help")]
    [InlineData("state get --help")]
    [InlineData("state load --help")]
    [InlineData("state ls --help")]
    [InlineData("state files --help")]
    [InlineData("delete --help")]
    [InlineData("version --help")]
    public async Task Help_shows_an_example(string line)
    {
        var result = await Cli.RunAsync(line.Split(' ', StringSplitOptions.RemoveEmptyEntries));

        Assert.Equal(ExitCode.Ok, result.Code);
        Assert.Matches("Examples?:\n  (sconce|echo) ", result.Output);
        Assert.Empty(result.Error);
    }

    [Fact]
    public async Task Help_lists_what_the_script_of_a_checkout_adds()
        => Assert.Matches("./sconce also has:\n  test .*\n  soak .*\n  bench ", (await Cli.RunAsync("help")).Output);

    [Fact]
    public async Task Help_of_serve_lists_every_setting_with_its_default()
    {
        var result = await Cli.RunAsync("serve", "--help");

        Assert.All(ServerSettings.All, setting => Assert.Contains("--" + setting.Name.Replace('_', '-') + " <", result.Output, StringComparison.Ordinal));
        Assert.Contains("[default: 50051]", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Help_lists_the_exit_codes()
        => Assert.Contains("69 no server answers", (await Cli.RunAsync("--help")).Output, StringComparison.Ordinal);

    [Theory]
    [InlineData("frobnicate", "frobnicate")]
    [InlineData("describe", "Required argument 'module' missing")]
    [InlineData("ls --nonsense", "--nonsense is not an option of 'ls'")]
    [InlineData("create m", "A spec is wanted once")]
    [InlineData("create m --type Linear --mlp 1,2", "A spec is wanted once")]
    [InlineData("create m --mlp 1,2 --arg a=1", "--arg belongs to --type")]
    [InlineData("train m -x a.npy", "'--targets' is required")]
    [InlineData("train m -x a.npy -y b.npy --epochs 0", "--epochs is 0; it must be > 0")]
    [InlineData("train m -x a.npy -y b.npy --test-inputs c.npy", "belong together")]
    [InlineData("ls --timeout 0", "--timeout is 0; it must be > 0")]
    [InlineData("ls --timeout 4233601", "--timeout is 4233601; it must be at most 4233600 (49 days)")]
    [InlineData("state get m", "Give either '--output'")]
    [InlineData("state load m -i a --server-file b", "Give either '--input'")]
    [InlineData("state", "Required command was not provided")]
    [InlineData("create m --mlp 4,2 --seed x", "--seed is 'x'; it must be a whole number within range.")]
    [InlineData("ls --timeout 99999999999", "--timeout is '99999999999'; it must be a whole number within range.")]
    [InlineData("create  --mlp 4,2", "module is empty; it must be the name of a module, e.g. mlp.")]
    [InlineData("describe ", "module is empty")]
    [InlineData("delete ", "module is empty")]
    [InlineData("to  half", "module is empty")]
    [InlineData("forward  [1]", "module is empty")]
    [InlineData("state ls ", "module is empty")]
    [InlineData("create m --type ", "--type is empty; it must be a type of torch.nn, e.g. Linear.")]
    public async Task Usage_error_is_2_with_the_cause_and_where_help_is(string line, string expected)
    {
        var result = await Cli.RunAsync(line.Split(' '));

        Assert.Equal(ExitCode.Usage, result.Code);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        var command = line.StartsWith("frobnicate", StringComparison.Ordinal) ? "" : line.Split(' ')[0] + " " + (line.StartsWith("state ", StringComparison.Ordinal) ? line.Split(' ')[1] + " " : "");
        Assert.Contains($"\"sconce {command}--help\" shows what it takes", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("System.", result.Error, StringComparison.Ordinal);
        Assert.Empty(result.Output);
    }

    [Theory]
    [InlineData("create m --json", "A spec is wanted once")]
    [InlineData("forward m nothing --json", "--dtype and --shape")]
    public async Task Local_errors_with_json_are_one_json_error(string line, string expected)
    {
        var result = await Cli.RunAsync(line.Split(' '));

        Assert.Equal(ExitCode.Usage, result.Code);
        using var json = JsonDocument.Parse(result.Error);
        var error = json.RootElement.GetProperty("error");
        Assert.Equal(("USAGE", 2), (error.GetProperty("code").GetString(), error.GetProperty("exit").GetInt32()));
        Assert.Contains(expected, error.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Equal(0, error.GetProperty("fields").GetArrayLength());
    }

    [Fact]
    public async Task Standard_input_is_read_until_it_is_cancelled()
    {
        using var reader = new NeverEnding();
        using var error = new StringWriter();
        using var stop = new CancellationTokenSource();
        var reading = new CommandTerminal(error, error, reader).ReadInputAsync(stop.Token);
        await reader.Reached.Task.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);

        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("version --json > /dev/full", "standard output cannot be written: No space left on device")]
    [InlineData("version >&-", "standard output cannot be written: ")]
    public async Task Output_that_cannot_be_written_is_2_and_says_so(string line, string expected)
    {
        using var process = Process.Start(new ProcessStartInfo("sh", ["-c", $"dotnet '{typeof(SconceCommand).Assembly.Location}' {line}"]) { RedirectStandardError = true })!;
        var error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(ExitCode.Usage, process.ExitCode);
        Assert.Contains(expected, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("create m /nonexistent.json", "there is no such file")]
    [InlineData("create m --mlp 1,x", "--mlp is '1,x'")]
    [InlineData("create m --type Linear --arg bias=true --arg bias=false", "sconce: --arg bias is given twice.\n")]
    [InlineData("create m --type Linear --arg in_features=9007199254740993", "--arg in_features is 9007199254740993; whole numbers travel exactly only up to 2^53.")]
    [InlineData("create m --type Linear --arg in_features=[1,-99999999999999999999]", "--arg in_features is -99999999999999999999; whole numbers travel exactly only up to 2^53.")]
    [InlineData("demo --json /nonexistent/x.json", "--json is '/nonexistent/x.json', which cannot be written")]
    [InlineData("create m --type Linear --arg bias", "--arg is 'bias'; it must be name=value")]
    [InlineData("forward m [[1,2],[3]]", "[1] has 1 items")]
    [InlineData("forward m random:2xx", "no shape")]
    [InlineData("forward m nothing", "--dtype and --shape")]
    [InlineData("to m float33", "'float33' is not a dtype")]
    [InlineData("to m cpu --all", "'cpu' is a device")]
    [InlineData("state load m -i /nonexistent.safetensors", "there is no such file")]
    [InlineData("train m -x /nonexistent.npy -y b.npy", "there is no such file")]
    [InlineData("demo --data /nonexistent", "there is no such folder")]
    [InlineData("ls --address nonsense", "--address is 'nonsense'")]
    public async Task Bad_value_or_file_is_2_with_one_message(string line, string expected)
    {
        var result = await Cli.RunAsync(line.Split(' '));

        Assert.Equal(ExitCode.Usage, result.Code);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Create_with_a_bad_spec_on_standard_input_is_2()
    {
        var result = await Cli.RunAsync(["create", "m", "-"], """{"type": 3}""");

        Assert.Equal(ExitCode.Usage, result.Code);
        Assert.Contains("standard input: Not a module spec", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ls")]
    [InlineData("describe m")]
    [InlineData("create m --mlp 4,2")]
    [InlineData("forward m [1]")]
    [InlineData("to m half")]
    [InlineData("delete m")]
    [InlineData("state ls m")]
    public async Task No_server_is_69_with_one_line(string line)
    {
        var result = await Cli.RunAsync([.. line.Split(' '), "--address", FreeAddress()]);

        Assert.Equal(ExitCode.Unavailable, result.Code);
        Assert.StartsWith("UNAVAILABLE: no server answers at http://127.0.0.1:", result.Error, StringComparison.Ordinal);
        Assert.Contains("sconce serve", result.Error, StringComparison.Ordinal);
        Assert.Single(result.Error.TrimEnd('\n').Split('\n'));
        Assert.Empty(result.Output);
    }

    [Fact]
    public async Task No_server_with_json_is_one_json_error()
    {
        var result = await Cli.RunAsync("ls", "--json", "--address", FreeAddress());

        using var json = JsonDocument.Parse(result.Error);
        var error = json.RootElement.GetProperty("error");
        Assert.Equal("UNAVAILABLE", error.GetProperty("code").GetString());
        Assert.Equal(69, error.GetProperty("exit").GetInt32());
    }

    [Fact]
    public async Task Version_needs_no_server()
    {
        var result = await Cli.RunAsync("version", "--json", "--address", FreeAddress());

        Assert.Equal(ExitCode.Ok, result.Code);
        using var json = JsonDocument.Parse(result.Output);
        Assert.Matches(@"^\d+\.\d+\.\d+", json.RootElement.GetProperty("version").GetString());
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("server").ValueKind);
    }

    [Fact]
    public async Task Serve_with_a_bad_setting_is_78_and_names_it()
    {
        // In a process of its own: the server writes to that process's standard error.
        var start = new ProcessStartInfo("dotnet", [typeof(SconceCommand).Assembly.Location, "serve", "--drain-timeout", "0s", "--port", "70000"]) { RedirectStandardError = true, RedirectStandardOutput = true };
        using var process = Process.Start(start)!;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(60));
        var error = await process.StandardError.ReadToEndAsync(limit.Token);
        await process.WaitForExitAsync(limit.Token);

        Assert.Equal(ExitCode.Config, process.ExitCode);
        Assert.Contains("drain_timeout is 0s; it must be > 0", error, StringComparison.Ordinal);
        Assert.Contains("port is 70000", error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", error, StringComparison.Ordinal);
    }

    /// <summary>Standard input that nobody writes to and nobody closes.</summary>
    private sealed class NeverEnding : TextReader
    {
        private readonly ManualResetEventSlim _end = new();

        public TaskCompletionSource Reached { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public override string ReadToEnd()
        {
            Reached.TrySetResult();
            _end.Wait();
            return "";
        }

        protected override void Dispose(bool disposing)
        {
            _end.Set();
            base.Dispose(disposing);
        }
    }

    // Bound and never listening: connections are refused, and the port is given to no server of another test.
    private static readonly Socket NoServer = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

    private static string FreeAddress()
    {
        lock (NoServer)
        {
            if (!NoServer.IsBound)
                NoServer.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        }

        return $"http://{NoServer.LocalEndPoint}";
    }
}
