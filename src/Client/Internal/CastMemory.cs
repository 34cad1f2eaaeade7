using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Sconce.Client.Internal;

/// <summary>Memory of one element type seen as memory of another, so that elements and wire bytes are the same buffer.</summary>
internal static class CastMemory
{
    public static ReadOnlyMemory<byte> AsBytes<T>(ReadOnlyMemory<T> memory)
        where T : unmanaged => Cast<T, byte>(memory);

    public static ReadOnlyMemory<TTo> Cast<TFrom, TTo>(ReadOnlyMemory<TFrom> memory)
        where TFrom : unmanaged
        where TTo : unmanaged
    {
        // The wire is little-endian; swapping would need copies, and .NET's little-endian platforms are the ones people use.
        if (!BitConverter.IsLittleEndian)
            throw new PlatformNotSupportedException("Sconce.Client needs a little-endian processor.");
        if (typeof(TFrom) == typeof(TTo))
            return Unsafe.As<ReadOnlyMemory<TFrom>, ReadOnlyMemory<TTo>>(ref memory);
        if (memory.IsEmpty)
            return default;

        // Casting back gives the original buffer, not a view of a view.
        if (MemoryMarshal.TryGetMemoryManager<TFrom, Manager<TTo, TFrom>>(memory, out var manager, out var start, out var length)
            && (long)start * Unsafe.SizeOf<TFrom>() % Unsafe.SizeOf<TTo>() == 0)
        {
            var from = start * Unsafe.SizeOf<TFrom>() / Unsafe.SizeOf<TTo>();
            return manager.Source.Slice(from, checked((int)((long)length * Unsafe.SizeOf<TFrom>() / Unsafe.SizeOf<TTo>())));
        }

        return new Manager<TFrom, TTo>(memory).Memory;
    }

    /// <summary>The elements of a dense tensor as memory, without a copy; the memory keeps the tensor alive.</summary>
    public static ReadOnlyMemory<T> Of<T>(Tensor<T> tensor)
        where T : unmanaged
    {
        if (tensor.FlattenedLength > int.MaxValue)
        {
            throw new ArgumentException(
                $"The tensor has {tensor.FlattenedLength} elements; one message carries fewer than {int.MaxValue}.", nameof(tensor));
        }

        if (tensor.FlattenedLength == 0)
            return default;
        return new TensorManager<T>(tensor.IsDense ? tensor : tensor.ToDenseTensor()).Memory;
    }

    private sealed class Manager<TFrom, TTo>(ReadOnlyMemory<TFrom> source) : MemoryManager<TTo>
        where TFrom : unmanaged
        where TTo : unmanaged
    {
        public ReadOnlyMemory<TFrom> Source => source;

        // Only ever handed out as ReadOnlyMemory, so the writable span does not leak.
        public override Span<TTo> GetSpan() => MemoryMarshal.Cast<TFrom, TTo>(MemoryMarshal.AsMemory(source).Span);

        public override unsafe MemoryHandle Pin(int elementIndex = 0)
        {
            var handle = source.Pin();
            return new MemoryHandle((byte*)handle.Pointer + ((long)elementIndex * Unsafe.SizeOf<TTo>()), default, new Unpin(handle));
        }

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }

    private sealed class Unpin(MemoryHandle handle) : IPinnable
    {
        private MemoryHandle _handle = handle;

        MemoryHandle IPinnable.Pin(int elementIndex) => throw new NotSupportedException("Pin the memory instead.");

        void IPinnable.Unpin() => _handle.Dispose();
    }

    private sealed class TensorManager<T>(Tensor<T> tensor) : MemoryManager<T>
        where T : unmanaged
    {
        public override Span<T> GetSpan() =>
            MemoryMarshal.CreateSpan(ref Unsafe.AsRef(in tensor.GetPinnableReference()), checked((int)tensor.FlattenedLength));

        public override unsafe MemoryHandle Pin(int elementIndex = 0)
        {
            var handle = tensor.GetPinnedHandle();
            return new MemoryHandle((T*)handle.Pointer + elementIndex, default, new Unpin(handle));
        }

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
