using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>The built-in models against the same networks in real PyTorch.</summary>
public sealed class ModelParityTests
{
    public static TheoryData<string> FullNames => [.. ModelFixtures.All.Models.Select(model => model.Type)];

    public static TheoryData<string> RunNames => [.. ModelFixtures.All.Runs.Select(run => run.Name)];

    [Theory]
    [MemberData(nameof(FullNames))]
    public void State_dict_has_the_keys_and_shapes_in_order(string type)
    {
        var model = ModelFixtures.All.Models.Single(m => m.Type == type);
        using var scope = NewDisposeScope();

        // On no memory: VGG-19 alone would take 575 MB.
        var root = new SpecReader(new BuildContext(onMeta: true, initialise: false, new BuildLimits()), ElementType.Float32).Read(ModelFixtures.Spec(type, model.Args), "", "spec", 1);

        Assert.Equal(model.State, ModuleTree.State(root).Select(entry => $"{entry.Key} {string.Join('x', entry.Tensor.shape)}".TrimEnd()));
        Assert.Equal(model.Parameters, ModuleTree.NamedParameters(root).Sum(p => p.Parameter.NumberOfElements));
    }

    [Fact]
    public void Every_model_is_compared()
    {
        // Blocks are compared as parts of the models; a GPT2Model is one of a GPT2LMHeadModel.
        var blocks = new[]
        {
            "BasicBlock", "Bottleneck", "Conv2dNormActivation", "InvertedResidual", "Conv1D", "GPT2Attention", "GPT2Block", "GPT2MLP", "GPT2Model", "BertAttention", "BertEmbeddings", "BertEncoder", "BertIntermediate",
            "BertLayer", "BertOutput", "BertPooler", "BertSelfAttention", "BertSelfOutput",
        };
        Assert.Equal(ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Model).Select(type => type.Name).Except(blocks).Order(), ModelFixtures.All.Models.Select(model => model.Type).Order());
    }

    [Theory]
    [MemberData(nameof(RunNames))]
    public void Outputs_and_gradients_are_PyTorchs(string name)
    {
        var run = ModelFixtures.All.Runs.Single(r => r.Name == name);
        foreach (var (mode, expected) in run.Modes)
        {
            Check(run, ModelFixtures.Spec(run.Type, run.Args), mode, expected);
        }
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("gpt2-masked")]
    [InlineData("bert")]
    [InlineData("bert-masked")]
    public void Eager_attention_gives_the_same(string name)
    {
        var run = ModelFixtures.All.Runs.Single(r => r.Name == name);
        var spec = ModelFixtures.Spec(run.Type, run.Args);
        Check(run, spec with { Args = spec.Args.Append(KeyValuePair.Create("attn_implementation", (object?)"eager")).ToDictionary() }, "eval", run.Modes["eval"]);
    }

    private static void Check(ModelRun run, ModuleSpec spec, string mode, ModelOutcome expected)
    {
        Assert.True(ElementTypes.TryParse(run.Dtype, out var type));
        var near = type == ElementType.Float64 ? 1e-9 : 1e-4;
        using var scope = NewDisposeScope();
        var root = new SpecReader(new BuildContext(onMeta: false, initialise: false, new BuildLimits()), type).Read(spec, "", "spec", 1);
        ModelFixtures.Fill(root);
        root.Train(mode == "train");
        var names = run.Names ?? [];
        var inputs = run.Inputs.Select((description, i) => ModelFixtures.Input(description, i, type)).ToList();
        foreach (var input in inputs.Where(input => input.is_floating_point()))
        {
            input.requires_grad_(true);
        }

        var arguments = new CallArguments(
            [.. inputs.SkipLast(names.Count).Select(TensorTree.Of)], names.Zip(inputs.TakeLast(names.Count)).ToDictionary(pair => pair.First, pair => TensorTree.Of(pair.Second)));
        var output = root.Call(arguments, new CallContext());
        var outputs = output.Flatten().ToList();

        Assert.Equal(expected.Outputs.Count, outputs.Count);
        foreach (var (actual, wanted) in outputs.Zip(expected.Outputs))
        {
            Assert.Equal(wanted.Shape, actual.shape);
            var largest = wanted.Values.Max(Math.Abs);
            var values = actual.detach().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
            for (var i = 0; i < values.Length; i++)
            {
                Assert.True(Math.Abs(values[i] - wanted.Values[i]) <= near * largest, $"{mode}: element {i} of the output is {values[i]:r}, PyTorch has {wanted.Values[i]:r}");
            }
        }

        // The sum of outputs times PyTorch's cotangents has their backward.
        outputs.Select(o => (o * Cotangent(o)).sum()).Aggregate((a, b) => a + b).backward();
        var parameters = ModuleTree.NamedParameters(root);
        Assert.Equal(expected.Gradients.Keys, parameters.Select(p => p.Name));
        foreach (var (key, parameter) in parameters)
        {
            Near(expected.Gradients[key], parameter.grad is { } gradient ? Norm(gradient) : null, near * 10, $"{mode}: gradient of {key}");
        }

        foreach (var (norm, input) in expected.InputGradients.Zip(inputs.Where(input => input.is_floating_point())))
        {
            Near(norm, Norm(input.grad!), near * 10, $"{mode}: gradient of an input");
        }

        var state = ModuleTree.State(root).ToDictionary(entry => entry.Key, entry => entry.Tensor);
        foreach (var (key, norm) in expected.Buffers)
        {
            Near(norm, Norm(state[key]), near, $"{mode}: {key}");
        }
    }

    private static Tensor Cotangent(Tensor output) => (((arange(output.NumberOfElements, dtype: ScalarType.Int64) * 7 % 17) - 8).to_type(output.dtype) / 8).reshape(output.shape);

    private static double Norm(Tensor tensor) => tensor.detach().to_type(ScalarType.Float64).norm().item<double>();

    private static void Near(double? expected, double? actual, double relative, string what) =>
        Assert.True(expected is { } wanted && actual is { } given ? Math.Abs(wanted - given) <= relative * Math.Max(Math.Abs(wanted), 1e-3) : expected == actual, $"{what} has the norm {actual:r}, PyTorch's {expected:r}");
}
