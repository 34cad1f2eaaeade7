using System.Diagnostics;
using static TorchSharp.torch;

namespace Sconce.TorchChild;

/// <summary>Forward, backward and Adam on several threads under a thread that collects garbage in a loop.</summary>
/// <remarks>
/// Status 0 means that every round gave the very losses of a round without collections. A crash, an exception or another loss means that
/// memory in use was freed.
/// </remarks>
internal static class GcStress
{
    /// <summary>Printed once torch works, so that a failure after it is one of the stress.</summary>
    private const string Started = "one round done without collections";

    private const int Trainers = 4;
    private const int Steps = 20;

    public static int Run(int seconds)
    {
        set_num_threads(1); // one order of summation, so that equal work gives equal bits
        var expected = Round(scoped: false);
        Console.WriteLine(Started);
        var clock = Stopwatch.StartNew();
        var limit = TimeSpan.FromSeconds(seconds);
        long rounds = 0, collections = 0;
        string? failure = null;

        bool Going() => clock.Elapsed < limit && Volatile.Read(ref failure) is null;

        // Half of the trainers leave their tensors to the finalizer, half to a scope: each exposes other objects to the collector.
        var threads = Enumerable.Range(0, Trainers).Select(index => new Thread(() =>
        {
            try
            {
                while (Going())
                {
                    var losses = Round(scoped: index % 2 == 0);
                    if (!losses.AsSpan().SequenceEqual(expected))
                        Interlocked.CompareExchange(ref failure, $"losses {string.Join(' ', losses)} are not {string.Join(' ', expected)}", null);
                    Interlocked.Increment(ref rounds);
                }
            }
#pragma warning disable CA1031 // whatever it is, it is the finding
            catch (Exception exception)
            {
                Interlocked.CompareExchange(ref failure, exception.ToString(), null);
            }
#pragma warning restore CA1031
        })).ToList();
        threads.Add(new Thread(() =>
        {
            while (Going())
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                collections++;
            }
        }));

        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        Console.WriteLine($"{clock.Elapsed.TotalSeconds:F1} s, {rounds} rounds of {Steps} steps on {Trainers} threads, {collections} collections");
        if (failure is null)
            return 0;

        Console.Error.WriteLine(failure);
        return 1;
    }

    /// <summary>Trains a small network from fixed weights and returns the loss of each step.</summary>
    private static float[] Round(bool scoped)
    {
        using var scope = scoped ? NewDisposeScope() : null;
        var model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4));
        using (no_grad())
        {
            foreach (var parameter in model.parameters())
                parameter.copy_(linspace(-0.5, 0.5, parameter.NumberOfElements).view(parameter.shape));
        }

        var optimizer = optim.Adam(model.parameters(), lr: 0.01);
        var input = linspace(-1, 1, 64).view(8, 8);
        var target = linspace(1, -1, 32).view(8, 4).mul(0.5f);
        var losses = new float[Steps];
        for (var step = 0; step < Steps; step++)
        {
            optimizer.zero_grad();
            var loss = nn.functional.mse_loss(model.call(input), target).mul(0.5f).add(0.25f);
            loss.backward();
            optimizer.step();
            losses[step] = loss.item<float>();
        }

        return losses;
    }
}
