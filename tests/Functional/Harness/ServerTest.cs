using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>
/// A test on the shared server. Whatever it did, the server must afterwards answer a good call, and once its modules are deleted the
/// memory ledger must be back where it was.
/// </summary>
[Collection(SharedServerTests.Name)]
public abstract class ServerTest(SharedServer server) : IAsyncLifetime
{
    private static int _names;

    private readonly List<string> _modules = [];
    private ulong _usedBefore;

    internal Stubs Stubs => Server.Stubs;

    /// <summary>The server.</summary>
    protected SharedServer Server { get; } = server;

    /// <inheritdoc/>
    public async ValueTask InitializeAsync() => _usedBefore = await UsedBytesAsync();

    /// <inheritdoc/>
    public virtual async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        await StillAnswersAsync();
        foreach (var module in _modules)
        {
            await Stubs.Modules.DeleteModuleAsync(new DeleteModuleRequest { Module = module });
        }

        await SettlesAsync(async () => await UsedBytesAsync() == _usedBefore, async () => $"{await UsedBytesAsync()} bytes are charged; {_usedBefore} were before the test");
    }

    /// <summary>A name that no other test uses.</summary>
    protected static string NewName() => $"m{Interlocked.Increment(ref _names)}";

    /// <summary>What the ledger has charged.</summary>
    protected async Task<ulong> UsedBytesAsync() => (await Stubs.Host.GetHostAsync(new GetHostRequest())).Memory.UsedBytes;

    /// <summary>Creates a module that is deleted when the test ends.</summary>
    protected async Task<string> CreateAsync(ModuleSpec spec, bool training = true, long seed = 1)
    {
        var name = NewName();
        await Stubs.Modules.CreateModuleAsync(new CreateModuleRequest { Module = name, Spec = spec, Seed = seed });
        Owns(name);
        if (!training)
        {
            await Stubs.Modules.TrainAsync(new TrainRequest { Module = name, Mode = false });
        }

        return name;
    }

    /// <summary>Has a module deleted when the test ends.</summary>
    protected void Owns(string module) => _modules.Add(module);

    /// <summary>Says that the test has deleted a module itself.</summary>
    protected void Deleted(string module) => _modules.Remove(module);

    /// <summary>Waits, within a limit, until something holds that the server settles after the answer.</summary>
    protected static Task SettlesAsync(Func<Task<bool>> condition, Func<Task<string>> otherwise) => Eventually.TrueAsync(condition, otherwise);

    /// <summary>Expects a good call to work.</summary>
    protected async Task StillAnswersAsync()
    {
        var name = NewName();
        await Stubs.Modules.CreateModuleAsync(new CreateModuleRequest { Module = name, Spec = Specs.Identity });
        var answer = await Stubs.Execution.ForwardAsync(new ForwardRequest { Module = name, Inputs = { Wire.Floats([2], 1, 2) } });
        Assert.Equal([1, 2], answer.Floats());
        await Stubs.Modules.DeleteModuleAsync(new DeleteModuleRequest { Module = name });
    }
}
