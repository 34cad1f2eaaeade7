using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>The nn.Module method that converts; the values equal those of <c>Conversion</c> in the contract.</summary>
public enum ConversionKind
{
    /// <summary><c>to(device, dtype)</c>: floating and complex tensors take the dtype.</summary>
    To = 0,

    /// <summary><c>cpu()</c>.</summary>
    Cpu = 1,

    /// <summary><c>cuda()</c>.</summary>
    Cuda = 2,

    /// <summary><c>type(dtype)</c>: every tensor takes the dtype.</summary>
    Type = 3,

    /// <summary><c>float()</c>: floating tensors become float32.</summary>
    Float = 4,

    /// <summary><c>double()</c>: floating tensors become float64.</summary>
    Double = 5,

    /// <summary><c>half()</c>: floating tensors become float16.</summary>
    Half = 6,

    /// <summary><c>bfloat16()</c>: floating tensors become bfloat16.</summary>
    BFloat16 = 7,
}

/// <summary>One of the eight conversions with its arguments.</summary>
/// <param name="Kind">Which method.</param>
/// <param name="Type">The dtype of <c>to</c> and <c>type</c>; none where it is not given.</param>
/// <param name="Device">The device of <c>to</c> and <c>cuda</c>; empty where it is not given.</param>
public sealed record ConversionPlan(ConversionKind Kind, ElementType Type = ElementType.None, string Device = "")
{
    /// <summary>Checks the arguments against the method and the device against the host's.</summary>
    /// <param name="hostDevice">The one device of this host, e.g. <c>cpu</c>.</param>
    /// <exception cref="EngineException">An argument is missing, extra or impossible, or the device is not this host's.</exception>
    public void Check(string hostDevice)
    {
        if (!Enum.IsDefined(Kind))
        {
            throw EngineException.Invalid("conversion", $"{(int)Kind} is no conversion; expected one of {string.Join(", ", Enum.GetNames<ConversionKind>())}");
        }

        if (Type != ElementType.None && (!Type.IsDefined() || Kind is not (ConversionKind.To or ConversionKind.Type)))
        {
            throw EngineException.Invalid("dtype", Type.IsDefined() ? $"{Kind} takes no dtype; only to and type do" : $"{(int)Type} is no dtype");
        }

        if (Device.Length > 0 && Kind is not (ConversionKind.To or ConversionKind.Cuda))
        {
            throw EngineException.Invalid("device", $"{Kind} takes no device; only to and cuda do");
        }

        switch (Kind)
        {
            case ConversionKind.Type when Type == ElementType.None:
                throw EngineException.Invalid("dtype", "type needs a dtype");
            case ConversionKind.To when Type == ElementType.None && Device.Length == 0:
                throw EngineException.Invalid("dtype", "to needs a dtype, a device, or both");
            case ConversionKind.To when Type != ElementType.None && !NativeSetData.CanRequireGrad(Type):
                throw EngineException.Invalid("dtype", $"to only takes floating or complex dtypes and {Type.Name()} was given; type converts every tensor to any dtype");
        }

        CheckDevice(hostDevice);
    }

    /// <summary>The dtype that a tensor of <paramref name="from"/> gets.</summary>
    internal ElementType TargetOf(ElementType from) => Kind switch
    {
        ConversionKind.To when Type != ElementType.None => NativeSetData.CanRequireGrad(from) ? Type : from,
        ConversionKind.Type => Type,
        ConversionKind.Float => from.IsFloatingPoint() ? ElementType.Float32 : from,
        ConversionKind.Double => from.IsFloatingPoint() ? ElementType.Float64 : from,
        ConversionKind.Half => from.IsFloatingPoint() ? ElementType.Float16 : from,
        ConversionKind.BFloat16 => from.IsFloatingPoint() ? ElementType.BFloat16 : from,
        _ => from,
    };

    private void CheckDevice(string hostDevice)
    {
        var wanted = Kind switch { ConversionKind.Cpu => "cpu", ConversionKind.Cuda when Device.Length == 0 => "cuda", _ => Device };
        var number = wanted.StartsWith("cuda:", StringComparison.Ordinal) ? wanted["cuda:".Length..] : "0";
        if (wanted.Length > 0 && wanted is not ("cpu" or "cuda") && !(wanted.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(number, out var index) && index >= 0))
        {
            throw EngineException.Invalid("device", $"{EngineException.Quote(wanted)} is no device; expected \"cpu\", \"cuda\" or \"cuda:N\"");
        }

        if (Kind == ConversionKind.Cuda && wanted == "cpu")
        {
            throw EngineException.Invalid("device", "cuda takes \"cuda\" or \"cuda:N\"; cpu converts to the CPU");
        }

        if (wanted.Length > 0 && wanted != hostDevice && !(wanted == "cuda" && hostDevice.StartsWith("cuda", StringComparison.Ordinal)))
        {
            throw EngineException.Precondition("DEVICE_MISMATCH", $"this host owns {hostDevice} and its modules stay there; {wanted} was asked for: use a host that owns {wanted}");
        }
    }
}

/// <summary>
/// Converts modules in place: parameters, their gradients and buffers. Parameter objects stay the same, so optimizers and shared modules
/// need nothing. All new tensors are made before the first is swapped in, so a failure changes nothing.
/// </summary>
public static class Conversions
{
    /// <summary>Converts a subtree.</summary>
    /// <param name="subtree">Where to begin.</param>
    /// <param name="plan">What to convert to; checked before.</param>
    /// <exception cref="EngineException">A parameter that requires grad cannot take the dtype.</exception>
    public static void Convert(ModuleNode subtree, ConversionPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        using var quiet = no_grad();
        var swaps = new List<(Tensor Target, Tensor Value)>();
        foreach (var (name, parameter) in ModuleTree.NamedParameters(subtree))
        {
            var target = plan.TargetOf(parameter.dtype.ToElementType());
            if (parameter.requires_grad && !NativeSetData.CanRequireGrad(target))
            {
                throw EngineException.Invalid("dtype",
                    $"the parameter {EngineException.Quote(name)} requires grad, which a tensor of {target.Name()} cannot; call RequiresGrad(false) first, or choose a floating dtype");
            }

            Add(parameter);
            if (parameter.grad is { } gradient)
            {
                Add(gradient);
            }
        }

        foreach (var (_, node) in ModuleTree.Walk(subtree))
        {
            foreach (var buffer in node.Buffers)
            {
                Add(buffer.Tensor);
            }
        }

        foreach (var (target, value) in swaps)
        {
            NativeSetData.SetData(target, value);
        }

        void Add(Tensor tensor)
        {
            var from = tensor.dtype.ToElementType();
            var to = plan.TargetOf(from);
            if (to != from)
            {
                swaps.Add((tensor, tensor.to_type(to.ToScalarType())));
            }
        }
    }
}
