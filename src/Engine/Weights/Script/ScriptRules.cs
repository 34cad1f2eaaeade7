namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Checks what code names. Everything that it can reach begins with a name: <c>torch.x</c> and <c>ops.space.x</c> are operators wherever they stand, called or not; <c>__torch__.….X</c> is code of
/// the same archive; a name after a dot may be a method of a tensor, hence an operator too; and a call of a plain name is the compiler's own function, or a variable that holds one of these.
/// </summary>
/// <param name="units">The archive's code, by qualified name.</param>
/// <param name="operators">What is allowed.</param>
internal sealed class ScriptRules(IReadOnlyDictionary<string, ScriptUnit> units, ScriptOperators operators)
{
    // What libtorch's importer resolves without the archive, save what is refused: print, fork and awaitable, which would write, and run beside the call.
    private static readonly HashSet<string> Callable =
    [
        "AssertionError", "abs", "all", "annotate", "any", "bin", "bool", "chr", "complex", "dict", "divmod", "enumerate", "float", "getattr", "hasattr", "hex", "int", "isinstance", "len", "list", "max", "min", "oct",
        "ord", "pow", "range", "rangelist", "round", "sorted", "str", "sum", "tuple", "unchecked_cast", "uninitialized", "zip",

        // Keywords, which brackets may follow.
        "and", "assert", "elif", "else", "for", "if", "in", "is", "not", "or", "return", "while",
    ];

    // Names that are refused wherever they stand: what they mean, or that the printer never writes them.
    private static readonly HashSet<string> Never =
    [
        "Await", "Future", "PyObject", "RRef", "async", "await", "awaitable", "awaitable_nowait", "awaitable_wait", "del", "fork", "from", "global", "import", "lambda", "nonlocal", "print", "rpc_async",
        "rpc_remote", "rpc_sync", "try", "with", "yield",
    ];

    // Of two ints, these divide by zero where zero is given, which ends the process; of tensors, they do not. The code does not tell which it is.
    private static readonly HashSet<string> Divides = ["remainder", "__round_to_zero_floordiv"];

    // Properties of tensors that are no operators of the aten namespace.
    private static readonly HashSet<string> Properties = ["H", "T", "device", "dtype", "imag", "is_cpu", "is_cuda", "is_quantized", "is_sparse", "itemsize", "layout", "mH", "mT", "nbytes", "ndim", "real", "requires_grad", "shape"];

    private readonly HashSet<string> _members = [.. units.Values.SelectMany(unit => unit.Attributes.Concat(unit.Methods.Select(method => method.Name)))];
    private readonly List<ScriptUse> _refused = [];
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    /// <summary>Operators that the code uses, by qualified name.</summary>
    public IReadOnlyCollection<string> Used => _used;

    /// <summary>Whether a statement sets an attribute of an object, such as the module itself.</summary>
    public bool SetsAttributes { get; private set; }

    /// <summary>Checks all code.</summary>
    /// <exception cref="EngineException">It uses what is not allowed; the message names all of it, with its places.</exception>
    public void Check()
    {
        foreach (var unit in units.Values)
        {
            var bound = Bound(unit);
            foreach (var line in unit.Lines)
            {
                CheckLine(line, unit.File, bound);
            }

            // An attribute whose name no identifier could be is fetched by getattr, where it is checked.
            foreach (var name in unit.Attributes.Concat(unit.Methods.Select(method => method.Name)).Where(name => ScriptOperators.IsTensorMethod(name) && !operators.Allows("aten", name)))
            {
                _refused.Add(new ScriptUse($"an attribute or method {name}, as which a tensor has aten::{name},", unit.File, unit.Lines[0].Number));
            }
        }

        if (_refused.Count > 0)
        {
            throw ScriptErrors.Refused(_refused);
        }
    }

    /// <summary>Qualified name of the archive's code that a chain of names begins with.</summary>
    /// <param name="units">The archive's code, by qualified name.</param>
    /// <param name="line">The line.</param>
    /// <param name="at">Where <c>__torch__</c> stands on it.</param>
    /// <param name="end">Where what follows the name begins; where the chain ends, if the archive has no such code.</param>
    /// <returns>The unit; null where there is none.</returns>
    public static ScriptUnit? Find(IReadOnlyDictionary<string, ScriptUnit> units, ScriptLine line, int at, out int end)
    {
        var name = line.Tokens[at].Text;
        end = at + 1;

        // The time for a name must not grow with the square of its length.
        var last = at + (2 * ScriptLimits.NameParts);
        while (end < last && line.At(end).Is('.') && line.At(end + 1).Kind == ScriptTokenKind.Name)
        {
            name = $"{name}.{line.At(end + 1).Text}";
            end += 2;
            if (units.TryGetValue(name, out var unit))
            {
                return unit;
            }
        }

        return null;
    }

    private static HashSet<string> Bound(ScriptUnit unit)
    {
        var bound = new HashSet<string>(StringComparer.Ordinal);
        foreach (var line in unit.Lines)
        {
            for (var i = 0; i < line.Tokens.Length && line.Tokens[i].Kind == ScriptTokenKind.Name; i += 2)
            {
                if (line.At(i + 1).Is('='))
                {
                    _ = bound.Add(line.Tokens[i].Text);
                }

                if (!line.At(i + 1).Is(','))
                {
                    break;
                }
            }
        }

        return bound;
    }

    private void CheckLine(ScriptLine line, string file, HashSet<string> bound)
    {
        var chain = 0;
        SetsAttributes |= line.At(1).Is('.') && line.Tokens.Any(token => token.Is('='));
        for (var i = 0; i < line.Tokens.Length; i++)
        {
            var token = line.Tokens[i];
            chain += IsLink(line, i) ? 1 : 0;
            if (token.Kind == ScriptTokenKind.Name)
            {
                i = CheckName(line, i, file, bound) - 1;
            }
            else if (token.Is('.') && line.At(i + 1).Kind != ScriptTokenKind.Name && !(line.At(i + 1).Is('.') && line.At(i + 2).Is('.')) && !(line.At(i - 1).Is('.')))
            {
                throw ScriptErrors.Malformed("a dot is followed by no name", file, token.Line);
            }
        }

        if (chain > ScriptLimits.Chain)
        {
            throw ScriptErrors.Limit($"the statement at {file}:{line.Number} has {chain} operators and calls of calls in one; at most {ScriptLimits.Chain} are taken");
        }
    }

    // What takes the compiler one level down for each that follows another.
    private static bool IsLink(ScriptLine line, int at)
    {
        var (token, before) = (line.Tokens[at], line.At(at - 1));
        var isBehindValue = before.Kind != ScriptTokenKind.Symbol || before.Is(')') || before.Is(']') || before.Is('}');
        return token.Kind == ScriptTokenKind.Symbol
            ? token.Text[0] switch
            {
                '(' or '[' => before.Is(')') || before.Is(']'),
                '+' or '-' => isBehindValue || before.Is('-') || before.Is('+') || before.Is('~'),
                '*' or '/' or '%' or '@' or '&' or '|' or '^' or '<' or '>' or '!' or '~' => true,
                _ => false,
            }
            : token.Kind == ScriptTokenKind.Name && token.Text is "and" or "or" or "not" or "if" or "in" or "is";
    }

    // Gives back where the check goes on.
    private int CheckName(ScriptLine line, int at, string file, HashSet<string> bound)
    {
        var token = line.Tokens[at];
        if (line.At(at - 1).Is('.'))
        {
            CheckMember(token.Text, file, token.Line);
            return at + 1;
        }

        switch (token.Text)
        {
            // It is believed whatever it is said; the objects of a class are told apart by nothing but that.
            case "unchecked_cast" when NamesClass(line, at + 1):
                _refused.Add(new ScriptUse("unchecked_cast to a class", file, token.Line));
                return at + 1;
            case "torch":
                return CheckOperator("aten", line, at + 1, file);
            case "ops":
                return line.At(at + 1).Is('.') && line.At(at + 2).Kind == ScriptTokenKind.Name
                    ? CheckOperator(line.At(at + 2).Text, line, at + 3, file)
                    : throw ScriptErrors.Malformed("ops names no operator", file, token.Line);
            case "__torch__":
                if (Find(units, line, at, out var end) is null)
                {
                    _refused.Add(new ScriptUse(string.Concat(line.Tokens[at..end].Select(part => part.Text)), file, token.Line));
                }

                // __torch__.A.__new__(__torch__.A) makes an object, for __init__ to fill.
                return line.At(end).Is('.') && line.At(end + 1).Is("__new__") ? end + 2 : end;
            case "CONSTANTS":
                return line.At(at + 1).Is('.') && line.At(at + 2).Kind == ScriptTokenKind.Name && line.At(at + 2).Text is ['c', .. var digits] && digits.All(char.IsAsciiDigit)
                    ? at + 3
                    : throw ScriptErrors.Malformed("CONSTANTS names no constant", file, token.Line);
            case "getattr":
                CheckGetAttribute(line, at, file);
                return at + 1;
        }

        if (Never.Contains(token.Text) && !IsKeyword(line, at))
        {
            _refused.Add(new ScriptUse(token.Text, file, token.Line));
        }
        else if (line.At(at + 1).Is('(') && !line.At(at - 1).Is("def") && !line.At(at - 1).Is("class") && !Callable.Contains(token.Text) && !bound.Contains(token.Text))
        {
            _refused.Add(new ScriptUse(token.Text, file, token.Line));
        }

        return at + 1;
    }

    // The name of an argument: f(x, id=3).
    private static bool IsKeyword(ScriptLine line, int at) => line.At(at + 1).Is('=') && !line.At(at + 2).Is('=') && (line.At(at - 1).Is('(') || line.At(at - 1).Is(','));

    private int CheckOperator(string space, ScriptLine line, int at, string file)
    {
        if (!line.At(at).Is('.') || line.At(at + 1).Kind != ScriptTokenKind.Name)
        {
            throw ScriptErrors.Malformed($"{line.At(at - 1).Text} names no operator", file, line.At(at - 1).Line);
        }

        var name = line.At(at + 1).Text;
        if (Divides.Contains(name) && !operators.Adds(space, name) && !HasLiteralDivisor(line, at + 2))
        {
            _refused.Add(new ScriptUse($"{space}::{name} by something else than a literal, which may be zero,", file, line.At(at + 1).Line));
        }
        else if (!operators.Allows(space, name))
        {
            _refused.Add(new ScriptUse($"{space}::{name}", file, line.At(at + 1).Line));
        }
        else
        {
            _ = _used.Add($"{space}::{name}");
        }

        return at + 2;
    }

    // (a type that names a class, …).
    private static bool NamesClass(ScriptLine line, int at)
    {
        var depth = 0;
        for (var i = at; i < line.Tokens.Length; i++)
        {
            var token = line.Tokens[i];
            depth += token.Is('(') || token.Is('[') ? 1 : token.Is(')') || token.Is(']') ? -1 : 0;
            if (depth == 0 || (depth == 1 && token.Is(',')))
            {
                break;
            }

            if (token.Is("__torch__"))
            {
                return true;
            }
        }

        return false;
    }

    // (…, 7): a number above zero stands alone behind the last comma.
    private static bool HasLiteralDivisor(ScriptLine line, int at)
    {
        var (depth, end) = (0, at);
        for (; end < line.Tokens.Length; end++)
        {
            depth += line.At(end).Is('(') || line.At(end).Is('[') || line.At(end).Is('{') ? 1 : line.At(end).Is(')') || line.At(end).Is(']') || line.At(end).Is('}') ? -1 : 0;
            if (depth == 0)
            {
                break;
            }
        }

        return line.At(at).Is('(') && line.At(end - 1).Kind == ScriptTokenKind.Number && line.At(end - 2).Is(',') && line.At(end - 1).Text.Any(c => c is >= '1' and <= '9');
    }

    private void CheckMember(string name, string file, int line)
    {
        var isAllowed = !(Divides.Contains(name) && !operators.Adds("aten", name)) && (operators.Allows("aten", name) || (!ScriptOperators.IsTensorMethod(name) && (_members.Contains(name) || Properties.Contains(name))));
        if (!isAllowed)
        {
            _refused.Add(new ScriptUse(ScriptOperators.IsTensorMethod(name) ? $"aten::{name}" : $".{name}", file, line));
        }
    }

    // getattr(object, "name"), as the printer writes a name that is no identifier: "0".
    private void CheckGetAttribute(ScriptLine line, int at, string file)
    {
        var (depth, end) = (0, at + 1);
        for (; end < line.Tokens.Length; end++)
        {
            depth += line.At(end).Is('(') ? 1 : line.At(end).Is(')') ? -1 : 0;
            if (depth == 0)
            {
                break;
            }
        }

        if (!line.At(at + 1).Is('(') || line.At(end - 1).Kind != ScriptTokenKind.String || !line.At(end - 2).Is(',') || line.At(end - 1).Text.Contains('\\', StringComparison.Ordinal))
        {
            throw ScriptErrors.Malformed("getattr names its attribute otherwise than by one plain string", file, line.At(at).Line);
        }

        var name = line.At(end - 1).Text;
        if (name.Length == 0 || char.IsAsciiLetter(name[0]) || name[0] == '_')
        {
            CheckMember(name, file, line.At(at).Line);
        }
    }
}
