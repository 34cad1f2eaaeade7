using System.Runtime.InteropServices;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// <c>tensor.data = value</c>, which TorchSharp lacks: the tensor takes another's storage, dtype and shape and stays the same object to
/// autograd, optimizers and everyone who holds it.
/// </summary>
internal static partial class NativeSetData
{
    /// <summary>Replaces a tensor's data.</summary>
    /// <param name="target">The tensor that keeps its identity.</param>
    /// <param name="value">Its new data; the caller goes on owning this handle.</param>
    /// <exception cref="InvalidOperationException">The pair is not possible.</exception>
    public static void SetData(Tensor target, Tensor value)
    {
        // The native function throws through our frames, which ends the process: what it would refuse is refused here.
        if (target.is_sparse != value.is_sparse || target.device_type != value.device_type)
        {
            throw new InvalidOperationException($"a {(value.is_sparse ? "sparse" : "dense")} tensor on {value.device} cannot become the data of a {(target.is_sparse ? "sparse" : "dense")} one on {target.device}");
        }

        if (target.requires_grad && !CanRequireGrad(value.dtype.ToElementType()))
        {
            throw new InvalidOperationException($"a tensor that requires grad cannot be {value.dtype.ToElementType().Name()}");
        }

        set_data(target.Handle, value.Handle);
        GC.KeepAlive(target);
        GC.KeepAlive(value);
    }

    /// <summary>Whether autograd can follow a dtype.</summary>
    public static bool CanRequireGrad(ElementType type) => type.IsFloatingPoint() || type.IsComplex();

    [LibraryImport("torch_cpu", EntryPoint = "_ZN2at4_ops8set_data4callERNS_6TensorERKS2_")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial void set_data(IntPtr self, IntPtr newData);
}
