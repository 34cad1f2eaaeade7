using System.Diagnostics;
using Sconce.V1;

namespace Sconce.Client.Tests;

/// <summary>What the tests of streams share.</summary>
internal static class Streams
{
    // Only tests that fail wait as long: a machine may be busy with other things.
    public static readonly TimeSpan Bound = TimeSpan.FromSeconds(60);

    /// <summary>The error of one call of a stream that may be repeated at once.</summary>
    public static CallError Refusal(Grpc.Core.StatusCode code) =>
        new() { Code = (int)code, Message = "not now", Details = { Google.Protobuf.WellKnownTypes.Any.Pack(Fakes.RetryIn(5)) } };

    public static async Task UntilAsync(Func<bool> condition)
    {
        var started = Stopwatch.GetTimestamp();
        while (!condition())
        {
            Assert.True(Stopwatch.GetElapsedTime(started) < Bound, "the condition did not come true in time");
            await Task.Delay(5);
        }
    }
}
