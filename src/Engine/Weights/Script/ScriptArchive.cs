using System.IO.Compression;
using System.IO.Hashing;
using System.Text;
using System.Text.RegularExpressions;
using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// A TorchScript file, open and checked: that it is a zip archive of <c>torch.jit.save</c> (PyTorch 1.5 and later), undamaged, and that its code uses nothing but what is allowed. libtorch never
/// sees the file itself but what <see cref="Write"/> makes of it, so that it cannot find another program in it than the one that was checked.
/// </summary>
internal sealed partial class ScriptArchive : IDisposable
{
    private const string Folder = "archive";

    // Where the version is of files that older libtorchs must not read as theirs; which of the two it is decides nothing else.
    private const string NewVersion = ".data/version";
    private const int Stored = 0;
    private const int Deflated = 8;
    private const int Piece = 1 << 20;

    private readonly ByteSource _source;
    private readonly List<(string Name, ZipRecord Record, byte[]? Content)> _records;

    private ScriptArchive(ByteSource source, List<(string Name, ZipRecord Record, byte[]? Content)> records, ScriptRules rules, IReadOnlyDictionary<string, ScriptUnit> units, string root)
    {
        (_source, _records, Operators) = (source, records, rules.Used);
        IsStateful = rules.SetsAttributes || Operators.Any(name => Stateful().IsMatch(name));
        Classes = [.. units.Values.Where(unit => unit.IsClass).Select(unit => unit.Name)];
        Program = new ScriptProgram(units, root);
        Length = ZipWriter.Length(Written().Select(record => (record.Name, record.Length)));
    }

    /// <summary>Whether calls may draw random numbers, or change what the module keeps, in eval mode too.</summary>
    public bool IsStateful { get; }

    /// <summary>The operators that its code uses, by qualified name.</summary>
    public IReadOnlyCollection<string> Operators { get; }

    /// <summary>Qualified names of its classes.</summary>
    public IReadOnlyList<string> Classes { get; }

    /// <summary>What its code says of its classes.</summary>
    public ScriptProgram Program { get; }

    /// <summary>Bytes that <see cref="Write"/> writes.</summary>
    public long Length { get; }

    /// <summary>Opens and checks a file. Its tensors are not read yet.</summary>
    /// <param name="source">Its bytes; disposed with the archive, or at once where this throws.</param>
    /// <param name="operators">What its code may use.</param>
    /// <exception cref="EngineException">It is no such file, is damaged, or its code uses what is not allowed; the message names it and its place.</exception>
    public static ScriptArchive Open(ByteSource source, ScriptOperators operators)
    {
        try
        {
            CheckForm(source);
            var records = ZipDirectory.Read(source);
            var folder = FindFolder(records);
            var kept = new List<(string, ZipRecord, byte[]?)>();
            var units = new Dictionary<string, ScriptUnit>(StringComparer.Ordinal);
            var (bytes, tokens) = (0L, 0L);
            foreach (var record in records.Values.OrderBy(record => record.Name, StringComparer.Ordinal))
            {
                var name = record.Name.StartsWith(folder, StringComparison.Ordinal) ? record.Name[folder.Length..] : "";
                if (name is "data.pkl" or "constants.pkl")
                {
                    kept.Add((name, record, Unpack(source, record, name, ScriptLimits.PickleBytes)));
                }
                else if (name is "version" or NewVersion or "byteorder")
                {
                    kept.Add((name, record, Version(Unpack(source, record, name, 16), name)));
                }
                else if (TensorName().IsMatch(name))
                {
                    kept.Add((name, record.Method == Stored ? record : throw ScriptErrors.Malformed($"record {EngineException.Quote(name)} is compressed, as no tensor is"), null));
                }
                else if (CodeName().IsMatch(name))
                {
                    var code = Unpack(source, record, name, ScriptLimits.SourceBytes);
                    bytes += code.Length;
                    var lines = bytes <= ScriptLimits.CodeBytes ? ScriptTokenizer.Read(code, name) : throw ScriptErrors.Limit($"it has more than {ScriptLimits.CodeBytes:N0} bytes of code");
                    tokens += lines.Sum(line => (long)line.Tokens.Length);
                    Add(units, tokens <= ScriptLimits.Tokens ? ScriptSource.Read(lines, name["code/".Length..^".py".Length].Replace('/', '.'), name) : throw ScriptErrors.Limit($"it has more than {ScriptLimits.Tokens:N0} tokens of code"));
                    kept.Add((name, record, code));
                }

                // All else is left behind: what tells debuggers where code came from, which libtorch would read only after an error; and what people added.
            }

            var rules = new ScriptRules(units, operators);
            rules.Check();
            new ScriptCalls(units).Check();
            return new ScriptArchive(source, kept, rules, units, CheckValues(kept, units, records, folder));
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>Writes the archive anew: the same tensors, values and code, and nothing else. Every tensor is checked against its CRC-32 on the way.</summary>
    /// <param name="stream">Where it goes; never sought, and not disposed.</param>
    /// <exception cref="EngineException">The file is damaged, or became shorter; what was written is of no use.</exception>
    public void Write(Stream stream)
    {
        var zip = new ZipWriter(stream);
        foreach (var (name, length, content) in Written())
        {
            zip.Add(name, length, content);
        }

        zip.Finish();
    }

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();

    private IEnumerable<(string Name, long Length, Action<Action<ReadOnlyMemory<byte>>> Content)> Written()
    {
        foreach (var (name, record, content) in _records)
        {
            yield return content is null
                ? ($"{Folder}/{name}", record.Length, take => Copy(record, take))
                : ($"{Folder}/{name}", content.Length, take => take(content));
        }
    }

    private void Copy(ZipRecord record, Action<ReadOnlyMemory<byte>> take)
    {
        var sum = new Crc32();
        var piece = new byte[(int)Math.Min(Piece, record.Length)];
        for (var at = 0L; at < record.Length; at += piece.Length)
        {
            var part = piece.AsMemory(0, (int)Math.Min(piece.Length, record.Length - at));
            _source.ReadExactly(part.Span, record.Offset + at);
            sum.Append(part.Span);
            take(part);
        }

        record.Verify(sum.GetCurrentHashAsUInt32());
    }

    private static void CheckForm(ByteSource source)
    {
        Span<byte> start = stackalloc byte[(int)Math.Min(4, source.Length)];
        source.ReadExactly(start, 0);
        if (!start.SequenceEqual("PK\x03\x04"u8))
        {
            throw new EngineException(EngineError.InvalidArgument, "NOT_A_SCRIPT", "this is no TorchScript file: it does not begin as a zip archive, which torch.jit.save writes (PyTorch 1.5 and later)");
        }
    }

    private static string FindFolder(Dictionary<string, ZipRecord> records)
    {
        var pickles = records.Keys.Where(name => name == "data.pkl" || name.EndsWith("/data.pkl", StringComparison.Ordinal)).ToList();
        if (pickles.Count != 1 || pickles[0].Count(c => c == '/') != 1)
        {
            throw new EngineException(EngineError.InvalidArgument, "NOT_A_SCRIPT", $"this is no TorchScript file: it has {pickles.Count} records data.pkl, where torch.jit.save writes one, in a folder");
        }

        var folder = pickles[0][..^"data.pkl".Length];
        return records.ContainsKey($"{folder}constants.pkl") && records.ContainsKey($"{folder}version") != records.ContainsKey($"{folder}{NewVersion}") ? folder
            : throw new EngineException(EngineError.InvalidArgument, "NOT_A_SCRIPT",
                "this is no TorchScript file: it lacks the record constants.pkl, or has not one record version, so that torch.save wrote it, not torch.jit.save; a state dict is loaded by LoadStateDict");
    }

    private static void Add(Dictionary<string, ScriptUnit> units, List<ScriptUnit> more)
    {
        foreach (var unit in more)
        {
            if (!units.TryAdd(unit.Name, unit))
            {
                throw ScriptErrors.Malformed($"{EngineException.Quote(unit.Name)} is there twice", unit.File, unit.Lines[0].Number);
            }
        }
    }

    // What the module holds, and what its code's CONSTANTS are. Gives back the module's class.
    private static string CheckValues(List<(string Name, ZipRecord Record, byte[]? Content)> kept, Dictionary<string, ScriptUnit> units, Dictionary<string, ZipRecord> records, string folder)
    {
        var constants = Values("constants");
        if (constants.Items is not { } tensors || tensors.Any(value => value.Kind != PickleKind.Tensor))
        {
            throw ScriptErrors.Malformed("its constants.pkl holds something else than a tuple of tensors");
        }

        return ScriptPickle.ClassOf(Values("data")) ?? throw ScriptErrors.Malformed("its data.pkl holds no object of a class of its code");

        PickleValue Values(string name) => ScriptPickle.Check(kept.Find(record => record.Name == $"{name}.pkl").Content, units, records, $"{name}.pkl", $"{folder}{name}/");
    }

    private static byte[] Version(byte[] content, string name)
    {
        var text = Encoding.ASCII.GetString(content).TrimEnd('\n');
        return name == "byteorder"
            ? text == "little" ? content : throw TorchZipErrors.Unimplemented("BIG_ENDIAN", "this TorchScript file was written on a big-endian machine, and its numbers are not turned round; save it again on a little-endian one")
            : text.Length is > 0 and < 4 && text.All(char.IsAsciiDigit) ? content : throw ScriptErrors.Malformed("its record version holds no number");
    }

    private static byte[] Unpack(ByteSource source, ZipRecord record, string name, int limit)
    {
        if (record.Size > limit || record.Length > limit)
        {
            throw ScriptErrors.Limit($"record {EngineException.Quote(name)} has {Math.Max(record.Size, record.Length):N0} bytes; at most {limit:N0} are taken");
        }

        var packed = new byte[record.Length];
        source.ReadExactly(packed, record.Offset);
        var content = record.Method switch
        {
            Stored => packed,
            Deflated => Inflate(packed, (int)record.Size, name),
            _ => throw ScriptErrors.Malformed($"record {EngineException.Quote(name)} is compressed by method {record.Method}; torch.jit.save stores and deflates"),
        };
        record.Verify(Crc32.HashToUInt32(content));
        return content;
    }

    private static byte[] Inflate(byte[] packed, int size, string name)
    {
        // One byte more than is said, to see that it is not there.
        var content = new byte[size + 1];
        var read = 0;
        try
        {
            using var deflate = new DeflateStream(new MemoryStream(packed), CompressionMode.Decompress);
            read = deflate.ReadAtLeast(content, content.Length, throwOnEndOfStream: false);
        }
        catch (InvalidDataException)
        {
            throw ScriptErrors.Malformed($"record {EngineException.Quote(name)} cannot be unpacked");
        }

        return read == size ? content[..size] : throw ScriptErrors.Malformed($"record {EngineException.Quote(name)} does not unpack to the {size:N0} bytes that the archive says");
    }

    // What draws by its name; what ends with an underscore changes a tensor; and what changes lists and dictionaries.
    [GeneratedRegex(@"rand|normal|bernoulli|poisson|multinomial|binomial|dropout|rrelu|fractional|gamma|[a-z0-9]_\z|::(?:_set_item|append|clear|extend|insert|pop|popitem|remove|reverse|setdefault|sort|update|Delete)\z")]
    private static partial Regex Stateful();

    [GeneratedRegex(@"^(?:data|constants)/[0-9]{1,20}\z")]
    private static partial Regex TensorName();

    [GeneratedRegex(@"^code/__torch__(?:/[A-Za-z_][A-Za-z_0-9]*)*\.py\z")]
    private static partial Regex CodeName();
}
