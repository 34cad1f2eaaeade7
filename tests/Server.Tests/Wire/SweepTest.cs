namespace Sconce.Server.Tests.Wire;

/// <summary>A server with what the requests of <see cref="RequestSweep"/> are about; none of its tests may find a fault of it.</summary>
public abstract class SweepTest : IAsyncLifetime
{
    private readonly DirectoryInfo _data = Directory.CreateTempSubdirectory("sconce-sweep-");

    private protected RunningServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Server = await RunningServer.StartAsync(options => options.Engine.Data = _data.FullName);
        await Make.ModuleAsync(Server, "m", Make.Linear(1, 1));
        await Server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD" });
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(Server.Errors);
        await Server.DisposeAsync();
        _data.Delete(recursive: true);
        GC.SuppressFinalize(this);
    }
}
