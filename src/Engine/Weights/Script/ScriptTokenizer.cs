using System.Text;

namespace Sconce.Engine.Weights.Script;

/// <summary>What a token is.</summary>
internal enum ScriptTokenKind
{
    /// <summary>A name or a keyword.</summary>
    Name,

    /// <summary>A number.</summary>
    Number,

    /// <summary>A string; its text is what stands between the quotes, escapes as they are written.</summary>
    String,

    /// <summary>One character of anything else.</summary>
    Symbol,
}

/// <summary>A token of TorchScript.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Text">Its text.</param>
/// <param name="Line">The line that it is on, from 1 on.</param>
internal readonly record struct ScriptToken(ScriptTokenKind Kind, string Text, int Line)
{
    /// <summary>Whether it is this symbol.</summary>
    public bool Is(char symbol) => Kind == ScriptTokenKind.Symbol && Text[0] == symbol;

    /// <summary>Whether it is this name.</summary>
    public bool Is(string name) => Kind == ScriptTokenKind.Name && Text == name;
}

/// <summary>A statement, or the head of one: what stands on one line, brackets closed.</summary>
/// <param name="Indent">Spaces before it.</param>
/// <param name="Tokens">Its tokens; at least one.</param>
internal sealed record ScriptLine(int Indent, ScriptToken[] Tokens)
{
    /// <summary>The line of the file that it begins on.</summary>
    public int Number => Tokens[0].Line;

    /// <summary>The token at a place; an empty symbol beyond the ends.</summary>
    public ScriptToken At(int index) => index >= 0 && index < Tokens.Length ? Tokens[index] : new ScriptToken(ScriptTokenKind.Symbol, "\0", Number);
}

/// <summary>
/// Cuts TorchScript into tokens. Of what libtorch's own lexer takes, only what its printer writes is taken here, so that the two cannot disagree about where a
/// string or a statement ends: no tabs, no line continuations, no triple quotes, no prefixes of strings, no semicolons.
/// </summary>
internal sealed class ScriptTokenizer
{
    private readonly string _text;
    private readonly string _file;
    private readonly List<ScriptLine> _lines = [];
    private readonly List<ScriptToken> _tokens = [];
    private readonly Stack<char> _open = new();
    private int _at;
    private int _line = 1;
    private int _indent;

    private ScriptTokenizer(string text, string file) => (_text, _file) = (text, file);

    /// <summary>Reads the lines of a file.</summary>
    /// <param name="bytes">Its content.</param>
    /// <param name="file">Its name, for messages.</param>
    /// <exception cref="EngineException">It holds what the printer never writes, or nests too deeply.</exception>
    public static List<ScriptLine> Read(ReadOnlySpan<byte> bytes, string file) => new ScriptTokenizer(Encoding.Latin1.GetString(bytes), file).Read();

    private List<ScriptLine> Read()
    {
        while (_at < _text.Length)
        {
            var c = _text[_at];
            if (c == '\n')
            {
                EndLine();
            }
            else if (c == ' ')
            {
                _at++;
            }
            else if (c == '#')
            {
                Comment();
            }
            else if (c is '"' or '\'')
            {
                String(c);
            }
            else if (char.IsAsciiLetter(c) || c == '_')
            {
                Name();
            }
            else if (char.IsAsciiDigit(c))
            {
                Number();
            }
            else
            {
                Symbol(c);
            }
        }

        EndLine();
        return _open.Count == 0 ? _lines : throw Odd($"\"{_open.Peek()}\" is never closed");
    }

    private void EndLine()
    {
        if (_open.Count == 0 && _tokens.Count > 0)
        {
            _lines.Add(new ScriptLine(_indent, [.. _tokens]));
            _tokens.Clear();
        }

        _at++;
        _line++;
    }

    private void Add(ScriptTokenKind kind, int start)
    {
        if (_tokens.Count == 0)
        {
            var begin = start == 0 ? 0 : _text.LastIndexOf('\n', start - 1) + 1;
            _indent = start - begin;
        }

        _tokens.Add(new ScriptToken(kind, _text[start.._at], _line));
    }

    // libtorch reads a comment that gives a type, "# type: …", as code.
    private void Comment()
    {
        var end = _text.IndexOf('\n', _at);
        end = end < 0 ? _text.Length : end;
        if (_text.AsSpan(_at, end - _at).Contains("type", StringComparison.Ordinal))
        {
            throw Odd("it has a comment that gives a type");
        }

        _at = end;
    }

    private void String(char quote)
    {
        var start = ++_at;
        if (start > 1 && (char.IsAsciiLetterOrDigit(_text[start - 2]) || _text[start - 2] is '_' or '"' or '\''))
        {
            throw Odd("a quote follows a name, a number or another quote");
        }

        while (_at < _text.Length && _text[_at] != quote)
        {
            if (_text[_at] is '\n' or '\0')
            {
                break;
            }

            _at += _text[_at] == '\\' ? 2 : 1;
        }

        if (_at >= _text.Length || _text[_at] != quote)
        {
            throw Odd("a string is not closed on its line");
        }

        Add(ScriptTokenKind.String, start);
        _at++;
    }

    private void Name()
    {
        var start = _at;
        while (_at < _text.Length && (char.IsAsciiLetterOrDigit(_text[_at]) || _text[_at] == '_'))
        {
            _at++;
        }

        Add(ScriptTokenKind.Name, start);
    }

    private void Number()
    {
        var start = _at;
        Digits();
        if (_at < _text.Length && _text[_at] == '.')
        {
            _at++;
            Digits();
        }

        if (_at < _text.Length && _text[_at] is 'e' or 'E')
        {
            _at++;
            _at += _at < _text.Length && _text[_at] is '+' or '-' ? 1 : 0;
            Digits();
        }

        _at += _at < _text.Length && _text[_at] == 'j' ? 1 : 0;
        Add(ScriptTokenKind.Number, start);
        if (_at < _text.Length && (char.IsAsciiLetterOrDigit(_text[_at]) || _text[_at] is '_' or '.'))
        {
            throw Odd("a number runs into a name");
        }
    }

    private void Digits()
    {
        while (_at < _text.Length && char.IsAsciiDigit(_text[_at]))
        {
            _at++;
        }
    }

    private void Symbol(char c)
    {
        switch (c)
        {
            case '(' or '[' or '{':
                _open.Push(c == '(' ? ')' : c == '[' ? ']' : '}');
                if (_open.Count > ScriptLimits.Depth)
                {
                    throw ScriptErrors.Limit($"more than {ScriptLimits.Depth} brackets are open at {_file}:{_line}");
                }

                break;
            case ')' or ']' or '}':
                if (!_open.TryPop(out var expected) || expected != c)
                {
                    throw Odd($"\"{c}\" closes nothing");
                }

                break;
            case not ('.' or ',' or ':' or '=' or '+' or '-' or '*' or '/' or '%' or '<' or '>' or '!' or '&' or '|' or '^' or '~' or '@'):
                throw Odd(c is > ' ' and < '\x7f' ? $"it has the character \"{c}\" outside a string" : $"it has the byte 0x{(int)c:x2} outside a string");
        }

        _at++;
        Add(ScriptTokenKind.Symbol, _at - 1);
    }

    private EngineException Odd(string what) => ScriptErrors.Malformed(what, _file, _line);
}
