using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Samples;

/// <summary>What the gate goes through.</summary>
public enum Activation
{
    /// <summary>SwiGLU's.</summary>
    Silu,

    /// <summary>GeGLU's.</summary>
    Gelu,
}

/// <summary>
/// A residual gated MLP: <c>x + down(dropout(act(gate(n)) * up(n)))</c> with <c>n = norm(x)</c>. Its norm stays in eval mode, whatever
/// <c>train</c> says, as one does with a pretrained backbone.
/// </summary>
public sealed class GatedMlp : nn.Module<Tensor, Tensor>
{
    /// <summary>Tells the host that a forward in eval mode draws nothing and keeps nothing, so that several may run at once.</summary>
    public const bool draws_random_numbers = false;

    private readonly long _features;
    private readonly Activation _activation;
    private readonly BatchNorm1d norm;
    private readonly Linear gate;
    private readonly Linear up;
    private readonly Linear down;
    private readonly Dropout dropout;
    private readonly Tensor gate_mean;

    /// <summary>Makes one.</summary>
    /// <param name="features">Size of the input's and the output's last dimension.</param>
    /// <param name="hidden">Size between.</param>
    /// <param name="p">Probability of dropout.</param>
    /// <param name="bias">Whether the linear layers add one.</param>
    /// <param name="activation">What the gate goes through.</param>
    public GatedMlp(long features, long hidden, double p = 0, bool bias = true, Activation activation = Activation.Silu)
        : base(nameof(GatedMlp))
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(features);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(hidden);
        _features = features;
        _activation = activation;
        norm = nn.BatchNorm1d(features);
        gate = nn.Linear(features, hidden, hasBias: bias);
        up = nn.Linear(features, hidden, hasBias: bias);
        down = nn.Linear(hidden, features, hasBias: bias);
        dropout = nn.Dropout(p);
        gate_mean = zeros(hidden);
        RegisterComponents();

        // The mode in which a module begins; train puts the norm right.
        train(true);
    }

    /// <summary>Called where a hook or the host calls it; parts are called with <c>call</c>, so that hooks on them fire.</summary>
    /// <param name="input">float [batch, features].</param>
    /// <returns>The same shape.</returns>
    public override Tensor forward(Tensor input)
    {
        if (input.dim() != 2 || input.shape[1] != _features)
        {
            throw new ArgumentException($"takes [batch, {_features}]; it was given [{string.Join(", ", input.shape)}]");
        }

        var normed = norm.call(input);
        var gated = gate.call(normed);
        gated = _activation == Activation.Silu ? F.silu(gated) : F.gelu(gated);
        if (training)
        {
            // In place: what is registered stays registered.
            using var quiet = no_grad();
            gate_mean.lerp_(gated.mean([0]), 0.1);
        }

        return input + down.call(dropout.call(gated * up.call(normed)));
    }

    /// <summary>All parts follow the mode, save the norm.</summary>
    public override void train(bool train = true)
    {
        base.train(train);
        norm.train(false);
    }

    /// <summary>What the host prints between the parentheses, as PyTorch does.</summary>
    public string extra_repr() => $"features={_features}, activation={_activation}";

    /// <summary>Draws the linear layers' values anew, for <c>apply(reset_parameters)</c>.</summary>
    public void reset_parameters()
    {
        foreach (var linear in new[] { gate, up, down })
        {
            nn.init.kaiming_uniform_(linear.weight, Math.Sqrt(5));
            if (linear.bias is { } bias)
            {
                var bound = 1 / Math.Sqrt(linear.weight.shape[1]);
                nn.init.uniform_(bias, -bound, bound);
            }
        }
    }
}
