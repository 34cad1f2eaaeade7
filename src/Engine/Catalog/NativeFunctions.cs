using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>Functions that TorchSharp's native library has right and its managed side calls wrong.</summary>
internal static partial class NativeFunctions
{
    /// <summary><c>adaptive_max_pool3d</c>. (TorchSharp's calls the one for one dimension.)</summary>
    public static unsafe (Tensor Values, Tensor Indices) AdaptiveMaxPool3d(Tensor input, long[] outputSize)
    {
        fixed (long* size = outputSize)
        {
            var values = THSTensor_adaptive_max_pool3d(input.Handle, size, outputSize.Length, out var indices);
            GC.KeepAlive(input);
            return (Wrap(values), Wrap(indices));
        }
    }

    // Null means that libtorch threw: TorchSharp kept the message and throws it.
    private static Tensor Wrap(IntPtr handle)
    {
        if (handle == IntPtr.Zero)
        {
            CheckForErrors();
        }

        return Tensor.UnsafeCreateTensor(handle);
    }

    [LibraryImport("LibTorchSharp")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static unsafe partial IntPtr THSTensor_adaptive_max_pool3d(IntPtr tensor, long* outputSize, int outputSizeLength, out IntPtr indices);
}
