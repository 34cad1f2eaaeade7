using System.Diagnostics;

namespace Sconce.Server.Tests.Wire;

/// <summary>Waits, within bounds, for what happens after an answer was sent.</summary>
internal static class Eventually
{
    // Only tests that fail wait as long: a machine may be busy with other things.
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(60);

    public static async Task TrueAsync(Func<Task<bool>> condition)
    {
        for (var started = Stopwatch.GetTimestamp(); !await condition(); await Task.Delay(50))
        {
            Assert.True(Stopwatch.GetElapsedTime(started) < Bound, $"did not become true within {Bound}");
        }
    }

    public static Task TrueAsync(Func<bool> condition) => TrueAsync(() => Task.FromResult(condition()));
}
