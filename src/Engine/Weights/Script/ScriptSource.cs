using System.Text;

namespace Sconce.Engine.Weights.Script;

/// <summary>A class, or a function of no class: what other code names by <c>__torch__.….Name</c>.</summary>
/// <param name="Name">Its qualified name.</param>
/// <param name="File">The record that holds it.</param>
/// <param name="Lines">Its lines, with the head.</param>
/// <param name="IsClass">Whether it is a class.</param>
internal sealed record ScriptUnit(string Name, string File, IReadOnlyList<ScriptLine> Lines, bool IsClass)
{
    /// <summary>Its methods; of a function, itself.</summary>
    public IReadOnlyList<ScriptMethod> Methods { get; init; } = [];

    /// <summary>Whether it is an enum.</summary>
    public bool IsEnum { get; init; }

    /// <summary>A class's attributes and constants.</summary>
    public IReadOnlyList<string> Attributes { get; init; } = [];

    /// <summary>Qualified names of the classes of those attributes that are objects of one (or None), as submodules are; such as <c>0</c> too, which are no identifiers.</summary>
    public IReadOnlyDictionary<string, string> Types { get; init; } = new Dictionary<string, string>();
}

/// <summary>A method, or a function.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Lines">Its lines, with the head.</param>
internal sealed record ScriptMethod(string Name, IReadOnlyList<ScriptLine> Lines)
{
    /// <summary>What it calls the object that it is a method of: its first parameter. Null where it has none.</summary>
    public string? Self => Lines[0].At(3).Kind == ScriptTokenKind.Name ? Lines[0].At(3).Text : null;

    /// <summary>What a method takes beside that object.</summary>
    public IReadOnlyList<ScriptInput> Inputs => field ??= Read();

    private List<ScriptInput> Read()
    {
        var (inputs, depth, start) = (new List<ScriptInput>(), 0, 3);
        for (var i = 2; i < Lines[0].Tokens.Length; i++)
        {
            var token = Lines[0].Tokens[i];
            depth += token.Is('(') || token.Is('[') || token.Is('{') ? 1 : token.Is(')') || token.Is(']') || token.Is('}') ? -1 : 0;
            if (depth == 0 || (depth == 1 && token.Is(',')))
            {
                Add(inputs, Lines[0].Tokens.AsSpan(start..i));
                start = i + 1;
            }

            if (depth == 0)
            {
                break;
            }
        }

        return [.. inputs.Skip(1)];
    }

    private static void Add(List<ScriptInput> inputs, ReadOnlySpan<ScriptToken> tokens)
    {
        if (tokens is not [var name, ..])
        {
            return;
        }

        var (type, hasDefault) = (new StringBuilder(), false);
        foreach (var token in tokens[1..])
        {
            hasDefault |= token.Is('=');
            _ = type.Append(hasDefault || (type.Length == 0 && token.Is(':')) ? "" : token.Text);
        }

        inputs.Add(new ScriptInput(name.Text, type.Length == 0 ? "Tensor" : type.ToString(), hasDefault));
    }
}

/// <summary>Finds the classes and functions of a file of code.</summary>
internal static class ScriptSource
{
    private const int HeadOfDef = 4;

    // PyTorch before 1.4 began each file so.
    private const string OldVersion = "op_version_set";

    // The methods that code calls without naming them. All others of this form are refused: a + b may be a call, and a file's loading may be one.
    private const string Constructor = "__init__";

    // Of those, what ModuleList, ModuleDict and Sequential have. They can call nothing where they name neither the object nor a class, so that calls of them lead nowhere.
    private static readonly HashSet<string> OfContainers = ["__len__", "__contains__"];

    // Names of hooks that PyTorch runs around forward, and libtorch does not: the module would compute something else than in PyTorch.
    private static readonly HashSet<string> Hooks = ["__forward_hooks__", "__forward_pre_hooks__"];

    private static readonly HashSet<string> Bases = ["Module", "NamedTuple", "Enum"];

    /// <summary>Reads a file.</summary>
    /// <param name="lines">Its lines.</param>
    /// <param name="qualifier">What its names are qualified by, e.g. <c>__torch__.torch.nn.modules.linear</c>.</param>
    /// <param name="file">Its name, for messages.</param>
    /// <exception cref="EngineException">It is not made of classes and functions alone.</exception>
    public static List<ScriptUnit> Read(IReadOnlyList<ScriptLine> lines, string qualifier, string file)
    {
        CheckBlocks(lines, file);
        var units = new List<ScriptUnit>();
        for (var i = 0; i < lines.Count;)
        {
            var line = lines[i];
            var end = i + 1;
            while (end < lines.Count && lines[end].Indent > 0)
            {
                end++;
            }

            var body = lines.Skip(i).Take(end - i).ToList();
            if (line.At(0).Is("def"))
            {
                CheckDef(line, file);
                units.Add(new ScriptUnit($"{qualifier}.{line.At(1).Text}", file, body, IsClass: false) { Methods = [new ScriptMethod(line.At(1).Text, body)] });
            }
            else if (line.At(0).Is("class"))
            {
                units.Add(Class(body, qualifier, file));
            }
            else if (!(line.At(0).Is(OldVersion) && line.At(1).Is('=') && line.Tokens.Length == 3 && body.Count == 1))
            {
                throw ScriptErrors.Malformed($"{EngineException.Quote(line.At(0).Text)} begins neither a class nor a function", file, line.Number);
            }

            i = end;
        }

        return units;
    }

    private static ScriptUnit Class(List<ScriptLine> lines, string qualifier, string file)
    {
        var head = lines[0];
        var isPlain = head.Tokens.Length == 3;
        if (head.At(1).Kind != ScriptTokenKind.Name || !head.Tokens[^1].Is(':') || !(isPlain || (head.Tokens.Length == 6 && head.At(2).Is('(') && head.At(4).Is(')'))))
        {
            throw ScriptErrors.Malformed("a class begins otherwise than \"class Name(Base):\"", file, head.Number);
        }

        if (!isPlain && !Bases.Contains(head.At(3).Text))
        {
            throw ScriptErrors.Malformed($"class {head.At(1).Text} derives from {EngineException.Quote(head.At(3).Text)}; Module, NamedTuple and Enum are taken, and interfaces are not", file, head.Number);
        }

        var (methods, attributes, types) = (new List<ScriptMethod>(), new List<string>(), new Dictionary<string, string>(StringComparer.Ordinal));
        for (var i = 1; i < lines.Count;)
        {
            var line = lines[i];
            var end = i + 1;
            while (end < lines.Count && lines[end].Indent > line.Indent)
            {
                end++;
            }

            if (line.At(0).Is("def"))
            {
                var method = new ScriptMethod(line.At(1).Text, lines.GetRange(i, end - i));
                if (!OfContainers.Contains(method.Name) || method.Lines.Skip(1).Any(own => own.Tokens.Any(token => token.Is("__torch__") || token.Is(method.Self ?? "self"))))
                {
                    CheckDef(line, file);
                }

                methods.Add(methods.Count < ScriptLimits.Methods ? method : throw ScriptErrors.Limit($"class {head.At(1).Text} has more than {ScriptLimits.Methods} methods, {file}:{line.Number}"));
            }
            else if (Hooks.Contains(line.At(0).Text))
            {
                throw ScriptErrors.Refused([new ScriptUse("a forward hook", file, line.Number)]);
            }
            else if (end == i + 1 && line.At(0).Kind == ScriptTokenKind.Name && (line.At(1).Is(':') || line.At(1).Is('=')))
            {
                attributes.Add(line.At(0).Text);
                AddType(types, line.At(0).Text, line, 2);
            }
            else if (!(end == i + 1 && ((line.At(0).Is("pass") && line.Tokens.Length == 1) || (line.At(0).Is("__annotations__") && line.At(1).Is('[') && line.At(2).Kind == ScriptTokenKind.String))))
            {
                throw ScriptErrors.Malformed("a class holds something that is neither an attribute nor a method", file, line.Number);
            }
            else
            {
                // __annotations__["0"] = …
                AddType(types, line.At(2).Text, line, 5);
            }

            i = end;
        }

        return new ScriptUnit($"{qualifier}.{head.At(1).Text}", file, lines, IsClass: true) { IsEnum = !isPlain && head.At(3).Is("Enum"), Methods = methods, Attributes = attributes, Types = types };
    }

    private static void AddType(Dictionary<string, string> types, string name, ScriptLine line, int at)
    {
        // Optional[…], or Final[…].
        var end = line.Tokens.Length;
        while (line.At(at).Kind == ScriptTokenKind.Name && line.At(at).Text is "Optional" or "Final" && line.At(at + 1).Is('[') && line.At(end - 1).Is(']'))
        {
            (at, end) = (at + 2, end - 1);
        }

        if (line.At(at).Is("__torch__"))
        {
            types[name] = string.Concat(line.Tokens[at..end].Select(token => token.Text));
        }
    }

    private static void CheckDef(ScriptLine line, string file)
    {
        if (line.Tokens.Length < HeadOfDef || line.At(1).Kind != ScriptTokenKind.Name || !line.At(2).Is('(') || !line.Tokens[^1].Is(':'))
        {
            throw ScriptErrors.Malformed("a function begins otherwise than \"def name(…):\"", file, line.Number);
        }

        var name = line.At(1).Text;
        if (name != Constructor && name.StartsWith("__", StringComparison.Ordinal) && name.EndsWith("__", StringComparison.Ordinal))
        {
            throw ScriptErrors.Refused([new ScriptUse($"def {name}", file, line.Number)]);
        }
    }

    // A class or a function begins its line and is in no other function; what is in it is on lines of its own.
    private static void CheckBlocks(IReadOnlyList<ScriptLine> lines, string file)
    {
        var blocks = new Stack<(int Indent, bool IsFunction)>();
        foreach (var line in lines)
        {
            while (blocks.TryPeek(out var block) && block.Indent >= line.Indent)
            {
                _ = blocks.Pop();
            }

            for (var i = 0; i < line.Tokens.Length; i++)
            {
                var (isDef, isClass) = (line.Tokens[i].Is("def"), line.Tokens[i].Is("class"));
                if ((isDef || isClass) && (i > 0 || (isClass && line.Indent > 0) || blocks.Any(block => block.IsFunction)))
                {
                    throw ScriptErrors.Malformed($"{line.Tokens[i].Text} is within a function, or not at the beginning of a line", file, line.Number);
                }
            }

            if (line.Tokens[^1].Is(':'))
            {
                blocks.Push((line.Indent, line.At(0).Is("def")));
                if (blocks.Count > ScriptLimits.Depth)
                {
                    throw ScriptErrors.Limit($"more than {ScriptLimits.Depth} blocks are within one another at {file}:{line.Number}");
                }
            }
        }
    }
}
