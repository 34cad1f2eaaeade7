using Sconce.Client;
using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>A test that goes through the client SDK, as a .NET caller does.</summary>
public abstract class ClientTest(SharedServer server) : ServerTest(server)
{
    private SconceClient? _client;

    /// <summary>The client.</summary>
    protected SconceClient Client => _client ??= new SconceClient(Server.Process.Address.ToString());

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        if (_client is not null)
        {
            await _client.DisposeAsync();
        }

        await base.DisposeAsync();
    }

    /// <summary>Creates a module that is deleted when the test ends.</summary>
    protected async Task<RemoteModule> NewAsync(ModuleSpec spec, long seed = 1) => Client.Module(await CreateAsync(spec, seed: seed));

    /// <summary>A float32 tensor of a repeating pattern between -1 and 1.</summary>
    protected static TensorData Pattern(params long[] shape) => TensorData.FromBytes(DataType.Float32, shape, Wire.Pattern(shape).Data.Memory);

    /// <summary>Class indexes 0, 1, 2, 0, 1, 2…</summary>
    protected static TensorData Classes(int count) => TensorData.Create(Enumerable.Range(0, count).Select(i => (long)(i % 3)).ToArray());
}
