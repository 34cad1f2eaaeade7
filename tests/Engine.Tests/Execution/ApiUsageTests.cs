using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class ApiUsageTests
{
    [Fact]
    public async Task Each_type_and_method_is_counted_every_time_and_logged_once()
    {
        using var lines = new Lines();
        await using var host = new EngineHost(new EngineOptions { Lanes = 2, IntraOpThreads = 1 }, lines);
        var counts = new ConcurrentDictionary<(string Instrument, object? Tag), long>();
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter == host.Usage.Meter)
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((instrument, count, tags, _) => counts.AddOrUpdate((instrument.Name, tags[0].Value), count, (_, sum) => sum + count));
        listener.Start();

        var module = await host.Create("m", Mlp());
        await module.AddModuleAsync(default, "norm", Of("BatchNorm1d", ("num_features", 2.0)), null, ElementType.None, default);
        await host.Create("n", Linear(1, 1));
        host.Usage.Called("/sconce.v1.ModuleService/Train");
        host.Usage.Called("/sconce.v1.ModuleService/Train");

        Assert.Equal("Sconce", host.Usage.Meter.Name);
        Assert.Equal(
            [("sconce.calls", "/sconce.v1.ModuleService/Train", 2), ("sconce.modules.created", "BatchNorm1d", 1), ("sconce.modules.created", "Linear", 3), ("sconce.modules.created", "ReLU", 1), ("sconce.modules.created", "Sequential", 1)],
            counts.Select(entry => (entry.Key.Instrument, (string)entry.Key.Tag!, entry.Value)).Order());
        Assert.Equal(
            ["Sequential", "Linear", "ReLU", "BatchNorm1d", "/sconce.v1.ModuleService/Train"],
            lines.All.Where(line => line.Event == "ApiUsage" && line.Level == LogLevel.Information).Select(line => line.Name));
    }

    private sealed class Lines : ILoggerFactory, ILogger
    {
        public ConcurrentQueue<(LogLevel Level, string? Event, object? Name)> All { get; } = new();

        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            All.Enqueue((logLevel, eventId.Name, (state as IReadOnlyList<KeyValuePair<string, object?>>)?.FirstOrDefault(pair => pair.Key == "Name").Value));

        public void Dispose()
        {
        }
    }
}
