using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Modules;

internal sealed class ToCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Argument<string> _target = new("target") { Description = "A dtype (float, half, bfloat16, double, float32, …) or a device (cpu, cuda, cuda:0)." };
    private readonly Option<string> _path = CommonSymbols.Path();
    private readonly Option<bool> _all = new("--all") { Description = "Convert integer buffers too, as nn.Module.type does; needs a dtype." };

    public ToCommand(CommandTerminal terminal)
        : base(terminal, "to", "Converts a module to another dtype or device. Its optimizers go on stepping.", "sconce to mlp bfloat16", "sconce to mlp cuda:0")
    {
        Arguments.Add(_module);
        Arguments.Add(_target);
        Options.Add(_path);
        Options.Add(_all);
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var module = client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!);
        var target = parsed.GetValue(_target)!;
        var all = parsed.GetValue(_all);
        Module converted;
        if (target == "cpu" || target == "cuda" || target.StartsWith("cuda:", StringComparison.Ordinal))
        {
            if (all)
                throw new UsageException($"--all converts to a dtype; '{target}' is a device.");
            converted = target == "cpu" ? await module.CpuAsync(cancel).ConfigureAwait(false)
                : await module.CudaAsync(target == "cuda" ? null : target, cancel).ConfigureAwait(false);
        }
        else
        {
            var dtype = CommonSymbols.ParseType(target);
            converted = await (all ? module.TypeAsync(dtype, cancel) : module.ToAsync(dtype, cancel)).ConfigureAwait(false);
        }

        if (WantsJson(parsed))
            Terminal.Json(ModuleSummary.Of(converted));
        else
            Terminal.Output.WriteLine($"{module} is {target}: {Quantities.Bytes((long)converted.Bytes)} on {converted.Device}, generation {converted.Generation}");
        return ExitCode.Ok;
    }
}
