using System.Globalization;
using System.Text;
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
            Sconce's module and compares, in float32 and in float64: keys of the state dict in order, `named_parameters`, what `print(module)` shows,
            outputs and their structure, gradients of all inputs and parameters, and the state that a forward leaves (running statistics). The same
            seed also gives the same initial values. Tests need no Python.

            An element may differ by `absolute + relative * |PyTorch's|`. In float64 that is {Show(Tolerance.Float64)} (relative / absolute) for every type; in float32
            it is as the table says, and a case of several types has the widest of theirs. Modes are those in which the type is deterministic:
            dropout is compared in training mode where nothing or everything is dropped.

            | module type | cases | modes | gradients | state after forward | float32, relative / absolute |
            |---|---|---|---|---|---|

            """);
        foreach (var type in CoverageTests.Covered.Order(StringComparer.Ordinal))
        {
            var cases = Fixtures.Cases.Values.Where(fixture => fixture.Functions.Count == 0 && fixture.Types.Contains(type)).ToList();
            var own = cases.Where(fixture => fixture.Spec.GetProperty("type").GetString() == type).ToList();
            own = own.Count > 0 ? own : cases;
            text.Append(CultureInfo.InvariantCulture,
                $"| {type} | {cases.Count} | {string.Join(", ", own.SelectMany(fixture => fixture.Modes.Keys).Distinct().OrderDescending(StringComparer.Ordinal))} | {Mark(own, run => run.Differentiable)} | {Mark(own, run => run.StateAfter.Count > 0)} | {Show(own.Select(fixture => Tolerance.Of(fixture, ElementType.Float32)).MaxBy(near => near.Relative))} |\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"""

            Functions that a `Graph` may call, compared in the same way: {string.Join(", ", Fixtures.Cases.Values.SelectMany(fixture => fixture.Functions).Distinct().Order(StringComparer.Ordinal).Select(name => $"`{name}`"))}.

            Beside single modules: initial values of {Sequences.All.Initial.Count} modules and {Sequences.All.Initialisers.Select(i => i.Function).Distinct().Count()} functions of `torch.nn.init` after a seed; a chain of {Sequences.All.Conversions[0].Steps.Count} conversions, exact after each; steps of {string.Join(" and ", Sequences.All.Training.Select(t => t.Optimizer).Distinct())}
            with a conversion between them; and the order in which `apply` visits.

            ## Not compared

            {List(CoverageTests.NotCovered)}

            Types that 1.13 lacks ({string.Join(", ", CoverageTests.Covered.Except(Fixtures.TorchNames.Types).Where(type => type is not ("Graph" or "NonDynamicallyQuantizableLinear")))}) and `scaled_dot_product_attention` are compared with their formula in PyTorch 2's documentation.

            ## In PyTorch, but not in Sconce

            - Lazy modules: they learn their sizes from the first input; a spec says them.
            {List(CoverageTests.NotInCatalogue)}

            """);
        return text.ToString();
    }

    private static string Show(Tolerance near) => string.Create(CultureInfo.InvariantCulture, $"{near.Relative:0e-0} / {near.Absolute:0e-0}");

    private static string Mark(IEnumerable<FixtureCase> cases, Func<FixtureRun, bool> has) =>
        cases.Any(fixture => fixture.Modes.Keys.Any(mode => has(fixture.Run(mode, ElementType.Float32)))) ? "yes" : "";

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
