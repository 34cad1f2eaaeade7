namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Finds code that may call itself: libtorch compiles and runs it until the process's stack ends. A value of a class of the archive can only come from code that names the class, so classes and functions
/// that name one another in a circle are refused, and so are methods of one class that call one another in one. That refuses a little more than what recurses (a class with a method that returns
/// an object of its own class), and nothing that a tree of modules is made of.
/// </summary>
/// <param name="units">The archive's code, by qualified name.</param>
internal sealed class ScriptCalls(IReadOnlyDictionary<string, ScriptUnit> units)
{
    /// <summary>Checks all code, which names nothing that is not there.</summary>
    /// <exception cref="EngineException">It may call itself, or calls lead too deep.</exception>
    public void Check()
    {
        var uses = units.Values.ToDictionary(unit => unit.Name, unit => Uses(unit).ToHashSet(StringComparer.Ordinal), StringComparer.Ordinal);
        Walk(uses, name => name);
        foreach (var unit in units.Values.Where(unit => unit.IsClass))
        {
            var calls = new Dictionary<string, HashSet<string>>(StringComparer.Ordinal);
            var names = unit.Methods.Select(one => one.Name).ToHashSet(StringComparer.Ordinal);
            foreach (var method in unit.Methods)
            {
                if (!calls.TryAdd(method.Name, [.. OwnCalls(unit, method, names)]))
                {
                    throw ScriptErrors.Malformed($"{unit.Name} has two methods {method.Name}", unit.File, method.Lines[0].Number);
                }
            }

            Walk(calls, name => $"{unit.Name}.{name}");
        }
    }

    // Depth first, by a stack of its own: the graph is the file's.
    private static void Walk(Dictionary<string, HashSet<string>> edges, Func<string, string> describe)
    {
        var depths = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var root in edges.Keys)
        {
            if (depths.ContainsKey(root))
            {
                continue;
            }

            var path = new Stack<(string Name, IEnumerator<string> Next)>();
            var onPath = new HashSet<string>(StringComparer.Ordinal) { root };
            path.Push((root, edges[root].GetEnumerator()));
            while (path.TryPeek(out var top))
            {
                if (!top.Next.MoveNext())
                {
                    _ = path.Pop();
                    _ = onPath.Remove(top.Name);
                    depths[top.Name] = 1 + edges[top.Name].Select(next => depths[next]).DefaultIfEmpty().Max();
                    if (depths[top.Name] > ScriptLimits.CallDepth)
                    {
                        throw ScriptErrors.Limit($"{describe(top.Name)} leads to {depths[top.Name]} classes and functions within one another; at most {ScriptLimits.CallDepth} are taken");
                    }
                }
                else if (top.Next.Current is var next && !onPath.Add(next))
                {
                    throw ScriptErrors.Recursive(string.Join(" to ", path.Select(step => step.Name).Reverse().SkipWhile(name => name != next).Append(next).TakeLast(ScriptLimits.Named).Select(describe)));
                }
                else if (depths.ContainsKey(next))
                {
                    _ = onPath.Remove(next);
                }
                else
                {
                    path.Push((next, edges[next].GetEnumerator()));
                }
            }
        }
    }

    private IEnumerable<string> Uses(ScriptUnit unit)
    {
        var heads = unit.IsClass ? unit.Methods.Select(method => method.Lines[0]).ToHashSet(ReferenceEqualityComparer.Instance) : [];
        foreach (var line in unit.Lines)
        {
            for (var i = 0; i < line.Tokens.Length; i++)
            {
                if (!line.At(i).Is("__torch__") || line.At(i - 1).Is('.') || ScriptRules.Find(units, line, i, out _) is not { } used)
                {
                    continue;
                }

                // def name(self: its own class, …) is how each method begins.
                var isSelf = ReferenceEquals(used, unit) && i == 5 && line.At(4).Is(':') && heads.Contains(line);
                if (!isSelf)
                {
                    yield return used.Name;
                }
            }
        }
    }

    private static IEnumerable<string> OwnCalls(ScriptUnit unit, ScriptMethod method, HashSet<string> names)
    {
        var self = method.Self;
        foreach (var line in method.Lines)
        {
            // The head's own mention of it is at 3.
            for (var i = ReferenceEquals(line, method.Lines[0]) ? 4 : 0; i < line.Tokens.Length; i++)
            {
                if (self is null || !line.At(i).Is(self) || line.At(i - 1).Is('.'))
                {
                    continue;
                }

                // self.name and (self).name.
                var dot = line.At(i + 1).Is('.') ? i + 1 : line.At(i - 1).Is('(') && line.At(i + 1).Is(')') && line.At(i + 2).Is('.') ? i + 2 : -1;
                if (dot >= 0)
                {
                    if (names.Contains(line.At(dot + 1).Text))
                    {
                        yield return line.At(dot + 1).Text;
                    }
                }
                else if (!(line.At(i - 1).Is('(') && line.At(i - 2).Is("getattr")))
                {
                    throw ScriptErrors.Recursive($"{unit.Name}.{method.Name} passes itself on ({unit.File}:{line.At(i).Line})");
                }
            }
        }
    }
}
