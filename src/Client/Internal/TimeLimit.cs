namespace Sconce.Client.Internal;

/// <summary>Which time limits a call may have.</summary>
internal static class TimeLimit
{
    /// <summary>Somewhat less than the longest time that .NET's timers take, 2^32 ms.</summary>
    public static readonly TimeSpan Longest = TimeSpan.FromDays(49);

    public static bool IsValid(TimeSpan? limit) =>
        limit is not { } time || time == Timeout.InfiniteTimeSpan || (time > TimeSpan.Zero && time <= Longest);

    /// <summary>The limit; null is none, however that was said.</summary>
    public static TimeSpan? OrNone(TimeSpan? limit) => limit == Timeout.InfiniteTimeSpan ? null : limit;
}
