using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.Safetensors;

/// <summary>Writes tensors as a safetensors file.</summary>
internal static class SafetensorsWriter
{
    private const int Chunk = 1 << 26;

    /// <summary>Lays out the file of a state dict, which costs no copy of its tensors.</summary>
    /// <param name="entries">The tensors, in the order of the header.</param>
    /// <param name="metadata">As for <see cref="SafetensorsLayout.Of"/>.</param>
    /// <exception cref="EngineException">A tensor has a dtype or a name that the format cannot hold.</exception>
    public static SafetensorsLayout Layout(IReadOnlyList<StateEntry> entries, IReadOnlyDictionary<string, string>? metadata = null) =>
        SafetensorsLayout.Of([.. entries.Select(entry => new StateEntryInfo(entry.Key, entry.Tensor.dtype.ToElementType(), entry.Tensor.shape))], metadata);

    /// <summary>
    /// Writes exactly <see cref="SafetensorsLayout.FileBytes"/> bytes, straight from the tensors' memory. Of a tensor that is not row-major, or on another device,
    /// 64 MiB are copied at a time.
    /// </summary>
    /// <param name="stream">Where to; it need not seek, and is not flushed.</param>
    /// <param name="layout">What <see cref="Layout"/> made of the same entries.</param>
    /// <param name="entries">The tensors; nothing may change them meanwhile.</param>
    /// <param name="cancel">Looked at before each piece.</param>
    /// <exception cref="OperationCanceledException">It was cancelled; a part is written.</exception>
    public static void Write(Stream stream, SafetensorsLayout layout, IReadOnlyList<StateEntry> entries, CancellationToken cancel = default)
    {
        using var noGrad = no_grad();
        stream.Write(layout.Header.Span);
        foreach (var index in layout.Order)
        {
            // An alias, so that what is freed afterwards is not the module's.
            Write(stream, entries[index].Tensor.detach().alias(), cancel);
        }
    }

    // Disposes the tensor.
    private static void Write(Stream stream, Tensor tensor, CancellationToken cancel)
    {
        var bytes = TensorSize.Of(tensor);
        if (bytes > Chunk && tensor.dim() > 0 && !IsPlain(tensor))
        {
            using (tensor)
            {
                WriteParts(stream, tensor, bytes, cancel);
            }

            return;
        }

        using var export = TensorExport.Take(tensor);
        for (var offset = 0L; offset < export.ByteLength; offset += Chunk)
        {
            cancel.ThrowIfCancellationRequested();
            stream.Write(export.Slice(offset, (int)Math.Min(Chunk, export.ByteLength - offset)).Span);
        }
    }

    private static void WriteParts(Stream stream, Tensor tensor, long bytes, CancellationToken cancel)
    {
        var size = tensor.shape[0];
        var rows = Math.Max(1, Chunk / (bytes / size));
        for (var row = 0L; row < size; row += rows)
        {
            Write(stream, size == 1 ? tensor.select(0, 0) : tensor.narrow(0, row, Math.Min(rows, size - row)), cancel);
        }
    }

    private static bool IsPlain(Tensor tensor) =>
        tensor.device_type == TorchSharp.DeviceType.CPU && tensor.is_contiguous() && !tensor.is_neg() && !(tensor.is_complex() && tensor.is_conj());
}
