using Sconce.Client;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.Safetensors;
using Sconce.V1;

namespace Sconce.Cli.State;

/// <summary>Reads and writes state dicts as safetensors files, which Python's safetensors library reads and writes too. The format is the engine's; libtorch is not loaded for it.</summary>
internal static class SafetensorsFile
{
    /// <exception cref="UsageException">The file is missing, unreadable, or no safetensors file; the message says why.</exception>
    public static IReadOnlyList<KeyValuePair<string, TensorData>> Read(string path)
    {
        try
        {
            using var file = File.OpenHandle(path);
            return Read(file);
        }
        catch (Exception e) when (e is FormatException or EngineException)
        {
            throw new UsageException($"{path}: not a safetensors file: {e.Message}.", e);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new UsageException($"{path}: there is no such file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new UsageException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Writes the tensors; the file appears under its name only when it is whole.</summary>
    /// <exception cref="UsageException">The file cannot be written, or a tensor has a dtype that the format lacks.</exception>
    public static void Write(string path, IReadOnlyList<KeyValuePair<string, TensorData>> tensors)
    {
        var layout = Layout(tensors);
        var temporary = $"{path}.{Guid.NewGuid():n}.tmp";
        try
        {
            using (var file = File.Create(temporary))
            {
                file.Write(layout.Header.Span);
                foreach (var index in layout.Order)
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
        var header = SafetensorsHeader.Read(file);
        var tensors = new KeyValuePair<string, TensorData>[header.Entries.Count];
        for (var i = 0; i < tensors.Length; i++)
        {
            var (key, type, shape, begin, end) = header.Entries[i];
            if (end - begin > Array.MaxLength)
                throw new FormatException($"{EngineException.Quote(key)} has {end - begin} bytes; this command moves tensors of up to {Array.MaxLength}");
            var bytes = new byte[end - begin];
            ReadExactly(file, bytes, header.DataBegin + begin);
            // The engine's element types have the values of the contract's.
            tensors[i] = new(key, TensorData.FromBytes((DataType)type, [.. shape], bytes));
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

    private static SafetensorsLayout Layout(IReadOnlyList<KeyValuePair<string, TensorData>> tensors)
    {
        try
        {
            return SafetensorsLayout.Of([.. tensors.Select(pair => new StateEntryInfo(pair.Key, (ElementType)pair.Value.DType, [.. pair.Value.Shape]))]);
        }
        catch (EngineException e)
        {
            throw new UsageException($"{e.Message}.", e);
        }
    }
}
