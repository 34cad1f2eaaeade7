using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Sconce.Engine.Tensors;

namespace Sconce.Server.Tests.Wire;

/// <summary>Forward, backward and streams over a socket: good calls, then every kind of bad one.</summary>
public sealed class ForwardTests : IAsyncLifetime
{
    private RunningServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options => options.StreamInFlight = 4);
        await Make.ModuleAsync(_server, "identity", Make.Sequential());
        await Make.ModuleAsync(_server, "linear", Make.Linear(2, 3));
    }

    public async ValueTask DisposeAsync()
    {
        // Whatever was sent: a good call is answered, nothing unforeseen was logged, and no memory is held.
        var response = await _server.Execution.ForwardAsync(Make.Forward("identity", Make.Floats([2], 1, 2)));
        Assert.Equal([1f, 2f], Make.Floats(response.Output.Tensor));
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task Forward_large_tensor_comes_back_bit_for_bit()
    {
        var values = new float[1 << 20];
        Array.Fill(values, float.Pi);
        values[12345] = -1;
        var input = Make.Floats([1 << 20], values);

        for (var i = 0; i < 5; i++)
        {
            var response = await _server.Execution.ForwardAsync(Make.Forward("identity", input));
            Assert.True(input.Data.Span.SequenceEqual(response.Output.Tensor.Data.Span));
        }
    }

    [Fact]
    public async Task Forward_of_every_type_and_shape_keeps_them()
    {
        foreach (var type in Enum.GetValues<V1.DataType>().Where(type => type != V1.DataType.Unspecified))
        {
            var size = ElementTypes.Size((ElementType)type);
            foreach (var shape in new long[][] { [], [0], [3], [2, 0, 5], [1, 2, 3] })
            {
                var data = new byte[shape.Aggregate(1L, (a, b) => a * b) * size];
                Array.Fill(data, (byte)1);
                var tensor = new V1.Tensor { Dtype = type, Shape = { shape }, Data = ByteString.CopyFrom(data) };

                var output = (await _server.Execution.ForwardAsync(Make.Forward("identity", tensor))).Output.Tensor;

                Assert.Equal(tensor, output);
            }
        }
    }

    [Fact]
    public async Task Forward_nan_and_infinity_pass_unless_refused()
    {
        var tensor = Make.Floats([3], float.NaN, float.PositiveInfinity, 1);
        Assert.Equal(tensor.Data, (await _server.Execution.ForwardAsync(Make.Forward("identity", tensor))).Output.Tensor.Data);

        var request = Make.Forward("identity", tensor);
        request.RejectNonfinite = true;

        AssertField("inputs[0]", await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(request)));
    }

    public static TheoryData<string, V1.Tensor, string, string> MalformedTensors() => new()
    {
        { "short", new V1.Tensor { Dtype = V1.DataType.Float32, Shape = { 2 }, Data = ByteString.CopyFrom(new byte[7]) }, "inputs[0]", "8" },
        { "long", new V1.Tensor { Dtype = V1.DataType.Float32, Shape = { 2 }, Data = ByteString.CopyFrom(new byte[9]) }, "inputs[0]", "9" },
        { "negative", new V1.Tensor { Dtype = V1.DataType.Float32, Shape = { 2, -1 }, Data = ByteString.Empty }, "inputs[0].shape[1]", "-1" },
        { "overflow", new V1.Tensor { Dtype = V1.DataType.Float32, Shape = { long.MaxValue, 2 }, Data = ByteString.Empty }, "inputs[0].shape", "" },
        { "rank", new V1.Tensor { Dtype = V1.DataType.Float32, Shape = { Enumerable.Repeat(1L, 65) }, Data = ByteString.CopyFrom(new byte[4]) }, "inputs[0].shape", "65" },
        { "dtype", new V1.Tensor { Dtype = (V1.DataType)99, Shape = { 1 }, Data = ByteString.CopyFrom(new byte[4]) }, "inputs[0].dtype", "99" },
        { "no dtype", new V1.Tensor { Shape = { 1 }, Data = ByteString.CopyFrom(new byte[4]) }, "inputs[0].dtype", "" },
        { "bool", new V1.Tensor { Dtype = V1.DataType.Bool, Shape = { 1 }, Data = ByteString.CopyFrom(2) }, "inputs[0]", "2" },
        { "both", new V1.Tensor { Dtype = V1.DataType.Float32, Data = ByteString.CopyFrom(new byte[4]), KeptId = "t" }, "inputs[0]", "both data and kept_id" },
        { "neither", new V1.Tensor { Dtype = V1.DataType.Float32, Shape = { 1 } }, "inputs[0]", "neither data nor kept_id" },
    };

    [Theory]
    [MemberData(nameof(MalformedTensors))]
    public async Task Forward_malformed_tensor_names_the_field(string _, V1.Tensor tensor, string field, string words)
    {
        var error = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("identity", tensor)));

        AssertField(field, error);
        Assert.Contains(words, error.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Forward_wrong_inputs_say_what_is_expected()
    {
        var missing = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("linear")));
        var extra = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("linear", Make.Floats([1, 2], 1, 2), Make.Floats([1, 2], 1, 2))));
        var unknown = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(new V1.ForwardRequest { Module = "linear", NamedInputs = { ["nothing"] = Make.Floats([1, 2], 1, 2) } }));
        var twice = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(
            new V1.ForwardRequest { Module = "linear", Inputs = { Make.Floats([1, 2], 1, 2) }, NamedInputs = { ["input"] = Make.Floats([1, 2], 1, 2) } }));
        var shape = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("linear", Make.Floats([1, 5], 1, 2, 3, 4, 5))));

        Assert.All([missing, extra, unknown, twice, shape], error => Assert.Equal(StatusCode.InvalidArgument, error.StatusCode));
        Assert.Contains("input", missing.Status.Detail, StringComparison.Ordinal);
        Assert.Contains("nothing", unknown.Status.Detail, StringComparison.Ordinal);
        Assert.Contains("[1, 5]", shape.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Forward_of_what_is_not_there_names_it()
    {
        var module = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("nobody", Make.Floats([1], 1))));
        var path = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(new V1.ForwardRequest { Module = "linear", Path = "a.b", Inputs = { Make.Floats([1], 1) } }));
        var tensor = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("linear", new V1.Tensor { KeptId = "lost" })));
        var name = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(Make.Forward("no/name\n", Make.Floats([1], 1))));

        Assert.Equal([StatusCode.NotFound, StatusCode.NotFound, StatusCode.NotFound, StatusCode.InvalidArgument], new[] { module, path, tensor, name }.Select(error => error.StatusCode));
        Assert.Equal(
            [("module", "nobody"), ("submodule", "a.b"), ("tensor", "lost")],
            new[] { module, path, tensor }.Select(error => error.GetRpcStatus()!.GetDetail<ResourceInfo>()).Select(info => (info.ResourceType, info.ResourceName)));
        Assert.DoesNotContain("\n", name.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Forward_at_another_generation_is_aborted_naming_both()
    {
        var request = Make.Forward("linear", Make.Floats([1, 2], 1, 2));
        request.IfGeneration = 77;

        var error = await RunningServer.RefusedAsync(_server.Execution.ForwardAsync(request));

        Assert.Equal(StatusCode.Aborted, error.StatusCode);
        Assert.Contains("77", error.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Backward_returns_input_gradients_and_uses_the_graph_up()
    {
        var request = Make.Forward("linear", Make.Floats([1, 2], 1, 2));
        request.RecordGraph = true;
        var forward = await _server.Execution.ForwardAsync(request);
        var backward = new V1.BackwardRequest { Module = "linear", Graph = forward.Graph.Id, OutputGrads = { Make.Floats([1, 3], 1, 1, 1) } };

        var response = await _server.Execution.BackwardAsync(backward);
        var again = await RunningServer.RefusedAsync(_server.Execution.BackwardAsync(backward));
        var unknown = await RunningServer.RefusedAsync(_server.Execution.BackwardAsync(new V1.BackwardRequest { Module = "linear", Graph = "g0" }));

        Assert.Equal([1L, 2L], Assert.Single(response.InputGrads).Shape);
        Assert.Equal((StatusCode.FailedPrecondition, StatusCode.NotFound), (again.StatusCode, unknown.StatusCode));
        Assert.NotNull(again.GetRpcStatus()!.GetDetail<PreconditionFailure>());
    }

    [Fact]
    public async Task Backward_repeated_with_its_request_id_returns_the_same_gradients()
    {
        var request = Make.Forward("linear", Make.Floats([1, 2], 1, 2));
        request.RecordGraph = true;
        var forward = await _server.Execution.ForwardAsync(request);
        var backward = new V1.BackwardRequest { Module = "linear", Graph = forward.Graph.Id, OutputGrads = { Make.Floats([1, 3], 1, 2, 3) }, RequestId = "b1" };

        var first = await _server.Execution.BackwardAsync(backward);
        for (var i = 0; i < 50; i++)
        {
            await _server.Execution.ForwardAsync(Make.Forward("linear", Make.Floats([1, 2], i, i)));
        }

        // Were the remembered answer a view of native memory, it would show something else by now.
        Assert.Equal(first, await _server.Execution.BackwardAsync(backward));
    }

    [Fact]
    public async Task Call_of_a_method_that_is_not_there_names_those_that_are()
    {
        var forward = Make.Forward("identity", Make.Floats([1], 5));
        var response = await _server.Execution.CallAsync(new V1.CallRequest { Forward = forward });
        Assert.Equal([5f], Make.Floats(response.Forward.Output.Tensor));

        var error = await RunningServer.RefusedAsync(_server.Execution.CallAsync(new V1.CallRequest { Method = "launch", Forward = forward }));
        var empty = await RunningServer.RefusedAsync(_server.Execution.CallAsync(new V1.CallRequest()));

        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.Contains("forward", error.Status.Detail, StringComparison.Ordinal);
        AssertField("forward", empty);
    }

    [Fact]
    public async Task ForwardStream_many_answers_in_order_and_errors_do_not_end_it()
    {
        using var call = _server.Execution.ForwardStream();
        var writing = Task.Run(async () =>
        {
            for (var i = 0; i < 200; i++)
            {
                var module = i % 10 == 3 ? "nobody" : "identity";
                await call.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Id = (ulong)i, Forward = Make.Forward(module, Make.Floats([1], i)) });
            }

            await call.RequestStream.CompleteAsync();
        });

        var next = 0;
        while (await call.ResponseStream.MoveNext(default).WaitAsync(TimeSpan.FromSeconds(30)))
        {
            var response = call.ResponseStream.Current;
            Assert.Equal((ulong)next, response.Id);
            if (next % 10 == 3)
            {
                Assert.Equal((int)StatusCode.NotFound, response.Error.Code);
                Assert.True(response.Error.Details.Count > 0);
            }
            else
            {
                Assert.Equal([(float)next], Make.Floats(response.Forward.Output.Tensor));
            }

            next++;
        }

        await writing;
        Assert.Equal(200, next);
    }

    [Fact]
    public async Task ForwardStream_fields_are_named_within_the_message()
    {
        using var call = _server.Execution.ForwardStream();
        await call.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Id = 1, Forward = Make.Forward("identity", new V1.Tensor { Dtype = V1.DataType.Float32, Shape = { -4 }, Data = ByteString.Empty }) });
        await call.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Id = 2 });
        await call.RequestStream.CompleteAsync();

        Assert.True(await call.ResponseStream.MoveNext(default));
        Assert.Contains("forward.inputs[0].shape[0]", call.ResponseStream.Current.Error.Message, StringComparison.Ordinal);
        Assert.True(await call.ResponseStream.MoveNext(default));
        Assert.Contains("forward", call.ResponseStream.Current.Error.Message, StringComparison.Ordinal);
        Assert.False(await call.ResponseStream.MoveNext(default));
    }

    [Fact]
    public async Task ForwardStream_of_a_client_that_pauses_goes_on()
    {
        // More than all windows hold, so that the server waits in the middle of a write; longer than Kestrel's own patience, which is 5 s.
        var input = Make.Floats([1 << 20], new float[1 << 20]);
        using var call = _server.Execution.ForwardStream();
        var writing = Task.Run(async () =>
        {
            for (var i = 0; i < 8; i++)
            {
                await call.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Id = (ulong)i, Forward = Make.Forward("identity", input) });
            }

            await call.RequestStream.CompleteAsync();
        });
        await Task.Delay(TimeSpan.FromSeconds(9));

        var answers = 0;
        while (await call.ResponseStream.MoveNext(default).WaitAsync(TimeSpan.FromSeconds(30)))
        {
            Assert.Equal(input, call.ResponseStream.Current.Forward.Output.Tensor);
            answers++;
        }

        await writing;
        Assert.Equal(8, answers);
    }

    [Fact]
    public async Task ForwardStream_of_a_client_that_leaves_frees_everything()
    {
        for (var i = 0; i < 10; i++)
        {
            using var call = _server.Execution.ForwardStream();
            for (var j = 0; j < 4; j++)
            {
                await call.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Forward = Make.Forward("identity", Make.Floats([1 << 16], new float[1 << 16])) });
            }
        }

        await Eventually.TrueAsync(async () => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes < 1 << 12);
    }

    private static void AssertField(string field, RpcException error)
    {
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.Contains(error.GetRpcStatus()!.GetDetail<BadRequest>().FieldViolations, violation => violation.Field.StartsWith(field, StringComparison.Ordinal));
    }
}
