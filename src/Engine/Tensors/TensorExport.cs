using System.Buffers;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tensors;

/// <summary>The bytes of a tensor, row-major and little-endian, read where libtorch keeps them. Valid until disposed.</summary>
public sealed unsafe class TensorExport : MemoryManager<byte>, IDisposable
{
    private readonly Tensor _tensor;
    private readonly byte* _address;
    private bool _disposed;

    private TensorExport(Tensor tensor)
    {
        _tensor = tensor;
        Type = tensor.dtype.ToElementType();
        Shape = tensor.shape;
        ByteLength = tensor.numel() * Type.Size();
        _address = NativeTensors.Address(tensor);
    }

    /// <summary>Element type.</summary>
    public ElementType Type { get; }

    /// <summary>Sizes of the dimensions, outermost first.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>Number of bytes.</summary>
    public long ByteLength { get; }

    /// <summary>The tensor itself, dense and in host memory; it goes with this.</summary>
    internal Tensor Tensor => _tensor;

    /// <summary>All bytes.</summary>
    /// <exception cref="EngineException">There are 2 GiB or more, which one message cannot carry.</exception>
    public ReadOnlyMemory<byte> Data => ByteLength <= int.MaxValue
        ? CreateMemory((int)ByteLength)
        : throw new EngineException(EngineError.ResourceExhausted, "TENSOR_TOO_LARGE",
            $"a tensor of {ByteLength:N0} bytes does not fit a message of at most {int.MaxValue:N0}; return a part of it, or read state as a stream");

    /// <summary>A part of the bytes.</summary>
    /// <param name="offset">Where it begins.</param>
    /// <param name="length">How many bytes.</param>
    public ReadOnlyMemory<byte> Slice(long offset, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, ByteLength - offset);
        return ByteLength <= int.MaxValue ? CreateMemory((int)offset, length) : new Window(this, offset, length).Memory;
    }

    /// <summary>Takes a tensor over for export: it is disposed with this, or at once where a dense copy in host memory had to be made.</summary>
    /// <param name="tensor">The tensor.</param>
    internal static TensorExport Take(Tensor tensor)
    {
        var dense = tensor;
        try
        {
            // The bytes of a lazily conjugated or negated view are not those that it shows.
            dense = Replace(dense, dense.is_complex() && dense.is_conj() ? dense.resolve_conj() : dense);
            dense = Replace(dense, dense.is_neg() ? dense.resolve_neg() : dense);
            dense = Replace(dense, dense.device_type == DeviceType.CPU ? dense : dense.cpu());
            dense = Replace(dense, dense.is_contiguous() ? dense : dense.contiguous());
            dense.DetachFromDisposeScope();
            return new TensorExport(dense);
        }
        catch
        {
            dense.Dispose();
            throw;
        }

        static Tensor Replace(Tensor old, Tensor replacement)
        {
            if (!ReferenceEquals(old, replacement))
            {
                old.Dispose();
            }

            return replacement;
        }
    }

    /// <summary>Frees the tensor, unless something else holds it too.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <inheritdoc/>
    public override Span<byte> GetSpan()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return new Span<byte>(_address, (int)Math.Min(ByteLength, int.MaxValue));
    }

    /// <inheritdoc/>
    public override MemoryHandle Pin(int elementIndex = 0)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return new MemoryHandle(_address + elementIndex, pinnable: this);
    }

    /// <inheritdoc/>
    public override void Unpin()
    {
        // Native memory never moves.
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && !_disposed)
        {
            _disposed = true;
            _tensor.Dispose();
        }
    }

    /// <summary>A part of a tensor that is larger than a memory manager can span.</summary>
    private sealed class Window(TensorExport owner, long offset, int length) : MemoryManager<byte>
    {
        public override Span<byte> GetSpan()
        {
            ObjectDisposedException.ThrowIf(owner._disposed, owner);
            return new Span<byte>(owner._address + offset, length);
        }

        public override MemoryHandle Pin(int elementIndex = 0)
        {
            ObjectDisposedException.ThrowIf(owner._disposed, owner);
            return new MemoryHandle(owner._address + offset + elementIndex, pinnable: this);
        }

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
