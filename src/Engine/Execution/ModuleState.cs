using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>
/// A module's tree and all that belongs to it. Only lanes touch it, under the module's gate; what other threads may read is said where it stands.
/// </summary>
internal sealed class ModuleState : IDisposable
{
    private readonly HostServices _host;
    private readonly MemoryCharge _weights;
    private readonly MemoryCharge _gradients;
    private ModuleSummary _summary = null!;
    private long _trainableBytes;
    private bool _deleted;
    private bool _replaced;
    private ulong _moves;
    private long _stepsSaved;
    private SharedStateFile? _shared;

    /// <summary>Takes over a tree and the charge for it.</summary>
    public ModuleState(string name, ModuleTree tree, RandomStream random, MemoryCharge weights, HostServices host)
    {
        (Name, Tree, Random, _weights, _host) = (name, tree, random, weights, host);
        Created = host.Time.GetUtcNow();
        _gradients = new MemoryCharge(host.Ledger, MemoryUse.Gradients, "the gradients of module", name);
        Graphs = new GraphTable(name, host.Options, host.Time);
        Optimizers = new OptimizerTable(name, tree, host.Ledger);
        Hooks = new HookTable(name, tree, host);
        Traits = ModuleTraits.Of(tree);
        ShortForwards = new ShortForwards(host.Options.Device);
        Refresh();
    }

    public string Name { get; }

    public DateTimeOffset Created { get; private set; }

    public ModuleTree Tree { get; }

    /// <summary>Where its random numbers come from.</summary>
    public RandomStream Random { get; }

    /// <summary>When snapshots are taken by themselves. Whoever sets it has the module alone; it may be read from any thread.</summary>
    public SnapshotPolicy SnapshotPolicy { get; set; } = new();

    /// <summary>Steps that its optimizers have taken, those of deleted ones among them.</summary>
    public long Steps { get; private set; }

    /// <summary>The calls with an id whose effects are in the module; safe to use from any thread.</summary>
    public OnceCalls Calls { get; } = new();

    /// <summary>The live graphs; safe to use from any thread.</summary>
    public GraphTable Graphs { get; }

    public OptimizerTable Optimizers { get; }

    /// <summary>The registered hooks. Its plan may be read from any thread.</summary>
    public HookTable Hooks { get; }

    public ModuleTraits Traits { get; private set; }

    /// <summary>Counts the memory of one call.</summary>
    public CallMemory NewCallMemory(MemoryUse use, bool recording) => new(_host.Ledger, use, Name, recording);

    /// <summary>Most bytes of one answer.</summary>
    public long MaxAnswerBytes => _host.Options.MaxAnswerBytes;

    /// <summary>Which forwards are short; safe to use from any thread.</summary>
    public ShortForwards ShortForwards { get; }

    /// <summary>Rises with every change of parameters, buffers or structure made by a call. May be read from any thread.</summary>
    public ulong Generation { get; private set; } = 1;

    /// <summary>What was done to the module so far was its making: its generations begin here. Only before it is published.</summary>
    public void Born() => Generation = 1;

    /// <summary>Buffers of submodules in training mode: what a forward may move.</summary>
    public IReadOnlyList<Tensor> MovingBuffers { get; private set; } = [];

    /// <summary>Whether any submodule is in training mode. The gate reads it, when nothing that could change it runs.</summary>
    public bool AnyTraining { get; private set; }

    /// <summary>Whether a lazy module has no shape yet, so that a forward may change the module. The gate reads it as <see cref="AnyTraining"/>.</summary>
    public bool AnyShapeless { get; private set; }

    /// <summary>The summary as of the last change. May be read from any thread.</summary>
    public ModuleSummary Summary => Volatile.Read(ref _summary) with { Generation = Generation, LiveGraphs = Graphs.Count, Steps = Steps, DurableSteps = _host.Durable?.DurableSteps(Name) };

    /// <summary>Whether the module was deleted: read it while its gate is held.</summary>
    public bool IsDeleted => _deleted;

    /// <summary>Begins a call's turn: the module must still be there, at the generation that the caller expects.</summary>
    public void Begin(ulong? ifGeneration)
    {
        if (_deleted)
        {
            throw _replaced ? Replaced(Name) : EngineHost.ModuleNotFound(Name);
        }

        if (ifGeneration is { } expected && expected != Generation)
        {
            throw new EngineException(EngineError.Aborted, "STALE_GENERATION",
                $"if_generation is {expected}, but module {EngineException.Quote(Name)} is at generation {Generation}; read it again and decide anew")
            {
                Resource = new ResourceRef("module", Name),
            };
        }
    }

    /// <summary>Before a forward that moves running statistics: graphs that need them as they were are of a module that will be no more.</summary>
    public void MoveBuffers()
    {
        if (MovingBuffers.Count > 0)
        {
            _moves++;
            Graphs.InvalidateSpoilt(MovingBuffers);
        }
    }

    /// <summary>Runs a call that moves running statistics; where it fails, they are put back.</summary>
    public T OrRestored<T>(Func<T> work) => Restoring(() =>
    {
        MoveBuffers();
        return work();
    });

    /// <summary>Runs a call that may move running statistics; where it fails and has moved them, they are put back.</summary>
    public T Restoring<T>(Func<T> work)
    {
        // Freed by the lane's dispose scope.
        var (buffers, moves) = (MovingBuffers, _moves);
        var copies = new Tensor[buffers.Count];
        for (var i = 0; i < copies.Length; i++)
        {
            copies[i] = buffers[i].detach().clone();
        }

        try
        {
            return work();
        }
        catch when (_moves != moves)
        {
            using (no_grad())
            {
                for (var i = 0; i < copies.Length; i++)
                {
                    // A buffer that has got its shape in this call had no values before it.
                    if (buffers[i].Dimensions == copies[i].Dimensions && buffers[i].NumberOfElements == copies[i].NumberOfElements)
                    {
                        buffers[i].copy_(copies[i]);
                    }
                }
            }

            throw;
        }
    }

    /// <summary>Whether a forward may draw random numbers.</summary>
    public bool MayDraw => Traits.AlwaysDraws || (Traits.Draws && AnyTraining) || AnyShapeless;

    /// <summary>Runs a forward, with the module's random stream where it may draw: only then must it wait for other modules that do.</summary>
    public T Draw<T>(Func<T> forward) => MayDraw ? Random.Run(forward) : forward();

    /// <summary>Runs what surely draws.</summary>
    /// <param name="work">The work.</param>
    /// <param name="seed">Draws from a stream of this seed, and leaves the module's own where it is; null draws from the module's own.</param>
    public T DrawSurely<T>(Func<T> work, long? seed)
    {
        if (seed is not { } number)
        {
            return Random.Run(work);
        }

        using var stream = new RandomStream();
        stream.Seed(number);
        return stream.Run(work);
    }

    /// <summary>Gives the module a random stream of its own.</summary>
    public void Seed(long seed) => Random.Seed(seed);

    /// <summary>Values of parameters or buffers have changed: graphs recorded before are of a module that is no more.</summary>
    public void Stepped()
    {
        Generation++;
        Graphs.Invalidate();
        Calls.Changed();
    }

    /// <summary>An optimizer has stepped; a snapshot may be due.</summary>
    public void StepTaken()
    {
        Stepped();
        Steps++;
        if (SnapshotPolicy.EverySteps > 0 && _host.Durable is { } durable && Steps - _stepsSaved >= SnapshotPolicy.EverySteps && durable.TrySaveStep(this))
        {
            _stepsSaved = Steps;
        }
    }

    /// <summary>Runs a step; one that ended half-way has changed the module too.</summary>
    public T OrStepped<T>(Func<T> step)
    {
        try
        {
            return step();
        }
        catch (EngineException exception) when (exception.Reason == HostedOptimizer.StepIncomplete)
        {
            Stepped();
            throw;
        }
    }

    /// <summary>Sizes or dtypes may have changed too.</summary>
    public void Changed()
    {
        Stepped();
        Refresh();
    }

    /// <summary>The structure has changed too. Nothing that could read the traits runs meanwhile but the guess whether a forward is short.</summary>
    public void Restructured()
    {
        Tree.LookForScripts();
        Traits = ModuleTraits.Of(Tree);
        SettleGradients();
        Changed();
    }

    /// <summary>Takes stock after a call that changed modes, requires_grad, optimizers or values.</summary>
    public void Refresh()
    {
        long elements = 0, bytes = 0, trainable = 0;
        bool training = false, shapeless = false;
        var moving = new List<Tensor>();
        foreach (var (_, parameter) in ModuleTree.NamedParameters(Tree.Root))
        {
            var size = parameter.numel() * parameter.ElementSize;
            elements += parameter.numel();
            bytes += size;
            trainable += parameter.requires_grad ? size : 0;
        }

        foreach (var (_, node) in ModuleTree.Walk(Tree.Root))
        {
            training |= node.Training;
            bytes += node.ExtraState is { } extra ? extra.numel() : 0;
            if (node is LazyNode { IsShapeless: true } lazy)
            {
                shapeless = true;
                lazy.Reserve = more => _weights.Resize(_weights.Bytes + more);
            }

            foreach (var buffer in node.Buffers)
            {
                bytes += buffer.Tensor.numel() * buffer.Tensor.ElementSize;
                if (node.Training)
                {
                    moving.Add(buffer.Tensor);
                }
            }
        }

        Hooks.Resolve();
        AnyTraining = training;
        AnyShapeless = shapeless;
        MovingBuffers = moving;
        _trainableBytes = trainable;
        _weights.Settle(bytes);
        Volatile.Write(ref _summary, new ModuleSummary(
            Name, Tree.Root.TypeName, Generation, Tree.Root.Training, elements, bytes, _host.Options.Device, Optimizers.Names, Created, 0));
    }

    /// <summary>Runs what may give lazy modules their shapes, which changes the module.</summary>
    public T Shaping<T>(Func<T> work)
    {
        if (!AnyShapeless)
        {
            return work();
        }

        var before = Shapeless();
        try
        {
            return work();
        }
        finally
        {
            // What was charged and then not made is given back too.
            if (Shapeless() < before)
            {
                Optimizers.PrepareToConvert(parameter => parameter.dtype)();
                SettleGradients();
                Changed();
            }
            else
            {
                Refresh();
            }
        }

        int Shapeless() => ModuleTree.Walk(Tree.Root).Count(at => at.Node is LazyNode { IsShapeless: true });
    }

    /// <summary>Converts a subtree, all of it or nothing.</summary>
    public void Convert(ModuleNode subtree, ConversionPlan plan)
    {
        var parameters = ModuleTree.NamedParameters(subtree).Select(p => p.Parameter).ToHashSet<Tensor>(ModuleTree.Same);
        var buffers = ModuleTree.Walk(subtree).SelectMany(at => at.Node.Buffers).Select(buffer => buffer.Tensor);

        // Old and new tensors exist side by side until the swap.
        var bytes = parameters.Concat(buffers).Concat(parameters.Select(parameter => parameter.grad).OfType<Tensor>()).Sum(Converted) + Optimizers.BytesToConvert(TypeOf);
        using var transient = new MemoryCharge(_host.Ledger, MemoryUse.Modules, "a conversion of module", Name, bytes);
        using var normal = inference_mode(false);
        using var quiet = no_grad();

        // All that can fail comes before the first change.
        var convert = Conversions.Prepare(subtree, plan);
        var follow = Optimizers.PrepareToConvert(TypeOf);
        convert();
        follow();
        SettleGradients();
        Changed();

        ScalarType TypeOf(Parameter parameter) => parameters.Contains(parameter) ? plan.TargetOf(parameter.dtype.ToElementType()).ToScalarType() : parameter.dtype;

        long Converted(Tensor tensor)
        {
            var from = tensor.dtype.ToElementType();
            var to = plan.TargetOf(from);
            return to == from && plan.Kind != ConversionKind.ToEmpty && MemoryFormats.Has(tensor, plan.Format) ? 0 : tensor.numel() * to.Size();
        }
    }

    /// <summary>Writes a state dict to a file for other processes, in the place of the one before.</summary>
    public SharedStateFile Share(ModuleNode subtree)
    {
        var directory = _host.Options.SharedMemoryDir;
        if (directory.Length == 0)
        {
            throw EngineException.Precondition("SHARED_MEMORY_OFF", "this server writes no shared memory: its operator has not set shared_memory_dir; GetStateDict gives the same over the wire");
        }

        var file = SharedStateFile.Write(directory, ModuleTree.State(subtree), _host.Ledger, Name);
        _shared?.Dispose();
        return _shared = file;
    }

    /// <summary>Charges, before a backward, the gradients that it may make.</summary>
    public void ChargeGradients()
    {
        if (_gradients.Bytes < _trainableBytes)
        {
            _gradients.Resize(_trainableBytes);
        }
    }

    /// <summary>Charges gradients that are about to be made, these and no others.</summary>
    /// <param name="bytes">What they take.</param>
    public void ReserveGradients(long bytes) => _gradients.Resize(bytes);

    /// <summary>Corrects the charge for gradients to those that there are.</summary>
    public void SettleGradients()
    {
        var bytes = 0L;
        foreach (var (_, parameter) in ModuleTree.NamedParameters(Tree.Root))
        {
            using var gradient = parameter.grad;
            bytes += gradient is null ? 0 : gradient.numel() * gradient.ElementSize;
        }

        _gradients.Settle(bytes);
    }

    /// <summary>It was made of a snapshot. Its generation is above every one that the module can have had: what was changed after the snapshot is lost, and who knows those changes must be told.</summary>
    /// <param name="facts">The snapshot's.</param>
    public void Restored(ModuleFacts facts)
    {
        // Four million changes in a second are out of reach, and the number stays below 2^53, which JavaScript can hold.
        var now = ((ulong)Math.Max(0, _host.Time.GetUtcNow().ToUnixTimeMilliseconds()) << 22) / 1000;
        (Created, SnapshotPolicy, Generation) = (facts.Created, facts.Policy, Math.Max(now, facts.Generation + 1));
        Steps = _stepsSaved = facts.Steps;
        Refresh();
    }

    /// <summary>It is to take another's place, which may itself have been restored a moment ago: its generation is above the other's too.</summary>
    /// <param name="generation">The other's.</param>
    public void Follow(ulong generation) => Generation = Math.Max(Generation, generation + 1);

    /// <summary>Another module takes its place: calls that come after are told to try again.</summary>
    public void DisposeReplaced()
    {
        _replaced = true;
        Dispose();
    }

    /// <summary>Frees everything; calls that come after are told that the module is gone.</summary>
    public void Dispose()
    {
        _deleted = true;
        Graphs.Clear();
        Hooks.Dispose();
        _shared?.Dispose();
        Optimizers.Dispose();
        Tree.Dispose();
        Random.Dispose();
        _gradients.Dispose();
        _weights.Dispose();
    }

    private static EngineException Replaced(string name) => new(EngineError.Aborted, "MODULE_RESTORED",
        $"module {EngineException.Quote(name)} was restored from a snapshot while the call waited; look at it again and decide anew")
    {
        Resource = new ResourceRef("module", name),
    };
}
