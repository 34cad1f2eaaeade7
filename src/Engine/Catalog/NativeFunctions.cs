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

    /// <summary><c>linalg.vector_norm</c>. (TorchSharp's makes a Scalar of the order that nothing holds: the garbage collector may free it during the call.)</summary>
    /// <param name="input">Any shape, floating point or complex.</param>
    /// <param name="order">The order of the norm.</param>
    /// <param name="dims">The dimensions to reduce; null or none for all.</param>
    /// <param name="keepDims">Whether those stay, with the size 1.</param>
    public static unsafe Tensor VectorNorm(Tensor input, double order, long[]? dims, bool keepDims)
    {
        var scalar = THSTorch_float64_to_scalar(order);
        try
        {
            fixed (long* dim = dims)
            {
                var norm = THSLinalg_vector_norm(input.Handle, scalar, dim, dims?.Length ?? 0, keepDims);
                GC.KeepAlive(input);
                return Wrap(norm);
            }
        }
        finally
        {
            THSTorch_dispose_scalar(scalar);
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

    [LibraryImport("LibTorchSharp")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial IntPtr THSTorch_float64_to_scalar(double value);

    [LibraryImport("LibTorchSharp")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial void THSTorch_dispose_scalar(IntPtr scalar);

    [LibraryImport("LibTorchSharp")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static unsafe partial IntPtr THSLinalg_vector_norm(IntPtr tensor, IntPtr order, long* dim, int dimLength, [MarshalAs(UnmanagedType.U1)] bool keepdim);
}
