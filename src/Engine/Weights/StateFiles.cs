using System.Buffers.Binary;
using System.IO.Hashing;
using Sconce.Engine.Execution;
using Sconce.Engine.Storage;
using Sconce.Engine.Weights.Safetensors;
using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Weights;

/// <summary>How weights lie in a file; the values equal those of <c>StateFileFormat</c> in the contract.</summary>
public enum StateFileFormat
{
    /// <summary>Of a file that is written: by its name's ending, <c>.pt</c> and <c>.pth</c> being PyTorch's, or else safetensors.</summary>
    Unspecified = 0,

    /// <summary>safetensors.</summary>
    Safetensors = 1,

    /// <summary>PyTorch's zip archive of a state dict, as <c>torch.save</c> writes it.</summary>
    TorchZip = 2,
}

/// <summary>A file that a caller names.</summary>
/// <param name="Name">Its name in the operator's directory, with <c>/</c> between folders.</param>
/// <param name="RootKey">Where in a PyTorch file the state dict is, as keys with dots between, e.g. <c>state_dict</c>; empty where it is the whole file.</param>
/// <param name="Field">Where this stands in the request, e.g. <c>file.</c>.</param>
public sealed record ModelFileRef(string Name, string RootKey = "", string Field = "file.");

/// <summary>What is read as a file of weights, for messages about it.</summary>
/// <param name="Kind">What holds it: <c>file</c>, or <c>shared region</c>.</param>
/// <param name="Name">Its name there.</param>
/// <param name="Field">Where that stands in the request.</param>
/// <param name="RootKey">Where in a PyTorch file the state dict is; empty where it is the whole file.</param>
/// <param name="RootKeyField">Where that stands in the request.</param>
internal sealed record StateOrigin(string Kind, string Name, string Field, string RootKey, string RootKeyField)
{
    /// <summary>A file that a caller names.</summary>
    public static StateOrigin Of(ModelFileRef file) => new("file", file.Name, file.Field + "name", file.RootKey, file.Field + "root_key");

    /// <summary>It, within a sentence.</summary>
    public override string ToString() => $"the {Kind} {EngineException.Quote(Name)}";
}

/// <summary>A file that can be loaded.</summary>
/// <param name="Name">Its name in the operator's directory.</param>
/// <param name="Bytes">Its size.</param>
/// <param name="Format">Its format, by its content.</param>
/// <param name="Modified">When it was last written.</param>
public sealed record ModelFileInfo(string Name, long Bytes, StateFileFormat Format, DateTimeOffset Modified);

/// <summary>A file that was written.</summary>
/// <param name="Name">Its name in the operator's directory.</param>
/// <param name="Bytes">Its size.</param>
/// <param name="Xxh3">XXH3 (64 bit) of its bytes.</param>
/// <param name="Format">Its format.</param>
/// <param name="Tensors">How many tensors it holds.</param>
/// <param name="Generation">Generation of the module at the copy.</param>
public sealed record SavedStateFile(string Name, long Bytes, ulong Xxh3, StateFileFormat Format, int Tensors, ulong Generation);

/// <summary>What a load from a file did.</summary>
/// <param name="Load">What became of the module.</param>
/// <param name="Bytes">Bytes of the tensors that were read.</param>
/// <param name="Format">The file's format.</param>
public sealed record LoadFileOutcome(LoadStateOutcome Load, long Bytes, StateFileFormat Format);

/// <summary>The one place that knows which formats there are: picks the reader by what a file holds, and the writer by what is asked for.</summary>
internal static class StateFiles
{
    private const int Piece = 1 << 26;
    private const int LeastHeader = 10;
    private const int TarMark = 257;
    private const byte PickleMark = 0x80;

    /// <summary>The format of a file, by its first bytes; unspecified where it is none that can be read.</summary>
    /// <exception cref="EngineException">The medium failed.</exception>
    public static StateFileFormat FormatOf(ByteSource file)
    {
        Span<byte> head = stackalloc byte[LeastHeader];
        if (file.Fill(head, 0) < head.Length)
        {
            return StateFileFormat.Unspecified;
        }

        return head.StartsWith("PK\x03\x04"u8) ? StateFileFormat.TorchZip
            : head[sizeof(ulong)] == '{' && BinaryPrimitives.ReadUInt64LittleEndian(head) <= SafetensorsHeader.MaxBytes ? StateFileFormat.Safetensors
            : StateFileFormat.Unspecified;
    }

    /// <summary>Opens a file of weights.</summary>
    /// <param name="file">It; disposed with what is returned, or at once where this throws.</param>
    /// <param name="origin">What holds it.</param>
    /// <exception cref="EngineException">It is of no format that is read, or breaks a rule of its own.</exception>
    public static (IStateFile File, StateFileFormat Format) Open(ByteSource file, StateOrigin origin)
    {
        try
        {
            var format = FormatOf(file);
            if (format == StateFileFormat.Safetensors && origin.RootKey.Length > 0)
            {
                throw EngineException.Invalid(origin.RootKeyField, $"is {EngineException.Quote(origin.RootKey)}, but a safetensors file holds nothing within something; leave it out");
            }

            return format switch
            {
                StateFileFormat.TorchZip => (TorchZipFile.Open(file, origin.RootKey), format),
                StateFileFormat.Safetensors => (SafetensorsFile.Open(file, origin.ToString()), format),

                // What torch.save wrote before there were zip files, which is refused by its name.
                _ when IsOldTorch(file) => (TorchZipFile.Open(file, origin.RootKey), format),
                _ => throw EngineException.Invalid(origin.Field, $"is {origin}, which holds neither a safetensors file nor a PyTorch zip file of a state dict, by its content", "FILE_FORMAT"),
            };
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static bool IsOldTorch(ByteSource file)
    {
        Span<byte> head = stackalloc byte[TarMark + 5];
        var read = file.Fill(head, 0);
        return (read > 1 && head[0] == PickleMark) || (read == head.Length && head[TarMark..].SequenceEqual("ustar"u8));
    }

    /// <summary>The format that a file is written in.</summary>
    /// <exception cref="EngineException">It is none.</exception>
    public static StateFileFormat FormatFor(StateFileFormat format, string name) => format switch
    {
        StateFileFormat.Unspecified => Path.GetExtension(name) is ".pt" or ".pth" ? StateFileFormat.TorchZip : StateFileFormat.Safetensors,
        StateFileFormat.Safetensors or StateFileFormat.TorchZip => format,
        _ => throw EngineException.Invalid("format", $"is {(int)format}, which is no format of a file"),
    };

    /// <summary>Prepares the writing of a file, so that what the format cannot hold is refused before there is a file.</summary>
    /// <param name="state">What is written; it must last until then, and until a <see cref="WriteOnlyStream"/> that it was written to is disposed.</param>
    /// <param name="format">How.</param>
    /// <exception cref="EngineException">The format cannot hold a dtype or a key.</exception>
    public static Action<Stream> Writer(StateSnapshot state, StateFileFormat format)
    {
        if (format == StateFileFormat.TorchZip)
        {
            return new TorchZipWriter([.. state.Entries.Select((entry, i) => (entry.Key, state.Export(i).Tensor))]).Write;
        }

        var layout = state.AsSafetensors();
        return stream =>
        {
            stream.Write(layout.Header.Span);
            foreach (var entry in layout.Order)
            {
                var length = state.ByteLength(entry);
                for (var offset = 0L; offset < length; offset += Piece)
                {
                    var piece = state.Read(entry, offset, (int)Math.Min(Piece, length - offset)).Span;
                    if (stream is WriteOnlyStream lasting)
                    {
                        lasting.WriteLasting(piece);
                    }
                    else
                    {
                        stream.Write(piece);
                    }
                }
            }
        };
    }

    /// <summary>Counts and hashes what goes through it into another stream, which stays open.</summary>
    public sealed class Counted(Stream inner, CancellationToken cancellationToken) : WriteOnlyStream
    {
        private readonly XxHash3 _hash = new();

        public ulong Digest => _hash.GetCurrentHashAsUInt64();

        protected override void Take(ReadOnlySpan<byte> bytes)
        {
            cancellationToken.ThrowIfCancellationRequested();
            inner.Write(bytes);
            _hash.Append(bytes);
        }
    }
}
