using System.Globalization;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training.Optimizers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary>
/// An optimizer over parameters of one module tree. It holds the parameters themselves, which keep their identity through conversions; what
/// it keeps for them lives until it is disposed, whatever dispose scope is open. Not thread-safe: it belongs to its module's turn.
/// </summary>
public sealed class HostedOptimizer : IDisposable
{
    /// <summary>Reason of the error where a step ended half-way.</summary>
    internal const string StepIncomplete = "STEP_INCOMPLETE";

    private readonly OptimizerRule _rule;
    private readonly IReadOnlyDictionary<string, object?> _args;
    private readonly ModuleTree _tree;
    private readonly List<OptimizerGroup> _groups = [];

    // The groups' options once more: schedulers hold on to this list and see groups that are added later.
    private readonly List<OptionSet> _options = [];
    private Lbfgs? _lbfgs;

    private HostedOptimizer(string name, OptimizerRule rule, IReadOnlyDictionary<string, object?> args, ModuleTree tree)
    {
        Name = name;
        _rule = rule;
        _args = args;
        _tree = tree;
    }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>PyTorch's type name, e.g. <c>AdamW</c>.</summary>
    public string Type => _rule.Type;

    /// <summary>Steps taken since it was made.</summary>
    public long Steps { get; private set; }

    /// <summary>Its parameter groups.</summary>
    public IReadOnlyList<GroupDescription> Groups =>
        [.. _groups.Select(group => new GroupDescription([.. group.Parameters.Select(parameter => parameter.Name)], group.Options.Copy()))];

    /// <summary>Its scheduler, where it has one.</summary>
    public HostedScheduler? Scheduler { get; private set; }

    /// <summary>Whether a step computes the loss again and so needs a closure (LBFGS).</summary>
    public bool NeedsClosure => _rule is LbfgsRule;

    /// <summary>Bytes that its state comes to once it has stepped; of LBFGS with a full history.</summary>
    public long StateBytes => (long)_groups.Sum(group =>
        _rule.StateCopies(group.Options) * group.Parameters.Sum(p => (double)p.Parameter.numel() * p.Parameter.element_size()));

    /// <summary>Makes an optimizer.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Constructor arguments by PyTorch's names.</param>
    /// <param name="groups">Parameter groups; none means one group of all parameters.</param>
    /// <param name="tree">The module.</param>
    /// <param name="field">Path of the message that holds <c>type</c>, <c>args</c> and <c>groups</c>; empty where it is the request.</param>
    /// <exception cref="EngineException">The type, an argument or a group is wrong.</exception>
    public static HostedOptimizer Create(
        string name, string type, IReadOnlyDictionary<string, object?> args, IReadOnlyList<ParamGroupSpec> groups, ModuleTree tree, string field = "")
    {
        ArgumentNullException.ThrowIfNull(groups);
        ArgumentNullException.ThrowIfNull(tree);
        var rule = OptimizerTypes.Find(type, RequestPath.Join(field, "type"));
        var argsField = RequestPath.Join(field, "args");
        _ = Bind(rule, args, argsField);
        var specs = groups.Count > 0 ? groups : [new ParamGroupSpec([], new Dictionary<string, object?>())];
        var optimizer = new HostedOptimizer(name, rule, args, tree);
        optimizer.Add(specs, g => RequestPath.Join(field, string.Create(CultureInfo.InvariantCulture, $"groups[{g}]")));
        return optimizer;
    }

    /// <summary>Adds a group (<c>add_param_group</c>).</summary>
    /// <param name="group">The group; its patterns match parameters that are in no group yet.</param>
    /// <param name="field">Its path in the request.</param>
    public void AddParamGroup(ParamGroupSpec group, string field = "group")
    {
        ArgumentNullException.ThrowIfNull(group);
        Add([group], _ => field);
    }

    /// <summary>Throws where <see cref="Step"/> would for a reason that can be known, and changes nothing.</summary>
    /// <exception cref="EngineException">It needs a closure, or a gradient is sparse and the type cannot take that.</exception>
    public void CheckStep()
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        _ = Checked(RuleThatSteps());
    }

    /// <summary>Steps with the gradients there are; parameters without one stay.</summary>
    /// <exception cref="EngineException">As for <see cref="CheckStep"/>, then nothing has changed; or libtorch failed half-way.</exception>
    public void Step()
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var rule = RuleThatSteps();
        foreach (var (group, gradients) in _groups.Zip(Checked(rule)))
        {
            for (var i = 0; i < gradients.Length; i++)
            {
                if (gradients[i] is { } gradient)
                {
                    try
                    {
                        rule.UpdateAny(group.Parameters[i].Parameter, gradient, group.States[i], group.Options);
                    }
                    catch (Exception exception) when (CallFailure.IsNative(exception))
                    {
                        // To be able to take back the parameters before it, each step would have to copy them all.
                        throw new EngineException(EngineError.Internal, StepIncomplete,
                            $"libtorch failed at {EngineException.Quote(group.Parameters[i].Name)}, and the parameters before it have been stepped: {CallFailure.Cause(exception)}", exception);
                    }
                }
            }
        }

        Steps++;
    }

    /// <summary>Steps LBFGS.</summary>
    /// <param name="closure">Computes the loss and the gradients anew, and frees what it makes. If it throws, the parameters are as before.</param>
    /// <returns>The loss before the step.</returns>
    public double StepWithClosure(Func<double> closure)
    {
        _lbfgs ??= NeedsClosure
            ? new Lbfgs(_groups[0].Parameters)
            : throw EngineException.Precondition("NO_CLOSURE", $"{Type} takes no closure; call Step", Resource);
        // It moves all of them, those without a gradient too.
        foreach (var (parameter, tensor) in _groups[0].Parameters)
        {
            Gradients.CheckType("parameter", parameter, tensor);
            if (tensor.is_complex())
            {
                throw EngineException.Precondition("COMPLEX_PARAMETER", $"the parameter {EngineException.Quote(parameter)} is {tensor.dtype.ToElementType().Name()}; {Type} takes real parameters", Resource);
            }
        }

        var loss = _lbfgs.Step(_groups[0].Options, closure);
        Steps++;
        return loss;
    }

    /// <summary>Sets the learning rate.</summary>
    /// <param name="lr">The rate, at least 0 and finite.</param>
    /// <param name="group">Index of one group; null sets all.</param>
    public void SetLearningRate(double lr, int? group = null)
    {
        if (!(lr >= 0 && double.IsFinite(lr)))
        {
            throw EngineException.Invalid("lr", string.Create(CultureInfo.InvariantCulture, $"is {lr}; a learning rate is at least 0 and finite"));
        }

        if (group is { } index && (index < 0 || index >= _groups.Count))
        {
            throw EngineException.NotFound("group", string.Create(CultureInfo.InvariantCulture, $"{Name}[{index}]"),
                string.Create(CultureInfo.InvariantCulture, $"the optimizer has {_groups.Count} groups, counted from 0"));
        }

        foreach (var options in group is { } one ? [_options[one]] : _options)
        {
            options.LearningRate = lr;
        }
    }

    /// <summary>Makes its scheduler, in place of the one before.</summary>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Arguments by PyTorch's names.</param>
    /// <param name="field">Path of the message that holds <c>type</c> and <c>args</c>; empty where it is the request.</param>
    public void CreateScheduler(string type, IReadOnlyDictionary<string, object?> args, string field = "") =>
        Scheduler = new HostedScheduler(type, args, _options, field);

    /// <summary>Steps its scheduler.</summary>
    /// <param name="metric">What ReduceLROnPlateau watches; null for the others.</param>
    public void SchedulerStep(double? metric = null) => RequireScheduler().Step(metric);

    /// <summary>Throws where <see cref="SchedulerStep"/> would, and changes nothing.</summary>
    /// <param name="metric">The metric.</param>
    public void CheckSchedulerStep(double? metric = null) => RequireScheduler().CheckCanStep(metric);

    /// <summary>Its state in PyTorch's layout. Tensors are references: copy them before the next step.</summary>
    /// <exception cref="EngineException">LBFGS has no state to read.</exception>
    public OptimizerStateDict GetState() => OptimizerStates.Read(RuleWithState(), _groups);

    /// <summary>Loads state in PyTorch's layout, converted to the parameters' dtypes. All is checked before anything changes.</summary>
    /// <param name="state">The state; its tensors are copied.</param>
    /// <param name="field">Path of the state in the request.</param>
    public void LoadState(OptimizerStateDict state, string field = "state")
    {
        ArgumentNullException.ThrowIfNull(state);
        OptimizerStates.Load(RuleWithState(), _groups, state, field);
    }

    /// <summary>All that makes another go on where this one stands.</summary>
    /// <param name="names">Names of the parameters as they are now.</param>
    internal RememberedOptimizer Remember(IReadOnlyDictionary<Parameter, string> names)
    {
        var (tensors, scalars) = _rule is PerParameterRule rule && OptimizerStates.Read(rule, _groups) is var state ? (state.Tensors, state.Scalars)
            : _lbfgs?.Remember() ?? ([], new Dictionary<string, double>());
        var groups = _groups.Select(group => new GroupDescription([.. group.Parameters.Select(parameter => names[parameter.Parameter])], group.Options.Copy()));
        return new(new OptimizerMemory(Name, Type, _args, [.. groups], Steps, scalars, Scheduler?.Remember()), tensors);
    }

    /// <summary>An optimizer that goes on where another stood.</summary>
    /// <param name="memory">What the other remembered.</param>
    /// <param name="tensors">The other's tensors; they are copied.</param>
    /// <param name="tree">The module.</param>
    /// <exception cref="EngineException">It does not fit the module.</exception>
    internal static HostedOptimizer Restore(OptimizerMemory memory, IReadOnlyList<(string Key, Tensor Value)> tensors, ModuleTree tree)
    {
        var rule = OptimizerTypes.Find(memory.Type, "type");
        var optimizer = new HostedOptimizer(memory.Name, rule, memory.Args, tree) { Steps = memory.Steps };
        try
        {
            foreach (var remembered in memory.Groups)
            {
                optimizer.RestoreScheduler(memory.Scheduler);
                var options = OptionSet.Recall(rule.Arguments, remembered.Options, rule.Type);
                var group = new OptimizerGroup([.. remembered.Parameters.Select(name => new NamedParameter(name, ModuleTree.FindParameter(tree.Root, name)
                    ?? throw EngineException.Precondition("SNAPSHOT_MISMATCH", $"optimizer {EngineException.Quote(memory.Name)} steps {EngineException.Quote(name)}, which the module has not")))], options);
                optimizer._groups.Add(group);
                optimizer._options.Add(options);
                OptimizerStates.Initialize(rule, group);
            }

            optimizer.RestoreScheduler(memory.Scheduler);
            if (rule is PerParameterRule steps)
            {
                OptimizerStates.Recall(steps, optimizer._groups, tensors, memory.Scalars, $"optimizer {EngineException.Quote(memory.Name)}");
            }
            else if (tensors.Count + memory.Scalars.Count > 0)
            {
                optimizer._lbfgs = Lbfgs.Restore(optimizer._groups[0].Parameters, tensors, memory.Scalars);
            }

            return optimizer;
        }
        catch
        {
            optimizer.Dispose();
            throw;
        }
    }

    /// <summary>After a conversion of the module: state tensors take the dtype and device that their parameter has now.</summary>
    public void ConvertState()
    {
        using var noGrad = no_grad();
        PrepareToConvert(parameter => parameter.dtype)();
    }

    /// <summary>Whether a parameter is in one of its groups.</summary>
    internal bool Holds(Parameter parameter) => _groups.Any(group => group.Parameters.Any(p => ReferenceEquals(p.Parameter, parameter)));

    /// <summary>Bytes that <see cref="PrepareToConvert"/> takes.</summary>
    internal long BytesToConvert(Func<Parameter, ScalarType> typeOf) => (_lbfgs?.BytesToFollow(typeOf(_groups[0].Parameters[0].Parameter)) ?? 0)
        + _groups.Sum(group => group.Parameters.Zip(group.States).Sum(pair => pair.Second.BytesToFollow(typeOf(pair.First.Parameter))));

    /// <summary>Makes the state in the dtypes that the parameters are to have, without grad, and returns what puts it in place, which cannot fail.</summary>
    internal Action PrepareToConvert(Func<Parameter, ScalarType> typeOf)
    {
        List<Action> follow = [.. _groups.SelectMany(group => group.Parameters.Zip(group.States, (parameter, state) => state.PrepareToFollow(typeOf(parameter.Parameter))))];
        if (_lbfgs is not null)
        {
            follow.Add(_lbfgs.PrepareToFollow(typeOf(_groups[0].Parameters[0].Parameter)));
        }

        return () => follow.ForEach(action => action());
    }

    /// <summary>Frees its state.</summary>
    public void Dispose()
    {
        _lbfgs?.Dispose();
        foreach (var group in _groups)
        {
            group.Dispose();
        }
    }

    // A schedule is made for the groups that there are when it is made.
    private void RestoreScheduler(SchedulerMemory? memory)
    {
        if (memory?.Groups == _groups.Count && Scheduler is null)
        {
            Scheduler = HostedScheduler.Restore(memory, _options);
        }
    }

    private ResourceRef Resource => new("optimizer", Name);

    private static OptionSet Bind(OptimizerRule rule, IReadOnlyDictionary<string, object?> args, string field)
    {
        var options = OptionSet.Bind(rule.Arguments, args, rule.Type, field);
        var errors = new OptionErrors(field);
        rule.Check(options, errors);
        errors.ThrowIfAny();
        return options;
    }

    private void Add(IReadOnlyList<ParamGroupSpec> specs, Func<int, string> field)
    {
        if (NeedsClosure && specs.Count + _groups.Count > 1)
        {
            throw EngineException.Invalid(field(specs.Count - 1), $"{Type} takes one parameter group only");
        }

        var members = OptimizerGroup.Choose(specs, ModuleTree.NamedParameters(_tree.Root), _groups, field);
        if (members.All(group => group.Count == 0))
        {
            throw EngineException.Invalid($"{field(0)}.parameters", "the module has no parameters, so there is nothing to optimize");
        }

        if (_rule is PerParameterRule { FillsAtOnce: true } && ModuleTree.Uninitialized(_tree.Root) is { Count: > 0 } shapeless)
        {
            var chosen = members.SelectMany(group => group).Select(member => member.Name).Where(shapeless.Contains).ToList();
            if (chosen.Count > 0)
            {
                throw LazyNode.NotYet(chosen);
            }
        }

        var options = specs.Select((spec, g) => Bind(_rule, Merge(_args, spec.Args), $"{field(g)}.args")).ToList();
        foreach (var (parameters, own) in members.Zip(options))
        {
            var group = new OptimizerGroup(parameters, own);
            _groups.Add(group);
            _options.Add(own);
            OptimizerStates.Initialize(_rule, group);
            if (Scheduler is not null)
            {
                own.InitialLearningRate = own.LearningRate;
            }
        }
    }

    private static Dictionary<string, object?> Merge(IReadOnlyDictionary<string, object?> common, IReadOnlyDictionary<string, object?> own)
    {
        var merged = new Dictionary<string, object?>(common, StringComparer.Ordinal);
        foreach (var (name, value) in own)
        {
            merged[name] = value;
        }

        return merged;
    }

    // The gradients of each group, with which a step can be taken. Each read of .grad makes a new wrapper.
    private List<Tensor?[]> Checked(PerParameterRule rule)
    {
        var gradients = _groups.ConvertAll(group => group.Parameters.Select(Gradient).ToArray());
        for (var g = 0; g < gradients.Count; g++)
        {
            StepTrial.Run(rule, _groups[g], gradients[g]);
        }

        return gradients;
    }

    private static Tensor? Gradient(NamedParameter parameter) =>
        parameter.Parameter.grad is { } gradient ? Gradients.Followed(parameter.Name, gradient) : null;

    private PerParameterRule RuleThatSteps() => _rule as PerParameterRule
        ?? throw EngineException.Precondition("CLOSURE_REQUIRED", $"{Type} computes the loss several times in a step; use TrainStep", Resource);

    private PerParameterRule RuleWithState() => _rule as PerParameterRule
        ?? throw EngineException.Precondition("NO_STATE", $"{Type} has no state to read or load", Resource);

    private HostedScheduler RequireScheduler() => Scheduler
        ?? throw EngineException.Precondition("NO_SCHEDULER", $"the optimizer {EngineException.Quote(Name)} has no scheduler; make one with CreateScheduler", Resource);
}
