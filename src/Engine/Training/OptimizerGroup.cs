using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Training.Optimizers;

namespace Sconce.Engine.Training;

/// <summary>Parameters that share options, each with what is kept for it.</summary>
internal sealed class OptimizerGroup(IReadOnlyList<NamedParameter> parameters, OptionSet options) : IDisposable
{
    public IReadOnlyList<NamedParameter> Parameters => parameters;

    public OptionSet Options => options;

    public IReadOnlyList<ParameterState> States { get; } = [.. parameters.Select(parameter => new ParameterState(parameter.Parameter))];

    /// <summary>Chooses parameters by their patterns, in the module's order, so that each pattern matches and no parameter is in two groups.</summary>
    /// <param name="specs">Groups to make.</param>
    /// <param name="all">Parameters of the module.</param>
    /// <param name="taken">Groups that there are already.</param>
    /// <param name="field">Path in the request of a group, by its index.</param>
    public static IReadOnlyList<IReadOnlyList<NamedParameter>> Choose(
        IReadOnlyList<ParamGroupSpec> specs, IReadOnlyList<NamedParameter> all, IReadOnlyList<OptimizerGroup> taken, Func<int, string> field)
    {
        if (specs.Count > 0)
        {
            Glob.CheckCount(specs.Sum(spec => (long)spec.Parameters.Count), $"{field(0)}.parameters");
        }

        var wrong = new List<FieldViolation>();
        var owners = taken.SelectMany((group, i) => group.Parameters.Select(parameter => (parameter.Name, Owner: $"group {i} of the optimizer")))
            .ToDictionary(entry => entry.Name, entry => entry.Owner);
        var chosen = new List<IReadOnlyList<NamedParameter>>();
        for (var g = 0; g < specs.Count; g++)
        {
            var group = field(g);
            var everything = specs[g].Parameters.Count == 0;
            if (everything && (specs.Count > 1 || taken.Count > 0))
            {
                wrong.Add(new($"{group}.parameters", "is empty; only the first and only group may be, and then means all parameters. Name some, e.g. \"*.bias\""));
                continue;
            }

            wrong.AddRange(specs[g].Parameters
                .Select((pattern, i) => (pattern, i))
                .Where(entry => !all.Any(parameter => Glob.Matches(entry.pattern, parameter.Name)))
                .Select(entry => new FieldViolation($"{group}.parameters[{entry.i}]",
                    $"{EngineException.Quote(entry.pattern)} matches no parameter; the module has {Some(all)}")));

            IReadOnlyList<NamedParameter> members = everything ? all : [.. all.Where(p => specs[g].Parameters.Any(pattern => Glob.Matches(pattern, p.Name)))];
            foreach (var parameter in members)
            {
                if (!owners.TryAdd(parameter.Name, group))
                {
                    wrong.Add(new($"{group}.parameters", $"{EngineException.Quote(parameter.Name)} is in {owners[parameter.Name]} already; a parameter may be in one group only"));
                }
            }

            chosen.Add(members);
        }

        return wrong.Count == 0 ? chosen : throw EngineException.Invalid(wrong);
    }

    public void Dispose()
    {
        foreach (var state in States)
        {
            state.Dispose();
        }
    }

    private static string Some(IReadOnlyList<NamedParameter> all) =>
        all.Count == 0 ? "none" : string.Join(", ", all.Take(4).Select(p => EngineException.Quote(p.Name))) + (all.Count > 4 ? ", …" : "");
}
