using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>The initial values that PyTorch's constructors draw, in its order and from the same distributions: equal seeds give equal modules.</summary>
internal static class Initial
{
    /// <summary><c>kaiming_uniform_(a=sqrt(5))</c>: uniform within 1/sqrt(fan_in), as Linear and the convolutions draw weights.</summary>
    public static void KaimingUniform(Parameter weight)
    {
        var shape = weight.shape;
        var fanIn = shape[1..].Aggregate(1L, (product, size) => product * size);

        // PyTorch leaves a weight without elements alone.
        if (weight.NumberOfElements > 0)
        {
            Uniform(weight, Math.Sqrt(3.0) * Math.Sqrt(2.0 / (1 + 5)) / Math.Sqrt(fanIn));
        }
    }

    /// <summary>Uniform within 1/sqrt(fan_in), as they draw biases.</summary>
    public static void UniformByFanIn(Parameter bias, long fanIn) => Uniform(bias, fanIn > 0 ? 1 / Math.Sqrt(fanIn) : 0);

    /// <summary><c>xavier_uniform_</c>.</summary>
    public static void XavierUniform(Parameter weight) => Uniform(weight, Math.Sqrt(6.0 / Fans(weight)));

    /// <summary><c>xavier_normal_</c>.</summary>
    public static void XavierNormal(Parameter weight) => Normal(weight, Math.Sqrt(2.0 / Fans(weight)));

    /// <summary>Uniform within a bound.</summary>
    public static void Uniform(Parameter parameter, double bound)
    {
        using var quiet = no_grad();
        parameter.uniform_(-bound, bound);
    }

    /// <summary><c>kaiming_normal_(mode="fan_out", nonlinearity="relu")</c>, as torchvision's models draw the weights of convolutions.</summary>
    public static void KaimingNormalByFanOut(Parameter weight)
    {
        var shape = weight.shape;
        Normal(weight, Math.Sqrt(2.0) / Math.Sqrt(shape[0] * shape[2..].Aggregate(1.0, (product, size) => product * size)));
    }

    /// <summary>Normal with mean 0.</summary>
    public static void Normal(Parameter parameter, double std)
    {
        using var quiet = no_grad();
        parameter.normal_(0, std);
    }

    /// <summary>One value everywhere.</summary>
    public static void Fill(Tensor tensor, double value)
    {
        using var quiet = no_grad();
        tensor.fill_(value);
    }

    private static double Fans(Parameter weight)
    {
        var shape = weight.shape;
        return (shape[0] + shape[1]) * shape[2..].Aggregate(1.0, (product, size) => product * size);
    }
}
