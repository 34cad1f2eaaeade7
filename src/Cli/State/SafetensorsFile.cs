using System.Buffers.Binary;
using System.Text.Json;
using Sconce.Client;

namespace Sconce.Cli.State;

/// <summary>Reads and writes state dicts as safetensors files, which Python's safetensors library reads and writes too.</summary>
internal static class SafetensorsFile
{
    private const int Alignment = 8;

    /// <exception cref="UsageException">The file is missing, unreadable, or no safetensors file; the message says why.</exception>
    public static IReadOnlyList<KeyValuePair<string, TensorData>> Read(string path)
    {
        try
        {
            using var file = File.OpenHandle(path);
            return Read(file);
        }
        catch (FormatException e)
        {
            throw new UsageException($"{path}: not a safetensors file: {e.Message}.", e);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new UsageException($"{path}: there is no such file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Writes the tensors; the file appears under its name only when it is whole.</summary>
    /// <exception cref="UsageException">The file cannot be written, or a tensor has a dtype that the format lacks.</exception>
    public static void Write(string path, IReadOnlyList<KeyValuePair<string, TensorData>> tensors)
    {
        var header = WriteHeader(tensors, out var order);
        var temporary = $"{path}.{Guid.NewGuid():n}.tmp";
        try
        {
            using (var file = File.Create(temporary))
            {
                Span<byte> length = stackalloc byte[sizeof(ulong)];
                BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)header.Length);
                file.Write(length);
                file.Write(header);
                foreach (var index in order)
                    file.Write(tensors[index].Value.Bytes.Span);
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{path}: cannot be written: {e.Message}", e);
        }
        finally
        {
            if (File.Exists(temporary))
                File.Delete(temporary);
        }
    }

    private static KeyValuePair<string, TensorData>[] Read(Microsoft.Win32.SafeHandles.SafeFileHandle file)
    {
        var total = RandomAccess.GetLength(file);
        Span<byte> prefix = stackalloc byte[sizeof(ulong)];
        if (total < prefix.Length)
            throw new FormatException($"it has {total} bytes, and the header's length alone takes 8");
        ReadExactly(file, prefix, 0);
        var headerBytes = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (headerBytes > SafetensorsHeader.MaxBytes)
            throw new FormatException($"it declares a header of {headerBytes} bytes; the format allows {SafetensorsHeader.MaxBytes}");
        if ((long)headerBytes > total - prefix.Length)
            throw new FormatException($"it declares a header of {headerBytes} bytes, and {total - prefix.Length} follow");

        var header = new byte[headerBytes];
        ReadExactly(file, header, prefix.Length);
        var dataBegin = prefix.Length + header.Length;
        var entries = SafetensorsHeader.Parse(header, total - dataBegin);
        var tensors = new KeyValuePair<string, TensorData>[entries.Count];
        for (var i = 0; i < tensors.Length; i++)
        {
            var entry = entries[i];
            if (entry.End - entry.Begin > Array.MaxLength)
                throw new FormatException($"'{entry.Key}' has {entry.End - entry.Begin} bytes; this command moves tensors of up to {Array.MaxLength}");
            var bytes = new byte[entry.End - entry.Begin];
            ReadExactly(file, bytes, dataBegin + entry.Begin);
            tensors[i] = new(entry.Key, TensorData.FromBytes(entry.DType, [.. entry.Shape], bytes));
        }

        return tensors;
    }

    private static void ReadExactly(Microsoft.Win32.SafeHandles.SafeFileHandle file, Span<byte> buffer, long offset)
    {
        while (!buffer.IsEmpty)
        {
            var read = RandomAccess.Read(file, buffer, offset);
            if (read == 0)
                throw new FormatException("it became shorter while it was read");
            buffer = buffer[read..];
            offset += read;
        }
    }

    /// <summary>The header lists the tensors in the given order; their bytes lie in descending order of element size, so that each is aligned.</summary>
    private static byte[] WriteHeader(IReadOnlyList<KeyValuePair<string, TensorData>> tensors, out int[] order)
    {
        order = [.. Enumerable.Range(0, tensors.Count).OrderByDescending(i => DataTypes.SizeOf(tensors[i].Value.DType))];
        var begin = new long[tensors.Count];
        long at = 0;
        foreach (var index in order)
        {
            begin[index] = at;
            at += tensors[index].Value.Bytes.Length;
        }

        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteStartObject("__metadata__");
            json.WriteString("format", "pt");
            json.WriteEndObject();
            for (var i = 0; i < tensors.Count; i++)
            {
                var (key, tensor) = tensors[i];
                json.WriteStartObject(key);
                json.WriteString("dtype", SafetensorsHeader.NameOf(tensor.DType, key));
                json.WriteStartArray("shape");
                foreach (var size in tensor.Shape)
                    json.WriteNumberValue(size);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(begin[i]);
                json.WriteNumberValue(begin[i] + tensor.Bytes.Length);
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        while (buffer.Length % Alignment != 0)
            buffer.WriteByte((byte)' ');
        return buffer.ToArray();
    }
}
