using System.Runtime.InteropServices;
using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>Puts the chunks of a stream of tensors together.</summary>
internal static class StateReader
{
    /// <summary>The float32 tensors of a stream by name.</summary>
    public static Dictionary<string, float[]> Read<T>(IReadOnlyList<T> parts, Func<T, (StateManifest? Manifest, StateChunk? Chunk)> open)
    {
        var manifest = open(parts[0]).Manifest!;
        var bytes = manifest.Entries.Select(_ => new List<byte>()).ToArray();
        foreach (var part in parts)
        {
            if (open(part).Chunk is { } chunk)
            {
                Assert.Equal((ulong)bytes[chunk.Entry].Count, chunk.Offset);
                bytes[chunk.Entry].AddRange(chunk.Data.Span);
            }
        }

        return manifest.Entries.Select((entry, i) => (entry.Key, Values: MemoryMarshal.Cast<byte, float>(CollectionsMarshal.AsSpan(bytes[i])).ToArray()))
            .ToDictionary(pair => pair.Key, pair => pair.Values);
    }
}
