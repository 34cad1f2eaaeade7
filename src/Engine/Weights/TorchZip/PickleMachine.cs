namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// Reads a pickle of protocol 2 as <c>torch.save</c> writes one. It takes the opcodes that a state dict needs and the globals of
/// <see cref="PickleGlobals"/>, and makes nothing but the values of <see cref="PickleValue"/>; everything else is an error. Nothing here recurses. A reader of pickles that hold
/// a little more derives from it.
/// </summary>
internal class PickleMachine
{
    private const int Protocol = 2;

    // What the collector's objects take, more or less; it must only be in proportion.
    private const int ObjectBytes = 48;
    private const int ValueBytes = 24;
    private const int EntryBytes = 96;

    private long _made;

    /// <summary>Creates one, which reads one pickle.</summary>
    protected PickleMachine()
    {
    }

    /// <summary>Its stack.</summary>
    protected PickleStack Stack { get; } = new();

    /// <summary>Reads a pickle.</summary>
    /// <param name="pickle">Its bytes.</param>
    /// <returns>The value that it describes.</returns>
    /// <exception cref="EngineException">It does what a state dict does not need, or breaks a rule; the byte is told.</exception>
    public static PickleValue Read(ReadOnlySpan<byte> pickle) => new PickleMachine().Run(new PickleReader(pickle));

    /// <summary>Reads it all.</summary>
    protected PickleValue Run(PickleReader reader)
    {
        if (reader.Opcode() != 0x80)
        {
            throw PickleErrors.Malformed(0, "it does not begin with opcode PROTO");
        }

        var protocol = reader.Byte();
        if (protocol != Protocol)
        {
            throw TorchZipErrors.Unimplemented("PICKLE_PROTOCOL",
                $"the PyTorch file's data.pkl is of pickle protocol {protocol}; only {Protocol} is read, which is what torch.save writes when pickle_protocol is not given");
        }

        while (true)
        {
            var opcode = reader.Opcode();
            Stack.At = reader.At;
            if (opcode == '.')
            {
                break;
            }

            Step(opcode, ref reader);
        }

        if (!Stack.HoldsOne)
        {
            throw PickleErrors.Malformed(reader.At, "its stack must hold one value when it ends");
        }

        return reader.IsAtEnd ? Stack.Pop() : throw PickleErrors.Malformed(reader.At, "something follows its end");
    }

    private void Step(byte opcode, ref PickleReader reader)
    {
        switch (opcode)
        {
            case (byte)'(':
                Stack.Mark();
                break;
            case (byte)'N':
                Stack.Push(new PickleValue(PickleKind.None));
                break;
            case 0x88 or 0x89:
                Stack.Push(new PickleValue(PickleKind.Bool, opcode == 0x88 ? 1 : 0));
                break;
            case (byte)'K':
                PushInt(reader.Byte());
                break;
            case (byte)'M':
                PushInt(reader.UInt16());
                break;
            case (byte)'J':
                PushInt(reader.Int32());
                break;
            case 0x8a:
                Stack.Push(reader.Long() is { } value ? new PickleValue(PickleKind.Int, value) : new PickleValue(PickleKind.LargeInt));
                break;
            case (byte)'G':
                reader.SkipDouble();
                Stack.Push(new PickleValue(PickleKind.Float));
                break;
            case (byte)'X':
                var text = reader.Text();
                Push(PickleKind.String, text, ObjectBytes + (sizeof(char) * text.Length));
                break;
            case (byte)')':
                PushTuple([]);
                break;
            case 0x85 or 0x86 or 0x87:
                PushTuple(Stack.Take(opcode - 0x84));
                break;
            case (byte)'t':
                PushTuple(Stack.TakeToMark());
                break;
            case (byte)']':
                Push(PickleKind.List, new PickleList(), ObjectBytes);
                break;
            case (byte)'a':
                Append(Stack.Take(1));
                break;
            case (byte)'e':
                Append(Stack.TakeToMark());
                break;
            case (byte)'}':
                Push(PickleKind.Dict, new PickleDict(isOrdered: false), ObjectBytes + EntryBytes);
                break;
            case (byte)'s':
                SetItems(Stack.Take(2));
                break;
            case (byte)'u':
                SetItems(Stack.TakeToMark());
                break;
            case (byte)'q':
                Remember(reader.Byte());
                break;
            case (byte)'r':
                Remember(reader.UInt32());
                break;
            case (byte)'h':
                Stack.Push(Stack.Recall(reader.Byte()));
                break;
            case (byte)'j':
                Stack.Push(Stack.Recall(reader.UInt32()));
                break;
            case (byte)'c':
                var name = $"{reader.Line()}.{reader.Line()}";
                Stack.Push(new PickleValue(PickleKind.Global, Object: Find(name) ?? throw PickleErrors.Global(reader.At, name)));
                break;
            case (byte)'Q':
                Push(PickleKind.Storage, PickleBuilder.Storage(Stack.Pop(), reader.At), 2 * ObjectBytes);
                break;
            case (byte)'R':
                Reduce(reader.At);
                break;
            case 0x81:
                NewObject(reader.At);
                break;
            case (byte)'b':
                Build(reader.At);
                break;
            default:
                throw PickleErrors.Opcode(reader.At, opcode);
        }
    }

    /// <summary>The global of a name; null where it is not allowed.</summary>
    protected virtual PickleGlobal? Find(string name) => PickleGlobals.Find(name);

    /// <summary>Calls a global with these arguments, at this byte.</summary>
    protected virtual PickleValue Call(PickleGlobal global, IReadOnlyList<PickleValue> arguments, int at) => PickleBuilder.Reduce(global, arguments, at);

    /// <summary>The arguments of a call; null where there can be none.</summary>
    protected virtual IReadOnlyList<PickleValue>? Arguments(PickleGlobal global, in PickleValue given) => given.Items;

    /// <summary>Is told of values that are put into a container, which is a tuple where it is given.</summary>
    protected virtual void Holding(PickleValue[] values, PickleTuple? tuple)
    {
    }

    /// <summary>Is told of a list or dict that is about to be filled.</summary>
    protected virtual void Filling(PickleContainer container)
    {
    }

    /// <summary>Remembers the value on top.</summary>
    protected virtual void Remember(uint place) => Stack.Remember(place);

    /// <summary>Opcode NEWOBJ.</summary>
    protected virtual void NewObject(int at) => throw PickleErrors.Opcode(at, 0x81);

    private void Reduce(int at)
    {
        var arguments = Stack.Pop();
        var callable = Stack.Pop();
        if (callable.Object is not PickleGlobal global)
        {
            throw PickleErrors.Refused(at, $"opcode REDUCE of {callable.Described}");
        }

        var made = Call(global, Arguments(global, arguments) ?? throw PickleErrors.Malformed(at, $"{global.Name} is called with {arguments.Described}; it must be a tuple"), at);
        Charge(made.Tensor is { } tensor ? (3 * ObjectBytes) + (2 * sizeof(long) * tensor.Sizes.Length) : ObjectBytes + EntryBytes);
        Push(made);
    }

    /// <summary>Opcode BUILD. The attributes of a state dict's OrderedDict: _metadata, versions of modules, which load_state_dict of the modules here does not ask for.</summary>
    protected virtual void Build(int at)
    {
        var state = Stack.Pop();
        var target = Stack.Top();
        if (target.Dict is not { IsOrdered: true })
        {
            throw PickleErrors.Refused(at, $"opcode BUILD of {target.Described}; attributes are possible on an OrderedDict only");
        }

        if (state.Dict is null)
        {
            throw PickleErrors.Refused(at, $"opcode BUILD with {state.Described}; the attributes of an OrderedDict are a dict");
        }
    }

    private void Append(PickleValue[] values)
    {
        var target = Stack.Top();
        var list = target.Object as PickleList ?? throw PickleErrors.Refused(Stack.At, $"an item is appended to {target.Described}");
        Filling(list);
        Holding(values, null);
        foreach (var value in values)
        {
            list.Add(value);
        }

        CheckDepth(list);
    }

    private void SetItems(PickleValue[] values)
    {
        var target = Stack.Top();
        var dict = target.Dict ?? throw PickleErrors.Refused(Stack.At, $"an item is set of {target.Described}");
        if (values.Length % 2 != 0)
        {
            throw PickleErrors.Malformed(Stack.At, $"{values.Length} values are no pairs of keys and values");
        }

        Filling(dict);
        Holding(values, null);
        Charge((long)EntryBytes * values.Length / 2);
        for (var i = 0; i < values.Length; i += 2)
        {
            if (values[i].Kind is PickleKind.List or PickleKind.Dict)
            {
                throw PickleErrors.Malformed(Stack.At, $"{values[i].Described} is a key");
            }

            dict.Add(values[i], values[i + 1]);
        }

        CheckDepth(dict);
    }

    private void PushInt(long value) => Stack.Push(new PickleValue(PickleKind.Int, value));

    private void PushTuple(PickleValue[] values)
    {
        var tuple = new PickleTuple(values);
        Holding(values, tuple);
        Push(PickleKind.Tuple, tuple, ObjectBytes + ((long)ValueBytes * values.Length));
    }

    private void Push(PickleKind kind, object made, long bytes)
    {
        Charge(bytes);
        Push(new PickleValue(kind, Object: made));
    }

    /// <summary>Puts a value on the stack.</summary>
    protected void Push(in PickleValue value)
    {
        if (value.Object is PickleContainer container)
        {
            CheckDepth(container);
        }

        Stack.Push(value);
    }

    private void CheckDepth(PickleContainer container)
    {
        if (container.Depth > TorchZipLimits.Depth)
        {
            throw PickleErrors.Limit(Stack.At, $"containers are nested more than {TorchZipLimits.Depth} deep");
        }
    }

    private void Charge(long bytes)
    {
        _made += bytes;
        if (_made > TorchZipLimits.ValueBytes)
        {
            throw PickleErrors.Limit(Stack.At, $"its values take more than {TorchZipLimits.ValueBytes:N0} bytes");
        }
    }
}
