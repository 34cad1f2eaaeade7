using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Data;

/// <summary>One tensor in NumPy's file format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).</summary>
internal static partial class NpyFile
{
    private const int MaxHeader = 65536;

    private static readonly (string Descr, DataType DType)[] Types =
    [
        ("<f4", DataType.Float32), ("<f8", DataType.Float64), ("<f2", DataType.Float16), ("|u1", DataType.Uint8), ("|i1", DataType.Int8), ("<i2", DataType.Int16),
        ("<i4", DataType.Int32), ("<i8", DataType.Int64), ("|b1", DataType.Bool), ("<c8", DataType.Complex64), ("<c16", DataType.Complex128),
    ];

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    /// <exception cref="UsageException">The file is missing, unreadable, or not npy; the message says why.</exception>
    public static TensorData Read(string path)
    {
        byte[] file;
        try
        {
            file = File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new UsageException($"{path}: there is no such file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{path}: cannot be read: {e.Message}", e);
        }

        var lengthBytes = file.Length > 6 && file[6] == 1 ? 2 : 4;
        if (file.Length < 8 + lengthBytes || !file.AsSpan(0, 6).SequenceEqual(Magic) || file[6] is < 1 or > 3)
            throw new UsageException($"{path}: not an npy file of version 1 to 3: it does not begin with \\x93NUMPY and a version.");
        var headerBytes = lengthBytes == 2 ? BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(8)) : BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(8));
        var dataBegin = 8 + lengthBytes + (long)headerBytes;
        if (headerBytes > MaxHeader || dataBegin > file.Length)
            throw new UsageException($"{path}: declares a header of {headerBytes} bytes in a file of {file.Length}.");
        var header = Encoding.UTF8.GetString(file, 8 + lengthBytes, (int)headerBytes);
        if (HeaderPattern().Match(header) is not { Success: true } match)
            throw new UsageException($"{path}: its npy header cannot be understood: {header.Trim()}");
        return Build(path, match, file.AsMemory((int)dataBegin));
    }

    /// <exception cref="UsageException">The file cannot be written, or NumPy lacks the dtype.</exception>
    public static void Write(string path, TensorData tensor)
    {
        var descr = Array.Find(Types, type => type.DType == tensor.DType).Descr
            ?? throw new UsageException($"NumPy has no {DataTypes.NameOf(tensor.DType)}: convert the module first (e.g. `sconce to NAME float`), or print the values.");
        var shape = tensor.Shape.Length == 1 ? $"({tensor.Shape[0]},)" : $"({string.Join(", ", tensor.Shape)})";
        var header = $"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}";
        // The format asks for the data at a multiple of 64, after a final newline.
        header = header.PadRight((header.Length + 11 + 63) / 64 * 64 - 11) + "\n";
        try
        {
            using var file = File.Create(path);
            file.Write(Magic);
            file.Write([1, 0, (byte)header.Length, (byte)(header.Length >> 8)]);
            file.Write(Encoding.ASCII.GetBytes(header));
            file.Write(tensor.Bytes.Span);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{path}: cannot be written: {e.Message}", e);
        }
    }

    private static TensorData Build(string path, Match header, ReadOnlyMemory<byte> data)
    {
        var descr = header.Groups["descr"].Value;
        var type = Array.FindIndex(Types, type => type.Descr == descr);
        if (type < 0)
            throw new UsageException($"{path}: has the NumPy dtype '{descr}'; known are {string.Join(", ", Types.Select(known => known.Descr))}.");
        if (header.Groups["fortran"].Value == "True")
            throw new UsageException($"{path}: is in Fortran order; save it in C order (numpy.ascontiguousarray).");
        var shape = new List<long>();
        foreach (var size in header.Groups["shape"].Value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
            shape.Add(long.TryParse(size, NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : throw new UsageException($"{path}: '{size}' is no size of a dimension."));
        try
        {
            return TensorData.FromBytes(Types[type].DType, [.. shape], data);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"{path}: is damaged: {e.Message}", e);
        }
    }

    [GeneratedRegex(@"^\{'descr': '(?<descr>[^']*)', 'fortran_order': (?<fortran>True|False), 'shape': \((?<shape>[0-9, ]*)\), ?\}\s*$")]
    private static partial Regex HeaderPattern();
}
