using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Reads the values of a TorchScript file as libtorch will, without making them: libtorch believes a pickle what it says of sizes and strides, and would show memory beyond a storage; and it finds an attribute
/// by the place that its class gives it, so that an object of another class has it look where nothing is. Only what <c>torch.jit.save</c> writes is taken: dense tensors, numbers, strings, lists, dicts, tuples,
/// devices, enums, and objects of the classes that the code says their attributes have.
/// </summary>
internal sealed class ScriptPickle : PickleMachine
{
    private readonly IReadOnlyDictionary<string, ScriptUnit> _units;
    private readonly IReadOnlyDictionary<string, ZipRecord> _records;
    private readonly string _name;
    private readonly string _storages;

    // Tuples that hold what is no value: a storage, or a global, which libtorch has as a number. Only the calls that they are for may take them.
    private readonly HashSet<PickleTuple> _raw = new(ReferenceEqualityComparer.Instance);

    // Lists and dicts that are filled, or that can be reached again: filled then, one could come to hold itself.
    private readonly HashSet<PickleContainer> _closed = new(ReferenceEqualityComparer.Instance);

    // Dicts that hold objects: only the code's declarations tell of which class an object must be, so that these can be nothing but the attributes of an object.
    private readonly HashSet<PickleContainer> _states = new(ReferenceEqualityComparer.Instance);
    private PickleContainer? _filled;

    // Types that were found right: one that is remembered may be named as often as the pickle likes.
    private readonly HashSet<string> _types = new(ReferenceEqualityComparer.Instance);
    private int _objects;

    private ScriptPickle(IReadOnlyDictionary<string, ScriptUnit> units, IReadOnlyDictionary<string, ZipRecord> records, string name, string storages) =>
        (_units, _records, _name, _storages) = (units, records, name, storages);

    /// <summary>Checks a pickle.</summary>
    /// <param name="pickle">Its bytes.</param>
    /// <param name="units">The archive's code, by qualified name.</param>
    /// <param name="records">The archive's records, each of which holds a storage or something else.</param>
    /// <param name="name">The pickle's name, for messages.</param>
    /// <param name="storages">Where the records of its storages are, with a slash at the end.</param>
    /// <returns>The value that it describes; of an object, the class is the text.</returns>
    /// <exception cref="EngineException">It holds something else, or a tensor that is not within its storage; the byte is told.</exception>
    public static PickleValue Check(ReadOnlySpan<byte> pickle, IReadOnlyDictionary<string, ScriptUnit> units, IReadOnlyDictionary<string, ZipRecord> records, string name, string storages)
    {
        var machine = new ScriptPickle(units, records, name, storages);
        var value = machine.Run(new PickleReader(pickle));
        machine.CheckPlain(value);
        return value;
    }

    /// <summary>The class of an object; null of everything else.</summary>
    public static string? ClassOf(in PickleValue value) => (value.Object as ScriptObject)?.Class;

    /// <inheritdoc/>
    protected override PickleGlobal? Find(string name) => name switch
    {
        "torch.jit._pickle.restore_type_tag" => new(name, GlobalKind.TypeTag),
        "torch.jit._pickle.build_intlist" or "torch.jit._pickle.build_tensorlist" or "torch.jit._pickle.build_doublelist" or "torch.jit._pickle.build_boollist" => new(name, GlobalKind.TypedList),
        "torch.device" => new(name, GlobalKind.Device),
        "builtins.complex" => new(name, GlobalKind.Complex),
        _ when _units.TryGetValue(name, out var unit) && unit.IsClass => new(name, GlobalKind.Class),

        // Of those of a state dict, what libtorch's own reader knows.
        _ => base.Find(name) is { Kind: GlobalKind.OrderedDict or GlobalKind.Tensor or GlobalKind.Storage } known ? known : null,
    };

    /// <inheritdoc/>
    /// <remarks>libtorch calls an enum with the value itself.</remarks>
    protected override IReadOnlyList<PickleValue>? Arguments(PickleGlobal global, in PickleValue given) => global.Kind == GlobalKind.Class ? [given] : base.Arguments(global, given);

    /// <inheritdoc/>
    protected override PickleValue Call(PickleGlobal global, IReadOnlyList<PickleValue> arguments, int at)
    {
        switch (global.Kind)
        {
            case GlobalKind.TypeTag when arguments is [{ Kind: PickleKind.List or PickleKind.Dict } container, { Text: { } type }]:
                CheckType(type, at);
                return container;
            case GlobalKind.TypedList when arguments is [{ Kind: PickleKind.List } list]:
                return list;
            case GlobalKind.Device when arguments is [{ Text: not null } device]:
                return device;
            case GlobalKind.Complex when arguments is [{ Kind: PickleKind.Float }, { Kind: PickleKind.Float }]:
                return new PickleValue(PickleKind.Float);
            case GlobalKind.Class when _units[global.Name].IsEnum && arguments is [{ Kind: PickleKind.Int or PickleKind.Float or PickleKind.String }]:
                return new PickleValue(PickleKind.Object, Object: new ScriptObject(global.Name, 0));
            case GlobalKind.OrderedDict or GlobalKind.Tensor:
                var made = base.Call(global, arguments, at);
                if (made.Tensor is { } tensor)
                {
                    _ = TorchTensor.Check($"{_name}:{at}", tensor, _records, _storages);
                }

                return made;
            default:
                throw PickleErrors.Refused(at, $"opcode REDUCE of {global.Name}");
        }
    }

    /// <inheritdoc/>
    protected override void NewObject(int at)
    {
        if (Stack.Pop() is not { Items.Count: 0 } || Stack.Pop() is not { Object: PickleGlobal { Kind: GlobalKind.Class } type } || _units[type.Name].IsEnum)
        {
            throw PickleErrors.Refused(at, "opcode NEWOBJ of something else than a class of its code");
        }

        Push(new PickleValue(PickleKind.Object, Object: new Unfinished(type.Name)));
    }

    /// <inheritdoc/>
    protected override void Build(int at)
    {
        if (Stack.Pop() is not { Dict: { IsOrdered: false } state } || Stack.Pop() is not { Object: Unfinished { Class: var type } })
        {
            throw PickleErrors.Refused(at, "opcode BUILD of something else than an object of its code, and a dict of attributes");
        }

        foreach (var (key, value) in state.Entries)
        {
            var name = key.Text ?? throw PickleErrors.Refused(at, $"an attribute of {type} whose name is {key.Described}");
            var declared = _units[type].Types.GetValueOrDefault(name);
            var isOne = value.Object is ScriptObject;
            if (isOne ? declared != ClassOf(value) : declared is not null && value.Kind != PickleKind.None)
            {
                throw PickleErrors.Refused(at, $"attribute {EngineException.Quote(name)} of {type} holds {ClassOf(value) ?? value.Described}; its code declares {declared ?? "no object"}");
            }
        }

        if (++_objects > ScriptLimits.Objects)
        {
            throw ScriptErrors.Limit($"{_name} holds more than {ScriptLimits.Objects:N0} objects");
        }

        Push(new PickleValue(PickleKind.Object, Object: new ScriptObject(type, state.Depth)));
    }

    /// <inheritdoc/>
    protected override void Holding(PickleValue[] values, PickleTuple? tuple)
    {
        foreach (var value in values)
        {
            if (tuple is not null && value.Kind is PickleKind.Global or PickleKind.Storage)
            {
                _ = _raw.Add(tuple!);
            }
            else
            {
                CheckPlain(value);
            }

            if (value.Object is ScriptObject)
            {
                _ = tuple is null && _filled is PickleDict ? _states.Add(_filled) : throw PickleErrors.Refused(Stack.At, $"a tuple or list that holds an object of {ClassOf(value)}");
            }
        }
    }

    /// <inheritdoc/>
    protected override void Filling(PickleContainer container)
    {
        if (!_closed.Add(container))
        {
            throw PickleErrors.Refused(Stack.At, "a list or dict that is filled after it was remembered, or twice");
        }

        _filled = container;
    }

    /// <inheritdoc/>
    protected override void Remember(uint place)
    {
        var value = Stack.Top();
        if (value.Object is Unfinished)
        {
            throw PickleErrors.Refused(Stack.At, "an object that is remembered before it has its attributes");
        }

        if (value.Object is PickleContainer container)
        {
            _ = _closed.Add(container);
        }

        base.Remember(place);
    }

    private void CheckPlain(in PickleValue value)
    {
        if (value.Kind is PickleKind.Global or PickleKind.Storage || value.Object is Unfinished || (value.Object is PickleTuple tuple && _raw.Contains(tuple))
            || (value.Object is PickleDict dict && _states.Contains(dict)))
        {
            throw PickleErrors.Refused(Stack.At, $"{value.Described} in the place of a value");
        }
    }

    // libtorch reads it as it reads code.
    private void CheckType(string type, int at)
    {
        if (!_types.Add(type))
        {
            return;
        }

        if (type.Length > ScriptLimits.TypeLength)
        {
            throw ScriptErrors.Limit($"a type in {_name} has {type.Length:N0} characters; at most {ScriptLimits.TypeLength:N0} are taken");
        }

        var lines = ScriptTokenizer.Read(System.Text.Encoding.UTF8.GetBytes(type), _name);
        if (lines is not [{ Indent: 0 } line] || !line.Tokens.All(token => token.Kind == ScriptTokenKind.Name || token.Is('.') || token.Is(',') || token.Is('[') || token.Is(']')))
        {
            throw PickleErrors.Refused(at, $"a type {EngineException.Quote(type)}");
        }

        for (var i = 0; i < line.Tokens.Length; i++)
        {
            if (line.At(i).Is("__torch__") && ScriptRules.Find(_units, line, i, out _) is null)
            {
                throw PickleErrors.Refused(at, $"a type {EngineException.Quote(type)} that names a class which its code lacks");
            }
        }
    }

    /// <summary>An object with its attributes.</summary>
    private sealed class ScriptObject : PickleContainer
    {
        public ScriptObject(string type, int depth) => (Class, Depth) = (type, depth + 1);

        public string Class { get; }
    }

    /// <summary>An object that has none yet.</summary>
    private sealed record Unfinished(string Class);
}
