namespace Sconce.Cli.Demo;

/// <summary>What the demo measured; <c>--json FILE</c> writes it with snake_case names.</summary>
internal sealed record DemoReport
{
    /// <summary>Fraction of the test images that the float32 module gets right.</summary>
    public double Accuracy { get; set; }

    public double TrainSeconds { get; set; }

    public double SamplesPerS { get; set; }

    /// <summary>The same after conversion to bfloat16.</summary>
    public double AccuracyBf16 { get; set; }

    /// <summary>The same after conversion to float16.</summary>
    public double AccuracyFp16 { get; set; }

    /// <summary>The same after conversion back to float32.</summary>
    public double AccuracyBack { get; set; }

    public long BytesFp32 { get; set; }

    public long BytesBf16 { get; set; }

    public long BytesFp16 { get; set; }

    /// <summary>Largest change of any value of the frozen stage, its buffers too, over the steps taken while it was frozen.</summary>
    public double FrozenMaxChange { get; set; }

    /// <summary>Largest change of any parameter of the rest over the same steps.</summary>
    public double TrainedMaxChange { get; set; }

    /// <summary>The loss computed in the client, before its step and after it.</summary>
    public double ClientLossBefore { get; set; }

    /// <inheritdoc cref="ClientLossBefore"/>
    public double ClientLossAfter { get; set; }

    /// <summary>Largest difference of any output between the module and the second one that its weights were loaded into.</summary>
    public double ReloadMaxDiff { get; set; }

    public int Epochs { get; set; }

    public int TrainImages { get; set; }

    public int TestImages { get; set; }

    public double TotalSeconds { get; set; }
}
