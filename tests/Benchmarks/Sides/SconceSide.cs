using Sconce.Benchmarks.Harness;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Benchmarks.Sides;

/// <summary>Calls the Sconce side as a .NET caller does, through the client SDK; where a row says "stub", through the generated code alone.</summary>
internal sealed class SconceSide : IAsyncDisposable
{
    /// <summary>Bytes of one tensor of a state dict: those of a transformer's matrices have some megabytes each.</summary>
    public const int StateTensorBytes = StateSide * StateSide * sizeof(float);

    private const int StateSide = 1024;
    private const string IdentityName = "identity";

    private readonly SconceClient _client;
    private readonly ExecutionService.ExecutionServiceClient _stub;
    private readonly RemoteModule _identity;
    private readonly RemoteModule _mlp;
    private readonly RemoteModule _trained;

    private SconceSide(SconceClient client, ExecutionService.ExecutionServiceClient stub, RemoteModule identity, RemoteModule mlp, RemoteModule trained) =>
        (_client, _stub, _identity, _mlp, _trained) = (client, stub, identity, mlp, trained);

    /// <summary>Connects and makes the modules that the scenarios call.</summary>
    public static async Task<SconceSide> CreateAsync(string address, ExecutionService.ExecutionServiceClient stub)
    {
        var client = new SconceClient(address);
        var identity = await client.CreateModuleAsync(IdentityName, Nn.Module("Identity"));
        var mlp = await client.CreateModuleAsync("mlp", MlpSpec());
        var trained = await client.CreateModuleAsync("mlp-trained", MlpSpec());
        await identity.EvalAsync();
        await mlp.EvalAsync();
        await trained.CreateOptimizerAsync("SGD", [("lr", Mlp.LearningRate)]);
        return new SconceSide(client, stub, identity, mlp, trained);
    }

    /// <summary>Bytes of a Forward of Identity on the wire, each way.</summary>
    public async Task<(int Request, int Response)> IdentitySizesAsync(int elements)
    {
        var request = IdentityRequest(elements);
        var response = await _stub.ForwardAsync(request);
        return (request.CalculateSize(), response.CalculateSize());
    }

    /// <summary>Forward of Identity.</summary>
    public Func<Task> Identity(int elements)
    {
        var input = Floats(elements);
        return () => _identity.ForwardAsync(input);
    }

    /// <summary>Forward of Identity through the generated stub.</summary>
    public Func<Task> IdentityByStub(int elements)
    {
        var request = IdentityRequest(elements);
        return async () => await _stub.ForwardAsync(request);
    }

    /// <summary>Forward of the MLP.</summary>
    public Func<Task> Forward(int batch)
    {
        var input = Floats(batch, Mlp.Inputs);
        return () => _mlp.ForwardAsync(input);
    }

    /// <summary>One TrainStep.</summary>
    public Func<Task> TrainStep(int batch)
    {
        var (input, targets) = (Floats(batch, Mlp.Inputs), Classes(batch));
        var loss = Nn.CrossEntropyLoss();
        return () => _trained.TrainStepAsync(input, targets, loss);
    }

    /// <summary>TrainStream with a number of steps in flight. Its p50 is a step's time from its sending to its answer, its waiting included.</summary>
    public Side TrainStream(string name, int batch, int inFlight) => new(name, async duration =>
    {
        var (input, targets) = (Floats(batch, Mlp.Inputs), Classes(batch));
        await using var stream = _trained.OpenTrainStream(Nn.CrossEntropyLoss(), maxInFlight: inFlight);
        return await Side.Calls(name, () => stream.StepAsync(input, targets), inFlight).RunBlock(duration);
    });

    /// <summary>PutTensor of so many bytes, and DropTensor, which costs next to nothing.</summary>
    public Func<Task> Put(int bytes)
    {
        var tensor = Floats(bytes / sizeof(float));
        return async () =>
        {
            var kept = await _client.PutTensorAsync(tensor);
            await kept.DropAsync();
        };
    }

    /// <summary>GetTensor of so many bytes.</summary>
    public async Task<Func<Task>> GetAsync(int bytes)
    {
        var kept = await _client.PutTensorAsync(Floats(bytes / sizeof(float)));
        return () => kept.GetAsync();
    }

    /// <summary>
    /// LoadStateDict of so many tensors of <see cref="StateTensorBytes"/>, into a module that has them. The tensors share one memory in the caller's process, which is no
    /// part of what is measured.
    /// </summary>
    public async Task<LoadedModule> LoadAsync(int tensors)
    {
        var module = await _client.CreateModuleAsync($"state-{tensors}", Nn.Sequential([.. Enumerable.Repeat(Nn.Linear(StateSide, StateSide, bias: false), tensors)]));
        var (values, state) = (Floats(StateSide, StateSide), new StateDict());
        for (var i = 0; i < tensors; i++)
        {
            state.Add($"{i}.weight", values);
        }

        return new LoadedModule(module, () => module.LoadStateDictAsync(state));
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _client.DisposeAsync();

    private static ForwardRequest IdentityRequest(int elements) => new()
    {
        Module = IdentityName,
        Inputs =
        {
            new Tensor { Dtype = DataType.Float32, Shape = { elements }, Data = Google.Protobuf.UnsafeByteOperations.UnsafeWrap(Floats(elements).Bytes) },
        },
    };

    private static ModuleSpec MlpSpec() => Nn.Sequential(
        Nn.Linear(Mlp.Inputs, Mlp.Hidden), Nn.ReLU(), Nn.Linear(Mlp.Hidden, Mlp.Hidden), Nn.ReLU(), Nn.Linear(Mlp.Hidden, Mlp.Classes));

    private static TensorData Floats(params ReadOnlySpan<long> shape)
    {
        var length = 1L;
        foreach (var size in shape)
        {
            length *= size;
        }

        var values = new float[length];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = i % 251 / 251f;
        }

        return TensorData.Create(values, shape);
    }

    private static TensorData Classes(int batch) => TensorData.Create(Enumerable.Range(0, batch).Select(i => (long)(i % Mlp.Classes)).ToArray());
}

/// <summary>A module, deleted when this is disposed, and a call that loads its state dict.</summary>
/// <param name="Module">The module.</param>
/// <param name="Load">The call.</param>
internal sealed record LoadedModule(RemoteModule Module, Func<Task> Load) : IAsyncDisposable
{
    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await Module.DeleteAsync();
}
