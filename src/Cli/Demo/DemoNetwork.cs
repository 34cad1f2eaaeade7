using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Demo;

/// <summary>The demo's network: two convolutional stages and a head, about 106,000 parameters.</summary>
internal static class DemoNetwork
{
    /// <summary>The part that the demo freezes.</summary>
    public const string FirstStage = "stage1";

    public static ModuleSpec Spec { get; } = Nn.Sequential(
        (FirstStage, Stage(1, 16)),
        ("stage2", Stage(16, 32)),
        ("head", Nn.Sequential(Nn.Flatten(), Nn.Linear(32 * 7 * 7, 64), Nn.ReLU(), Nn.Dropout(0.25), Nn.Linear(64, 10))));

    private static ModuleSpec Stage(int inChannels, int outChannels) => Nn.Sequential(
        ("conv", Nn.Conv2d(inChannels, outChannels, kernelSize: 3, padding: 1, bias: false)),
        ("norm", Nn.BatchNorm2d(outChannels)),
        ("relu", Nn.ReLU()),
        ("pool", Nn.MaxPool2d(2)));
}
