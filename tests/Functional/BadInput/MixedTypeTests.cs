using System.Globalization;
using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.BadInput;

/// <summary>
/// A parameter or buffer that forward uses, registered anew in every dtype, one at a time: what the module computes with then no constructor gives. Each call
/// is a result or a refusal, and the server lives.
/// </summary>
public sealed class MixedTypeTests(SharedServer server) : ServerTest(server)
{
    private static readonly (DataType Type, int Size)[] Types =
    [
        (DataType.Float32, 4), (DataType.Float64, 8), (DataType.Float16, 2), (DataType.Bfloat16, 2), (DataType.Uint8, 1), (DataType.Int8, 1),
        (DataType.Int16, 2), (DataType.Int32, 4), (DataType.Int64, 8), (DataType.Bool, 1), (DataType.Complex64, 8), (DataType.Complex128, 16),
    ];

    public static TheoryData<string, string, long[][]> Modules { get; } = new()
    {
        { "Linear", "{\"in_features\":4,\"out_features\":3}", [[2, 4]] },
        { "Bilinear", "{\"in1_features\":4,\"in2_features\":4,\"out_features\":3}", [[2, 4], [2, 4]] },
        { "Conv1d", "{\"in_channels\":2,\"out_channels\":2,\"kernel_size\":3}", [[1, 2, 6]] },
        { "Conv2d", "{\"in_channels\":2,\"out_channels\":2,\"kernel_size\":3,\"padding\":\"same\"}", [[1, 2, 6, 6]] },
        { "Conv3d", "{\"in_channels\":1,\"out_channels\":1,\"kernel_size\":2}", [[1, 1, 3, 3, 3]] },
        { "ConvTranspose2d", "{\"in_channels\":2,\"out_channels\":2,\"kernel_size\":2}", [[1, 2, 3, 3]] },
        { "BatchNorm2d", "{\"num_features\":2}", [[2, 2, 3, 3]] },
        { "InstanceNorm2d", "{\"num_features\":2,\"affine\":true,\"track_running_stats\":true}", [[2, 2, 3, 3]] },
        { "LayerNorm", "{\"normalized_shape\":[4]}", [[2, 4]] },
        { "RMSNorm", "{\"normalized_shape\":[4]}", [[2, 4]] },
        { "GroupNorm", "{\"num_groups\":1,\"num_channels\":2}", [[2, 2, 3]] },
        { "PReLU", "{}", [[2, 4]] },
        { "RNN", "{\"input_size\":4,\"hidden_size\":3}", [[2, 1, 4]] },
        { "LSTM", "{\"input_size\":4,\"hidden_size\":3,\"bidirectional\":true}", [[2, 1, 4]] },
        { "LSTM", "{\"input_size\":4,\"hidden_size\":3,\"proj_size\":2}", [[2, 1, 4]] },
        { "GRU", "{\"input_size\":4,\"hidden_size\":3}", [[2, 1, 4]] },
        { "LSTMCell", "{\"input_size\":4,\"hidden_size\":3}", [[2, 4]] },
        { "GRUCell", "{\"input_size\":4,\"hidden_size\":3}", [[2, 4]] },
        { "MultiheadAttention", "{\"embed_dim\":4,\"num_heads\":2,\"add_bias_kv\":true}", [[2, 1, 4], [2, 1, 4], [2, 1, 4]] },
        { "TransformerEncoderLayer", "{\"d_model\":4,\"nhead\":2,\"dim_feedforward\":4}", [[2, 1, 4]] },
        { "Embedding", "{\"num_embeddings\":4,\"embedding_dim\":3,\"max_norm\":1.0}", [] },
        { "EmbeddingBag", "{\"num_embeddings\":4,\"embedding_dim\":3}", [] },
    };

    [Theory]
    [MemberData(nameof(Modules))]
    public async Task Every_member_in_every_dtype_is_survived(string type, string args, long[][] inputs)
    {
        var spec = Nn.Parse($"{{\"type\":\"{type}\",\"args\":{args}}}");
        var module = await CreateAsync(spec);
        var root = (await Stubs.Modules.DescribeModuleAsync(new() { Module = module })).Root;
        foreach (var (path, member, isParameter) in Members(root))
        {
            foreach (var (dtype, size) in Types)
            {
                await SetAsync(module, path, member, isParameter, dtype, size);
                foreach (var mode in new[] { true, false })
                {
                    await Stubs.Modules.TrainAsync(new() { Module = module, Mode = mode });
                    foreach (var same in new[] { false, true })
                    {
                        var call = new ForwardRequest { Module = module, RecordGraph = mode, Inputs = { inputs.Length == 0 ? [Wire.Longs([1, 2], 1, 2)] : inputs.Select(shape => same ? Of(dtype, size, shape) : Wire.Pattern(shape)) } };
                        await AnswersAsync($"{type} with {path}.{member.Name} {dtype}, input {(same ? dtype : DataType.Float32)}, training {mode}", async () =>
                        {
                            var graph = (await Stubs.Execution.ForwardAsync(call)).Graph?.Id;
                            if (graph is not null)
                            {
                                await AnswersAsync("its backward", async () => await Stubs.Execution.BackwardAsync(new() { Module = module, Graph = graph }));
                                await Stubs.Execution.ReleaseGraphAsync(new() { Module = module, Graph = graph });
                            }
                        });
                    }
                }
            }

            await SetAsync(module, path, member, isParameter, member.Dtype, Types.First(known => known.Type == member.Dtype).Size);
        }
    }

    private static IEnumerable<(string Path, TensorInfo Info, bool IsParameter)> Members(ModuleNode node) =>
        node.Parameters.Where(info => !info.IsNone).Select(info => (node.Path, info, true))
            .Concat(node.Buffers.Where(info => !info.IsNone).Select(info => (node.Path, info, false)))
            .Concat(node.Children.SelectMany(Members));

    private async Task SetAsync(string module, string path, TensorInfo member, bool isParameter, DataType dtype, int size)
    {
        var tensor = Of(dtype, size, [.. member.Shape]);
        if (isParameter)
        {
            var floats = dtype is DataType.Float32 or DataType.Float64 or DataType.Float16 or DataType.Bfloat16 or DataType.Complex64 or DataType.Complex128;
            await Stubs.Modules.RegisterParameterAsync(new() { Module = module, Path = path, Name = member.Name, Tensor = tensor, RequiresGrad = floats });
        }
        else
        {
            await Stubs.Modules.RegisterBufferAsync(new() { Module = module, Path = path, Name = member.Name, Tensor = tensor, Persistent = member.Persistent });
        }
    }

    private static Tensor Of(DataType dtype, int size, long[] shape) => Wire.Of(dtype, shape, new byte[size * shape.Aggregate(1L, (product, length) => product * length)]);

    private static async Task AnswersAsync(string what, Func<Task> call)
    {
        try
        {
            await call();
        }
        catch (RpcException exception) when (exception.StatusCode is StatusCode.InvalidArgument or StatusCode.FailedPrecondition or StatusCode.NotFound)
        {
            // A refusal that says why.
        }
        catch (RpcException exception)
        {
            Assert.Fail(string.Create(CultureInfo.InvariantCulture, $"{what}: {exception.Status}"));
        }
    }
}
