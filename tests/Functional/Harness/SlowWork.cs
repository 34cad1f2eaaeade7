using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>A training step that takes a second or two of one core, though its module and its input are small.</summary>
internal static class SlowWork
{
    private const string Input = "slow-input";
    private const int Width = 1024;
    private const int Rows = 512;
    private const int Repeats = 40;

    /// <summary>Makes the module, its optimizer and the kept input.</summary>
    public static async Task PrepareAsync(Stubs stubs, string module)
    {
        await stubs.Modules.CreateModuleAsync(new() { Module = module, Spec = Specs.Slow(Repeats, Width), Seed = 1 });
        await stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "SGD", Args = Specs.Args(("lr", 0)) });
        await stubs.Tensors.PutTensorAsync(new() { Id = Input, Tensor = Wire.Pattern(Rows, Width) });
    }

    /// <summary>The step.</summary>
    public static TrainStepRequest Step(string module) =>
        new() { Module = module, Inputs = { Wire.Kept(Input) }, Targets = { Wire.Kept(Input) }, Loss = new() { Type = "MSELoss" } };

    /// <summary>Sends the step.</summary>
    public static Task<TrainStepResponse> Start(Stubs stubs, string module) => stubs.Training.TrainStepAsync(Step(module)).ResponseAsync;

    /// <summary>Long enough for a step that was just sent to be running, and much shorter than it runs.</summary>
    public static Task UntilRunningAsync() => Task.Delay(300);
}
