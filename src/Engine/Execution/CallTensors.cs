using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>
/// The tensors of one call's request: checked, charged and made on the caller's thread, before the call waits for its turn; freed when it has run, or
/// when it never will.
/// </summary>
internal sealed class CallTensors : IDisposable
{
    private static readonly Dictionary<string, TensorTree> NoNames = [];

    private readonly MemoryLedger _ledger;
    private readonly List<Tensor> _owned;
    private long _bytes;

    private CallTensors(MemoryLedger ledger, int count) => (_ledger, _owned) = (ledger, new List<Tensor>(count));

    /// <summary>Bytes of what came with the request.</summary>
    public long Bytes => _bytes;

    /// <summary>Whether a tensor kept on the host is among them, whose bytes are not in <see cref="Bytes"/>.</summary>
    public bool UsesKept { get; private set; }

    /// <summary>The positional inputs.</summary>
    public TensorTree[] Positional { get; private set; } = [];

    /// <summary>The named inputs.</summary>
    public Dictionary<string, TensorTree> Named { get; private set; } = NoNames;

    /// <summary>Further tensors of the request: targets, or gradients of outputs; null for None.</summary>
    public Tensor?[] Others { get; private set; } = [];

    /// <summary>Makes the tensors of a call.</summary>
    /// <param name="host">What is charged, and where kept tensors are.</param>
    /// <param name="module">The module's name, for the ledger's message.</param>
    /// <param name="inputs">The inputs; null where there are none.</param>
    /// <param name="others">Further tensors.</param>
    /// <param name="othersPrefix">What comes before their field in error paths.</param>
    /// <param name="othersField">Their field in the request.</param>
    /// <param name="mayShare">Whether the tensors may use the request's memory.</param>
    public static CallTensors Import(
        HostServices host, string module, CallInputs? inputs, IReadOnlyList<TensorInput> others, string othersPrefix, string othersField, bool mayShare)
    {
        var count = others.Count + (inputs is null ? 0 : inputs.Positional.Count + inputs.Named.Count);
        var tensors = new CallTensors(host.Ledger, count);
        try
        {
            tensors.Charge(inputs, others, module);
            if (inputs is not null)
            {
                tensors.Positional = new TensorTree[inputs.Positional.Count];
                for (var i = 0; i < tensors.Positional.Length; i++)
                {
                    tensors.Positional[i] = TensorTree.Of(tensors.Make(host, inputs.Positional[i], new FieldPath(inputs.FieldPrefix, "inputs", i), mayShare));
                }

                if (inputs.Named.Count > 0)
                {
                    tensors.Named = new Dictionary<string, TensorTree>(inputs.Named.Count, StringComparer.Ordinal);
                    foreach (var (name, input) in inputs.Named)
                    {
                        tensors.Named[name] = TensorTree.Of(tensors.Make(host, input, new FieldPath(inputs.FieldPrefix, "inputs", Key: name), mayShare));
                    }
                }
            }

            tensors.Others = others.Count == 0 ? [] : new Tensor?[others.Count];
            for (var i = 0; i < tensors.Others.Length; i++)
            {
                tensors.Others[i] = tensors.Make(host, others[i], new FieldPath(othersPrefix, othersField, i), mayShare);
            }

            return tensors;
        }
        catch
        {
            tensors.Dispose();
            throw;
        }
    }

    /// <summary>Makes the one tensor of a call, which may be None.</summary>
    /// <param name="host">What is charged, and where kept tensors are.</param>
    /// <param name="module">The module's name, for the ledger's message.</param>
    /// <param name="tensor">The tensor.</param>
    /// <param name="field">Its field in the request.</param>
    /// <param name="mayShare">Whether it may use the request's memory.</param>
    public static CallTensors ImportOne(HostServices host, string module, in TensorInput tensor, string field, bool mayShare = true)
    {
        var tensors = new CallTensors(host.Ledger, 1);
        try
        {
            tensors.Charge(null, [tensor], module);
            tensors.Others = [tensors.Make(host, tensor, new FieldPath("", field), mayShare)];
            return tensors;
        }
        catch
        {
            tensors.Dispose();
            throw;
        }
    }

    /// <summary>The arguments for a module's call.</summary>
    public CallArguments Arguments(CallInputs inputs) =>
        new(Positional, Named, inputs.FieldPrefix.Length == 0 ? "inputs" : inputs.FieldPrefix + "inputs");

    /// <summary>Refuses inputs that hold a NaN or an infinity.</summary>
    public void CheckFinite(CallInputs inputs)
    {
        for (var i = 0; i < Positional.Length; i++)
        {
            if (Positional[i].Tensor is { } tensor)
            {
                TensorImport.CheckFinite(tensor, new FieldPath(inputs.FieldPrefix, "inputs", i));
            }
        }

        foreach (var (name, value) in Named)
        {
            if (value.Tensor is { } tensor)
            {
                TensorImport.CheckFinite(tensor, new FieldPath(inputs.FieldPrefix, "inputs", Key: name));
            }
        }
    }

    /// <summary>Leaves the tensors to whoever keeps them from here on; their charge ends with the call all the same.</summary>
    public void Disown() => _owned.Clear();

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var tensor in _owned)
        {
            tensor.Dispose();
        }

        _owned.Clear();
        _ledger.Release(MemoryUse.Inputs, _bytes);
        _bytes = 0;
    }

    private void Charge(CallInputs? inputs, IReadOnlyList<TensorInput> others, string module)
    {
        var bytes = 0L;
        for (var i = 0; i < others.Count; i++)
        {
            bytes += others[i].Payload.Data.Length;
        }

        for (var i = 0; i < inputs?.Positional.Count; i++)
        {
            bytes += inputs.Positional[i].Payload.Data.Length;
        }

        for (var i = 0; i < inputs?.Named.Count; i++)
        {
            bytes += inputs.Named[i].Value.Payload.Data.Length;
        }

        _ledger.Charge(MemoryUse.Inputs, bytes, "the inputs of module", module);
        _bytes = bytes;
    }

    private Tensor? Make(HostServices host, in TensorInput input, in FieldPath field, bool mayShare)
    {
        if (input.IsNone)
        {
            return null;
        }

        UsesKept |= input.KeptId is not null;
        var tensor = input.KeptId is { } id ? Use(host, id, input.Payload.Type, field, mayShare) : TensorImport.Import(input.Payload, field, mayShare);

        // Made on the caller's thread and used on a lane: no dispose scope of either may end it.
        _owned.Add(tensor.DetachFromDisposeScope());
        return tensor;
    }

    private static Tensor Use(HostServices host, string id, ElementType expected, in FieldPath field, bool mayShare)
    {
        var kept = host.Tensors.Use(id, expected, field);
        if (mayShare)
        {
            return kept;
        }

        using (kept)
        {
            return kept.clone();
        }
    }
}
