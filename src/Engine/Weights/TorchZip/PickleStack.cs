namespace Sconce.Engine.Weights.TorchZip;

/// <summary>A pickle's stack with its marks, and its memo: bounded, and nothing below the last mark can be taken.</summary>
internal sealed class PickleStack
{
    private readonly List<int> _marks = [];
    private PickleValue[] _values = new PickleValue[256];
    private int _count;
    private (PickleValue Value, bool IsSet)[] _memo = [];

    /// <summary>Byte of the opcode that is at work, for errors.</summary>
    public int At { get; set; }

    /// <summary>Whether there is one value and no mark.</summary>
    public bool HoldsOne => _count == 1 && _marks.Count == 0;

    private int Floor => _marks.Count == 0 ? 0 : _marks[^1];

    /// <summary>Puts a value on top.</summary>
    public void Push(in PickleValue value)
    {
        if (_count == TorchZipLimits.Stack)
        {
            throw PickleErrors.Limit(At, $"its stack holds {_count:N0} values, which is the most");
        }

        if (_count == _values.Length)
        {
            Array.Resize(ref _values, Math.Min(2 * _count, TorchZipLimits.Stack));
        }

        _values[_count++] = value;
    }

    /// <summary>Takes the value on top.</summary>
    public PickleValue Pop()
    {
        Need(1);
        return _values[--_count];
    }

    /// <summary>The value on top.</summary>
    public PickleValue Top()
    {
        Need(1);
        return _values[_count - 1];
    }

    /// <summary>Puts a mark on top.</summary>
    public void Mark()
    {
        if (_marks.Count == TorchZipLimits.Depth)
        {
            throw PickleErrors.Limit(At, $"{_marks.Count} marks are open, which is the most");
        }

        _marks.Add(_count);
    }

    /// <summary>Takes several values from the top, in the order in which they were put there.</summary>
    /// <param name="count">How many.</param>
    public PickleValue[] Take(int count)
    {
        Need(count);
        _count -= count;
        return _values.AsSpan(_count, count).ToArray();
    }

    /// <summary>Takes the last mark and all above it.</summary>
    public PickleValue[] TakeToMark()
    {
        if (_marks.Count == 0)
        {
            throw PickleErrors.Malformed(At, "there is no mark on its stack");
        }

        var values = Take(_count - _marks[^1]);
        _marks.RemoveAt(_marks.Count - 1);
        return values;
    }

    /// <summary>Remembers the value on top.</summary>
    /// <param name="place">Under which number.</param>
    public void Remember(uint place)
    {
        if (place >= TorchZipLimits.Memo)
        {
            throw PickleErrors.Limit(At, $"place {place:N0} of its memo is set; {TorchZipLimits.Memo:N0} places are the most");
        }

        var value = Top();
        if (place >= _memo.Length)
        {
            Array.Resize(ref _memo, Math.Min(Math.Max(2 * _memo.Length, (int)place + 16), TorchZipLimits.Memo));
        }

        _memo[place] = (value, true);
    }

    /// <summary>What was remembered.</summary>
    /// <param name="place">Under which number.</param>
    public PickleValue Recall(uint place) => place < _memo.Length && _memo[place] is (var value, true) ? value
        : throw PickleErrors.Malformed(At, $"place {place:N0} of its memo was never set");

    private void Need(int count)
    {
        if (_count - Floor < count)
        {
            throw PickleErrors.Malformed(At, $"its stack holds {_count - Floor} of the {count} values that are taken");
        }
    }
}
