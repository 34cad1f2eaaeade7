namespace Sconce.Engine.Catalog;

/// <summary>Binds arguments of JSON's shape to declared ones, and tells all that is wrong with them at once.</summary>
internal static class ArgumentBinder
{
    /// <summary>Binds.</summary>
    /// <param name="declared">What the callee takes.</param>
    /// <param name="given">What the caller gave.</param>
    /// <param name="owner">Name of the callee, for messages, e.g. <c>Conv2d</c>.</param>
    /// <param name="field">Path of <paramref name="given"/> in the request, e.g. <c>spec.args</c>.</param>
    /// <exception cref="EngineException">An argument is unknown, missing or ill-typed.</exception>
    public static BoundArguments Bind(IReadOnlyList<Argument> declared, IReadOnlyDictionary<string, object?> given, string owner, string field)
    {
        var wrong = new List<FieldViolation>();
        var values = new Dictionary<string, object?>(declared.Count);
        foreach (var argument in declared)
        {
            if (given.TryGetValue(argument.Name, out var value))
            {
                var (converted, mismatch) = argument.Convert(value);
                if (mismatch is not null)
                {
                    wrong.Add(new($"{field}.{argument.Name}", mismatch));
                }

                values[argument.Name] = converted;
            }
            else if (argument.Required)
            {
                wrong.Add(new($"{field}.{argument.Name}", $"{owner} needs it: {argument.TypeForPeople}"));
            }
            else
            {
                values[argument.Name] = argument.Default is null ? null : argument.Convert(argument.Default).Value;
            }
        }

        foreach (var name in given.Keys.Where(name => !values.ContainsKey(name) && declared.All(a => a.Name != name)))
        {
            var nearest = NearestNames.To(name, declared.Select(a => a.Name));
            var takes = declared.Count == 0 ? "no arguments" : nearest.Count > 0 ? string.Join(" or ", nearest) : string.Join(", ", declared.Select(a => a.Name));
            wrong.Add(new($"{field}.{name}", $"{owner} has no argument {EngineException.Quote(name)}; {(nearest.Count > 0 ? "did you mean " + takes + "?" : "it takes " + takes)}"));
        }

        return wrong.Count == 0 ? new BoundArguments(declared, values, given, field) : throw EngineException.Invalid(wrong, "BAD_ARGUMENT");
    }
}
