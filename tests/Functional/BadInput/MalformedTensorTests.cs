using Google.Protobuf;
using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.BadInput;

/// <summary>Tensors whose bytes, shape or type do not agree, on the RPCs that compute. (Server.Tests puts some into every field of every request.)</summary>
public sealed class MalformedTensorTests(SharedServer server) : ServerTest(server)
{
    /// <summary>Each malformed tensor, the field below it that must be named, and words that the message must hold.</summary>
    private static readonly Dictionary<string, (Tensor Tensor, string Field, string[] Words)> Malformed = new()
    {
        ["bytes short"] = (Wire.Of(DataType.Float32, [2, 3], new byte[20]), "data", ["20", "24"]),
        ["bytes long"] = (Wire.Of(DataType.Float32, [2, 3], new byte[25]), "data", ["25", "24"]),
        ["no bytes"] = (Wire.Of(DataType.Float32, [1], []), "data", ["0", "4"]),
        ["scalar without bytes"] = (Wire.Of(DataType.Float64, [], []), "data", ["0", "8"]),
        ["negative size"] = (Wire.Of(DataType.Float32, [2, -3], new byte[24]), "shape[1]", ["-3", ">= 0"]),
        ["product overflow"] = (Wire.Of(DataType.Float32, [1L << 40, 1L << 40], new byte[4]), "shape[1]", ["2^63"]),
        ["product overflow by item size"] = (Wire.Of(DataType.Complex128, [1L << 60], new byte[16]), "shape[0]", ["2^63"]),
        ["overflow hidden by a zero"] = (Wire.Of(DataType.Float32, [1L << 62, 1L << 62, 0], []), "shape[0]", ["2^63"]),
        ["rank 65"] = (Wire.Of(DataType.Float32, [.. Enumerable.Repeat(1L, 65)], new byte[4]), "shape", ["65", "64"]),
        ["unknown dtype"] = (Wire.Of((DataType)99, [1], new byte[4]), "dtype", ["99"]),
        ["no dtype"] = (Wire.Of(DataType.Unspecified, [1], new byte[4]), "dtype", ["dtype"]),
        ["two payloads"] = (new Tensor { Dtype = DataType.Float32, Shape = { 1 }, Data = ByteString.CopyFrom(new byte[4]), KeptId = "x" }, "", ["data", "kept_id"]),
        ["no payload"] = (new Tensor { Dtype = DataType.Float32, Shape = { 1 } }, "", ["data", "kept_id"]),
        ["bool of 2"] = (Wire.Of(DataType.Bool, [3], [0, 1, 2]), "data", ["bool", "2"]),
        ["bad kept id"] = (new Tensor { KeptId = "../x" }, "kept_id", ["../x"]),
    };

    public static TheoryData<string> Cases => [.. Malformed.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Forward_malformed_input_names_field(string which)
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        await RefusesAsync(which, "inputs[0]", tensor => Stubs.Execution.ForwardAsync(new ForwardRequest { Module = module, Inputs = { tensor } }));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Forward_malformed_named_input_names_field(string which)
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        await RefusesAsync(which, "inputs[\"input\"]", tensor => Stubs.Execution.ForwardAsync(new ForwardRequest { Module = module, NamedInputs = { ["input"] = tensor } }));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Call_malformed_input_names_field(string which)
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        await RefusesAsync(which, "forward.inputs[0]", tensor => Stubs.Execution.CallAsync(new CallRequest { Forward = new() { Module = module, Inputs = { tensor } } }));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task ForwardStream_malformed_input_answers_error_and_goes_on(string which)
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        var (tensor, field, words) = Malformed[which];
        using var stream = Stubs.Execution.ForwardStream();
        await stream.RequestStream.WriteAsync(new() { Id = 1, Forward = new() { Module = module, Inputs = { tensor } } });
        await stream.RequestStream.WriteAsync(new() { Id = 2, Forward = new() { Module = module, Inputs = { Wire.Floats([1], 5) } } });
        await stream.RequestStream.CompleteAsync();

        Assert.True(await stream.ResponseStream.MoveNext());
        Assert.Equal(1UL, stream.ResponseStream.Current.Id);
        Refusal.Of(stream.ResponseStream.Current.Error, StatusCode.InvalidArgument, words).At(Path("forward.inputs[0]", field));
        Assert.True(await stream.ResponseStream.MoveNext());
        Assert.Equal([5], stream.ResponseStream.Current.Forward.Floats());
        Assert.False(await stream.ResponseStream.MoveNext());
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Backward_malformed_gradient_names_field(string which)
    {
        var module = await CreateAsync(Specs.Linear);
        var forward = await Stubs.Execution.ForwardAsync(new ForwardRequest { Module = module, Inputs = { Wire.Pattern(2, 4) }, RecordGraph = true });
        await RefusesAsync(which, "output_grads[0]", tensor =>
            Stubs.Execution.BackwardAsync(new BackwardRequest { Module = module, Graph = forward.Graph.Id, OutputGrads = { tensor } }));

        // The graph was not used up by what was refused.
        var answer = await Stubs.Execution.BackwardAsync(new BackwardRequest { Module = module, Graph = forward.Graph.Id, OutputGrads = { Wire.Pattern(2, 3) } });
        Assert.Equal([2, 4], answer.InputGrads[0].Shape);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task ForwardBackward_malformed_input_or_target_names_field(string which)
    {
        var module = await CreateAsync(Specs.Linear);
        var loss = new Loss { Type = "MSELoss" };
        await RefusesAsync(which, "inputs[0]", tensor =>
            Stubs.Training.ForwardBackwardAsync(new() { Module = module, Loss = loss, Inputs = { tensor }, Targets = { Wire.Pattern(2, 3) } }));
        await RefusesAsync(which, "targets[0]", tensor =>
            Stubs.Training.ForwardBackwardAsync(new() { Module = module, Loss = loss, Inputs = { Wire.Pattern(2, 4) }, Targets = { tensor } }));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task TrainStep_malformed_input_or_target_names_field(string which)
    {
        var module = await CreateAsync(Specs.Linear);
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "SGD" });
        var loss = new Loss { Type = "MSELoss" };
        var generation = (await Stubs.Modules.GetModuleAsync(new() { Module = module })).Module.Generation;
        await RefusesAsync(which, "inputs[0]", tensor =>
            Stubs.Training.TrainStepAsync(new() { Module = module, Loss = loss, Inputs = { tensor }, Targets = { Wire.Pattern(2, 3) } }));
        await RefusesAsync(which, "targets[0]", tensor =>
            Stubs.Training.TrainStepAsync(new() { Module = module, Loss = loss, Inputs = { Wire.Pattern(2, 4) }, Targets = { tensor } }));
        Assert.Equal(generation, (await Stubs.Modules.GetModuleAsync(new() { Module = module })).Module.Generation);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task PutTensor_malformed_tensor_names_field(string which) =>
        await RefusesAsync(which, "tensor", tensor => Stubs.Tensors.PutTensorAsync(new PutTensorRequest { Tensor = tensor }), mustBeSent: true);

    [Fact]
    public async Task Forward_zero_size_and_nonfinite_tensors_pass_bit_for_bit()
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        Tensor[] tensors =
        [
            Wire.Floats([0]),
            Wire.Floats([3, 0, 2]),
            Wire.Floats([4], float.NaN, float.PositiveInfinity, float.NegativeInfinity, -0f),
            Wire.Of(DataType.Float32, [2], [0x01, 0x00, 0xa0, 0x7f, 0xff, 0xff, 0xff, 0xff]), // a signalling and a negative NaN with payloads
            Wire.Of(DataType.Bfloat16, [1], [0x81, 0x7f]),
            Wire.Of(DataType.Float16, [1], [0x01, 0xfc]),
            Wire.Of(DataType.Bool, [2], [1, 0]),
            Wire.Of(DataType.Complex64, [1], [1, 2, 3, 4, 5, 6, 7, 8]),
        ];
        foreach (var tensor in tensors)
        {
            var answer = await Stubs.Execution.ForwardAsync(new ForwardRequest { Module = module, Inputs = { tensor } });
            Assert.Equal(tensor, answer.Output.Tensor);
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public async Task Forward_reject_nonfinite_names_input(float value)
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        var refusal = await Refusal.OfAsync(
            async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Floats([2], 1, value) }, RejectNonfinite = true }),
            StatusCode.InvalidArgument, "inputs[0]");
        Assert.Contains(refusal.Fields, field => field.Key.StartsWith("inputs[0]", StringComparison.Ordinal));
    }

    private static async Task RefusesAsync<T>(string which, string at, Func<Tensor, AsyncUnaryCall<T>> call, bool mustBeSent = false)
    {
        var (tensor, field, words) = Malformed[which];
        if (mustBeSent && !(tensor.HasData && !tensor.HasKeptId))
        {
            // Neither None nor a kept tensor will do there, whatever its id.
            (field, words) = ("", ["data"]);
        }

        (await Refusal.OfAsync(async () => await call(tensor), StatusCode.InvalidArgument, words)).At(Path(at, field));
    }

    private static string Path(string at, string field) => field.Length == 0 ? at : $"{at}.{field}";
}
