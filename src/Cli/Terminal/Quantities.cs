using System.Globalization;

namespace Sconce.Cli.Terminal;

/// <summary>Numbers as people read them.</summary>
internal static class Quantities
{
    public static string Count(long count) => count.ToString("N0", CultureInfo.InvariantCulture);

    public static string Bytes(long bytes) => bytes switch
    {
        < 1 << 10 => $"{bytes} B",
        < 1 << 20 => FormattableString.Invariant($"{bytes / 1024.0:0.0} KiB"),
        < 1 << 30 => FormattableString.Invariant($"{bytes / 1048576.0:0.0} MiB"),
        _ => FormattableString.Invariant($"{bytes / 1073741824.0:0.00} GiB"),
    };

    public static string Percent(double fraction) => FormattableString.Invariant($"{fraction * 100:0.0} %");

    public static string Seconds(TimeSpan time) => FormattableString.Invariant($"{time.TotalSeconds:0.0} s");

    /// <summary>A small magnitude: "0" where it is exactly that.</summary>
    public static string Small(double value) => value == 0 ? "0" : value.ToString("0.0e+0", CultureInfo.InvariantCulture);
}
