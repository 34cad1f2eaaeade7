using System.Buffers.Binary;
using System.IO.Compression;

namespace Sconce.Cli.Data;

/// <summary>An array of bytes in the idx format of MNIST (http://yann.lecun.com/exdb/mnist/), plain or gzipped.</summary>
internal sealed class IdxFile
{
    private const byte UnsignedByte = 0x08;

    private IdxFile(string path, int[] shape, byte[] data)
    {
        Path = path;
        Shape = shape;
        Data = data;
    }

    public string Path { get; }

    /// <summary>Sizes of the dimensions, outermost first.</summary>
    public IReadOnlyList<int> Shape { get; }

    /// <summary>The elements, row-major.</summary>
    public byte[] Data { get; }

    /// <summary>Whether a file of this name is taken to be idx.</summary>
    public static bool HasName(string path)
        => path.EndsWith("-ubyte", StringComparison.Ordinal) || path.EndsWith("-ubyte.gz", StringComparison.Ordinal)
            || path.EndsWith(".idx", StringComparison.Ordinal) || path.EndsWith(".idx.gz", StringComparison.Ordinal);

    /// <exception cref="UsageException">The file is missing, unreadable, or not idx; the message says what was found and expected.</exception>
    public static IdxFile Read(string path)
    {
        try
        {
            using var file = File.OpenRead(path);
            if (!path.EndsWith(".gz", StringComparison.Ordinal))
                return Read(path, file);
            using var unzipped = new GZipStream(file, CompressionMode.Decompress);
            return Read(path, unzipped);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new UsageException($"{path}: there is no such file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new UsageException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    private static IdxFile Read(string path, Stream stream)
    {
        Span<byte> header = stackalloc byte[4];
        if (stream.ReadAtLeast(header, 4, throwOnEndOfStream: false) < 4)
            throw new UsageException($"{path}: ends inside its 4-byte idx header.");
        if (header[0] != 0 || header[1] != 0 || header[2] != UnsignedByte || header[3] == 0)
            throw new UsageException($"{path}: begins with 0x{BinaryPrimitives.ReadUInt32BigEndian(header):x8}; an idx file of bytes begins with "
                + "0x000008NN, NN being the number of dimensions (0x00000803 for images, 0x00000801 for labels).");

        var shape = new int[header[3]];
        long size = 1;
        for (var i = 0; i < shape.Length; i++)
        {
            if (stream.ReadAtLeast(header, 4, throwOnEndOfStream: false) < 4)
                throw new UsageException($"{path}: ends inside its header: {shape.Length} dimensions are declared, {i} are there.");
            shape[i] = BinaryPrimitives.ReadInt32BigEndian(header);
            if (shape[i] < 0 || (size *= shape[i]) > Array.MaxLength)
                throw new UsageException($"{path}: declares [{string.Join(", ", shape[..(i + 1)])}…], more than {Array.MaxLength} bytes; it is damaged or no idx file.");
        }

        // Grown by what is really there: a header that lies must not cost more memory than its file.
        using var body = new MemoryStream((int)Math.Min(size, 1 << 24));
        CopyAtMost(stream, body, size + 1);
        if (body.Length != size)
            throw new UsageException($"{path}: declares [{string.Join(", ", shape)}] = {size} bytes, but {(body.Length < size ? $"ends after {body.Length}" : "has more")}.");
        return new IdxFile(path, shape, body.Capacity == size ? body.GetBuffer() : body.ToArray());
    }

    private static void CopyAtMost(Stream from, MemoryStream to, long most)
    {
        var buffer = new byte[81920];
        int read;
        while (most > 0 && (read = from.Read(buffer, 0, (int)Math.Min(buffer.Length, most))) > 0)
        {
            to.Write(buffer, 0, read);
            most -= read;
        }
    }
}
