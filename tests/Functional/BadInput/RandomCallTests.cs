using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;
using Hooks = Sconce.Client.Hooks;

namespace Sconce.Functional.BadInput;

/// <summary>
/// Calls at random, right and wrong ones, on a few modules that they build up and pull apart. Whatever comes of it, no call fails with a bug's status, none hangs, a
/// known module answers as before, and what was charged is given back. A seed makes the same calls again.
/// </summary>
public sealed class RandomCallTests(SharedServer server) : ServerTest(server)
{
    private const int Calls = 1000;

    private static readonly StatusCode[] Refusals =
        [StatusCode.InvalidArgument, StatusCode.NotFound, StatusCode.FailedPrecondition, StatusCode.AlreadyExists, StatusCode.ResourceExhausted, StatusCode.Unimplemented];

    private static readonly ModuleSpec[] Built =
    [
        Nn.Sequential(Nn.Linear(4, 8), Nn.ReLU(), Nn.Linear(8, 4)),
        Nn.Sequential(Nn.Linear(4, 4), Nn.Module("BatchNorm1d", ("num_features", 4)), Nn.Module("Dropout")),
        Nn.Sequential(Nn.Module("LazyLinear", ("out_features", 4)), Nn.Linear(4, 4)),
        Nn.Module("LSTM", ("input_size", 4), ("hidden_size", 4)),
        Specs.Identity,
    ];

    private static readonly string[] Paths = ["", "", "0", "1", "2", "new", "9.x"];
    private static readonly string[] Parameters = ["weight", "bias", "running_mean", "num_batches_tracked", "extra", ""];
    private static readonly string[] Kept = ["random.a", "random.b"];
    private static readonly string[] Names = ["one", "two", "three"];

    private readonly List<(string Module, ForwardResponse Answer)> _graphs = [];
    private readonly HashSet<string> _live = [];
    private string[] _modules = [];
    private Random _random = new(0);

    private static CallOptions Limit => new(deadline: DateTime.UtcNow.AddSeconds(60));

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Nothing_at_random_is_more_than_refused(int seed)
    {
        _random = new Random(seed);
        _modules = [NewName(), NewName(), NewName()];
        var known = await CreateAsync(Specs.Mlp, training: false);
        var input = Wire.Pattern(2, 4);
        var expected = (await Stubs.Execution.ForwardAsync(new() { Module = known, Inputs = { input } })).Floats();
        var worked = 0;
        for (var i = 0; i < Calls; i++)
        {
            try
            {
                await CallAsync();
                worked++;
            }
            catch (RpcException refused)
            {
                Assert.True(Refusals.Contains(refused.StatusCode), $"call {i} of seed {seed}: {refused.Status}");
            }
        }

        Assert.InRange(worked, Calls / 5, Calls);
        Assert.Equal(expected, (await Stubs.Execution.ForwardAsync(new() { Module = known, Inputs = { input } })).Floats());
        Assert.Empty(Server.Process.ErrorLines);
        foreach (var module in _live)
        {
            await Stubs.Modules.DeleteModuleAsync(new() { Module = module }, Limit);
        }

        foreach (var kept in (await Stubs.Tensors.ListTensorsAsync(new())).Tensors.Where(kept => Kept.Contains(kept.Id)))
        {
            await Stubs.Tensors.DropTensorAsync(new() { Id = kept.Id });
        }
    }

    private async Task CallAsync()
    {
        var (module, path) = (One(_modules), One(Paths));
        switch (_random.Next(24))
        {
            case 0 or 1:
                await Stubs.Modules.CreateModuleAsync(new() { Module = module, Spec = One(Built) }, Limit);
                _live.Add(module);
                break;
            case 2 when Chance(0.3):
                await Stubs.Modules.DeleteModuleAsync(new() { Module = module }, Limit);
                _live.Remove(module);
                break;
            case 3 or 4 or 5 or 6:
                var answer = await Stubs.Execution.ForwardAsync(new() { Module = module, Path = Chance(0.2) ? path : "", Inputs = { Input() }, RecordGraph = Chance(0.4), Hooks = { Some(Hook) } }, Limit);
                if (answer.Graph is not null)
                {
                    _graphs.Add((module, answer));
                }

                break;
            case 7 or 8 when _graphs.Count > 0:
                var (of, recorded) = One(_graphs);
                await Stubs.Execution.BackwardAsync(new() { Module = of, Graph = recorded.Graph.Id, OutputGrads = { Flatten(recorded.Output) }, RetainGraph = Chance(0.3) }, Limit);
                break;
            case 9:
                await Stubs.Training.ForwardBackwardAsync(new() { Module = module, Inputs = { Input() }, Targets = { Input() }, Loss = new() { Type = "MSELoss" }, Hooks = { Some(Hook) } }, Limit);
                break;
            case 10:
                var step = new TrainStepRequest { Module = module, Inputs = { Input() }, Targets = { Input() }, Loss = new() { Type = "L1Loss" }, ReturnOutput = Chance(0.5), Hooks = { Some(Hook) } };
                await Stubs.Training.TrainStepAsync(step, Limit);
                break;
            case 11:
                await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = One("SGD", "Adam", "Adagrad", "LBFGS"), Args = Specs.Args(("lr", 0.1)) }, Limit);
                break;
            case 12:
                await Stubs.Training.OptimizerStepAsync(new() { Module = module, Clip = Chance(0.5) ? new() { MaxNorm = 1 } : null, ZeroGrad = Chance(0.5) }, Limit);
                break;
            case 13 or 14:
                var hook = Hook();
                hook.Id = One(Names);
                await Stubs.Hooks.RegisterHookAsync(new() { Module = module, Hook = hook, ExampleInputs = { Some(Input).Take(1) } }, Limit);
                break;
            case 15:
                await Stubs.Hooks.RemoveHookAsync(new() { Module = module, Hook = One(Names) }, Limit);
                break;
            case 16:
                await foreach (var _ in Stubs.State.GetStateDict(new() { Module = module, Path = path }, Limit).ResponseStream.ReadAllAsync())
                {
                }

                break;
            case 17:
                await Stubs.Modules.ToAsync(Chance(0.5) ? new() { Module = module, Conversion = Conversion.Float } : new() { Module = module, Path = path, Conversion = Conversion.Type, Dtype = (DataType)_random.Next(14) }, Limit);
                break;
            case 18:
                await Stubs.Modules.RegisterParameterAsync(new() { Module = module, Path = path, Name = One(Parameters), Tensor = Input(), RequiresGrad = Chance(0.5) }, Limit);
                break;
            case 19:
                await Stubs.Modules.RegisterBufferAsync(new() { Module = module, Path = path, Name = One(Parameters), Tensor = Input(), Persistent = Chance(0.5) }, Limit);
                break;
            case 20:
                await Stubs.Modules.AddModuleAsync(Chance(0.6) ? new() { Module = module, Path = path, Name = One("0", "1", "new"), Spec = One(Built) } : new() { Module = module, Path = path, Name = One("1", "new"), Share = One(Paths) }, Limit);
                break;
            case 21:
                await Stubs.Modules.RequiresGradAsync(new() { Module = module, Path = path, RequiresGrad = Chance(0.6) }, Limit);
                break;
            case 22:
                await Stubs.Modules.ApplyAsync(new() { Module = module, Path = path, Function = One("reset_parameters", "normal_", "orthogonal_", "zeros_") }, Limit);
                break;
            default:
                await OtherAsync(module, path);
                break;
        }
    }

    private async Task OtherAsync(string module, string path)
    {
        switch (_random.Next(5))
        {
            case 0:
                await Stubs.Tensors.PutTensorAsync(new() { Id = One(Kept), Tensor = Wire.Pattern(2, 4) }, Limit);
                break;
            case 1:
                await Stubs.Modules.TrainAsync(new() { Module = module, Path = path, Mode = Chance(0.5) }, Limit);
                break;
            case 2:
                await Stubs.Modules.SetTrainPolicyAsync(new() { Module = module, Policy = new() { NormEval = Chance(0.5), Rules = { new TrainRule { Path = One("*", "0", "x"), Hold = TrainHold.Eval } } } }, Limit);
                break;
            case 3:
                var copy = One(_modules);
                await Stubs.Modules.CopyModuleAsync(new() { Module = module, Path = path, Copy = copy }, Limit);
                _live.Add(copy);
                break;
            default:
                await Stubs.Training.ClipGradientsAsync(new() { Module = module, Path = path, Clip = Chance(0.5) ? new() { ClipValue = 1 } : new() { MaxNorm = 1 } }, Limit);
                break;
        }
    }

    private Hook Hook()
    {
        var hook = new Hook { Site = (HookSite)_random.Next(1, 8), Priority = _random.Next(-1, 2), Actions = { Action() } };
        if (Chance(0.3))
        {
            hook.Actions.Add(Action());
        }

        if (Chance(0.5))
        {
            hook.Path = One(Paths);
        }
        else
        {
            hook.Glob = One("*", "?", "0*", "x*");
        }

        if (Chance(0.2))
        {
            hook.Select = new() { Dims = { new HookDim { Dim = _random.Next(-3, 3), Slice = new() { Start = _random.Next(-5, 5), Step = One(1, 2, long.MaxValue) } } } };
        }

        if (Chance(0.1))
        {
            hook.TensorIndex = (uint)_random.Next(3);
        }

        return hook;
    }

    private HookAction Action() => _random.Next(12) switch
    {
        0 or 1 or 2 => Hooks.Forward().Capture(Chance(0.5) ? null : Chance(0.5) ? HookTo.Keep(One(Kept)) : HookTo.Slot("s")).Actions[0],
        3 => Hooks.Forward().Reduce([(Statistic)_random.Next(1, 10)]).Actions[0],
        4 => new() { Set = new() { Value = Operand() } },
        5 => new() { Add = new() { Value = Operand() } },
        6 => new() { Mul = new() { Value = Operand() } },
        7 => Hooks.Forward().Clamp(-1, One(1, 1e300)).Actions[0],
        8 => new() { CallModule = new() { Module = new() { Module = One(_modules), Path = One(Paths) } } },
        9 => new() { Skip = new() { Output = Chance(0.5) ? Operand() : null } },
        10 => Hooks.StateDict().Rename(One("", "0", "weight"), One("", "x.", "0")).Actions[0],
        _ => Chance(0.5) ? Hooks.Forward().ClipNorm(1).Actions[0] : new() { Stop = new() },
    };

    private Operand Operand() => _random.Next(5) switch
    {
        0 => new() { Tensor = Input() },
        1 => new() { Slot = "s" },
        2 => new() { State = One("0.weight", "weight", "1.running_mean", "") },
        _ => new() { Scalar = One(0, 1, -1, 0.5, double.NaN, double.PositiveInfinity, 1e300) },
    };

    private Tensor Input() => _random.Next(12) switch
    {
        0 => Wire.Kept(One(Kept)),
        1 => new(),
        2 => Wire.Longs([2, 4], 0, 1, 2, 3, 3, 2, 1, 0),
        3 => Wire.Pattern(One<long[]>([], [4], [0, 4], [8, 4], [4, 4], [2, 3, 4])),
        4 => Wire.Of((DataType)_random.Next(14), [2, 4], new byte[_random.Next(1, 9) * 8]),
        _ => Wire.Pattern(2, 4),
    };

    private static IEnumerable<Tensor> Flatten(Value value) => value.KindCase == Value.KindOneofCase.Tuple ? value.Tuple.Items.SelectMany(Flatten) : [value.Tensor];

    private IEnumerable<T> Some<T>(Func<T> make) => [.. Enumerable.Range(0, Math.Max(0, _random.Next(-1, 3))).Select(_ => make())];

    private bool Chance(double share) => _random.NextDouble() < share;

    private T One<T>(params IReadOnlyList<T> of) => of[_random.Next(of.Count)];
}
