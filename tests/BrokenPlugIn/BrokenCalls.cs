using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.BrokenPlugIn;

/// <summary>A module that works until one of its methods is called in the way that it is named for.</summary>
public class ThrowsInForward : nn.Module<Tensor, Tensor>
{
    private readonly Part part = new();
    private readonly Linear fc = nn.Linear(2, 2);

    public ThrowsInForward(string how)
        : base(nameof(ThrowsInForward))
    {
        How = how;
        RegisterComponents();
    }

    private string How { get; }

    public override Tensor forward(Tensor input) => How switch
    {
        "unexpected" => throw new NotSupportedException("the secret of the forward"),
        "argument" => throw new ArgumentException("takes nothing on Sundays"),
        "part" => part.call(input),
        "libtorch" => fc.call(input.reshape(1, -1)),
        "disposed" => Scoped(input),
        "null" => null!,
        "caught" => Caught(input),
        "thread state" => LeavesThreadState(input),
        "own" => fc.weight!,
        _ => fc.call(input),
    };

    private static Tensor Scoped(Tensor input)
    {
        using var scope = NewDisposeScope();
        return input * 2;
    }

    private Tensor Caught(Tensor input)
    {
        try
        {
            return part.call(input);
        }
        catch (NotSupportedException)
        {
            return fc.call(input.reshape(1, -1));
        }
    }

    private Tensor LeavesThreadState(Tensor input)
    {
        NewDisposeScope();
        NewDisposeScope();
        var output = fc.call(input);
        set_grad_enabled(false);
        return output;
    }

    public sealed class Part : nn.Module<Tensor, Tensor>
    {
        public Part()
            : base(nameof(Part))
        {
        }

        public override Tensor forward(Tensor input) => throw new NotSupportedException("the secret of the part");
    }
}

public sealed class ThrowsInTrain : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc = nn.Linear(2, 2);

    public ThrowsInTrain()
        : base(nameof(ThrowsInTrain)) => RegisterComponents();

    public override Tensor forward(Tensor input) => fc.call(input);

    public override void train(bool train = true) => throw new NotSupportedException("the secret of train");
}

public sealed class ThrowsInDispose : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc = nn.Linear(2, 2);

    public ThrowsInDispose()
        : base(nameof(ThrowsInDispose)) => RegisterComponents();

    public override Tensor forward(Tensor input) => fc.call(input);

    protected override void Dispose(bool disposing) => throw new NotSupportedException("the secret of Dispose");
}

/// <summary>Doubles; its backward does what it is told.</summary>
public sealed class OddBackward : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc = nn.Linear(2, 2);
    private readonly string how;

    public OddBackward(string how)
        : base(nameof(OddBackward))
    {
        this.how = how;
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => Doubling.apply(fc.call(input), how);

    private static List<Tensor> Gradients(string how, Tensor gradient, int inputs) => how switch
    {
        "throws" => throw new NotSupportedException("the secret of the backward"),
        "miscounts" => [gradient * 2],
        "wrong shape" => [.. Enumerable.Repeat(ones(5), inputs), null!],
        "gives too much" => [.. Enumerable.Repeat(gradient, inputs + 1)],
        "null" => null!,
        _ => [.. Enumerable.Repeat(gradient * 2, inputs), null!],
    };

    internal class Doubling : autograd.SingleTensorFunction<Doubling>
    {
        public override string Name => nameof(Doubling);

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            ctx.save_data("how", vars[1]);
            return (Tensor)vars[0] * 2;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => Gradients((string)ctx.get_data("how"), grad_output, 1);
    }
}

/// <summary>Two inputs, one of them optional, and a tuple out.</summary>
public sealed class Pair : nn.Module<Tensor, Tensor?, (Tensor, (Tensor, Tensor?))>
{
    public Pair(long[] sizes, float scale = 0.5f, int times = 3, string label = "pair", ScalarType? dtype = null, Device? device = null)
        : base(label)
    {
        register_buffer("sizes", tensor(sizes));
        register_buffer("scratch", full(times, scale, dtype: dtype ?? float32, device: device), persistent: false);
    }

    public override (Tensor, (Tensor, Tensor?)) forward(Tensor first, Tensor? second) => (first * 2, (first + 1, second is null ? null : second * 3));
}

/// <summary>TorchSharp's own modules of several kinds as parts, one of them shared.</summary>
public sealed class Assorted : nn.Module<Tensor, Tensor>
{
    private readonly LSTM lstm = nn.LSTM(2, 3, batchFirst: true);
    private readonly Sequential stack = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2));
    private readonly ModuleList<Linear> list;
    private readonly ParameterList scales = nn.ParameterList(new Parameter(ones(2)), new Parameter(ones(2)));
    private readonly Linear again;

    public Assorted()
        : base(nameof(Assorted))
    {
        list = nn.ModuleList(nn.Linear(2, 2), nn.Linear(2, 2));
        again = list[1];
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        var (output, _, _) = lstm.call(input, null);
        var x = stack.call(output);
        foreach (var linear in list)
        {
            x = linear.call(x);
        }

        return again.call(x) * scales[0] * scales[1];
    }
}

/// <summary>
/// Makes a file when its first forward begins, and ends it once the file is gone: as long as a test wants, on any machine. Those after it are not held.
/// </summary>
public sealed class Held : nn.Module<Tensor, Tensor>
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(2);
    private readonly string file;
    private int forwards;

    public Held(string file)
        : base(nameof(Held))
    {
        this.file = file;
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        if (Interlocked.Increment(ref forwards) == 1)
        {
            File.WriteAllText(file, "");
            if (!SpinWait.SpinUntil(() => !File.Exists(file), Limit))
            {
                throw new TimeoutException($"{file} is still there after {Limit}");
            }
        }

        return input * 2;
    }
}

/// <summary>Adds what it was called with the last time.</summary>
public sealed class Remembers : nn.Module<Tensor, Tensor>
{
    private Tensor? _last;

    public Remembers()
        : base(nameof(Remembers)) => RegisterComponents();

    public override Tensor forward(Tensor input)
    {
        var last = _last;
        _last = input;
        return last is null ? input.clone() : last + input;
    }
}

/// <summary>A class of PyTorch's name: only its full name reaches it.</summary>
public static class Other
{
    public sealed class Conv2d : nn.Module<Tensor, Tensor>
    {
        public Conv2d()
            : base(nameof(Conv2d))
        {
        }

        public override Tensor forward(Tensor input) => input * 7;
    }

    /// <summary>Refused, which takes nothing from the type of that name.</summary>
    public class Conv1d : nn.Module
    {
        public Conv1d()
            : base(nameof(Conv1d))
        {
        }
    }
}
