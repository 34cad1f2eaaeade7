using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Sconce.Engine.Tests.Weights.Fuzz;

/// <summary>Spoils JSON token by token, so that what comes out is often still JSON, and wrong in what it says.</summary>
internal static partial class JsonMutator
{
    private static readonly string[] Numbers =
    [
        "0", "-0", "1", "-1", "2", "4", "8", "64", "65", "1e0", "1.0", "0.5", "1e400", "00", "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616", "99999999999999999999999999",
    ];

    private static readonly string[] Literals =
    [
        "\"\"", "\"a\"", "\"\\u0061\"", "\"\\ud800\"", "\"\\ud83d\\ude00\"", "\"\\u0000\"", "\"\\n\"", "\"__metadata__\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"F32\"", "\"f32\"", "\"BOOL\"", "\"C64\"", "\"F8_E4M3\"", "\"U16\"",
        "null", "true", "[]", "{}", "[0]", "[0,0]", "[0,4]", "{\"a\":\"b\"}", "[[[[[[[[[[[[]]]]]]]]]]]]",
    ];

    private static readonly string[] Marks = ["{", "}", "[", "]", ",", ":", " ", "\n", "\"", "\\", "\0", "/"];

    /// <summary>A text with one to four changes.</summary>
    /// <param name="random">Decides.</param>
    /// <param name="json">The text.</param>
    public static string Mutate(Random random, string json)
    {
        var tokens = Token().Matches(json).Select(match => match.Value).ToList();
        for (var changes = 1 << random.Next(3); changes > 0 && tokens.Count > 0; changes--)
        {
            Change(random, tokens);
        }

        return tokens.Aggregate(new StringBuilder(), (text, token) => text.Append(token)).ToString();
    }

    private static void Change(Random random, List<string> tokens)
    {
        var at = random.Next(tokens.Count);
        switch (random.Next(10))
        {
            case 0:
                Replace(char.IsAsciiDigit, Numbers);
                break;
            case 1:
                Replace(first => first == '"', Literals);
                break;
            case 2:
                // A value of the file in another's place: this is what makes overlaps, repeats and shapes that do not fit.
                var kind = tokens[at][0];
                var same = tokens.Where(token => token[0] == kind || (char.IsAsciiDigit(kind) && char.IsAsciiDigit(token[0]))).ToList();
                tokens[at] = same[random.Next(same.Count)];
                break;
            case 3:
                tokens.RemoveAt(at);
                break;
            case 4:
                tokens.Insert(at, random.Next(2) == 0 ? Marks[random.Next(Marks.Length)] : Literals[random.Next(Literals.Length)]);
                break;
            case 5:
                var other = random.Next(tokens.Count);
                (tokens[at], tokens[other]) = (tokens[other], tokens[at]);
                break;
            case 6:
                var length = Math.Min(random.Next(1, 40), tokens.Count - at);
                tokens.InsertRange(random.Next(tokens.Count + 1), tokens.GetRange(at, length));
                break;
            case 7:
                Replace(char.IsAsciiDigit, [random.Next(100).ToString(CultureInfo.InvariantCulture)]);
                break;
            case 8:
                Shift(random, tokens, at);
                break;
            default:
                var depth = random.Next(1, 40);
                tokens[at] = new string('[', depth) + tokens[at] + new string(']', depth);
                break;
        }

        void Replace(Func<char, bool> wanted, string[] by)
        {
            for (var tries = 0; tries < 8 && !wanted(tokens[at][0]); tries++)
            {
                at = random.Next(tokens.Count);
            }

            tokens[at] = by[random.Next(by.Length)];
        }
    }

    // Two numbers moved by as much: offsets that still fit the shape, and no longer their neighbours.
    private static void Shift(Random random, List<string> tokens, int at)
    {
        var by = random.Next(-4, 5);
        for (var i = at; i + 2 < tokens.Count; i++)
        {
            if (long.TryParse(tokens[i], CultureInfo.InvariantCulture, out var first) && tokens[i + 1] == "," && long.TryParse(tokens[i + 2], CultureInfo.InvariantCulture, out var second))
            {
                tokens[i] = unchecked(first + by).ToString(CultureInfo.InvariantCulture);
                tokens[i + 2] = unchecked(second + by).ToString(CultureInfo.InvariantCulture);
                return;
            }
        }
    }

    [GeneratedRegex("""\"(\\.|[^\"\\])*\"|[-+.0-9eE]+|[a-zA-Z]+|.""", RegexOptions.Singleline)]
    private static partial Regex Token();
}
