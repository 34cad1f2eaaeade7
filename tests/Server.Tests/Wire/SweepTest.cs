namespace Sconce.Server.Tests.Wire;

/// <summary>A server with what the requests of <see cref="RequestSweep"/> are about; none of its tests may find a fault of it.</summary>
public abstract class SweepTest : IAsyncLifetime
{
    private protected RunningServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Server = await RunningServer.StartAsync();
        await Make.ModuleAsync(Server, "m", Make.Linear(1, 1));
        await Server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD" });
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(Server.Errors);
        await Server.DisposeAsync();
        GC.SuppressFinalize(this);
    }
}
