using static TorchSharp.torch;

#pragma warning disable CA1050 // What it is here for.

/// <summary>A class without a namespace has no full name but the built-in type's.</summary>
public sealed class Softmin : nn.Module<Tensor, Tensor>
{
    public Softmin()
        : base(nameof(Softmin))
    {
    }

    public override Tensor forward(Tensor input) => input * 7;
}
