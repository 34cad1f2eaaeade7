namespace Sconce.Engine.Weights.Script;

/// <summary>A TorchScript file that has been checked and tried, in memory: modules are made of it as often as asked.</summary>
/// <param name="Name">What callers call it, for messages.</param>
/// <param name="Image">Its content.</param>
/// <param name="Program">What its code says.</param>
internal sealed record ScriptFile(string Name, ScriptImage Image, ScriptProgram Program) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose() => Image.Dispose();
}
