using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>
/// What one call takes beside its inputs. An operation whose result can be much larger than what it is given asks first; large results are charged until
/// they are freed or the call ends. What is small goes uncounted, so that a small call pays a comparison and no more. Used by one thread at a time.
/// </summary>
/// <param name="ledger">What is asked and charged.</param>
/// <param name="use">What for: results of a call, or of one whose graph lives on.</param>
/// <param name="module">The module's name, for the ledger's message.</param>
/// <param name="recording">Whether autograd holds every result until the call ends.</param>
internal sealed class CallMemory(MemoryLedger ledger, MemoryUse use, string module, bool recording) : IDisposable
{
    /// <summary>Up to this many bytes are not counted.</summary>
    public const long Small = 1 << 20;

    private readonly string _what = use == MemoryUse.Graphs ? "a live graph of module" : "an output of a submodule or function, in module";
    private Dictionary<Tensor, long>? _large;
    private long _charged;

    /// <summary>Refuses a result that there is no room for.</summary>
    /// <param name="like">A tensor of its dtype.</param>
    /// <param name="sizes">Sizes whose product is its number of elements; what is negative is libtorch's to refuse.</param>
    /// <param name="times">One more factor.</param>
    public void Need(Tensor like, ReadOnlySpan<long> sizes, long times = 1) => Need(like.ElementSize, sizes, times);

    /// <summary>Refuses a result that there is no room for.</summary>
    /// <param name="elementSize">Bytes of one element.</param>
    /// <param name="sizes">Sizes whose product is its number of elements; what is negative is libtorch's to refuse.</param>
    /// <param name="times">One more factor.</param>
    public void Need(long elementSize, ReadOnlySpan<long> sizes, long times = 1)
    {
        var bytes = TensorSize.Product(sizes);
        bytes = bytes <= 0 || times <= 0 ? 0 : TensorSize.Product(bytes, times, elementSize);
        if (bytes > Small)
        {
            ledger.Check(use, bytes, _what, module);
        }
    }

    /// <summary>Charges what a submodule or a function has made, where it is large. A view of an input takes nothing.</summary>
    public void Made(TensorTree output, IReadOnlyList<TensorTree?> inputs)
    {
        foreach (var item in output.Items ?? [])
        {
            Made(item, inputs);
        }

        if (output.Tensor is not { } tensor || TensorSize.Of(tensor) is var bytes && bytes <= Small || inputs.Any(input => input is not null && Shares(input, tensor)))
        {
            return;
        }

        _large ??= new Dictionary<Tensor, long>(ReferenceEqualityComparer.Instance);
        if (_large.TryAdd(tensor, bytes))
        {
            ledger.Charge(use, bytes, _what, module);
            _charged += bytes;
        }
    }

    /// <summary>Whether a result is charged, and the charge ends when it is freed.</summary>
    public bool Counts(Tensor tensor) => !recording && _large is not null && _large.ContainsKey(tensor);

    /// <summary>Takes back what was charged for a result that is freed before the call ends, unless autograd holds it still.</summary>
    /// <param name="tensor">The result.</param>
    /// <param name="heir">A value that lives on: where it has a view of the result, the memory is there still, and the charge goes over to that.</param>
    public void Freed(Tensor tensor, TensorTree? heir = null)
    {
        if (recording || _large is null || !_large.Remove(tensor, out var bytes))
        {
            return;
        }

        if (heir is not null && ViewOf(tensor, heir) is { } view)
        {
            _large[view] = TensorSize.Sum(bytes, _large.GetValueOrDefault(view));
            return;
        }

        ledger.Release(use, bytes);
        _charged -= bytes;
    }

    /// <summary>The first tensor of a value that is a view of a large one; null for none.</summary>
    public static Tensor? ViewOf(Tensor large, TensorTree value)
    {
        if (value.Tensor is { } tensor)
        {
            return NativeTensors.IsWithin(tensor, large) ? tensor : null;
        }

        foreach (var item in value.Items ?? [])
        {
            if (ViewOf(large, item) is { } view)
            {
                return view;
            }
        }

        return null;
    }

    /// <summary>Ends the charges of the call, and charges its answer until that has been sent: it is there already, so it is not refused.</summary>
    /// <returns>The charge; null for an answer that is small.</returns>
    public MemoryCharge? Keep(TensorTree answer)
    {
        Dispose();
        var bytes = TensorSize.Of(answer);
        if (bytes <= Small)
        {
            return null;
        }

        var charge = new MemoryCharge(ledger, MemoryUse.Outputs, _what, module);
        charge.Settle(bytes);
        return charge;
    }

    /// <summary>Ends what is charged; it may be used again.</summary>
    public void Dispose()
    {
        ledger.Release(use, _charged);
        _charged = 0;
        _large?.Clear();
    }

    private static unsafe bool Shares(TensorTree input, Tensor tensor) =>
        input.Tensor is { } given ? NativeTensors.Address(given) == NativeTensors.Address(tensor) : input.Items?.Any(item => Shares(item, tensor)) ?? false;
}
