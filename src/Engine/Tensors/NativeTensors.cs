using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace Sconce.Engine.Tensors;

/// <summary>The two native calls that TorchSharp does not offer in a form that moves bytes once: a tensor over given memory, and its address.</summary>
internal static unsafe partial class NativeTensors
{
    private const string Library = "LibTorchSharp";

    /// <summary>From this size on, sharing the caller's memory is cheaper than copying it.</summary>
    public const int ShareFrom = 16 * 1024;

    // libtorch's own allocator aligns to 64, and its vector code is fastest there.
    private const int Alignment = 64;

    private static readonly delegate* unmanaged<nint, void> FreeFunction =
        (delegate* unmanaged<nint, void>)NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), "free");

    // Pinned memory by address; libtorch's deleter is told nothing but the address. The same memory may be shared by several tensors.
    private static readonly Dictionary<nint, Stack<MemoryHandle>> Pinned = [];

    /// <summary>A new tensor with the given bytes; its memory comes from malloc and goes back without a call into managed code.</summary>
    public static Tensor Copy(ElementType type, IReadOnlyList<long> shape, ReadOnlySpan<byte> data)
    {
        var tensor = Allocate(type, shape, data.Length, out var memory);
        data.CopyTo(new Span<byte>(memory, data.Length));
        return tensor;
    }

    /// <summary>A new tensor whose memory is not initialised, and the address of that memory.</summary>
    public static Tensor Allocate(ElementType type, IReadOnlyList<long> shape, long bytes, out byte* memory)
    {
        // At least one unit: libtorch wants an address for a tensor without elements too.
        memory = (byte*)AlignedAlloc(Alignment, (nuint)((Math.Max(bytes, 1) + Alignment - 1) / Alignment * Alignment));
        if (memory is null)
        {
            throw new EngineException(EngineError.ResourceExhausted, "OUT_OF_MEMORY", $"the host could not allocate {bytes:N0} bytes");
        }

        try
        {
            return Wrap(memory, FreeFunction, type, shape);
        }
        catch
        {
            FreeFunction((nint)memory);
            throw;
        }
    }

    /// <summary>A tensor over the caller's memory, pinned until libtorch lets the last reference go; a copy where that is cheaper or the address unfit.</summary>
    public static Tensor Share(ElementType type, IReadOnlyList<long> shape, ReadOnlyMemory<byte> data)
    {
        if (data.Length < ShareFrom)
        {
            return Copy(type, shape, data.Span);
        }

        var handle = data.Pin();
        var address = (nint)handle.Pointer;
        if (address % type.Size() != 0)
        {
            handle.Dispose();
            return Copy(type, shape, data.Span);
        }

        lock (Pinned)
        {
            ref var handles = ref CollectionsMarshal.GetValueRefOrAddDefault(Pinned, address, out _);
            (handles ??= new Stack<MemoryHandle>(1)).Push(handle);
        }

        try
        {
            return Wrap((void*)address, &Unpin, type, shape);
        }
        catch
        {
            Unpin(address, Pinned);
            throw;
        }
    }

    /// <summary>Number of shared memory blocks that tensors still hold.</summary>
    public static int PinnedCount
    {
        get
        {
            lock (Pinned)
            {
                return Pinned.Values.Sum(handles => handles.Count);
            }
        }
    }

    /// <summary>Address of a tensor's first element. The tensor must be kept alive by the caller while it is used.</summary>
    public static byte* Address(Tensor tensor)
    {
        var address = Data(tensor.Handle);
        GC.KeepAlive(tensor);
        if (address == 0)
        {
            CheckForErrors();
        }

        return (byte*)address;
    }

    /// <summary>Whether a tensor begins within the memory of another one that is not empty, as a view of it does.</summary>
    public static bool IsWithin(Tensor tensor, Tensor other)
    {
        var (sizes, strides) = (other.shape, other.stride());
        var elements = 1L;
        for (var i = 0; i < sizes.Length; i++)
        {
            elements += (sizes[i] - 1) * strides[i];
        }

        var at = Address(tensor);
        var first = Address(other);
        return at >= first && at < first + (elements * other.ElementSize);
    }

    private static Tensor Wrap(void* memory, delegate* unmanaged<nint, void> deleter, ElementType type, IReadOnlyList<long> shape)
    {
        var rank = shape.Count;
        var sizes = stackalloc long[TensorLayout.MaxRank];
        for (var i = 0; i < rank; i++)
        {
            sizes[i] = shape[i];
        }

        var scalar = (sbyte)type.ToScalarType();
        var handle = New((nint)memory, deleter, sizes, rank, scalar, scalar, (int)TorchSharp.DeviceType.CPU, -1, 0);
        if (handle == 0)
        {
            CheckForErrors();
            throw new EngineException(EngineError.Internal, "TENSOR_NOT_MADE", "libtorch made no tensor and gave no reason");
        }

        return Tensor.UnsafeCreateTensor(handle);
    }

    [UnmanagedCallersOnly]
    private static void Unpin(nint address) => Unpin(address, Pinned);

    private static void Unpin(nint address, Dictionary<nint, Stack<MemoryHandle>> pinned)
    {
        MemoryHandle handle;
        lock (pinned)
        {
            // Any of them will do: equal addresses mean the same memory.
            var handles = pinned[address];
            handle = handles.Pop();
            if (handles.Count == 0)
            {
                pinned.Remove(address);
            }
        }

        handle.Dispose();
    }

    [LibraryImport(Library, EntryPoint = "THSTensor_new")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial nint New(
        nint data, delegate* unmanaged<nint, void> deleter, long* sizes, int rank, sbyte scalarType, sbyte elementType, int deviceType, int deviceIndex, byte requiresGrad);

    [LibraryImport(Library, EntryPoint = "THSTensor_data")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial nint Data(nint tensor);

    [LibraryImport("libc", EntryPoint = "aligned_alloc")]
    private static partial void* AlignedAlloc(nuint alignment, nuint size);
}
