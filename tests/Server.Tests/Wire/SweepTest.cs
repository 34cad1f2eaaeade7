namespace Sconce.Server.Tests.Wire;

/// <summary>A server with what the requests of <see cref="RequestSweep"/> are about; none of its tests may find a fault of it.</summary>
public abstract class SweepTest : IAsyncLifetime
{
    private readonly DirectoryInfo _data = System.IO.Directory.CreateTempSubdirectory("sconce-sweep-");

    private protected RunningServer Server { get; private set; } = null!;

    /// <summary>The server's directory of weights, in and out; it holds <c>m.safetensors</c>, the weights of module m.</summary>
    private protected string Directory { get; } = System.IO.Directory.CreateTempSubdirectory("sconce-files-").FullName;

    public async ValueTask InitializeAsync()
    {
        Server = await RunningServer.StartAsync(options =>
        {
            options.Engine.ModelsDir = options.Engine.ExportDir = Directory;
            options.Engine.Data = _data.FullName;
            options.SharedMemorySocket = Path.Combine(_data.FullName, "shm.sock");
        });
        await Make.ModuleAsync(Server, "m", Make.Linear(1, 1));
        await Server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD" });
        await Server.State.SaveStateFileAsync(new() { Module = "m", File = "m.safetensors" });
        Server.Share(Path.Combine(Directory, "m.safetensors"));
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(Server.Errors);
        await Server.DisposeAsync();
        _data.Delete(recursive: true);
        System.IO.Directory.Delete(Directory, recursive: true);
        GC.SuppressFinalize(this);
    }
}
