using System.Diagnostics;
using System.Runtime.InteropServices;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

/// <summary>Many callers on one module: what the notes on TorchSharp saw go wrong without a gate.</summary>
public sealed class ConcurrencyTests
{
    private const int Wide = 64;

    // A soak asks for many more, and has the time.
    private static readonly int TornForwards = Setting("SCONCE_TORN_FORWARDS", 100);
    private static readonly int TornLoads = Setting("SCONCE_TORN_LOADS", 20);

    [Fact]
    public async Task Forwards_beside_loads_never_see_torn_weights()
    {
        await using var host = Host(options => { options.Lanes = 4; options.MaxQueue = options.MaxQueuePerModule = 10_000; });
        var module = await host.CreateEval("m", Sequential(Linear(Wide, Wide), Linear(Wide, 1)));
        var limit = TornForwards > 100 ? TimeSpan.FromHours(2) : Limit;
        using var stop = new CancellationTokenSource(limit);
        var began = Stopwatch.GetTimestamp();
        var forwards = 0;

        // Two seconds of it, and longer on a machine that does little in them.
        bool IsEnough() => stop.IsCancellationRequested
            || (Stopwatch.GetElapsedTime(began) > TimeSpan.FromSeconds(2) && Volatile.Read(ref forwards) > TornForwards && module.Summary.Generation > (ulong)TornLoads);
        var writer = Task.Run(async () =>
        {
            for (var value = 1f; !IsEnough(); value = value == 1 ? 2 : 1)
            {
                await Load(host, module, value);
            }
        });
        await Load(host, module, 1);

        // With every weight v, and no bias, the sum over an input of ones is Wide * Wide * v * v: torn weights give something between.
        float[] whole = [Wide * Wide, Wide * Wide * 4];
        var readers = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            while (!IsEnough())
            {
                await Task.Yield();
                var result = await module.Forward(Filled(1, 1, Wide));
                Assert.Contains(result[0], whole);
                Interlocked.Increment(ref forwards);
            }
        })).ToList();

        await Task.WhenAll(readers).WaitAsync(limit * 2);
        await writer.WaitAsync(Limit);
        Assert.True(forwards > TornForwards, $"{forwards} forwards");
        Assert.True(module.Summary.Generation > (ulong)TornLoads, $"generation {module.Summary.Generation}");
    }

    [Fact]
    public async Task Forwards_beside_conversions_and_modes_are_never_wrong()
    {
        await using var host = Host(options => { options.Lanes = 4; options.MaxQueue = options.MaxQueuePerModule = 10_000; });
        var module = await host.CreateEval("m", Mlp());
        var expected = await module.Forward(Floats([1, 4], 1, 2, 3, 4));
        using var stop = new CancellationTokenSource(Limit);
        var (changed, right) = (0, 0);
        bool IsEnough() => stop.IsCancellationRequested || (Volatile.Read(ref changed) >= 50 && Volatile.Read(ref right) >= 500);
        var changes = Task.Run(async () =>
        {
            while (!IsEnough())
            {
                // To double and back loses nothing; between them no forward of float32 can run, and it says so.
                await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Double), default);
                await module.TrainAsync(default, true, default);
                await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Float), default);
                await module.TrainAsync(default, false, default);
                Interlocked.Increment(ref changed);
            }
        });
        var readers = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            while (!IsEnough())
            {
                // Short forwards complete at once: without this the readers would never leave the thread pool to the one who changes.
                await Task.Yield();
                try
                {
                    Assert.Equal(expected, (IEnumerable<float>)await module.Forward(Floats([1, 4], 1, 2, 3, 4)));
                    Interlocked.Increment(ref right);
                }
                catch (EngineException exception)
                {
                    Assert.Equal(EngineError.InvalidArgument, exception.Error);
                }
            }
        })).ToList();

        await Task.WhenAll([changes, .. readers]).WaitAsync(Limit * 2);
        Assert.False(stop.IsCancellationRequested, $"{changed} changes beside {right} forwards");
    }

    [Fact]
    public async Task Modules_of_one_name_created_and_deleted_by_many_never_mix()
    {
        await using var host = Host(options => { options.Lanes = 4; options.MaxQueue = options.MaxQueuePerModule = 10_000; });
        using var stop = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        var callers = Enumerable.Range(0, 6).Select(_ => Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                try
                {
                    var module = await host.CreateModuleAsync("m", Mlp(), null, ElementType.None, default);
                    (await module.ForwardAsync(Record(Filled(1, 2, 4)), default)).Dispose();
                    await host.DeleteModuleAsync("m", null, default);
                }
                catch (EngineException exception)
                {
                    Assert.True(exception.Error is EngineError.AlreadyExists or EngineError.NotFound, exception.Message);
                }
            }
        })).ToList();
        await Task.WhenAll(callers).WaitAsync(Limit);
        foreach (var module in host.ListModules(""))
        {
            await host.DeleteModuleAsync(module.Name, null, default);
        }

        Assert.Equal(0, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task Callers_that_vanish_leave_memory_where_it_was()
    {
        await using var host = Host(options => { options.MaxQueue = options.MaxQueuePerModule = options.MaxSessions = options.MaxGraphsPerModule = 100_000; });
        var module = await host.Create("m", Mlp());
        var idle = host.Ledger.UsedBytes;
        var random = new Random(3);
        var calls = new List<Task>();
        for (var i = 0; i < 2_000; i++)
        {
            var vanish = new CancellationTokenSource();
            var session = host.Sessions.Open("");
            var call = module.ForwardAsync(new ForwardCall { Inputs = new CallInputs([Filled(1, 8, 4)]), RecordGraph = true, Session = session.Id }, vanish.Token);
            calls.Add(call.ContinueWith(ended =>
            {
                if (ended.IsCompletedSuccessfully)
                {
                    ended.Result.Dispose();
                }
            }, TaskScheduler.Default));
            var delay = random.Next(3);
            calls.Add(Task.Run(async () =>
            {
                await Task.Delay(delay);
                await vanish.CancelAsync();
                session.Dispose();
            }, TestContext.Current.CancellationToken));
        }

        await Task.WhenAll(calls).WaitAsync(Limit);
        Assert.Equal(idle, host.Ledger.UsedBytes);
        Assert.Equal(0, module.Summary.LiveGraphs);
        Assert.Equal(0, host.Sessions.Count);
    }

    private static async Task Load(EngineHost host, HostedModule module, float value)
    {
        using var state = await module.GetStateAsync("", [], default);
        using var upload = host.ReserveState(state.Entries, "entries");
        for (var i = 0; i < state.Entries.Count; i++)
        {
            var values = new float[state.ByteLength(i) / 4];
            Array.Fill(values, state.Entries[i].Key.EndsWith("weight", StringComparison.Ordinal) ? value : 0);
            upload.Write(i, 0, MemoryMarshal.AsBytes(values.AsSpan()));
        }

        await module.LoadStateAsync(default, upload, true, default);
    }

    private static int Setting(string name, int otherwise) =>
        int.Parse(Environment.GetEnvironmentVariable(name) is { Length: > 0 } given ? given : $"{otherwise}", System.Globalization.CultureInfo.InvariantCulture);
}
