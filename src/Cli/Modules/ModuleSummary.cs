using Sconce.V1;

namespace Sconce.Cli.Modules;

/// <summary>A hosted module as <c>--json</c> prints it; the names are those of the contract.</summary>
internal sealed record ModuleSummary(
    string Name,
    string Type,
    ulong Generation,
    bool Training,
    ulong Parameters,
    ulong Bytes,
    string Device,
    IReadOnlyList<string> Optimizers,
    DateTimeOffset Created,
    uint LiveGraphs)
{
    public static ModuleSummary Of(Module module) => new(
        module.Name,
        module.Type,
        module.Generation,
        module.Training,
        module.Parameters,
        module.Bytes,
        module.Device,
        [.. module.Optimizers],
        module.Created?.ToDateTimeOffset() ?? default,
        module.LiveGraphs);
}
