using Sconce.Engine.Regions;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>What a new module is to hold instead of its initial values: tensors of the message, a file, or what is in a shared region.</summary>
/// <param name="Tensors">Keys and tensors; empty where there are none.</param>
/// <param name="File">A file of the models directory; null where there is none.</param>
/// <param name="Plan">How they are loaded.</param>
/// <param name="Shared">What is in a shared region; null where there is none.</param>
public sealed record InitialState(IReadOnlyList<KeyValuePair<string, TensorInput>> Tensors, ModelFileRef? File, LoadPlan Plan, SharedStateRef? Shared = null);

/// <summary>The tensors of a state dict that came within one message, copied and charged until disposed.</summary>
internal sealed class MessageState : StateSource
{
    private const string Field = "state";

    private readonly List<(string Key, Tensor Value)> _tensors = [];
    private readonly List<CallTensors> _owned = [];

    /// <summary>Copies the tensors.</summary>
    /// <param name="host">What is charged, and where kept tensors are.</param>
    /// <param name="module">The module's name, for the ledger's message.</param>
    /// <param name="tensors">The tensors.</param>
    /// <exception cref="EngineException">One is malformed, or a key is there twice, or it does not fit.</exception>
    public MessageState(HostServices host, string module, IReadOnlyList<KeyValuePair<string, TensorInput>> tensors)
    {
        try
        {
            foreach (var (key, input) in tensors)
            {
                // Copies: a module that is assigned them outlives the message.
                var made = CallTensors.ImportOne(host, module, input, FieldOf(_tensors.Count) + ".tensor", mayShare: false);
                _owned.Add(made);
                _tensors.Add((key, made.Others[0] ?? throw EngineException.Invalid(FieldOf(_tensors.Count) + ".tensor", "holds no tensor; a state dict has none that are None", "TENSOR_WITHOUT_PAYLOAD")));
            }

            Entries = [.. _tensors.Select(tensor => new StateEntryInfo(tensor.Key, tensor.Value.dtype.ToElementType(), tensor.Value.shape))];
            TotalBytes = StateUpload.ByteLengths(Entries, Field).Sum();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <inheritdoc/>
    public override long TotalBytes { get; }

    /// <inheritdoc/>
    public override string FieldOf(int entry) => StateLoading.FieldOf(Field, entry);

    private protected override IReadOnlyList<(string Key, Tensor Value)> Complete() => _tensors;

    private protected override void Free() => _owned.ForEach(tensors => tensors.Dispose());
}
