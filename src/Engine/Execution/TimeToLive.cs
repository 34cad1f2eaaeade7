namespace Sconce.Engine.Execution;

/// <summary>Checks a time to live that a caller asked for.</summary>
internal static class TimeToLive
{
    public static TimeSpan Check(TimeSpan? asked, TimeSpan standard, EngineOptions options, string field)
    {
        if (asked is not { } ttl)
        {
            return standard;
        }

        if (ttl <= TimeSpan.Zero || ttl > options.MaxTtl)
        {
            throw EngineException.Invalid(field, $"is {EngineOptions.Seconds(ttl)}; it must be > 0 and at most max_ttl, which is {EngineOptions.Seconds(options.MaxTtl)}");
        }

        return ttl;
    }
}
