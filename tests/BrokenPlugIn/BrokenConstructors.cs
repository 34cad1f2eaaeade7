using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.BrokenPlugIn;

public sealed class NullName : nn.Module<Tensor, Tensor>
{
    public NullName()
        : base(null!)
    {
    }

    public override Tensor forward(Tensor input) => input.alias();
}

public abstract class Named : nn.Module<Tensor, Tensor>
{
    protected Named(string name)
        : base(name)
    {
    }

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class NullNameOfBase : Named
{
    public NullNameOfBase()
        : base(null!)
    {
    }
}

public sealed class EmptyName : nn.Module<Tensor, Tensor>
{
    public EmptyName()
        : base("")
    {
    }

    public override Tensor forward(Tensor input) => input.alias();
}

/// <summary>The constructor that TorchSharp's own modules use, with no module behind the handle.</summary>
public sealed class NoBase : nn.Module<Tensor, Tensor>
{
    public NoBase()
        : base(IntPtr.Zero, IntPtr.Zero)
    {
    }

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class NameFromCaller : nn.Module<Tensor, Tensor>
{
    public NameFromCaller(string? label = null)
        : base(label!)
    {
    }

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class Unregistered : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc;

    public Unregistered()
        : base(nameof(Unregistered)) => fc = nn.Linear(2, 2);

    public override Tensor forward(Tensor input) => fc.call(input);
}

public sealed class LateField : nn.Module<Tensor, Tensor>
{
    private readonly Parameter scale;

    public LateField()
        : base(nameof(LateField))
    {
        RegisterComponents();
        scale = new Parameter(ones(2));
    }

    public override Tensor forward(Tensor input) => input * scale;
}

public sealed class InList : nn.Module<Tensor, Tensor>
{
    private readonly List<Linear> layers;

    public InList()
        : base(nameof(InList))
    {
        layers = [nn.Linear(2, 2), nn.Linear(2, 2)];
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => layers[1].call(layers[0].call(input));
}

public sealed class SameNameTwice : nn.Module<Tensor, Tensor>
{
    public SameNameTwice()
        : base(nameof(SameNameTwice))
    {
        register_parameter("weight", new Parameter(ones(2)));
        register_buffer("weight", ones(2));
    }

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class RegisteredTwice : nn.Module<Tensor, Tensor>
{
    public RegisteredTwice()
        : base(nameof(RegisteredTwice))
    {
        register_parameter("weight", new Parameter(ones(2)));
        register_parameter("weight", new Parameter(ones(2)));
    }

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class DottedName : nn.Module<Tensor, Tensor>
{
    public DottedName()
        : base(nameof(DottedName)) => register_buffer("a.b", ones(2));

    public override Tensor forward(Tensor input) => input.alias();
}

public class Untyped : nn.Module
{
    public Untyped()
        : base(nameof(Untyped))
    {
    }
}

public sealed class OddForward : nn.Module<Tensor, int, Tensor>
{
    public OddForward()
        : base(nameof(OddForward))
    {
    }

    public override Tensor forward(Tensor input, int times) => input * times;
}

public abstract class Abstract : nn.Module<Tensor, Tensor>
{
    protected Abstract()
        : base(nameof(Abstract))
    {
    }
}

public sealed class Generic<T> : nn.Module<Tensor, Tensor>
{
    public Generic()
        : base(nameof(Generic<T>))
    {
    }

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class NeedsAModule : nn.Module<Tensor, Tensor>
{
    private readonly nn.Module<Tensor, Tensor> inner;

    public NeedsAModule(nn.Module<Tensor, Tensor> inner)
        : base(nameof(NeedsAModule))
    {
        this.inner = inner;
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => inner.call(input);
}

public sealed class ThrowsInConstructor : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc;

    public ThrowsInConstructor()
        : base(nameof(ThrowsInConstructor))
    {
        fc = nn.Linear(2, 2);
        RegisterComponents();
        throw new NotSupportedException("the secret of the constructor");
    }

    public override Tensor forward(Tensor input) => fc.call(input);
}

public sealed class ChecksItsArgument : nn.Module<Tensor, Tensor>
{
    public ChecksItsArgument(long width)
        : base(nameof(ChecksItsArgument)) => ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class HoldsItself : nn.Module<Tensor, Tensor>
{
    private readonly nn.Module<Tensor, Tensor> self;

    public HoldsItself()
        : base(nameof(HoldsItself))
    {
        self = this;
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => self.call(input);
}

public sealed class RegistersItself : nn.Module<Tensor, Tensor>
{
    public RegistersItself()
        : base(nameof(RegistersItself)) => register_module("self", this);

    public override Tensor forward(Tensor input) => input.alias();
}

public sealed class CycleOfTwo : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc = nn.Linear(2, 2);

    public CycleOfTwo()
        : base(nameof(CycleOfTwo))
    {
        RegisterComponents();
        var other = nn.ModuleDict();
        register_module("other", other);
        other.register_module("back", this);
    }

    public override Tensor forward(Tensor input) => fc.call(input);
}

public sealed class SharedParameter : nn.Module<Tensor, Tensor>
{
    private readonly Parameter first;
    private readonly Parameter second;

    public SharedParameter()
        : base(nameof(SharedParameter))
    {
        first = second = new Parameter(ones(2));
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => input * first * second;
}

public sealed class OnMeta : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc = nn.Linear(2, 2, device: META);

    public OnMeta()
        : base(nameof(OnMeta)) => RegisterComponents();

    public override Tensor forward(Tensor input) => fc.call(input);
}

public sealed class Disposed : nn.Module<Tensor, Tensor>
{
    private readonly Parameter scale;

    public Disposed()
        : base(nameof(Disposed))
    {
        using (NewDisposeScope())
        {
            scale = new Parameter(ones(2));
        }

        register_buffer("kept", ones(2));
        _internal_params.Add("scale", scale);
    }

    public override Tensor forward(Tensor input) => input * scale;
}
