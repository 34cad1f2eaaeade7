using System.Collections.Concurrent;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.Script;

/// <summary>The catalogue's type <c>TorchScript</c>, and the files that it makes modules of. A file is checked and tried before it is first used, and again when it has changed.</summary>
internal sealed class ScriptTypes : IDisposable
{
    /// <summary>What specs call it.</summary>
    public const string TypeName = "TorchScript";

    private const string Setting = "script_dir";

    /// <summary>What a spec gives.</summary>
    public static readonly IReadOnlyList<Argument> Arguments = [Argument.Text("file"), Argument.Shapes("example").OrNone(), Argument.Texts("example_dtypes").OrNone()];

    // One at a time: each may take the memory that the setting allows.
    private static readonly SemaphoreSlim Turn = new(1);
    private readonly ConcurrentDictionary<string, Prepared> _files = new(StringComparer.Ordinal);
    private readonly EngineOptions _options;
    private readonly ScriptOperators _operators;

    /// <summary>Creates it.</summary>
    /// <param name="options">Checked.</param>
    /// <param name="time">The clock of the watch.</param>
    public ScriptTypes(EngineOptions options, TimeProvider time)
    {
        Watch = new ScriptWatch(options.ScriptTimeout, time);
        (_options, _operators) = (options, ScriptOperators.With(options.ScriptOperators));
        Type = new ModuleType(TypeName, "Module", "", Arguments, [], Create);
        Descriptions = options.ScriptDir.Length == 0 ? [] : [Type.Describe()];
    }

    /// <summary>Sees calls that never end.</summary>
    public ScriptWatch Watch { get; }

    /// <inheritdoc/>
    public void Dispose() => Watch.Dispose();

    /// <summary>The type.</summary>
    public ModuleType Type { get; }

    /// <summary>What the catalogue tells of it: nothing where it is off.</summary>
    public IReadOnlyList<CatalogType> Descriptions { get; }

    /// <summary>Checks and tries every file that a spec names, off the lanes, so that it can be built.</summary>
    /// <param name="spec">The spec.</param>
    /// <param name="cancellationToken">Ends a trial.</param>
    /// <exception cref="EngineException">It is off, a file is not there or is refused, or its trial failed.</exception>
    public async Task PrepareAsync(ModuleSpec spec, CancellationToken cancellationToken)
    {
        foreach (var (script, field) in Scripts(spec))
        {
            var args = ArgumentBinder.Bind(Arguments, script.Args, TypeName, $"{field}.args");
            await PrepareAsync(args.Text("file"), Examples(args), $"{field}.args.file", cancellationToken).ConfigureAwait(false);
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

        return [.. shapes.Zip(types, (shape, type) => new ScriptExample(
            ElementTypes.TryParse(type, out var known) ? known.ToString() : throw args.Refuse("example_dtypes", $"{EngineException.Quote(type)} is no dtype; expected e.g. \"float32\""),
            Array.TrueForAll(shape, size => size >= 0) ? shape : throw args.Refuse("example", "a size is below 0")))];
    }

    private ScriptNode Create(NodeOrigin origin, BuildContext context)
    {
        var name = origin.Args.Text("file");

        // A copy of the module goes on with this file, whatever becomes of the name.
        return _files.TryGetValue(name, out var prepared) ? (ScriptNode)ScriptNode.TypeOf(prepared.File).Create(origin with { Type = ScriptNode.TypeOf(prepared.File) }, context)
            : throw EngineException.Precondition("SCRIPT_NOT_TRIED", $"the TorchScript file {EngineException.Quote(name)} has not been tried by this server; CreateModule tries it", new ResourceRef("file", name));
    }

    private async Task PrepareAsync(string name, List<ScriptExample> examples, string field, CancellationToken cancellationToken)
    {
        if (_options.ScriptDir.Length == 0)
        {
            throw EngineException.Precondition("TORCHSCRIPT_OFF", $"this server makes no modules of TorchScript files: its operator has not set {Setting}, the directory that holds them");
        }

        await Turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        ScriptImage? image = null;
        try
        {
            var handle = new OperatorDirectory(_options.ScriptDir, Storage.SystemDisk.Instance, $"the server's operator puts TorchScript files into {Setting}").OpenRead(name, field);
            var stamp = (RandomAccess.GetLength(handle), File.GetLastWriteTimeUtc(handle));
            var example = System.Text.Json.JsonSerializer.Serialize(examples);
            if (_files.TryGetValue(name, out var known) && known.Stamp == stamp && known.Passed.ContainsKey(example))
            {
                handle.Dispose();
                return;
            }

            ScriptFile file;
            using (var archive = ScriptArchive.Open(ByteSource.Owned(handle), _operators))
            {
                image = ScriptImage.Of(archive);
                file = new ScriptFile(name, image, archive.Program, archive.IsStateful) { Watch = Watch };
            }

            await new ScriptTrial(_options.ScriptTrialCommand, _options.ScriptTrialMemoryBytes, _options.ScriptTrialTimeout).RunAsync(image, examples, cancellationToken).ConfigureAwait(false);

            // The one before it lives on in modules made of it, and is freed after the last of them.
            var prepared = new Prepared(file, stamp);
            _ = prepared.Passed.TryAdd(example, true);
            _files[name] = prepared;
            image = null;
        }
        catch (EngineException exception) when (exception.Resource is null && exception.Fields.Count == 0)
        {
            throw new EngineException(exception.Error, exception.Reason, $"{EngineException.Quote(name)}: {exception.Message}", exception) { Resource = new ResourceRef("file", name) };
        }
        finally
        {
            image?.Dispose();
            _ = Turn.Release();
        }
    }

    private sealed record Prepared(ScriptFile File, (long Length, DateTime Written) Stamp)
    {
        /// <summary>The examples that it has run with.</summary>
        public ConcurrentDictionary<string, bool> Passed { get; } = new(StringComparer.Ordinal);
    }
}
