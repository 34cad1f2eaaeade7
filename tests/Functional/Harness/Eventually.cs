using System.Diagnostics;

namespace Sconce.Functional.Harness;

/// <summary>Waits, within a limit, for what happens after an answer was sent.</summary>
internal static class Eventually
{
    // Only tests that fail wait as long: a machine may be busy with other things.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    /// <summary>Waits until the condition holds.</summary>
    public static async Task TrueAsync(Func<Task<bool>> condition, Func<Task<string>> otherwise)
    {
        for (var began = Stopwatch.GetTimestamp(); !await condition(); await Task.Delay(20))
        {
            if (Stopwatch.GetElapsedTime(began) > Limit)
            {
                Assert.Fail(await otherwise());
            }
        }
    }

    /// <summary>The same.</summary>
    public static Task TrueAsync(Func<bool> condition, Func<string> otherwise) => TrueAsync(() => Task.FromResult(condition()), () => Task.FromResult(otherwise()));
}
