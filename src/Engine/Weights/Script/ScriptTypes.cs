using System.Security.Cryptography;
using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Storage;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// The catalogue's type <c>TorchScript</c>, and the files that it makes modules of. A file is checked and tried before it is first used, for each example that callers give; what was tried is kept for as long as
/// modules are made of it, and a while longer.
/// </summary>
internal sealed class ScriptTypes : IDisposable
{
    /// <summary>What specs call it.</summary>
    public const string TypeName = "TorchScript";

    /// <summary>The operator's directory.</summary>
    public const string Setting = "script_dir";

    /// <summary>What a spec gives.</summary>
    public static readonly IReadOnlyList<Argument> Arguments = [Argument.Text("file"), Argument.Shapes("example").OrNone(), Argument.Texts("example_dtypes").OrNone()];

    private const string What = "the TorchScript file";

    // Callers that wait for a trial, and the one that has it. Each trial takes its time, so that a long queue helps nobody.
    private const int MostWaiting = 16;
    private static readonly TimeSpan RetryCrowded = TimeSpan.FromSeconds(5);

    // One at a time: each may take the memory that the setting allows.
    private readonly SemaphoreSlim _turn = new(1);
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Prepared> _files = new(StringComparer.Ordinal);
    private readonly EngineOptions _options;
    private readonly MemoryLedger _ledger;
    private readonly ScriptOperators _operators;
    private int _waiting;

    /// <summary>Creates it.</summary>
    /// <param name="options">Checked.</param>
    /// <param name="ledger">Charged for the files that are kept in memory.</param>
    /// <param name="time">The clock of the watch.</param>
    public ScriptTypes(EngineOptions options, MemoryLedger ledger, TimeProvider time)
    {
        Watch = new ScriptWatch(options.ScriptTimeout, time);
        (_options, _ledger, _operators) = (options, ledger, ScriptOperators.With(options.ScriptOperators));
        Type = new ModuleType(TypeName, "Module", "", Arguments, [], Create);
        Descriptions = options.ScriptDir.Length == 0 ? [] : [Type.Describe()];
    }

    /// <summary>Sees calls that never end.</summary>
    public ScriptWatch Watch { get; }

    /// <summary>The type.</summary>
    public ModuleType Type { get; }

    /// <summary>What the catalogue tells of it: nothing where it is off.</summary>
    public IReadOnlyList<CatalogType> Descriptions { get; }

    /// <summary>Files that are kept in memory.</summary>
    public int Kept
    {
        get
        {
            lock (_lock)
            {
                return _files.Count;
            }
        }
    }

    /// <summary>Checks and tries every file that a spec names, off the lanes, so that it can be built.</summary>
    /// <param name="spec">The spec.</param>
    /// <param name="cancellationToken">Ends a trial.</param>
    /// <returns>Keeps the files, until it is built and this is disposed.</returns>
    /// <exception cref="EngineException">It is off, a file is not there or is refused, or its trial failed.</exception>
    public async Task<IDisposable?> PrepareAsync(ModuleSpec spec, CancellationToken cancellationToken)
    {
        if (Scripts(spec) is not { Count: > 0 } scripts)
        {
            return null;
        }

        var kept = new Lease();
        try
        {
            foreach (var (script, field) in scripts)
            {
                var args = ArgumentBinder.Bind(Arguments, script.Args, TypeName, $"{field}.args");
                kept.Files.Add(await PrepareAsync(args, Examples(args), cancellationToken).ConfigureAwait(false));
            }

            return kept;
        }
        catch
        {
            kept.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Watch.Dispose();
        lock (_lock)
        {
            foreach (var (_, prepared) in _files)
            {
                prepared.File.Dispose();
            }

            _files.Clear();
        }
    }

    // By a stack of its own: how deep a spec may be is checked when it is read.
    private static List<(ModuleSpec Spec, string Field)> Scripts(ModuleSpec spec)
    {
        var found = new List<(ModuleSpec, string)>();
        var left = new Stack<(ModuleSpec Spec, string Field)>([(spec, "spec")]);
        while (left.TryPop(out var at))
        {
            if (at.Spec.Type == TypeName)
            {
                found.Add(at);
            }

            Push(at.Spec.Children, "children");
            Push(at.Spec.Added, "added");

            void Push(IReadOnlyList<ChildSpec> children, string name)
            {
                for (var i = children.Count - 1; i >= 0; i--)
                {
                    if (children[i].Spec is { } below)
                    {
                        left.Push((below, $"{at.Field}.{name}[{i}].spec"));
                    }
                }
            }
        }

        return found;
    }

    private static List<ScriptExample> Examples(BoundArguments args)
    {
        var shapes = args.IsNone("example") ? [] : args.Shapes("example");
        var types = args.IsNone("example_dtypes") ? [.. shapes.Select(_ => ElementType.Float32.Name())] : args.Texts("example_dtypes");
        if (types.Length != shapes.Length)
        {
            throw args.Refuse("example_dtypes", $"{types.Length} were given; expected one for each of the {shapes.Length} shapes of example");
        }

        return [.. shapes.Zip(types, (shape, type) => new ScriptExample("Tensor",
            ElementTypes.TryParse(type, out var known) ? known.ToString() : throw args.Refuse("example_dtypes", $"{EngineException.Quote(type)} is no dtype; expected e.g. \"float32\""),
            shape.Length <= TensorLayout.MaxRank && Array.TrueForAll(shape, size => size >= 0) ? shape
                : throw args.Refuse("example", $"has a shape with a size below 0, or with more than {TensorLayout.MaxRank} dimensions")))];
    }

    private ScriptNode Create(NodeOrigin origin, BuildContext context)
    {
        var name = origin.Args.Text("file");
        using var file = Find(name)?.File.Use()
            ?? throw EngineException.Precondition("SCRIPT_NOT_TRIED", $"the TorchScript file {EngineException.Quote(name)} has not been tried by this server; CreateModule and AddModule try it", new ResourceRef("file", name));

        // A copy of the module goes on with this file, whatever becomes of the name.
        var type = ScriptNode.TypeOf(file);
        return (ScriptNode)type.Create(origin with { Type = type }, context);
    }

    private Prepared? Find(string name)
    {
        lock (_lock)
        {
            return _files.GetValueOrDefault(name);
        }
    }

    private async Task<ScriptFile> PrepareAsync(BoundArguments args, List<ScriptExample> examples, CancellationToken cancellationToken)
    {
        var (name, field) = (args.Text("file"), $"{args.Field}.file");
        if (_options.ScriptDir.Length == 0)
        {
            throw EngineException.Precondition("TORCHSCRIPT_OFF", $"this server makes no modules of TorchScript files: its operator has not set {Setting}, the directory that holds them");
        }

        if (Interlocked.Increment(ref _waiting) > MostWaiting)
        {
            _ = Interlocked.Decrement(ref _waiting);
            throw new EngineException(EngineError.ResourceExhausted, "SCRIPT_TRIALS_BUSY", $"{MostWaiting} calls wait for the trial of a TorchScript file; one runs at a time, each for at most {ScriptTrial.TimeSetting}: retry later") { RetryAfter = RetryCrowded };
        }

        try
        {
            await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                return await TryAsync(name, field, args, examples, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                _ = _turn.Release();
            }
        }
        catch (EngineException exception) when (exception.Resource is null && exception.Fields.Count == 0)
        {
            throw new EngineException(exception.Error, exception.Reason, $"{EngineException.Quote(name)}: {exception.Message}", exception) { Resource = new ResourceRef("file", name), Quota = exception.Quota, RetryAfter = exception.RetryAfter };
        }
        finally
        {
            _ = Interlocked.Decrement(ref _waiting);
        }
    }

    private async Task<ScriptFile> TryAsync(string name, string field, BoundArguments args, List<ScriptExample> examples, CancellationToken cancellationToken)
    {
        var directory = new OperatorDirectory(_options.ScriptDir, SystemDisk.Instance, $"{ScriptVouchers.FileName} of {Setting} names it, but it is not there");
        var digest = ScriptVouchers.DigestOf(directory, name, field);

        // What is known by the digest needs no reading. Whoever disposes it meanwhile is the host's end.
        var known = Find(name) is { } prepared && prepared.Digest == digest ? prepared : null;
        var file = known?.File.Use() ?? await Task.Run(() => Read(directory, name, field, digest), cancellationToken).ConfigureAwait(false);
        try
        {
            var given = ScriptExample.For(file.Program, examples, args);
            var example = JsonSerializer.Serialize(given);
            if (known?.Passed.Contains(example) != true)
            {
                await new ScriptTrial(_options.ScriptTrialCommand, _options.ScriptTrialMemoryBytes, _options.ScriptTrialTimeout).RunAsync(file.Image, given, cancellationToken).ConfigureAwait(false);
                Keep(name, known ?? new Prepared(file, digest), example);
            }

            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    // Its callers have the turn.
    private void Keep(string name, Prepared prepared, string example)
    {
        lock (_lock)
        {
            if (prepared.Passed.Count >= Prepared.MostExamples)
            {
                prepared.Passed.Clear();
            }

            _ = prepared.Passed.Add(example);
            if (_files.TryGetValue(name, out var before) && ReferenceEquals(before, prepared))
            {
                return;
            }

            before?.File.Dispose();
            _files[name] = prepared;
            _ = prepared.File.Use();
        }

        // Nobody knows whether those that no module is of will be asked for again; the one that was tried now is, and in use.
        _ = DropIdle();
    }

    private ScriptFile Read(OperatorDirectory directory, string name, string field, string digest)
    {
        using var source = ByteSource.Owned(directory.OpenRead(name, field));

        CheckRoom(source.Length, name);
        using var sum = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var charge = new MemoryCharge(_ledger, MemoryUse.Modules, What, name, source.Length);
        using var copy = ScriptImage.CopyOf(source, sum.AppendData);
        var actual = Convert.ToHexStringLower(sum.GetHashAndReset());
        if (actual != digest)
        {
            throw EngineException.Precondition("SCRIPT_NOT_VOUCHED",
                $"{EngineException.Quote(name)} is not the file that the server's operator vouches for: its SHA-256 is {actual}, and {ScriptVouchers.FileName} of {Setting} says {digest}", new ResourceRef("file", name));
        }

        using var archive = ScriptArchive.Open(copy.Read(), _operators);
        var kept = new MemoryCharge(_ledger, MemoryUse.Modules, What, name, archive.Length);
        try
        {
            return new ScriptFile(name, ScriptImage.Of(archive), archive.Program, archive.IsStateful) { Watch = Watch, Charge = kept };
        }
        catch
        {
            kept.Dispose();
            throw;
        }
    }

    // The file as it is, what is made of it, and the module: its length each.
    private void CheckRoom(long length, string name)
    {
        var bytes = 3 * Math.Min(length, long.MaxValue / 3);
        try
        {
            _ledger.Check(MemoryUse.Modules, bytes, What, name);
        }
        catch (EngineException) when (DropIdle() > 0)
        {
            _ledger.Check(MemoryUse.Modules, bytes, What, name);
        }
    }

    private int DropIdle()
    {
        lock (_lock)
        {
            var idle = _files.Where(one => one.Value.File.IsIdle).ToList();
            foreach (var (name, one) in idle)
            {
                _ = _files.Remove(name);
                one.File.Dispose();
            }

            return idle.Count;
        }
    }

    private sealed record Prepared(ScriptFile File, string Digest)
    {
        // Callers choose them.
        public const int MostExamples = 64;

        /// <summary>The examples that it has run with.</summary>
        public HashSet<string> Passed { get; } = new(StringComparer.Ordinal);
    }

    private sealed class Lease : IDisposable
    {
        public List<ScriptFile> Files { get; } = [];

        public void Dispose() => Files.ForEach(file => file.Dispose());
    }
}
