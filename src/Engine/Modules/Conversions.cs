using System.Globalization;
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

    /// <summary><c>to_empty()</c>: shapes and dtypes stay, values are unspecified.</summary>
    ToEmpty = 8,

    /// <summary><c>ipu()</c>.</summary>
    Ipu = 9,

    /// <summary><c>xpu()</c>.</summary>
    Xpu = 10,
}

/// <summary>One of the conversions with its arguments.</summary>
/// <param name="Kind">Which method.</param>
/// <param name="Type">The dtype of <c>to</c> and <c>type</c>; none where it is not given.</param>
/// <param name="Device">The device of <c>to</c>, <c>to_empty</c>, <c>cuda</c>, <c>ipu</c> and <c>xpu</c>; empty where it is not given.</param>
/// <param name="Format">The memory format of <c>to</c>, which tensors of 4 or 5 dimensions take.</param>
public sealed record ConversionPlan(ConversionKind Kind, ElementType Type = ElementType.None, string Device = "", MemoryFormat Format = MemoryFormat.None)
{
    // Those that PyTorch's builds have; only one of them is this host's.
    private static readonly HashSet<string> DeviceTypes = ["cpu", "cuda", "ipu", "xpu", "hip", "hpu", "meta", "mkldnn", "mps", "mtia", "vulkan", "xla"];

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

        if (Device.Length > 0 && Kind is not (ConversionKind.To or ConversionKind.ToEmpty or ConversionKind.Cuda or ConversionKind.Ipu or ConversionKind.Xpu))
        {
            throw EngineException.Invalid("device", $"{Kind} takes no device; only to, to_empty, cuda, ipu and xpu do");
        }

        if (Format != MemoryFormat.None && (!Enum.IsDefined(Format) || Kind != ConversionKind.To))
        {
            throw EngineException.Invalid("memory_format", Enum.IsDefined(Format) ? $"{Kind} takes no memory format; only to does" : $"{(int)Format} is no memory format");
        }

        switch (Kind)
        {
            case ConversionKind.Type when Type == ElementType.None:
                throw EngineException.Invalid("dtype", "type needs a dtype");
            case ConversionKind.To when Type == ElementType.None && Device.Length == 0 && Format == MemoryFormat.None:
                throw EngineException.Invalid("dtype", "to needs a dtype, a device or a memory format");
            case ConversionKind.To when Type != ElementType.None && !NativeSetData.CanRequireGrad(Type):
                throw EngineException.Invalid("dtype", $"to only takes floating or complex dtypes and {Type.Name()} was given; type converts every tensor to any dtype");
        }

        CheckDevice(hostDevice);
    }

    /// <summary>What PyTorch would warn of, in its words.</summary>
    /// <param name="subtree">What is to be converted.</param>
    internal IReadOnlyList<string> Warnings(ModuleNode subtree)
    {
        var warnings = new List<string>();
        if (Kind == ConversionKind.To && Type.IsComplex())
        {
            warnings.Add("Complex modules are a new feature under active development whose design may change, and some modules might not work as expected when using complex tensors as parameters or buffers.");
        }

        if (ModuleTree.Walk(subtree).SelectMany(at => ModuleTree.TensorsOf(at.Node)).Any(tensor => tensor.is_complex() && !TargetOf(tensor.dtype.ToElementType()).IsComplex()))
        {
            warnings.Add("Casting complex values to real discards the imaginary part");
        }

        return warnings;
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
        var named = Kind switch { ConversionKind.Cpu => "cpu", ConversionKind.Cuda => "cuda", ConversionKind.Ipu => "ipu", ConversionKind.Xpu => "xpu", _ => "" };
        var wanted = Device.Length == 0 ? named : Device;
        if (wanted.Length == 0)
        {
            return;
        }

        var colon = wanted.IndexOf(':', StringComparison.Ordinal);
        var type = colon < 0 ? wanted : wanted[..colon];
        if (!DeviceTypes.Contains(type) || (colon >= 0 && !(byte.TryParse(wanted.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out _) && type != "cpu")))
        {
            throw EngineException.Invalid("device", $"{EngineException.Quote(wanted)} is no device; expected \"cpu\", \"cuda\" or \"cuda:N\"");
        }

        if (named.Length > 0 && type != named)
        {
            throw EngineException.Invalid("device", $"{named} takes \"{named}\" or \"{named}:N\" and was given {EngineException.Quote(wanted)}");
        }

        if (wanted != hostDevice && !(wanted == "cuda" && hostDevice.StartsWith("cuda", StringComparison.Ordinal)))
        {
            throw EngineException.Precondition("DEVICE_MISMATCH", $"this host has {hostDevice} and no other device, and its modules stay there; {wanted} was asked for: use a host that has {wanted}");
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
    /// <exception cref="EngineException">A parameter that requires grad cannot take the dtype, or a tensor the memory format.</exception>
    public static void Convert(ModuleNode subtree, ConversionPlan plan)
    {
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        using var quiet = no_grad();
        Prepare(subtree, plan)();
    }

    /// <summary>Makes the new tensors, in the caller's dispose scope and without grad, and returns what swaps them in, which cannot fail.</summary>
    internal static Action Prepare(ModuleNode subtree, ConversionPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        var swaps = new List<(Tensor Target, Tensor Value)>();
        var seen = new HashSet<Tensor>(ModuleTree.Same);
        foreach (var (path, node) in ModuleTree.Walk(subtree))
        {
            foreach (var (name, parameter) in node.Parameters.Where(p => seen.Add(p.Parameter)))
            {
                var full = ModuleTree.Join(path, name);
                var target = plan.TargetOf(parameter.dtype.ToElementType());
                if (parameter.requires_grad && !NativeSetData.CanRequireGrad(target))
                {
                    throw EngineException.Invalid("dtype",
                        $"the parameter {EngineException.Quote(full)} requires grad, which a tensor of {target.Name()} cannot; call RequiresGrad(false) first, or choose a floating dtype");
                }

                Add(full, parameter);
                if (parameter.grad is { } gradient)
                {
                    Add(full, gradient);
                }
            }

            foreach (var buffer in node.Buffers.Where(buffer => seen.Add(buffer.Tensor)))
            {
                Add(ModuleTree.Join(path, buffer.Name), buffer.Tensor);
            }
        }

        return () => swaps.ForEach(swap => NativeSetData.SetData(swap.Target, swap.Value));

        void Add(string name, Tensor tensor)
        {
            if (plan.Kind == ConversionKind.ToEmpty)
            {
                // Any values will do, save those that the memory had before, which may be another caller's.
                swaps.Add((tensor, zeros_like(tensor)));
                return;
            }

            var from = tensor.dtype.ToElementType();
            var to = plan.TargetOf(from);
            if (MemoryFormats.Problem(plan.Format, tensor) is { } problem)
            {
                throw EngineException.Invalid("memory_format", $"{EngineException.Quote(name)} {problem}");
            }

            if (to == from && MemoryFormats.Has(tensor, plan.Format))
            {
                return;
            }

            swaps.Add((tensor, MemoryFormats.Apply(plan.Format, to == from ? tensor.detach() : tensor.detach().to_type(to.ToScalarType()))));
        }
    }
}
