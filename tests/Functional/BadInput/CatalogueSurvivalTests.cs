using System.Globalization;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Net.Client;
using Sconce.Functional.Harness;
using Sconce.V1;
using Value = Google.Protobuf.WellKnownTypes.Value;

namespace Sconce.Functional.BadInput;

/// <summary>
/// Every module type, function, loss, optimizer and scheduler of the catalogue, built and called with arguments and inputs that nobody should send: drawn from a fixed seed.
/// libtorch aborts the process on some of them unless they are checked first. Whatever is sent, the answer is a result or a refusal that says what is
/// wrong, never INTERNAL, and the server lives. It runs under a limit of memory, so that what is too large fails there and not on the whole machine.
/// </summary>
public sealed class CatalogueSurvivalTests
{
    // More of them, and others, by hand: SCONCE_SURVIVAL_BUILDS=200 SCONCE_SURVIVAL_SEED=7.
    private static readonly int Builds = Setting("SCONCE_SURVIVAL_BUILDS", 16);
    private static readonly int Seed = Setting("SCONCE_SURVIVAL_SEED", 20261124);
    private const int Forwards = 4;
    private const int Contents = 10;
    private const long MemoryLimit = 6L << 30;
    private static readonly TimeSpan CallLimit = TimeSpan.FromSeconds(60);

    private static readonly StatusCode[] Refusals = [StatusCode.InvalidArgument, StatusCode.ResourceExhausted, StatusCode.Unimplemented, StatusCode.FailedPrecondition];

    private readonly List<string> _faults = [];
    private readonly Random _random = new(Seed);
    private SconceProcess? _server;
    private GrpcChannel? _channel;
    private Stubs _stubs = null!;

    [Theory]
    [InlineData(TypeKind.Module)]
    [InlineData(TypeKind.Model)]
    [InlineData(TypeKind.Function)]
    [InlineData(TypeKind.Loss)]
    [InlineData(TypeKind.Optimizer)]
    [InlineData(TypeKind.Scheduler)]
    public async Task Every_type_survives_what_nobody_should_send(TypeKind kind)
    {
        try
        {
            await StartAsync();
            foreach (var type in (await _stubs.Host.ListModuleTypesAsync(new() { Kind = kind })).Types_)
            {
                // One fault of a type is enough to look at.
                var faults = _faults.Count;
                for (var i = 0; i < (kind == TypeKind.Model ? Math.Max(2, Builds / 8) : Builds) && _faults.Count == faults; i++)
                {
                    await (kind switch
                    {
                        TypeKind.Loss => TryLossAsync(type, i),
                        TypeKind.Optimizer or TypeKind.Scheduler => TryOptimizerAsync(type, i),
                        _ => TryAsync(type, i),
                    });
                }
            }

            Assert.True(_faults.Count == 0, $"{_faults.Count} faults:\n{string.Join('\n', _faults)}");
            Assert.Empty(_server!.ErrorLines);
        }
        finally
        {
            await StopAsync();
        }
    }

    private async Task TryAsync(ModuleType type, int index)
    {
        var name = $"{type.Name}-{index}";
        var spec = Spec(type);
        if (!await SurvivesAsync($"create {spec}", options => _stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = spec, Seed = 1 }, options)))
        {
            return;
        }

        if (_random.Next(2) == 0)
        {
            await SurvivesAsync("eval", options => _stubs.Modules.TrainAsync(new() { Module = name, Mode = false }, options));
        }

        for (var i = 0; i < Forwards; i++)
        {
            var request = new ForwardRequest { Module = name, RecordGraph = _random.Next(3) == 0 };
            var required = type.Inputs.Count(input => !input.EndsWith('?'));
            var count = _random.Next(8) == 0 ? _random.Next(5) : _random.Next(required, type.Inputs.Count + 1);
            var (shape, content) = (Shape(), _random.Next(4) == 0 ? -1 : _random.Next(Contents));
            for (var input = 0; input < count; input++)
            {
                // Mostly of one dtype, and of shapes that agree or almost do: others are refused at the first look.
                request.Inputs.Add(Tensor(_random.Next(6) switch { 0 => Shape(), 1 or 2 => Varied(shape), _ => shape }, content));
            }

            var what = $"{string.Join(", ", request.Inputs.Select(tensor => $"{tensor.Dtype} {tensor.Shape}"))} of {spec}";
            if (await AnswerAsync($"forward {what}", options => _stubs.Execution.ForwardAsync(request, options)) is { Graph: { } graph, Output: { } output })
            {
                // Gradients as large as the outputs, of those that can have one.
                var backward = new BackwardRequest { Module = name, Graph = graph.Id, OutputGrads = { Flatten(output).Select(tensor => HasGradient(tensor) ? tensor : new Tensor()) } };
                await SurvivesAsync($"backward of {what}", options => _stubs.Execution.BackwardAsync(backward, options));
            }
        }

        await SurvivesAsync("delete", options => _stubs.Modules.DeleteModuleAsync(new() { Module = name }, options));
    }

    private async Task TryLossAsync(ModuleType type, int index)
    {
        // An element-wise module with a parameter hands on whatever shape it is given.
        var name = $"{type.Name}-{index}";
        await SurvivesAsync("create PReLU", options => _stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = Client.Nn.Module("PReLU"), Seed = 1 }, options));
        for (var i = 0; i < Forwards; i++)
        {
            var shape = Shape();
            var request = new ForwardBackwardRequest { Module = name, Loss = new() { Type = type.Name, Args = Arguments(type) } };
            request.Inputs.Add(_random.Next(4) == 0 ? Tensor(shape) : Wire.Floats(shape, [.. Enumerable.Repeat(0.25f, (int)shape.Aggregate(1L, (a, b) => a * b))]));
            for (var target = _random.Next(4); target > 0; target--)
            {
                request.Targets.Add(Tensor(_random.Next(3) == 0 ? Shape() : _random.Next(2) == 0 ? shape : shape[..Math.Min(1, shape.Length)]));
            }

            await SurvivesAsync($"{request}", options => _stubs.Training.ForwardBackwardAsync(request, options));
        }

        await SurvivesAsync("delete", options => _stubs.Modules.DeleteModuleAsync(new() { Module = name }, options));
    }

    private async Task TryOptimizerAsync(ModuleType type, int index)
    {
        var name = $"{type.Name}-{index}";
        await SurvivesAsync("create Linear", options => _stubs.Modules.CreateModuleAsync(new() { Module = name, Spec = Specs.Linear, Seed = 1 }, options));
        var optimizer = new CreateOptimizerRequest { Module = name, Type = "SGD" };
        if (type.Kind == TypeKind.Optimizer)
        {
            (optimizer.Type, optimizer.Args) = (type.Name, Arguments(type));
        }

        var made = await SurvivesAsync($"{optimizer}", options => _stubs.Training.CreateOptimizerAsync(optimizer, options));
        if (made && type.Kind == TypeKind.Scheduler)
        {
            var scheduler = new CreateSchedulerRequest { Module = name, Type = type.Name, Args = Arguments(type) };
            made = await SurvivesAsync($"{scheduler}", options => _stubs.Training.CreateSchedulerAsync(scheduler, options));
            for (var i = 0; made && i < 3; i++)
            {
                var step = new SchedulerStepRequest { Module = name };
                if (_random.Next(2) == 0)
                {
                    step.Metric = _random.NextDouble();
                }

                await SurvivesAsync($"step of {scheduler}", options => _stubs.Training.SchedulerStepAsync(step, options));
            }
        }

        for (var i = 0; made && i < 2; i++)
        {
            var step = new TrainStepRequest { Module = name, Inputs = { Wire.Pattern(2, 4) }, Targets = { Wire.Pattern(2, 3) }, Loss = new() { Type = "MSELoss" } };
            await SurvivesAsync($"train step with {optimizer}", options => _stubs.Training.TrainStepAsync(step, options));
        }

        await SurvivesAsync("delete", options => _stubs.Modules.DeleteModuleAsync(new() { Module = name }, options));
    }

    /// <summary>Makes a call; true where it succeeded. What it should never answer is a fault, and a server that died is started anew.</summary>
    private async Task<bool> SurvivesAsync<T>(string what, Func<CallOptions, AsyncUnaryCall<T>> call)
        where T : class => await AnswerAsync(what, call) is not null;

    /// <summary>The same with its answer; null where there is none.</summary>
    private async Task<T?> AnswerAsync<T>(string what, Func<CallOptions, AsyncUnaryCall<T>> call)
        where T : class
    {
        try
        {
            return await call(new CallOptions(deadline: DateTime.UtcNow + CallLimit));
        }
        catch (RpcException e)
        {
            if (Refusals.Contains(e.StatusCode) || (e.StatusCode == StatusCode.NotFound && _faults.Count > 0))
            {
                return null;
            }

            await Task.Delay(300); // a process that dies takes a moment to be gone
            var fate = _server!.IsRunning ? $"{e.StatusCode} {e.Status.Detail}" : "THE SERVER DIED";
            _faults.Add($"{what}:\n  {fate}: {_server.Log.LastOrDefault(line => line.Contains("\"@x\"", StringComparison.Ordinal) || !line.StartsWith('{'))}");
            if (!_server.IsRunning || e.StatusCode == StatusCode.DeadlineExceeded)
            {
                await StopAsync();
                await StartAsync();
            }

            return null;
        }
    }

    private static IEnumerable<Tensor> Flatten(V1.Value value) => value.Tuple is { } tuple ? tuple.Items.SelectMany(Flatten) : [value.Tensor];

    private static bool HasGradient(Tensor tensor) =>
        tensor.Dtype is DataType.Float16 or DataType.Bfloat16 or DataType.Float32 or DataType.Float64 or DataType.Complex64 or DataType.Complex128;

    private async Task StartAsync()
    {
        _server = await SconceProcess.StartAsync(
            MemoryLimit, ("memory-budget-bytes", "256MiB"), ("graph-budget-bytes", "64MiB"), ("kept-tensor-budget-bytes", "1MiB"));
        _channel = Channels.Open(_server);
        _stubs = new Stubs(_channel.CreateCallInvoker());
    }

    private async Task StopAsync()
    {
        _channel?.Dispose();
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    private Struct Arguments(ModuleType type)
    {
        // Models are large where their arguments do not say otherwise.
        var args = new Struct();
        foreach (var argument in type.Arguments.Where(argument => argument.Required || type.Kind == TypeKind.Model || _random.Next(4) == 0))
        {
            args.Fields[argument.Name] = Argument(argument);
        }

        return args;
    }

    private ModuleSpec Spec(ModuleType type)
    {
        var args = Arguments(type);
        if (type.Kind is TypeKind.Module or TypeKind.Model)
        {
            return new ModuleSpec { Type = type.Name, Args = args };
        }

        var step = new WiringStep { Name = "result", Function = type.Name, Args = args };
        var wiring = new Wiring { Steps = { step }, Outputs = { "result" } };
        foreach (var input in type.Inputs)
        {
            wiring.Inputs.Add(input);
            step.Inputs.Add(input.TrimEnd('?'));
        }

        return new ModuleSpec { Type = "Graph", Wiring = wiring };
    }

    private Value Argument(ModuleTypeArgument argument)
    {
        if (_random.Next(12) == 0)
        {
            return _random.Next(5) switch
            {
                0 => Value.ForNull(),
                1 => Value.ForString("x"),
                2 => Value.ForBool(true),
                3 => Value.ForList(),
                _ => Value.ForNumber(_random.Next(2) == 0 ? 0.5 : double.MaxValue),
            };
        }

        var type = argument.Type;
        var choices = type.Split('"').Where((_, i) => i % 2 == 1).ToList();
        if (choices.Count > 0 && (!type.StartsWith("int", StringComparison.Ordinal) || _random.Next(3) == 0))
        {
            return Value.ForString(choices[_random.Next(choices.Count)]);
        }

        if (type.Contains("list", StringComparison.Ordinal) && _random.Next(2) == 0)
        {
            return Value.ForList([.. Enumerable.Range(0, _random.Next(1, 4)).Select(_ => Value.ForNumber(Integer()))]);
        }

        if (type.Contains("bool", StringComparison.Ordinal))
        {
            return Value.ForBool(_random.Next(2) == 0);
        }

        if (type.Contains("float", StringComparison.Ordinal))
        {
            return Value.ForNumber(_random.Next(6) switch { 0 => -1, 1 => 0, 2 => 1e30, 3 => 2, _ => 0.5 });
        }

        if (type.Contains("dtype", StringComparison.Ordinal))
        {
            return Value.ForString(_random.Next(3) switch { 0 => "int64", 1 => "complex64", _ => "float64" });
        }

        return type.Contains("int", StringComparison.Ordinal) ? Value.ForNumber(Integer()) : argument.DefaultValue ?? Value.ForString("sum");
    }

    /// <summary>Mostly small and sensible; sometimes what overflows, divides by zero or asks for more memory than there is.</summary>
    private double Integer() => _random.Next(16) switch
    {
        0 => 0,
        1 => -1,
        2 => -7,
        3 => 1L << 31,
        4 => 1L << 40,
        5 => 1L << 62,
        6 => 100,
        7 => long.MinValue,
        _ => _random.Next(1, 5),
    };

    private static int Setting(string name, int value) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : value;

    private long[] Shape() => _random.Next(10) switch
    {
        0 => [],
        1 => [0],
        2 => [3],
        3 => [2, 0, 3],
        4 => [2, 3],
        5 => [4, 4],
        6 => [2, 3, 4],
        7 => [2, 4, 6, 6],
        8 => [1, 2, 4, 4, 4],
        _ => [1, 1, 1, 1, 1, 1, 2],
    };

    /// <summary>A shape that differs in one dimension.</summary>
    private long[] Varied(long[] shape)
    {
        long[] varied = [.. shape];
        if (varied.Length > 0)
        {
            varied[_random.Next(varied.Length)] = _random.Next(5) switch { 0 => 1, 1 => 2, 2 => 5, 3 => 33, _ => 257 };
        }

        return varied;
    }

    /// <summary>A tensor.</summary>
    /// <param name="shape">Its shape.</param>
    /// <param name="content">Which of the contents; below 0 is any.</param>
    private Tensor Tensor(long[] shape, int content = -1)
    {
        var elements = (int)shape.Aggregate(1L, (a, b) => a * b);
        switch (content < 0 ? _random.Next(Contents) : content)
        {
            case 0:
                return Wire.Longs(shape, [.. Enumerable.Range(0, elements).Select(_ => (long)_random.Next(-1, 4))]);
            case 6:
                return Wire.Longs(shape, [.. Enumerable.Range(0, elements).Select(_ => _random.Next(3) switch { 0 => long.MinValue, 1 => -1, _ => 1 })]);
            case 7:
                return Wire.Of(DataType.Int32, shape, [.. Enumerable.Range(0, elements).SelectMany(_ => BitConverter.GetBytes(_random.Next(3) switch { 0 => int.MinValue, 1 => -1, _ => 1 }))]);
            case 1:
                return Wire.Longs(shape, [.. Enumerable.Range(0, elements).Select(_ => _random.NextInt64())]);
            case 2:
                return Wire.Of(DataType.Bool, shape, [.. Enumerable.Range(0, elements).Select(i => (byte)(i % 2))]);
            case 3:
                return Wire.Of(DataType.Complex64, shape, new byte[elements * 8]);
            case 4:
                return Wire.Of(DataType.Float16, shape, new byte[elements * 2]);
            case 5:
                return Wire.Floats(shape, [.. Enumerable.Repeat(float.NaN, elements)]);
            default:
                return Wire.Floats(shape, [.. Enumerable.Range(0, elements).Select(i => i / 7f)]);
        }
    }
}
