using System.Buffers.Binary;
using System.IO.Hashing;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// A state dict that <c>torch.save</c> wrote (PyTorch 1.6 and later), open for reading. The archive's directory and the pickle were read and checked whole;
/// each storage is checked against its CRC-32 when a tensor of it is first read. Reads may come from several threads.
/// </summary>
internal sealed class TorchZipFile : IStateFile
{
    private const int SniffLength = 512;

    // Read and summed piece by piece, so that a piece is summed while it is in the cache.
    private const int Piece = 1 << 20;

    private readonly ByteSource _source;
    private readonly List<TorchTensor> _tensors;

    private TorchZipFile(ByteSource source, List<TorchTensor> tensors)
    {
        (_source, _tensors) = (source, tensors);
        Entries = [.. tensors.Select(tensor => new StateEntryInfo(tensor.Key, tensor.Type, tensor.Sizes))];
    }

    /// <inheritdoc/>
    /// <remarks>Shapes are as the file gives them: one of a small storage that is expanded may be huge, so what is read must be charged by these.</remarks>
    public IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <summary>Opens a file.</summary>
    /// <param name="path">Its path. Errors tell its last part only.</param>
    /// <param name="root">Where in the file the state dict is, as keys with dots between, e.g. <c>state_dict</c>; null or empty where it is the whole file.</param>
    /// <exception cref="EngineException">There is no such file, or it breaks a rule, or it is of a form that is not read; the message says which.</exception>
    public static TorchZipFile Open(string path, string? root = null) => Open(ByteSource.Open(path), root);

    /// <summary>Opens bytes.</summary>
    /// <param name="source">They; disposed with the file, or at once where this throws.</param>
    /// <param name="root">As for the other overload.</param>
    /// <exception cref="EngineException">As for the other overload.</exception>
    public static TorchZipFile Open(ByteSource source, string? root = null)
    {
        try
        {
            CheckForm(source);
            var records = ZipDirectory.Read(source);
            var (folder, pickle) = FindPickle(source, records);
            var state = StateRoot.Select(PickleMachine.Read(pickle), root);
            return new TorchZipFile(source, state.ConvertAll(entry => TorchTensor.Check(entry.Key, entry.Tensor, records, $"{folder}data/")));
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public Tensor Read(int entry, CancellationToken cancellationToken = default)
    {
        var tensor = _tensors[entry];
        try
        {
            return Read(tensor, cancellationToken);
        }
        catch (EngineException exception) when (exception.Error == EngineError.DataLoss)
        {
            throw new EngineException(exception.Error, exception.Reason, $"tensor {EngineException.Quote(tensor.Key)}: {exception.Message}", exception);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();

    private unsafe Tensor Read(TorchTensor tensor, CancellationToken cancellationToken)
    {
        var isDense = tensor.IsDense;
        var isWhole = isDense && tensor.Bytes == tensor.Record.Length;
        if (tensor.Bytes > 0 && !isWhole && !tensor.Record.IsVerified)
        {
            Verify(_source, tensor.Record, cancellationToken);
        }

        var read = NativeTensors.Allocate(tensor.Type, tensor.Sizes, tensor.Bytes, out var memory);
        try
        {
            if (isWhole)
            {
                ReadWhole(tensor.Record, memory, cancellationToken);
            }
            else if (isDense)
            {
                ReadPart(tensor.Record.Offset + (tensor.Offset * tensor.Type.Size()), memory, tensor.Bytes, cancellationToken);
            }
            else if (tensor.Bytes > 0)
            {
                StridedRead.Into(read, _source, tensor, cancellationToken);
            }

            if (tensor.Type == ElementType.Bool)
            {
                TensorLayout.CheckBooleans(memory, tensor.Bytes, $"tensors[{EngineException.Quote(tensor.Key)}]");
            }

            return read;
        }
        catch
        {
            read.Dispose();
            throw;
        }
    }

    private unsafe void ReadWhole(ZipRecord record, byte* memory, CancellationToken cancellationToken)
    {
        var sum = new Crc32();
        for (var at = 0L; at < record.Length; at += Piece)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var piece = new Span<byte>(memory + at, (int)Math.Min(Piece, record.Length - at));
            _source.ReadExactly(piece, record.Offset + at);
            sum.Append(piece);
        }

        record.Verify(sum.GetCurrentHashAsUInt32());
    }

    private unsafe void ReadPart(long offset, byte* memory, long bytes, CancellationToken cancellationToken)
    {
        for (var at = 0L; at < bytes; at += Piece)
        {
            cancellationToken.ThrowIfCancellationRequested();
            _source.ReadExactly(new Span<byte>(memory + at, (int)Math.Min(Piece, bytes - at)), offset + at);
        }
    }

    private static void Verify(ByteSource source, ZipRecord record, CancellationToken cancellationToken)
    {
        var sum = new Crc32();
        var piece = new byte[(int)Math.Min(Piece, record.Length)];
        for (var at = 0L; at < record.Length; at += piece.Length)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var part = piece.AsSpan(0, (int)Math.Min(piece.Length, record.Length - at));
            source.ReadExactly(part, record.Offset + at);
            sum.Append(part);
        }

        record.Verify(sum.GetCurrentHashAsUInt32());
    }

    // The one data.pkl, with the folder that it is in, and what else tells which kind of archive this is.
    private static (string Folder, byte[] Pickle) FindPickle(ByteSource source, Dictionary<string, ZipRecord> records)
    {
        var pickles = records.Values.Where(record => record.Name == "data.pkl" || record.Name.EndsWith("/data.pkl", StringComparison.Ordinal)).ToList();
        if (pickles.Count != 1 || pickles[0].Name.Count(c => c == '/') != 1)
        {
            throw TorchZipErrors.Malformed(pickles.Count > 1
                ? $"it has {pickles.Count} records data.pkl: {string.Join(", ", pickles.Take(4).Select(record => EngineException.Quote(record.Name)))}; one is possible"
                : "it has no record data.pkl in one folder: it is a zip archive, but not of torch.save");
        }

        var record = pickles[0];
        var folder = record.Name[..^"data.pkl".Length];
        if (records.Keys.FirstOrDefault(name => name == $"{folder}constants.pkl" || name.StartsWith($"{folder}code/", StringComparison.Ordinal)) is { } code)
        {
            throw TorchZipErrors.Unimplemented("TORCHSCRIPT_ARCHIVE",
                $"this is a TorchScript archive, which torch.jit.save wrote (it has {EngineException.Quote(code)}): a program with its weights, and no state dict; save torch.jit.load(path).state_dict() by torch.save");
        }

        // After that, because TorchScript compresses its code.
        if (records.Values.FirstOrDefault(one => one.Method != 0) is { } packed)
        {
            throw TorchZipErrors.Malformed($"record {EngineException.Quote(packed.Name)} is compressed (method {packed.Method}); torch.save stores its records as they are: save it again, or pack it again without compression");
        }

        if (records.TryGetValue($"{folder}byteorder", out var order) && ReadSmall(source, order, "little".Length) is var bytes && !bytes.AsSpan().SequenceEqual("little"u8))
        {
            throw bytes.AsSpan().SequenceEqual("big"u8)
                ? TorchZipErrors.Unimplemented("BIG_ENDIAN", "this PyTorch file was written on a big-endian machine, and its numbers are not turned round; save it again on a little-endian one")
                : TorchZipErrors.Malformed("its record byteorder holds neither little nor big");
        }

        return (folder, ReadSmall(source, record, TorchZipLimits.PickleBytes));
    }

    private static byte[] ReadSmall(ByteSource source, ZipRecord record, int limit)
    {
        if (record.Length > limit)
        {
            throw TorchZipErrors.Limit($"its record {EngineException.Quote(record.Name)} has {record.Length:N0} bytes; at most {limit:N0} are taken");
        }

        var bytes = new byte[record.Length];
        source.ReadExactly(bytes, record.Offset);
        record.Verify(Crc32.HashToUInt32(bytes));
        return bytes;
    }

    // Files that people take for such an archive, by their first bytes.
    private static void CheckForm(ByteSource source)
    {
        var start = new byte[(int)Math.Min(SniffLength, source.Length)];
        source.ReadExactly(start, 0);
        if (start.AsSpan().StartsWith("PK\x03\x04"u8) || start.AsSpan().StartsWith("PK\x05\x06"u8))
        {
            return;
        }

        // torch.save began every file with this number before PyTorch 1.6.
        if (start.AsSpan().StartsWith((ReadOnlySpan<byte>)[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]))
        {
            throw TorchZipErrors.Unimplemented("LEGACY_TORCH_FILE",
                "this PyTorch file is of the legacy format (before 1.6, or _use_new_zipfile_serialization=False), which is not read; load it in PyTorch and save it again by torch.save");
        }

        if (start.Length > 262 && start.AsSpan(257).StartsWith("ustar"u8))
        {
            throw TorchZipErrors.Unimplemented("TAR_FILE", "this is a tar file, PyTorch's format before 0.1.10, which is not read; load it in PyTorch and save it again by torch.save");
        }

        if (start is [0x80, >= 1 and <= 5, ..])
        {
            throw TorchZipErrors.Unimplemented("PLAIN_PICKLE", "this is a plain pickle, which is not read: torch.save writes a zip archive; save a state dict by torch.save");
        }

        throw new EngineException(EngineError.InvalidArgument, "NOT_A_TORCH_FILE", IsSafetensors(start)
            ? "this is a safetensors file, and no PyTorch file"
            : "this is no PyTorch file: it does not begin as a zip archive, which torch.save writes");
    }

    private static bool IsSafetensors(ReadOnlySpan<byte> start) =>
        start is [_, _, _, _, _, _, _, _, (byte)'{', ..] && BinaryPrimitives.ReadUInt64LittleEndian(start) is > 0 and <= 100_000_000;
}
