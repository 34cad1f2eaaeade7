using System.Text.Json;
using Sconce.Engine.Catalog;

namespace Sconce.Engine.Tests.Parity;

/// <summary>What is compared of each module type.</summary>
public enum ParityCheck
{
    /// <summary>Keys, shapes and dtypes of the state dict and of named_parameters, in order.</summary>
    State,

    /// <summary>What print(module) shows.</summary>
    Printing,

    /// <summary>Outputs in training mode and in eval mode.</summary>
    Forward,

    /// <summary>Gradients of the inputs in both modes.</summary>
    InputGradients,

    /// <summary>Gradients of each parameter in both modes.</summary>
    ParameterGradients,

    /// <summary>Each argument with another value than its default, and each choice of a text.</summary>
    Arguments,

    /// <summary>Each input of forward.</summary>
    Inputs,

    /// <summary>Outcomes of random draws in training mode.</summary>
    Random,
}

/// <summary>What the fixtures compare of one module type.</summary>
internal sealed class TypeCoverage
{
    private static readonly string[] Modes = ["train", "eval"];

    private readonly CatalogType _type;
    private readonly IReadOnlyList<JsonElement> _specs;

    private TypeCoverage(CatalogType type)
    {
        _type = type;
        var modules = Fixtures.Cases.Values.Where(fixture => fixture.Functions.Count == 0).ToList();
        // After its first forward a lazy module is of another type.
        Cases = [.. modules.Where(fixture => fixture.Types.Contains(type.Name) || fixture.Type == type.Name)];
        Own = [.. modules.Where(fixture => fixture.Type == type.Name)];
        _specs = [.. modules.SelectMany(fixture => Specs(fixture.Spec)).Where(spec => spec.GetProperty("type").GetString() == type.Name)];
    }

    /// <summary>All module types of the catalogue.</summary>
    public static IReadOnlyList<TypeCoverage> All { get; } =
        [.. ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Module).OrderBy(type => type.Name, StringComparer.Ordinal).Select(type => new TypeCoverage(type))];

    public string Name => _type.Name;

    /// <summary>Cases that hold the type anywhere.</summary>
    public IReadOnlyList<FixtureCase> Cases { get; }

    /// <summary>Cases whose root it is.</summary>
    public IReadOnlyList<FixtureCase> Own { get; }

    public IReadOnlyList<string> Arguments => [.. _type.Arguments.Select(argument => argument.Name).Where(name => name != "dtype")];

    /// <summary>Whether it draws random numbers in training mode.</summary>
    public bool IsRandom => _type.Base == "_DropoutNd" || Arguments.Contains("dropout") || Name is "RReLU" or "FractionalMaxPool2d" or "FractionalMaxPool3d";

    /// <summary>Whether a forward leaves another state, and that is compared.</summary>
    public bool ChangesState => Own.Any(fixture => Modes.Any(mode => fixture.Has(mode, run => run.StateAfter.Count > 0)));

    /// <summary>Whether a check says anything of the type: one without parameters has no gradients of them.</summary>
    public bool Applies(ParityCheck check) => check switch
    {
        ParityCheck.ParameterGradients => Cases.Any(fixture => fixture.Type == Name && fixture.Parameters.Count > 0),
        ParityCheck.Arguments => Arguments.Count > 0,
        ParityCheck.Random => IsRandom,
        _ => true,
    };

    /// <summary>What a check does not cover; empty where it covers all.</summary>
    public IEnumerable<string> Missing(ParityCheck check) => check switch
    {
        ParityCheck.State or ParityCheck.Printing => Cases.Count > 0 ? [] : ["no case"],
        ParityCheck.Forward => Modes.Where(mode => !Own.Any(fixture => fixture.Has(mode, _ => true))),
        ParityCheck.InputGradients => Modes.Where(mode => !Own.Any(fixture => fixture.Has(mode, run => run.InputGradients.Any(gradient => gradient is not null)))),
        ParityCheck.ParameterGradients => Modes.SelectMany(mode => Own.SelectMany(fixture => fixture.NamedParameters.Select(p => p.Name)).Distinct()
            .Where(name => !Own.Any(fixture => fixture.Has(mode, run => run.ParameterGradients.GetValueOrDefault(name) is not null))).Select(name => $"{name} in {mode}")),
        ParityCheck.Arguments => _type.Arguments.Where(argument => argument.Name != "dtype").SelectMany(argument => MissingValues(argument, [.. _specs.Select(spec =>
            spec.TryGetProperty("args", out var args) && args.TryGetProperty(argument.Name, out var value) ? SpecJson.Value(value) : argument.Default)])),
        ParityCheck.Inputs => _type.Inputs.Select(input => input.TrimEnd('?')).Where((name, position) => !Own.Any(fixture => fixture.Inputs.Positional.Count > position || fixture.Inputs.Named.ContainsKey(name))),
        _ => RandomFixtures.All.Types.Contains(Name) ? [] : ["no case"],
    };

    /// <summary>An argument that was given nothing but its default, where it has other values, and choices of a text that were never taken.</summary>
    public static IEnumerable<string> MissingValues(CatalogArgument argument, IReadOnlyList<object?> given)
    {
        var choices = argument.Type.Split('"').Where((_, part) => part % 2 == 1).ToList();
        return
        [
            .. choices.Count != 1 && given.All(value => Equals(value, argument.Default)) ? new[] { argument.Name } : [],
            .. choices.Except(given.OfType<string>()).Select(choice => $"{argument.Name}={choice}"),
        ];
    }

    private static IEnumerable<JsonElement> Specs(JsonElement spec) =>
        !spec.TryGetProperty("children", out var children) ? [spec]
        : children.EnumerateArray().SelectMany(child => child.TryGetProperty("spec", out var below) ? Specs(below) : []).Append(spec);
}
