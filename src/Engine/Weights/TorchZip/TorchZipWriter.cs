using static TorchSharp.torch;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>Writes a state dict as a file that <c>torch.load(path, weights_only=True)</c> opens, PyTorch 1.13 and later, as an <c>OrderedDict</c> of tensors.</summary>
internal sealed class TorchZipWriter
{
    private const string Folder = "archive";
    private const int Piece = 1 << 20;

    private readonly byte[] _pickle;
    private readonly List<WrittenStorage> _storages;

    /// <summary>Plans a file. The tensors must stay as they are until it is written.</summary>
    /// <param name="entries">Names and tensors, in order, which stay the caller's. Those that share memory are written once, and are tied when they are loaded.</param>
    /// <exception cref="EngineException">A tensor is of a dtype that the contract does not have.</exception>
    public TorchZipWriter(IReadOnlyList<(string Key, Tensor Value)> entries)
    {
        (_storages, var tensors) = WrittenStorage.Plan(entries);
        _pickle = StatePickle.Write(tensors, [.. _storages.Select(storage => (storage.Type, storage.Count))]);
        Length = ZipWriter.Length(Records().Select(record => (record.Name, record.Length)));
    }

    /// <summary>Bytes that <see cref="Write(Stream)"/> writes.</summary>
    public long Length { get; }

    /// <summary>Writes a state dict.</summary>
    /// <param name="stream">Where it goes; never sought, and not disposed.</param>
    /// <param name="entries">As for the constructor.</param>
    public static void Write(Stream stream, IReadOnlyList<(string Key, Tensor Value)> entries) => new TorchZipWriter(entries).Write(stream);

    /// <summary>Writes the file.</summary>
    /// <param name="stream">Where it goes; never sought, and not disposed.</param>
    public void Write(Stream stream)
    {
        var zip = new ZipWriter(stream);
        foreach (var (name, length, content) in Records())
        {
            zip.Add(name, length, content);
        }

        zip.Finish();
    }

    private IEnumerable<(string Name, long Length, Action<Action<ReadOnlyMemory<byte>>> Content)> Records()
    {
        yield return Small("data.pkl", _pickle);
        yield return Small("byteorder", "little"u8.ToArray());
        for (var i = 0; i < _storages.Count; i++)
        {
            var storage = _storages[i];
            yield return ($"{Folder}/data/{i}", storage.Bytes, take => storage.Pieces(Piece, take));
        }

        // The version of torch.save's archives.
        yield return Small("version", "3\n"u8.ToArray());

        static (string, long, Action<Action<ReadOnlyMemory<byte>>>) Small(string name, byte[] bytes) => ($"{Folder}/{name}", bytes.Length, take => take(bytes));
    }
}
