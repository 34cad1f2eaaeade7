using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary>Selects parameters of a subtree by name.</summary>
public static class ParameterSelection
{
    /// <summary>Parameters whose dotted names match one of the patterns, in the order of <c>named_parameters</c>.</summary>
    /// <param name="subtree">Where to begin; names are relative to it.</param>
    /// <param name="patterns">Names, <c>*</c> and <c>?</c> as wildcards; empty selects all.</param>
    /// <param name="field">Path of the patterns in the request.</param>
    /// <exception cref="EngineException">A pattern matches nothing.</exception>
    public static IReadOnlyList<NamedParameter> Select(ModuleNode subtree, IReadOnlyList<string> patterns, string field)
    {
        ArgumentNullException.ThrowIfNull(patterns);
        Glob.CheckCount(patterns.Count, field);
        var all = ModuleTree.NamedParameters(subtree);
        if (patterns.Count == 0)
        {
            return all;
        }

        for (var i = 0; i < patterns.Count; i++)
        {
            if (!all.Any(p => Glob.Matches(patterns[i], p.Name)))
            {
                var nearest = NearestNames.To(patterns[i], all.Select(p => p.Name));
                throw EngineException.NotFound("parameter", patterns[i],
                    $"{field}[{i}] matches none of the {all.Count} parameters{(nearest.Count == 0 ? "; DescribeModule lists them" : $"; the nearest are {string.Join(", ", nearest)}")}");
            }
        }

        return [.. all.Where(p => patterns.Any(pattern => Glob.Matches(pattern, p.Name)))];
    }

    /// <summary><c>nn.Module.requires_grad_</c> on the selected parameters.</summary>
    /// <param name="subtree">Where to begin.</param>
    /// <param name="value">Whether autograd is to follow them.</param>
    /// <param name="patterns">As for <see cref="Select"/>.</param>
    /// <exception cref="EngineException">A pattern matches nothing, or a parameter is of a dtype that autograd cannot follow; then nothing has changed.</exception>
    public static void RequiresGrad(ModuleNode subtree, bool value, IReadOnlyList<string> patterns)
    {
        var selected = Select(subtree, patterns, "parameters");
        if (value && selected.FirstOrDefault(p => !NativeSetData.CanRequireGrad(p.Parameter.dtype.ToElementType())) is { } wrong)
        {
            throw EngineException.Invalid("requires_grad", $"the parameter {EngineException.Quote(wrong.Name)} is {wrong.Parameter.dtype.ToElementType().Name()}; only floating and complex ones can require grad: convert it first");
        }

        foreach (var (_, parameter) in selected)
        {
            parameter.requires_grad_(value);
        }
    }
}
