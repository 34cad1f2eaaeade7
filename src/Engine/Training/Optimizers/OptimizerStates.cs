using System.Globalization;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>State of an optimizer, in and out, in PyTorch's layout.</summary>
internal static class OptimizerStates
{
    // What PyTorch writes into its groups beside options of the algorithm: ways to compute, and what schedulers leave there.
    private static readonly HashSet<string> NotOurs = new(StringComparer.Ordinal)
    {
        "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay", "max_lr", "min_lr", "max_momentum", "base_momentum", "maximize",
    };

    public static void Initialize(OptimizerRule rule, OptimizerGroup group)
    {
        if (rule is PerParameterRule perParameter)
        {
            using var noGrad = no_grad();
            using var scope = NewDisposeScope();
            foreach (var state in group.States)
            {
                perParameter.Initialize(state, group.Options);
            }
        }
    }

    public static OptimizerStateDict Read(PerParameterRule rule, IReadOnlyList<OptimizerGroup> groups)
    {
        var stateGroups = new List<StateGroup>();
        var tensors = new List<(string, Tensor)>();
        var scalars = new Dictionary<string, double>(StringComparer.Ordinal);
        var number = 0;
        foreach (var group in groups)
        {
            stateGroups.Add(new StateGroup([.. Enumerable.Range(number, group.States.Count)], group.Options.Copy()));
            foreach (var state in group.States)
            {
                foreach (var name in rule.StateTensors(group.Options).Where(state.Has))
                {
                    tensors.Add((Key(number, name), state.Tensors[name]));
                }

                foreach (var (name, value) in state.Scalars)
                {
                    scalars[Key(number, name)] = value;
                }

                number++;
            }
        }

        return new OptimizerStateDict(stateGroups, tensors, scalars);
    }

    public static void Load(PerParameterRule rule, IReadOnlyList<OptimizerGroup> groups, OptimizerStateDict state, string field)
    {
        var wrong = new List<FieldViolation>();
        var options = Options(rule, groups, state, field, wrong);
        if (wrong.Count > 0)
        {
            throw EngineException.Invalid(wrong);
        }

        Load(rule, groups, options, state, field);
        foreach (var (group, loaded) in groups.Zip(options))
        {
            group.Options.Take(loaded);
        }
    }

    /// <summary>Loads what <see cref="Read"/> gave into groups that have their options already.</summary>
    public static void Recall(
        PerParameterRule rule, IReadOnlyList<OptimizerGroup> groups, IReadOnlyList<(string Key, Tensor Value)> tensors, IReadOnlyDictionary<string, double> scalars, string field) =>
        Load(rule, groups, [.. groups.Select(group => group.Options)], new OptimizerStateDict([], tensors, scalars), field);

    private static void Load(PerParameterRule rule, IReadOnlyList<OptimizerGroup> groups, List<OptionSet> options, OptimizerStateDict state, string field)
    {
        var wrong = new List<FieldViolation>();
        var slots = groups.SelectMany((group, g) => group.Parameters.Select((parameter, i) => new Slot(parameter, group.States[i], options[g]))).ToList();
        Sort(rule, slots, state, field, wrong);
        foreach (var (slot, number) in slots.Select((slot, number) => (slot, number)).Where(entry => entry.slot.Given))
        {
            wrong.AddRange(rule.StateScalars.Where(name => !slot.Scalars.ContainsKey(name)).Concat(Missing(rule, slot))
                .Select(name => new FieldViolation($"{field}.entries", $"{EngineException.Quote(Key(number, name))} is missing: {rule.Type} needs it beside the other state of {slot.Name}")));
        }

        if (wrong.Count > 0)
        {
            throw EngineException.Invalid(wrong);
        }

        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        foreach (var slot in slots)
        {
            slot.Convert();
        }

        // From here on nothing can fail.
        foreach (var slot in slots)
        {
            slot.State.Load(slot.Tensors, slot.Scalars);
        }

        foreach (var slot in slots.Where(slot => !slot.Given))
        {
            rule.Initialize(slot.State, slot.Options);
        }
    }

    // SGD makes its buffer at the first step that has momentum, so that its absence is a state too.
    private static IEnumerable<string> Missing(PerParameterRule rule, Slot slot) =>
        rule is Sgd ? [] : rule.StateTensors(slot.Options).Where(name => !slot.Tensors.ContainsKey(name));

    private static List<OptionSet> Options(
        PerParameterRule rule, IReadOnlyList<OptimizerGroup> groups, OptimizerStateDict state, string field, List<FieldViolation> wrong)
    {
        var options = new List<OptionSet>();
        if (state.Groups.Count != groups.Count)
        {
            wrong.Add(new($"{field}.groups", string.Create(CultureInfo.InvariantCulture, $"there are {state.Groups.Count} groups; the optimizer has {groups.Count}")));
            return options;
        }

        var first = 0;
        for (var g = 0; g < groups.Count; g++)
        {
            var path = string.Create(CultureInfo.InvariantCulture, $"{field}.groups[{g}]");
            var numbers = state.Groups[g].Parameters;
            if (!numbers.SequenceEqual(Enumerable.Range(first, groups[g].Parameters.Count)))
            {
                wrong.Add(new($"{path}.parameters", string.Create(CultureInfo.InvariantCulture,
                    $"there are {numbers.Count} parameters; the group has {groups[g].Parameters.Count}, numbered from {first}")));
            }

            first += groups[g].Parameters.Count;
            options.Add(LoadedOptions(rule, groups[g], state.Groups[g], $"{path}.options", wrong));
        }

        return options;
    }

    private static OptionSet LoadedOptions(PerParameterRule rule, OptimizerGroup group, StateGroup loaded, string field, List<FieldViolation> wrong)
    {
        var declared = rule.Arguments.Select(argument => argument.Name).ToHashSet(StringComparer.Ordinal);
        var given = group.Options.Values.Where(entry => declared.Contains(entry.Key)).ToDictionary(entry => entry.Key, entry => entry.Value);
        foreach (var (name, value) in loaded.Options.Where(entry => declared.Contains(entry.Key) || !(entry.Key == "initial_lr" || NotOurs.Contains(entry.Key))))
        {
            given[name] = value;
        }

        try
        {
            var options = OptionSet.Bind(rule.Arguments, given, rule.Type, field);
            var errors = new OptionErrors(field);
            rule.Check(options, errors);
            errors.ThrowIfAny();
            if (loaded.Options.TryGetValue("initial_lr", out var initial))
            {
                options.InitialLearningRate = initial is double rate && double.IsFinite(rate) && rate >= 0
                    ? rate
                    : throw EngineException.Invalid($"{field}.initial_lr", $"{Argument.Show(initial)} was given; a learning rate is a number of at least 0, and finite");
            }

            return options;
        }
        catch (EngineException exception)
        {
            wrong.AddRange(exception.Fields);
            return group.Options;
        }
    }

    /// <summary>Puts each entry to its parameter, and tells which fit nowhere.</summary>
    private static void Sort(PerParameterRule rule, List<Slot> slots, OptimizerStateDict state, string field, List<FieldViolation> wrong)
    {
        for (var i = 0; i < state.Tensors.Count; i++)
        {
            var (key, value) = state.Tensors[i];
            var path = string.Create(CultureInfo.InvariantCulture, $"{field}.entries[{i}]");
            if (!TrySplit(key, slots.Count, out var number, out var name))
            {
                wrong.Add(new(path, Unknown(key, slots.Count)));
                continue;
            }

            var slot = slots[number];
            if (rule.StateScalars.Contains(name) && value.numel() == 1 && !value.is_complex())
            {
                slot.AddScalar(name, value.to(ScalarType.Float64).ToDouble(), path, wrong); // PyTorch keeps `step` as a tensor.
            }
            else if (!rule.StateTensors(slot.Options).Contains(name))
            {
                wrong.Add(new(path, $"{EngineException.Quote(key)}: {rule.Type} keeps no {EngineException.Quote(name)} with these options"));
            }
            else
            {
                slot.AddTensor(name, value, path, wrong);
            }
        }

        foreach (var (key, value) in state.Scalars)
        {
            var path = $"{field}.scalars[{EngineException.Quote(key)}]";
            if (!TrySplit(key, slots.Count, out var number, out var name) || !rule.StateScalars.Contains(name))
            {
                wrong.Add(new(path, Unknown(key, slots.Count)));
            }
            else
            {
                slots[number].AddScalar(name, value, path, wrong);
            }
        }
    }

    private static string Key(int number, string name) => string.Create(CultureInfo.InvariantCulture, $"{number}.{name}");

    private static string Unknown(string key, int count) => string.Create(CultureInfo.InvariantCulture,
        $"{EngineException.Quote(key)} is no state of this optimizer; keys are a parameter's number, from 0 to {count - 1}, a dot, and a name");

    private static bool TrySplit(string key, int count, out int number, out string name)
    {
        var dot = key.IndexOf('.', StringComparison.Ordinal);
        name = dot < 0 ? "" : key[(dot + 1)..];
        number = -1;
        return dot > 0 && int.TryParse(key.AsSpan(0, dot), NumberStyles.None, CultureInfo.InvariantCulture, out number) && number < count;
    }

    /// <summary>What is to be loaded for one parameter.</summary>
    private sealed class Slot(NamedParameter parameter, ParameterState state, OptionSet options)
    {
        public string Name => EngineException.Quote(parameter.Name);

        public ParameterState State => state;

        public OptionSet Options => options;

        public Dictionary<string, Tensor> Tensors { get; } = new(StringComparer.Ordinal);

        public Dictionary<string, double> Scalars { get; } = new(StringComparer.Ordinal);

        public bool Given => Tensors.Count + Scalars.Count > 0;

        public void AddTensor(string name, Tensor value, string path, List<FieldViolation> wrong)
        {
            var target = parameter.Parameter;
            if (!value.shape.AsSpan().SequenceEqual(target.shape))
            {
                wrong.Add(new(path, $"{EngineException.Quote(name)} has shape [{string.Join(", ", value.shape)}]; the parameter {Name} has [{string.Join(", ", target.shape)}]"));
            }
            else if (value.is_complex() && !target.is_complex())
            {
                wrong.Add(new(path, $"{EngineException.Quote(name)} is complex; the parameter {Name} is not"));
            }
            else if (!Tensors.TryAdd(name, value))
            {
                wrong.Add(new(path, $"{EngineException.Quote(name)} of {Name} was given twice"));
            }
        }

        public void AddScalar(string name, double value, string path, List<FieldViolation> wrong)
        {
            if (!double.IsFinite(value) || (name == "step" && value < 0))
            {
                wrong.Add(new(path, string.Create(CultureInfo.InvariantCulture, $"{name} is {value}; a finite number is needed, for step at least 0")));
            }
            else if (!Scalars.TryAdd(name, value))
            {
                wrong.Add(new(path, $"{EngineException.Quote(name)} of {Name} was given twice"));
            }
        }

        /// <summary>Makes copies of our own in the parameter's dtype.</summary>
        public void Convert()
        {
            foreach (var (name, value) in Tensors.ToList())
            {
                Tensors[name] = value.to(parameter.Parameter.dtype, parameter.Parameter.device, copy: true);
            }
        }
    }
}
