using System.Globalization;

namespace Sconce.Server.Configuration;

/// <summary>Reads and writes sizes and durations as people write them in settings.</summary>
internal static class Units
{
    private static readonly (string Suffix, long Factor)[] Sizes =
    [
        ("KiB", 1L << 10), ("MiB", 1L << 20), ("GiB", 1L << 30), ("TiB", 1L << 40), ("B", 1),
    ];

    private static readonly (string Suffix, double Seconds)[] Durations =
    [
        ("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400),
    ];

    /// <summary>Parses "268435456", "256MiB" or "1.5 GiB".</summary>
    public static bool TryParseBytes(string text, out long bytes)
    {
        text = text.Trim();
        foreach (var (suffix, factor) in Sizes)
        {
            if (text.EndsWith(suffix, StringComparison.OrdinalIgnoreCase)
                && double.TryParse(text.AsSpan(0, text.Length - suffix.Length), NumberStyles.AllowDecimalPoint | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out var number)
                && number * factor < long.MaxValue)
            {
                bytes = (long)(number * factor);
                return true;
            }
        }

        return long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out bytes);
    }

    /// <summary>Parses "30s", "500ms", "5m", "1h", "1d" or "00:00:30".</summary>
    public static bool TryParseDuration(string text, out TimeSpan duration)
    {
        text = text.Trim();
        foreach (var (suffix, seconds) in Durations)
        {
            if (text.EndsWith(suffix, StringComparison.Ordinal)
                && double.TryParse(text.AsSpan(0, text.Length - suffix.Length), NumberStyles.Float, CultureInfo.InvariantCulture, out var number)
                && Math.Abs(number * seconds) < TimeSpan.MaxValue.TotalSeconds)
            {
                duration = TimeSpan.FromSeconds(number * seconds);
                return true;
            }
        }

        // A bare number would be read as days: refuse it, since its writer most likely meant seconds.
        duration = default;
        return text.Contains(':', StringComparison.Ordinal) && TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out duration);
    }

    /// <summary>Writes a duration so that <see cref="TryParseDuration"/> reads it back: "30s", "0.5s".</summary>
    public static string Format(TimeSpan duration) => string.Create(CultureInfo.InvariantCulture, $"{duration.TotalSeconds:0.###}s");
}
