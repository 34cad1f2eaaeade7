using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.Safetensors;

/// <summary>One tensor of a safetensors file: where its bytes lie in the data, which begins behind the header.</summary>
/// <param name="Key">Its name.</param>
/// <param name="Type">Its element type.</param>
/// <param name="Shape">Its sizes, outermost first.</param>
/// <param name="Begin">Its first byte, counted from <see cref="SafetensorsHeader.DataBegin"/>.</param>
/// <param name="End">The byte behind its last one.</param>
public sealed record SafetensorsEntry(string Key, ElementType Type, IReadOnlyList<long> Shape, long Begin, long End);

/// <summary>
/// The header of a safetensors file (https://github.com/huggingface/safetensors#format), read strictly: what the format forbids is refused, and so
/// is what its reference reader lets by: repeated keys, control characters in names, tensors in array form, more than 64 dimensions. Public
/// because the command line reads files with it too; it needs no libtorch.
/// </summary>
/// <remarks>
/// A header describes up to <see cref="MaxTensors"/> tensors with names of up to <see cref="MaxNameLength"/> characters; reading one takes less than
/// 256 MB, whatever it holds. An error is an <see cref="EngineException"/> whose reason is the rule that was broken and whose resource is the tensor,
/// where it is about one: INVALID_ARGUMENT, or UNIMPLEMENTED for a dtype of the format that TorchSharp lacks (F8_*, U16, U32, U64 and smaller ones).
/// </remarks>
public sealed class SafetensorsHeader
{
    /// <summary>Most bytes of a header: the format's own limit.</summary>
    public const int MaxBytes = 100_000_000;

    /// <summary>Most tensors of a file.</summary>
    public const int MaxTensors = 1 << 18;

    /// <summary>Most UTF-16 characters of a tensor's name.</summary>
    public const int MaxNameLength = 4096;

    /// <summary>What is no tensor.</summary>
    internal const string MetadataKey = "__metadata__";

    /// <summary>Bytes of the header's length, which stands before it.</summary>
    internal const int PrefixBytes = sizeof(ulong);

    internal SafetensorsHeader(IReadOnlyList<SafetensorsEntry> entries, IReadOnlyDictionary<string, string> metadata, long dataBegin) =>
        (Entries, Metadata, DataBegin) = (entries, metadata, dataBegin);

    /// <summary>The tensors, in the order of the header's JSON, which need not be that of their bytes.</summary>
    public IReadOnlyList<SafetensorsEntry> Entries { get; }

    /// <summary>The file's <c>__metadata__</c>; empty where it has none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Where the tensors' bytes begin in the file.</summary>
    public long DataBegin { get; }

    /// <summary>Reads the header of an open file.</summary>
    /// <param name="file">The file, which can be read at any position. It stays open.</param>
    /// <exception cref="EngineException">It breaks a rule of the format.</exception>
    public static SafetensorsHeader Read(SafeFileHandle file)
    {
        using var source = ByteSource.Of(file);
        return Read(source);
    }

    /// <summary>Reads the JSON of a header.</summary>
    /// <param name="json">The header's bytes, without the length before them.</param>
    /// <param name="dataBytes">Bytes that follow the header in the file.</param>
    /// <exception cref="EngineException">It breaks a rule of the format.</exception>
    public static SafetensorsHeader Parse(ReadOnlySpan<byte> json, long dataBytes)
    {
        var header = SafetensorsHeaderReader.Read(json);
        CheckLayout(header.Entries, dataBytes);
        return header;
    }

    internal static unsafe SafetensorsHeader Read(ByteSource source)
    {
        // The brace too, so that no memory is taken for what is no header.
        var start = stackalloc byte[PrefixBytes + 1];
        var total = source.Length;
        var read = source.Fill(start, Math.Min(total, PrefixBytes + 1), 0);
        if (read < PrefixBytes)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.TooShort, $"it has {read} bytes, and the header's length alone takes {PrefixBytes}");
        }

        var declared = BinaryPrimitives.ReadUInt64LittleEndian(new ReadOnlySpan<byte>(start, PrefixBytes));
        if (declared > MaxBytes)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderTooLarge, $"it declares a header of {declared} bytes; the format allows {MaxBytes}");
        }

        var length = (int)declared;
        if (length > total - PrefixBytes)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderBeyondFile, $"it declares a header of {length} bytes, and {total - PrefixBytes} follow");
        }

        SafetensorsHeaderReader.CheckStart(new ReadOnlySpan<byte>(start + PrefixBytes, length == 0 ? 0 : 1));

        // Not the collector's: up to 100 MB that are gone when this returns.
        var memory = (byte*)NativeMemory.Alloc((nuint)length);
        try
        {
            return source.Fill(memory, length, PrefixBytes) == length
                ? Parse(new ReadOnlySpan<byte>(memory, length), total - PrefixBytes - length)
                : throw new EngineException(EngineError.DataLoss, SafetensorsRule.CutShort, "it became shorter while its header was read; read it again when whoever writes it is done");
        }
        finally
        {
            NativeMemory.Free(memory);
        }
    }

    /// <summary>In order of offset the tensors begin at 0, leave no hole, never overlap, and end where the file does.</summary>
    private static void CheckLayout(IReadOnlyList<SafetensorsEntry> entries, long dataBytes)
    {
        var order = entries.ToArray();
        Array.Sort(order, (a, b) => a.Begin != b.Begin ? a.Begin.CompareTo(b.Begin) : a.End.CompareTo(b.End));
        var at = 0L;
        foreach (var entry in order)
        {
            if (entry.Begin != at)
            {
                var hole = entry.Begin > at;
                throw SafetensorsRule.Broken(hole ? SafetensorsRule.Hole : SafetensorsRule.Overlap,
                    $"{EngineException.Quote(entry.Key)} begins at byte {entry.Begin} of the data, where byte {at} is next: {(hole ? "a hole" : "an overlap")}", entry.Key);
            }

            if (entry.End > dataBytes)
            {
                throw SafetensorsRule.Broken(SafetensorsRule.CutShort,
                    $"{EngineException.Quote(entry.Key)} ends at byte {entry.End} of the data, but {dataBytes} bytes follow the header: the file is cut short", entry.Key);
            }

            at = entry.End;
        }

        if (at != dataBytes)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.TrailingData, $"its tensors take {at} bytes, but {dataBytes} follow the header: the file is longer than it says");
        }
    }
}
