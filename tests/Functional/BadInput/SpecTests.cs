using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;
using Value = Google.Protobuf.WellKnownTypes.Value;

namespace Sconce.Functional.BadInput;

/// <summary>Specs that cannot be built: the path in the spec is named, and nothing of the module stays.</summary>
public sealed class SpecTests(SharedServer server) : ServerTest(server)
{
    private static readonly Dictionary<string, (ModuleSpec Spec, string Field, string[] Words)> Bad = new()
    {
        ["unknown argument"] = (Nn.Module("Linear", ("in_features", 4), ("out_features", 3), ("biass", true)), "spec.args.biass", ["biass", "bias"]),
        ["missing argument"] = (Nn.Module("Linear", ("in_features", 4)), "spec.args.out_features", ["out_features"]),
        ["ill-typed argument"] = (Nn.Module("Linear", ("in_features", "four"), ("out_features", 3)), "spec.args.in_features", ["int", "four"]),
        ["fraction for an int"] = (Nn.Module("Linear", ("in_features", 4.5), ("out_features", 3)), "spec.args.in_features", ["4.5"]),
        ["negative size"] = (Nn.Module("Linear", ("in_features", -4), ("out_features", 3)), "spec.args.in_features", ["-4"]),
        ["nested"] = (Nn.Sequential(Nn.ReLU(), Nn.Sequential(Nn.Module("Linear", ("in_features", 4)))), "spec.children[1].spec.children[0].spec.args.out_features", ["out_features"]),
        ["groups 0"] = (Conv(("groups", 0)), "spec.args.groups", ["0"]),
        ["groups that do not divide in_channels"] = (Conv(("in_channels", 3), ("groups", 2)), "spec.args.groups", ["3", "2"]),
        ["groups that do not divide out_channels"] = (Conv(("out_channels", 3), ("groups", 2)), "spec.args.groups", ["3", "2"]),
        ["stride 0"] = (Conv(("stride", 0)), "spec.args.stride", ["0"]),
        ["kernel 0"] = (Conv(("kernel_size", 0)), "spec.args.kernel_size", ["0"]),
        ["dilation 0"] = (Conv(("dilation", 0)), "spec.args.dilation", ["0"]),
        ["negative padding"] = (Conv(("padding", -1)), "spec.args.padding", ["-1"]),
        ["unknown padding mode"] = (Conv(("padding_mode", "mirror")), "spec.args.padding_mode", ["mirror"]),
        ["stride 0 in a pool"] = (Nn.Module("MaxPool2d", ("kernel_size", 2), ("stride", 0)), "spec.args.stride", ["0"]),
        ["probability above 1"] = (Nn.Module("Dropout", ("p", 1.5)), "spec.args.p", ["1.5"]),
        ["heads that do not divide"] = (Nn.Module("MultiheadAttention", ("embed_dim", 10), ("num_heads", 3)), "spec.args.num_heads", ["10", "3"]),
        ["padding_idx out of range"] = (Nn.Module("Embedding", ("num_embeddings", 4), ("embedding_dim", 2), ("padding_idx", 4)), "spec.args.padding_idx", ["4"]),
        ["children of a leaf"] = (new ModuleSpec { Type = "ReLU", Children = { new ChildSpec { Spec = Nn.ReLU() } } }, "spec.children", ["ReLU"]),
        ["two children of one name"] = (Nn.Sequential(("a", Nn.ReLU()), ("a", Nn.ReLU())), "spec.children[1].name", ["a"]),
        ["dot in a name"] = (Nn.Sequential(("a.b", Nn.ReLU())), "spec.children[0].name", ["a.b"]),
        ["child without source"] = (new ModuleSpec { Type = "Sequential", Children = { new ChildSpec { Name = "a" } } }, "spec.children[0]", ["spec", "share"]),
        ["share of what is not built"] = (new ModuleSpec { Type = "Sequential", Children = { new ChildSpec { Share = "later" } } }, "spec.children[0].share", ["later"]),
        ["cycle"] = (Cycle(), "spec.children[0].spec.children[0].share", []),
        ["no type"] = (new ModuleSpec(), "spec.type", []),
        ["wiring of a leaf"] = (new ModuleSpec { Type = "ReLU", Wiring = new Wiring { Inputs = { "x" }, Outputs = { "x" } } }, "spec.wiring", ["Graph"]),
        ["graph without wiring"] = (new ModuleSpec { Type = "Graph" }, "spec.wiring", []),
        ["unknown value in wiring"] = (Graph(new WiringStep { Name = "y", Module = "a", Inputs = { "z" } }, "y"), "spec.wiring.steps[0].inputs[0]", ["z"]),
        ["unknown child in wiring"] = (Graph(new WiringStep { Name = "y", Module = "b", Inputs = { "x" } }, "y"), "spec.wiring.steps[0].module", ["b"]),
        ["unknown output of wiring"] = (Graph(new WiringStep { Name = "y", Module = "a", Inputs = { "x" } }, "z"), "spec.wiring.outputs[0]", ["z"]),
        ["value named twice"] = (Graph(new WiringStep { Name = "x", Module = "a", Inputs = { "x" } }, "x"), "spec.wiring.steps[0].name", ["x"]),
    };

    public static TheoryData<string> Cases => [.. Bad.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task CreateModule_bad_spec_names_path(string which)
    {
        var (spec, field, words) = Bad[which];
        var name = NewName();
        (await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = spec }), StatusCode.InvalidArgument, words)).At(field);
        await IsNotThereAsync(name);
    }

    [Fact]
    public async Task CreateModule_several_wrong_arguments_are_named_at_once()
    {
        var spec = Nn.Module("Conv2d", ("in_channels", "one"), ("kernel", 3));
        var refusal = await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = NewName(), Spec = spec }), StatusCode.InvalidArgument);
        refusal.At("spec.args.in_channels").At("spec.args.kernel").At("spec.args.out_channels").At("spec.args.kernel_size");
    }

    [Fact]
    public async Task CreateModule_unknown_type_gives_nearest_names()
    {
        var name = NewName();
        await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = Nn.Module("Conv2D") }), StatusCode.Unimplemented, "Conv2D", "Conv2d");
        await IsNotThereAsync(name);
    }

    [Fact]
    public async Task CreateModule_unknown_function_gives_nearest_names()
    {
        var spec = Graph(new WiringStep { Name = "y", Function = "reluu", Inputs = { "x" } }, "y");
        await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = NewName(), Spec = spec }), StatusCode.Unimplemented, "reluu", "relu");
    }

    [Theory]
    [InlineData(45, "max_spec_depth")]
    [InlineData(2000, "protobuf")] // beyond 100 messages protobuf itself stops reading
    public async Task CreateModule_too_deep_is_refused_before_building(int depth, string word)
    {
        var spec = Nn.ReLU();
        for (var i = 0; i < depth; i++)
        {
            spec = Nn.Sequential(spec);
        }

        await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = NewName(), Spec = spec }), StatusCode.InvalidArgument, word);
    }

    [Fact]
    public async Task CreateModule_larger_than_budget_names_bytes()
    {
        var name = NewName();
        var spec = Nn.Module("Linear", ("in_features", 1_000_000), ("out_features", 1_000_000));
        var refusal = await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = spec }), StatusCode.ResourceExhausted, "memory_budget_bytes");
        Assert.Contains("4,000,004,000,000", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("1,073,741,824", refusal.Message, StringComparison.Ordinal);
        Assert.NotNull(refusal.Quota);
        await IsNotThereAsync(name);
    }

    [Fact]
    public async Task CreateModule_size_product_overflow_is_refused()
    {
        var spec = Nn.Module("Linear", ("in_features", 4e18), ("out_features", 4e18));
        var thrown = await Assert.ThrowsAsync<RpcException>(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = NewName(), Spec = spec }));
        Assert.True(thrown.StatusCode is StatusCode.InvalidArgument or StatusCode.ResourceExhausted, thrown.ToString());
    }

    [Fact]
    public async Task CreateModule_missing_spec_names_field() =>
        (await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = NewName() }), StatusCode.InvalidArgument)).At("spec");

    [Fact]
    public async Task CreateModule_dtype_that_is_not_floating_names_field() =>
        (await Refusal.OfAsync(
            async () => await Stubs.Modules.CreateModuleAsync(new() { Module = NewName(), Spec = Specs.Linear, Dtype = DataType.Int64 }),
            StatusCode.InvalidArgument, "int64")).At("dtype");

    [Fact]
    public async Task CreateModule_taken_name_is_ALREADY_EXISTS()
    {
        var name = await CreateAsync(Specs.Linear);
        var refusal = await Refusal.OfAsync(async () => await Stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = Specs.Linear }), StatusCode.AlreadyExists, name);
        Assert.Equal(name, refusal.Resource?.ResourceName);
    }

    private async Task IsNotThereAsync(string name) =>
        await Refusal.OfAsync(async () => await Stubs.Modules.GetModuleAsync(new() { Module = name }), StatusCode.NotFound, name);

    private static ModuleSpec Conv(params (string Name, object Value)[] changes)
    {
        var spec = new ModuleSpec { Type = "Conv2d", Args = new Struct() };
        spec.Args.Fields["in_channels"] = Value.ForNumber(4);
        spec.Args.Fields["out_channels"] = Value.ForNumber(4);
        spec.Args.Fields["kernel_size"] = Value.ForNumber(3);
        foreach (var (name, value) in changes)
        {
            spec.Args.Fields[name] = value is string text ? Value.ForString(text) : Value.ForNumber(Convert.ToDouble(value, System.Globalization.CultureInfo.InvariantCulture));
        }

        return spec;
    }

    private static ModuleSpec Graph(WiringStep step, string output) =>
        Nn.Graph(new Wiring { Inputs = { "x" }, Steps = { step }, Outputs = { output } }, ("a", Nn.ReLU()));

    /// <summary>A container that shares itself into its own child.</summary>
    private static ModuleSpec Cycle() => new()
    {
        Type = "Sequential",
        Children = { new ChildSpec { Name = "a", Spec = new ModuleSpec { Type = "Sequential", Children = { new ChildSpec { Name = "b", Share = "a" } } } } },
    };
}
