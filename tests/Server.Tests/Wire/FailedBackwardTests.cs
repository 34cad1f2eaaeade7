using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>What libtorch can compute forward and not backward: the state forbids the call, says why in the words of one line, and gradients are as they were.</summary>
public sealed class FailedBackwardTests : IAsyncLifetime
{
    private RunningServer _server = null!;

    /// <summary>A layer behind a PReLU, which has a parameter; and the shape of an input that it takes.</summary>
    public static TheoryData<string, long[]> Layers => new()
    {
        { """{ "type": "AdaptiveAvgPool2d", "args": { "output_size": 0 } }""", [1, 1, 4, 4] },
        { """{ "type": "AdaptiveAvgPool3d", "args": { "output_size": 0 } }""", [1, 1, 4, 4, 4] },
        { """{ "type": "AdaptiveMaxPool2d", "args": { "output_size": 0 } }""", [1, 1, 4, 4] },
    };

    public async ValueTask InitializeAsync() => _server = await RunningServer.StartAsync();

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public async Task Backward_and_training_calls_are_refused_and_leave_gradients(string layer, long[] shape)
    {
        await Make.ModuleAsync(_server, "m", Make.Sequential(new V1.ModuleSpec { Type = "PReLU" }, Make.Spec(layer)));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD" });
        var input = Make.Floats(shape, [.. Enumerable.Repeat(-1f, (int)shape.Aggregate(1L, (a, b) => a * b))]);

        // A gradient from a call that works, of the part that can.
        var part = new V1.ForwardBackwardRequest { Module = "m", Path = "0", Inputs = { input }, Targets = { input }, Loss = new V1.Loss { Type = "MSELoss" } };
        await _server.Training.ForwardBackwardAsync(part);
        var gradients = await GradientsAsync();
        Assert.NotEqual(0, gradients.Single());
        var generation = (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation;

        var forward = Make.Forward("m", input);
        forward.RecordGraph = true;
        var recorded = await _server.Execution.ForwardAsync(forward);
        var output = recorded.Output.Tensor;
        var loss = new V1.Loss { Type = "MSELoss" };

        IsFailure(await Refused.OfAsync(_server.Execution.BackwardAsync(new V1.BackwardRequest { Module = "m", Graph = recorded.Graph.Id, OutputGrads = { output } }).ResponseAsync));
        IsFailure(await Refused.OfAsync(_server.Training.ForwardBackwardAsync(new V1.ForwardBackwardRequest { Module = "m", Inputs = { input }, Targets = { output }, Loss = loss }).ResponseAsync));
        IsFailure(await Refused.OfAsync(_server.Training.TrainStepAsync(new V1.TrainStepRequest { Module = "m", Inputs = { input }, Targets = { output }, Loss = loss }).ResponseAsync));

        Assert.Equal(gradients, await GradientsAsync());
        Assert.Equal(generation, (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation);

        // And they add up as before.
        await _server.Training.ForwardBackwardAsync(part);
        Assert.Equal(2 * gradients.Single(), (await GradientsAsync()).Single(), 1e-5f);
    }

    private static void IsFailure(Refused refused)
    {
        refused.Is(StatusCode.FailedPrecondition);
        Assert.Equal("BACKWARD_FAILED", refused.Reason);
        Assert.DoesNotContain("frame #", refused.Message, StringComparison.Ordinal);
    }

    private async Task<float[]> GradientsAsync()
    {
        using var call = _server.Training.GetGradients(new V1.GetGradientsRequest { Module = "m" });
        var values = new List<float>();
        await foreach (var part in call.ResponseStream.ReadAllAsync())
        {
            values.AddRange(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>((part.Chunk?.Data ?? Google.Protobuf.ByteString.Empty).Span).ToArray());
        }

        return [.. values];
    }
}
