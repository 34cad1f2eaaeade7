using System.Buffers;
using System.Runtime.ExceptionServices;
using Sconce.Engine.Execution;

namespace Sconce.Server.Streams;

/// <summary>
/// Where the bytes of an upload's chunks go while their messages are read: from the connection's buffers into the tensors' own memory, without an array between. Whoever reads a message
/// knows nothing of the call, so the sink is ambient there.
/// </summary>
/// <param name="framing">Checks and digests them.</param>
/// <param name="upload">Keeps them.</param>
internal sealed class ChunkSink(StateFraming framing, StateUpload upload)
{
    private static readonly AsyncLocal<ChunkSink?> Ambient = new();

    private ExceptionDispatchInfo? _failure;
    private int _taken;

    /// <summary>The sink of the message that is being read; null where its bytes are to stay in it.</summary>
    public static ChunkSink? Current => Ambient.Value;

    /// <summary>Makes it the sink of what is read from here on, until the async method that calls this ends.</summary>
    public void Use() => Ambient.Value = this;

    /// <summary>Takes a chunk's bytes. A refusal is kept for <see cref="Took"/>: from here it would be logged as an error in reading the message.</summary>
    public void Take(uint entry, ulong offset, ReadOnlySequence<byte> data)
    {
        _taken = (int)data.Length;
        try
        {
            framing.Accept(entry, offset, data);
            upload.Write((int)entry, (long)offset, data);
        }
        catch (Exception exception)
        {
            _failure = ExceptionDispatchInfo.Capture(exception);
        }
    }

    /// <summary>How many bytes of the last message were taken; 0 where they are in the message.</summary>
    /// <exception cref="Sconce.Engine.EngineException">They were refused.</exception>
    public int Took()
    {
        _failure?.Throw();
        var taken = _taken;
        _taken = 0;
        return taken;
    }
}
