using System.Globalization;

namespace Sconce.Server;

/// <summary>One setting: its name in files, environment and command line, and how it reads and writes <see cref="SconceServerOptions"/>.</summary>
public sealed class ServerSetting
{
    private readonly Func<SconceServerOptions, string> _read;
    private readonly Func<SconceServerOptions, string, bool> _write;

    internal ServerSetting(
        string name, string expected, string description, Func<SconceServerOptions, string> read, Func<SconceServerOptions, string, bool> write)
    {
        Name = name;
        Expected = expected;
        Description = description;
        _read = read;
        _write = write;
        Default = read(new SconceServerOptions());
    }

    /// <summary>Its name, e.g. <c>max_message_bytes</c>. <c>--max-message-bytes</c> on the command line, <c>SCONCE__MAX_MESSAGE_BYTES</c> in the environment.</summary>
    public string Name { get; }

    /// <summary>What it does.</summary>
    public string Description { get; }

    /// <summary>What a value looks like, e.g. <c>a size such as 256MiB</c>.</summary>
    public string Expected { get; }

    /// <summary>Its value where nobody sets it.</summary>
    public string Default { get; }

    /// <summary>Whether it is true or false, so that its bare name on a command line means true.</summary>
    public bool IsFlag => Default is "true" or "false";

    /// <summary>Its value in <paramref name="options"/>.</summary>
    /// <param name="options">The options.</param>
    public string Read(SconceServerOptions options) => _read(options);

    /// <summary>Sets it; false where the text is not what <see cref="Expected"/> says.</summary>
    /// <param name="options">The options.</param>
    /// <param name="value">The value as text.</param>
    public bool TryWrite(SconceServerOptions options, string value) => _write(options, value);

    internal static ServerSetting Text(string name, string description, Func<SconceServerOptions, string> get, Action<SconceServerOptions, string> set) =>
        new(name, "text", description, get, (options, text) =>
        {
            set(options, text);
            return true;
        });

    internal static ServerSetting Flag(string name, string description, Func<SconceServerOptions, bool> get, Action<SconceServerOptions, bool> set) =>
        new(name, "true or false", description, options => get(options) ? "true" : "false", (options, text) =>
        {
            var ok = bool.TryParse(text, out var value);
            if (ok)
            {
                set(options, value);
            }

            return ok;
        });

    internal static ServerSetting Integer(string name, string description, Func<SconceServerOptions, int> get, Action<SconceServerOptions, int> set) =>
        new(name, "a whole number", description, options => get(options).ToString(CultureInfo.InvariantCulture), (options, text) =>
        {
            var ok = int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value);
            if (ok)
            {
                set(options, value);
            }

            return ok;
        });

    internal static ServerSetting Bytes(string name, string description, Func<SconceServerOptions, long> get, Action<SconceServerOptions, long> set) =>
        new(name, "a size such as 268435456 or 256MiB", description, options => get(options).ToString(CultureInfo.InvariantCulture), (options, text) =>
        {
            var ok = Configuration.Units.TryParseBytes(text, out var value);
            if (ok)
            {
                set(options, value);
            }

            return ok;
        });

    internal static ServerSetting Duration(string name, string description, Func<SconceServerOptions, TimeSpan> get, Action<SconceServerOptions, TimeSpan> set) =>
        new(name, "a duration such as 30s, 500ms, 5m or 1h", description, options => Configuration.Units.Format(get(options)), (options, text) =>
        {
            var ok = Configuration.Units.TryParseDuration(text, out var value);
            if (ok)
            {
                set(options, value);
            }

            return ok;
        });

    internal static ServerSetting Choice<T>(string name, string description, Func<SconceServerOptions, T> get, Action<SconceServerOptions, T> set)
        where T : struct, Enum
    {
        // By name only: Enum.TryParse alone would also take "7".
        var names = Enum.GetNames<T>().Select(n => n.ToLowerInvariant()).ToArray();
        return new(name, "one of " + string.Join(", ", names), description, options => get(options).ToString().ToLowerInvariant(), (options, text) =>
        {
            var ok = names.Contains(text, StringComparer.OrdinalIgnoreCase);
            if (ok)
            {
                set(options, Enum.Parse<T>(text, ignoreCase: true));
            }

            return ok;
        });
    }
}
