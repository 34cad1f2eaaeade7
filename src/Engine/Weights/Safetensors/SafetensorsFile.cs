using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.Safetensors;

/// <summary>
/// A safetensors file, open for reading. Its header was checked whole when it was opened; each tensor is one positioned read into its own memory, so a file that
/// is cut short meanwhile is an error, never a signal. Several threads may read at once.
/// </summary>
/// <remarks>A boolean tensor whose bytes are not all 0 or 1 is refused, as everywhere in Sconce: libtorch takes other values and computes nonsense.</remarks>
internal sealed unsafe class SafetensorsFile : IStateFile
{
    private readonly ByteSource _source;
    private readonly string _name;
    private readonly SafetensorsHeader _header;

    private SafetensorsFile(ByteSource source, string name, SafetensorsHeader header)
    {
        (_source, _name, _header) = (source, name, header);
        Entries = [.. header.Entries.Select(entry => new StateEntryInfo(entry.Key, entry.Type, entry.Shape))];
    }

    /// <inheritdoc/>
    public IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <summary>The file's <c>__metadata__</c>; empty where it has none.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _header.Metadata;

    /// <summary>Opens a file and checks its header.</summary>
    /// <param name="path">Its path.</param>
    /// <param name="name">What errors call it, such as <c>the file "mlp.safetensors"</c>: a path on the host is not for every caller to see.</param>
    /// <exception cref="EngineException">
    /// There is no such file (NOT_FOUND), it cannot be read (FAILED_PRECONDITION), it breaks a rule of the format (INVALID_ARGUMENT; the reason is the rule), or it
    /// holds a dtype that the host lacks (UNIMPLEMENTED).
    /// </exception>
    public static SafetensorsFile Open(string path, string name) => Open(() => ByteSource.Open(path), name);

    /// <summary>Takes over what is open already and checks its header.</summary>
    /// <param name="source">Its bytes; disposed with what is returned, or at once where this throws.</param>
    /// <param name="name">What errors call it.</param>
    /// <exception cref="EngineException">It breaks a rule of the format.</exception>
    public static SafetensorsFile Open(ByteSource source, string name) => Open(() => source, name);

    /// <summary>Opens a file that is in memory and checks its header.</summary>
    /// <param name="content">Its bytes, which must not change while it is open.</param>
    /// <param name="name">What errors call it.</param>
    /// <exception cref="EngineException">It breaks a rule of the format.</exception>
    public static SafetensorsFile Open(ReadOnlyMemory<byte> content, string name) => Open(() => ByteSource.Of(content), name);

    /// <inheritdoc/>
    public Tensor Read(int entry, CancellationToken cancellationToken = default)
    {
        var (key, type, shape, begin, end) = _header.Entries[entry];
        var length = end - begin;
        var tensor = NativeTensors.Allocate(type, shape, length, out var memory).DetachFromDisposeScope();
        try
        {
            Fill(memory, key, begin, length, cancellationToken);
            if (type == ElementType.Bool)
            {
                CheckBooleans(memory, length, key);
            }

            return tensor;
        }
        catch
        {
            tensor.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();

    private static SafetensorsFile Open(Func<ByteSource> open, string name)
    {
        ByteSource? source = null;
        try
        {
            source = open();
            return new SafetensorsFile(source, name, SafetensorsHeader.Read(source));
        }
        catch (EngineException exception)
        {
            source?.Dispose();
            throw Named(exception, name);
        }
        catch
        {
            source?.Dispose();
            throw;
        }
    }

    private static EngineException Named(EngineException exception, string name) =>
        new(exception.Error, exception.Reason, $"{name}: {exception.Message}", exception) { Resource = exception.Resource };

    private void Fill(byte* memory, string key, long begin, long length, CancellationToken cancellationToken)
    {
        long read;
        try
        {
            read = _source.Fill(memory, length, _header.DataBegin + begin, cancellationToken);
        }
        catch (EngineException exception)
        {
            throw Named(exception, $"{_name}, {EngineException.Quote(key)}");
        }

        if (read < length)
        {
            throw new EngineException(EngineError.DataLoss, SafetensorsRule.CutShort,
                $"{_name} became shorter after it was opened: {EngineException.Quote(key)} has {length} bytes, of which {read} are left; load it again when whoever writes it is done")
            {
                Resource = new ResourceRef("tensor", key),
            };
        }
    }

    private void CheckBooleans(byte* memory, long length, string key)
    {
        var at = TensorLayout.IndexOfNoBoolean(memory, length);
        if (at >= 0)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.Bool, $"{_name}: {EngineException.Quote(key)} has {memory[at]} at byte {at}; a bool is 0 or 1", key);
        }
    }
}
