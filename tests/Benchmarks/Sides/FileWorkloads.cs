using System.Runtime.InteropServices;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.Safetensors;
using static TorchSharp.torch;

namespace Sconce.Benchmarks.Sides;

/// <summary>Loads a file of 512 MiB that the system has in memory, and reads it without looking at it.</summary>
internal sealed unsafe partial class FileWorkloads
{
    /// <summary>Bytes of the tensors together.</summary>
    public const long Bytes = 512 << 20;

    /// <summary>A transformer's matrices have some megabytes each.</summary>
    private const int TensorBytes = 4 << 20;

    private readonly string _path = Path.Combine(Path.GetTempPath(), $"sconce-bench-{Guid.NewGuid():n}.safetensors");

    /// <summary>Writes the file, which goes when the process does.</summary>
    public FileWorkloads()
    {
        AppDomain.CurrentDomain.ProcessExit += (_, _) => File.Delete(_path);
        var layout = SafetensorsLayout.Of([.. Enumerable.Range(0, (int)(Bytes / TensorBytes)).Select(i => new Engine.Execution.StateEntryInfo($"layer{i}.weight", ElementType.Float32, [1024, 1024]))]);
        var tensor = new byte[TensorBytes];
        new Random(0).NextBytes(tensor);
        using var file = File.Create(_path);
        file.Write(layout.Header.Span);
        foreach (var _ in layout.Order)
        {
            file.Write(tensor);
        }
    }

    /// <summary>Opens the file, reads all of it into new memory, in pieces as large as the tensors, and gives that back to the system.</summary>
    public void Read()
    {
        using var file = File.OpenHandle(_path);
        var length = RandomAccess.GetLength(file);
        var pieces = new List<nint>();
        for (var offset = 0L; offset < length;)
        {
            var piece = NativeMemory.AlignedAlloc(TensorBytes, 64);
            pieces.Add((nint)piece);
            offset += RandomAccess.Read(file, new Span<byte>(piece, TensorBytes), offset);
        }

        foreach (var piece in pieces)
        {
            NativeMemory.AlignedFree((void*)piece);
        }

        _ = malloc_trim(0);
    }

    /// <summary>Opens the file, checks it, reads every tensor, and gives their memory back to the system.</summary>
    public void LoadSafetensors()
    {
        using var file = SafetensorsFile.Open(_path, "the benchmark's file");
        var tensors = new Tensor[file.Entries.Count];
        for (var i = 0; i < tensors.Length; i++)
        {
            tensors[i] = file.Read(i);
        }

        foreach (var tensor in tensors)
        {
            tensor.Dispose();
        }

        _ = malloc_trim(0);
    }

    // What is read into memory that was used before costs a fifth; whether the allocator keeps it is luck, and no load's first.
    [LibraryImport("libc")]
    private static partial int malloc_trim(nuint pad);
}
