using System.Globalization;
using System.Text;
using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Tests.Parity;

/// <summary>docs/parity.md says what the fixtures hold.</summary>
public sealed class ParityPageTests
{
    private const string WriteVariable = "SCONCE_WRITE_DOCS";

    [Fact]
    public void Page_says_what_the_fixtures_hold()
    {
        var page = Path.Combine(RepositoryRoot(), "docs", "parity.md");
        if (Environment.GetEnvironmentVariable(WriteVariable) == "1")
        {
            File.WriteAllText(page, Render());
        }

        Assert.True(File.ReadAllText(page) == Render(), $"docs/parity.md is out of date; write it anew with {WriteVariable}=1 ./sconce test --filter FullyQualifiedName~ParityPage");
    }

    private static string Render()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"""
            # Parity with PyTorch

            <!-- Written by {nameof(ParityPageTests)}: {WriteVariable}=1 ./sconce test --filter FullyQualifiedName~ParityPage -->

            Sconce's modules are compared with real PyTorch ({Fixtures.TorchNames.Torch}) by fixtures. `tests/fixtures-generator/modules.py` builds each module in PyTorch from the
            same spec, fills it with random weights, and keeps what PyTorch does with it; `tests/Engine.Tests/Parity` loads the weights into
            Sconce's module and compares. Tests need no Python. A test fails where a type of the catalogue lacks one of the checks and the list below the table does not say why.

            - **state**: keys, shapes and dtypes of the state dict in order, and those of `named_parameters`.
            - **print**: what `print(module)` shows.
            - **forward**: outputs and their structure, in training mode and in eval mode, in float32 and in float64.
            - **input gradients**, **parameter gradients**: of all inputs and of every parameter, in both modes and both dtypes.
            - **statistics**: the state that a forward leaves, where it changes any.
            - **arguments**: how many the constructor takes (beside `dtype`); a case gives each another value than its default, and each choice of a text. Names, order and defaults are
              PyTorch's too, and so are base types.
            - **inputs**: of forward; a case gives each.
            - **random**: what a module that draws does in training mode. Its outcomes on inputs so small that there are few are those that PyTorch has, gradients included, and as frequent.
            - A lazy type is compared as what a first forward makes of it.
            - **cases**: modules compared that hold the type; the other columns are about those that are of the type.

            An element may differ by `absolute + relative * |PyTorch's|`, as the last columns say; a case of several types has the widest of theirs.

            | module type | cases | state | print | forward | input gradients | parameter gradients | statistics | arguments | inputs | random | float32, relative / absolute | float64 |
            |---|---|---|---|---|---|---|---|---|---|---|---|---|

            """);
        foreach (var type in TypeCoverage.All)
        {
            var near = (type.Own.Count > 0 ? type.Own : type.Cases).Select(fixture => Tolerance.Of(fixture, ElementType.Float32)).MaxBy(near => near.Relative);
            text.Append(CultureInfo.InvariantCulture,
                $"| {type.Name} | {type.Cases.Count} | {Mark(type, ParityCheck.State)} | {Mark(type, ParityCheck.Printing)} | {Mark(type, ParityCheck.Forward)} | {Mark(type, ParityCheck.InputGradients)} | {Mark(type, ParityCheck.ParameterGradients)} | {(type.ChangesState ? "yes" : "")} | {Mark(type, ParityCheck.Arguments, type.Arguments.Count)} | {Mark(type, ParityCheck.Inputs)} | {Mark(type, ParityCheck.Random)} | {Show(near)} | {Show(Tolerance.Float64)} |\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"""

            Blank: the check says nothing of the type (no parameters, no arguments, nothing random). Not compared, and why:

            {string.Join('\n', CoverageTests.NotCompared.OrderBy(gap => gap.Key.Type, StringComparer.Ordinal).Select(gap => $"- {gap.Key.Type}, {Column(gap.Key.Check)}: {gap.Value}."))}
            - Arguments of PyTorch that the catalogue does not take: {string.Join("; ", SignatureTests.NotTaken.GroupBy(left => left.Value).Select(left => $"{string.Join(", ", left.Select(argument => $"`{argument.Key}`"))} ({left.Key})"))}.

            Types that 1.13 lacks ({string.Join(", ", TypeCoverage.All.Select(type => type.Name).Except(Fixtures.TorchNames.Names).Where(type => type is not ("Graph" or "NonDynamicallyQuantizableLinear")))}), `bias` of layers that have it since 2.1, and `scaled_dot_product_attention` are compared with their
            formula in PyTorch 2's documentation; SyncBatchNorm, which 1.13 runs on a GPU only, with what it is in one process; the gradient of ChannelShuffle, which 1.13 lacks on a CPU,
            with that of the reshape it is.

            """);
        text.Append(CultureInfo.InvariantCulture, $"""

            ## Losses

            Values and gradients of what the module returned, in float32 within {Show(Tolerance.Float32)} and in float64 within {Show(Tolerance.Float64)}, for each reduction and each argument.

            | loss | cases | values and gradients, float32 and float64 | reductions | arguments |
            |---|---|---|---|---|
            {string.Join('\n', LossFixtures.Types.Select(LossRow))}

            ## Functions and sequences

            Functions that a `Graph` may call, compared in the same way: {string.Join(", ", Fixtures.Cases.Values.SelectMany(fixture => fixture.Functions).Distinct().Order(StringComparer.Ordinal).Select(name => $"`{name}`"))}.

            Losses are functions there too, compared with their own fixtures. Counterparts of modules in `torch.nn.functional` that are not:

            {List(CoverageTests.NotCallable)}

            Beside single modules: initial values of {Sequences.All.Initial.Count} modules and {Sequences.All.Initialisers.Select(i => i.Function).Distinct().Count()} functions of `torch.nn.init` after a seed; a chain of {Sequences.All.Conversions[0].Steps.Count} conversions, exact after each; steps of {string.Join(" and ", Sequences.All.Training.Select(t => t.Optimizer).Distinct())}
            with a conversion between them; the order in which `apply` visits; and what lazy modules ({string.Join(", ", Sequences.All.Lazy.Select(lazy => lazy.Type).Where(type => type.StartsWith("Lazy", StringComparison.Ordinal)).Distinct())})
            are before and after their first forward.

            ## Built-in models

            Each is compared with the same network written in PyTorch (`tests/fixtures-generator/models.py`): keys and shapes of the state dict in order and the number of parameters at full
            size; for small ones outputs, norms of all gradients and running statistics; and, for the models of torchvision, the initial values that a seed gives. Blocks
            such as `BasicBlock` are types too.

            | model | parameters | keys | names from |
            |---|---|---|---|
            {string.Join('\n', ModelFixtures.All.Models.OrderBy(model => model.Type, StringComparer.OrdinalIgnoreCase).Select(Model))}

            ## In PyTorch, but not in Sconce

            {List(CoverageTests.NotInCatalogue)}

            """);
        return text.ToString();
    }

    private static string Model(FullModel model)
    {
        var args = string.Join(", ", model.Args.Select(arg => $"{arg.Key}={arg.Value}"));
        var source = model.Type switch { "LeNet5" => "PyTorch's tutorial", "UNet" => "PyTorch Hub", _ when model.Type.StartsWith("Bert", StringComparison.Ordinal) || model.Type.StartsWith("GPT", StringComparison.Ordinal) => "Hugging Face", _ => "torchvision" };
        return string.Create(CultureInfo.InvariantCulture, $"| {model.Type}{(args.Length == 0 ? "" : $"({args})")} | {model.Parameters:N0} | {model.State.Count} | {source} |");
    }

    private static string Show(Tolerance near) => string.Create(CultureInfo.InvariantCulture, $"{near.Relative:0e-0} / {near.Absolute:0e-0}");

    private static string Mark(TypeCoverage type, ParityCheck check, int? count = null) =>
        !type.Applies(check) ? "" : type.Missing(check).Any() ? "no" : count?.ToString(CultureInfo.InvariantCulture) ?? "yes";

    private static string LossRow(CatalogType type)
    {
        var cases = LossFixtures.Of(type);
        var reductions = cases.Select(fixture => fixture.Args.TryGetValue("reduction", out var given) ? given.GetString() : "mean").Distinct().Order(StringComparer.Ordinal);
        return string.Create(CultureInfo.InvariantCulture,
            $"| {type.Name} | {cases.Count} | {(cases.All(fixture => fixture.Runs.Count == 2) ? "yes" : "no")} | {string.Join(", ", reductions)} | {(LossFixtures.Missing(type).Any() ? "no" : type.Arguments.Count)} |");
    }

    private static string Column(ParityCheck check) => check switch
    {
        ParityCheck.InputGradients => "input gradients",
        ParityCheck.ParameterGradients => "parameter gradients",
        ParityCheck.Printing => "print",
        _ => check.ToString().ToLowerInvariant(),
    };

    private static string List(IReadOnlyDictionary<string, string> reasons) => string.Join('\n', reasons.Select(reason => $"- {reason.Key}: {reason.Value}."));

    private static string RepositoryRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Sconce.slnx")))
            {
                return folder.FullName;
            }
        }

        throw new DirectoryNotFoundException("no folder above the tests holds Sconce.slnx");
    }
}
