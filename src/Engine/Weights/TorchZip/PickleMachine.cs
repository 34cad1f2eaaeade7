namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// Reads a pickle of protocol 2 as <c>torch.save</c> writes one. It takes the opcodes that a state dict needs and the globals of
/// <see cref="PickleGlobals"/>, and makes nothing but the values of <see cref="PickleValue"/>; everything else is an error. Nothing here recurses.
/// </summary>
internal sealed class PickleMachine
{
    private const int Protocol = 2;

    // What the collector's objects take, more or less; it must only be in proportion.
    private const int ObjectBytes = 48;
    private const int ValueBytes = 24;
    private const int EntryBytes = 96;

    private readonly PickleStack _stack = new();
    private long _made;

    private PickleMachine()
    {
    }

    /// <summary>Reads a pickle.</summary>
    /// <param name="pickle">Its bytes.</param>
    /// <returns>The value that it describes.</returns>
    /// <exception cref="EngineException">It does what a state dict does not need, or breaks a rule; the byte is told.</exception>
    public static PickleValue Read(ReadOnlySpan<byte> pickle) => new PickleMachine().Run(new PickleReader(pickle));

    private PickleValue Run(PickleReader reader)
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
            _stack.At = reader.At;
            if (opcode == '.')
            {
                break;
            }

            Step(opcode, ref reader);
        }

        if (!_stack.HoldsOne)
        {
            throw PickleErrors.Malformed(reader.At, "its stack must hold one value when it ends");
        }

        return reader.IsAtEnd ? _stack.Pop() : throw PickleErrors.Malformed(reader.At, "something follows its end");
    }

    private void Step(byte opcode, ref PickleReader reader)
    {
        switch (opcode)
        {
            case (byte)'(':
                _stack.Mark();
                break;
            case (byte)'N':
                _stack.Push(new PickleValue(PickleKind.None));
                break;
            case 0x88 or 0x89:
                _stack.Push(new PickleValue(PickleKind.Bool, opcode == 0x88 ? 1 : 0));
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
                _stack.Push(reader.Long() is { } value ? new PickleValue(PickleKind.Int, value) : new PickleValue(PickleKind.LargeInt));
                break;
            case (byte)'G':
                reader.SkipDouble();
                _stack.Push(new PickleValue(PickleKind.Float));
                break;
            case (byte)'X':
                var text = reader.Text();
                Push(PickleKind.String, text, ObjectBytes + (sizeof(char) * text.Length));
                break;
            case (byte)')':
                PushTuple([]);
                break;
            case 0x85 or 0x86 or 0x87:
                PushTuple(_stack.Take(opcode - 0x84));
                break;
            case (byte)'t':
                PushTuple(_stack.TakeToMark());
                break;
            case (byte)']':
                Push(PickleKind.List, new PickleList(), ObjectBytes);
                break;
            case (byte)'a':
                Append(_stack.Take(1));
                break;
            case (byte)'e':
                Append(_stack.TakeToMark());
                break;
            case (byte)'}':
                Push(PickleKind.Dict, new PickleDict(isOrdered: false), ObjectBytes + EntryBytes);
                break;
            case (byte)'s':
                SetItems(_stack.Take(2));
                break;
            case (byte)'u':
                SetItems(_stack.TakeToMark());
                break;
            case (byte)'q':
                _stack.Remember(reader.Byte());
                break;
            case (byte)'r':
                _stack.Remember(reader.UInt32());
                break;
            case (byte)'h':
                _stack.Push(_stack.Recall(reader.Byte()));
                break;
            case (byte)'j':
                _stack.Push(_stack.Recall(reader.UInt32()));
                break;
            case (byte)'c':
                var name = $"{reader.Line()}.{reader.Line()}";
                _stack.Push(new PickleValue(PickleKind.Global, Object: PickleGlobals.Find(name) ?? throw PickleErrors.Global(reader.At, name)));
                break;
            case (byte)'Q':
                Push(PickleKind.Storage, PickleBuilder.Storage(_stack.Pop(), reader.At), 2 * ObjectBytes);
                break;
            case (byte)'R':
                Reduce(reader.At);
                break;
            case (byte)'b':
                Build(reader.At);
                break;
            default:
                throw PickleErrors.Opcode(reader.At, opcode);
        }
    }

    private void Reduce(int at)
    {
        var arguments = _stack.Pop();
        var callable = _stack.Pop();
        if (callable.Object is not PickleGlobal global)
        {
            throw PickleErrors.Refused(at, $"opcode REDUCE of {callable.Described}");
        }

        var made = PickleBuilder.Reduce(global, arguments.Items ?? throw PickleErrors.Malformed(at, $"{global.Name} is called with {arguments.Described}; it must be a tuple"), at);
        Charge(made.Tensor is { } tensor ? (3 * ObjectBytes) + (2 * sizeof(long) * tensor.Sizes.Length) : ObjectBytes + EntryBytes);
        Push(made);
    }

    // The attributes of a state dict's OrderedDict: _metadata, versions of modules, which load_state_dict of the modules here does not ask for.
    private void Build(int at)
    {
        var state = _stack.Pop();
        var target = _stack.Top();
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
        var target = _stack.Top();
        var list = target.Object as PickleList ?? throw PickleErrors.Refused(_stack.At, $"an item is appended to {target.Described}");
        foreach (var value in values)
        {
            list.Add(value);
        }

        CheckDepth(list);
    }

    private void SetItems(PickleValue[] values)
    {
        var target = _stack.Top();
        var dict = target.Dict ?? throw PickleErrors.Refused(_stack.At, $"an item is set of {target.Described}");
        if (values.Length % 2 != 0)
        {
            throw PickleErrors.Malformed(_stack.At, $"{values.Length} values are no pairs of keys and values");
        }

        Charge((long)EntryBytes * values.Length / 2);
        for (var i = 0; i < values.Length; i += 2)
        {
            if (values[i].Kind is PickleKind.List or PickleKind.Dict)
            {
                throw PickleErrors.Malformed(_stack.At, $"{values[i].Described} is a key");
            }

            dict.Add(values[i], values[i + 1]);
        }

        CheckDepth(dict);
    }

    private void PushInt(long value) => _stack.Push(new PickleValue(PickleKind.Int, value));

    private void PushTuple(PickleValue[] values) => Push(PickleKind.Tuple, new PickleTuple(values), ObjectBytes + ((long)ValueBytes * values.Length));

    private void Push(PickleKind kind, object made, long bytes)
    {
        Charge(bytes);
        Push(new PickleValue(kind, Object: made));
    }

    private void Push(in PickleValue value)
    {
        if (value.Object is PickleContainer container)
        {
            CheckDepth(container);
        }

        _stack.Push(value);
    }

    private void CheckDepth(PickleContainer container)
    {
        if (container.Depth > TorchZipLimits.Depth)
        {
            throw PickleErrors.Limit(_stack.At, $"containers are nested more than {TorchZipLimits.Depth} deep");
        }
    }

    private void Charge(long bytes)
    {
        _made += bytes;
        if (_made > TorchZipLimits.ValueBytes)
        {
            throw PickleErrors.Limit(_stack.At, $"its values take more than {TorchZipLimits.ValueBytes:N0} bytes");
        }
    }
}
