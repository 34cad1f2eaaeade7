using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>
/// An identity in the graph whose backward hands the gradient to hooks: TorchSharp has no hooks on tensors. What it calls must not throw, for an exception
/// that leaves a custom backward ends the process.
/// </summary>
internal sealed class GradientSite : autograd.SingleTensorFunction<GradientSite>
{
    private const string Key = "edit";

    public override string Name => "SconceGradientSite";

    /// <summary>The same value, with hooks on its gradient.</summary>
    /// <param name="value">The value; requires a gradient.</param>
    /// <param name="edit">Gives the gradient that flows on. Never throws.</param>
    public static Tensor Wrap(Tensor value, Func<Tensor, Tensor> edit) => apply(value, new Edit(edit));

    public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
    {
        ctx.save_data(Key, vars[1]);
        return ((Tensor)vars[0]).alias();
    }

    public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
    {
        var edit = (Edit)ctx.get_data(Key);
        return [edit.Run(grad_output), null!];
    }

    private sealed class Edit(Func<Tensor, Tensor> edit)
    {
        // Native code takes the handle after this object's method has returned; until the next gradient the collector must not free it.
        private Tensor? _last;

        public Tensor Run(Tensor gradient) => _last = edit(gradient);
    }
}
