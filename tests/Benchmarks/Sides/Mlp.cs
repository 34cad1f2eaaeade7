namespace Sconce.Benchmarks.Sides;

/// <summary>The module that both sides run: 784-512-512-10 with ReLU, trained by SGD on cross entropy.</summary>
internal static class Mlp
{
    /// <summary>Features of a row.</summary>
    public const int Inputs = 784;

    /// <summary>Width of the two hidden layers.</summary>
    public const int Hidden = 512;

    /// <summary>Classes.</summary>
    public const int Classes = 10;

    /// <summary>Small, so that hours of steps on random data stay finite.</summary>
    public const double LearningRate = 1e-3;
}
