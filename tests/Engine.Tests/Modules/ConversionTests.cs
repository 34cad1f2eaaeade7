using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

public sealed class ConversionTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

    public static TheoryData<ConversionKind, ElementType, ElementType, ElementType> Kinds { get; } = new()
    {
        { ConversionKind.Float, ElementType.None, ElementType.Float32, ElementType.Int64 },
        { ConversionKind.Double, ElementType.None, ElementType.Float64, ElementType.Int64 },
        { ConversionKind.Half, ElementType.None, ElementType.Float16, ElementType.Int64 },
        { ConversionKind.BFloat16, ElementType.None, ElementType.BFloat16, ElementType.Int64 },
        { ConversionKind.To, ElementType.Float64, ElementType.Float64, ElementType.Int64 },
        { ConversionKind.To, ElementType.Complex64, ElementType.Complex64, ElementType.Int64 },
        { ConversionKind.Type, ElementType.Float64, ElementType.Float64, ElementType.Float64 },
        { ConversionKind.Cpu, ElementType.None, ElementType.Float32, ElementType.Int64 },
    };

    public void Dispose() => _scope.Dispose();

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Convert_touches_what_pytorch_touches(ConversionKind kind, ElementType type, ElementType floating, ElementType counter)
    {
        using var tree = Build(Sequential(Of("Conv2d", ("in_channels", 1.0), ("out_channels", 2.0), ("kernel_size", 1.0)), Of("BatchNorm2d", ("num_features", 2.0))));
        var parameters = ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter).ToList();
        var plan = new ConversionPlan(kind, type);
        plan.Check("cpu");
        Conversions.Convert(tree.Root, plan);

        Assert.Equal(parameters, ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter));
        Assert.All(ModuleTree.State(tree.Root), entry =>
            Assert.Equal(entry.Key.EndsWith("num_batches_tracked", StringComparison.Ordinal) ? counter : floating, entry.Tensor.dtype.ToElementType()));
        Assert.All(parameters, p => Assert.True(p.requires_grad));
    }

    [Fact]
    public void Convert_gradients_follow_and_accumulate_further()
    {
        using var tree = Build(Sequential(Named("a", Linear(2, 2)), Shared("b", "a")));
        tree.Run(ones(1, 2)).sum().backward();
        var before = tree.Root.Children[0].Value.Parameters[0].Parameter.grad!.clone();
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        var parameter = tree.Root.Children[0].Value.Parameters[0].Parameter;

        Assert.Equal(ScalarType.Float64, parameter.grad!.dtype);
        Assert.Equal(0, MaxDifference(before, parameter.grad!));
        Assert.Same(tree.Find("a"), tree.Find("b"));
        tree.Run(ones(1, 2, dtype: ScalarType.Float64)).sum().backward();
        Assert.True(MaxDifference(before * 2, parameter.grad!) < 1e-6);
    }

    [Theory]
    [InlineData("LSTM")]
    [InlineData("GRU")]
    [InlineData("RNN")]
    public void Convert_recurrent_layers_compute_in_the_new_dtype(string type)
    {
        using var tree = Build(Of(type, ("input_size", 2.0), ("hidden_size", 3.0)));
        var x = randn(4, 1, 2);
        var before = Output(x);
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        var after = Output(x.to_type(ScalarType.Float64));

        Assert.Equal(ScalarType.Float64, after.dtype);
        Assert.True(MaxDifference(before, after) < 1e-6);

        Tensor Output(Tensor input) => tree.Root.Call(new CallArguments(TensorTree.Of(input)), new CallContext()).Items![0].Tensor!;
    }

    [Theory]
    [InlineData("Embedding")]
    [InlineData("EmbeddingBag")]
    public void Convert_embeddings_look_up_in_the_new_dtype_and_learn(string type)
    {
        using var tree = Build(Of(type, ("num_embeddings", 5.0), ("embedding_dim", 2.0)));
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.BFloat16));
        var output = tree.Run(tensor(new[] { 1L, 4L }).view(1, 2));
        output.sum().backward();

        Assert.Equal(ScalarType.BFloat16, output.dtype);
        Assert.Equal(ScalarType.BFloat16, tree.Root.Parameters[0].Parameter.grad!.dtype);
    }

    [Fact]
    public void Convert_to_integers_needs_requires_grad_off_and_changes_nothing_else()
    {
        using var tree = Build(Sequential(Of("BatchNorm1d", ("num_features", 2.0)), Linear(2, 2)));
        ParameterSelection.RequiresGrad(tree.Root, false, ["0.*"]);
        var error = Refused(() => Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Type, ElementType.Int64)));

        Assert.Contains("\"1.weight\" requires grad", error.Message);
        Assert.All(tree.Root.Children[0].Value.Parameters, p => Assert.Equal(ScalarType.Float32, p.Parameter.dtype));
        ParameterSelection.RequiresGrad(tree.Root, false, []);
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Type, ElementType.Int64));
        Assert.All(ModuleTree.State(tree.Root), entry => Assert.Equal(ScalarType.Int64, entry.Tensor.dtype));
        Assert.Contains("convert it first", Refused(() => ParameterSelection.RequiresGrad(tree.Root, true, [])).Message);
    }

    [Theory]
    [InlineData(ConversionKind.To, ElementType.None, "", "dtype")]
    [InlineData(ConversionKind.To, ElementType.Int32, "", "dtype")]
    [InlineData(ConversionKind.Type, ElementType.None, "", "dtype")]
    [InlineData(ConversionKind.Half, ElementType.Float32, "", "dtype")]
    [InlineData(ConversionKind.Half, ElementType.None, "cpu", "device")]
    [InlineData(ConversionKind.To, ElementType.None, "tpu", "device")]
    [InlineData(ConversionKind.Cuda, ElementType.None, "cpu", "device")]
    [InlineData((ConversionKind)99, ElementType.None, "", "conversion")]
    public void Check_wrong_arguments_are_named(ConversionKind kind, ElementType type, string device, string field) =>
        Assert.Equal(field, Refused(() => new ConversionPlan(kind, type, device).Check("cpu")).Fields[0].Field);

    [Theory]
    [InlineData(ConversionKind.Cuda, "")]
    [InlineData(ConversionKind.Cuda, "cuda:0")]
    [InlineData(ConversionKind.To, "cuda:1")]
    public void Check_device_of_another_host_is_a_failed_precondition(ConversionKind kind, string device) =>
        Assert.Equal(EngineError.FailedPrecondition, Refused(() => new ConversionPlan(kind, ElementType.None, device).Check("cpu")).Error);

    [Fact]
    public void Memory_format_is_taken_by_tensors_of_4_dimensions_and_changes_no_value()
    {
        using var tree = Build(Sequential(Of("Conv2d", ("in_channels", 3.0), ("out_channels", 4.0), ("kernel_size", 3.0)), Of("BatchNorm2d", ("num_features", 4.0))));
        var x = randn(2, 3, 6, 6);
        tree.Root.Train(false);
        var expected = tree.Run(x).detach();
        tree.Run(x).sum().backward();
        var weight = ModuleTree.FindParameter(tree.Root, "0.weight")!;
        var before = weight.detach().clone();
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.To, Format: MemoryFormat.ChannelsLast));

        // PyTorch's strides of channels_last for [4, 3, 3, 3].
        Assert.Equal([27, 1, 9, 3], weight.stride());
        Assert.Equal([27, 1, 9, 3], weight.grad!.stride());
        Assert.Equal([1], tree.Find("1").Parameters[0].Parameter.stride());
        Assert.Equal(0, MaxDifference(before, weight.detach()));
        Assert.True(MaxDifference(expected, tree.Run(x).detach()) < 1e-5);
        using (var copy = ModuleCopy.DeepCopy(tree, ""))
        {
            Assert.Equal([27, 1, 9, 3], ModuleTree.FindParameter(copy.Root, "0.weight")!.stride());
        }

        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.To, ElementType.Float64));
        Assert.Equal([27, 1, 9, 3], weight.stride());
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.To, Format: MemoryFormat.Preserve));
        Assert.Equal([27, 1, 9, 3], weight.stride());
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.To, Format: MemoryFormat.Contiguous));
        Assert.Equal([27, 9, 3, 1], weight.stride());
        Assert.Equal(ScalarType.Float64, weight.dtype);
    }

    [Fact]
    public void Memory_format_of_5_dimensions_is_its_own_and_a_mismatch_in_the_middle_changes_nothing()
    {
        using var tree = Build(Sequential(Of("Conv2d", ("in_channels", 2.0), ("out_channels", 2.0), ("kernel_size", 2.0)), Of("Conv3d", ("in_channels", 2.0), ("out_channels", 2.0), ("kernel_size", 2.0))));
        foreach (var (format, name) in new[] { (MemoryFormat.ChannelsLast, "\"1.weight\""), (MemoryFormat.ChannelsLast3d, "\"0.weight\"") })
        {
            Assert.Contains(name, Refused(() => Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.To, ElementType.Float64, Format: format))).Message);
            Assert.All(ModuleTree.NamedParameters(tree.Root), p => Assert.True(p.Parameter.is_contiguous() && p.Parameter.dtype == ScalarType.Float32));
        }

        Conversions.Convert(tree.Find("1"), new ConversionPlan(ConversionKind.To, Format: MemoryFormat.ChannelsLast3d));
        Assert.Equal([16, 1, 8, 4, 2], ModuleTree.FindParameter(tree.Root, "1.weight")!.stride());
    }

    [Fact]
    public void Buffers_that_no_state_dict_holds_are_converted_and_freed()
    {
        var tree = Build(Linear(2, 2));
        var registration = new Registration(tree, new BuildLimits(), _ => null);
        registration.Buffer("", "cache", ones(2), persistent: false);
        registration.Buffer("", "index", tensor(new long[] { 1 }), persistent: false);
        var (cache, index) = (tree.Root.Buffers[0].Tensor, tree.Root.Buffers[1].Tensor);
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Half));
        Assert.Equal((ScalarType.Float16, ScalarType.Int64), (cache.dtype, index.dtype));
        tree.Dispose();
        Assert.True(cache.IsInvalid && index.IsInvalid);
    }

    [Fact]
    public void To_empty_keeps_shapes_dtypes_and_objects_and_shows_nothing_of_before()
    {
        using var tree = Build(Sequential(Linear(2, 2), Of("BatchNorm1d", ("num_features", 2.0))), ElementType.Float64);
        tree.Run(randn(3, 2, dtype: ScalarType.Float64)).sum().backward();
        var parameters = ModuleTree.NamedParameters(tree.Root).ToList();
        new ConversionPlan(ConversionKind.ToEmpty, Device: "cpu").Check("cpu");
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.ToEmpty));
        Assert.Equal(parameters, ModuleTree.NamedParameters(tree.Root));
        Assert.All(parameters, p => Assert.Equal((ScalarType.Float64, true, 0.0, 0.0), (p.Parameter.dtype, p.Parameter.requires_grad, p.Parameter.abs().sum().item<double>(), p.Parameter.grad!.abs().sum().item<double>())));
        Assert.Equal(0, tree.Find("1").Buffers.Sum(buffer => buffer.Tensor.to_type(ScalarType.Float64).abs().sum().item<double>()));
    }

    [Fact]
    public void Complex_modules_warn_as_PyTorch_does_and_come_back_without_imaginary_parts()
    {
        using var tree = Build(Linear(2, 2));
        var toComplex = new ConversionPlan(ConversionKind.To, ElementType.Complex64);
        Assert.StartsWith("Complex modules are a new feature", Assert.Single(toComplex.Warnings(tree.Root)));
        Conversions.Convert(tree.Root, toComplex);

        // float() and half() touch floating tensors, and complex ones are none.
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Half));
        Assert.All(tree.Root.Parameters, p => Assert.Equal(ScalarType.ComplexFloat32, p.Parameter.dtype));
        var back = new ConversionPlan(ConversionKind.To, ElementType.Float64);
        Assert.Equal("Casting complex values to real discards the imaginary part", Assert.Single(back.Warnings(tree.Root)));
        Conversions.Convert(tree.Root, back);
        Assert.All(tree.Root.Parameters, p => Assert.Equal((ScalarType.Float64, true), (p.Parameter.dtype, p.Parameter.requires_grad)));
        Assert.Empty(new ConversionPlan(ConversionKind.Float).Warnings(tree.Root));
    }

    [Fact]
    public void SetData_impossible_pair_is_refused_before_libtorch_sees_it()
    {
        using var parameter = new TorchSharp.Modules.Parameter(rand(2));

        Assert.Throws<InvalidOperationException>(() => NativeSetData.SetData(parameter, zeros(2, dtype: ScalarType.Int64)));
        Assert.Throws<InvalidOperationException>(() => NativeSetData.SetData(parameter, rand(2).to_sparse()));
        Assert.Throws<InvalidOperationException>(() => NativeSetData.SetData(parameter, empty(2, device: META)));
    }
}
