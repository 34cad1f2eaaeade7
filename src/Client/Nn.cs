using System.Runtime.CompilerServices;
using Google.Protobuf;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// Writes module specs and losses as PyTorch code reads. <see cref="Module"/> and <see cref="Loss"/> reach every type of the host's
/// catalogue
/// (<see cref="SconceClient.ListModuleTypesAsync"/>); the named ones are short forms of those used most.
/// </summary>
public static partial class Nn
{
    /// <summary>Any type of the catalogue: <c>Nn.Module("LSTM", ("input_size", 8), ("hidden_size", 16))</c>.</summary>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Constructor arguments by PyTorch's names.</param>
    public static ModuleSpec Module(string type, params Arguments args)
    {
        ArgumentException.ThrowIfNullOrEmpty(type);
        ArgumentNullException.ThrowIfNull(args);
        return new ModuleSpec { Type = type, Args = args.ToMessage() };
    }

    /// <summary>nn.Sequential of modules, named "0", "1", ….</summary>
    /// <param name="modules">The modules in order.</param>
    [OverloadResolutionPriority(1)] // Sequential() is one of nothing, in either form
    public static ModuleSpec Sequential(params IEnumerable<ModuleSpec> modules) => Container("Sequential", modules);

    /// <summary>nn.Sequential of named modules: <c>Nn.Sequential(("stem", Nn.Linear(8, 8)), ("head", Nn.Linear(8, 2)))</c>.</summary>
    /// <param name="modules">Name and module of each, in order.</param>
    public static ModuleSpec Sequential(params IEnumerable<(string Name, ModuleSpec Module)> modules) => Container("Sequential", modules);

    /// <summary>nn.ModuleList.</summary>
    /// <param name="modules">The modules in order.</param>
    public static ModuleSpec ModuleList(params IEnumerable<ModuleSpec> modules) => Container("ModuleList", modules);

    /// <summary>nn.ModuleDict.</summary>
    /// <param name="modules">Name and module of each, in order.</param>
    public static ModuleSpec ModuleDict(params IEnumerable<(string Name, ModuleSpec Module)> modules) => Container("ModuleDict", modules);

    /// <summary>A wired module: named children, and the steps that forward takes over them.</summary>
    /// <param name="wiring">What forward does.</param>
    /// <param name="children">Name and module of each child.</param>
    public static ModuleSpec Graph(Wiring wiring, params IEnumerable<(string Name, ModuleSpec Module)> children)
    {
        ArgumentNullException.ThrowIfNull(wiring);
        var spec = Container("Graph", children);
        spec.Wiring = wiring;
        return spec;
    }

    /// <summary>
    /// Reads a spec from protobuf's JSON form, e.g. <c>{"type": "Linear", "args": {"in_features": 784, "out_features": 10}}</c>.
    /// </summary>
    /// <param name="json">The text.</param>
    /// <exception cref="FormatException">Not such JSON; the message says where.</exception>
    public static ModuleSpec Parse(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        try
        {
            return JsonParser.Default.Parse<ModuleSpec>(json);
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or InvalidJsonException)
        {
            throw new FormatException($"Not a module spec in JSON: {e.Message}", e);
        }
    }

    /// <summary>nn.Linear.</summary>
    /// <param name="inFeatures">Size of each input sample.</param>
    /// <param name="outFeatures">Size of each output sample.</param>
    /// <param name="bias">Whether it learns a bias.</param>
    public static ModuleSpec Linear(int inFeatures, int outFeatures, bool bias = true) =>
        Module("Linear", ("in_features", inFeatures), ("out_features", outFeatures), ("bias", bias));

    /// <summary>nn.Conv2d with square kernels; <see cref="Module"/> writes the others.</summary>
    /// <param name="inChannels">Channels in.</param>
    /// <param name="outChannels">Channels out.</param>
    /// <param name="kernelSize">Size of the kernel.</param>
    /// <param name="stride">Stride.</param>
    /// <param name="padding">Padding on every side.</param>
    /// <param name="bias">Whether it learns a bias.</param>
    public static ModuleSpec Conv2d(int inChannels, int outChannels, int kernelSize, int stride = 1, int padding = 0, bool bias = true) =>
        Module(
            "Conv2d",
            ("in_channels", inChannels),
            ("out_channels", outChannels),
            ("kernel_size", kernelSize),
            ("stride", stride),
            ("padding", padding),
            ("bias", bias));

    /// <summary>nn.BatchNorm2d.</summary>
    /// <param name="numFeatures">Channels.</param>
    public static ModuleSpec BatchNorm2d(int numFeatures) => Module("BatchNorm2d", ("num_features", numFeatures));

    /// <summary>nn.MaxPool2d.</summary>
    /// <param name="kernelSize">Size of the window, and its stride.</param>
    public static ModuleSpec MaxPool2d(int kernelSize) => Module("MaxPool2d", ("kernel_size", kernelSize));

    /// <summary>nn.ReLU.</summary>
    public static ModuleSpec ReLU() => Module("ReLU");

    /// <summary>nn.Flatten of all dimensions but the first.</summary>
    public static ModuleSpec Flatten() => Module("Flatten");

    /// <summary>nn.Dropout.</summary>
    /// <param name="p">Probability of an element to be zeroed.</param>
    public static ModuleSpec Dropout(double p = 0.5) => Module("Dropout", ("p", p));

    /// <summary>Any loss of the catalogue: <c>Nn.Loss("HuberLoss", ("delta", 0.5))</c>.</summary>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Constructor arguments by PyTorch's names.</param>
    public static Loss Loss(string type, params Arguments args)
    {
        ArgumentException.ThrowIfNullOrEmpty(type);
        ArgumentNullException.ThrowIfNull(args);
        return new Loss { Type = type, Args = args.ToMessage() };
    }

    /// <summary>nn.CrossEntropyLoss: logits against class indexes (int64) or probabilities.</summary>
    /// <param name="args">Constructor arguments by PyTorch's names, e.g. ("label_smoothing", 0.1).</param>
    public static Loss CrossEntropyLoss(params Arguments args) => Loss("CrossEntropyLoss", args);

    /// <summary>nn.MSELoss.</summary>
    /// <param name="args">Constructor arguments by PyTorch's names.</param>
    public static Loss MSELoss(params Arguments args) => Loss("MSELoss", args);

    private static ModuleSpec Container(string type, IEnumerable<ModuleSpec> modules) =>
        Container(type, modules.Select(module => ("", module)));

    private static ModuleSpec Container(string type, IEnumerable<(string Name, ModuleSpec Module)> modules)
    {
        ArgumentNullException.ThrowIfNull(modules);
        var spec = new ModuleSpec { Type = type };
        foreach (var (name, module) in modules)
            spec.Children.Add(new ChildSpec { Name = name, Spec = module });
        return spec;
    }
}
