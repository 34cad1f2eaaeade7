using System.Globalization;
using Sconce.Engine.Catalog;
using Sconce.Engine.Training.Optimizers;

namespace Sconce.Engine.Training.Schedulers;

/// <summary>The schedulers there are, by PyTorch's names with PyTorch's arguments and defaults; not those that take code (LambdaLR, MultiplicativeLR).</summary>
internal static class SchedulerTypes
{
    // A sequence of sequences deep enough to matter to nobody, and shallow enough for the stack.
    private const int MostNested = 8;

    // Every step of a combination steps each of them.
    private const int MostCombined = 100;

    private static readonly Dictionary<string, SchedulerType> Types = new SchedulerType[]
    {
        new("StepLR", [Argument.Int("step_size").AtLeast(1), Gamma()], (groups, args) => new StepSchedule(groups, args)),
        new("MultiStepLR", [Argument.Ints("milestones"), Gamma()], (groups, args) => new MultiStepSchedule(groups, args)),
        new("ExponentialLR", [Argument.Float("gamma")], (groups, args) => new ExponentialSchedule(groups, args)),
        new("ConstantLR", [Argument.Float("factor").Or(1.0 / 3).Between(0, 1).MoreThan(0), Steps()], (groups, args) => new ConstantSchedule(groups, args)),
        new("LinearLR",
            [Argument.Float("start_factor").Or(1.0 / 3).Between(0, 1).MoreThan(0), Argument.Float("end_factor").Or(1.0).Between(0, 1), Steps()],
            (groups, args) => new LinearSchedule(groups, args)),
        new("PolynomialLR", [Steps(), Argument.Float("power").Or(1.0)], (groups, args) => new PolynomialSchedule(groups, args)),
        new("CosineAnnealingLR", [Argument.Int("T_max").AtLeast(1), Argument.Float("eta_min").Or(0.0)], (groups, args) => new CosineSchedule(groups, args)),
        new("CosineAnnealingWarmRestarts",
            [Argument.Int("T_0").AtLeast(1), Argument.Int("T_mult").Or(1L).AtLeast(1), Argument.Float("eta_min").Or(0.0)],
            (groups, args) => new WarmRestartsSchedule(groups, args)),
        new("CyclicLR",
            [
                Argument.Floats("base_lr").AtLeast(0), Argument.Floats("max_lr").AtLeast(0),
                Argument.Int("step_size_up").Or(2000L).AtLeast(1), Argument.Int("step_size_down").OrNone().AtLeast(1),
                Argument.Text("mode", "triangular", "triangular2", "exp_range").Or("triangular"), Argument.Float("gamma").Or(1.0),
                Argument.Bool("cycle_momentum", true), Argument.Floats("base_momentum").Or(0.8), Argument.Floats("max_momentum").Or(0.9),
            ],
            (groups, args) => new CyclicSchedule(groups, args)) { Check = CheckCyclic },
        new("OneCycleLR",
            [
                Argument.Floats("max_lr").AtLeast(0),
                Argument.Int("total_steps").OrNone().AtLeast(1), Argument.Int("epochs").OrNone().AtLeast(1), Argument.Int("steps_per_epoch").OrNone().AtLeast(1),
                Argument.Float("pct_start").Or(0.3).Between(0, 1), Argument.Text("anneal_strategy", "cos", "linear").Or("cos"),
                Argument.Bool("cycle_momentum", true), Argument.Floats("base_momentum").Or(0.85), Argument.Floats("max_momentum").Or(0.95),
                Argument.Float("div_factor").Or(25.0).MoreThan(0), Argument.Float("final_div_factor").Or(1e4).MoreThan(0), Argument.Bool("three_phase", false),
            ],
            (groups, args) => new OneCycleSchedule(groups, args)) { Check = CheckOneCycle },
        new("ReduceLROnPlateau",
            [
                Argument.Text("mode", "min", "max").Or("min"), Argument.Float("factor").Or(0.1).AtLeast(0), Argument.Int("patience").Or(10L).AtLeast(0),
                Argument.Float("threshold").Or(1e-4), Argument.Text("threshold_mode", "rel", "abs").Or("rel"), Argument.Int("cooldown").Or(0L).AtLeast(0),
                Argument.Floats("min_lr").Or(0.0).AtLeast(0), Argument.Float("eps").Or(1e-8).AtLeast(0),
            ],
            (groups, args) => new PlateauSchedule(groups, args)) { Check = CheckPlateau },
    }.ToDictionary(type => type.Name, StringComparer.Ordinal);

    private static readonly CatalogArgument Schedulers = new("schedulers", "list of {\"type\": …, argument: …}", true, null);

    private static readonly CatalogArgument Milestones = new("milestones", "list of int", true, null);

    /// <summary>Their descriptions.</summary>
    public static IReadOnlyList<CatalogType> Descriptions { get; } =
    [
        .. Types.Values.Select(type => Describe(type.Name, [.. type.Arguments.Select(argument => argument.Describe())])),
        Describe("SequentialLR", [Schedulers, Milestones]),
        Describe("ChainedScheduler", [Schedulers]),
    ];

    /// <summary>Checks arguments and makes the schedule, without starting it.</summary>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="given">Arguments as the caller gave them.</param>
    /// <param name="groups">The optimizer's groups.</param>
    /// <param name="field">Path of the message that holds <c>type</c> and <c>args</c>; empty where it is the request.</param>
    /// <returns>The schedule, and the arguments with their defaults.</returns>
    public static (LearningRateSchedule Schedule, IReadOnlyDictionary<string, object?> Args) Create(
        string type, IReadOnlyDictionary<string, object?> given, IReadOnlyList<OptionSet> groups, string field) =>
        Create(type, given, groups, RequestPath.Join(field, "type"), RequestPath.Join(field, "args"), 0);

    private static (LearningRateSchedule Schedule, IReadOnlyDictionary<string, object?> Args) Create(
        string name, IReadOnlyDictionary<string, object?> given, IReadOnlyList<OptionSet> groups, string typeField, string field, int depth)
    {
        if (name is "SequentialLR" or "ChainedScheduler")
        {
            return (Combine(name, given, groups, field, depth), given);
        }

        if (!Types.TryGetValue(name, out var type))
        {
            throw ModuleCatalog.Unknown("scheduler type", name, typeField, [.. Types.Keys, "SequentialLR", "ChainedScheduler"]);
        }

        var args = OptionSet.Bind(type.Arguments, given, name, field);
        var errors = new OptionErrors(field);
        type.Check?.Invoke(args, groups, errors);
        errors.ThrowIfAny();
        return (type.Make(groups, args), args.Values);
    }

    private static LearningRateSchedule Combine(string name, IReadOnlyDictionary<string, object?> given, IReadOnlyList<OptionSet> groups, string field, int depth)
    {
        var sequential = name == "SequentialLR";
        if (depth == MostNested)
        {
            throw EngineException.Invalid(field, $"schedulers are nested more than {MostNested} deep");
        }

        var items = given.GetValueOrDefault("schedulers") as IReadOnlyList<object?> ?? [];
        if (items.Count == 0)
        {
            throw EngineException.Invalid($"{field}.schedulers", $"{name} needs a list of schedulers, each an object with \"type\" and the arguments of that type");
        }

        if (items.Count > MostCombined)
        {
            throw EngineException.Invalid($"{field}.schedulers", string.Create(CultureInfo.InvariantCulture, $"has {items.Count} schedulers; {name} takes at most {MostCombined}"));
        }

        var rest = given.Where(entry => entry.Key != "schedulers").ToDictionary(entry => entry.Key, entry => entry.Value);
        var args = OptionSet.Bind(sequential ? [Argument.Ints("milestones").AtLeast(0)] : [], rest, name, field);
        var schedules = items.Select((item, i) => Item(item, groups, $"{field}.schedulers[{i}]", name, depth)).ToList();
        if (!sequential)
        {
            return new ChainedSchedule(groups, schedules);
        }

        var milestones = args.Numbers("milestones");
        if (milestones.Count != schedules.Count - 1 || milestones.Zip(milestones.Skip(1)).Any(pair => pair.First >= pair.Second))
        {
            throw EngineException.Invalid($"{field}.milestones", string.Create(CultureInfo.InvariantCulture,
                $"there are {milestones.Count} milestones for {schedules.Count} schedulers; one fewer than schedulers is needed, in rising order"));
        }

        return new SequentialSchedule(groups, schedules, milestones);
    }

    private static LearningRateSchedule Item(object? item, IReadOnlyList<OptionSet> groups, string field, string owner, int depth)
    {
        if (item is not IReadOnlyDictionary<string, object?> values || values.GetValueOrDefault("type") is not string type)
        {
            throw EngineException.Invalid(field, "a scheduler is an object with \"type\" and the arguments of that type");
        }

        var args = values.Where(entry => entry.Key != "type").ToDictionary(entry => entry.Key, entry => entry.Value);
        var (schedule, _) = Create(type, args, groups, $"{field}.type", field, depth + 1);
        return schedule.NeedsMetric ? throw EngineException.Invalid($"{field}.type", $"{type} needs a metric at each step, which {owner} cannot give it") : schedule;
    }

    private static void CheckCyclic(OptionSet args, IReadOnlyList<OptionSet> groups, OptionErrors errors)
    {
        CheckPerGroup(args, groups, errors, "base_lr", "max_lr");
        CheckMomentum(args, groups, errors);
    }

    private static void CheckOneCycle(OptionSet args, IReadOnlyList<OptionSet> groups, OptionErrors errors)
    {
        CheckPerGroup(args, groups, errors, "max_lr");
        CheckMomentum(args, groups, errors);
        if (OneCycleSchedule.TotalSteps(args) is null)
        {
            errors.Add("total_steps", "OneCycleLR needs total_steps, or both epochs and steps_per_epoch");
        }
        else if (!OneCycleSchedule.HasLength(args))
        {
            errors.Add("pct_start", "with this many steps a phase would have no length; choose more steps or another pct_start");
        }
    }

    private static void CheckPlateau(OptionSet args, IReadOnlyList<OptionSet> groups, OptionErrors errors)
    {
        CheckPerGroup(args, groups, errors, "min_lr");
        if (args.Number("factor") >= 1)
        {
            errors.Add("factor", string.Create(CultureInfo.InvariantCulture, $"is {args.Number("factor")}; it must be less than 1"));
        }
    }

    private static void CheckMomentum(OptionSet args, IReadOnlyList<OptionSet> groups, OptionErrors errors)
    {
        CheckPerGroup(args, groups, errors, "base_momentum", "max_momentum");
        if (args.Flag("cycle_momentum") && groups.Any(group => !group.Has("momentum") && !group.Has("betas")))
        {
            errors.Add("cycle_momentum", "the optimizer has neither momentum nor betas; set cycle_momentum to false");
        }
    }

    private static void CheckPerGroup(OptionSet args, IReadOnlyList<OptionSet> groups, OptionErrors errors, params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            var count = args.Numbers(name).Count;
            if (count != 1 && count != groups.Count)
            {
                errors.Add(name, string.Create(CultureInfo.InvariantCulture, $"has {count} numbers; the optimizer has {groups.Count} parameter groups: give one number, or one for each"));
            }
        }
    }

    private static CatalogType Describe(string name, IReadOnlyList<CatalogArgument> arguments) =>
        new(name, TypeKind.Scheduler, "LRScheduler", "", arguments, [], []);

    private static Argument Gamma() => Argument.Float("gamma").Or(0.1);

    private static Argument Steps() => Argument.Int("total_iters").Or(5L).AtLeast(0);

    private sealed record SchedulerType(
        string Name, IReadOnlyList<Argument> Arguments, Func<IReadOnlyList<OptionSet>, OptionSet, LearningRateSchedule> Make)
    {
        public Action<OptionSet, IReadOnlyList<OptionSet>, OptionErrors>? Check { get; init; }
    }
}
